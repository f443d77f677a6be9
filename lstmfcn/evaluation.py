"""How good predictions are: accuracy, F1, ROC AUC, confusion matrix, by scikit-learn; calibration.

Shapes: N rows, L label columns, C classes.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from lstmfcn.cells import Array, FloatArray
from lstmfcn.schema import SeriesSchema

BINS = 15
"""Of confidence, of equal width."""


class ClassColumns(NamedTuple):
    """Each class against the rest, (N, C): 0/1 true, 0/1 decided, and probabilities."""

    true: npt.NDArray[np.int8]
    decided: npt.NDArray[np.int8]
    probabilities: FloatArray


def evaluation(
    schema: SeriesSchema,
    labels: Array,
    probabilities: FloatArray,
    decided: npt.NDArray[np.int8],
) -> dict[str, Any]:
    """Every metric of the task, as plain JSON values; null where the data leave one undefined.

    Args:
        labels: encoded true labels of all rows, as `SeriesSchema.encode_labels` gives them.
        probabilities: of each label column, (N, L).
        decided: the 0/1 labels that follow from them, (N, L).

    Returns:
        task, rows, accuracy (for multilabel the mean over labels, with exact_match beside it),
        macro_f1 (mean over the classes that occur), expected_calibration_error (how far confidence
        and accuracy of decisions lie apart), classes (precision, recall, f1, roc_auc and
        support of each), and for one class a row the confusion_matrix: true classes in rows,
        predicted ones in columns.
    """
    columns = class_columns(schema, labels, probabilities, decided)
    true, decided = columns.true, columns.decided
    scores = [_class_scores(*of_class) for of_class in zip(*(c.T for c in columns), strict=True)]
    right = true == decided
    found: dict[str, Any] = {"task": schema.task, "rows": len(true)}
    if schema.task == "multilabel":
        found |= {"accuracy": float(right.mean()), "exact_match": float(right.all(axis=1).mean())}
    else:
        found["accuracy"] = float(right.all(axis=1).mean())
    occurs = [bool(column.any()) for column in (true | decided).T]
    counted = [score["f1"] for score, counts in zip(scores, occurs, strict=True) if counts]
    found["macro_f1"] = float(np.mean(counted)) if counted else None
    found["expected_calibration_error"] = calibration_error(*confidences(schema, columns))
    found["classes"] = dict(zip(schema.classes, scores, strict=True))
    if schema.task != "multilabel":
        matrix = confusion_matrix(
            true.argmax(axis=1), decided.argmax(axis=1), labels=range(len(schema.classes))
        )
        found["confusion_matrix"] = matrix.tolist()
    return found


def expected_calibration_error(
    schema: SeriesSchema,
    labels: Array,
    probabilities: FloatArray,
    decided: npt.NDArray[np.int8],
) -> float:
    """The `calibration_error` of decisions: one a row, for multilabel one for each label.

    Args:
        labels: encoded true labels of all rows, at least one.
        probabilities: of each label column, (N, L).
        decided: the 0/1 labels that follow from them, (N, L).
    """
    return calibration_error(
        *confidences(schema, class_columns(schema, labels, probabilities, decided))
    )


def class_columns(
    schema: SeriesSchema,
    labels: Array,
    probabilities: FloatArray,
    decided: npt.NDArray[np.int8],
) -> ClassColumns:
    """Labels, probabilities and decisions, as `evaluation` takes them, class by class."""
    if schema.task == "binary":
        probabilities, decided = _no_and_yes(probabilities, decided)
    return ClassColumns(_indicators(schema, labels), decided, probabilities)


def confidences(
    schema: SeriesSchema, columns: ClassColumns
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """How sure each decision is, and whether it is right: (n,), one a row; of multilabel, N * L."""
    right = columns.true == columns.decided
    sure = np.where(columns.decided == 1, columns.probabilities, 1 - columns.probabilities)
    if schema.task == "multiclass":
        sure, right = sure[columns.decided == 1], right.all(axis=1)
    return sure.ravel(), right.ravel()


def calibration_error(sure: FloatArray, right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error of decisions, from 0 to 1.

    The mean of the distance between confidence and accuracy in 15 bins of equal width, weighed by
    their decisions (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2).

    Args:
        sure: the probability that each decision is given, (n,), n at least 1.
        right: whether it is right, (n,).
    """
    surplus = np.bincount(confidence_bins(sure), sure - right, minlength=BINS)
    return float(np.abs(surplus).sum() / len(sure))


def confidence_bins(sure: FloatArray) -> npt.NDArray[np.int64]:
    """The bin of each probability, (n,), from 0 to 14; a bin holds its upper bound."""
    return np.clip(np.ceil(sure.astype(np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _indicators(schema: SeriesSchema, labels: Array) -> npt.NDArray[np.int8]:
    """Encoded labels as 0/1 columns, one for each class."""
    if schema.task == "multilabel":
        return labels.astype(np.int8)
    return np.eye(len(schema.classes), dtype=np.int8)[labels.astype(np.int64)]


def _no_and_yes(
    probabilities: FloatArray, decided: npt.NDArray[np.int8]
) -> tuple[FloatArray, npt.NDArray[np.int8]]:
    """Binary columns, of yes alone or of both, as both."""
    return (
        np.column_stack([1 - probabilities[:, -1], probabilities[:, -1]]),
        np.column_stack([1 - decided[:, -1], decided[:, -1]]),
    )


def _class_scores(
    true: npt.NDArray[np.int8], decided: npt.NDArray[np.int8], probabilities: FloatArray
) -> dict[str, Any]:
    """Scores of one class against the rest."""
    precision, recall, f1, _ = precision_recall_fscore_support(
        true, decided, average="binary", zero_division=0.0
    )
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "roc_auc": _roc_auc(true, probabilities),
        "support": int(true.sum()),
    }


def _roc_auc(true: npt.NDArray[np.int8], probabilities: FloatArray) -> float | None:
    """Area under the ROC curve, one class against the rest; None where only one side occurs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        area = float(roc_auc_score(true, probabilities)) if true.any() else float("nan")
    return None if np.isnan(area) else area
