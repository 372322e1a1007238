"""Bundled spaces and recipes, the user's own files, and how to list, show and copy them."""

import hashlib
import importlib.util
import inspect
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import torch

from autokd.errors import SpaceError
from autokd.spaces.fixed import adapt_python, adapt_timm
from autokd.spaces.nni_api import ModelSpace, Mutable
from autokd.spaces.recipes import (
    load_recipe,
    settle_precision,
    settle_resizing,
    settle_standardised,
    settle_teachers,
)
from autokd.spaces.space import Space
from autokd.types import SMALLEST_SCALE, InputShape, Scalar

__all__ = ["build_space", "copy_space", "describe_space", "list_spaces", "load_architecture"]

_NOTHING: Mapping[str, Scalar] = MappingProxyType({})
_ROOM = Path(__file__).resolve().parent.parent


def _folder() -> Path:
    """Where the bundled files lie: inside the wheel, or beside the package in a checkout."""
    inside = _ROOM / "search_spaces"
    return inside if inside.is_dir() else _ROOM.parent / "search_spaces"


def list_spaces() -> dict[str, str]:
    """Name of each bundled space or recipe file to the first line of its description."""
    found = {}
    for path in sorted(_folder().iterdir()):
        if path.suffix == ".py":
            found[path.stem] = path.read_text(encoding="utf-8").split('"""')[1].splitlines()[0]
        elif path.suffix == ".yaml":
            found[path.stem] = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    return found


