"""`autokd measure`."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from autokd.cli.root import AS_JSON, RUNS_DIR, cli
from autokd.errors import ConfigError

__all__ = ["measure_command"]

_LONGEST_S = 1e6  # eleven days


def _refuse_nan(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which is in every range
        raise click.BadParameter("nan is no number of seconds")
    return value


@cli.command("measure")
@click.argument(
    "models", nargs=-1, required=True, metavar="MODEL...", type=click.Path(path_type=Path)
)
@click.option("--compare", "is_compared", is_flag=True, help="Say which of two is faster.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    default=("onnxruntime",),
    show_default=True,
    help="As for `autokd search`; may be repeated.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--shape", metavar="C,H,W", help="Of one picture, where the network leaves it open.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True, max=_LONGEST_S),
    callback=_refuse_nan,
    default=9.0,
    show_default=True,
    help="That a network is timed for at the most; quiet moments are waited for as long again.",
)
@click.option(
    "--latency-timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True, max=_LONGEST_S),
    callback=_refuse_nan,
    default=120.0,
    show_default=True,
    help="Seconds that a `command:` may take.",
)
@RUNS_DIR
@AS_JSON
def measure_command(
    models: Sequence[Path],
    *,
    is_compared: bool,
    targets: Sequence[str],
    shape: str | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - click's values
) -> None:
    """Time ONNX files: any network, as it is deployed.

    Several take turns, so that their latencies compare. Of a target that torch runs, the program
    MODEL.pt2 beside MODEL.onnx is timed.
    """
    from autokd.study.measuring import check_target

    options["shape"] = _read_shape(shape)
    for target in targets[1:]:  # before the first one has taken its time
        check_target(target, **{name: options[name] for name in ("threads", "batch", "shape")})
    ask = _compare if is_compared else _measure
    told: list[dict[str, Any]] = []
    try:
        for target in targets:
            values, lines = ask(models, target=target, options=options)
            told.append(values)
            for line in () if as_json else lines:
                click.echo(line)
    finally:  # what was measured before a target has failed
        if as_json and told:
            click.echo(json.dumps({"targets": told}))


def _measure(
    models: Sequence[Path], *, target: str, options: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    from autokd.study.measuring import measure_all

    latencies = measure_all(models, target=target, **options)
    named = zip(models, latencies, strict=True)
    values = {"target": target, "latencies": [_as_values(*one) for one in named]}
    return values, _describe(models, latencies, target=target)


def _compare(
    models: Sequence[Path], *, target: str, options: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    from autokd.latency import tell_apart
    from autokd.study import compare

    if len(models) != 2:
        raise ConfigError(f"`--compare` must have two models, got {len(models)}")
    found = compare(*models, target=target, **options)
    latencies = (found.one, found.other)
    named = zip(models, latencies, strict=True)
    first = 0 if found.ratio <= 1 else 1
    faster, slower = tell_apart([models[first], models[1 - first]])
    values = {
        "target": target,
        "latencies": [_as_values(*one) for one in named],
        "faster": str(models[first]),
        "ratio": found.ratio,
        "ratio_ci95": found.ratio_ci95,
        "probability": found.probability,
        "is_sure": found.is_sure,
    }
    times = sorted((found.ratio, 1 / found.ratio))[1]
    low, high = sorted(
        found.ratio_ci95 if found.ratio > 1 else (1 / end for end in found.ratio_ci95)
    )
    verdict = (
        f"{faster} is {times:.3f} times as fast as {slower} "
        f"(95 %: {low:.3f} to {high:.3f}), with a probability of {found.probability:.1%}"
    )
    if not found.is_sure:
        verdict += "; they cannot be told apart"
    return values, [*_describe(models, latencies, target=target), verdict]


def _as_values(model: Path, latency: Any) -> dict[str, Any]:  # noqa: ANN401 - imported late
    from autokd.latency import network_key

    return {
        "model": str(model),
        "network": network_key(model),
        **dataclasses.asdict(latency),
        "precision": latency.precision,
        "is_noisy": _is_noisy(latency),
    }


def _describe(models: Sequence[Path], latencies: Sequence[Any], *, target: str) -> list[str]:
    """Each latency in a line."""
    from autokd.latency import tell_apart

    return [
        f"{name}  {latency.median_ms:.4g} ms ± {latency.precision:.1%} "
        f"({latency.ci95_low_ms:.4g} to {latency.ci95_high_ms:.4g})  "
        f"{target} ({latency.runtime}), threads {latency.threads}, batch {latency.batch}, "
        f"{latency.n_runs} runs{'; the machine is too noisy' if _is_noisy(latency) else ''}"
        for name, latency in zip(tell_apart(models), latencies, strict=True)
    ]


def _is_noisy(latency: Any) -> bool:  # noqa: ANN401 - imported late
    """Whether it is known less well than was asked for."""
    from autokd.latency import FINAL

    return latency.precision > FINAL.precision


def _read_shape(text: str | None) -> tuple[int, ...]:
    sides = [] if text is None else text.split(",")
    if not all(side.strip().isdecimal() and int(side) for side in sides):
        raise ConfigError(f"`--shape` must be C,H,W such as 3,224,224, got {text}")
    return tuple(map(int, sides))
