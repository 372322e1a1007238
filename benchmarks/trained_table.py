"""A table in which every network was trained, and its latency measured on one device.

In NAS-Bench-201's notation: a cell of six edges, each one of five operations.
"""

import csv
import gzip
import statistics
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autokd.types import Dimension, Prospect, Sample

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))  # edges from a cell's first node to its last
LABELS = tuple(f"edge_{index}" for index in range(6))
CONVOLUTIONS = (2, 3)
_GZIP = b"\x1f\x8b"  # what such a file begins with


@dataclass(frozen=True, kw_only=True)
class Table:
    """One device's view of the table.

    Attributes:
        cells: Operation of each of the six edges, a row a network.
        accuracies: After the full training, in [0, 1].
        low_accuracies: After the short one, in [0, 1].
        latencies: In ms.
        n_params: Parameters.
        traits: What is known of each network before training.
        floor: First quartile of the accuracies.
        volume: Hypervolume of the whole table.
    """

    cells: np.ndarray
    accuracies: np.ndarray
    low_accuracies: np.ndarray
    latencies: np.ndarray
    n_params: np.ndarray
    traits: np.ndarray
    floor: float
    volume: float

    def scaled_costs(self) -> np.ndarray:
        """Log latency, 0 for the fastest network and 1 for the slowest."""
        logs = np.log(self.latencies)
        return (logs - logs.min()) / (logs.max() - logs.min())


def count_paths(cell: Sequence[int]) -> list[float]:
    """Counts along the paths of a cell that carry something."""
    live = [path for path in PATHS if all(cell[edge] != 0 for edge in path)]
    edges = {edge for path in live for edge in path}
    depths = [sum(cell[edge] in CONVOLUTIONS for edge in path) for path in live] or [0]
    wide = [sum(cell[edge] == 3 for edge in path) for path in live] or [0]
    pools = [sum(cell[edge] == 4 for edge in path) for path in live] or [0]
    kinds = [float(sum(cell[edge] == kind for edge in edges)) for kind in range(1, 5)]
    means = [statistics.fmean(depths), statistics.fmean(pools)]
    return [len(live), *kinds, max(depths), min(depths), max(wide), *means]


def load_table(
    path: Path, *, accuracy: str, low_accuracy: str, latency: str, min_latency_ms: float
) -> Table:
    """One device's view of a table in NAS-Bench-201's notation.

    Args:
        path: CSV, gzipped or plain; what is wrong with it ends the program with one line.
        accuracy: Column, percent, of the full training.
        low_accuracy: Column, percent, of the short one.
        latency: Column, ms.
        min_latency_ms: Networks that are faster are left out.

    Returns:
        The networks in the order of the file.
    """
    numbers = read_numbers(path, columns=(accuracy, low_accuracy, latency, "n_params"))
    rows = [row for row in numbers if row[latency] >= min_latency_ms]
    if len({row[latency] for row in rows}) < 2:
        sys.exit(
            f"`--latency {latency}` must have different values of {min_latency_ms:g} ms or more, "
            f"got {len(rows)} of {len(numbers)} networks there; give another COLUMN or MIN_MS"
        )
    cells = np.array([row["architecture"] for row in rows])
    accuracies = np.array([row[accuracy] / 100 for row in rows])
    latencies = np.array([row[latency] for row in rows])
    n_params = np.array([row["n_params"] for row in rows])
    paths = np.array([count_paths(cell) for cell in cells.tolist()])
    table = Table(
        cells=cells,
        accuracies=accuracies,
        low_accuracies=np.array([row[low_accuracy] / 100 for row in rows]),
        latencies=latencies,
        n_params=n_params,
        traits=np.column_stack([np.log(n_params), np.log(latencies), paths]),
        floor=float(np.quantile(accuracies, 0.25)),
        volume=1.0,
    )
    volume = measure_volume(table, range(len(cells)))
    return Table(**{**table.__dict__, "volume": volume})


def read_numbers(path: Path, *, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Cell and numbers of each row."""
    rows = []
    for number, row in enumerate(read_rows(path, columns=("architecture", *columns)), 2):
        try:
            values = {column: float(row[column]) for column in columns}
            rows.append({"architecture": read_cell(str(row["architecture"])), **values})
        except (TypeError, ValueError) as error:  # None where a row is too short
            sys.exit(f"`--table` must hold cells and numbers, got {path}, line {number}: {error}")
    return rows


def read_rows(path: Path, *, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV, gzipped or plain."""
    try:
        with path.open("rb") as file:
            is_gzipped = file.read(2) == _GZIP
        opening = gzip.open if is_gzipped else open
        with opening(path, "rt", encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows, there = list(reader), list(reader.fieldnames or ())
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        sys.exit(f"`--table` must be a CSV file, gzipped or plain, got {path}: {error}")
    if missing := [column for column in columns if column not in there]:
        sys.exit(
            f"`--table` must have the columns {', '.join(missing)}, got {path} with "
            f"{', '.join(there) or 'none'}; name those with --accuracy, --latency and their like"
        )
    return rows


def split_latency(word: str) -> tuple[str, float]:
    """`COLUMN[:MIN_MS]` as the column and the least latency, 0 ms where none is given."""
    column, _, least = word.partition(":")
    try:
        return column, float(least or 0)
    except ValueError:
        sys.exit(f"`--latency` must be COLUMN or COLUMN:MIN_MS, got {word}; MIN_MS is a number")


def read_cell(text: str) -> list[int]:
    """`|op~0|+|op~0|op~1|+...` as the operations of the six edges; a `ValueError` if it is none."""
    words = [word for node in text.split("+") for word in node.strip("|").split("|")]
    if len(words) != len(LABELS):
        raise ValueError(f"{text!r} has {len(words)} edges, not {len(LABELS)}")
    return [OPERATIONS.index(word.split("~")[0]) for word in words]


def measure_volume(table: Table, chosen: Sequence[int] | range) -> float:
    """Hypervolume of some networks as a fraction of the whole table's."""
    rows = np.asarray(chosen)
    costs = table.scaled_costs()
    volume, best = 0.0, table.floor
    for row in rows[np.argsort(costs[rows], kind="stable")]:
        if table.accuracies[row] > best:
            volume += (table.accuracies[row] - best) * (1 - costs[row])
            best = table.accuracies[row]
    return volume / table.volume


class TableSurveyor:
    """Looks latency and traits up in the table."""

    def __init__(self, table: Table) -> None:
        """Indexes the table."""
        self._table = table
        self.rows = {tuple(cell): row for row, cell in enumerate(table.cells.tolist())}

    def row_of(self, sample: Sample) -> int | None:
        """Where a network stands; none where it is not in the table."""
        return self.rows.get(tuple(OPERATIONS.index(str(sample[label])) for label in LABELS))

    def survey(self, samples: Sequence[Sample]) -> list[Prospect | None]:
        """What is known of each before training."""
        return [self._prospect(self.row_of(sample)) for sample in samples]

    def _prospect(self, row: int | None) -> Prospect | None:
        if row is None:
            return None
        table = self._table
        return Prospect(
            latency_ms=float(table.latencies[row]), traits=tuple(table.traits[row].tolist())
        )


def build_dimensions() -> list[Dimension]:
    """One dimension an edge."""
    return [
        Dimension(label=label, room="architecture", choices=OPERATIONS, default=OPERATIONS[0])
        for label in LABELS
    ]
