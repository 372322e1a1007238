import numpy as np
import pytest

from autokd.surrogate import AccuracyModel, Evidence, Ladder, TraitGuess, winsorise


def evidence(n, *, seed=0, n_recipe=2):
    rng = np.random.default_rng(seed)
    return Evidence(
        traits=rng.normal(size=(n, 2)) * 3 + 5,
        architecture=rng.random((n, 3)),
        recipe=rng.random((n, n_recipe)),
    )


def truth(known):
    recipe = known.recipe[:, 0] if known.recipe.shape[1] else 0.0
    return 0.7 + 0.02 * known.traits[:, 0] - 0.1 * (recipe - 0.5) ** 2


def test_it_learns_what_depends_on_traits_and_recipe():
    model, known, new = AccuracyModel(), evidence(40), evidence(30, seed=1)
    model.fit(known, truth(known))
    mean, std = model.predict(new)
    assert np.corrcoef(mean, truth(new))[0, 1] > 0.95
    assert (std > 0).all()


def test_it_is_surer_of_what_it_has_seen():
    model, known = AccuracyModel(), evidence(20)
    model.fit(known, truth(known))
    far = Evidence(traits=known.traits + 50, architecture=known.architecture, recipe=known.recipe)
    assert (model.predict(known)[1] < model.predict(far)[1]).all()


def test_the_scale_of_the_accuracies_does_not_matter():
    known, new = evidence(20), evidence(5, seed=1)
    means = []
    for scale, shift in ((1.0, 0.0), (0.1, 0.8)):
        model = AccuracyModel()
        model.fit(known, truth(known) * scale + shift)
        means.append((model.predict(new)[0] - shift) / scale)
    assert means[0] == pytest.approx(means[1], abs=1e-3)


def test_a_space_without_a_recipe_is_learnt_too():
    model, known = AccuracyModel(), evidence(20, n_recipe=0)
    model.fit(known, truth(known))
    assert np.corrcoef(model.predict(known)[0], truth(known))[0, 1] > 0.95


def test_known_noise_is_not_learnt_as_signal():
    known = evidence(30)
    noisy = truth(known) + np.random.default_rng(0).normal(scale=0.05, size=30)
    followed, wrong = [], []
    for floor_std in (0.0, 0.05):
        model = AccuracyModel()
        model.fit(known, noisy, floor_std=floor_std)
        mean, _ = model.predict(known)
        followed.append(np.abs(mean - noisy).mean())
        wrong.append(np.abs(mean - truth(known)).mean())
    assert followed[1] > 2 * followed[0]
    assert wrong[1] < 0.8 * wrong[0]


def test_a_broken_student_is_lifted_and_the_good_ones_stay():
    accuracies = np.array([0.1, 0.8, 0.8, 0.9, 0.88, 0.95])
    clipped = winsorise(accuracies, n_first=4)
    assert clipped[1:].tolist() == accuracies[1:].tolist()
    level = np.quantile([0.1, 0.8, 0.8, 0.9], 0.25)
    assert clipped[0] == pytest.approx(max(0.1, level - (0.95 - level)))


def test_many_good_ones_do_not_lift_the_fast_ones():
    accuracies = np.array([0.7, 0.75, 0.8, 0.85, *[0.9] * 40])
    assert winsorise(accuracies, n_first=4).tolist() == accuracies.tolist()


def test_a_broken_student_bends_the_model_less_than_it_would(monkeypatch):
    from autokd.surrogate import ladder

    known, new = evidence(25), evidence(20, seed=1)
    broken = truth(known)
    broken[0] = 0.0

    def error():
        model = Ladder(1)
        model.fit(known, [(accuracy,) for accuracy in broken.tolist()])
        return np.abs(model.predict(new, [()] * 20)[0] - truth(new)).mean()

    lifted = error()
    monkeypatch.setattr(ladder, "winsorise", lambda accuracies, **_: accuracies)
    assert lifted < error()


def test_what_is_bad_early_is_not_believed_to_become_good():
    known = evidence(12)
    low = np.linspace(0.6, 0.8, 12)
    curves = [(a, 0.5 + 0.5 * a) if row > 7 else (a,) for row, a in enumerate(low.tolist())]
    ladder = Ladder(2, n_first=8)
    assert ladder.fit(known, curves)
    mean, _ = ladder.predict(known, [(0.1,)] * 12)
    assert (mean < 0.85).all()


def test_a_fast_one_among_the_first_to_end_is_not_lifted():
    known = evidence(12)
    ends = {2: (0.73, 0.867), 4: (0.76, 0.921), 6: (0.77, 0.920), 8: (0.77, 0.929)}
    curves = [ends.get(row, (0.5 + 0.02 * row,)) for row in range(12)]
    ladder = Ladder(2)
    assert ladder.fit(known, curves)
    mean, _ = ladder.predict(known, curves)
    assert mean[2] == pytest.approx(0.867), "else whatever is as fast seems to beat it for ever"


def test_it_needs_two_candidates_and_must_learn_first():
    with pytest.raises(ValueError, match="must hold two candidates, got 1"):
        AccuracyModel().fit(evidence(1), np.array([0.5]))
    with pytest.raises(ValueError, match="`fit` must be called"):
        AccuracyModel().predict(evidence(1))


def test_a_ladder_trusts_a_rung_that_was_reached():
    known, new = evidence(40), evidence(20, seed=1)
    rng = np.random.default_rng(2)
    hidden = rng.normal(scale=0.05, size=40)  # nothing that is known before training
    low = truth(known) - 0.2 + hidden
    ladder = Ladder(2)
    curves = [(a, a + 0.2) if row % 2 else (a,) for row, a in enumerate(low.tolist())]
    assert ladder.fit(known, curves)
    surprise = np.where(np.arange(20) % 2, 0.05, -0.05)
    reached = [(a,) for a in (truth(new) - 0.2 + surprise).tolist()]
    guessed, unsure = ladder.predict(new, [()] * 20)
    mean, std = ladder.predict(new, reached)
    target = truth(new) + surprise
    assert np.abs(mean - target).mean() < 0.5 * np.abs(guessed - target).mean()
    assert std.mean() < unsure.mean()


def test_a_ladder_needs_two_at_the_lowest_rung():
    assert not Ladder(2).fit(evidence(4), [(), (), (), (0.5, 0.6)])
    with pytest.raises(ValueError, match="`n_rungs` must be at least 1"):
        Ladder(0)


def test_a_ladder_sees_as_far_as_two_have_got():
    ladder = Ladder(4)
    curves = [(0.5,)] * 3 + [(0.5, 0.6), (0.4, 0.7), (0.3, 0.4, 0.8)]
    assert ladder.fit(evidence(6), curves)
    assert ladder.n_known == 2
    mean, std = ladder.predict(evidence(6), curves)
    assert mean[3:].tolist() == [0.6, 0.7, 0.4]  # at that rung, as they were measured
    assert (std[3:] == 0).all()
    assert (std[:3] > 0).all()


def test_traits_are_guessed_from_the_architecture():
    rng = np.random.default_rng(0)
    columns = rng.random((30, 4))
    traits = columns @ rng.normal(size=(4, 2)) + 1.0
    guess = TraitGuess(columns[:25], traits[:25])
    assert guess.predict(columns[25:]) == pytest.approx(traits[25:], abs=0.1)
