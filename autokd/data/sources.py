"""Which source an option names."""

import difflib
from pathlib import Path

from autokd.config import Config
from autokd.data.arrays import load_digits, load_npz
from autokd.data.datasets import load_python, load_torchvision
from autokd.data.folder import load_folder
from autokd.data.pictures import Source
from autokd.errors import DataError

__all__ = ["load_source"]

_KINDS = ["digits", "npz", "folder", "torchvision", "python"]


def load_source(config: Config, *, memory_limit_bytes: int) -> Source:
    """The labelled pictures that `--data` names, before any split is cut.

    Args:
        config: `data` and what goes with it.
        memory_limit_bytes: A data set that gives decoded pictures keeps no more than this.

    Returns:
        The source.

    Raises:
        DataError: `data` names no source.
    """
    kind, _, rest = config.data.partition(":")
    if config.data == "digits":
        return load_digits(image_size=config.image_size)
    if kind == "npz" and rest:
        return load_npz(Path(rest).expanduser(), image_size=config.image_size)
    if kind == "folder" and rest:
        return load_folder(
            Path(rest).expanduser(), image_size=config.image_size, may_lack=config.is_federated
        )
    if kind == "torchvision" and rest:
        return load_torchvision(rest, config, memory_limit_bytes=memory_limit_bytes)
    if kind == "python" and rest:
        return load_python(rest, config, memory_limit_bytes=memory_limit_bytes)
    raise DataError(
        "`--data` must be digits, npz:FILE, folder:DIR, torchvision:NAME or "
        f"python:module:function, got {config.data!r}{_hint(config.data)}"
    )


def _hint(data: str) -> str:
    if Path(data).is_dir():
        return f"; did you mean `folder:{data}`?"
    if data.endswith(".npz"):
        return f"; did you mean `npz:{data}`?"
    near = difflib.get_close_matches(data.split(":", maxsplit=1)[0].lower(), _KINDS, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""
