"""What several sites say together: laws that hold for every vote."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from autokd.federation import build_consensus
from autokd.federation.charter import Vote
from tests.unit.federation.charters import answer

VOTES = get_args(Vote)
PLAIN = [vote for vote in VOTES if vote != "sharpened"]


def odds(logits):
    return softmax(np.asarray(logits, np.float64), axis=-1)


@pytest.mark.parametrize("vote", PLAIN)
@given(n=st.integers(1, 4), seed=st.integers(0, 99))
def test_sites_that_agree_are_heard_as_one(vote, n, seed):
    same = [answer(f"s{number}", seed=seed, n_pictures=1 + number) for number in range(n)]
    assert odds(build_consensus(same, vote=vote)) == pytest.approx(odds(same[0].logs), abs=1e-4)


@pytest.mark.parametrize("vote", VOTES)
@given(order=st.permutations(range(4)))
def test_who_comes_first_changes_no_bit(vote, order):
    sites = [answer(f"s{number}", seed=number, n_pictures=1 + number) for number in range(4)]
    shuffled = [sites[number] for number in order]
    assert (build_consensus(shuffled, vote=vote) == build_consensus(sites, vote=vote)).all()


def test_the_mean_is_that_of_probabilities_whatever_the_scale_of_the_logits():
    quiet, loud = answer("a", seed=1), answer("b", seed=2)
    moved = dataclasses.replace(loud, logs=loud.logs + np.float16(8))
    expected = (odds(quiet.logs) + odds(loud.logs)) / 2
    assert odds(build_consensus([quiet, moved], vote="mean")) == pytest.approx(expected, abs=5e-3)
    assert np.exp(build_consensus([quiet, loud], vote="mean")).sum(-1) == pytest.approx(1, abs=1e-4)


def test_by_pictures_a_site_counts_as_often_as_it_has_pictures():
    few, many = answer("a", seed=1, n_pictures=100), answer("b", seed=2, n_pictures=300)
    expected = (odds(few.logs) + 3 * odds(many.logs)) / 4
    assert odds(build_consensus([few, many], vote="pictures")) == pytest.approx(expected, abs=1e-4)


def test_by_confidence_a_site_that_knows_nothing_is_not_heard():
    sure = answer("a", seed=1)
    blank = dataclasses.replace(sure, site="b", logs=np.zeros_like(sure.logs))
    together = build_consensus([sure, blank], vote="confidence")
    assert odds(together) == pytest.approx(odds(sure.logs), abs=1e-3)
    nobody = [dataclasses.replace(blank, site=site) for site in "ab"]
    assert odds(build_consensus(nobody, vote="confidence")) == pytest.approx(1 / 3)


def test_sharpened_has_less_entropy_and_the_same_first_class():
    sites = [answer("a", seed=1), answer("b", seed=2)]
    plain, sharp = (build_consensus(sites, vote=vote) for vote in ("mean", "sharpened"))
    expected = softmax(odds(plain) / 0.1, axis=-1)
    assert odds(sharp) == pytest.approx(expected, abs=1e-4)
    assert (plain.argmax(-1) == sharp.argmax(-1)).all()
    assert odds(sharp).max(-1).mean() > odds(plain).max(-1).mean()


def test_a_site_that_is_certain_gives_nothing_that_is_not_finite():
    certain = answer("a")
    logs = np.full_like(certain.logs, -60000)
    logs[..., 0] = 0
    for vote in VOTES:
        sites = [dataclasses.replace(certain, logs=logs), answer("b", seed=1)]
        assert np.isfinite(build_consensus(sites, vote=vote)).all()
        assert build_consensus(sites, vote=vote).dtype == np.float32
