"""Accuracies foreseen, and what to train next; the only room that imports botorch."""

from autokd.surrogate.accuracy_model import AccuracyModel, Evidence, winsorise
from autokd.surrogate.advisor import Advice, Advisor, Identify, Standing
from autokd.surrogate.encoding import Encoding
from autokd.surrogate.gain import Frontier, build_frontier, entry_probability, expected_gain
from autokd.surrogate.ladder import Ladder
from autokd.surrogate.observation import Observation
from autokd.surrogate.proposals import propose
from autokd.surrogate.prospects import Prospects
from autokd.surrogate.thinning import best_layers, choose_lessons
from autokd.surrogate.traits import TraitGuess

__all__ = [
    "AccuracyModel",
    "Advice",
    "Advisor",
    "Encoding",
    "Evidence",
    "Frontier",
    "Identify",
    "Ladder",
    "Observation",
    "Prospects",
    "Standing",
    "TraitGuess",
    "best_layers",
    "build_frontier",
    "choose_lessons",
    "entry_probability",
    "expected_gain",
    "propose",
    "winsorise",
]
