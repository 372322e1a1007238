import math
import time
from itertools import groupby

import numpy as np
import pytest

from autokd.latency.readings import Reading, Selection, Spread, pool, select_quiet
from autokd.latency.stopwatch import cores, rounds
from autokd.latency.stopwatch.cores import choose_cores
from autokd.latency.stopwatch.estimate import (
    LEAST_QUIET,
    fast_time,
    half_width,
    quiet_rounds,
    ratio_draws,
)
from autokd.latency.stopwatch.rounds import Form, record, warm_up
from autokd.latency.stopwatch.runners import Setting, make_input

SHORT = Form(least_s=0.02, most_s=0.2, precision=0.05)


def blocks(rng, n: int, *, ms: float, noise: float = 0.01) -> np.ndarray:
    return ms * 1e6 * np.exp(noise * np.abs(rng.standard_normal((n, 1))))


def chosen(above: np.ndarray, below: np.ndarray) -> Selection:
    """Blocks of one process."""
    return Selection([(above, below)], [(above, below)], is_quiet=True)


def test_networks_and_the_reference_take_turns():
    ran = []
    seen = record(
        [lambda: ran.append("a"), lambda: ran.append("b")],
        lambda: ran.append("reference"),
        form=SHORT,
    )
    turns = [name for name, _ in groupby(ran)]
    assert turns[:3] == ["reference", "a", "b"]  # warming up
    n_rounds = len(seen.blocks[0])
    assert turns[3::2] == ["reference"] * (2 * n_rounds + 1)
    assert turns[4::2] == ["a", "b", "b", "a"] * (n_rounds // 2) + ["a", "b"] * (n_rounds % 2)
    assert {len(rounds) for rounds in (*seen.references, *seen.blocks)} == {n_rounds}
    assert min(map(len, seen.runs)) >= 100


def run_on(monkeypatch, times):
    """A clock on which runs take these times, and a run."""
    clock, left = [0.0], iter(times)
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: clock[0])

    def run() -> None:
        clock[0] += next(left)

    return run, left


def test_a_network_is_warm_when_its_time_no_longer_moves(monkeypatch):
    falling = [0.01 * 0.95**n for n in range(40)]
    run, left = run_on(monkeypatch, [*falling, *[0.001] * 100])
    assert warm_up(run) == pytest.approx(0.001)
    assert 100 - len(list(left)) <= 40, "as soon as the last twenty are like those before"


@pytest.mark.parametrize(("run_s", "n_least"), [(0.001, 50), (0.01, 20)])
def test_a_steady_network_is_run_for_a_moment_all_the_same(monkeypatch, run_s, n_least):
    run, left = run_on(monkeypatch, [run_s] * 100)
    assert warm_up(run) == pytest.approx(run_s)
    assert n_least <= 100 - len(list(left)) <= n_least + 10


def test_what_never_becomes_steady_is_not_waited_for(monkeypatch):
    run, left = run_on(monkeypatch, [0.2 * (1 + n % 7) * 1.1**n for n in range(100)])
    assert warm_up(run) > 0
    assert 100 - len(list(left)) < 30
    run, left = run_on(monkeypatch, [6.0] * 3)
    assert warm_up(run) == 6.0
    assert len(list(left)) == 2, "once is enough of a very slow one"


def test_a_burst_of_other_load_does_not_move_the_estimate():
    rng = np.random.default_rng(0)
    quiet = blocks(rng, 200, ms=1.0)
    disturbed = quiet.copy()
    disturbed[50:150] *= 3.0
    assert fast_time(disturbed) == pytest.approx(fast_time(quiet), rel=0.01)


def test_a_machine_that_becomes_slower_is_corrected_for():
    rng = np.random.default_rng(0)
    speed = np.repeat([[1.0], [1.4]], 100, axis=0)
    network, reference = (blocks(rng, 200, ms=ms) * 1.4 for ms in (3.0, 1.0))
    slow = pool([chosen(network, reference)])[0]
    mixed = pool([chosen(network / 1.4 * speed, reference / 1.4 * speed)])[0]
    assert slow.value == pytest.approx(3.0, rel=0.01)
    assert mixed.value == pytest.approx(3.0, rel=0.01)


