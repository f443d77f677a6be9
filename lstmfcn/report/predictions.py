"""Predict all rows of labelled shards; keep the values only of rows that will be drawn.

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

from lstmfcn.data.reader import ShardedDataset, read_tables
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.table import Array, FloatArray, Place, measure_lengths
from lstmfcn.inference.predictor import Classifier
from lstmfcn.training.calibration import OneVsRest, to_one_vs_rest

HARDEST, ALIKE = 12, 2
"""Number of hardest rows; their maximum per pair of true and predicted class."""

_MAX_SAMPLE_ROWS, _MIN_SAMPLE_ROWS = 200, 8
_MAX_SAMPLE_VALUES = 1 << 24
"""Limit for the medians of classes: 64 MiB of values."""


class KeptRows(NamedTuple):
    """Selected rows: their numbers among all rows, from 0, (n,), and their values (n, V)."""

    numbers: npt.NDArray[np.int64]
    values: FloatArray


@dataclass(frozen=True)
class Predictions:
    """The predictions of all rows of the shards.

    Attributes:
        columns: true labels, predicted labels and probabilities of each class, (N, C).
        labels: encoded true labels, (N,) or (N, L).
        probabilities: probabilities of each label column, (N, L).
        decided: predicted labels, 0 or 1, (N, L).
        lengths: length of each series up to its last value, in timepoints, (N,).
        missing: number of missing values before the ends of the series.
        hardest: rows with the lowest `true_probabilities`, at most 2 per pair of true and predicted
            class, in the order of the shards.
        sample: up to 200 random rows of each class, in the order of the shards.
        starts: number of rows before each shard.
    """

    schema: SeriesSchema
    columns: OneVsRest
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
        """Return file and row of a row, by its number among all rows."""
        shard = bisect_right(self.starts, number) - 1
        return Place(self.shards[shard], number - self.starts[shard] + 1)


def collect_predictions(
    classifier: Classifier, shard_set: ShardedDataset, seed: int = 0
) -> Predictions:
    """Read and predict every row once, in order.

    Args:
        seed: seed of the sample, which does not depend on the shard layout.

    Raises:
        DataError: a shard breaks the data contract.
    """
    schema = classifier.schema
    hardest = _TopK(choose_hardest, schema.n_values)
    sample = _TopK(partial(_choose_lowest_of_each, _sample_size(schema)), schema.n_values)
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
            decided = classifier.predict_labels(probabilities[-1])
            columns = to_one_vs_rest(schema, labels[-1], probabilities[-1], decided)
            of_true, classes = true_probabilities(schema, columns)
            pairs = number_class_pairs(columns, classes, schema.task == "multilabel")
            hardest.add(rows, values, of_true, pairs)
            sample.add(rows, values, random.random(len(values)), columns.true == 1)
            piece_lengths, piece_missing = measure_lengths(values, schema.n_channels)
            lengths.append(piece_lengths)
            missing += piece_missing
            rows += len(values)
    all_labels, all_probabilities = np.concatenate(labels), np.concatenate(probabilities)
    decided = classifier.predict_labels(all_probabilities)
    return Predictions(
        schema=schema,
        columns=to_one_vs_rest(schema, all_labels, all_probabilities, decided),
        labels=all_labels,
        probabilities=all_probabilities,
        decided=decided,
        lengths=np.concatenate(lengths),
        missing=missing,
        hardest=hardest.kept,
        sample=sample.kept,
        shards=[shard.name for shard in shard_set.shards],
        starts=starts,
    )


def true_probabilities(
    schema: SeriesSchema, columns: OneVsRest
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return the probability of each row's true class, (N,), and the index of that class, (N,).

    With multilabel, this is the label whose true value (0 or 1) has the lowest probability.
    """
    of_true = np.where(columns.true == 1, columns.probabilities, 1 - columns.probabilities)
    multilabel = schema.task == "multilabel"
    classes = of_true.argmin(axis=1) if multilabel else columns.true.argmax(axis=1)
    return of_true[np.arange(len(of_true)), classes], classes


class _TopK:
    """Keeps the rows that a function of keys (n,) and groups (n, ...) chooses, as rows arrive."""

    def __init__(self, choose: Callable[[Array, Array], npt.NDArray[np.bool_]], n_values: int):
        self._choose = choose
        self.kept = KeptRows(np.empty(0, dtype=np.int64), np.empty((0, n_values), np.float32))
        self._keys: Array = np.empty(0)
        self._groups: Array | None = None

    def add(self, before: int, values: FloatArray, keys: Array, groups: Array) -> None:
        """Add the next n rows, given the number of rows before; of equal keys the first is kept."""
        n_kept = len(self._keys)
        keys = np.concatenate([self._keys, keys])
        groups = groups if self._groups is None else np.concatenate([self._groups, groups])
        chosen = self._choose(keys, groups)
        old, new = chosen[:n_kept], chosen[n_kept:]
        numbers = np.concatenate([self.kept.numbers[old], before + np.flatnonzero(new)])
        self.kept = KeptRows(numbers, np.concatenate([self.kept.values[old], values[new]]))
        self._keys, self._groups = keys[chosen], groups[chosen]


def _choose_lowest_of_each(n_rows: int, keys: Array, members: Array) -> npt.NDArray[np.bool_]:
    """Choose the rows with the lowest keys (n,) of each of G groups, given the members (n, G)."""
    chosen = np.zeros(len(keys), dtype=bool)
    for is_member in members.T:
        (rows,) = np.nonzero(is_member)
        chosen[rows[np.argsort(keys[rows], kind="stable")[:n_rows]]] = True
    return chosen


def choose_hardest(keys: Array, pairs: Array) -> npt.NDArray[np.bool_]:
    """Choose the 12 rows with the lowest keys, at most 2 per pair of true and predicted class.

    Args:
        keys: keys of the rows, (n,).
        pairs: the number of each row's pair, (n,).
    """
    by_pair = np.lexsort((keys, pairs))
    _, counts = np.unique(pairs, return_counts=True)
    rank = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    candidates = np.sort(by_pair[rank < ALIKE])
    chosen = np.zeros(len(keys), dtype=bool)
    chosen[candidates[np.argsort(keys[candidates], kind="stable")[:HARDEST]]] = True
    return chosen


def number_class_pairs(
    columns: OneVsRest, classes: npt.NDArray[np.int64], multilabel: bool
) -> npt.NDArray[np.int64]:
    """Number the pair of true and predicted class of each row, (N,).

    Args:
        columns: labels and predictions of all classes, (N, C).
        classes: the true class of each row, (N,), from `true_probabilities`.
        multilabel: whether the pair is the true and the predicted value of that label.
    """
    n_classes = columns.true.shape[1]
    decided = columns.decided.argmax(axis=1).astype(np.int64)
    if multilabel:
        rows = np.arange(len(classes))
        decided = (2 * columns.true[rows, classes] + columns.decided[rows, classes]).astype(
            np.int64
        )
    pairs: npt.NDArray[np.int64] = classes * max(4, n_classes) + decided
    return pairs


def _sample_size(schema: SeriesSchema) -> int:
    """Return the number of rows of each class to sample."""
    affordable = _MAX_SAMPLE_VALUES // (len(schema.classes) * schema.n_values)
    return max(_MIN_SAMPLE_ROWS, min(_MAX_SAMPLE_ROWS, affordable))