def copy_space(name: str, folder: Path) -> Path:
    """Copies a bundled file, to be edited.

    Args:
        name: As `list_spaces` gives it.
        folder: Where to put it; made if missing.

    Returns:
        The new file.

    Raises:
        SpaceError: There is no such file, or one is in the way, or it cannot be written.
    """
    source = _bundled(name)
    target = folder / source.name
    if target.exists():
        raise SpaceError(f"{target} must not exist yet; remove it or name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise SpaceError(f"`DIR` must be writable, got {folder}: {error}") from error
    return target


def describe_space(name: str, *, input_shape: InputShape, n_classes: int) -> Space:
    """The joint space behind a bundled name or a file, for looking at.

    Args:
        name: Of a space (its dimensions are joined with the default recipe's) or of a recipe.
        input_shape: Channels, height, width.
        n_classes: Of the data.

    Returns:
        The space.
    """
    is_recipe = name in list_spaces() and _bundled(name).suffix == ".yaml"
    space, recipe = ("mobile", name) if is_recipe else (name, "default")
    return build_space(space, recipe=recipe, input_shape=input_shape, n_classes=n_classes)


def build_space(
    name: str,
    *,
    recipe: str,
    input_shape: InputShape,
    n_classes: int,
    overrides: Mapping[str, Scalar] = _NOTHING,
    has_assistant: bool = False,
    precision: str | None = None,
) -> Space:
    """The joint space of an architecture and a recipe.

    Args:
        name: `--space`.
        recipe: `--recipe`: a bundled recipe or a file.
        input_shape: Channels, height and width of the pictures.
        n_classes: Of the data.
        overrides: Fields of the recipe that have this plain value, whatever the file says.
        has_assistant: Whether a student can be taught by an assistant, which is then searched.
        precision: `--precision`; what the recipe says if none.

    Returns:
        The space.
    """
    path = Path(recipe)
    is_file = path.suffix in (".yaml", ".yml", ".json") or path.is_file()
    fields = load_recipe(path if is_file else _bundled(recipe, suffix=".yaml"))
    fields = settle_teachers(fields, has_assistant=has_assistant)
    fields = settle_precision(fields, asked=precision)
    fields = settle_standardised({**fields, **overrides}, n_classes=n_classes)
    architecture = load_architecture(name, input_shape=input_shape, n_classes=n_classes)
    fields = settle_resizing(
        fields,
        side=min(input_shape[1:]),
        takes_smaller=partial(_takes_smaller, name, architecture, input_shape=input_shape),
    )
    return Space(name, architecture=architecture, recipe=fields)


@torch.no_grad()
def _takes_smaller(name: str, architecture: Mutable, *, input_shape: InputShape) -> bool:
    """Whether the default student runs on the smallest pictures that a training begins with."""
    channels, *sides = input_shape
    smaller = torch.zeros(2, channels, *(round(side * SMALLEST_SCALE) for side in sides))
    with torch.random.fork_rng(devices=[]):
        try:
            student, _ = Space(name, architecture=architecture, recipe={}).freeze({})
            student.eval()(smaller)
        except Exception:  # noqa: BLE001 - the code of the space, which may raise anything
            return False
    return True


def load_architecture(name: str, *, input_shape: InputShape, n_classes: int) -> Mutable:
    """The architecture space behind `--space`.

    Args:
        name: A bundled name, `hub:NAME`, or `FILE.py:FUNCTION`; `timm:NAME` or
            `python:FILE.py:FUNCTION` for a network that is taken as it is.
        input_shape: Channels, height and width of the pictures.
        n_classes: Of the data.

    Returns:
        NNI's model space, or something without dimensions.

    Raises:
        SpaceError: There is no such space, or its code raises, or builds something else.
    """
    kind, _, rest = name.partition(":")
    if kind == "timm":
        return adapt_timm(rest, input_shape=input_shape, n_classes=n_classes)
    build, options = _find_builder(rest if kind == "python" else name)
    if kind == "python":
        return adapt_python(build, rest, input_shape=input_shape, n_classes=n_classes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            space = build(input_shape, n_classes, **options)
    except Exception as error:
        message = " ".join(str(error).split())
        raise SpaceError(
            f"`--space {name}` must build for pictures of {input_shape}, "
            f"got {type(error).__name__}: {message}"
        ) from error
    if not isinstance(space, ModelSpace):
        raise SpaceError(
            f"`--space {name}` must build an nni ModelSpace, got {type(space).__name__}"
        )
    return space


def _find_builder(name: str) -> tuple[Callable[..., Any], dict[str, str]]:
    if name.startswith("hub:"):
        return _load_module(_bundled("hub")).build, {"name": name.removeprefix("hub:")}
    file, _, function = name.rpartition(":") if ".py:" in name else (name, "", "build")
    if not file.endswith(".py"):
        return _load_module(_bundled(name, suffix=".py")).build, {}
    path = Path(file)
    if not path.is_file():
        raise SpaceError(f"`--space` must be an existing file, got {path}")
    module = _load_module(path)
    build = getattr(module, function, None)
    if not callable(build):
        names = [n for n, v in vars(module).items() if inspect.isfunction(v) and n[0] != "_"]
        known = ", ".join(names) or "none"
        raise SpaceError(
            f"`--space {name}`: {function} must be a function of {path}; it has: {known}"
        )
    return build, {}


def _bundled(name: str, *, suffix: str | None = None) -> Path:
    for candidate in _folder().iterdir():
        fits = suffix is None or candidate.suffix == suffix
        if candidate.stem == name and candidate.suffix in (".py", ".yaml") and fits:
            return candidate
    known = ", ".join(
        path.stem
        for path in sorted(_folder().iterdir())
        if path.suffix in ((suffix,) if suffix else (".py", ".yaml"))
    )
    option = "--recipe" if suffix == ".yaml" else "--space"
    raise SpaceError(
        f"`{option}` must be one of {known} or a file, got {name}; see `autokd spaces list`"
    )


def _load_module(path: Path) -> ModuleType:
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    name = f"autokd_space_{path.stem}_{digest}"  # the same in each process
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SpaceError(f"`--space` must be a Python file, got {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        message = " ".join(str(error).split())
        raise SpaceError(
            f"`--space {path}` must be importable, got {type(error).__name__}: {message}"
        ) from error
    return module
