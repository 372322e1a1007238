"""The space that a study searches: architecture and recipe, less what the user holds fast."""

from collections.abc import Generator
from contextlib import contextmanager

from autokd.candidate import check_calibration
from autokd.config import Config
from autokd.errors import ConfigError, SpaceError
from autokd.spaces import Space, build_space, parse_student, pin_student
from autokd.types import DataCard

__all__ = ["build_joint_space", "without_assistant"]


def build_joint_space(config: Config, data: DataCard, *, has_assistant: bool) -> Space:
    """The joint space with what `--loss`, `--fix` and `--student` hold fast in it.

    Args:
        config: What is searched.
        data: Shape and classes.
        has_assistant: Whether a sample says who teaches.

    Returns:
        The space; a `DataError` says that there are too few pictures for INT8.
    """
    student = None if config.student is None else parse_student(config.student)
    with _naming("--space" if student is None else "--student"):
        space = build_space(
            config.space if student is None else student.space,
            recipe=config.recipe,
            input_shape=data.shape,
            n_classes=data.n_classes,
            overrides=config.recipe_fields,
            has_assistant=has_assistant,
            precision=config.precision,
        )
    if student is not None:
        pin_student(space, student.values)
    space.pin(config.fix)
    if "int8" in space.values_of("precision"):
        check_calibration(data)
    return space


@contextmanager
def _naming(option: str) -> Generator[None]:
    """Lets errors about a space name the option that it was asked for with.

    Args:
        option: What the user typed.

    Yields:
        Nothing.

    Raises:
        SpaceError: What was raised within, about `option`.
    """
    try:
        yield
    except SpaceError as error:
        raise SpaceError(str(error).replace("`--space", f"`{option}")) from error


def without_assistant(config: Config) -> Config:
    """The configuration where `--assistant auto` found none needed.

    Args:
        config: With an assistant.

    Returns:
        It, with nothing held fast that only a study with an assistant has.

    Raises:
        ConfigError: `--fix` wants one.
    """
    fix = dict(config.fix)
    if fix.pop("taught_by", "teacher") != "teacher":
        raise ConfigError(
            f"`--fix taught_by` must be teacher where `--assistant auto` makes none, got "
            f"{config.fix['taught_by']}; name an assistant: --assistant timm:NAME"
        )
    return config.model_copy(update={"fix": fix})
