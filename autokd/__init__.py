"""Search, distil and measure: the Pareto-best students of a trained network.

The public names are loaded on first use, so that `import autokd` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autokd.config import Config, TowerConfig, build_config, build_tower_config
    from autokd.study import (
        AlignedTowers,
        AutoSampler,
        Distilled,
        Federated,
        compare,
        distill,
        distill_clip,
        explain,
        export,
        export_all,
        federate,
        load_front,
        measure,
        search,
        work,
    )
    from autokd.surrogate import Advice
    from autokd.types import Dimension, Front, FrontStudent, Prospect, Surveyor

__all__ = [
    "Advice",
    "AlignedTowers",
    "AutoSampler",
    "Config",
    "Dimension",
    "Distilled",
    "Federated",
    "Front",
    "FrontStudent",
    "Prospect",
    "Surveyor",
    "TowerConfig",
    "__version__",
    "build_config",
    "build_tower_config",
    "compare",
    "distill",
    "distill_clip",
    "explain",
    "export",
    "export_all",
    "federate",
    "load_front",
    "measure",
    "search",
    "work",
]

__version__ = "0.1.0"

_HOMES = {
    "Advice": "autokd.surrogate",
    "AutoSampler": "autokd.study",
    "Dimension": "autokd.types",
    "Prospect": "autokd.types",
    "Surveyor": "autokd.types",
    "AlignedTowers": "autokd.study",
    "TowerConfig": "autokd.config",
    "build_tower_config": "autokd.config",
    "distill_clip": "autokd.study",
    "Config": "autokd.config",
    "Distilled": "autokd.study",
    "Federated": "autokd.study",
    "Front": "autokd.types",
    "FrontStudent": "autokd.types",
    "build_config": "autokd.config",
    "distill": "autokd.study",
    "explain": "autokd.study",
    "compare": "autokd.study",
    "export": "autokd.study",
    "export_all": "autokd.study",
    "federate": "autokd.study",
    "load_front": "autokd.study",
    "measure": "autokd.study",
    "search": "autokd.study",
    "work": "autokd.study",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute is anything
    if name not in _HOMES:
        raise AttributeError(f"module 'autokd' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
