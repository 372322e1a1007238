"""How sure it is which of two networks is faster."""

import dataclasses

import pytest

from autokd.latency import compare_latencies
from autokd.types import Latency

ONE = Latency(
    median_ms=1.0, ci95_low_ms=1.0, ci95_high_ms=1.0, p10_ms=1.0, p90_ms=1.0, n_runs=1, batch=1,
    threads=1, runtime="command", device="board", drift=1.0,
)  # fmt: skip


def latency(ms, *, spread=0.0):
    return dataclasses.replace(
        ONE, median_ms=ms, ci95_low_ms=ms * (1 - spread), ci95_high_ms=ms * (1 + spread)
    )


def test_latencies_without_a_spread_tell_nothing_of_who_is_faster():
    found = compare_latencies(latency(1.0), latency(1.1))
    assert found.ratio_ci95 == pytest.approx((1 / 1.1, 1 / 1.1))
    assert (found.probability, found.is_sure) == (0.5, False)


def test_one_that_spreads_is_enough_to_judge_by():
    found = compare_latencies(latency(1.0), latency(1.1, spread=0.01))
    assert found.probability > 0.99
    assert found.is_sure
    assert not compare_latencies(latency(1.0), latency(1.001, spread=0.01)).is_sure
