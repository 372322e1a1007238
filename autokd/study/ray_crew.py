"""Trainings as tasks of a Ray cluster; a `Crew` like any other.

Ray finds a node for each. When its process or node dies it is sent again, and goes on from its last
epoch; one that has died three times in a row without an epoch between is given up. Epochs and
checkpoints go through an actor beside the coordinator, which writes them where a training of this
machine would have.
"""

import atexit
import contextlib
import dataclasses
import functools
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch

from autokd.config import Config
from autokd.study.calls import localise, open_bench, read_call, write_call
from autokd.study.crew import Done, Job
from autokd.study.orders import Bench, Order, carry_out
from autokd.study.ray_cluster import RayCluster
from autokd.study.remote_crew import (
    dump_result,
    load_result,
    read_checkpoints,
    read_student,
    write_files,
)
from autokd.study.stillness import TrainingProcess, known_as_training
from autokd.study.teaching import Faculty
from autokd.types import EpochLog, dump_json, load_json

__all__ = ["RayCrew", "build_ray_crew"]

_logger = logging.getLogger(__name__)

_POLL_S = 0.25
_MOST_DEATHS = 3  # in a row, without an epoch in between


class Desk:
    """Where trainings on other nodes say how far they are; an actor on the coordinator's node."""

    def __init__(self, checkpoints: Path) -> None:
        """Nothing is known yet.

        Args:
            checkpoints: Folder of the coordinator.
        """
        self._checkpoints = checkpoints
        self._rows: list[tuple[str, int, str]] = []
        self._answers: dict[tuple[str, int], bool] = {}
        self._is_halted = False

    def files(self, name: str) -> dict[str, bytes]:
        """The last checkpoints of a training."""
        return {
            path.name: path.read_bytes() for path in self._checkpoints.glob(f"{name}.*.checkpoint")
        }

    def tell(self, name: str, epoch: int, text: str, files: Mapping[str, bytes]) -> bool:
        """An epoch has ended; whether the training goes on, as far as it is known."""
        for file, content in files.items():
            path = self._checkpoints / Path(file).name
            temporary = path.with_suffix(".desk.tmp")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(content)
                temporary.replace(path)
            except OSError as error:
                _logger.warning("a checkpoint cannot be kept, the one before stays: %s", error)
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
        self._rows.append((name, epoch, text))
        return not self._is_halted

    def answer(self, name: str, epoch: int) -> bool | None:
        """Whether a training goes on after an epoch; none before it is decided."""
        return False if self._is_halted else self._answers.get((name, epoch))

    def grant(self, name: str, epoch: int, goes_on: bool) -> None:  # noqa: FBT001 - Ray's call
        """Answers."""
        self._answers[name, epoch] = goes_on

    def take_rows(self) -> list[tuple[str, int, str]]:
        """What was told since the last time."""
        rows, self._rows = self._rows, []
        return rows

    def halt(self) -> None:
        """Has everything end after its epoch."""
        self._is_halted = True


@dataclasses.dataclass(kw_only=True)
class _Sent:
    """A training that is with Ray."""

    job: Job
    order: Order
    task: Any
    heard: int = 0  # the last epoch; one that is sent again may ask after it again
    n_deaths: int = 0  # since then


