from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autokd.config import Config


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def write_picture():
    """Writes random pixels, different in each file."""
    rng = np.random.default_rng(0)

    def write(path: Path, *, size=(12, 10), mode="RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (size[1], size[0]) if mode in {"L", "I;16"} else (size[1], size[0], len(mode))
        top, kind = (65536, np.uint16) if mode == "I;16" else (256, np.uint8)
        Image.fromarray(rng.integers(0, top, shape).astype(kind)).save(path)
        return path

    return write


@pytest.fixture
def make_folder(tmp_path: Path, write_picture):
    """A folder of classes `a` and `b`, with `n` pictures in each class of each split."""

    def make(*splits: str, n: int = 10, suffix: str = ".png", **options: object) -> Path:
        root = tmp_path / "pictures"
        for split in splits or ("",):
            for label in ("a", "b"):
                for index in range(n):
                    write_picture(root / split / label / f"{index}{suffix}", **options)
        return root

    return make


@pytest.fixture
def make_npz(tmp_path: Path):
    """A file of arrays; `None` leaves a key out."""

    def make(**changes: object) -> Config:
        rng = np.random.default_rng(0)
        arrays: dict[str, object] = {
            "x_train": rng.integers(0, 256, (40, 6, 5), dtype=np.uint8),
            "y_train": np.arange(40) % 4,
        }
        arrays.update(changes)
        path = tmp_path / "set.npz"
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
        return Config(data=f"npz:{path}")

    return make
