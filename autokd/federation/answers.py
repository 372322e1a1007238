"""What one site says of the public pictures in one round."""

import dataclasses
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float16
from numpy.typing import NDArray

from autokd.errors import MeetingError
from autokd.federation.charter import Charter

__all__ = ["Answers"]

_BROKEN = (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)
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
        """
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
        name = f"answers of site `{path.stem}` in round {number}"
        remedy = f"that site publishes again once {path} is removed and its command runs again"
        arrays = _load(path, charter=charter, name=name, remedy=remedy)
        logs = arrays["logs"]
        faults = {
            f"be of site {path.stem}": arrays["site"].item() != path.stem,
            f"be of round {number}": arrays["number"].item() != number,
            "stand under the charter of this meeting": arrays["charter"].item() != charter.digest,
            f"be float16 of {charter.answers_shape} (views, pictures, classes), got {logs.dtype} "
            f"of {logs.shape}": logs.dtype != np.float16 or logs.shape != charter.answers_shape,
            "be finite": not bool(np.isfinite(logs).all()),
            "come of at least one picture": not arrays["n_pictures"].item() > 0,
        }
        for rule, is_broken in faults.items():
            if is_broken:
                text = rule if ", got" in rule else f"{rule}, got others"
                raise MeetingError(f"{name} must {text}; {remedy}")
        return cls(site=path.stem, n_pictures=int(arrays["n_pictures"]), logs=logs)


def _load(path: Path, *, charter: Charter, name: str, remedy: str) -> dict[str, NDArray[Any]]:
    """The arrays of a file, unless it would unpack to more than it may hold."""
    limit = 2 * int(np.prod(charter.answers_shape)) + _OVERHEAD_BYTES
    rule = f"{name} must be a whole npz file of at most {limit} bytes"
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as parts:
            n_bytes = sum(part.file_size for part in parts.infolist())
        if n_bytes > limit:
            raise MeetingError(f"{rule}, got {n_bytes}; {remedy}")
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {key: loaded[key] for key in ("logs", "n_pictures", "number", "site", "charter")}
    except _BROKEN as error:
        line = str(error).split("\n", maxsplit=1)[0]
        raise MeetingError(f"{rule}, got {type(error).__name__}: {line}; {remedy}") from error
