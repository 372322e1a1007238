"""A configuration as the command that gives it."""

import shlex

from autokd.config.commands import DEFAULTS, STRANGE, Command
from autokd.config.model import Config

__all__ = ["write_command"]

_OF_THE_MACHINE = frozenset(
    {
        "runs_dir",
        "tracking_uri",
        "storage",
        "workers",
        "remote",
        "ray",
        "cpus_per_trial",
        "gpus_per_trial",
        "checkpoints_gb",
        "timeout_s",
        "meeting",
        "wait_s",
    }
)
"""Where and how fast, but not what; addresses may hold passwords."""


def write_command(config: Config) -> str:
    """The command line of a study, without what is only of the machine that it ran on.

    Args:
        config: Of a search, of a site or, where it names a student, of a distillation.

    Returns:
        `autokd search ...` or another command, ready for a shell.
    """
    is_alone = config.student is not None and not config.is_federated
    command: Command = "federate" if config.is_federated else "distill" if is_alone else "search"
    words = ["autokd", command, "--study", config.study_name]
    for name, field in Config.model_fields.items():
        value = getattr(config, name)
        default = DEFAULTS[command].get(name, field.get_default(call_default_factory=True))
        is_said = value != default or (is_alone and name == "seeds")
        if is_said and name != "study" and name not in STRANGE[command] | _OF_THE_MACHINE:
            words += _write_option(name, value)
    if config.is_federated:
        words += ["--meeting", "MEETING"]  # another folder at each site, and a new one again
    return shlex.join(words)


def _write_option(name: str, value: object) -> list[str]:
    flag = f"--{name.replace('_', '-').removesuffix('-s')}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, dict):
        pairs = [(flag, f"{key}={text}") for key, text in sorted(value.items())]
        return [word for pair in pairs for word in pair]
    if name in ("teacher_mean", "teacher_std", "sites") and isinstance(value, tuple):
        return [flag, ",".join(map(str, value))]
    if isinstance(value, tuple):
        return [word for one in value for word in (flag, str(one))]
    return [flag, str(value)]
