"""Latencies that were measured elsewhere, looked up in a table."""

import csv
import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from autokd.errors import ConfigError, MeasureError
from autokd.latency.footprint import network_key
from autokd.latency.network_file import is_quantized, load_network
from autokd.types import Latency, Target

__all__ = ["ARCHITECTURE_SUFFIX", "TableTarget", "load_table"]

ARCHITECTURE_SUFFIX = ".architecture.json"
"""Of the file beside a candidate's ONNX file that holds label to value; no other ends so."""

_TIMES = ("ms", "latency_ms", "median_ms")
_NETWORK = "network"
_CARD = "autokd"  # metadata of an exported student
_TRUTHS = ("true", "false")  # as programs for tables write them in capitals
_SHOWN = 20  # labels of a space in an error; NNI's have hundreds


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One latency.

    Attributes:
        ms: Of the network.
        network: Its hash, or empty.
        architecture: Or label to value as text; a label that is left open fits any value.
    """

    ms: float
    network: str = ""
    architecture: Mapping[str, str]

    @property
    def n_open(self) -> int:
        """Labels that are left open."""
        return sum(not value for value in self.architecture.values())


@final
@dataclass(frozen=True, kw_only=True)
class TableTarget:
    """Looks networks up by their hash or their architecture.

    Attributes:
        name: Of the table.
        rows: As `load_table` reads them.
        target: Measures what the table does not hold, on the same device; without one, such a
            network cannot be measured.
    """

    name: str
    rows: Sequence[_Row]
    target: Target | None = None

    @property
    def needs_program(self) -> bool:
        """Whether what measures the rest does."""
        return self.target is not None and self.target.needs_program

    def __str__(self) -> str:
        """What makes two measurements comparable."""
        digest = hashlib.sha256(repr(self.rows).encode()).hexdigest()[:16]
        return f"table {self.name} {digest}, else {self.target}"

    @property
    def is_of_architectures(self) -> bool:
        """Whether it can tell of no INT8 file: those are found by their hash alone."""
        return self.target is None and not any(row.network for row in self.rows)

    def check_labels(self, labels: Collection[str]) -> None:
        """Refuses architectures none of which can be one of a space.

        A table may hold those of several spaces, and networks by their hash.

        Args:
            labels: Of the space's architectures.

        Raises:
            ConfigError: Each row has a column more than the space has labels, or lacks one.
        """
        wanted, found = set(labels), [set(row.architecture) for row in self.rows]
        described = [one for one in found if one]
        if wanted in described or not described or (not wanted and len(described) < len(found)):
            return
        nearest = min(described, key=lambda one: len(wanted ^ one))
        strange, missing = sorted(nearest - wanted), sorted(wanted - nearest)
        faults = [
            f"{word} {', '.join(map(repr, columns[:_SHOWN]))}"
            for word, columns in (("with", strange), ("without", missing))
            if columns
        ]
        shown = ", ".join(sorted(wanted)[:_SHOWN]) + (", ..." if len(wanted) > _SHOWN else "")
        rule = f"ms and a column for each label of the space and no other ({shown})"
        raise ConfigError(
            f"`--latency-table` must have {rule if wanted else 'the network of each row'}, got "
            f"{self.name} {' and '.join(faults)}; take out or add columns, where an empty cell "
            "fits any value"
        )

    def measure(self, model: Path) -> Latency:
        """The latency of one network; raises what `measure_together` raises."""
        return self.measure_together([model])[0]

    def measure_together(self, models: Sequence[Path]) -> list[Latency]:
        """The latencies in the table; those that are not in it are measured together.

        Args:
            models: ONNX files.

        Returns:
            One for each.

        Raises:
            MeasureError: A network is not in the table, and nothing measures it.
        """
        found = [self._find(model) for model in models]
        missing = [model for model, ms in zip(models, found, strict=True) if ms is None]
        if missing and self.target is None:
            raise MeasureError(
                f"{missing[0].name} must be in the table {self.name}, got the network "
                f"{network_key(missing[0])}; add a row with it, or name the table's device by "
                "--target to have it measured"
            )
        measured = iter(self.target.measure_together(missing) if self.target and missing else ())
        return [next(measured) if ms is None else self._describe(ms) for ms in found]

    def _find(self, model: Path) -> float | None:
        """Of the rows that fit, the one with the fewest open cells; a network's hash has none."""
        key, architecture = network_key(model), _read_architecture(model)
        fitting = [
            row
            for row in self.rows
            if row.network == key or (row.architecture and _fits(row.architecture, architecture))
        ]
        return min(fitting, key=lambda row: row.n_open).ms if fitting else None

    def _describe(self, ms: float) -> Latency:
        return Latency(
            median_ms=ms,
            ci95_low_ms=ms,
            ci95_high_ms=ms,
            p10_ms=ms,
            p90_ms=ms,
            n_runs=0,
            batch=1,
            threads=1,
            runtime="table",
            device=self.name,
            drift=1.0,
        )


