"""How far a latency can be trusted: repeats on an idle and on a loaded machine, three ways.

Random students of a space are each measured several times, in random order, by `autokd` (its
short form, as in a search), by `onnxruntime_plain` (10 warm-ups, mean of 100 runs, in
onnxruntime) and by `eager` (the same in PyTorch). Then all of it again while a process per core
burns in random bursts. The coefficient of variation is the standard deviation of a student's
repeats over their mean; tau is Kendall's, of the loaded latencies (of their means, and of single
repeats in the mean) against the mean idle ones.

The machine must have nothing else to do; the load is what this program makes.
"""

import argparse
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from matched import describe_machine
from output import Steps, print_figures, reserve_stdout
from scipy import stats
from torch import nn

from autokd.exporters import export_onnx
from autokd.latency import FINAL, SCREENING, StopwatchTarget
from autokd.spaces import build_space

SHAPE = (3, 32, 32)
N_CLASSES = 10
WARM_UPS, RUNS = 10, 100
SHORTEST_S, LONGEST_S = 0.05, 0.5
METHODS = ("autokd", "eager", "onnxruntime_plain")

Measure = Callable[[int], float]


def build_students(space_name: str, *, n: int, folder: Path) -> tuple[list[nn.Module], list[Path]]:
    """Random students of different networks, and their ONNX files."""
    space = build_space(space_name, recipe="default", input_shape=SHAPE, n_classes=N_CLASSES)
    rng = random.Random(0)
    networks: list[nn.Module] = []
    files: list[Path] = []
    seen: set[str] = set()
    while len(files) < n:
        sample = space.complete(
            {one.label: rng.choice(one.choices) for one in space.dimensions if one.choices}
        )
        network, _ = space.freeze(sample)
        if repr(network) in seen:
            continue
        seen.add(repr(network))
        networks.append(network.eval())
        files.append(export_onnx(network, folder / f"{len(files)}.onnx", shape=SHAPE))
    return networks, files


def mean_of_runs(run: Callable[[], object]) -> float:
    """The usual way: milliseconds of the mean run."""
    for _ in range(WARM_UPS):
        run()
    start = time.perf_counter()
    for _ in range(RUNS):
        run()
    return 1e3 * (time.perf_counter() - start) / RUNS


def build_methods(
    networks: list[nn.Module], files: list[Path], *, is_final: bool
) -> dict[str, Measure]:
    """Each measures the student of a number, in milliseconds."""
    import numpy as np
    import onnxruntime

    picture = torch.rand(1, *SHAPE)
    pixels = {"image": np.asarray(picture)}
    target = StopwatchTarget(form=FINAL if is_final else SCREENING)

    def eager(number: int) -> float:
        with torch.inference_mode():
            return mean_of_runs(lambda: networks[number](picture))

    def plain(number: int) -> float:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(files[number]), options, providers=["CPUExecutionProvider"]
        )
        return mean_of_runs(lambda: session.run(None, pixels))

    return {
        "autokd": lambda number: target.measure(files[number]).median_ms,
        "eager": eager,
        "onnxruntime_plain": plain,
    }


def burn(core: int, stop: object) -> None:
    """Works in bursts as long as the pauses between them, both at random, on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    rng = random.Random(core)
    while not stop.is_set():
        end = time.perf_counter() + rng.uniform(SHORTEST_S, LONGEST_S)
        total = 0.0
        while time.perf_counter() < end:
            total += sum(value * 1.0001 for value in range(1000))
        time.sleep(rng.uniform(SHORTEST_S, LONGEST_S))


@contextmanager
def loaded(*, is_loaded: bool) -> Generator[None]:
    """A burning process on each core within, or none."""
    cores = sorted(os.sched_getaffinity(0)) if is_loaded else []
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    burners = [context.Process(target=burn, args=(core, stop), daemon=True) for core in cores]
    for burner in burners:
        burner.start()
    if burners:
        time.sleep(3.0)  # until all have been imported and burn
    try:
        yield
    finally:
        stop.set()
        for burner in burners:
            burner.join(10.0)


def repeat(
    methods: dict[str, Measure], *, n_students: int, repeats: int, tick: Callable[[], None]
) -> dict[str, list[list[float]]]:
    """By method and student, what each repeat found; in random order."""
    times = {name: [[] for _ in range(n_students)] for name in methods}
    orders = [(name, number) for name in methods for number in range(n_students)] * repeats
    random.Random(1).shuffle(orders)
    for name, number in orders:
        times[name][number].append(methods[name](number))
        tick()
    return times


def describe(idle: list[list[float]], loaded: list[list[float]]) -> dict[str, float]:
    """The figures of one method: coefficients of variation, mean and worst student, and tau."""

    def variations(times: list[list[float]]) -> list[float]:
        return [statistics.stdev(one) / statistics.mean(one) for one in times]

    def tau(times: list[float]) -> float:
        return float(stats.kendalltau([statistics.mean(one) for one in idle], times).statistic)

    return {
        "idle_cv": statistics.mean(variations(idle)),
        "idle_cv_worst": max(variations(idle)),
        "loaded_cv": statistics.mean(variations(loaded)),
        "loaded_cv_worst": max(variations(loaded)),
        "loaded_tau": tau([statistics.mean(one) for one in loaded]),
        "loaded_tau_of_one_repeat": statistics.mean(
            tau(list(one)) for one in zip(*loaded, strict=True)
        ),
    }


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="6 students, 4 repeats")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--space", default="mobile")
    parser.add_argument("--students", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument(
        "--final", action="store_true", help="autokd's form for finalists, three processes"
    )
    arguments, out = parser.parse_args(), reserve_stdout()
    if arguments.quick:
        arguments.students, arguments.repeats = 6, 4
    if arguments.students < 2 or arguments.repeats < 2:
        sys.exit("--students and --repeats must be at least 2, or nothing varies")
    torch.set_num_threads(1)
    figures: dict[str, object] = dict(describe_machine("cpu"))
    figures["load_before"] = os.getloadavg()[0]
    figures["n_students"], figures["n_repeats"] = arguments.students, arguments.repeats
    with tempfile.TemporaryDirectory() as folder:
        networks, files = build_students(arguments.space, n=arguments.students, folder=Path(folder))
        methods = build_methods(networks, files, is_final=arguments.final)
        total = len(methods) * arguments.students * arguments.repeats
        found: dict[str, dict[str, list[list[float]]]] = {}
        for name, is_loaded in (("idle", False), ("loaded", True)):
            with loaded(is_loaded=is_loaded), Steps(name, total=total) as steps:
                found[name] = repeat(
                    methods,
                    n_students=arguments.students,
                    repeats=arguments.repeats,
                    tick=steps.tick,
                )
    for method in METHODS:
        figures[method] = describe(found["idle"][method], found["loaded"][method])
    print_figures(figures, as_json=arguments.json, out=out)


if __name__ == "__main__":
    main()
