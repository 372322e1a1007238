"""Accuracies foreseen, and what to train next; the only room that imports botorch."""

from autokd.surrogate.accuracy_model import AccuracyModel, Evidence, winsorise
from autokd.surrogate.advice import Advice, Identify, Standing
from autokd.surrogate.advisor import Advisor
from autokd.surrogate.encoding import Encoding
from autokd.surrogate.gain import Frontier, build_frontier, entry_probability, expected_gain
from autokd.surrogate.ladder import Ladder
from autokd.surrogate.noise import Noise
from autokd.surrogate.observation import Observation
from autokd.surrogate.precedent import Lesson, Precedent
from autokd.surrogate.proposals import propose
from autokd.surrogate.prospects import Prospects
from autokd.surrogate.thinning import best_layers, choose_lessons
from autokd.surrogate.traits import TraitGuess
from autokd.surrogate.trend import Trend

__all__ = [
    "AccuracyModel",
    "Advice",
    "Advisor",
    "Encoding",
    "Evidence",
    "Frontier",
    "Identify",
    "Ladder",
    "Lesson",
    "Noise",
    "Observation",
    "Precedent",
    "Prospects",
    "Standing",
    "TraitGuess",
    "Trend",
    "best_layers",
    "build_frontier",
    "choose_lessons",
    "entry_probability",
    "expected_gain",
    "propose",
    "winsorise",
]
