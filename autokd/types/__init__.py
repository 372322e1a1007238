"""The frozen values that flow through autokd, and the seams between its rooms.

`Config → Space → Sample → student → TrialResult → Front → artefact`: each arrow is one of
these values, and each can be written as JSON and read back (`dump_json`, `load_json`). No
framework is imported here.
"""

from autokd.types.devices import is_same_device
from autokd.types.events import (
    EpochEnded,
    Event,
    StudyClosed,
    StudyOpened,
    TrialEnded,
    TrialInterrupted,
    TrialResumed,
    TrialStarted,
)
from autokd.types.packages import ONNXRUNTIMES, pin_packages
from autokd.types.points import (
    RECIPE_PRIORS,
    SMALLEST_SCALE,
    Dimension,
    FeatureLoss,
    InputShape,
    Loss,
    Precision,
    Recipe,
    Resizing,
    Room,
    Sample,
    Scalar,
    Schedule,
    TaughtBy,
    TemperatureSchedule,
)
from autokd.types.results import (
    DataCard,
    EpochLog,
    Estimate,
    Footprint,
    Front,
    FrontStudent,
    Latency,
    Prospect,
    TeacherCard,
    TrialResult,
    TrialState,
)
from autokd.types.seams import Surveyor, Target, Tracker
from autokd.types.wire import dump_json, front_as_dict, load_json

__all__ = [
    "ONNXRUNTIMES",
    "RECIPE_PRIORS",
    "SMALLEST_SCALE",
    "DataCard",
    "Dimension",
    "EpochEnded",
    "EpochLog",
    "Estimate",
    "Event",
    "FeatureLoss",
    "Footprint",
    "Front",
    "FrontStudent",
    "InputShape",
    "Latency",
    "Loss",
    "Precision",
    "Prospect",
    "Recipe",
    "Resizing",
    "Room",
    "Sample",
    "Scalar",
    "Schedule",
    "StudyClosed",
    "StudyOpened",
    "Surveyor",
    "Target",
    "TaughtBy",
    "TeacherCard",
    "TemperatureSchedule",
    "Tracker",
    "TrialEnded",
    "TrialInterrupted",
    "TrialResult",
    "TrialResumed",
    "TrialStarted",
    "TrialState",
    "dump_json",
    "front_as_dict",
    "is_same_device",
    "load_json",
    "pin_packages",
]
