"""Times ONNX files in onnxruntime; run as a program of its own, in a fresh process.

Nothing of autokd and no torch is imported here, so that the process that is timed holds
nothing but the runtime. Several files take turns, a short block each, so that whatever the
machine does meanwhile it does to all of them. Prints `ready` when the files are loaded, waits
for a line on standard input, so that the machine can be made quiet, times, and prints a JSON
list with one object a file.
"""

import argparse
import faulthandler
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime

_BLOCK_S = 0.01
_MIN_RUNS = 100
_MIN_WARM_UP_RUNS = 10
_MIN_WARM_UP_S = 0.05
_MAX_WARM_UP_S = 5.0
_STABLE = 0.01
_LOADED_WITHIN_S = 300.0
_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(double)": np.float64}


def build_run(path: str, *, threads: int, batch: int) -> Callable[[], None]:
    """A function that runs the file once, its input and output allocated beforehand."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    random = np.random.default_rng(0)
    for node in session.get_inputs():
        sides = [side if isinstance(side, int) else batch for side in node.shape]
        values = random.random(sides).astype(_TYPES[node.type])
        binding.bind_ortvalue_input(node.name, onnxruntime.OrtValue.ortvalue_from_numpy(values))
    for node in session.get_outputs():
        binding.bind_output(node.name)
    return lambda: session.run_with_iobinding(binding)


def warm_up(run: Callable[[], None]) -> float:
    """Runs until the median of the last runs no longer moves; gives seconds per run."""
    start, times, before = time.perf_counter(), [], 0.0
    while True:
        tick = time.perf_counter()
        run()
        times.append(time.perf_counter() - tick)
        spent = time.perf_counter() - start
        if len(times) >= _MIN_WARM_UP_RUNS and len(times) % 10 == 0:
            median = statistics.median(times[-20:])
            is_stable = abs(median - before) <= _STABLE * median
            if (is_stable and spent > _MIN_WARM_UP_S) or spent > _MAX_WARM_UP_S:
                return median
            before = median


def time_block(run: Callable[[], None], *, n_runs: int) -> list[int]:
    """Nanoseconds of each of some runs in a row."""
    clock = time.perf_counter_ns
    times = []
    for _ in range(n_runs):
        start = clock()
        run()
        times.append(clock() - start)
    return times


def measure(
    runs: Sequence[Callable[[], None]], reference: Callable[[], None], *, seconds: float
) -> list[dict[str, object]]:
    """Times networks in short blocks by turns, with a reference network before and after.

    Args:
        runs: Each runs one network once.
        reference: Runs the reference network once.
        seconds: For each network at the least, warm-up not counted.

    Returns:
        What was measured, in the order of the networks.
    """
    n_reference = max(10, int(_BLOCK_S / warm_up(reference)))
    n_runs = [max(1, int(_BLOCK_S / warm_up(run))) for run in runs]
    before = statistics.median(time_block(reference, n_runs=n_reference))
    blocks: list[list[list[int]]] = [[] for _ in runs]
    end = time.perf_counter() + seconds * len(runs)
    while time.perf_counter() < end or any(sum(map(len, one)) < _MIN_RUNS for one in blocks):
        for run, n, mine in zip(runs, n_runs, blocks, strict=True):
            if len(runs) > 1:
                run()  # what the others left in the caches is not its own time
            mine.append(time_block(run, n_runs=n))
    after = statistics.median(time_block(reference, n_runs=n_reference))
    return [describe(mine, drift=after / before) for mine in blocks]


def describe(blocks: Sequence[Sequence[int]], *, drift: float) -> dict[str, object]:
    """Median, its interval and the spread of one network's runs.

    Args:
        blocks: Nanoseconds of each run, block by block.
        drift: Of the reference network.

    Returns:
        Fields of a `Latency`.
    """
    times = np.array([t for block in blocks for t in block]) / 1e6
    medians = np.array([statistics.median(block) for block in blocks]) / 1e6
    random = np.random.default_rng(0)
    draws = np.median(random.choice(medians, (1000, len(medians))), axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    median = float(np.median(times))
    return {
        "median_ms": median,
        "ci95_low_ms": min(float(low), median),
        "ci95_high_ms": max(float(high), median),
        "p10_ms": float(np.percentile(times, 10)),
        "p90_ms": float(np.percentile(times, 90)),
        "n_runs": len(times),
        "drift": drift,
        "runtime": f"onnxruntime {onnxruntime.__version__} CPU",
    }


def main() -> None:
    """Reads the arguments, pins the cores, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--reference", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.3)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-arguments.threads :])
    faulthandler.dump_traceback_later(_LOADED_WITHIN_S, exit=True)
    runs = [
        build_run(model, threads=arguments.threads, batch=arguments.batch)
        for model in arguments.models
    ]
    reference = build_run(arguments.reference, threads=1, batch=1)
    faulthandler.cancel_dump_traceback_later()
    gc.disable()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    json.dump(measure(runs, reference, seconds=arguments.seconds), sys.stdout)


if __name__ == "__main__":
    main()
