"""Where implementations can be exchanged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from autokd.types.events import Event
from autokd.types.points import Sample
from autokd.types.results import Latency, Prospect

__all__ = ["Surveyor", "Target", "Tracker"]


@runtime_checkable
class Target(Protocol):
    """A device with a runtime, on which an exported file can be timed.

    Invariants: `measure` never changes the file; two calls on the same file differ by noise
    only; a file that the runtime cannot run raises `MeasureError`.
    """

    @property
    def needs_program(self) -> bool:
        """Whether it wants a program of torch.export beside `model.onnx`, as `model.pt2`."""
        ...

    def measure(self, model: Path) -> Latency:
        """Time the exported file, alone on its threads."""
        ...

    def measure_together(self, models: Sequence[Path]) -> list[Latency]:
        """Time several files by turns, so that their latencies can be compared."""
        ...


@runtime_checkable
class Surveyor(Protocol):
    """Looks at candidates before one of them is trained.

    Invariants: what is known of a candidate depends on the dimensions of its sample whose room is
    not the recipe, on architecture and precision; asked again, it gives the same.
    """

    def survey(self, samples: Sequence[Sample]) -> Sequence[Prospect | None]:
        """What is known of each, or none where it cannot be built or measured, or is not offered.

        The answer may be shorter than the question: looking takes time, and the first samples
        are the ones that matter most. It holds one sample at least.
        """
        ...


@runtime_checkable
class Tracker(Protocol):
    """Where the events of a study are shown.

    Invariants: events of one study arrive in order; an event told twice changes nothing; a
    `TrialStarted` for a known trial replaces what was known of it.
    """

    def log(self, event: Event) -> None:
        """Take note of one event."""
        ...

    def close(self) -> None:
        """Finish what is under way; no event follows."""
        ...
