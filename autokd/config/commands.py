"""Which options are only of one command."""

from collections.abc import Mapping
from typing import Literal

from autokd.config.model import Config
from autokd.errors import ConfigError

__all__ = ["DEFAULTS", "STRANGE", "Command", "check_options", "check_student", "find_command"]

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

STRANGE: Mapping[str, frozenset[str]] = {
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


_BESIDE = {"unlabelled_limit": "unlabelled", "cpus_per_trial": "ray", "gpus_per_trial": "ray"}
"""What is heeded only where another option is given."""


def find_command(name: str, *, command: str) -> str:
    """The command whose help tells of an option: this one, unless it does not have it."""
    if name not in STRANGE.get(command, ()):
        return command
    return next(one for one in _ORDER if name not in STRANGE[one])


def check_options(config: Config, *, command: Command, is_known: bool = False) -> None:
    """Refuses what another command understands and this one would not heed.

    Args:
        config: What the user wants.
        command: That is to heed it.
        is_known: Whether it is of a study that goes on, which keeps to its settings: what was of
            no effect in them before stays so.

    Raises:
        ConfigError: An option is of another command.
    """
    for name in sorted(STRANGE[command]):
        if _is_said(config, name):
            value, other = getattr(config, name), find_command(name, command=command)
            raise ConfigError(
                f"`{name}` must be left to `autokd {other}`, got {value} for `autokd {command}`; "
                "leave it out"
            )
    if not is_known:
        _check_beside(config)


def _check_beside(config: Config) -> None:
    """Refuses what nobody would look at.

    Args:
        config: What the user wants.

    Raises:
        ConfigError: An option needs another one that is not there.
    """
    for name, other in _BESIDE.items():
        if _is_said(config, name) and not _is_said(config, other):
            raise ConfigError(
                f"`--{name.replace('_', '-')}` must go with `--{other}`, got "
                f"{getattr(config, name)} without it; pass --{other} or leave it out"
            )
    if config.latency_table is None or config.target:
        return
    for name in ("latency_threads", "latency_batch"):
        if _is_said(config, name):
            raise ConfigError(
                f"`--{name.replace('_', '-')}` must go with a `--target` that measures, got "
                f"{getattr(config, name)} with `--latency-table` alone; name the table's device "
                "by --target or leave it out"
            )


def _is_said(config: Config, name: str) -> bool:
    """Whether an option is other than where nobody says it."""
    return getattr(config, name) != Config.model_fields[name].get_default(call_default_factory=True)


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
