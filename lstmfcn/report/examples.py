"""Select the rows to show one by one: the hardest rows, and a few explained rows.

Shapes: n rows, K channels of T timepoints, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.table import FloatArray, Place
from lstmfcn.inference.predictor import Classifier
from lstmfcn.report.predictions import Predictions, true_probabilities

_N_SURE, _N_WRONG = 3, 3


class Example(NamedTuple):
    """One row, its labels and its prediction.

    Attributes:
        values: unscaled values, (K, T).
        true: its true labels; for multilabel any number of them.
        true_class: index of its true class; for multilabel, of the label in question.
        decided_class: index of its predicted class; for multilabel, of the label in question.
        true_share: the probability of the true class (or of the label's true value).
        decided_share: the probability of the predicted class (or of the label's predicted value).
        runner_up: index of the most probable other class; the same class if there is only one.
        right: whether all its labels are predicted correctly.
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


class ExplainedExample(NamedTuple):
    """One row, and what supports its predicted answer over another one.

    ``bias + lstm + terms.sum()`` is the logit of the answer minus that of the other; for binary and
    multilabel, the signed logit, as 0 means that both are equally probable.

    Attributes:
        other: the answer with which it is compared.
        terms: the term of each timepoint, (T,).
    """

    row: Example
    answer: str
    other: str
    terms: FloatArray
    bias: float
    lstm: float

    @property
    def total(self) -> float:
        """The sum of all terms."""
        return self.bias + self.lstm + float(self.terms.sum())


def select_hardest(predictions: Predictions) -> list[Example]:
    """Return the rows with the lowest probabilities of their true labels, the lowest first."""
    numbers, values = predictions.hardest
    of_true, classes = true_probabilities(predictions.schema, predictions.columns)
    order = np.argsort(of_true[numbers], kind="stable")
    return [
        _make_example(predictions, int(numbers[k]), values[k], int(classes[numbers[k]]))
        for k in order
    ]


def explain_examples(classifier: Classifier, predictions: Predictions) -> list[ExplainedExample]:
    """Explain the most certain correct row of up to three classes, and three of the hardest wrong.

    The correct rows are chosen from the sample.
    """
    wrong = [row for row in select_hardest(predictions) if not row.right]
    rows = [*_select_surest(predictions), *wrong[:_N_WRONG]]
    if not rows:
        return []
    explanation = classifier.explain(np.stack([row.values.ravel() for row in rows]))
    explained = []
    for row, timepoints, lstm in zip(rows, explanation.timepoints, explanation.lstm, strict=True):
        weights, answer, other = _compare(predictions.schema, row)
        explained.append(
            ExplainedExample(
                row=row,
                answer=answer,
                other=other,
                terms=weights @ timepoints,
                bias=float(weights @ explanation.bias),
                lstm=float(weights @ lstm),
            )
        )
    return explained


def _select_surest(predictions: Predictions) -> list[Example]:
    columns, schema = predictions.columns, predictions.schema
    numbers = predictions.sample.numbers
    true, decided = columns.true[numbers], columns.decided[numbers]
    of_true, _ = true_probabilities(schema, columns)
    correct = (true == decided).all(axis=1)
    surest: dict[int, int] = {}
    for k in np.argsort(-of_true[numbers], kind="stable"):
        predicted = np.where(decided[k] == 1, columns.probabilities[numbers[k]], -1)
        if correct[k] and decided[k].any():
            surest.setdefault(int(predicted.argmax()), int(k))
    return [
        _make_example(predictions, int(numbers[k]), predictions.sample.values[k], index)
        for index, k in list(surest.items())[:_N_SURE]
    ]


def _make_example(predictions: Predictions, number: int, values: FloatArray, index: int) -> Example:
    """Make an example; ``index`` is its true class, or for multilabel the label in question."""
    schema = predictions.schema
    true, decided, probabilities = (column[number] for column in predictions.columns)
    multilabel = schema.task == "multilabel"
    chosen = index if multilabel else int(decided.argmax())
    return Example(
        place=predictions.place(number),
        values=values.reshape(schema.n_channels, schema.n_timepoints),
        true=_select_names(schema.classes, true),
        decided=_select_names(schema.classes, decided),
        true_class=index,
        decided_class=chosen,
        true_share=float(probabilities[index] if true[index] else 1 - probabilities[index]),
        decided_share=float(
            probabilities[chosen] if decided[chosen] else 1 - probabilities[chosen]
        ),
        runner_up=int(
            np.where(np.arange(len(probabilities)) == chosen, -1, probabilities).argmax()
        ),
        right=bool((true == decided).all()),
    )


def _select_names(classes: tuple[str, ...], marks: npt.NDArray[np.int8]) -> tuple[str, ...]:
    return tuple(name for name, mark in zip(classes, marks, strict=True) if mark)


def _compare(schema: SeriesSchema, row: Example) -> tuple[FloatArray, str, str]:
    """Return the weight of each logit, (outputs,), and the two answers to compare."""
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
