"""The fastest way to compute a step of one student on one device, found by timing."""

import contextlib
import copy
import dataclasses
import gc
import logging
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autokd.distillation.losses import label_loss

__all__ = ["Engine", "clamp_threads", "count_cores", "measure_engine"]

_logger = logging.getLogger(__name__)
_TIMED_STEPS = 3
_WORTH_MORE_THREADS = 1.2  # several threads must be this many times faster: they suffer more
# from whatever else runs on the machine
_FAST_KERNEL = 3  # up to it a depthwise convolution is fast in bfloat16 on a CPU
_SMALL_STEP_S = 0.03  # below, threads wait for each other longer than they compute


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How steps are computed.

    Attributes:
        device: Where.
        is_bf16: Whether matrix products and convolutions run in bfloat16.
        is_channels_last: Whether pictures and kernels keep their channels together in memory.
        threads: Of the CPU; small students are slower on several.
        is_graphed: Whether training steps are replayed as CUDA graphs: the GPU no longer waits for
            Python between the many short kernels of a small student.
    """

    device: torch.device
    is_bf16: bool = False
    is_channels_last: bool = False
    threads: int = 1
    is_graphed: bool = False

    def __str__(self) -> str:
        """For people and for MLflow."""
        dtype = "bf16" if self.is_bf16 else "fp32"
        layout = "channels_last" if self.is_channels_last else "contiguous"
        threads = f" x{self.threads}" if self.device.type == "cpu" else ""
        graphed = " graphed" if self.is_graphed else ""
        return f"{dtype} {layout} {self.device.type}{threads}{graphed}"

    @classmethod
    def parse(cls, text: str) -> "Engine":
        """The engine that `str` wrote.

        Args:
            text: For example `bf16 channels_last cpu x1`.

        Returns:
            An equal engine.
        """
        dtype, layout, device, *more = text.split()
        threads = [word for word in more if word != "graphed"]
        return cls(
            device=torch.device(device),
            is_bf16=dtype == "bf16",
            is_channels_last=layout == "channels_last",
            threads=int(threads[0].removeprefix("x")) if threads else 1,
            is_graphed="graphed" in more,
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

    def build_step(self, network: nn.Module, views: Tensor) -> Callable[[Tensor], Tensor]:
        """What runs the network in a training step, on batches of one size.

        Args:
            network: Its weights are shared; evaluation goes on to use the network itself.
            views: Any batch; where the network is recorded it is run on these, which changes
                nothing of it.

        Returns:
            The network, or its recorded passes, whose logits hold until the next step; in bfloat16
            on a CPU, one whose depthwise convolutions stay in FP32 but for the plain ones of 3 by
            3, since the backward pass of the others has no fast kernel in bfloat16
            (docs/decisions.md).
        """
        if not self.is_graphed:
            is_spared = self.is_bf16 and self.device.type == "cpu"
            return _spare_slow(network) if is_spared else network
        kept = [buffer.clone() for buffer in network.buffers()]
        sample = views.clone(memory_format=self.memory_format)
        precision = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.is_bf16, cache_enabled=False
        )
        with precision, _kept_garbage():
            graphed = torch.cuda.make_graphed_callables(_Recorded(network).train(), (sample,))
        for buffer, value in zip(network.buffers(), kept, strict=True):
            buffer.copy_(value)
        return cast("Callable[[Tensor], Tensor]", graphed)


def count_cores(cores: int | None = None) -> int:
    """Cores that this process may use.

    Args:
        cores: That it should use at the most; all of them if none.

    Returns:
        At least 1.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return n_cores if cores is None else max(1, min(cores, n_cores))


def clamp_threads(engine: Engine, *, cores: int | None = None) -> Engine:
    """An engine on no more threads than there are cores: what it computes with stays.

    Args:
        engine: Found by a process that had more cores, perhaps.
        cores: That may be used of those that this process has; all of them if none.

    Returns:
        The engine here.
    """
    return dataclasses.replace(engine, threads=min(engine.threads, count_cores(cores)))


