"""How good the predictions are: the numbers of ``lstmfcn evaluate``, with intervals and curves.

Intervals come from drawing the rows again with replacement (percentile bootstrap; Efron and
Tibshirani (1993), "An Introduction to the Bootstrap", section 13.3). Rows with the same true and
predicted labels count alike, so what is drawn is how often each such pattern occurs.

Shapes: N rows, C classes, B resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_curve

from lstmfcn.inference.metrics import compute_metrics
from lstmfcn.report.predictions import Predictions
from lstmfcn.training.calibration import BINS, OneVsRest, compute_confidences, confidence_bins

Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]

RESAMPLES, LEVEL = 1000, 0.95
_COUNTS_AT_A_TIME = 1 << 22


_CONFUSIONS = 10


class Interval(NamedTuple):
    """The middle 95 % of a score over resamples."""

    low: float
    high: float


class Resampled(NamedTuple):
    """Scores of each resample; nan where a resample leaves one undefined.

    Attributes:
        precision, recall, f1: (B, C).
        accuracy, exact_match, macro_f1: (B,), as `compute_metrics` defines them.
    """

    precision: Numbers
    recall: Numbers
    f1: Numbers
    accuracy: Numbers
    exact_match: Numbers
    macro_f1: Numbers


def resampled(
    true: Labels, decided: Labels, *, one_class: bool, seed: int = 0, resamples: int = RESAMPLES
) -> Resampled:
    """Draw N rows anew, B times.

    Args:
        true: 0/1, (N, C).
        decided: 0/1, (N, C).
        one_class: whether a row is right only where all its columns are, in accuracy.
        seed: of the draws.
        resamples: B.
    """
    patterns, counts = np.unique(np.hstack([true, decided]), axis=0, return_counts=True)
    random = np.random.default_rng(seed)
    step = max(1, _COUNTS_AT_A_TIME // len(patterns))
    parts = []
    for start in range(0, resamples, step):
        n = min(step, resamples - start)
        drawn = random.multinomial(len(true), counts / len(true), size=n)
        parts.append(_scores(drawn, patterns, one_class))
    return Resampled(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def interval(scores: Numbers) -> Interval | None:
    """Of one score over resamples, (B,); None where no resample has it."""
    defined = scores[~np.isnan(scores)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _scores(drawn: npt.NDArray[np.int64], patterns: Labels, one_class: bool) -> Resampled:
    """Scores of resamples that hold each of U patterns, (U, 2 C), so many times, (B, U)."""
    n_classes = patterns.shape[1] // 2
    true, decided = patterns[:, :n_classes], patterns[:, n_classes:]
    hits = drawn @ (true & decided).astype(np.int64)
    trues, positives = drawn @ true.astype(np.int64), drawn @ decided.astype(np.int64)
    right = true == decided
    n_rows = drawn.sum(axis=1)
    exact = drawn @ right.all(axis=1).astype(np.int64) / n_rows
    f1 = _over(2 * hits, trues + positives)
    occur = np.maximum((trues + positives > 0).sum(axis=1), 1)
    return Resampled(
        precision=_over(hits, positives),
        recall=_over(hits, trues),
        f1=f1,
        accuracy=exact if one_class else drawn @ right.mean(axis=1) / n_rows,
        exact_match=exact,
        macro_f1=np.where((trues + positives).any(axis=1), np.nansum(f1, axis=1) / occur, np.nan),
    )


def _over(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Numbers:
    """Shares; nan of nothing."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


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
        metrics: what `compute_metrics` gives, which ``lstmfcn evaluate`` prints.
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


def compute_scores(predictions: Predictions, seed: int = 0) -> Scores:
    """Score the predictions.

    Args:
        seed: of the resamples.
    """
    schema, columns = predictions.schema, predictions.columns
    metrics = compute_metrics(
        schema, predictions.labels, predictions.probabilities, predictions.decided
    )
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
        reliability=_reliability(*compute_confidences(schema, columns)),
        confusions=[] if confusion is None else _confusions(schema.classes, confusion),
    )


def _baseline(columns: OneVsRest, multilabel: bool) -> float:
    shares = columns.true.mean(axis=0)
    return float(np.maximum(shares, 1 - shares).mean() if multilabel else shares.max())


def _class_scores(
    name: str, found: dict[str, Any], columns: OneVsRest, i: int, again: Resampled
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
