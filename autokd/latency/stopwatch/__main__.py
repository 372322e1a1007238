"""Reads the arguments, pins the cores, loads, waits, measures, prints."""

import argparse
import faulthandler
import gc
import json
import os
import sys
from pathlib import Path

import numpy as np

from .cores import choose_cores
from .rounds import Form, record
from .runners import RUNTIMES, Setting, build_run

_LOADED_WITHIN_S = 300.0


def main() -> None:
    """The program; see the package's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--runtime", choices=RUNTIMES, default="onnxruntime")
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--shape", type=int, nargs="*", default=[])
    parser.add_argument("--form", type=float, nargs=3, default=[0.1, 1.0, 0.01])
    parser.add_argument("--patience", type=float, default=0.0)
    parser.add_argument("--quiet", type=float, help="nanoseconds of the reference")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, choose_cores(arguments.threads))
    setting = Setting(
        threads=arguments.threads,
        batch=arguments.batch,
        shape=tuple(arguments.shape),
        scratch=arguments.reference.parent,
    )
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what runtimes print is no answer
    limit_s = _LOADED_WITHIN_S * len(arguments.models)
    faulthandler.dump_traceback_later(limit_s, exit=True)
    alone = Setting(threads=1, batch=1)
    reference, _ = build_run("onnxruntime", arguments.reference, setting=alone)
    try:
        built = [build_run(arguments.runtime, model, setting=setting) for model in arguments.models]
        for run, _ in built:
            run()
    except Exception as error:  # of any runtime: in one line
        raise SystemExit(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    faulthandler.cancel_dump_traceback_later()
    gc.disable()
    answers.write("ready\n")
    answers.flush()
    if not sys.stdin.readline():
        return  # whoever asked is gone
    form = Form(*arguments.form, patience_s=arguments.patience)
    runs = [run for run, _ in built]
    seen = record(runs, reference, form=form, quiet_ns=arguments.quiet)
    answer: dict[str, object] = {
        "runtime": built[0][1],
        "is_hopeless": seen.is_hopeless,
        "models": [
            {
                "blocks": blocks,
                "reference": around,
                "n_runs": len(times),
                "percentiles": np.percentile(times, [10, 50, 90]).tolist(),
            }
            for blocks, around, times in zip(seen.blocks, seen.references, seen.runs, strict=True)
        ],
    }
    answers.write(json.dumps(answer))
    answers.close()


if __name__ == "__main__":
    main()