def _spare_slow(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network, with FP32 where bfloat16 is slow on a CPU."""
    slow = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
        and "forward" not in vars(module)
        and module.groups == module.in_channels > 1
        and (max(module.kernel_size) > _FAST_KERNEL or max(*module.stride, *module.dilation) > 1)
    ]
    if not slow:
        return network

    def run(views: Tensor) -> Tensor:
        try:
            for module in slow:
                module.forward = partial(_convolve_full, module)  # type: ignore[method-assign]
            return network(views)
        finally:
            for module in slow:
                del module.forward  # that of its class again

    return run


def _convolve_full(module: nn.Conv2d, maps: Tensor) -> Tensor:
    with torch.autocast(maps.device.type, enabled=False):
        return type(module).forward(module, maps.float())


@contextlib.contextmanager
def _kept_garbage() -> Generator[None]:
    """Nothing is collected within: freeing an older recording spoils one that is being made."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Recorded(nn.Module):
    """Takes the recording in place of the network, whose own `forward` stays as it is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, views: Tensor) -> Tensor:
        return self.network(views)


def measure_engine(
    student: nn.Module,
    views: Float[Tensor, "batch channels height width"],
    *,
    n_classes: int,
    device: torch.device,
    n_steps: int = 0,
    cores: int | None = None,
) -> Engine:
    """The fastest of {FP32, bf16} x {contiguous, channels_last} for this student, on a GPU recorded
    too where that pays back within the training.

    On a CPU the choice matters two to five times and goes both ways.

    Args:
        student: It is not changed; a copy is stepped.
        views: One batch of pictures in [0, 1].
        n_classes: Of the student.
        device: Where it will be trained.
        n_steps: Of that training; 0 where the student must not be recorded.
        cores: As `count_cores` takes them.

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
    if _can_record(device) and n_steps:
        return _try_graphed(
            probe,
            views,
            targets=targets,
            engine=engines[best],
            seconds=times[best],
            n_steps=n_steps,
        )
    cores = count_cores(cores)
    if device.type != "cpu" or cores == 1 or times[best] < _SMALL_STEP_S:
        return engines[best]
    wide = dataclasses.replace(engines[best], threads=cores)
    wide_time = _time_steps(probe, views, targets=targets, engine=wide)
    return wide if wide_time * _WORTH_MORE_THREADS < times[best] else engines[best]


def _can_record(device: torch.device) -> bool:
    """Whether there are CUDA graphs."""
    return device.type == "cuda"


def _try_graphed(
    probe: nn.Module,
    views: Tensor,
    *,
    targets: Tensor,
    engine: Engine,
    seconds: float,
    n_steps: int,
) -> Engine:
    """The engine, recorded if all steps together gain more than recording once more costs."""
    graphed = dataclasses.replace(engine, is_graphed=True)
    start = time.perf_counter()
    try:
        graphed_s = _time_steps(probe, views, targets=targets, engine=graphed)
    except RuntimeError as error:  # a network that waits for the GPU within its forward pass
        _logger.info("steps are not recorded: %s", str(error).splitlines()[0])
        return engine
    spent = time.perf_counter() - start
    return graphed if (seconds - graphed_s) * n_steps > spent else engine


def _has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is more than an emulation there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.backends.cpu.get_cpu_capability() != "AVX2"


def _time_steps(probe: nn.Module, views: Tensor, *, targets: Tensor, engine: Engine) -> float:
    """Seconds of the fastest of a few steps, the first one not counted."""
    probe.to(memory_format=engine.memory_format)
    views = views.contiguous(memory_format=engine.memory_format)
    step, seconds = engine.build_step(probe, views), []
    for _ in range(_TIMED_STEPS):
        start = time.perf_counter()
        with engine.precision():
            logits = step(views)
        label_loss(logits.float(), targets).backward()
        if engine.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
