"""Which cores a runtime is pinned to."""

import os
from pathlib import Path

__all__ = ["choose_cores"]

_TOPOLOGY = Path("/sys/devices/system/cpu")


def choose_cores(n: int) -> list[int]:
    """Cores of this process, the last ones, each of another physical core as far as they go.

    Args:
        n: How many are wanted.

    Returns:
        As many.

    Raises:
        ValueError: The process may not use so many.
    """
    mine = sorted(os.sched_getaffinity(0), reverse=True)
    if n > len(mine):
        raise ValueError(f"threads must be at most {len(mine)}, the cores that are left, got {n}")
    first_of: dict[str, int] = {}
    for core in mine:
        first_of.setdefault(_siblings(core), core)
    physical = list(first_of.values())
    return sorted([*physical, *(core for core in mine if core not in physical)][:n])


def _siblings(core: int) -> str:
    """The cores that share its execution units; itself where the system does not tell."""
    try:
        return (_TOPOLOGY / f"cpu{core}" / "topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(core)