def test_an_interval_holds_the_truth_nineteen_times_out_of_twenty():
    n_held = 0
    truth = fast_time(blocks(np.random.default_rng(99), 100_000, ms=2.0, noise=0.1)) / fast_time(
        blocks(np.random.default_rng(98), 100_000, ms=1.0, noise=0.1)
    )
    for seed in range(100):
        rng = np.random.default_rng(seed)
        above, below = blocks(rng, 150, ms=2.0, noise=0.1), blocks(rng, 150, ms=1.0, noise=0.1)
        low, high = np.percentile(ratio_draws(above, below, n_draws=300), [2.5, 97.5])
        n_held += low <= truth <= high
    assert n_held >= 85


def test_more_rounds_make_the_interval_narrower():
    rng = np.random.default_rng(0)
    few, many = (
        half_width(ratio_draws(*(blocks(rng, n, ms=1.0, noise=0.2) for _ in "ab"), n_draws=300))
        for n in (30, 3000)
    )
    assert many < few / 3


def test_processes_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    pairs = [(blocks(rng, 100, ms=2.0), blocks(rng, 100, ms=1.0)) for _ in range(3)]
    alike = [Selection(pairs, pairs, is_quiet=True)]
    pairs = [(above * (1 + 0.1 * n), below) for n, (above, below) in enumerate(pairs)]
    apart = [Selection(pairs, pairs, is_quiet=True)]
    assert pool(apart)[0].half_width > 5 * pool(alike)[0].half_width
    assert pool(apart)[0].low < pool(apart)[0].value < pool(apart)[0].high


@pytest.mark.parametrize("other", [False, True])
def test_a_process_that_alone_was_quiet_is_not_surer_than_several(other):
    rng = np.random.default_rng(0)
    pairs = [(blocks(rng, 100, ms=2.0 + 0.1 * n), blocks(rng, 100, ms=1.0)) for n in range(3)]
    every, alone = (Selection(part, pairs, is_quiet=True) for part in (pairs, pairs[:1]))
    beside = [chosen(*pairs[0]), every] if other else []
    several, single = pool([every, *beside])[0], pool([alone, *beside])[0]
    assert single.value == pytest.approx(2.0, rel=0.01), "of the quiet one"
    assert single.half_width > several.half_width
    assert single.low < several.value < single.high


def test_it_ends_when_the_time_is_over_however_wide_the_interval_is():
    calls = iter(range(10**9))
    seen = record(
        [lambda: sum(range(10 * (next(calls) % 100)))],
        lambda: None,
        form=Form(least_s=0.01, most_s=0.1, precision=0.0),
    )
    assert seen.references[0]


def spend(ms: float) -> None:
    end = time.perf_counter() + ms / 1e3
    while time.perf_counter() < end:
        pass


def test_a_quiet_machine_is_waited_for():
    start = time.perf_counter()

    def reference() -> None:  # disturbed for half a second, then as fast as it can be
        spend(0.2 if time.perf_counter() < start + 0.5 else 0.1)

    form = Form(least_s=0.01, most_s=0.05, precision=0.05, patience_s=5.0)
    seen = record([lambda: spend(0.1)], reference, form=form, quiet_ns=1e5)
    reading = np.array(seen.references[0], dtype=np.float64)
    assert quiet_rounds(reading, quiet=1e5).sum() >= LEAST_QUIET
    assert 0.5 < time.perf_counter() - start < 4.0


def test_only_networks_that_lack_quiet_rounds_are_timed_again():
    ran = {"steady": 0, "disturbing": 0}
    slow_until = 0.0

    def reference() -> None:
        spend(0.2 if time.perf_counter() < slow_until else 0.1)

    def disturbing() -> None:  # three times of four the reference is slow after it
        nonlocal slow_until
        ran["disturbing"] += 1
        spend(0.1)
        if ran["disturbing"] % 32 >= 8:
            slow_until = time.perf_counter() + 0.002

    def steady() -> None:
        ran["steady"] += 1
        spend(0.1)

    form = Form(least_s=0.01, most_s=0.03, precision=0.0, patience_s=5.0)
    seen = record([steady, disturbing], reference, form=form, quiet_ns=1e5)
    n_rounds = [len(rounds) for rounds in seen.blocks]
    assert n_rounds[1] > n_rounds[0]
    for n, timed, around, runs in zip(
        n_rounds, seen.blocks, seen.references, seen.runs, strict=True
    ):
        assert (len(timed), len(around), len(runs)) == (n, n, 3 * n)
        assert quiet_rounds(np.array(around, dtype=np.float64), quiet=1e5).sum() >= LEAST_QUIET


