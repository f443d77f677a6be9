"""What is fitted to a trained model: a temperature of its logits, thresholds of its labels.

One temperature for all logits leaves the order of probabilities, and so accuracy, as it is (Guo et
al. 2017, "On Calibration of Modern Neural Networks", section 4.2).

Shapes: N rows, K logits of a row, L labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lstmfcn.artifact import Artifact
from lstmfcn.batches import EvaluationBatches, Share
from lstmfcn.cells import Array, FloatArray
from lstmfcn.decision import Decision
from lstmfcn.rows import Rows
from lstmfcn.schema import SeriesSchema
from lstmfcn.task import Task, task_of

COLDEST, HOTTEST = 0.25, 100.0
"""Bounds of the temperature. Where all validation rows are right, 0 would fit them best, and every
probability would be 0 or 1: a quarter bounds what an error among other rows then costs."""

_HALVINGS = 30
"""Of the logarithm's range, which leaves the temperature a relative error below 1e-8."""

_RECORD = "calibration"
"""Where an artifact's ``training`` tells how its decision was fitted."""


def calibrated(
    artifact: Artifact, validation: Rows, device: torch.device | str = "cpu"
) -> Artifact:
    """The model with what its hyperparameters ask to be fitted, ``calibrate``, ``fit_thresholds``.

    Args:
        artifact: a trained model.
        validation: rows that were not trained on, scaled; those in a file are streamed.
        device: to compute on.
    """
    wanted, schema = artifact.hyperparameters, artifact.schema
    if not wanted.fits_decision:
        return artifact
    logits, labels = _logits(artifact, validation, device), validation.labels
    decision, record = Decision(), dict[str, Any](validation_rows=len(validation))
    if wanted.calibrate:
        targets = torch.from_numpy(np.array(labels))
        task = task_of(schema)
        decision = Decision(temperature=fit_temperature(task, logits, targets))
        record["accuracy"] = float(task.right(logits, targets).double().mean())
        record["accuracy"] /= task.targets_per_row
        record["calibration_error"] = [
            _calibration_error(schema, logits, labels, kept) for kept in (Decision(), decision)
        ]
    if wanted.fit_thresholds:
        shares = task_of(schema, decision=decision).probabilities(logits).numpy()
        fitted = fit_thresholds(shares, labels)
        decision = decision.model_copy(update={"thresholds": tuple(fitted.tolist())})
        record["mean_f1"] = [
            float(f1_scores(shares > limits, labels).mean()) for limits in (np.float32(0.5), fitted)
        ]
        absent = ~labels.any(axis=0)
        record["labels_without_positives"] = np.array(schema.classes)[absent].tolist()
    return replace(artifact, decision=decision, training={**artifact.training, _RECORD: record})


def told(artifact: Artifact) -> Iterator[str]:
    """What was fitted to a model, in lines for its user; none where nothing was."""
    record: dict[str, Any] = artifact.training.get(_RECORD, {})
    rows, decision = record.get("validation_rows"), artifact.decision
    if "calibration_error" in record:
        before, after = record["calibration_error"]
        yield (
            f"temperature {decision.temperature:.3g} fitted on {rows} validation rows: "
            f"expected calibration error {before:.3f} -> {after:.3f}"
        )
        if decision.temperature in (COLDEST, HOTTEST):
            reason = f"Probabilities of the {rows} validation rows are too seldom wrong, or right"
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
            yield f"no validation row has {', '.join(absent)}; the threshold stays 0.5 there"


def fit_temperature(task: Task, logits: Tensor, targets: Tensor) -> float:
    """The temperature of the least loss, from `COLDEST` to `HOTTEST`; 1 where none has less.

    The loss is convex in 1 / temperature, so its slope has one change of sign, which is bracketed.

    Args:
        task: whose loss, without class weights and smoothing, is the negative log-likelihood.
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

    cold, hot = COLDEST, HOTTEST
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
    """Each label's threshold of the best F1; among equals, the nearest to 0.5.

    Tried are 0.5 and the middles between neighbouring probabilities, of which each interval that
    decides the same has one. A label that no row has keeps 0.5.

    Args:
        probabilities: float32 (N, L).
        labels: 0 or 1, (N, L).

    Returns:
        float32 (L,); labels are decided 1 above it.
    """
    found = np.full(labels.shape[1], 0.5, dtype=np.float32)
    for i, (shares, label) in enumerate(zip(probabilities.T, labels.T, strict=True)):
        shares, right = np.sort(shares), np.sort(shares[label == 1])
        if not len(right):
            continue
        tried = _middles(shares)
        positives = len(shares) - np.searchsorted(shares, tried, side="right")
        hits = len(right) - np.searchsorted(right, tried, side="right")
        f1 = 2 * hits / (positives + len(right))
        best = tried[f1 == f1.max()]
        found[i] = best[np.abs(best - 0.5).argmin()]
    return found


def f1_scores(decided: npt.NDArray[np.bool_], labels: Array) -> npt.NDArray[np.float64]:
    """F1 of each label, (L,), of decisions and labels (N, L); 0 where there are none of either."""
    hits = (decided & (labels == 1)).sum(axis=0)
    scores: npt.NDArray[np.float64] = (
        2 * hits / np.maximum(decided.sum(axis=0) + labels.sum(axis=0), 1)
    )
    return scores


def _middles(shares: FloatArray) -> FloatArray:
    """0.5, and a threshold below each distinct one of sorted probabilities (N,), all float32."""
    above = np.unique(shares)
    below = np.concatenate([np.zeros(1, dtype=np.float32), above[:-1]])
    middles = (below + above) / 2
    middles = np.where(middles < above, middles, below)  # where float32 has nothing between them
    return np.append(middles, np.float32(0.5))


@torch.inference_mode()
def _logits(artifact: Artifact, rows: Rows, device: torch.device | str) -> Tensor:
    """Logits of all rows, float32 (N, K) on the CPU, of the network as it was trained."""
    network = artifact.network().eval().to(device)
    batches = EvaluationBatches(rows, Share(device=device))
    return torch.cat([network(batch.x).cpu() for batch in batches])


def _calibration_error(
    schema: SeriesSchema, logits: Tensor, labels: Array, decision: Decision
) -> float:
    from lstmfcn.evaluation import expected_calibration_error  # imports scikit-learn, for 1 s

    task = task_of(schema, decision=decision)
    shares = task.probabilities(logits).numpy()
    return expected_calibration_error(schema, labels, shares, task.decide(shares))
