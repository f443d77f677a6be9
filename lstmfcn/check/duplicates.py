"""Find rows with the same series, by hashes of the values. Shapes: N rows without faults."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstmfcn.check.row_errors import Classes
from lstmfcn.check.scan import DataScan
from lstmfcn.data.table import Place
from lstmfcn.errors import DataError

Dropped = dict[str, dict[int, DataError]]
"""Rows without faults that are to be removed, by file and row, each with the reason."""

Indices = npt.NDArray[np.int64]


class Pairs(NamedTuple):
    """Rows, and for each an equal row: an earlier one, or one of other data. Indices, (n,) each."""

    rows: Indices
    equals: Indices


class Series:
    """The series of all shards of a scan, in order.

    Args:
        class_codes: a number for each set of classes, shared by all data; new ones are added.

    Attributes:
        hashes: the hash of each series, (N,).
        codes: the number of the classes of each row, (N,).
    """

    def __init__(self, scan: DataScan, class_codes: dict[Classes, int]) -> None:
        self._shards = [shard for shard in scan.shards if shard.statistics]
        self.hashes = np.concatenate([rows.hashes for rows in scan.statistics])
        parts = []
        for rows in scan.statistics:
            codes = [class_codes.setdefault(names, len(class_codes)) for names in rows.classes]
            parts.append(np.array(codes, np.int64)[rows.codes])
        self.codes: Indices = np.concatenate(parts)
        n_rows = [rows.n_rows for rows in scan.statistics]
        self._starts = np.cumsum([0, *n_rows])

    def place(self, index: int) -> Place:
        """The file and row number of the series with this index."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        findings = self._shards[number]
        row = findings.row_number(index - int(self._starts[number]))
        return Place(findings.shard.path, row)

    def repeats(self) -> Pairs:
        """Find rows with the same series and classes as an earlier row."""
        _, groups = np.unique(self.hashes, return_inverse=True)
        n_codes = int(self.codes.max(initial=0)) + 1
        return _find_repeated(groups * n_codes + self.codes)

    def contradictions(self) -> Pairs:
        """Find rows with the same series as an earlier row, but other classes than the first."""
        rows, first = _find_repeated(self.hashes)
        other = self.codes[rows] != self.codes[first]
        return Pairs(rows[other], first[other])

    def shared_with(self, others: Series) -> Pairs:
        """Find rows whose series is also in other data, and the first such row there."""
        hashes, first = np.unique(others.hashes, return_index=True)
        rows = np.flatnonzero(np.isin(self.hashes, hashes))
        return Pairs(rows, first[np.searchsorted(hashes, self.hashes[rows])])


def _find_repeated(keys: npt.NDArray[np.generic]) -> Pairs:
    """Find keys that occurred before, and where each occurred first."""
    _, first, groups = np.unique(keys, return_index=True, return_inverse=True)
    earliest = first[groups]
    rows = np.flatnonzero(earliest != np.arange(len(keys)))
    return Pairs(rows, earliest[rows])


def rows_to_drop(
    training: DataScan, validation: DataScan | None, duplicates: bool, shared: bool
) -> Dropped:
    """List training rows that are to be removed from clean shards.

    Args:
        duplicates: whether to remove rows that repeat an earlier row.
        shared: whether to remove rows whose series is also in the validation data.
    """
    dropped: Dropped = {}
    class_codes: dict[Classes, int] = {}
    rows = Series(training, class_codes)
    removals = [(rows.repeats(), rows, "--drop-duplicates")] if duplicates else []
    if shared and validation and validation.statistics:
        validation_rows = Series(validation, class_codes)
        removals.append((rows.shared_with(validation_rows), validation_rows, "--drop-shared"))
    for pairs, others, flag in removals:
        for row, other in zip(pairs.rows.tolist(), pairs.equals.tolist(), strict=True):
            file, number = rows.place(row)
            found = f"the same series as in {others.place(other)}"
            reason = DataError(found, f"removed by {flag}", file=file, row=number)
            dropped.setdefault(file, {})[number] = reason
    return dropped
