"""Files that other machines read meanwhile: whole or not there, and never replaced."""

import contextlib
import errno
import os
import stat
import uuid
from pathlib import Path

__all__ = ["is_passing", "list_names", "remove_leavings", "write_new"]

_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "EAGAIN",
        "EBUSY",
        "ECONNABORTED",
        "ECONNREFUSED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "EINTR",
        "EIO",
        "ENETDOWN",
        "ENETUNREACH",
        "ENODEV",
        "ENOENT",  # of what was there before: a folder that is not mounted is an empty one
        "ENOTCONN",
        "EREMOTEIO",
        "ESTALE",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
)
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def is_passing(error: OSError) -> bool:
    """Whether a folder on a network may be well again without anybody's doing."""
    return error.errno in _PASSING


def list_names(folder: Path, *, ending: str) -> list[str]:
    """What the files of one ending in a folder are called, without it and in order.

    Args:
        folder: Need not be there.
        ending: With its dot.

    Returns:
        The names; none that begins with a dot.
    """
    try:
        found = os.listdir(folder)  # noqa: PTH208 - a glob keeps closed folders to itself
    except FileNotFoundError:
        return []
    return sorted(
        name.removesuffix(ending) for name in found if name.endswith(ending) and name[0] != "."
    )


def write_new(path: Path, content: bytes, *, root: Path) -> bool:
    """Puts a file in its place once all of it is written, unless one is there.

    Of several who do so at once, one puts it there and all the others know that they have not.

    Args:
        path: Right in `root` or one folder below it; what is missing is made.
        content: All of it.
        root: The folder that sites share; what is made may be read and, if it is a folder, be
            written by whoever may do so with this one, whatever the umask.

    Returns:
        Whether it was put there.
    """
    _build_folder(path.parent, root=root)
    # The process's number alone may be that of another site's on another machine.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _share(temporary, root=root, is_folder=False)
        return _place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leavings(path: Path) -> None:
    """Removes what processes that were killed have left of a file; nobody may be writing it."""
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)


def _place(temporary: Path, path: Path) -> bool:
    """Gives a file its name, if nobody has it; the old name may stay."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return temporary.samefile(path)  # NFS asks twice when an answer is lost
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return True
    try:
        path.open("xb").close()  # no links here: whoever makes the empty file has the name
    except FileExistsError:
        return False
    temporary.replace(path)
    return True


def _build_folder(folder: Path, *, root: Path) -> None:
    """Makes a folder that has its rights from the moment that it is there."""
    root.mkdir(parents=True, exist_ok=True)
    if folder.is_dir():
        return
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    fresh.mkdir()
    _share(fresh, root=root, is_folder=True)
    try:
        fresh.rename(folder)
    except OSError:
        fresh.rmdir()
        if not folder.is_dir():  # else another site was faster
            raise


def _share(path: Path, *, root: Path, is_folder: bool) -> None:
    """Gives group and rights of the shared folder, as far as this user may."""
    wanted = root.stat()
    mode = stat.S_IMODE(wanted.st_mode)
    # Where it may not be, or there are no rights at all, whoever lacks them is told.
    with contextlib.suppress(OSError):
        os.chown(path, -1, wanted.st_gid)
    with contextlib.suppress(OSError):
        path.chmod(mode if is_folder else (mode & 0o444) | 0o200)
