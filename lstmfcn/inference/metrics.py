"""How good predictions are: accuracy, F1, ROC AUC, confusion matrix, by scikit-learn; calibration.

Shapes: N rows, L label columns, C classes.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.table import Array, FloatArray
from lstmfcn.training.calibration import (
    compute_calibration_error,
    compute_confidences,
    to_one_vs_rest,
)


def compute_metrics(
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
    columns = to_one_vs_rest(schema, labels, probabilities, decided)
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
    found["expected_calibration_error"] = compute_calibration_error(
        *compute_confidences(schema, columns)
    )
    found["classes"] = dict(zip(schema.classes, scores, strict=True))
    if schema.task != "multilabel":
        matrix = confusion_matrix(
            true.argmax(axis=1), decided.argmax(axis=1), labels=range(len(schema.classes))
        )
        found["confusion_matrix"] = matrix.tolist()
    return found


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
