"""Which options are only of one command."""

from collections.abc import Mapping
from typing import Literal

from autokd.config.model import Config
from autokd.errors import ConfigError

__all__ = ["DEFAULTS", "STRANGE", "Command", "check_options", "check_student"]

Command = Literal["search", "distill", "federate"]

_OF_ONE_STUDENT = frozenset({"student", "alpha", "temperature", "learning_rate"})
_OF_DISTILL = frozenset({"baseline"})
_OF_FEDERATE = frozenset(
    {
        "site",
        "meeting",
        "public",
        "public_limit",
        "rounds",
        "first_epochs",
        "balanced",
        "n_sites",
        "sites",
        "wait_s",
        "vote",
    }
)
_OF_TEACHERS = frozenset(
    {
        "teacher",
        "teacher_weights",
        "teacher_vote",
        "assistant",
        "teacher_pretrained",
        "teacher_finetune",
        "teacher_image_size",
        "teacher_mean",
        "teacher_std",
        "bank",
        "student_tap",
        "teacher_tap",
        "unlabelled",
        "unlabelled_limit",
    }
)
_OF_SEVERAL_TRAININGS = frozenset({"workers", "seeds", "precision"})

_OF_SEARCH = frozenset(
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

STRANGE: Mapping[Command, frozenset[str]] = {
    "search": _OF_ONE_STUDENT | _OF_DISTILL | _OF_FEDERATE,
    "distill": _OF_SEARCH | _OF_FEDERATE,
    "federate": _OF_SEARCH | _OF_DISTILL | _OF_TEACHERS | _OF_SEVERAL_TRAININGS,
}
"""Options that a command does not have."""

DEFAULTS: Mapping[Command, Mapping[str, object]] = {
    "search": {},
    "distill": {},
    "federate": {"views": 4},  # each is answered by all sites in each round
}
"""What options are at a command where nobody says it, if not what they are elsewhere."""


_ORDER: tuple[Command, ...] = ("distill", "search", "federate")  # whom an error sends one to


def check_options(config: Config, *, command: Command) -> None:
    """Refuses what another command understands and this one would not heed.

    Args:
        config: What the user wants.
        command: That is to heed it.

    Raises:
        ConfigError: An option is of another command.
    """
    for name in sorted(STRANGE[command]):
        default = Config.model_fields[name].get_default(call_default_factory=True)
        value = getattr(config, name)
        if value != default:
            other = next(one for one in _ORDER if name not in STRANGE[one])
            raise ConfigError(
                f"`{name}` must be left to `autokd {other}`, got {value} for `autokd {command}`; "
                "leave it out"
            )


def check_student(config: Config) -> None:
    """Makes sure that there is one student, for one device.

    Args:
        config: What the user wants.

    Raises:
        ConfigError: There is none, or there are several devices.
    """
    if config.student is None:
        raise ConfigError(
            "`--student` must say what is trained, got nothing; pass --student mobile, "
            "timm:NAME or python:FILE.py:FUNCTION"
        )
    if len(config.target) > 1:
        raise ConfigError(
            f"`--target` must be one device for one student, got {', '.join(config.target)}; "
            "`autokd measure` times its files on others"
        )
