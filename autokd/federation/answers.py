"""What one site says of the public pictures in one round."""

import dataclasses
import io
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float16
from numpy.typing import NDArray

from autokd.errors import MeetingError
from autokd.federation.charter import Charter

__all__ = ["Answers"]

_BROKEN = (
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    IndexError,
    OverflowError,
    MemoryError,
    RuntimeError,  # of encrypted parts
    struct.error,
    zipfile.BadZipFile,
)
_HEADS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_TEXT_BYTES = 1024
_OVERHEAD_BYTES = 2**16  # of the file around its arrays


@final
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """The answers of a site, and how many pictures they are learnt from.

    Attributes:
        site: Its name.
        n_pictures: That it has trained on, private ones only.
        logs: Logarithms of probabilities. They say what logits say, but for the constant that no
            loss feels, and lie where half precision is fine.
    """

    site: str
    n_pictures: int
    logs: Float16[np.ndarray, "views pictures classes"]

    def write(self, *, charter: Charter, number: int) -> bytes:
        """The file of these answers.

        Args:
            charter: Under which they are given.
            number: Of the round.

        Returns:
            An npz file.

        Raises:
            MeetingError: Nobody could use it.
        """
        n_bad = int((~np.isfinite(self.logs)).sum())
        if n_bad or self.logs.shape != charter.answers_shape:
            raise MeetingError(
                f"answers of site `{self.site}` in round {number} must be finite and of "
                f"{charter.answers_shape}, got {n_bad} that are not finite of {self.logs.shape}; "
                "nothing was published, begin again with a lower --lr in an empty --meeting folder"
            )
        buffer = io.BytesIO()
        np.savez(
            buffer,
            logs=self.logs,
            n_pictures=np.int64(self.n_pictures),
            number=np.int64(number),
            site=np.str_(self.site),
            charter=np.str_(charter.digest),
        )
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path, *, charter: Charter, number: int) -> "Answers":
        """What another site has written, trusted in nothing.

        Args:
            path: The file; its name without the ending is that of the site.
            charter: Under which the answers must be given.
            number: Of the round.

        Returns:
            The answers.

        Raises:
            MeetingError: The file is not whole, or its content is not what it must be.
        """
        remedy = f"that site publishes again once {path} is removed and its command runs again"
        try:
            arrays = _parse(_read_bytes(path, charter=charter), charter=charter)
            _check(arrays, site=path.stem, number=number, charter=charter)
        except _Unfit as fault:
            name = f"answers of site `{path.stem}` in round {number}"
            raise MeetingError(f"{name} must {fault}; {remedy}") from fault
        n_pictures = int(arrays["n_pictures"].item())
        return cls(site=path.stem, n_pictures=n_pictures, logs=arrays["logs"])


class _Unfit(Exception):  # noqa: N818 - told as `<name> must <this>`
    """What a file must be, and is not."""


def _limit(charter: Charter) -> int:
    """Bytes that a file of answers has at the most."""
    return 2 * math.prod(charter.answers_shape) + _OVERHEAD_BYTES


def _read_bytes(path: Path, *, charter: Charter) -> bytes:
    """The content of a file, unless this user may not read it or it is too long."""
    limit = _limit(charter)
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except PermissionError as error:
        raise _Unfit(f"be readable by all sites, got {error.strerror}") from error
    if len(content) > limit:
        raise _Unfit(f"be a whole npz file of at most {limit} bytes, got a longer one")
    return content


def _parse(content: bytes, *, charter: Charter) -> dict[str, NDArray[Any]]:
    """The arrays of a file; no site packs them, so that nothing here unpacks to more than it is."""
    rule = "be a whole npz file"
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                raise _Unfit(f"{rule} that is not compressed, got a compressed one")
            return {
                key: _parse_part(parts.read(f"{key}.npy"), key=key, charter=charter)
                for key in ("logs", "n_pictures", "number", "site", "charter")
            }
    except _BROKEN as error:
        line = str(error).split("\n", maxsplit=1)[0]
        raise _Unfit(f"{rule}, got {type(error).__name__}: {line}") from error


def _parse_part(content: bytes, *, key: str, charter: Charter) -> NDArray[Any]:
    """One array, of which nothing is made before its head says what it must."""
    file = io.BytesIO(content)
    shape, _, dtype = _HEADS[np.lib.format.read_magic(file)](file)
    if key == "logs":
        is_right, form = dtype == np.float16, charter.answers_shape
        rule = f"be float16 of {form} (views, pictures, classes)"
    elif key in ("site", "charter"):
        is_right, form = dtype.kind == "U" and dtype.itemsize <= _TEXT_BYTES, ()
        rule = f"hold one text as `{key}`"
    else:
        is_right, form = dtype == np.int64, ()
        rule = f"hold one whole number as `{key}`"
    if not is_right or shape != form:
        raise _Unfit(f"{rule}, got {dtype} of {shape}")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _check(arrays: Mapping[str, NDArray[Any]], *, site: str, number: int, charter: Charter) -> None:
    """Makes sure that answers are those that they should be."""
    rules = {
        f"be of site {site}": arrays["site"].item() == site,
        f"be of round {number}": arrays["number"].item() == number,
        "stand under the charter of this meeting": arrays["charter"].item() == charter.digest,
        "be finite": bool(np.isfinite(arrays["logs"]).all()),
        "come of at least one picture": arrays["n_pictures"].item() > 0,
    }
    for rule, is_kept in rules.items():
        if not is_kept:
            raise _Unfit(f"{rule}, got others")
