"""autokd's sampler in an Optuna study of one's own: the latency is known, the accuracy is not.

Perceptrons of scikit-learn on digits; nothing of autokd but its sampler. Takes some seconds.
"""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import optuna
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import autokd

PASSES = 10


@cache  # asked again, a surveyor must say the same
def look(depth: int, width: int) -> autokd.Prospect:
    """What is known of a network before it is trained: its latency, and what may matter besides."""
    sides = [64, *[width] * depth, 10]
    weights = [np.ones(shape, dtype=np.float32) for shape in pairwise(sides)]
    seconds = []
    for _ in range(50):
        values, start = np.ones((1, 64), dtype=np.float32), time.perf_counter()
        for weight in weights:
            values = np.maximum(values @ weight, 0)
        seconds.append(time.perf_counter() - start)
    latency_ms, n_params = 1e3 * min(seconds), sum(weight.size for weight in weights)
    traits = (math.log(latency_ms), math.log(n_params), math.log(width), float(depth))
    return autokd.Prospect(latency_ms=latency_ms, traits=traits)


class PerceptronSurveyor:
    """All that the sampler needs of a user: an `autokd.Surveyor`."""

    def survey(self, samples: Sequence[Mapping[str, Any]]) -> list[autokd.Prospect | None]:
        """What is known of each; None would say that there is no such network."""
        return [look(sample["depth"], sample["width"]) for sample in samples]


def main(n_trials: int) -> optuna.Study:
    """Searches, and prints the front."""
    pictures, labels = load_digits(return_X_y=True)
    train_x, val_x, train_y, val_y = train_test_split(pictures / 16, labels, random_state=0)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        depth = trial.suggest_int("depth", 1, 4)
        width = trial.suggest_int("width", 4, 256, log=True)
        rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        network = MLPClassifier([width] * depth, learning_rate_init=rate, random_state=0)
        for _ in range(PASSES):
            network.partial_fit(train_x, train_y, classes=range(10))
        return float(network.score(val_x, val_y)), look(depth, width).latency_ms

    sampler = autokd.AutoSampler(
        PerceptronSurveyor(),
        recipe=["learning_rate"],  # which the latency does not depend on
        advice=autokd.Advice(n_surveyed=20, max_latency_ms=1.0),
    )
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=n_trials)
    for trial in sorted(study.best_trials, key=lambda one: one.values[1]):
        accuracy, latency_ms = trial.values
        print(f"{latency_ms:.4f} ms  {accuracy:.1%}  {trial.params}")
    return study


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=30)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    main(parser.parse_args().trials)
