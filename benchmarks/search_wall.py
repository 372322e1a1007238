"""The same wall time for a plain loop (`plain_loop.py`) and for `autokd search`, a side a sampler.

All search the same joint space with the same teacher, which is trained before and not counted, the
same pictures and split; a full training has as many epochs of as many batches. The plain loop
trains each candidate to its end, with the teacher asked about every batch; autokd has its rungs,
its bank, its engines, a process a core. Each runs in a process of its own from its start (imports
included) until the time is up, with a cache of its own that holds nothing but the teacher, another
one first with each seed. Figure: hypervolume of what was trained to its
end, validation accuracy against log latency; students of all sides and the teacher are timed
together, by turns in one process, in autokd's target. The box lies between (chance, the teacher's
latency) and (1, a thousandth of it). `time_ratio`: when autokd (with the first of the samplers)
reaches the plain loop's last value, over the plain loop's time; null if it never does.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matched import Bench, describe_machine
from output import print_figures, reserve_stdout
from plain_loop import RECIPE, open_plain_bench

from autokd.candidate import build_student
from autokd.exporters import export_onnx
from autokd.latency import StopwatchTarget, network_key
from autokd.study.front import hypervolume
from autokd.types import Sample

HERE = Path(__file__).parent
PLAIN = "plain"
STUDY = "wall"
LAST_GRID = 10  # parts that the time is shown in

Curve = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A student that was trained to its end, and how many seconds after the start."""

    seconds: float
    val_accuracy: float
    sample: Sample


def run_side(command: Sequence[object], *, seconds: float, out: Path) -> float:
    """A command until its time is up; gives when it was started, in ms since the epoch."""
    caches = out.parent / "cache"
    shutil.copytree(os.environ["AUTOKD_CACHE"], caches)
    environment = {**os.environ, "AUTOKD_CACHE": str(caches)}
    start_ms = time.time_ns() / 1e6
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdout=file,
            cwd=HERE,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return start_ms
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    sys.exit(f"{command[0]} must run until its time is up, got exit code {code}")


def run_plain(arguments: argparse.Namespace, *, seed: int, folder: Path) -> list[Trained]:
    """What the plain loop has trained."""
    command = [HERE / "plain_loop.py", arguments.data.resolve(), "--seed", seed]
    command += ["--train-limit", arguments.train_limit, "--epochs", arguments.epochs]
    command += ["--batch-size", arguments.batch_size]
    out = folder / "plain.jsonl"
    start_ms = run_side(command, seconds=arguments.seconds, out=out)
    return [
        Trained(
            seconds=(row["time_ms"] - start_ms) / 1000,
            val_accuracy=row["val_accuracy"],
            sample=row["sample"],
        )
        for row in read_lines(out)
    ]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Objects of a file that may not be there yet, or end in the middle of a line."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def run_autokd(
    arguments: argparse.Namespace, *, sampler: str, seed: int, folder: Path
) -> list[Trained]:
    """What `autokd search` has trained, told by its events."""
    command = ["-m", "autokd", "search", "--data", f"npz:{arguments.data.resolve()}"]
    command += ["--train-limit", arguments.train_limit, "--epochs", arguments.epochs]
    command += ["--batch-size", arguments.batch_size, "--seed", seed, "--space", "mobile"]
    command += ["--recipe", arguments.recipe, "--sampler", sampler, "--budget", 10_000]
    command += ["--no-refit", "--study", STUDY, "--runs-dir", folder, "--device", "cpu", "--json"]
    start_ms = run_side(command, seconds=arguments.seconds, out=folder / "autokd.json")
    events = read_lines(folder / "studies" / STUDY / "tracking/events.jsonl")
    return [
        Trained(
            seconds=(event["time_ms"] - start_ms) / 1000,
            val_accuracy=event["result"]["val_accuracy"],
            sample=event["result"]["sample"],
        )
        for event in events
        if event["kind"] == "trial_ended" and event["result"]["state"] == "complete"
    ]