def test_a_slow_network_is_timed_more_than_once():
    form = Form(least_s=0.001, most_s=0.001, precision=0.05)
    seen = record([lambda: spend(20)], lambda: spend(0.1), form=form, quiet_ns=1e5)
    assert len(seen.blocks[0]) == 4
    assert not seen.is_hopeless


def test_few_rounds_are_quiet_where_most_of_them_are():
    around = np.full((4, 2), 1e6)
    around[0] *= 1.5
    reading = reading_of([np.full((4, 1), 3e6)], [around])
    assert select_quiet([reading], 0, quiet_ms=1.0).is_quiet
    around[1] *= 1.5
    assert not select_quiet([reading], 0, quiet_ms=1.0).is_quiet


def test_patience_has_an_end():
    start = time.perf_counter()
    form = Form(least_s=0.01, most_s=0.05, precision=0.05, patience_s=60.0)
    seen = record([lambda: spend(0.1)], lambda: spend(0.2), form=form, quiet_ns=1e5)
    assert time.perf_counter() - start < 6.0
    assert seen.is_hopeless  # no quiet moment came


def reading_of(networks, references) -> Reading:
    return Reading(
        runtime="r",
        blocks=networks,
        references=references,
        percentiles=[(1.0, 1.0, 1.0)] * len(networks),
        n_runs=[1] * len(networks),
    )


def test_only_quiet_rounds_count_where_there_are_enough_of_them():
    rng = np.random.default_rng(0)
    slow = np.repeat([[1.0], [1.5]], 100, axis=0)
    network = blocks(rng, 200, ms=3.0) * slow**1.5  # disturbed more than the reference is
    around = np.concatenate([blocks(rng, 200, ms=1.0) * slow for _ in "ab"], axis=1)
    seen = select_quiet([reading_of([network], [around])], 0, quiet_ms=1.0)
    assert seen.is_quiet
    assert pool([seen])[0].value == pytest.approx(3.0, rel=0.02)
    disturbed = reading_of([network[100:]], [around[100:]])
    both = select_quiet([disturbed, reading_of([network], [around])], 0, quiet_ms=1.0)
    assert len(both.pairs) == 1  # of the process that saw a quiet machine
    nothing = select_quiet([disturbed], 0, quiet_ms=1.0)
    assert not nothing.is_quiet
    assert len(nothing.pairs[0][0]) == 100


def test_two_networks_are_compared_where_the_machine_is_quiet_around_both():
    rng = np.random.default_rng(0)
    slow = np.repeat([[1.0], [1.5]], 100, axis=0)
    around = np.concatenate([blocks(rng, 200, ms=1.0) * slow for _ in "ab"], axis=1)
    networks = [blocks(rng, 200, ms=ms) * slow**power for ms, power in ((3.0, 1.5), (1.5, 0.8))]
    seen = select_quiet([reading_of(networks, [around, around])], 0, over=1, quiet_ms=1.0)
    assert seen.is_quiet
    assert pool([seen])[0].value == pytest.approx(2.0, rel=0.02)


def test_networks_of_different_numbers_of_rounds_are_compared():
    rng = np.random.default_rng(0)
    around = np.concatenate([blocks(rng, 200, ms=1.0) for _ in "ab"], axis=1)
    networks = [blocks(rng, 200, ms=3.0), blocks(rng, 120, ms=1.5)]
    reading = reading_of(networks, [around, around[:120]])
    for quiet_ms in (1.0, 0.5):  # all rounds are quiet ones, or none is
        seen = select_quiet([reading], 0, over=1, quiet_ms=quiet_ms)
        assert seen.is_quiet == (quiet_ms == 1.0)
        spread = pool([seen])[0]
        assert spread.value == pytest.approx(2.0, rel=0.01)
        assert spread.low < spread.value < spread.high


