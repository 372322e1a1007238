"""A believable front of eight students out of fifty trials."""

import math
import random
from dataclasses import replace

from autokd.types import (
    EpochLog,
    Footprint,
    Front,
    FrontStudent,
    Latency,
    Recipe,
    TeacherCard,
    TrialResult,
)

TEACHER = TeacherCard(
    name="timm:resnet18", digest="f" * 64, n_params=11_173_962, val_accuracy=0.941, latency_ms=6.8
)
_LATENCIES = (0.113, 0.121, 0.147, 0.31, 0.33, 0.62, 1.4, 1.46)
_ACCURACIES = (0.742, 0.771, 0.801, 0.858, 0.862, 0.894, 0.921, 0.926)


def build_student(trial, latency_ms, accuracy, *, is_refitted=True):
    student = FrontStudent(
        trial=trial,
        val_accuracy=accuracy,
        latency_ms=latency_ms,
        latency_ci95_ms=(latency_ms * 0.97, latency_ms * 1.04),
        speed_up=TEACHER.latency_ms / latency_ms,
        n_params=round(latency_ms * 700_000),
        macs=round(latency_ms * 9_000_000),
        size_bytes=round(latency_ms * 2_800_000),
        architecture={"width": 32, "depth": 3, "kernel/0": 5, "act": "relu<6>"},
        recipe=Recipe(alpha=0.7),
    )
    if not is_refitted:
        return student
    return replace(
        student,
        test_accuracy=accuracy - 0.006,
        test_accuracy_ci95=0.004 + 0.0005 * trial % 0.004,
        kd_gain=0.012,
        kd_gain_ci95=0.005,
        n_seeds=3,
    )


def build_front(*, is_refitted=True):
    pairs = zip(_LATENCIES, _ACCURACIES, strict=True)
    students = tuple(
        build_student(3 + 6 * i, latency, accuracy, is_refitted=is_refitted)
        for i, (latency, accuracy) in enumerate(pairs)
    )
    return Front(
        study="cifar10-mobile",
        n_trials=50,
        n_failed=2,
        n_pruned=5,
        wall_s=7200.0,
        training_s=6400.0,
        hypervolume=0.412,
        teacher=TEACHER,
        baseline=build_student(0, 0.6, 0.861, is_refitted=is_refitted),
        students=students,
    )


def build_results(front):
    rng = random.Random(0)
    places = {s.trial: (s.latency_ms, s.val_accuracy) for s in front.students}
    for trial in range(front.n_trials):
        if trial not in places:
            latency = math.exp(rng.uniform(math.log(0.11), math.log(4)))
            best = 0.74 + 0.07 * math.log(latency / 0.11)
            places[trial] = latency, max(0.1, min(best, 0.92) - abs(rng.gauss(0.02, 0.04)))
    places[1] = 0.5, 0.11
    results = [_build_result(trial, *places[trial]) for trial in range(front.n_trials)]
    failed = TrialResult(trial=front.n_trials, state="failed", sample={}, reason="out of memory")
    return [*results, failed]


def _build_result(trial, latency_ms, accuracy):
    curve = tuple(
        EpochLog(
            epoch=n,
            train_loss=1.0,
            val_loss=1.0,
            val_accuracy=accuracy * (1 - math.exp(-n / 3)) / (1 - math.exp(-4)),
            learning_rate=0.1,
            alpha=0.9,
            temperature=4.0,
            seconds=1.0,
        )
        for n in range(1, 13)
    )
    return TrialResult(
        trial=trial,
        state="complete",
        sample={"width": 16},
        val_accuracy=accuracy,
        latency=Latency(
            median_ms=latency_ms,
            ci95_low_ms=latency_ms * 0.97,
            ci95_high_ms=latency_ms * 1.04,
            p10_ms=latency_ms * 0.9,
            p90_ms=latency_ms * 1.2,
            n_runs=300,
            batch=1,
            threads=1,
            runtime="onnxruntime",
            device="cpu",
            drift=1.0,
        ),
        footprint=Footprint(n_params=1, macs=1, size_bytes=1),
        curve=curve,
    )
