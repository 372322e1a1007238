"""Which crew trains on this machine."""

import os
import threading
from collections.abc import Callable

import joblib
import torch

from autokd.config import Config
from autokd.study.crew import Crew, InlineCrew
from autokd.study.forked_crew import ForkedCrew, can_fork

__all__ = ["build_crew", "tell_size"]


def build_crew(n_workers: int | None, *, device: torch.device) -> Crew:
    """As many processes as are wanted and work here.

    Args:
        n_workers: Wanted; as many as there are cores if none.
        device: Where students are trained; a GPU is not shared.

    Returns:
        Forked processes, or this one alone: where one worker is wanted, on a GPU, and where a
        forked process cannot train (torch has computed gradients here before, other threads
        run, the system has no fork).
    """
    if device.type != "cpu" or not hasattr(os, "sched_getaffinity"):
        return InlineCrew()
    size = n_workers or joblib.cpu_count()  # a container's quota may be less than its cores
    _settle_autograd()
    if size == 1 or threading.active_count() > 1 or not can_fork():
        return InlineCrew()
    torch.set_num_threads(1)  # a team of threads in this process would be lost by each fork
    return ForkedCrew(size)


def _settle_autograd() -> None:
    """Has torch see now that there is no GPU here, and so start no threads for any.

    It looks at its first backward pass. By then a fake tensor, as torch.export makes them, may have
    put a GPU in place that is none: threads are started for it, and no process that is forked
    afterwards may compute a gradient. Beside a real GPU nothing is computed here.
    """
    if not torch.cuda.is_available():
        torch.ones(1, requires_grad=True).sum().backward()


def tell_size(
    crew: Crew, config: Config, *, device: torch.device, say: Callable[[str], object]
) -> None:
    """Says that fewer students are trained side by side here than the user wants.

    Args:
        crew: Of this machine.
        config: What the user wants.
        device: Where students are trained.
        say: Shows a line.
    """
    is_here = not (config.remote or config.ray)
    if is_here and config.workers is not None and crew.size < config.workers:
        why = "a GPU is not shared" if device.type != "cpu" else "no forked process can train"
        say(f"--workers {config.workers}: {crew.size} here, since {why}")
