"""Compute loss, probabilities, labels and accuracy for binary, multiclass and multilabel tasks.

Shapes: N rows, K outputs of the network, L label columns, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from statistics import fmean
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.table import Array, FloatArray
from lstmfcn.hyperparameters import ClassWeightName

_THRESHOLD = 0.5

ClassCounts = tuple[float, ...]
"""Numbers of rows, (3 * C,)."""


class Decision(BaseModel):
    """A fitted temperature and thresholds; the defaults change nothing.

    Attributes:
        temperature: divisor of the logits; its bounds are wider than those in which
            `lstmfcn.training.calibration` fits it.
        thresholds: multilabel only: each label is predicted 1 above its threshold, in the order of
            the label columns; empty means 0.5 for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: float = Field(1.0, ge=0.01, le=1000)
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()


class Task(ABC):
    """One kind of classification.

    Args:
        n_columns: C for multiclass, else L.
        weights: class weights in the loss, from `compute_class_weights`, on the logits' device.
        smoothing: share of each label that is spread over all classes in the loss.
        decision: temperature and thresholds; `loss_sum` and `n_correct` ignore them.

    Attributes:
        n_outputs: K, the number of logits per row.
        targets_per_row: decisions per row that the accuracy counts.
    """

    _has_one_output = False
    _counts_each_label = False

    def __init__(
        self,
        n_columns: int,
        weights: Tensor | None = None,
        smoothing: float = 0.0,
        decision: Decision = Decision(),
    ) -> None:
        self._n_columns, self._weights = n_columns, weights
        self._smoothing, self._decision = smoothing, decision
        self.n_outputs = 1 if self._has_one_output else n_columns
        self.targets_per_row = n_columns if self._counts_each_label else 1

    @abstractmethod
    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Sum the (weighted) cross-entropy over rows, from float32 logits (N, K); a scalar."""

    @abstractmethod
    def n_correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Count each row's correct decisions, (N,), from 0 to ``targets_per_row``."""

    @property
    def n_classes(self) -> int:
        """C; 2 for binary, the number of labels for multilabel."""
        return max(2, self._n_columns) if self._has_one_output else self._n_columns

    def count_by_class(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Count the rows predicted as each class and of it, predicted as it, and of it, (3, C)."""
        decided, true = self._by_class(logits, targets)
        return torch.stack([decided & true, decided, true]).sum(dim=1, dtype=torch.float64)

    @abstractmethod
    def _by_class(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Say whether each row is predicted as each class, and whether it is of it, bool (N, C)."""

    def class_metrics(self, counts: ClassCounts) -> dict[str, float]:
        """Compute macro F1 (over the classes that occur), and balanced accuracy if rows have one.

        Args:
            counts: the totals of `count_by_class`, one row after the other.
        """
        n = self.n_classes
        by_class = list(zip(counts[:n], counts[n : 2 * n], counts[2 * n :], strict=True))
        f1 = [2 * hits / (decided + true) for hits, decided, true in by_class if decided + true]
        metrics = {"macro_f1": fmean(f1 or [0.0])}
        if not self._counts_each_label:
            metrics["balanced_accuracy"] = fmean(hits / true for hits, _, true in by_class if true)
        return metrics

    def probabilities(self, logits: Tensor) -> Tensor:
        """Compute each label column's probabilities, (N, L), from logits over the temperature."""
        return self._probabilities(logits / self._decision.temperature)

    @abstractmethod
    def _probabilities(self, logits: Tensor) -> Tensor:
        """Compute probabilities (N, L) from logits (N, K)."""

    @abstractmethod
    def predict_labels(self, probabilities: FloatArray) -> npt.NDArray[np.int8]:
        """Predict 0/1 labels (N, L) from probabilities (N, L)."""


class Multiclass(Task):
    """One of C classes: softmax, the most probable class. Targets int64 (N,)."""

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Sum the cross-entropy times the class's weight over rows."""
        return F.cross_entropy(
            logits, targets, self._weights, reduction="sum", label_smoothing=self._smoothing
        )

    def n_correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return 1 where the largest logit is that of the row's class."""
        return logits.argmax(dim=1) == targets

    def _by_class(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        classes = torch.arange(self.n_classes, device=logits.device)
        return logits.argmax(dim=1, keepdim=True) == classes, targets[:, None] == classes

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Apply the softmax."""
        return logits.softmax(dim=1)

    def predict_labels(self, probabilities: FloatArray) -> npt.NDArray[np.int8]:
        """Return one 1 per row, at the largest probability."""
        rows = np.eye(self.n_outputs, dtype=np.int8)
        one_hot: npt.NDArray[np.int8] = rows[probabilities.argmax(axis=1)]
        return one_hot


class Binary(Task):
    """Yes or no: one logit, sigmoid, threshold 0.5. Targets float32 (N,).

    With two one-hot label columns, the two probabilities add up to 1.
    """

    _has_one_output = True

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Sum the binary cross-entropy times the weight of the row's label over rows."""
        return _binary_loss_sum(logits[:, 0], targets, self._weights, self._smoothing)

    def n_correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return 1 where probability and label are on the same side of 0.5."""
        return (logits[:, 0].sigmoid() > _THRESHOLD) == (targets > _THRESHOLD)

    def _by_class(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        decided, true = logits[:, 0].sigmoid() > _THRESHOLD, targets > _THRESHOLD
        return torch.stack([~decided, decided], dim=1), torch.stack([~true, true], dim=1)

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Apply the sigmoid; with two label columns, put its complement before it."""
        yes = logits.sigmoid()
        return yes if self._n_columns == 1 else torch.cat([1 - yes, yes], dim=1)

    def predict_labels(self, probabilities: FloatArray) -> npt.NDArray[np.int8]:
        """Return 1 where the probability of yes is above 0.5."""
        yes = (probabilities[:, -1:] > _THRESHOLD).astype(np.int8)
        return yes if self._n_columns == 1 else np.hstack([1 - yes, yes])


class Multilabel(Task):
    """Any of L labels: one sigmoid and threshold for each label. Targets float32 (N, L)."""

    _counts_each_label = True

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Average the weighted binary cross-entropy over labels, and sum it over rows."""
        loss = _binary_loss_sum(logits, targets, self._weights, self._smoothing)
        return loss / self.n_outputs

    def n_correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Count each row's labels whose probability is on the right side of 0.5."""
        return ((logits.sigmoid() > _THRESHOLD) == (targets > _THRESHOLD)).sum(dim=1)

    def _by_class(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return logits.sigmoid() > _THRESHOLD, targets > _THRESHOLD

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Apply the sigmoid to each logit."""
        return logits.sigmoid()

    def predict_labels(self, probabilities: FloatArray) -> npt.NDArray[np.int8]:
        """Return 1 where a probability is above its label's threshold."""
        thresholds = np.array(self._decision.thresholds or _THRESHOLD, dtype=np.float32)
        return (probabilities > thresholds).astype(np.int8)


class MetricSums(NamedTuple):
    """Sums over the rows of all batches and workers, from which metrics are computed.

    Attributes:
        correct: number of correct decisions.
        exact: number of rows whose decisions are all correct.
        by_class: the totals of `Task.count_by_class`, row after row, if they were counted.
    """

    loss: float
    correct: float
    exact: float
    rows: float
    by_class: ClassCounts = ()

    def metrics(self, prefix: str, task: Task) -> dict[str, float]:
        """Compute mean loss and accuracy; for several labels the exact match; scores by class."""
        metrics = {
            f"{prefix}_loss": self.loss / self.rows,
            f"{prefix}_accuracy": self.correct / (self.rows * task.targets_per_row),
        }
        if task.targets_per_row > 1:
            metrics[f"{prefix}_exact_match"] = self.exact / self.rows
        if self.by_class:
            scores = task.class_metrics(self.by_class)
            metrics |= {f"{prefix}_{name}": score for name, score in scores.items()}
        return metrics


def make_task(
    schema: SeriesSchema,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    decision: Decision = Decision(),
) -> Task:
    """Make the task of a schema whose classes are known."""
    if schema.task == "multiclass":
        return Multiclass(len(schema.classes), weights, smoothing, decision)
    if schema.task == "binary":
        return Binary(len(schema.label_columns), weights, smoothing, decision)
    return Multilabel(len(schema.label_columns), weights, smoothing, decision)


def compute_class_weights(
    name: ClassWeightName, schema: SeriesSchema, labels: Array
) -> Tensor | None:
    """Compute class weights for the loss; over all rows they add up to the number of rows.

    ``balanced`` is scikit-learn's: the number of rows over (number of classes times rows of the
    class), so that every class has the same total weight.

    Returns:
        None for ``none``; else float32: (C,) for multiclass; (2,) for binary, no and yes; (2, L)
        for multilabel.
    """
    if name == "none":
        return None
    if schema.task == "multiclass":
        counts = np.bincount(labels, minlength=len(schema.classes))
    else:
        yes = labels.sum(axis=0)
        counts = np.stack([len(labels) - yes, yes])
    weights = len(labels) / (len(counts) * np.maximum(counts, 1))
    if name == "sqrt":
        weights = np.sqrt(weights)
        weights *= len(labels) / (weights * counts).sum(axis=0)
    return torch.from_numpy(weights.astype(np.float32))


def _binary_loss_sum(
    logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float
) -> Tensor:
    smooth = targets * (1 - smoothing) + smoothing / 2 if smoothing else targets
    if weights is None:
        return F.binary_cross_entropy_with_logits(logits, smooth, reduction="sum")
    no, yes = weights
    weight = no + (yes - no) * targets
    return F.binary_cross_entropy_with_logits(logits, smooth, weight, reduction="sum")
