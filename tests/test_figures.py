"""What benchmarks make of what they have measured: the keys that are read, and their arithmetic."""

import dataclasses
import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.fixture
def efficiency(load):
    return load("search_efficiency")


@pytest.fixture
def task(efficiency):
    return efficiency.Task(source="t", device="phone", sampler="auto", seed=0, n_trials=200)


def climb(n, *, last):
    """A hypervolume that rises evenly to its last value."""
    return [(index + 1.0, last * (index + 1) / n) for index in range(n)]


def test_search_efficiency_tells_each_sampler_at_each_number_of_trials(efficiency):
    traces = {
        ("phone", "random"): [climb(200, last=0.8), climb(200, last=0.6)],
        ("phone", "auto"): [climb(200, last=1.0)],
        ("phone", "auto_rungs"): [[(0.06 * 4 + 1, 0.5), (21.0, 0.75), (50.2, 0.9)]],
    }
    suggesting = {key: [0.1, 0.3] for key in traces}
    figures = efficiency.describe(traces, suggesting)["phone"]
    assert {"25", "50", "100", "200"} < figures["random"].keys()
    assert figures["random"]["200"] == {"mean": 0.7, "se": 0.1, "n": 2}
    assert figures["auto"]["trials_to_random_200"] == 140
    assert figures["auto"]["suggest_s"] == pytest.approx(0.2)
    assert figures["auto_rungs"]["epochs_to_random_200"] == 21  # full trainings
    assert figures["auto_rungs"]["50"]["mean"] == 0.75


def test_by_mo_asha_one_in_four_goes_on_and_the_front_first(efficiency):
    class Row:
        def row_of(self, sample):
            return sample["row"]

    def stand(state="stopped", accuracies=(0.5, 0.6, 0.7, 0.4)):
        return [
            efficiency.Observation(
                key=row, sample={"row": row}, state=state if row == 0 else "stopped", curve=(one,)
            )
            for row, one in enumerate(accuracies)
        ]

    table = SimpleNamespace(latencies=[1.0, 2.0, 3.0, 4.0, 0.5, 5.0, 6.0, 7.0])
    assert efficiency.choose_by_layers([], table, Row()) is None
    assert efficiency.choose_by_layers(stand()[:3], table, Row()) is None
    assert efficiency.choose_by_layers(stand(), table, Row()) == 0
    assert efficiency.choose_by_layers(stand("complete"), table, Row()) is None
    eight = stand("complete", (0.5, 0.6, 0.7, 0.4, 0.1, 0.1, 0.1, 0.1))
    assert efficiency.choose_by_layers(eight, table, Row()) == 4


def test_runs_are_recalled_of_the_same_table_alone_and_though_one_was_cut_off(
    efficiency, task, tmp_path
):
    file = tmp_path / "runs"
    efficiency.keep(file, task, [(1.0, 0.5)], 0.1)
    with file.open("a") as runs:
        runs.write('{"task": {"sour')
    other = dataclasses.replace(task, source="another table")
    later = dataclasses.replace(task, seed=1)
    efficiency.keep(file, later, [(1.0, 0.6)], 0.1)
    found = efficiency.recall(file, [task, other, later])
    assert found == [(task, [(1.0, 0.5)], 0.1), (later, [(1.0, 0.6)], 0.1)]


def test_search_wall_compares_the_time_to_the_last_value_of_the_plain_loop(load):
    wall = load("search_wall")
    plain = [(0.0, 0.0), (300.0, 0.2), (600.0, 0.3)]
    curves = [
        {wall.PLAIN: plain, "auto": [(0.0, 0.0), (90.0, 0.35)]},
        {wall.PLAIN: plain, "auto": [(0.0, 0.0), (90.0, 0.1), (120.0, 0.3)]},
    ]
    figures = wall.summarise(curves, samplers=["auto"], seconds=600.0)
    assert figures["time_ratio"] == pytest.approx((90 + 120) / 2 / 600)
    assert figures["n_trained"] == {wall.PLAIN: [2, 2], "auto": [1, 2]}
    never = [{wall.PLAIN: plain, "auto": [(0.0, 0.0), (90.0, 0.1)]}]
    assert wall.summarise(never, samplers=["auto"], seconds=600.0)["time_ratio"] is None


def test_latency_noise_tells_the_spread_of_repeats_and_the_ranking_under_load(load):
    idle = [[1.0, 1.1], [2.0, 2.0], [3.0, 3.0]]
    loaded = [[2.0, 2.0], [3.0, 3.0], [2.5, 2.5]]
    figures = load("latency_noise").describe(idle, loaded)
    assert figures["idle_cv"] == pytest.approx(figures["idle_cv_worst"] / 3)
    assert figures["loaded_cv"] == 0
    assert figures["loaded_tau"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("kept", "is_met"), [(0.8971, True), (0.896, False)], ids=["0.3 points", "more"]
)
def test_quantization_aware_tells_what_is_lost_against_fp32(load, kept, is_met):
    benchmark = load("quantization_aware")
    accuracy = dict.fromkeys(benchmark.KINDS, 0.9) | {"static": 0.894, "qat_kd": kept}
    outcomes = [
        benchmark.Outcome(student="resnet", seed=seed, accuracy=accuracy, latency_ms={})
        for seed in range(3)
    ]
    figures = benchmark.summarise(outcomes)["resnet"]
    assert figures["fp32"]["mean"] == pytest.approx(0.9)
    assert figures["static"]["ci95"] == pytest.approx(0, abs=1e-9)
    assert figures["static"]["loss"] == pytest.approx(0.006)
    assert figures["is_met"] is is_met


def test_scaling_tells_how_much_sooner_more_workers_get_there(load):
    scaling, simulated = load("scaling"), load("simulated_workers")
    first = simulated.Setting(
        sampler="random", has_rungs=False, n_workers=1, seed=0, n_trials=200, enough=float("inf"),
        training_s=600.0, measure_s=1.0, decide_s=None,
    )  # fmt: skip

    def trace(*points):
        return simulated.Trace(
            points=list(points), end_s=points[-1][0], n_trials=4, n_trained=4, deciding_s=1.0,
            measuring_s=1.0, training_s=points[-1][0],
        )  # fmt: skip

    alone = dataclasses.replace(first, sampler="auto", enough=0.95)
    eight = dataclasses.replace(alone, n_workers=8)
    done = [
        (first, trace((7200.0, 0.8))),
        (alone, trace((3600.0, 0.8), (7200.0, 0.95))),
        (eight, trace((900.0, 0.96))),
    ]
    figures = scaling.describe_simulation(done, high=0.95, training_s=600.0)
    assert figures["auto"]["1"]["hours_to_random_200"] == 1.0
    assert figures["auto"]["8"]["speed_up_to_high"] == 8.0
    assert figures["auto"]["8"]["speed_up_to_random_200"] == 4.0


@pytest.mark.parametrize(
    ("tau", "gain", "default"), [(0.7, 0.02, "relatives"), (0.5, 0.02, "none"), (0.7, 0.01, "none")]
)
def test_inheritance_is_the_default_where_it_gains_for_sure_and_ranks_as_well(
    load, tau, gain, default
):
    row = {"gain": gain, "gain_ci95": 0.015, "tau_fresh": 0.6, "tau_relatives": tau}
    assert load("inheritance").choose_default({"digits": row, "fashion": row}) == default
