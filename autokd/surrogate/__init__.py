"""Accuracies foreseen, and what to train next; the only room that imports botorch."""

from autokd.surrogate.accuracy_model import AccuracyModel, Evidence, winsorise
from autokd.surrogate.advisor import Advice, Advisor, Identify, Standing
from autokd.surrogate.encoding import Encoding
from autokd.surrogate.gain import Frontier, build_frontier, entry_probability, expected_gain
from autokd.surrogate.ladder import Ladder
from autokd.surrogate.noise import Noise
from autokd.surrogate.observation import Observation
from autokd.surrogate.precedent import Lesson, Precedent
from autokd.surrogate.proposals import propose
from autokd.surrogate.prospects import Prospects
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
    "build_frontier",
    "entry_probability",
    "expected_gain",
    "propose",
    "winsorise",
]
