"""How long a trial trains, in what batches and where."""

import torch

from autokd.config import Config, TowerConfig
from autokd.data import SearchData
from autokd.distillation import Plan
from autokd.errors import ConfigError

__all__ = ["build_plan", "choose_device"]

_STEPS = 180  # of one trial, about, where the user names no epochs: five epochs of digits
_MIN_EPOCHS, _MAX_EPOCHS = 3, 30


def choose_device(config: Config | TowerConfig, *, is_looking: bool = False) -> torch.device:
    """Where students are trained, or looked at afterwards.

    Args:
        config: What the user wants.
        is_looking: Whether the study is over, and may have been made on another machine.

    Returns:
        A GPU if there is one, unless the user says otherwise.

    Raises:
        ConfigError: The device that is wanted is not there.
    """
    if config.device == "cuda" and not is_looking and not torch.cuda.is_available():
        raise ConfigError("`--device` must be there, got cuda; pass --device cpu")
    is_cuda = config.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if is_cuda else "cpu")


def build_plan(config: Config, *, data: SearchData, device: torch.device) -> Plan:
    """Batch and epochs from the number of pictures, where the user names none.

    Args:
        config: What the user wants.
        data: What is learnt from.
        device: Where.

    Returns:
        The plan of one trial.
    """
    n_train = data.card.n_train
    batch_size = config.batch_size or (32 if n_train < 5000 else 64 if n_train < 20_000 else 128)
    steps = max(1, n_train // batch_size)
    epochs = config.epochs or min(_MAX_EPOCHS, max(_MIN_EPOCHS, round(_STEPS / steps)))
    return Plan(epochs=epochs, batch_size=batch_size, seed=config.seed, device=device)