def test_a_burst_beside_a_block_makes_its_round_no_quiet_one():
    reference = np.array([[1.0, 1.0], [1.0, 1.2], [1.2, 1.0], [1.07, 1.0], [0.8, 1.0]])
    assert quiet_rounds(reference, quiet=1.0).tolist() == [True, False, False, True, True]


def test_another_error_widens_an_interval_on_both_sides():
    wide = Spread(value=1.0, low=1 / 1.03, high=1.03).widened(0.04)
    assert math.log(wide.high) == pytest.approx(-math.log(wide.low))
    assert math.log(wide.high) == pytest.approx(math.hypot(math.log(1.03), 0.04))


def test_open_sides_are_filled_with_batch_and_shape():
    setting = Setting(threads=1, batch=4, shape=(3, 8, 6))
    values = make_input(["batch", 3, "h", "w"], "float", setting=setting, name="x")
    assert values.shape == (4, 3, 8, 6)
    assert values.dtype == np.float32
    assert 0 <= values.min() < values.max() < 1


def test_a_side_that_stays_open_is_named():
    with pytest.raises(ValueError, match=r"input `x` must have known sides, got \(n, 3, h\)"):
        make_input(["n", 3, "h"], "float", setting=Setting(threads=1, batch=1), name="x")


def test_a_batch_that_is_fixed_is_measured_as_such_or_not_at_all():
    alone, eight = Setting(threads=1, batch=1), Setting(threads=1, batch=8)
    with pytest.raises(ValueError, match=r"open batch or one of 1, got 8; measure with --batch 8"):
        make_input([8, 3, 4, 4], "float", setting=alone, name="x")
    assert make_input([8, 3, 4, 4], "float", setting=eight, name="x").shape == (8, 3, 4, 4)


def test_an_unknown_type_is_named():
    with pytest.raises(ValueError, match=r"input `x` must be of a type in .*, got string"):
        make_input([1], "string", setting=Setting(threads=1, batch=1), name="x")


def test_whole_numbers_are_zeros_since_they_may_be_indices():
    values = make_input([None, 5], "int64", setting=Setting(threads=1, batch=2), name="x")
    assert values.dtype == np.int64
    assert not values.any()


def test_cores_are_of_different_physical_ones_first(monkeypatch):
    pairs = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(pairs))
    monkeypatch.setattr(cores, "_siblings", pairs.__getitem__)
    monkeypatch.setattr(cores, "_speed", lambda _: 0)
    assert choose_cores(1) == [3]
    assert choose_cores(2) == [2, 3]
    assert choose_cores(4) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="at most 4, the cores that are left, got 9"):
        choose_cores(9)


def test_fast_cores_come_before_slow_ones(monkeypatch, tmp_path):
    # two fast cores of two threads, one let run a little faster, and two kinds of slow ones
    speeds = [4700, 4700, 5000, 5000, 3500, 3500, 2500]
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(len(speeds))))
    monkeypatch.setattr(cores, "_siblings", lambda core: str(core // 2 if core < 4 else core))
    monkeypatch.setattr(cores, "_TOPOLOGY", tmp_path)
    for number, speed in enumerate(speeds):
        (tmp_path / f"cpu{number}/cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{number}/cpufreq/cpuinfo_max_freq").write_text(f"{speed}\n")
    assert choose_cores(1) == [3]
    assert choose_cores(2) == [1, 3]
    assert choose_cores(4) == [1, 3, 4, 5]
    assert choose_cores(6) == [1, 2, 3, 4, 5, 6]


def test_the_ratio_of_a_network_to_itself_is_one():
    rng = np.random.default_rng(0)
    same = blocks(rng, 100, ms=1.0)
    spread = pool([chosen(same, same)])[0]
    assert math.isclose(spread.low, 1)
    assert math.isclose(spread.high, 1)