class Scale:
    """Latencies of students, all timed together with the teacher."""

    def __init__(self, bench: Bench, trained: Sequence[Trained]) -> None:
        """Exports each architecture once and times the files by turns."""
        self._bench = bench
        with tempfile.TemporaryDirectory() as folder:
            files: dict[str, Path] = {}
            self._keys: dict[str, str] = {}
            for one in trained:
                architecture = self._architecture(one)
                if architecture in self._keys:
                    continue
                student, _ = build_student(bench.space, one.sample, data=bench.data.card, seed=0)
                path = Path(folder) / f"{len(self._keys)}.onnx"
                export_onnx(student, path, shape=bench.data.card.shape)
                self._keys[architecture] = key = network_key(path)
                files.setdefault(key, path)
            teacher = export_onnx(
                bench.faculty.teachers["teacher"].network.build_exportable(),
                Path(folder) / "teacher.onnx",
                shape=bench.data.card.shape,
            )
            first, *others = StopwatchTarget().measure_together([teacher, *files.values()])
        self.teacher_ms = first.median_ms
        self._latencies_ms = {
            key: latency.median_ms for key, latency in zip(files, others, strict=True)
        }

    def _architecture(self, one: Trained) -> str:
        return json.dumps(self._bench.space.architecture_of(one.sample), sort_keys=True)

    def curve(self, trained: Sequence[Trained]) -> Curve:
        """Hypervolume after each training, beginning with nothing at 0 s."""
        points: list[tuple[float, float]] = []
        rows: Curve = [(0.0, 0.0)]
        for one in sorted(trained, key=lambda one: one.seconds):
            latency_ms = self._latencies_ms[self._keys[self._architecture(one)]]
            points.append((one.val_accuracy, latency_ms))
            chance = 1 / self._bench.data.card.n_classes
            volume = hypervolume(points, chance=chance, teacher_ms=self.teacher_ms)
            rows.append((round(one.seconds, 1), round(volume, 5)))
        return rows


def at_time(curve: Curve, seconds: float) -> float:
    """The hypervolume that a side has by then."""
    return max(volume for end, volume in curve if end <= seconds)


def first_above(curve: Curve, level: float) -> float | None:
    """Seconds until a level is reached; none if it never is, or if there is none to reach."""
    return next((seconds for seconds, volume in curve if volume >= level > 0), None)


def run_seed(
    arguments: argparse.Namespace, *, seed: int, folder: Path
) -> tuple[dict[str, Curve], float]:
    """All sides of a seed, scored; and the teacher's validation accuracy."""
    say(f"seed {seed}: the teacher, not counted")
    bench = open_plain_bench(arguments, seed=seed)
    sides = [PLAIN, *arguments.samplers]
    first = seed % len(sides)
    trained: dict[str, list[Trained]] = {}
    for side in [*sides[first:], *sides[:first]]:
        say(f"seed {seed}: {side}, {arguments.seconds:.0f} s")
        own = folder / side
        own.mkdir()
        if side == PLAIN:
            trained[side] = run_plain(arguments, seed=seed, folder=own)
        else:
            trained[side] = run_autokd(arguments, sampler=side, seed=seed, folder=own)
    together = [one for side in sides for one in trained[side]]
    say(f"seed {seed}: {len(together)} students are timed together")
    scale = Scale(bench, together)
    curves = {side: scale.curve(trained[side]) for side in sides}
    for side in sides:
        grid = [
            at_time(curves[side], arguments.seconds * part / LAST_GRID)
            for part in range(1, LAST_GRID + 1)
        ]
        n = len(trained[side])
        say(f"seed {seed}: {side:>8}, {n} trained: " + " ".join(f"{one:.3f}" for one in grid))
    return curves, bench.faculty.card.val_accuracy


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def find_ratios(
    curves: Sequence[Mapping[str, Curve]], *, sampler: str, seconds: float
) -> list[float | None]:
    """Of each seed: when the plain loop's last value was reached, over the plain loop's time."""
    reached = [first_above(seed[sampler], seed[PLAIN][-1][1]) for seed in curves]
    return [None if one is None else round(one / seconds, 4) for one in reached]


