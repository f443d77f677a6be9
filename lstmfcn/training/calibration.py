"""Calibrate a trained model: fit its temperature and thresholds, measure its calibration error.

A single temperature for all logits does not change the order of probabilities, and so neither the
accuracy (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2).

Shapes: N rows, K logits per row, L label columns, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lstmfcn.data.dataset import Dataset
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.table import Array, FloatArray
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.task import Decision, Task, make_task
from lstmfcn.training.batches import EvaluationLoader, WorkerContext

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 100.0
"""Bounds of the temperature. If all validation rows are classified correctly, 0 would fit best and
make every probability 0 or 1; the lower bound limits what a wrong prediction then costs."""

_HALVINGS = 30
"""Bisection steps over the logarithm; the temperature's relative error is then below 1e-8."""

_RECORD = "calibration"
"""The key in an artifact's ``training`` that describes the fit."""

BINS = 15
"""Bins of confidence, of equal width."""


class OneVsRest(NamedTuple):
    """Each class against the rest, (N, C): true 0/1, predicted 0/1, and probabilities."""

    true: npt.NDArray[np.int8]
    decided: npt.NDArray[np.int8]
    probabilities: FloatArray


def calibrate(
    artifact: Artifact, validation: Dataset, device: torch.device | str = "cpu"
) -> Artifact:
    """Fit the temperature and thresholds that the model's hyperparameters request.

    Args:
        validation: scaled rows that were not trained on; rows in blocks are streamed.

    Returns:
        The model with its decision and a record of the fit; unchanged if nothing is requested.
    """
    hyperparameters, schema = artifact.hyperparameters, artifact.schema
    if not hyperparameters.has_post_training:
        return artifact
    logits, labels = _compute_logits(artifact, validation, device), validation.labels
    decision, record = Decision(), dict[str, Any](validation_rows=len(validation))
    if hyperparameters.calibrate:
        targets = torch.from_numpy(np.array(labels))
        task = make_task(schema)
        decision = Decision(temperature=fit_temperature(task, logits, targets))
        record["accuracy"] = float(task.n_correct(logits, targets).double().mean())
        record["accuracy"] /= task.targets_per_row
        record["calibration_error"] = [
            _error_with(each, schema, logits, labels) for each in (Decision(), decision)
        ]
    if hyperparameters.fit_thresholds:
        probabilities = make_task(schema, decision=decision).probabilities(logits).numpy()
        fitted = fit_thresholds(probabilities, labels)
        decision = decision.model_copy(update={"thresholds": tuple(fitted.tolist())})
        record["mean_f1"] = [
            _mean_f1(probabilities > thresholds, labels) for thresholds in (np.float32(0.5), fitted)
        ]
        absent = ~labels.any(axis=0)
        record["labels_without_positives"] = np.array(schema.classes)[absent].tolist()
    return replace(artifact, decision=decision, training={**artifact.training, _RECORD: record})


def calibration_summary(artifact: Artifact) -> Iterator[str]:
    """Describe in lines for the user what `calibrate` fitted; no line if nothing was fitted."""
    record: dict[str, Any] = artifact.training.get(_RECORD, {})
    rows, decision = record.get("validation_rows"), artifact.decision
    if "calibration_error" in record:
        before, after = record["calibration_error"]
        yield (
            f"temperature {decision.temperature:.3g} fitted on {rows} validation rows: "
            f"expected calibration error {before:.3f} -> {after:.3f}"
        )
        if decision.temperature in (MIN_TEMPERATURE, MAX_TEMPERATURE):
            reason = f"Too few of the {rows} validation rows are classified wrongly, or correctly"
            if record.get("accuracy") == 1:
                reason = f"All {rows} validation rows are classified correctly"
            yield (
                f"{reason}, so no temperature can be fitted reliably; T was limited to "
                f"{decision.temperature:g}. Use more validation rows."
            )
    if "mean_f1" in record:
        before, after = record["mean_f1"]
        shown = zip(artifact.schema.classes, decision.thresholds, strict=True)
        yield (
            f"thresholds fitted on {rows} validation rows: mean F1 {before:.3f} -> {after:.3f} "
            f"({', '.join(f'{name} {threshold:.3g}' for name, threshold in shown)})"
        )
        if absent := record["labels_without_positives"]:
            yield f"no validation row has {', '.join(absent)}; the threshold stays 0.5"