@final
class RayCrew:
    """As many jobs at once as fit into the cluster."""

    def __init__(
        self,
        cluster: RayCluster,
        *,
        bench: Bench,
        call: str,
        weights: Mapping[str, bytes],
    ) -> None:
        """Nothing runs yet; what a training needs is handed to the cluster.

        Args:
            cluster: Joined.
            bench: Where checkpoints and weights are kept.
            call: What a node has to know of the study, as `write_call` says it.
            weights: Of teachers that were trained for the study.
        """
        self._cluster, self._ray, self._bench = cluster, cluster.ray, bench
        checkpoints = bench.workshop.checkpoints.path.absolute()
        desk = self._ray.remote(num_cpus=0)(Desk)
        strategy = cluster.on_node(cluster.own_node)
        self._desk = desk.options(scheduling_strategy=strategy).remote(checkpoints)
        self._call, self._weights = self._ray.put(call), self._ray.put(dict(weights))
        self._train = self._ray.remote(max_retries=0, **cluster.trial)(train_on_node)
        self._sent: dict[str, _Sent] = {}
        self._has_told_to_halt, self._is_closed = False, False
        self.is_halting = False

    @property
    def size(self) -> int:
        """Trials that fit into the cluster, and one where there is no room: nodes may come."""
        return max(1, self._cluster.n_slots)

    @property
    def running(self) -> Sequence[Job]:
        """What was sent and not given back yet."""
        return tuple(sent.job for sent in self._sent.values())

    def start(self, job: Job) -> None:
        """Sends a job to the cluster.

        Args:
            job: It has an order.

        Raises:
            ValueError: It has none.
        """
        order = job.order
        if order is None:
            raise ValueError(f"`job` must have an order to be sent, got {job.title} without")
        self._sent[order.name] = _Sent(job=job, order=order, task=self._send(job, order))

    def _send(self, job: Job, order: Order) -> Any:  # noqa: ANN401 - Ray's
        """A task that goes on from the checkpoint that is here."""
        return self._train.options(name=order.name).remote(
            self._desk, self._call, self._weights, dump_json(order), list(job.stops)
        )

    def halt(self) -> None:
        """Has each job end after its epoch; the cluster is told by the next `wait`."""
        self.is_halting = True

    def wait(
        self, on_epoch: Callable[[Job, EpochLog], object], *, patience_s: float | None = None
    ) -> Done | None:
        """Waits for a job to end; one whose process or node died is sent again.

        Args:
            on_epoch: Told of each epoch of each job meanwhile; `False` ends it at its stops.
            patience_s: To wait at the longest.

        Returns:
            The job and its result; none where patience is at its end or the cluster has grown.
            What a job raised on its node is raised here.
        """
        end = None if patience_s is None else time.monotonic() + patience_s
        before = self.size
        while True:
            if self.is_halting and not self._has_told_to_halt:
                self._ray.get(self._desk.halt.remote())
                self._has_told_to_halt = True
            tasks = {sent.task: name for name, sent in self._sent.items()}
            ended, _ = self._ray.wait(list(tasks), num_returns=1, timeout=_POLL_S)
            self._hear(on_epoch)
            done = self._end(tasks[ended[0]]) if ended else None
            if done is not None:
                return done
            if self.size > before or (end is not None and time.monotonic() > end):
                return None

    def close(self) -> None:
        """Ends what still runs, whose checkpoints are here already, and leaves the cluster."""
        if self._is_closed:
            return
        self._is_closed = True
        for sent in self._sent.values():
            self._ray.cancel(sent.task, force=True)
        self._sent.clear()
        self._ray.kill(self._desk)
        self._cluster.leave()

    def dismiss(self) -> None:
        """Nobody waits: nodes are asked for each task."""

    def _hear(self, on_epoch: Callable[[Job, EpochLog], object]) -> None:
        for name, epoch, text in self._ray.get(self._desk.take_rows.remote()):
            sent = self._sent.get(name)
            if sent is None:
                continue
            if epoch > sent.heard:
                sent.heard, sent.n_deaths = epoch, 0
            goes_on = on_epoch(sent.job, load_json(EpochLog, text)) is not False
            if epoch in sent.job.stops:
                self._ray.get(self._desk.grant.remote(name, epoch, goes_on))

    def _end(self, name: str) -> Done | None:
        """What came of a job; none where it died and was sent again."""
        sent, errors = self._sent.pop(name), self._ray.exceptions
        deaths = (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError)
        try:
            text, files = self._ray.get(sent.task)
        except errors.RayTaskError as error:  # it was raised by the training itself
            raise error.cause from error
        except (*deaths, errors.ObjectLostError) as error:  # its node may die after its end, too
            sent.n_deaths += 1
            if sent.n_deaths < _MOST_DEATHS:
                sent.task = self._send(sent.job, sent.order)
                self._sent[name] = sent
                return None
            reason = " ".join(str(error).split())[:200]
            fault = f"it died {_MOST_DEATHS} times without an epoch between: {reason}"
            return Done(job=sent.job, fault=fault)
        write_files(files, bench=self._bench, order=sent.order)
        outcome, paused_s = load_result(text)
        return Done(job=sent.job, result=outcome, paused_s=paused_s)


