"""Compute metrics of predictions: accuracy, F1, ROC AUC, confusion matrix, calibration error.

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
    OneVsRest,
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
    """Compute every metric of the task as JSON values; None where the data leave one undefined.

    Args:
        labels: encoded true labels of all rows, from `SeriesSchema.encode_labels`.
        probabilities: probabilities of each label column, (N, L).
        decided: predicted labels, 0 or 1, (N, L).

    Returns:
        task, rows, accuracy (for multilabel the mean over labels, and also exact_match), except for
        multilabel balanced_accuracy (mean recall of the classes that occur), macro_f1 (mean over
        the classes that occur), log_loss and brier_score (as scikit-learn's; for multilabel the
        mean over labels), expected_calibration_error (distance between confidence and accuracy),
        classes (precision, recall, f1, roc_auc and support of each), and except for
        multilabel the confusion_matrix: true classes in rows, predicted classes in columns.
    """
    columns = to_one_vs_rest(schema, labels, probabilities, decided)
    true, decided = columns.true, columns.decided
    scores = [_class_scores(*of_class) for of_class in zip(*(c.T for c in columns), strict=True)]
    correct = true == decided
    metrics: dict[str, Any] = {"task": schema.task, "rows": len(true)}
    if schema.task == "multilabel":
        metrics |= {
            "accuracy": float(correct.mean()),
            "exact_match": float(correct.all(axis=1).mean()),
        }
    else:
        metrics["accuracy"] = float(correct.all(axis=1).mean())
        recalls = [score["recall"] for score in scores if score["support"]]
        metrics["balanced_accuracy"] = float(np.mean(recalls))
    occurs = [bool(column.any()) for column in (true | decided).T]
    counted = [score["f1"] for score, counts in zip(scores, occurs, strict=True) if counts]
    metrics["macro_f1"] = float(np.mean(counted)) if counted else None
    metrics["log_loss"], metrics["brier_score"] = _proper_scores(schema, columns)
    metrics["expected_calibration_error"] = compute_calibration_error(
        *compute_confidences(schema, columns)
    )
    metrics["classes"] = dict(zip(schema.classes, scores, strict=True))
    if schema.task != "multilabel":
        matrix = confusion_matrix(
            true.argmax(axis=1), decided.argmax(axis=1), labels=range(len(schema.classes))
        )
        metrics["confusion_matrix"] = matrix.tolist()
    return metrics


def _proper_scores(schema: SeriesSchema, columns: OneVsRest) -> tuple[float, float]:
    """Compute log loss and Brier score, which are lowest for the true probabilities.

    The Brier score is that of a yes or no, from 0 to 1, for binary and multilabel, and the sum over
    classes, from 0 to 2, for multiclass (Brier 1950, "Verification of forecasts expressed in terms
    of probability", Monthly Weather Review 78). Probabilities of 0 and 1 count as one float32
    epsilon from it in the log loss, as in scikit-learn.
    """
    true, probabilities = columns.true, columns.probabilities.astype(np.float64)
    of_truth = np.where(true == 1, probabilities, 1 - probabilities)
    errors = (probabilities - true) ** 2
    if schema.task == "multilabel":
        brier = float(errors.mean())
    else:
        of_truth = of_truth[true == 1]
        brier = float(errors.sum(axis=1).mean()) / (2 if schema.task == "binary" else 1)
    epsilon = float(np.finfo(np.float32).eps)
    return float(-np.log(of_truth.clip(epsilon, 1 - epsilon)).mean()), brier


def _class_scores(
    true: npt.NDArray[np.int8], decided: npt.NDArray[np.int8], probabilities: FloatArray
) -> dict[str, Any]:
    """Compute the metrics of one class against the rest."""
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
    """Compute the area under the ROC curve; None if only one of 0 and 1 occurs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        area = float(roc_auc_score(true, probabilities)) if true.any() else float("nan")
    return None if np.isnan(area) else area
