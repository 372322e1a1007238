"""Latencies of any ONNX file, outside of a study."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from autokd.errors import ConfigError, MeasureError
from autokd.latency import (
    FINAL,
    Comparison,
    StopwatchTarget,
    TargetOptions,
    compare_latencies,
    input_sides,
    load_network,
    network_key,
    open_target,
)
from autokd.study.stillness import still
from autokd.types import Latency

__all__ = ["check_target", "compare", "measure", "measure_all"]

_SECONDS = FINAL.most_s * FINAL.n_processes
_TIMEOUT_S = TargetOptions().timeout_s


def measure(  # noqa: PLR0913 - all that a measurement may be told
    model: Path | str,
    *,
    target: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    shape: Sequence[int] = (),
    seconds: float = _SECONDS,
    timeout_s: float = _TIMEOUT_S,
    runs_dir: Path = Path("mlruns"),
) -> Latency:
    """The latency of a network on a target, as surely as for a finalist of a study.

    Args:
        model: An ONNX file; its inputs have the batch as their first dimension.
        target: As `autokd search --target` takes it.
        threads: Of the runtime.
        batch: Pictures per run.
        shape: Of one picture, for a network that leaves it open.
        seconds: That it is timed for at the most, warm-up not counted; quiet moments are waited
            for as long again. Not heeded by a command.
        timeout_s: That a command may take.
        runs_dir: Where studies lie; if it is there, the latency is of the same scale as theirs.

    Returns:
        Time and interval; a warning is logged where the machine is too noisy to know it well.
    """
    return measure_all(
        [Path(model)],
        target=target,
        threads=threads,
        batch=batch,
        shape=shape,
        seconds=seconds,
        timeout_s=timeout_s,
        runs_dir=runs_dir,
    )[0]


def check_target(
    target: str, *, threads: int = 1, batch: int = 1, shape: Sequence[int] = ()
) -> None:
    """Refuses a target that is not here, before anything is timed on others.

    Args:
        target: As for `measure`.
        threads: As for `measure`.
        batch: As for `measure`.
        shape: As for `measure`.
    """
    open_target(target, TargetOptions(threads=threads, batch=batch, shape=tuple(shape)))


def measure_all(  # noqa: PLR0913 - all that a measurement may be told
    models: Sequence[Path],
    *,
    target: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    shape: Sequence[int] = (),
    seconds: float = _SECONDS,
    timeout_s: float = _TIMEOUT_S,
    runs_dir: Path = Path("mlruns"),
) -> list[Latency]:
    """The latencies of several networks, which take turns.

    Args:
        models: As for `measure`.
        target: As for `measure`.
        threads: Of the runtime.
        batch: Pictures per run.
        shape: Of one picture, for networks that leave it open.
        seconds: As for `measure`, for each.
        timeout_s: As for `measure`.
        runs_dir: As for `measure`.

    Returns:
        One for each.
    """
    _check(models, shape=shape)
    options = _options(
        threads=threads,
        batch=batch,
        shape=shape,
        seconds=seconds,
        timeout_s=timeout_s,
        runs_dir=runs_dir,
    )
    return open_target(target, options).measure_together(models)


def compare(  # noqa: PLR0913 - all that a measurement may be told
    one: Path | str,
    other: Path | str,
    *,
    target: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    shape: Sequence[int] = (),
    seconds: float = _SECONDS,
    timeout_s: float = _TIMEOUT_S,
    runs_dir: Path = Path("mlruns"),
) -> Comparison:
    """Which of two networks is faster on a target, by how much, and how sure that is.

    Args:
        one: As for `measure`.
        other: As for `measure`; both take turns.
        target: As for `measure`.
        threads: Of the runtime.
        batch: Pictures per run.
        shape: Of one picture, for a network that leaves it open.
        seconds: As for `measure`, for each.
        timeout_s: As for `measure`.
        runs_dir: As for `measure`.

    Returns:
        The ratio of the times with its interval, and both latencies.
    """
    models = Path(one), Path(other)
    _check(models, shape=shape)
    options = _options(
        threads=threads,
        batch=batch,
        shape=shape,
        seconds=seconds,
        timeout_s=timeout_s,
        runs_dir=runs_dir,
    )
    device = open_target(target, options)
    if isinstance(device, StopwatchTarget):
        return device.compare(*models)
    return compare_latencies(*device.measure_together(models))


def _options(
    *,
    threads: int,
    batch: int,
    shape: Sequence[int],
    seconds: float,
    timeout_s: float,
    runs_dir: Path,
) -> TargetOptions:
    most_s = seconds / FINAL.n_processes
    form = dataclasses.replace(
        FINAL,
        most_s=most_s,
        least_s=min(FINAL.least_s, most_s),
        patience_s=min(FINAL.patience_s, most_s),
    )
    return TargetOptions(
        threads=threads,
        batch=batch,
        shape=tuple(shape),
        form=form,
        timeout_s=timeout_s,
        quiet=still,
        home=runs_dir / "latency" if runs_dir.is_dir() else None,
    )


def _check(models: Sequence[Path], *, shape: Sequence[int]) -> None:
    """Holds a request to ONNX files.

    Args:
        models: What the user named.
        shape: Of one picture; empty if nobody said.

    Raises:
        ConfigError: One of them is none, or has no side that the shape could fill.
    """
    for model in models:
        if not model.is_file():
            what = "a folder" if model.is_dir() else "which is not there"
            raise ConfigError(f"`MODEL` must be an ONNX file, got {model}, {what}")
        try:
            network_key(model)
        except MeasureError as error:
            told = str(error).removeprefix(f"{model.name} must be an ONNX file, got ")
            raise ConfigError(f"`MODEL` must be an ONNX file, got {model}: {told}") from error
        if shape:
            _check_shape(model, shape)


def _check_shape(model: Path, shape: Sequence[int]) -> None:
    """Holds a shape to what a network leaves open.

    Raises:
        ConfigError: It would fill nothing, or contradicts a side that is fixed.
    """
    inputs = [sides[1:] for sides in input_sides(load_network(model))]  # without the batch
    unfilled = [sides for sides in inputs if None in sides]
    if not unfilled and tuple(shape) not in inputs:
        raise ConfigError(
            f"`--shape` must be left out where a network says its own, got {_join(shape)} for "
            f"{model}, which takes {' and '.join(map(_join, inputs))}"
        )
    for sides in unfilled:
        if not _fits(shape, sides):
            raise ConfigError(
                f"`--shape` must fit the sides that {model} has, "
                f"{_join(side or '?' for side in sides)}, got {_join(shape)}"
            )


def _fits(shape: Sequence[int], sides: Sequence[int | None]) -> bool:
    """Whether a shape says of each side what the network says of it, if it says something."""
    return len(shape) == len(sides) and all(
        side in (None, given) for given, side in zip(shape, sides, strict=True)
    )


def _join(sides: Iterable[object]) -> str:
    return ",".join(map(str, sides))
