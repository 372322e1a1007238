"""The main job, timed: `autokd search --budget 50` on digits, from an empty folder.

Runs the command line in processes of their own with an empty cache (so the teacher is trained),
without the refit and with it, and tells wall time, peak memory, the share that is not training,
and what the front looks like.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from output import print_figures, reserve_stdout


def run_search(budget: int, options: list[str], *, data: str) -> dict[str, object]:
    """One search in an empty folder: its own JSON with wall time and peak memory beside it."""
    with tempfile.TemporaryDirectory() as folder:
        caches = {"AUTOKD_CACHE": f"{folder}/autokd", "XDG_CACHE_HOME": folder}
        environment = {**os.environ, **caches}
        command = [sys.executable, "-m", "autokd", "search", "--json", "--data", data]
        command += ["--budget", str(budget), *options]
        start = time.monotonic()
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        seconds = time.monotonic() - start
    front = json.loads(done.stdout)
    students = front["front"]
    return {
        "process_s": seconds,
        "wall_s": front["wall_s"],
        "not_training": 1 - front["training_s"] / seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "n_front": len(students),
        "teacher_val_accuracy": front["teacher"]["val_accuracy"],
        "best_val_accuracy": max(student["val_accuracy"] for student in students),
        "best_speed_up": max(student["speed_up"] for student in students),
        "hypervolume": front["hypervolume"],
        "n_failed": front["n_failed"],
    }


def time_help(n: int) -> float:
    """Median seconds of `autokd --help`, the first run not counted."""
    seconds = []
    for _ in range(n + 1):
        start = time.monotonic()
        subprocess.run(
            [str(Path(sys.executable).with_name("autokd")), "--help"],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        seconds.append(time.monotonic() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 trials, no refit")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--budget", type=int, default=50)
    parser.add_argument("--data", default="digits")
    arguments, out = parser.parse_args(), reserve_stdout()
    budget = 10 if arguments.quick else arguments.budget
    figures: dict[str, object] = {
        "budget": budget,
        "help_s": time_help(5),
        "search": run_search(budget, ["--no-refit"], data=arguments.data),
    }
    if not arguments.quick:
        figures["search_and_refit"] = run_search(budget, [], data=arguments.data)
    print_figures(figures, as_json=arguments.json, out=out)


if __name__ == "__main__":
    main()
