"""What MLflow is told of a trial."""

import pytest

from autokd.trackers.entries import result_metrics, result_params, result_tags
from autokd.types import Recipe, TrialResult


@pytest.mark.parametrize(
    ("whom", "share", "tag", "metric"),
    [(3, 0.5, "3", 0.5), (0, 0.0, "0", 0.0), (None, None, None, None)],
)
def test_of_whom_a_student_inherits_and_how_much_is_told(whom, share, tag, metric):
    result = TrialResult(
        trial=7, state="complete", sample={}, inherited_from=whom, inherited_share=share
    )
    assert result_tags(result).get("autokd.inherited_from") == tag
    assert result_metrics(result).get("inherited_share") == metric


@pytest.mark.parametrize("sampled", ["mixed", "exact"])
@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (Recipe(mix="cutmix", mix_targets="exact", feature_loss="crd"), "exact"),
        (Recipe(mix="none"), None),
    ],
)
def test_the_parameter_says_how_mixtures_were_asked_about(recipe, told, sampled):
    result = TrialResult(
        trial=7, state="complete", sample={"mix_targets": sampled}, recipe=recipe, answers="live"
    )
    assert result_params(result)["mix_targets"] == (told or sampled)
    assert result_tags(result)["autokd.answers"] == "live"
