"""The fastest way to compute a step of one student on one device, found by timing."""

import contextlib
import copy
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autokd.distillation.losses import label_loss

__all__ = ["Engine", "measure_engine"]

_logger = logging.getLogger(__name__)
_TIMED_STEPS = 3
_WORTH_COMPILING_S = 60.0  # of steps as they are: compiling takes about half of that
_WORTH_MORE_THREADS = 1.2  # several threads must be this many times faster: they suffer more
# from whatever else runs on the machine
_SMALL_STEP_S = 0.03  # below, threads wait for each other longer than they compute


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How steps are computed.

    Attributes:
        device: Where.
        is_bf16: Whether matrix products and convolutions run in bfloat16.
        is_channels_last: Whether pictures and kernels keep their channels together in memory.
        threads: Of the CPU; small students are slower on several.
        is_compiled: Whether training steps run as compiled CUDA graphs: the GPU no longer waits
            for Python between the many short kernels of a small student.
    """

    device: torch.device
    is_bf16: bool = False
    is_channels_last: bool = False
    threads: int = 1
    is_compiled: bool = False

    def __str__(self) -> str:
        """For people and for MLflow."""
        dtype = "bf16" if self.is_bf16 else "fp32"
        layout = "channels_last" if self.is_channels_last else "contiguous"
        threads = f" x{self.threads}" if self.device.type == "cpu" else ""
        compiled = " compiled" if self.is_compiled else ""
        return f"{dtype} {layout} {self.device.type}{threads}{compiled}"

    @classmethod
    def parse(cls, text: str) -> "Engine":
        """The engine that `str` wrote.

        Args:
            text: For example `bf16 channels_last cpu x1`.

        Returns:
            An equal engine.
        """
        dtype, layout, device, *more = text.split()
        threads = [word for word in more if word != "compiled"]
        return cls(
            device=torch.device(device),
            is_bf16=dtype == "bf16",
            is_channels_last=layout == "channels_last",
            threads=int(threads[0].removeprefix("x")) if threads else 1,
            is_compiled="compiled" in more,
        )

    @property
    def memory_format(self) -> torch.memory_format:
        """Torch's name of the layout."""
        return torch.channels_last if self.is_channels_last else torch.contiguous_format

    @contextlib.contextmanager
    def precision(self) -> Generator[None]:
        """The context in which the student is run."""
        if self.device.type == "cpu" and torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bf16):
            yield

    def build_step(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """What runs the network in a training step, on batches of one size.

        Args:
            network: Its weights are shared; evaluation goes on to use the network itself.

        Returns:
            The network, or the compiled one, whose logits hold until the next step.
        """
        if not self.is_compiled:
            return network
        compiled = torch.compile(network, mode="reduce-overhead", dynamic=False)

        def run(views: Tensor) -> Tensor:
            torch.compiler.cudagraph_mark_step_begin()
            return compiled(views)

        return run


def measure_engine(
    student: nn.Module,
    views: Float[Tensor, "batch channels height width"],
    *,
    n_classes: int,
    device: torch.device,
    n_steps: int = 0,
) -> Engine:
    """The fastest of {FP32, bf16} x {contiguous, channels_last} for this student, on a GPU compiled
    too where that pays back within the training.

    On a CPU the choice matters two to five times and goes both ways: depthwise convolutions are
    slow in bf16, dense ones fast.

    Args:
        student: It is not changed; a copy is stepped.
        views: One batch of pictures in [0, 1].
        n_classes: Of the student.
        device: Where it will be trained.
        n_steps: Of that training; 0 where the student must not be compiled.

    Returns:
        The engine of the least time for a forward and a backward pass.
    """
    targets = torch.full((len(views), n_classes), 1 / n_classes, device=device)
    engines = [
        Engine(device=device, is_bf16=is_bf16, is_channels_last=is_channels_last)
        for is_bf16 in (False, True)
        for is_channels_last in (False, True)
        if not is_bf16 or _has_bf16(device)
    ]
    probe = copy.deepcopy(student).to(device).train()
    views = views.to(device)
    times = [_time_steps(probe, views, targets=targets, engine=engine) for engine in engines]
    best = min(range(len(engines)), key=lambda index: times[index])
    if _can_compile(device) and n_steps * times[best] > _WORTH_COMPILING_S:
        return _try_compiled(
            probe,
            views,
            targets=targets,
            engine=engines[best],
            seconds=times[best],
            n_steps=n_steps,
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if device.type != "cpu" or not cores or cores == 1 or times[best] < _SMALL_STEP_S:
        return engines[best]
    wide = dataclasses.replace(engines[best], threads=cores)
    wide_time = _time_steps(probe, views, targets=targets, engine=wide)
    return wide if wide_time * _WORTH_MORE_THREADS < times[best] else engines[best]


def _can_compile(device: torch.device) -> bool:
    """On a CPU it takes a minute and saves a quarter at most (docs/decisions.md)."""
    return device.type == "cuda"


def _try_compiled(
    probe: nn.Module,
    views: Tensor,
    *,
    targets: Tensor,
    engine: Engine,
    seconds: float,
    n_steps: int,
) -> Engine:
    """The engine, compiled if all steps together gain more than compiling once more costs."""
    compiled = dataclasses.replace(engine, is_compiled=True)
    start = time.perf_counter()
    try:
        compiled_s = _time_steps(probe, views, targets=targets, engine=compiled)
    except (RuntimeError, ImportError) as error:  # no compiler, or a network it does not take
        _logger.info("students are not compiled: %s", str(error).splitlines()[0])
        return engine
    spent = time.perf_counter() - start
    return compiled if (seconds - compiled_s) * n_steps > spent else engine


def _has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is more than an emulation there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.backends.cpu.get_cpu_capability() != "AVX2"


def _time_steps(probe: nn.Module, views: Tensor, *, targets: Tensor, engine: Engine) -> float:
    """Seconds of the fastest of a few steps, the first one not counted."""
    probe.to(memory_format=engine.memory_format)
    views = views.contiguous(memory_format=engine.memory_format)
    step, seconds = engine.build_step(probe), []
    for _ in range(_TIMED_STEPS):
        start = time.perf_counter()
        with engine.precision():
            logits = step(views)
        label_loss(logits.float(), targets).backward()
        if engine.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
