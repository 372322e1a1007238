"""Recipe files in NNI's search-space schema become NNI mutables."""

import dataclasses
import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from autokd.errors import SpaceError
from autokd.spaces.dimensions import build_dimension, has_default, parse_value
from autokd.spaces.nni_api import Categorical, Numerical
from autokd.types import Precision, Recipe, Resizing, TaughtBy, TemperatureSchedule

__all__ = [
    "load_recipe",
    "settle_precision",
    "settle_resizing",
    "settle_standardised",
    "settle_teachers",
    "validate_recipe",
]

_RECIPES = TypeAdapter(Recipe)  # built once: that takes a thousand times as long as a recipe

_TYPES = get_type_hints(Recipe)
_BOUNDS = {
    "alpha": (0, 1),
    "alpha_end": (0, 1),
    "temperature": (0.05, 1000),
    "temperature_end": (0.05, 1000),
    "dkd_beta": (0, 1000),
    "teacher_confidence": (0, 0.999),
    "feature_weight": (0, 1000),
    "feature_weight_end": (0, 1000),
    "exits": (0, 3),
    "generations": (1, 5),
    "magnitude": (0, 30),
    "mix_alpha": (1e-3, 100),
    "label_smoothing": (0, 0.999),
    "learning_rate": (1e-9, 100),
    "weight_decay": (0, 10),
}
_LARGE_SIDE = 64  # pixels
_ON_LOGITS = ("loss", "is_standardised", "is_adaptive", "dkd_beta", "teacher_confidence")
_ON_FEATURES = ("feature_loss", "feature_weight", "feature_weight_end", "feature_schedule")


def _randint(low: float, high: float, *, label: str) -> Numerical:
    return Numerical(int(low), int(high) - 1, quantize=1, label=label)


def _normal(
    mu: float, sigma: float, q: float | None = None, *, label: str, low: float, high: float
) -> Numerical:
    return Numerical(low, high, mu=mu, sigma=sigma, quantize=q, label=label)


def _lognormal(
    mu: float, sigma: float, q: float | None = None, *, label: str, low: float, high: float
) -> Numerical:
    return Numerical(low, high, mu=mu, sigma=sigma, quantize=q, log_distributed=True, label=label)


def _uniform(low: float, high: float, q: float | None = None, *, label: str) -> Numerical:
    return Numerical(low, high, quantize=q, label=label)


def _loguniform(low: float, high: float, q: float | None = None, *, label: str) -> Numerical:
    return Numerical(low, high, quantize=q, log_distributed=True, label=label)


_KINDS: Mapping[str, tuple[Callable[..., Numerical], int]] = {
    "randint": (_randint, 2),
    "uniform": (_uniform, 2),
    "quniform": (_uniform, 3),
    "loguniform": (_loguniform, 2),
    "qloguniform": (_loguniform, 3),
    "normal": (_normal, 2),
    "qnormal": (_normal, 3),
    "lognormal": (_lognormal, 2),
    "qlognormal": (_lognormal, 3),
}


