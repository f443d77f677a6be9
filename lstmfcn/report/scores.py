"""How good the predictions are: the numbers of ``lstmfcn evaluate``, with intervals and curves.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_curve

from lstmfcn.evaluation import (
    BINS,
    ClassColumns,
    confidence_bins,
    confidences,
    evaluation,
)
from lstmfcn.report.bootstrap import Interval, Numbers, Resampled, interval, resampled
from lstmfcn.report.gathering import Gathered

_CONFUSIONS = 10


class Score(NamedTuple):
    """A score and its interval; None where the rows leave it undefined."""

    value: float | None
    interval: Interval | None


class Roc(NamedTuple):
    """A ROC curve: false against true positive rate, (n,) each."""

    false_positive: Numbers
    true_positive: Numbers


class Reliability(NamedTuple):
    """How often probabilities came true, by 15 bins of equal width; nan in bins without any.

    Attributes:
        counts: probabilities in each bin, (15,).
        stated: their mean, (15,).
        observed: the share that came true, (15,).
    """

    counts: npt.NDArray[np.int64]
    stated: Numbers
    observed: Numbers


class ClassScores(NamedTuple):
    """Scores of one class against the rest."""

    name: str
    support: int
    precision: Score
    recall: Score
    f1: Score
    roc_auc: float | None
    roc: Roc | None
    reliability: Reliability
    found: int
    missed: int
    false_alarms: int


class Confusion(NamedTuple):
    """Rows of one class that were taken for another, and their share of the class's rows."""

    true: str
    decided: str
    rows: int
    share: float


@dataclass(frozen=True)
class Scores:
    """All scores.

    Attributes:
        metrics: what `lstmfcn.evaluation.evaluation` gives, which ``lstmfcn evaluate`` prints.
        accuracy, macro_f1: with their intervals.
        exact_match: of multilabel.
        baseline: the accuracy of always giving the most frequent answer.
        classes: a class each, in the model's order.
        confusion: rows of true classes, columns of decided ones, (C, C); None for multilabel.
        reliability: of the decisions, whose calibration error is in ``metrics``.
        confusions: the most frequent, those with most rows first.
    """

    metrics: dict[str, Any]
    accuracy: Score
    exact_match: Score | None
    macro_f1: Score
    baseline: float
    classes: list[ClassScores]
    confusion: npt.NDArray[np.int64] | None
    reliability: Reliability
    confusions: list[Confusion]

    @property
    def verdict(self) -> str | None:
        """What must be said before all else: that a guess without a model does as well."""
        value, interval = self.accuracy
        if value is None or interval is None or self.baseline == 1 or interval.low > self.baseline:
            return None
        guess = "always giving the most frequent answer"
        if value < self.baseline:
            return f"This model is worse than {guess}."
        return f"These rows do not show that this model is better than {guess}."


def scores_of(gathered: Gathered, seed: int = 0) -> Scores:
    """Score the predictions.

    Args:
        seed: of the resamples.
    """
    schema, columns = gathered.schema, gathered.columns
    metrics = evaluation(schema, gathered.labels, gathered.probabilities, gathered.decided)
    multilabel = schema.task == "multilabel"
    again = resampled(columns.true, columns.decided, one_class=not multilabel, seed=seed)
    confusion = None if multilabel else np.array(metrics["confusion_matrix"], dtype=np.int64)
    return Scores(
        metrics=metrics,
        accuracy=Score(metrics["accuracy"], interval(again.accuracy)),
        exact_match=(
            Score(metrics["exact_match"], interval(again.exact_match)) if multilabel else None
        ),
        macro_f1=Score(metrics["macro_f1"], interval(again.macro_f1)),
        baseline=_baseline(columns, multilabel),
        classes=[
            _class_scores(name, metrics["classes"][name], columns, i, again)
            for i, name in enumerate(schema.classes)
        ],
        confusion=confusion,
        reliability=_reliability(*confidences(schema, columns)),
        confusions=[] if confusion is None else _confusions(schema.classes, confusion),
    )


def _baseline(columns: ClassColumns, multilabel: bool) -> float:
    shares = columns.true.mean(axis=0)
    return float(np.maximum(shares, 1 - shares).mean() if multilabel else shares.max())


def _class_scores(
    name: str, found: dict[str, Any], columns: ClassColumns, i: int, again: Resampled
) -> ClassScores:
    true, decided, shares = columns.true[:, i], columns.decided[:, i], columns.probabilities[:, i]
    area = found["roc_auc"]
    hits = int((true & decided).sum())
    return ClassScores(
        name=name,
        support=found["support"],
        precision=Score(found["precision"], interval(again.precision[:, i])),
        recall=Score(found["recall"], interval(again.recall[:, i])),
        f1=Score(found["f1"], interval(again.f1[:, i])),
        roc_auc=area,
        roc=None if area is None else Roc(*roc_curve(true, shares)[:2]),
        reliability=_reliability(shares, true == 1),
        found=hits,
        missed=int(true.sum()) - hits,
        false_alarms=int(decided.sum()) - hits,
    )


def _reliability(stated: npt.NDArray[np.float32], came_true: npt.NDArray[np.bool_]) -> Reliability:
    bins = confidence_bins(stated)
    counts = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, each, minlength=BINS) for each in (stated, came_true))
    means = (np.where(counts > 0, each / np.maximum(counts, 1), np.nan) for each in sums)
    return Reliability(counts, *means)


def _confusions(classes: tuple[str, ...], matrix: npt.NDArray[np.int64]) -> list[Confusion]:
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    places = [divmod(int(k), len(classes)) for k in order]
    return [
        Confusion(classes[i], classes[j], int(wrong[i, j]), float(wrong[i, j] / matrix[i].sum()))
        for i, j in places
        if wrong[i, j]
    ]
