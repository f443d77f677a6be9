"""What differs between binary, multiclass and multilabel: loss, probabilities, decision, counts.

Shapes: N rows, K outputs of the net, L label columns of a prediction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lstmfcn.cells import Array, FloatArray
from lstmfcn.decision import Decision
from lstmfcn.hyperparameters import ClassWeightName
from lstmfcn.schema import SeriesSchema

_THRESHOLD = 0.5


class Task(ABC):
    """One kind of classification.

    Args:
        weights: what each class weighs in the loss, as `class_weights` gives them.
        smoothing: the share of each label that is spread over all classes in the loss.
        decision: temperature and thresholds, which losses and accuracies in training leave out.

    Attributes:
        n_outputs: K, the logits of a row.
        targets_per_row: decisions counted in a row's accuracy.
    """

    n_outputs: int
    targets_per_row = 1

    def __init__(
        self,
        weights: Tensor | None = None,
        smoothing: float = 0.0,
        decision: Decision = Decision(),
    ) -> None:
        self._weights, self._smoothing, self._decision = weights, smoothing, decision

    @abstractmethod
    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Sum over rows of the (weighted) cross-entropy, from float32 logits (N, K); a scalar."""

    @abstractmethod
    def right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Right decisions of each row, (N,), from 0 to ``targets_per_row``."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of each label column, (N, L), of logits over the temperature."""
        return self._shares(logits / self._decision.temperature)

    @abstractmethod
    def _shares(self, logits: Tensor) -> Tensor:
        """Probabilities (N, L) of logits (N, K)."""

    @abstractmethod
    def decide(self, probabilities: FloatArray) -> npt.NDArray[np.int8]:
        """The 0/1 labels (N, L) that follow from probabilities (N, L)."""


class Multiclass(Task):
    """One of C classes: softmax; the class of the largest probability. Targets int64 (N,)."""

    def __init__(
        self,
        n_classes: int,
        weights: Tensor | None = None,
        smoothing: float = 0.0,
        decision: Decision = Decision(),
    ) -> None:
        super().__init__(weights, smoothing, decision)
        self.n_outputs = n_classes

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy times the class's weight, summed over rows."""
        weights = None if self._weights is None else self._weights.to(logits.device)
        return F.cross_entropy(
            logits, targets, weights, reduction="sum", label_smoothing=self._smoothing
        )

    def right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """1 where the largest logit is the row's class."""
        return logits.argmax(dim=1) == targets

    def _shares(self, logits: Tensor) -> Tensor:
        """Softmax."""
        return logits.softmax(dim=1)

    def decide(self, probabilities: FloatArray) -> npt.NDArray[np.int8]:
        """A single 1 a row, at the largest probability."""
        rows = np.eye(self.n_outputs, dtype=np.int8)
        one_hot: npt.NDArray[np.int8] = rows[probabilities.argmax(axis=1)]
        return one_hot


class Binary(Task):
    """Yes or no: one logit, sigmoid, threshold 0.5. Targets float32 (N,).

    Two one-hot label columns give two probabilities that add up to 1.
    """

    n_outputs = 1

    def __init__(
        self,
        n_label_columns: int,
        weights: Tensor | None = None,
        smoothing: float = 0.0,
        decision: Decision = Decision(),
    ) -> None:
        super().__init__(weights, smoothing, decision)
        self._n_label_columns = n_label_columns

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy times the answer's weight, summed over rows."""
        return _binary_loss_sum(logits[:, 0], targets, self._weights, self._smoothing)

    def right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """1 where the probability is on the side of the row's label."""
        return (logits[:, 0].sigmoid() > _THRESHOLD) == (targets > _THRESHOLD)

    def _shares(self, logits: Tensor) -> Tensor:
        """Sigmoid, beside its complement where there are two label columns."""
        yes = logits.sigmoid()
        return yes if self._n_label_columns == 1 else torch.cat([1 - yes, yes], dim=1)

    def decide(self, probabilities: FloatArray) -> npt.NDArray[np.int8]:
        """1 where the probability of yes is above 0.5."""
        yes = (probabilities[:, -1:] > _THRESHOLD).astype(np.int8)
        return yes if self._n_label_columns == 1 else np.hstack([1 - yes, yes])


class Multilabel(Task):
    """Any of L labels: a sigmoid and a threshold, usually 0.5, for each. Targets float32 (N, L)."""

    def __init__(
        self,
        n_labels: int,
        weights: Tensor | None = None,
        smoothing: float = 0.0,
        decision: Decision = Decision(),
    ) -> None:
        super().__init__(weights, smoothing, decision)
        self.n_outputs = self.targets_per_row = n_labels
        self._thresholds = np.array(decision.thresholds or _THRESHOLD, dtype=np.float32)

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy times the answer's weight: mean over labels, sum over rows."""
        loss = _binary_loss_sum(logits, targets, self._weights, self._smoothing)
        return loss / self.n_outputs

    def right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Labels decided right in each row."""
        return ((logits.sigmoid() > _THRESHOLD) == (targets > _THRESHOLD)).sum(dim=1)

    def _shares(self, logits: Tensor) -> Tensor:
        """Sigmoid of each logit."""
        return logits.sigmoid()

    def decide(self, probabilities: FloatArray) -> npt.NDArray[np.int8]:
        """1 where a probability is above its label's threshold."""
        return (probabilities > self._thresholds).astype(np.int8)


class Totals(NamedTuple):
    """Sums over rows, added up over batches and workers before anything is divided."""

    loss: float
    right: float
    exact: float
    rows: float

    def metrics(self, prefix: str, task: Task) -> dict[str, float]:
        """Mean loss and accuracy; for several labels also the share of rows right in all."""
        found = {
            f"{prefix}_loss": self.loss / self.rows,
            f"{prefix}_accuracy": self.right / (self.rows * task.targets_per_row),
        }
        if task.targets_per_row > 1:
            found[f"{prefix}_exact_match"] = self.exact / self.rows
        return found


def task_of(
    schema: SeriesSchema,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    decision: Decision = Decision(),
) -> Task:
    """The task of a schema whose classes are known.

    Args:
        schema: of the shards.
        weights: what each class weighs in the loss.
        smoothing: the share of each label that is spread over all classes in the loss.
        decision: of a model that was calibrated.
    """
    if schema.task == "multiclass":
        return Multiclass(len(schema.classes), weights, smoothing, decision)
    if schema.task == "binary":
        return Binary(len(schema.label_columns), weights, smoothing, decision)
    return Multilabel(len(schema.label_columns), weights, smoothing, decision)


def class_weights(name: ClassWeightName, schema: SeriesSchema, labels: Array) -> Tensor | None:
    """What each class weighs in the loss; the weights of all rows add up to their number.

    ``balanced`` is scikit-learn's: the number of rows over (number of classes times the class's
    rows), by which every class has the same say.

    Returns:
        None for ``none``;
        (C,) for multiclass; (2,) for binary, no and yes; (2, L) for multilabel.
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
    no, yes = weights.to(logits.device)
    each = no + (yes - no) * targets
    return F.binary_cross_entropy_with_logits(logits, smooth, each, reduction="sum")
