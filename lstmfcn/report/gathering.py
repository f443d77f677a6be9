"""Predict all rows of labelled shards, and keep whole only those that will be drawn.

Shapes: N rows, V values, of all channels, L label columns, C classes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstmfcn.cells import Array, FloatArray, Place
from lstmfcn.classifier import Classifier
from lstmfcn.evaluation import ClassColumns, class_columns
from lstmfcn.reading import ShardSet, read_tables
from lstmfcn.schema import SeriesSchema

HARDEST, ALIKE = 12, 2
"""Rows that are listed and drawn as the hardest; of one true and one decided class the most."""

_SAMPLE_ROWS, _FEWEST_SAMPLE_ROWS = 200, 8
_SAMPLE_VALUES = 1 << 24
"""The most values kept for the medians of classes: 64 MiB of them."""


class KeptRows(NamedTuple):
    """Rows that are kept whole: their numbers among all rows, from 0, (n,), and values (n, V)."""

    numbers: npt.NDArray[np.int64]
    values: FloatArray


@dataclass(frozen=True)
class Gathered:
    """All rows of the shards, predicted.

    Attributes:
        schema: of the model.
        columns: true and decided labels and probabilities of each class, (N, C).
        labels: encoded, (N,) or (N, L).
        probabilities: of each label column, (N, L).
        decided: the 0/1 labels that follow, (N, L).
        lengths: of each series up to its last value, in timepoints, (N,).
        missing: values missing before that, over all rows and channels.
        hardest: the rows of the lowest `true_shares`, of each pair of true and decided class 2 at
            most, in the order of the shards.
        sample: up to 200 rows of each class, chosen by chance, in the order of the shards.
        shards: their names.
        starts: rows before each of them.
    """

    schema: SeriesSchema
    columns: ClassColumns
    labels: Array
    probabilities: FloatArray
    decided: npt.NDArray[np.int8]
    lengths: npt.NDArray[np.int64]
    missing: int
    hardest: KeptRows
    sample: KeptRows
    shards: list[str]
    starts: list[int]

    def place(self, number: int) -> Place:
        """Where a row stands, by its number among all."""
        shard = bisect_right(self.starts, number) - 1
        return Place(self.shards[shard], number - self.starts[shard] + 1)


def gather(classifier: Classifier, shard_set: ShardSet, seed: int = 0) -> Gathered:
    """Read and predict every row once, in order.

    Args:
        shard_set: labelled shards of the classifier's schema.
        seed: of the sample, which is the same in any shard layout.

    Raises:
        DataError: a shard breaks the data contract.
    """
    schema = classifier.schema
    hard = _Keeper(hardest, schema.n_values)
    sample = _Keeper(partial(_lowest_of_each, _sample_rows(schema)), schema.n_values)
    random = np.random.default_rng(seed)
    labels: list[Array] = []
    probabilities: list[FloatArray] = []
    lengths: list[npt.NDArray[np.int64]] = []
    starts, rows, missing = [], 0, 0
    for shard, header in zip(shard_set.shards, shard_set.headers, strict=True):
        starts.append(rows)
        for table, source in read_tables(shard, schema, labels=True, header=header):
            values = schema.encode_values(table, source)
            labels.append(schema.encode_labels(table, source))
            probabilities.append(classifier.predict_proba(values, source))
            decided = classifier.decide(probabilities[-1])
            columns = class_columns(schema, labels[-1], probabilities[-1], decided)
            shares, asked = true_shares(schema, columns)
            pairs = class_pairs(columns, asked, schema.task == "multilabel")
            hard.add(rows, values, shares, pairs)
            sample.add(rows, values, random.random(len(values)), columns.true == 1)
            lengths.append(_lengths(schema, values))
            missing += _gaps(schema, values, lengths[-1])
            rows += len(values)
    all_labels, shares = np.concatenate(labels), np.concatenate(probabilities)
    decided = classifier.decide(shares)
    return Gathered(
        schema=schema,
        columns=class_columns(schema, all_labels, shares, decided),
        labels=all_labels,
        probabilities=shares,
        decided=decided,
        lengths=np.concatenate(lengths),
        missing=missing,
        hardest=hard.kept,
        sample=sample.kept,
        shards=[shard.name for shard in shard_set.shards],
        starts=starts,
    )


def true_shares(
    schema: SeriesSchema, columns: ClassColumns
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """The probability that each row's true label was given, (N,), and which class that is, (N,).

    Of multilabel, the least over its labels, 0 or 1 each, and that label.
    """
    shares = np.where(columns.true == 1, columns.probabilities, 1 - columns.probabilities)
    least = schema.task == "multilabel"
    classes = shares.argmin(axis=1) if least else columns.true.argmax(axis=1)
    return shares[np.arange(len(shares)), classes], classes


class _Keeper:
    """Keeps some rows whole, as rows come.

    Args:
        choose: which of the rows so far to keep, by their keys (n,) and groups (n, ...); a row that
            it leaves out once is left out for good.
        n_values: V.
    """

    def __init__(self, choose: Callable[[Array, Array], npt.NDArray[np.bool_]], n_values: int):
        self._choose = choose
        self.kept = KeptRows(np.empty(0, dtype=np.int64), np.empty((0, n_values), np.float32))
        self._keys: Array = np.empty(0)
        self._groups: Array | None = None

    def add(self, before: int, values: FloatArray, keys: Array, groups: Array) -> None:
        """Take the next rows.

        Args:
            before: rows that came before them.
            values: (n, V).
            keys: (n,); among equals the first row is kept.
            groups: (n, ...).
        """
        n_kept = len(self._keys)
        keys = np.concatenate([self._keys, keys])
        groups = groups if self._groups is None else np.concatenate([self._groups, groups])
        chosen = self._choose(keys, groups)
        old, new = chosen[:n_kept], chosen[n_kept:]
        numbers = np.concatenate([self.kept.numbers[old], before + np.flatnonzero(new)])
        self.kept = KeptRows(numbers, np.concatenate([self.kept.values[old], values[new]]))
        self._keys, self._groups = keys[chosen], groups[chosen]


def _lowest_of_each(n_rows: int, keys: Array, members: Array) -> npt.NDArray[np.bool_]:
    """Those of the lowest keys in each of G groups, given which rows are in each, (n, G)."""
    chosen = np.zeros(len(keys), dtype=bool)
    for is_member in members.T:
        (rows,) = np.nonzero(is_member)
        chosen[rows[np.argsort(keys[rows], kind="stable")[:n_rows]]] = True
    return chosen


def hardest(keys: Array, pairs: Array) -> npt.NDArray[np.bool_]:
    """The 12 rows of the lowest keys, of each pair of true and decided class the first 2 only.

    Args:
        keys: (n,).
        pairs: (n,), a number for each pair.
    """
    by_pair = np.lexsort((keys, pairs))
    _, counts = np.unique(pairs, return_counts=True)
    rank = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    left = np.sort(by_pair[rank < ALIKE])
    chosen = np.zeros(len(keys), dtype=bool)
    chosen[left[np.argsort(keys[left], kind="stable")[:HARDEST]]] = True
    return chosen


def class_pairs(
    columns: ClassColumns, asked: npt.NDArray[np.int64], multilabel: bool
) -> npt.NDArray[np.int64]:
    """A number for what was true and what was decided of each row, (N,).

    Args:
        columns: of all classes, (N, C).
        asked: the class that is told of each row, (N,), as `true_shares` gives it.
    """
    n_classes = columns.true.shape[1]
    decided = columns.decided.argmax(axis=1).astype(np.int64)
    if multilabel:
        rows = np.arange(len(asked))
        decided = (2 * columns.true[rows, asked] + columns.decided[rows, asked]).astype(np.int64)
    pairs: npt.NDArray[np.int64] = asked * max(4, n_classes) + decided
    return pairs


def _sample_rows(schema: SeriesSchema) -> int:
    """Rows of each class to keep for medians."""
    most = _SAMPLE_VALUES // (len(schema.classes) * schema.n_values)
    return max(_FEWEST_SAMPLE_ROWS, min(_SAMPLE_ROWS, most))


def _lengths(schema: SeriesSchema, values: FloatArray) -> npt.NDArray[np.int64]:
    """Timepoints of each series (n, V) up to its last value, (n,)."""
    if schema.missing == "refuse":
        return np.full(len(values), schema.n_timepoints, dtype=np.int64)
    channels = np.isnan(values).reshape(len(values), schema.n_channels, -1)
    there: npt.NDArray[np.bool_] = ~np.logical_and.reduce(channels, axis=1)
    lengths: npt.NDArray[np.int64] = schema.n_timepoints - there[:, ::-1].argmax(axis=1)
    return lengths


def _gaps(schema: SeriesSchema, values: FloatArray, lengths: npt.NDArray[np.int64]) -> int:
    """Values that are missing before the end of their series."""
    after_the_end = (schema.n_timepoints - lengths).sum() * schema.n_channels
    return int(np.isnan(values).sum() - after_the_end)