def fit_temperature(task: Task, logits: Tensor, targets: Tensor) -> float:
    """Find the temperature with the lowest loss within its bounds; 1 if none lowers the loss.

    The loss is convex in 1 / temperature, so its slope changes sign once; bisection finds where.

    Args:
        task: a task without class weights and smoothing; its loss is the negative log-likelihood.
        logits: float32 (N, K).
        targets: int64 (N,) or float32 (N, ...), as the task takes them.
    """
    logits = logits.double()
    targets = targets.double() if targets.is_floating_point() else targets

    def loss(inverse: Tensor) -> Tensor:
        return task.loss_sum(logits * inverse, targets)

    def too_cold(temperature: float) -> bool:
        inverse = torch.tensor(1 / temperature, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(loss(inverse), inverse)
        return bool(slope > 0)

    cold, hot = MIN_TEMPERATURE, MAX_TEMPERATURE
    if not too_cold(cold):
        hot = cold
    elif too_cold(hot):
        cold = hot
    for _ in range(_HALVINGS if cold < hot else 0):
        middle = math.sqrt(cold * hot)
        cold, hot = (middle, hot) if too_cold(middle) else (cold, middle)
    one = torch.ones((), dtype=torch.float64)
    return hot if bool(loss(one / hot) < loss(one)) else 1.0


def fit_thresholds(probabilities: FloatArray, labels: Array) -> FloatArray:
    """Find each label's threshold with the best F1; among equals, the nearest to 0.5.

    The candidates are 0.5 and one threshold between each pair of neighbouring probabilities. A
    label that no row has keeps 0.5.

    Args:
        probabilities: float32 (N, L).
        labels: 0 or 1, (N, L).

    Returns:
        float32 (L,); a label is predicted 1 above its threshold.
    """
    thresholds = np.full(labels.shape[1], 0.5, dtype=np.float32)
    for i, (of_label, label) in enumerate(zip(probabilities.T, labels.T, strict=True)):
        every, of_true = np.sort(of_label), np.sort(of_label[label == 1])
        if not len(of_true):
            continue
        candidates = _candidate_thresholds(every)
        n_predicted = len(every) - np.searchsorted(every, candidates, side="right")
        n_hits = len(of_true) - np.searchsorted(of_true, candidates, side="right")
        f1 = 2 * n_hits / (n_predicted + len(of_true))
        best = candidates[f1 == f1.max()]
        thresholds[i] = best[np.abs(best - 0.5).argmin()]
    return thresholds


def _mean_f1(decided: npt.NDArray[np.bool_], labels: Array) -> float:
    """The mean F1 of all labels (N, L); 0 for one that is neither true nor predicted."""
    from sklearn.metrics import f1_score  # slow to import, and most trainings fit no threshold

    pairs = zip(labels.T, decided.T, strict=True)
    return float(np.mean([f1_score(*pair, zero_division=0.0) for pair in pairs]))


def _candidate_thresholds(probabilities: FloatArray) -> FloatArray:
    """Return 0.5, and a threshold below each distinct one of sorted float32 probabilities (N,)."""
    above = np.unique(probabilities)
    below = np.concatenate([np.zeros(1, dtype=np.float32), above[:-1]])
    middles = (below + above) / 2
    middles = np.where(middles < above, middles, below)  # neighbours in float32 have no middle
    return np.append(middles, np.float32(0.5))


@torch.inference_mode()
def _compute_logits(artifact: Artifact, rows: Dataset, device: torch.device | str) -> Tensor:
    """Compute the trained network's logits of all rows, float32 (N, K) on the CPU."""
    network = artifact.build_network().eval().to(device)
    batches = EvaluationLoader(rows, WorkerContext(device=device))
    return torch.cat([network(batch.x).cpu() for batch in batches])


def _error_with(decision: Decision, schema: SeriesSchema, logits: Tensor, labels: Array) -> float:
    task = make_task(schema, decision=decision)
    probabilities = task.probabilities(logits).numpy()
    decided = task.predict_labels(probabilities)
    columns = to_one_vs_rest(schema, labels, probabilities, decided)
    return compute_calibration_error(*compute_confidences(schema, columns))


def to_one_vs_rest(
    schema: SeriesSchema,
    labels: Array,
    probabilities: FloatArray,
    decided: npt.NDArray[np.int8],
) -> OneVsRest:
    """Split labels, probabilities and predictions (N, L) into one column per class, (N, C)."""
    if schema.task == "binary":
        yes, decided_yes = probabilities[:, -1], decided[:, -1]
        probabilities = np.column_stack([1 - yes, yes])
        decided = np.column_stack([1 - decided_yes, decided_yes])
    return OneVsRest(_one_hot(schema, labels), decided, probabilities)


def compute_confidences(
    schema: SeriesSchema, columns: OneVsRest
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return the confidence of each decision and whether it is correct, (n,) each.

    n is the number of rows N; with multilabel, of rows times labels.
    """
    correct = columns.true == columns.decided
    confidence = np.where(columns.decided == 1, columns.probabilities, 1 - columns.probabilities)
    if schema.task == "multiclass":
        confidence, correct = confidence[columns.decided == 1], correct.all(axis=1)
    return confidence.ravel(), correct.ravel()


def compute_calibration_error(confidence: FloatArray, correct: npt.NDArray[np.bool_]) -> float:
    """Compute the expected calibration error of decisions, from 0 to 1.

    This is the mean distance between confidence and accuracy in 15 bins of equal width, weighted
    by the number of decisions (Guo et al. 2017, "On Calibration of Modern Neural Networks",
    section 2).

    Args:
        confidence: probability of each decision, (n,), n at least 1.
        correct: whether each decision is correct, (n,).
    """
    surplus = np.bincount(confidence_bins(confidence), confidence - correct, minlength=BINS)
    return float(np.abs(surplus).sum() / len(confidence))


def confidence_bins(confidence: FloatArray) -> npt.NDArray[np.int64]:
    """Return the bin of each probability, (n,), from 0 to 14; a bin includes its upper bound."""
    bins = np.ceil(confidence.astype(np.float64) * BINS).astype(np.int64) - 1
    return np.clip(bins, 0, BINS - 1)


def _one_hot(schema: SeriesSchema, labels: Array) -> npt.NDArray[np.int8]:
    """Convert encoded labels to 0/1 columns, (N, C)."""
    if schema.task == "multilabel":
        return labels.astype(np.int8)
    return np.eye(len(schema.classes), dtype=np.int8)[labels.astype(np.int64)]