def load_recipe(path: Path) -> dict[str, Any]:
    """The recipe of a YAML or JSON file.

    Args:
        path: A mapping of a field of `Recipe` to NNI's `{_type, _value}`, or to a plain value.
            Beside NNI's keys, `_default` may say which value one student gets.

    Returns:
        Field to NNI mutable, or to the plain value.

    Raises:
        SpaceError: The file cannot be read or something in it is wrong; one line per fault.

    References:
        The schema: NNI's documentation, "Search Space".
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"`--recipe` must be a readable file, got {path}: {error}") from error
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        line = " ".join(str(error).split())
        raise SpaceError(f"`--recipe` must be YAML or JSON, got {path}: {line}") from error
    if not isinstance(values, dict) or not values:
        raise SpaceError(f"{path}: a recipe must be a mapping of dimensions, got {values!r}")
    fields, faults = {}, []
    for name, entry in values.items():
        try:
            fields[str(name)] = _build_field(str(name), entry)
        except SpaceError as error:
            faults.append(f"{path}: {error}")
    if faults:
        raise SpaceError("\n".join(faults))
    return fields


def settle_teachers(fields: Mapping[str, Any], *, has_assistant: bool) -> dict[str, Any]:
    """The fields of a recipe with a `taught_by` that can be served.

    Args:
        fields: As `load_recipe` gives them.
        has_assistant: Whether there is an assistant; who teaches is then searched, unless the
            recipe says it, and one student learns from the assistant.

    Returns:
        Field to NNI mutable, or to the plain value.

    Raises:
        SpaceError: The recipe asks for an assistant, and there is none.
    """
    asked = fields.get("taught_by")
    if has_assistant:
        chosen = (
            Categorical(list(get_args(TaughtBy)), label="taught_by") if asked is None else asked
        )
        is_open = isinstance(chosen, Categorical) and "assistant" in chosen.values
        if is_open and not has_default(chosen):
            chosen = Categorical(list(chosen.values), default="assistant", label="taught_by")
        return {**fields, "taught_by": chosen}
    choices = asked.values if isinstance(asked, Categorical) else [asked]
    for choice in choices:
        if choice not in (None, "teacher"):
            raise SpaceError(
                f"`taught_by` must be teacher where there is no assistant, got {choice}; "
                "pass --assistant timm:NAME, torchvision:NAME, file:PATH or python:module:function"
            )
    return dict(fields)


def settle_precision(fields: Mapping[str, Any], *, asked: str | None) -> dict[str, Any]:
    """The fields of a recipe with the precision that is asked for.

    Args:
        fields: As `load_recipe` gives them.
        asked: `--precision`: fp32, int8, or both, which is then searched; if none, what the
            recipe says.

    Returns:
        Field to NNI mutable, or to the plain value.
    """
    if asked is None:
        return dict(fields)
    is_open = asked == "both"
    chosen = Categorical(list(get_args(Precision)), label="precision") if is_open else asked
    return {**fields, "precision": chosen}


def settle_resizing(
    fields: Mapping[str, Any], *, side: int, takes_smaller: Callable[[], bool]
) -> dict[str, Any]:
    """The fields of a recipe with a `resizing` that fits the pictures.

    Args:
        fields: As `load_recipe` gives them, with what overrides them.
        side: The shorter one of the pictures, in pixels. From 64 on, progressive resizing is
            searched unless the recipe says it; below, there is little to be saved.
        takes_smaller: Whether students run on smaller pictures too, which need not be asked
            otherwise.

    Returns:
        Field to NNI mutable, or to the plain value.
    """
    if "resizing" in fields:
        return dict(fields)
    if side < _LARGE_SIDE or not takes_smaller():
        return {**fields, "resizing": "none"}
    return {**fields, "resizing": Categorical(list(get_args(Resizing)), label="resizing")}


def settle_standardised(fields: Mapping[str, Any], *, n_classes: int) -> dict[str, Any]:
    """The fields of a recipe without standardised logits where these say nothing.

    Of two classes they are always +0.7 and -0.7, whatever the teacher thinks: only which is the
    larger one is left, and no gradient.

    Args:
        fields: As `load_recipe` gives them, with what overrides them.
        n_classes: Of the data.

    Returns:
        Field to NNI mutable, or to the plain value.

    Raises:
        SpaceError: The recipe asks for nothing else.
    """
    asked = fields.get("is_standardised", False)
    choices = asked.values if isinstance(asked, Categorical) else [asked]
    if n_classes > 2 or True not in choices:
        return dict(fields)
    if False not in choices:
        raise SpaceError(
            f"`is_standardised` must be false with {n_classes} classes, whose standardised logits "
            "are the same for every picture, got true; leave `standardised` out of `--loss`"
        )
    return {**fields, "is_standardised": False}


def validate_recipe(values: Mapping[str, Any]) -> Recipe:
    """The frozen recipe of concrete values.

    Args:
        values: Field to value; numbers as NNI gives them.

    Returns:
        The recipe, fields that do not matter set to their defaults, so that two recipes that
        do the same are equal.

    Raises:
        SpaceError: A value has the wrong type.
    """
    try:
        recipe = _RECIPES.validate_python(dict(values))
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"]))
        raise SpaceError(f"`{name}`: {fault['msg']}, got {fault['input']!r}") from error
    return _normalise(recipe)


def _normalise(recipe: Recipe) -> Recipe:
    plain = Recipe()
    if recipe.loss == "cross_entropy":
        off: dict[str, Any] = {"alpha": 0.0, "alpha_schedule": "constant", "feature_loss": "none"}
        recipe = dataclasses.replace(recipe, loss=plain.loss, **off)
    recipe = _normalise_schedules(recipe)
    is_steady = recipe.temperature == 1 and recipe.temperature_schedule == "constant"
    is_mixed = recipe.mix != "none"
    idle = {
        _ON_LOGITS: not recipe.has_logit_loss,
        ("dkd_beta",): recipe.loss != "dkd",
        ("is_adaptive",): is_steady,
        _ON_FEATURES: not recipe.has_feature_loss,
        ("taught_by",): not recipe.is_distilled,
        ("magnitude",): recipe.augmentation != "randaugment",
        ("mix_alpha",): not is_mixed,
        ("mix_targets",): not (is_mixed and recipe.is_distilled),
    }
    changes = {
        name: getattr(plain, name) for fields, is_idle in idle.items() if is_idle for name in fields
    }
    if is_mixed and recipe.has_feature_loss:  # features of a mixture are not those of two, mixed
        changes["mix_targets"] = "exact"
    return dataclasses.replace(recipe, **changes)


def _normalise_schedules(recipe: Recipe) -> Recipe:
    alpha_end, alpha_schedule = _settle(
        recipe.alpha, recipe.alpha_end, schedule=recipe.alpha_schedule, unused=recipe.alpha
    )
    changes: dict[str, Any] = {"alpha_end": alpha_end, "alpha_schedule": alpha_schedule}
    changes["feature_weight_end"], changes["feature_schedule"] = _settle(
        recipe.feature_weight, recipe.feature_weight_end, schedule=recipe.feature_schedule
    )
    if not recipe.has_logit_loss:
        changes |= {"temperature": 1.0, "temperature_end": 1.0, "temperature_schedule": "constant"}
        return dataclasses.replace(recipe, **changes)
    schedule, end = recipe.temperature_schedule, recipe.temperature_end
    if schedule == "linear" and end == 1:
        schedule = "decay"
    changes["temperature_end"], changes["temperature_schedule"] = _settle(
        recipe.temperature, end, schedule=schedule, rest=1.0, unused=1.0
    )
    return dataclasses.replace(recipe, **changes)


def _settle(
    start: float,
    end: float,
    *,
    schedule: TemperatureSchedule,
    rest: float = 0.0,
    unused: float = 0.0,
) -> tuple[float, TemperatureSchedule]:
    """End and schedule as they matter: what stays is constant, an end that is unused is reset."""
    if schedule in ("warm_up", "decay"):
        return unused, "constant" if start == rest else schedule
    if schedule == "constant" or start == end:
        return unused, "constant"
    return end, schedule


def _build_field(name: str, entry: Any) -> Any:  # noqa: ANN401 - a mutable or a plain value
    if name not in _TYPES:
        near = difflib.get_close_matches(name, list(_TYPES), n=1)
        remedy = f"did you mean `{near[0]}`?" if near else f"it can be one of {', '.join(_TYPES)}"
        raise SpaceError(f"`{name}` must be a field of the recipe; {remedy}")
    if not isinstance(entry, dict):
        _check_value(name, entry)
        return entry
    if not {"_type", "_value"} <= set(entry) <= {"_type", "_value", "_default"}:
        got = ", ".join(map(str, entry))
        raise SpaceError(
            f"`{name}` must have the keys _type and _value, and _default if wanted, got {got}"
        )
    kind, value = entry["_type"], entry["_value"]
    if kind != "choice" and kind not in _KINDS:
        known = ", ".join(["choice", *_KINDS])
        raise SpaceError(f"`{name}`: _type must be one of {known}, got {kind}")
    built = _build_choice(name, value) if kind == "choice" else _build_numbers(name, kind, value)
    if "_default" in entry:
        _declare(built, entry["_default"])
    return built


def _declare(mutable: Categorical[Any] | Numerical, value: object) -> None:
    """Tells a leaf which of its values one student gets."""
    dimension = build_dimension(mutable, room="recipe")
    dimension = dataclasses.replace(dimension, label=f"{mutable.label}: _default")
    mutable.default_value = parse_value(dimension, str(value))


def _build_choice(name: str, values: Any) -> Categorical[Any]:  # noqa: ANN401 - straight from the file
    if not isinstance(values, list) or not values:
        raise SpaceError(f"`{name}`: _value must be a list with a choice in it, got {values!r}")
    for value in values:
        _check_value(name, value)
    if len(set(map(repr, values))) != len(values):
        raise SpaceError(f"`{name}`: the choices must differ, got {values}")
    return Categorical(values, label=name)


def _build_numbers(name: str, kind: str, numbers: Any) -> Numerical:  # noqa: ANN401 - from the file
    build, count = _KINDS[kind]
    is_numbers = isinstance(numbers, list) and all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in numbers
    )
    if not is_numbers or len(numbers) != count:
        raise SpaceError(f"`{name}`: _value of {kind} must be {count} numbers, got {numbers!r}")
    if _TYPES[name] not in (int, float):
        raise SpaceError(f"`{name}` must be a choice of {_allowed(name)}, got {kind}")
    if count == 3 and numbers[2] <= 0:
        raise SpaceError(f"`{name}`: the step must be positive, got {numbers[2]}")
    if _TYPES[name] is int and kind != "randint" and (count < 3 or numbers[2] % 1):
        raise SpaceError(f"`{name}` must be whole, got {kind} of {numbers}; use randint")
    if "normal" in kind:
        if numbers[1] <= 0:
            raise SpaceError(f"`{name}`: sigma must be positive, got {numbers[1]}")
        low, high = _BOUNDS[name]
        return build(*map(float, numbers), label=name, low=float(low), high=float(high))
    low, high = numbers[0], numbers[1] - (1 if kind == "randint" else 0)
    if low >= high or ("log" in kind and low <= 0):
        rule = "0 < low < high" if "log" in kind else "low < high"
        raise SpaceError(f"`{name}`: _value of {kind} must have {rule}, got {numbers}")
    _check_value(name, low)
    _check_value(name, high)
    return build(*map(float, numbers), label=name)


def _check_value(name: str, value: Any) -> None:  # noqa: ANN401 - straight from the file
    kind = _TYPES[name]
    if kind is bool:
        if not isinstance(value, bool):
            raise SpaceError(f"`{name}` must be true or false, got {value!r}")
        return
    if kind not in (int, float):
        if value not in get_args(kind):
            raise SpaceError(f"`{name}` must be one of {_allowed(name)}, got {value!r}")
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpaceError(f"`{name}` must be a number, got {value!r}")
    if kind is int and int(value) != value:
        raise SpaceError(f"`{name}` must be a whole number, got {value!r}")
    low, high = _BOUNDS[name]
    if not low <= value <= high:
        raise SpaceError(f"`{name}` must be in [{low}, {high}], got {value!r}")


def _allowed(name: str) -> str:
    if _TYPES[name] is bool:
        return "false, true"
    return ", ".join(map(str, get_args(_TYPES[name])))