def build_ray_crew(
    cluster: RayCluster,
    config: Config,
    *,
    bench: Bench,
    faculty: Faculty,
    say: Callable[[str], object],
) -> RayCrew:
    """A crew that trains for a study on a cluster.

    Args:
        cluster: Joined.
        config: Of the study.
        bench: Where checkpoints and weights are kept.
        faculty: Who teaches.
        say: Shows a line to the user.

    Returns:
        The crew.
    """
    data, space = bench.workshop.data.card, bench.workshop.space
    call = write_call(
        config,
        data=data,
        space=space,
        faculty=faculty,
        weight_bits=None if cluster.node is None else cluster.node.weight_bits,
    )
    weights = {path.name: path.read_bytes() for path in faculty.trained}
    say(f"Ray cluster of {len(cluster.ray.nodes())} nodes, {cluster.n_slots} trials side by side")
    return RayCrew(cluster, bench=bench, call=call, weights=weights)


# ---------------------------------------------------------------------- on a node


@functools.lru_cache(maxsize=1)
def _open_bench(call: str, weights: tuple[tuple[str, bytes], ...]) -> Bench:
    """The bench of this process, which Ray uses for one task after another."""
    scratch = Path(tempfile.mkdtemp(prefix="autokd-ray-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    known = read_call(call)
    return open_bench(known, localise(known, {}), scratch=scratch, weights=dict(weights))


def train_on_node(
    desk: Any,  # noqa: ANN401 - Ray's handle of a `Desk`
    call: str,
    weights: Mapping[str, bytes],
    order_text: str,
    stops: Sequence[int],
) -> tuple[str, dict[str, bytes]]:
    """What a Ray task does: one order, from its last checkpoint.

    Args:
        desk: Where to tell of epochs.
        call: What `write_call` wrote.
        weights: Of teachers that were trained for the study.
        order_text: An `Order` as JSON.
        stops: Epochs after which it asks whether to go on.

    Returns:
        What `dump_result` wrote, and the files of the training.
    """
    import ray

    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1.0)
    cores = max(1, int(cpus))  # the others of the node are other tasks'
    torch.set_num_threads(cores)
    bench = _open_bench(call, tuple(sorted(weights.items())))
    plan = dataclasses.replace(bench.workshop.plan, cores=cores)
    bench = dataclasses.replace(bench, workshop=dataclasses.replace(bench.workshop, plan=plan))
    order = load_json(Order, order_text)
    bench.workshop.checkpoints.drop(order.name)
    write_files(ray.get(desk.files.remote(order.name)), bench=bench, order=order)

    def tell(training: TrainingProcess, row: EpochLog) -> bool:
        row = training.without_pauses(row)
        files = read_checkpoints(bench, order.name)
        goes_on: bool = ray.get(desk.tell.remote(order.name, row.epoch, dump_json(row), files))
        if not goes_on or row.epoch not in stops:
            return goes_on
        answer: bool | None = None
        while answer is None:
            time.sleep(_POLL_S)
            answer = ray.get(desk.answer.remote(order.name, row.epoch))
        return answer

    with known_as_training() as training:
        outcome = carry_out(order, bench, functools.partial(tell, training))
        paused_s = training.paused_s
    files = read_checkpoints(bench, order.name)
    if outcome.is_final:
        files = read_student(bench, order)
        for path in bench.files_of(order).values():
            path.unlink(missing_ok=True)
    bench.workshop.checkpoints.drop(order.name)
    return dump_result(outcome, paused_s=paused_s), files