def load_table(path: Path, *, target: Target | None = None) -> TableTarget:
    """Reads a table of latencies.

    Args:
        path: CSV with a column `ms`, and a column `network` or one for each label of the
            architecture; or JSON: a list of such rows, or an object of network to ms.
        target: As `TableTarget.target`.

    Returns:
        The table.

    Raises:
        ConfigError: It cannot be read, or a row of it is no latency.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        loaded = (
            _read_json(text) if path.suffix == ".json" else list(csv.DictReader(text.splitlines()))
        )
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"`--latency-table` must be a CSV or JSON file, got {path}: {error}"
        ) from error
    if not loaded:
        raise ConfigError(f"`--latency-table` must hold a latency, got {path}, which is empty")
    rows = [_read_row(row, path=path, number=number) for number, row in enumerate(loaded, 1)]
    _refuse_contradictions(rows, path=path)
    return TableTarget(name=path.name, rows=rows, target=target)


def _read_json(text: str) -> list[dict[str, Any]]:
    values = json.loads(text)
    if isinstance(values, dict):
        return [{_NETWORK: network, "ms": ms} for network, ms in values.items()]
    if not isinstance(values, list) or not all(isinstance(row, dict) for row in values):
        raise ValueError("it must be a list of objects, or an object of network to ms")
    return [_flatten(row) for row in values]


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose architecture may be an object of its own."""
    nested = row.get("architecture")
    if not isinstance(nested, dict):
        return row
    return {key: value for key, value in row.items() if key != "architecture"} | nested


def _read_row(row: Mapping[str, Any], *, path: Path, number: int) -> _Row:
    def complain(rule: str, value: object) -> ConfigError:
        return ConfigError(
            f"`--latency-table` must have {rule} in row {number} of {path}, got {value}"
        )

    column = next((name for name in _TIMES if name in row), None)
    if column is None:
        raise complain("a column ms", ", ".join(map(str, row)))
    try:
        ms = float(row[column])
    except (TypeError, ValueError) as error:
        raise complain("a number of milliseconds", row[column]) from error
    if not (math.isfinite(ms) and ms > 0):
        raise complain("a positive latency", row[column])
    network = str(row.get(_NETWORK) or "")
    known = {key: value for key, value in row.items() if key and key not in (*_TIMES, _NETWORK)}
    if not network and not any(value not in (None, "") for value in known.values()):
        raise complain("a network or an architecture", "neither")
    architecture = {} if network else {str(key): _as_text(value) for key, value in known.items()}
    return _Row(ms=ms, network=network, architecture=architecture)


def _refuse_contradictions(rows: Sequence[_Row], *, path: Path) -> None:
    """A `ConfigError` where a network or an architecture has two latencies."""
    known: dict[tuple[str, frozenset[tuple[str, str]]], tuple[int, float]] = {}
    for number, row in enumerate(rows, 1):
        key = row.network, frozenset(row.architecture.items())
        first, ms = known.setdefault(key, (number, row.ms))
        if ms != row.ms:
            raise ConfigError(
                f"`--latency-table` must have one latency of a network, got {ms:g} ms in row "
                f"{first} and {row.ms:g} in row {number} of {path}; keep one, such as the median"
            )


def _fits(wanted: Mapping[str, str], architecture: Mapping[str, str]) -> bool:
    """Whether an architecture has the labels of a row, and its values where they are given."""
    return wanted.keys() == architecture.keys() and all(
        value in ("", architecture[label]) for label, value in wanted.items()
    )


def _read_architecture(model: Path) -> dict[str, str]:
    """What lies beside the file, or what an exported student in FP32 says of itself, or nothing."""
    beside = model.with_suffix(ARCHITECTURE_SUFFIX)
    if beside.exists():
        values = _read_labels(beside)
    else:
        network = load_network(model)
        is_fp32 = not is_quantized(network)
        cards = [one.value for one in network.metadata_props if one.key == _CARD and is_fp32]
        values = json.loads(cards[0]).get("architecture", {}) if cards else {}
    return {label: _as_text(value) for label, value in values.items()}


def _read_labels(path: Path) -> dict[str, Any]:
    """The labels of an architecture; a `MeasureError` says that the file holds something else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MeasureError(f"{path} must hold an architecture as JSON, got {error}") from error
    if not isinstance(values, dict):
        raise MeasureError(f"{path} must hold an object of label to value, got {values!r}")
    return values


def _as_text(value: Any) -> str:  # noqa: ANN401 - a cell of a table
    """A value as a table writes it: 2 and 2.0 are the same, and so are True, TRUE and true."""
    if value is None:
        return ""
    try:
        return str(value) if isinstance(value, bool) else f"{float(value):g}"
    except (TypeError, ValueError):
        text = str(value).strip()
        return text.capitalize() if text.casefold() in _TRUTHS else text
