"""Which options are only of one command."""

from typing import Literal

from autokd.config.model import Config
from autokd.errors import ConfigError

__all__ = ["OF_DISTILL", "OF_SEARCH", "check_options"]

OF_DISTILL = frozenset({"student", "alpha", "temperature", "learning_rate", "baseline"})
"""Options that only `autokd distill` has."""

OF_SEARCH = frozenset(
    {
        "space",
        "budget",
        "timeout_s",
        "sampler",
        "learn_from",
        "max_latency_ms",
        "min_accuracy",
        "storage",
        "remote",
        "ray",
        "cpus_per_trial",
        "gpus_per_trial",
        "rungs",
        "warm_start",
        "checkpoints_gb",
        "refit",
        "refit_epochs",
    }
)
"""Options that only `autokd search` has."""


def check_options(config: Config, *, command: Literal["search", "distill"]) -> None:
    """Refuses what the other command understands and this one would not heed.

    Args:
        config: What the user wants.
        command: That is to heed it.

    Raises:
        ConfigError: An option is of the other command.
    """
    other, strange = ("distill", OF_DISTILL) if command == "search" else ("search", OF_SEARCH)
    for name in sorted(strange):
        default = Config.model_fields[name].get_default(call_default_factory=True)
        value = getattr(config, name)
        if value != default:
            raise ConfigError(
                f"`{name}` must be left to `autokd {other}`, got {value} for `autokd {command}`; "
                "leave it out"
            )
