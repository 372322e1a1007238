"""Which cores a runtime is pinned to."""

import os
from pathlib import Path

__all__ = ["choose_cores"]

_TOPOLOGY = Path("/sys/devices/system/cpu")
_ALIKE = 0.85  # of the fastest: cores of one kind are let run a few percent faster than others


def choose_cores(n: int) -> list[int]:
    """Cores of this process: fast ones first, each of another physical core as far as they go.

    Where all are alike, the last ones. A processor may have slow cores beside fast ones; whoever
    wants more threads than there are fast cores gets slow ones too.

    Args:
        n: How many are wanted.

    Returns:
        As many.

    Raises:
        ValueError: The process may not use so many.
    """
    mine = sorted(os.sched_getaffinity(0), reverse=True)
    kinds = _rank({core: _speed(core) for core in mine})
    mine.sort(key=kinds.__getitem__)
    if n > len(mine):
        raise ValueError(f"threads must be at most {len(mine)}, the cores that are left, got {n}")
    first_of: dict[str, int] = {}
    for core in mine:
        first_of.setdefault(_siblings(core), core)
    physical = list(first_of.values())
    return sorted([*physical, *(core for core in mine if core not in physical)][:n])


def _rank(speeds: dict[int, int]) -> dict[int, int]:
    """The kind that each core is of, 0 for the fastest one."""
    fastest: list[int] = []  # core of each kind
    for speed in sorted(set(speeds.values()), reverse=True):
        if not fastest or speed < _ALIKE * fastest[-1]:
            fastest.append(speed)
    return {core: sum(speed < _ALIKE * kind for kind in fastest) for core, speed in speeds.items()}


def _speed(core: int) -> int:
    """What the system tells of how fast a core is, in numbers of its own; 0 if nothing."""
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        try:
            return int((_TOPOLOGY / f"cpu{core}" / name).read_text())
        except (OSError, ValueError):
            continue
    return 0


def _siblings(core: int) -> str:
    """The cores that share its execution units; itself where the system does not tell."""
    try:
        return (_TOPOLOGY / f"cpu{core}" / "topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(core)
