"""Fakes and contract tests, for autokd's own tests and for those of its users.

A fake here has passed the same contract as the real thing. A contract is a class to inherit
from: write the one method that builds your implementation, and pytest runs the rest.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import pytest
import torch
from torch import nn

from autokd.errors import MeasureError
from autokd.exporters import export_onnx
from autokd.trackers import MemoryTracker
from autokd.types import Latency, Prospect, Sample, Surveyor, Target

__all__ = ["FakeSurveyor", "FakeTarget", "MemoryTracker", "SurveyorContract", "TargetContract"]


@final
@dataclass
class FakeTarget:
    """A target on which a file takes a millisecond per MiB; it touches no clock.

    Attributes:
        ms_per_mib: What a MiB of the file costs.
        measured: Names of the files that were measured, in order.
    """

    ms_per_mib: float = 1.0
    measured: list[str] = field(default_factory=list, repr=False)

    needs_program = False

    def measure(self, model: Path) -> Latency:
        """A latency made from the size of the file.

        Args:
            model: An ONNX file.

        Returns:
            The same for files of the same size.

        Raises:
            MeasureError: The file is missing or is no ONNX file.
        """
        if not model.is_file() or not model.read_bytes().startswith(b"\x08"):
            raise MeasureError(f"{model.name} must be an ONNX file")
        self.measured.append(model.name)
        median_ms = model.stat().st_size / 2**20 * self.ms_per_mib
        return Latency(
            median_ms=median_ms,
            ci95_low_ms=median_ms,
            ci95_high_ms=median_ms,
            p10_ms=median_ms,
            p90_ms=median_ms,
            n_runs=100,
            batch=1,
            threads=1,
            runtime="fake",
            device="fake",
            drift=1.0,
        )

    def measure_together(self, models: Sequence[Path]) -> list[Latency]:
        """The latency of each, as if it were alone."""
        return [self.measure(model) for model in models]


class TargetContract(ABC):
    """What every `Target` promises."""

    __test__ = False
    least_runs = 100

    def __init_subclass__(cls) -> None:
        cls.__test__ = True

    @abstractmethod
    def build_target(self, folder: Path) -> Target:
        """The target under test; `folder` is its own."""

    @pytest.fixture
    def network(self, tmp_path: Path) -> Path:
        """A small ONNX file."""
        layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        return export_onnx(layers, tmp_path / "small.onnx", shape=(1, 8, 8))

    @pytest.fixture
    def wide_network(self, tmp_path: Path) -> Path:
        """An ONNX file that costs hundreds of times more."""
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 2048),
            nn.ReLU(),
            nn.Linear(2048, 2048),
            nn.ReLU(),
            nn.Linear(2048, 10),
        )
        return export_onnx(layers, tmp_path / "wide.onnx", shape=(1, 8, 8))

    def test_it_is_a_target(self, tmp_path: Path) -> None:
        """It has the seam's method."""
        assert isinstance(self.build_target(tmp_path), Target)

    def test_the_numbers_of_a_latency_are_in_order(self, tmp_path: Path, network: Path) -> None:
        """Percentiles and interval lie around the median; there are enough runs."""
        latency = self.build_target(tmp_path).measure(network)
        assert 0 < latency.p10_ms <= latency.median_ms <= latency.p90_ms
        assert latency.ci95_low_ms <= latency.median_ms <= latency.ci95_high_ms
        assert latency.n_runs >= self.least_runs

    def test_the_file_is_not_changed(self, tmp_path: Path, network: Path) -> None:
        """A measurement leaves the artefact as it was."""
        before = network.read_bytes()
        self.build_target(tmp_path).measure(network)
        assert network.read_bytes() == before

    def test_much_more_work_takes_longer(
        self, tmp_path: Path, network: Path, wide_network: Path
    ) -> None:
        """Four million products take longer than five thousand."""
        target = self.build_target(tmp_path)
        assert target.measure(wide_network).median_ms > target.measure(network).median_ms

    def test_files_timed_together_come_back_in_their_order(
        self, tmp_path: Path, network: Path, wide_network: Path
    ) -> None:
        """The wide one is the slow one, wherever it stands."""
        target = self.build_target(tmp_path)
        for models in ([network, wide_network, network], [wide_network, network]):
            latencies = target.measure_together(models)
            slowest = max(range(len(models)), key=lambda n: latencies[n].median_ms)
            assert models[slowest] == wide_network
            assert len(latencies) == len(models)

    def test_a_file_that_is_no_network_is_refused(self, tmp_path: Path) -> None:
        """Rubbish raises `MeasureError`."""
        rubbish = tmp_path / "rubbish.onnx"
        rubbish.write_bytes(b"no network")
        with pytest.raises(MeasureError):
            self.build_target(tmp_path).measure(rubbish)


@final
@dataclass
class FakeSurveyor:
    """Knows networks whose latency is the product of their numbers; touches no clock.

    Attributes:
        labels: Of the architecture; their values must be numbers.
        broken: A value that no network can be built with.
        n_at_once: Samples of a question that are answered.
        surveyed: What it was asked about and answered, in order.
    """

    labels: tuple[str, ...]
    broken: float | None = None
    n_at_once: int = 10_000
    surveyed: list[Sample] = field(default_factory=list, repr=False)

    def survey(self, samples: Sequence[Sample]) -> list[Prospect | None]:
        """What is known of the first of them."""
        answered = list(samples)[: self.n_at_once]
        self.surveyed += answered
        return [self._look(sample) for sample in answered]

    def _look(self, sample: Sample) -> Prospect | None:
        values = [float(sample[label]) for label in self.labels]
        if self.broken in values:
            return None
        latency_ms = math.prod(1 + value for value in values)
        return Prospect(latency_ms=latency_ms, traits=(math.log(latency_ms), sum(values)))


class SurveyorContract(ABC):
    """What every `Surveyor` promises."""

    __test__ = False

    def __init_subclass__(cls) -> None:
        cls.__test__ = True

    @abstractmethod
    def build_surveyor(self, folder: Path) -> tuple[Surveyor, list[Sample]]:
        """The surveyor under test, and three samples of different networks that it can build."""

    def test_it_is_a_surveyor(self, tmp_path: Path) -> None:
        """It has the seam's method."""
        assert isinstance(self.build_surveyor(tmp_path)[0], Surveyor)

    def test_the_first_sample_is_always_looked_at(self, tmp_path: Path) -> None:
        """An answer is a beginning of the question, and never empty."""
        surveyor, samples = self.build_surveyor(tmp_path)
        assert 1 <= len(surveyor.survey(samples)) <= len(samples)

    def test_asked_again_it_gives_the_same(self, tmp_path: Path) -> None:
        """What is known does not change."""
        surveyor, samples = self.build_surveyor(tmp_path)
        first = [surveyor.survey([sample])[0] for sample in samples]
        assert [surveyor.survey([sample])[0] for sample in samples] == first

    def test_all_have_the_same_number_of_traits(self, tmp_path: Path) -> None:
        """Traits are columns; latencies are positive."""
        surveyor, samples = self.build_surveyor(tmp_path)
        found = [surveyor.survey([sample])[0] for sample in samples]
        known = [prospect for prospect in found if prospect is not None]
        assert len(known) == len(samples)
        assert len({len(prospect.traits) for prospect in known}) == 1
        assert all(prospect.latency_ms > 0 for prospect in known)