def summarise(
    curves: Sequence[Mapping[str, Curve]], *, samplers: Sequence[str], seconds: float
) -> dict[str, object]:
    """The figures of all seeds."""
    ratios = {one: find_ratios(curves, sampler=one, seconds=seconds) for one in samplers}
    known = [ratio for ratio in ratios[samplers[0]] if ratio is not None]
    sides = [PLAIN, *samplers]
    return {
        "time_ratio": statistics.fmean(known) if len(known) == len(curves) else None,
        "time_ratios": ratios,
        "n": len(curves),
        "hypervolume": {side: [seed[side][-1][1] for seed in curves] for side in sides},
        "n_trained": {side: [len(seed[side]) - 1 for seed in curves] for side in sides},
        "curves": curves,
    }


def draw(curves: Sequence[Mapping[str, Curve]], *, seconds: float, path: Path) -> None:
    """Hypervolume over time, a line a seed."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for number, seed in enumerate(curves):
        for place, side in enumerate(seed):
            colour = "tab:grey" if side == PLAIN else f"C{place - 1}"
            times, volumes = zip(*seed[side], (seconds, seed[side][-1][1]), strict=True)
            label = side if number == 0 else None
            axes.step(times, volumes, where="post", color=colour, label=label)
    axes.set_xlabel("seconds")
    axes.set_ylabel("hypervolume")
    axes.legend()
    figure.savefig(path, dpi=150, bbox_inches="tight")


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="fashion-mnist.npz")
    parser.add_argument("--quick", action="store_true", help="1,000 pictures, 45 s a side, 1 seed")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--seconds", type=float, default=600, help="of each side of each seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--train-limit", type=int, default=10_000, help="pictures")
    parser.add_argument("--epochs", type=int, default=3, help="of a full training, both sides")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument(
        "--samplers", nargs="+", default=["auto"], help="autokd's, a side each [default: auto]"
    )
    parser.add_argument(
        "--recipe", default=str(RECIPE), help="autokd's [default: what the plain loop searches]"
    )
    parser.add_argument("--picture", type=Path, help="file for the curves")
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        sys.exit(f"`data` must be a file, got {arguments.data}")
    if arguments.quick:
        arguments.train_limit, arguments.seconds, arguments.seeds = 1000, 45, 1
        arguments.batch_size = 32
    return arguments


def main() -> None:
    """Reads the arguments, searches, prints."""
    arguments, out = read_arguments(), reserve_stdout()
    curves: list[dict[str, Curve]] = []
    accuracies: list[float] = []
    with tempfile.TemporaryDirectory(prefix="autokd-wall-") as name:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            folder = Path(name) / f"seed-{seed}"
            os.environ["AUTOKD_CACHE"] = str(folder / "teacher")  # nothing of an earlier run
            Path(os.environ["AUTOKD_CACHE"]).mkdir(parents=True)
            seed_curves, accuracy = run_seed(arguments, seed=seed, folder=folder)
            curves.append(seed_curves)
            accuracies.append(accuracy)
    if arguments.picture:
        draw(curves, seconds=arguments.seconds, path=arguments.picture)
    figures = {
        **describe_machine(),
        **{key: value for key, value in vars(arguments).items() if key not in _NOT_TOLD},
        "teacher_val_accuracy": accuracies,
        **summarise(curves, samplers=arguments.samplers, seconds=arguments.seconds),
    }
    print_figures(figures, as_json=arguments.json, out=out)


_NOT_TOLD = {"data", "json", "picture", "quick", "first_seed"}


if __name__ == "__main__":
    main()
