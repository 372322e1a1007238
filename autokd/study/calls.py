"""What a study tells workers of itself, and the bench that a worker makes of it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from autokd.candidate import CheckpointFolder, Workshop
from autokd.config import Config, build_config, find_cache
from autokd.data import load_data, load_test
from autokd.errors import DataError, SpaceError
from autokd.exporters import safe_weight_bits
from autokd.latency import StopwatchTarget
from autokd.spaces import Space
from autokd.study.joint_space import build_joint_space, without_assistant
from autokd.study.orders import Bench
from autokd.study.planning import build_plan, choose_device
from autokd.study.teaching import Faculty, recall_teachers
from autokd.types import DataCard, dump_json, load_json

__all__ = ["Call", "localise", "open_bench", "read_call", "write_call"]

_OF_THE_COORDINATOR = {"storage": None, "tracking_uri": None, "runs_dir": "mlruns"}
_UNLIMITED = 2**62


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """All that a worker has to know of a study before its first job.

    Attributes:
        config: The configuration of the study as JSON.
        data: Digests of the pictures.
        space: Digest of the joint space's dimensions.
        accuracies: Of the teachers on validation, by their digests.
        has_assistant: Whether an assistant teaches too.
        lag: As `Faculty.lag`.
        weight_bits: Of INT8 files, as the processor wants it that latencies are measured on.
    """

    config: str
    data: str
    space: str
    accuracies: dict[str, float]
    has_assistant: bool
    lag: float | None = None
    weight_bits: int | None = None


def write_call(
    config: Config,
    *,
    data: DataCard,
    space: Space,
    faculty: Faculty,
    weight_bits: int | None = None,
) -> str:
    """A call as JSON.

    Args:
        config: Of the study; where the coordinator keeps its own things is left out.
        data: What is learnt from.
        space: What is searched.
        faculty: Who teaches.
        weight_bits: As `Call.weight_bits`; those of this machine if none.

    Returns:
        What `read_call` takes.
    """
    own = {**config.model_dump(mode="json"), **_OF_THE_COORDINATOR}
    call = Call(
        config=json.dumps(own),
        data=_digest_data(data),
        space=_digest_space(space),
        accuracies=dict(faculty.accuracies),
        has_assistant="assistant" in faculty.teachers,
        lag=faculty.lag,
        weight_bits=weight_bits or safe_weight_bits(),
    )
    return dump_json(call)


def read_call(text: str) -> Call:
    """What `write_call` wrote."""
    return load_json(Call, text)


def localise(call: Call, places: Mapping[str, object]) -> Config:
    """The configuration of a study as it is on this machine.

    Args:
        call: Of the study.
        places: Options that are others here: where pictures and teachers lie, the device.

    Returns:
        The configuration; what is wrong with `places` is told as for `autokd search`.
    """
    return build_config(flags={**json.loads(call.config), **places})


def open_bench(call: Call, config: Config, *, scratch: Path, weights: Mapping[str, bytes]) -> Bench:
    """Data, space and teachers of a study on this machine.

    Args:
        call: Of the study.
        config: As `localise` gave it.
        scratch: Folder for what is being trained.
        weights: Of teachers that were trained for the study, by the names of their files.

    Returns:
        Where its orders can be carried out; of teachers, what is wrong here is told as for
        `autokd search`.

    Raises:
        DataError: The pictures are others than the study's.
        SpaceError: The space is another one than the study's.
    """
    device = choose_device(config)
    data = load_data(config)
    if _digest_data(data.card) != call.data:
        raise DataError(
            f"`--data` must hold the pictures of the study, got others in {config.data}; pass "
            "--data, --data-root or --unlabelled of this machine"
        )
    if config.assistant and not call.has_assistant:
        config = without_assistant(config)
    space = build_joint_space(config, data.card, has_assistant=call.has_assistant)
    if _digest_space(space) != call.space:
        raise SpaceError(
            f"`--space` must be the one of the study, got other dimensions of {config.space} and "
            f"{config.recipe}; bring the same files and the same version of autokd here"
        )
    teachers = find_cache() / "teachers"
    teachers.mkdir(parents=True, exist_ok=True)
    for name, content in weights.items():
        path = teachers / Path(name).name
        if not path.exists():
            temporary = path.with_suffix(f".{scratch.name}.tmp")
            temporary.write_bytes(content)
            temporary.replace(path)
    known = recall_teachers(
        config, data, space=space, device=device, accuracies=call.accuracies, lag=call.lag
    )
    workshop = Workshop(
        space=space,
        data=data,
        teachers=known,
        target=StopwatchTarget(),
        plan=build_plan(config, data=data, device=device),
        max_latency_ms=config.max_latency_ms,
        weights=scratch / "weights",
        checkpoints=CheckpointFolder(scratch / "checkpoints", limit_bytes=_UNLIMITED),
        weight_bits=call.weight_bits,
    )
    test = cache(partial(load_test, config))
    return Bench(workshop=workshop, refits=scratch / "refits", test=test)


def _digest_data(data: DataCard) -> str:
    return f"{data.digest} {data.unlabelled_digest}"


def _digest_space(space: Space) -> str:
    parts = [dump_json(dimension) for dimension in space.dimensions]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
