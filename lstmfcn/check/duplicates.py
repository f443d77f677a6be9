"""Which rows hold the same series, by their hashes. Shapes: N rows without fault."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstmfcn.cells import Place
from lstmfcn.check.examination import Examined
from lstmfcn.check.parts import Classes
from lstmfcn.errors import DataError

Dropped = dict[str, dict[int, DataError]]
"""Rows to leave out though they are without fault, by file and row, each with the reason."""

Indices = npt.NDArray[np.int64]


class Pairs(NamedTuple):
    """Rows, and an earlier row, or one of other data, that each equals; indices, (n,) each."""

    rows: Indices
    equals: Indices


class Series:
    """The series of a data argument, in order.

    Attributes:
        hashes: (N,).
        codes: the classes of each, as indices, (N,).
    """

    def __init__(self, examined: Examined, code_of: dict[Classes, int]) -> None:
        """Take the rows; ``code_of`` names the classes, in all data alike, and is added to."""
        self._shards = [shard for shard in examined.shards if shard.statistics]
        self.hashes = np.concatenate([rows.hashes for rows in examined.statistics])
        parts = []
        for rows in examined.statistics:
            codes = [code_of.setdefault(names, len(code_of)) for names in rows.classes]
            parts.append(np.array(codes, np.int64)[rows.codes])
        self.codes: Indices = np.concatenate(parts)
        n_rows = [rows.n_rows for rows in examined.statistics]
        self._starts = np.cumsum([0, *n_rows])

    def place(self, index: int) -> Place:
        """Where a row stands."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        found = self._shards[number]
        return Place(found.shard.path, found.row_of(index - int(self._starts[number])))

    def repeats(self) -> Pairs:
        """Rows whose series and classes an earlier row has."""
        _, groups = np.unique(self.hashes, return_inverse=True)
        n_codes = int(self.codes.max(initial=0)) + 1
        return _later(groups * n_codes + self.codes)

    def contradictions(self) -> Pairs:
        """Rows whose series an earlier row has, with other classes than its first one."""
        rows, first = _later(self.hashes)
        other = self.codes[rows] != self.codes[first]
        return Pairs(rows[other], first[other])

    def shared_with(self, others: Series) -> Pairs:
        """Rows whose series the other data has too, and the first such row there."""
        known, first = np.unique(others.hashes, return_index=True)
        if not len(known):
            return Pairs(np.empty(0, np.int64), np.empty(0, np.int64))
        nearest = np.minimum(np.searchsorted(known, self.hashes), len(known) - 1)
        rows = np.flatnonzero(known[nearest] == self.hashes)
        return Pairs(rows, first[nearest[rows]])


def _later(keys: npt.NDArray[np.generic]) -> Pairs:
    """Where a key stands that stood there before, and where it stood first."""
    _, first, groups = np.unique(keys, return_index=True, return_inverse=True)
    earliest = first[groups]
    rows = np.flatnonzero(earliest != np.arange(len(keys)))
    return Pairs(rows, earliest[rows])


def rows_to_drop(
    training: Examined, validation: Examined | None, duplicates: bool, shared: bool
) -> Dropped:
    """Training rows that repeat an earlier row, or whose series the validation data has too.

    Args:
        duplicates: whether the first are wanted.
        shared: whether the second are.
    """
    dropped: Dropped = {}
    code_of: dict[Classes, int] = {}
    rows = Series(training, code_of)
    wanted = [(rows.repeats(), rows, "--drop-duplicates")] if duplicates else []
    if shared and validation and validation.statistics:
        held_out = Series(validation, code_of)
        wanted.append((rows.shared_with(held_out), held_out, "--drop-shared"))
    for pairs, others, flag in wanted:
        for row, other in zip(pairs.rows.tolist(), pairs.equals.tolist(), strict=True):
            file, number = rows.place(row)
            found = f"the series of {others.place(other)}"
            reason = DataError(found, f"left out by {flag}", file=file, row=number)
            dropped.setdefault(file, {})[number] = reason
    return dropped
