"""Rows that are shown one by one: the hardest, and a few that are explained.

Shapes: n rows, K channels of T timepoints, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstmfcn.cells import FloatArray, Place
from lstmfcn.classifier import Classifier
from lstmfcn.report.gathering import Gathered, true_shares
from lstmfcn.schema import SeriesSchema

_SURE, _WRONG = 3, 3


class ShownRow(NamedTuple):
    """One row, its labels and its prediction.

    Attributes:
        place: where it stands.
        values: unscaled, (K, T).
        true, decided: its labels; of multilabel any number of them.
        true_class, decided_class: what is told of it, as indices: the class, and the one that was
            decided. Of multilabel, twice the label in question.
        true_share: the probability that was given to what is true of it.
        decided_share: the probability that was given to what was decided.
        runner_up: the most probable class but for the decided one; of one label, that one.
        right: whether all its labels are.
    """

    place: Place
    values: FloatArray
    true: tuple[str, ...]
    decided: tuple[str, ...]
    true_class: int
    decided_class: int
    true_share: float
    decided_share: float
    runner_up: int
    right: bool


class ExplainedRow(NamedTuple):
    """One row, and what speaks for the answer that it was given, rather than another.

    ``bias + lstm + terms.sum()`` is how far the logit of the answer lies above the other's; of
    binary and multilabel, above 0, where both are as probable.

    Attributes:
        answer, other: what was decided, and what it is compared with.
        terms: each timepoint's, (T,).
        bias, lstm: the terms that belong to no timepoint.
    """

    row: ShownRow
    answer: str
    other: str
    terms: FloatArray
    bias: float
    lstm: float

    @property
    def total(self) -> float:
        """The sum of all terms."""
        return self.bias + self.lstm + float(self.terms.sum())


def hardest_rows(gathered: Gathered) -> list[ShownRow]:
    """The rows whose true labels were given the lowest probabilities, those first."""
    numbers, values = gathered.hardest
    shares, classes = true_shares(gathered.schema, gathered.columns)
    order = np.argsort(shares[numbers], kind="stable")
    return [_shown(gathered, int(numbers[k]), values[k], int(classes[numbers[k]])) for k in order]


def explained_rows(classifier: Classifier, gathered: Gathered) -> list[ExplainedRow]:
    """Rows decided right, the surest of each of three classes; then the three hardest that are not.

    The first are chosen from the sample.
    """
    wrong = [row for row in hardest_rows(gathered) if not row.right]
    rows = [*_surest(gathered), *wrong[:_WRONG]]
    if not rows:
        return []
    found = classifier.explain(np.stack([row.values.ravel() for row in rows]))
    explained = []
    for row, timepoints, lstm in zip(rows, found.timepoints, found.lstm, strict=True):
        weights, answer, other = _comparison(gathered.schema, row)
        explained.append(
            ExplainedRow(
                row=row,
                answer=answer,
                other=other,
                terms=weights @ timepoints,
                bias=float(weights @ found.bias),
                lstm=float(weights @ lstm),
            )
        )
    return explained


def _surest(gathered: Gathered) -> list[ShownRow]:
    columns, schema = gathered.columns, gathered.schema
    numbers = gathered.sample.numbers
    true, decided = columns.true[numbers], columns.decided[numbers]
    shares, _ = true_shares(schema, columns)
    right = (true == decided).all(axis=1)
    surest: dict[int, int] = {}
    for k in np.argsort(-shares[numbers], kind="stable"):
        given = np.where(decided[k] == 1, columns.probabilities[numbers[k]], -1)
        if right[k] and decided[k].any():
            surest.setdefault(int(given.argmax()), int(k))
    return [
        _shown(gathered, int(numbers[k]), gathered.sample.values[k], asked)
        for asked, k in list(surest.items())[:_SURE]
    ]


def _shown(gathered: Gathered, number: int, values: FloatArray, asked: int) -> ShownRow:
    """A row, of which one class is asked for: the true one, or the label in question."""
    schema = gathered.schema
    true, decided, shares = (column[number] for column in gathered.columns)
    multilabel = schema.task == "multilabel"
    chosen = asked if multilabel else int(decided.argmax())
    return ShownRow(
        place=gathered.place(number),
        values=values.reshape(schema.n_channels, schema.n_timepoints),
        true=_names(schema.classes, true),
        decided=_names(schema.classes, decided),
        true_class=asked,
        decided_class=chosen,
        true_share=float(shares[asked] if true[asked] else 1 - shares[asked]),
        decided_share=float(shares[chosen] if decided[chosen] else 1 - shares[chosen]),
        runner_up=int(np.where(np.arange(len(shares)) == chosen, -1, shares).argmax()),
        right=bool((true == decided).all()),
    )


def _names(classes: tuple[str, ...], marks: npt.NDArray[np.int8]) -> tuple[str, ...]:
    return tuple(name for name, mark in zip(classes, marks, strict=True) if mark)


def _comparison(schema: SeriesSchema, row: ShownRow) -> tuple[FloatArray, str, str]:
    """What each logit counts, (outputs,), and the two answers that are compared.

    Of multiclass, the decided class and the true one; where they are the same, the most probable
    of the others.
    """
    classes = schema.classes
    if schema.task == "multiclass":
        other = row.runner_up if row.right else row.true_class
        weights = np.zeros(len(classes), dtype=np.float32)
        weights[row.decided_class], weights[other] = 1, -1
        return weights, classes[row.decided_class], classes[other]
    if schema.task == "binary":
        yes = row.decided_class == 1
        return np.array([1 if yes else -1], np.float32), classes[yes], classes[not yes]
    name = classes[row.decided_class]
    yes = name in row.decided
    weights = np.zeros(len(classes), dtype=np.float32)
    weights[row.decided_class] = 1 if yes else -1
    return weights, *((name, f"not {name}") if yes else (f"not {name}", name))
