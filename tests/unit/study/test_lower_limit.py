"""A session whose limit of latency is lower than that of the one before."""

import pytest

from autokd.types import TrialResult, load_json
from tests.unit.study import test_loop

data, world = test_loop.data, test_loop.world


@pytest.mark.parametrize("how", ["cut off", "stopped"])
def test_what_is_too_slow_for_a_later_session_is_not_trained_on(how, world, data, tmp_path):
    study = test_loop.Study(tmp_path, data)
    if how == "cut off":
        world.after[1, 1] = study.crew.halt
        with pytest.raises(KeyboardInterrupt):
            study.run()
    else:
        study.run(is_late=lambda: len(world.trained) > 10)
    begun = {t.number: load_json(TrialResult, t.user_attrs["result"]) for t in study.trials}
    open_ = {n: one for n, one in begun.items() if n not in {r.trial for r in study.results}}
    assert open_
    world.trained.clear()
    limit_ms = min(one.latency.median_ms for one in open_.values()) * 0.99
    results = {one.trial: one for one in test_loop.Study(tmp_path, data, limit_ms=limit_ms).run()}
    trained = {number for number, _ in world.trained}
    assert all(results[number].latency.median_ms <= limit_ms for number in trained)
    ended = [results[number] for number in open_]
    if how == "cut off":
        assert {one.state for one in ended} == {"pruned"}
    assert all(one.curve == open_[one.trial].curve for one in ended)
    pruned = [one for one in ended if one.state == "pruned"]
    assert pruned
    assert all(f"over the limit of {limit_ms:g} ms" in one.reason for one in pruned)
