"""Score the predictions: the metrics of ``lstmfcn evaluate``, with intervals and curves.

Intervals come from resampling the rows with replacement (percentile bootstrap; Efron and Tibshirani
(1993), "An Introduction to the Bootstrap", section 13.3). Rows with the same true and predicted
labels are interchangeable, so the resampling draws how often each such pattern occurs.

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
_MAX_CONFUSIONS = 10
_MAX_COUNTS = 1 << 22
"""Limit of the counts that are in memory at a time."""


class Interval(NamedTuple):
    """The central 95 % of a score over resamples."""

    low: float
    high: float


class Resampled(NamedTuple):
    """Scores of each resample, (B, C) or (B,), as in `compute_metrics`; nan where undefined."""

    precision: Numbers
    recall: Numbers
    f1: Numbers
    accuracy: Numbers
    exact_match: Numbers
    macro_f1: Numbers


def resample(
    true: Labels, decided: Labels, *, one_class: bool, seed: int = 0, resamples: int = RESAMPLES
) -> Resampled:
    """Draw N rows with replacement, B times, and score each resample.

    Args:
        true: true labels, 0/1, (N, C).
        decided: predicted labels, 0/1, (N, C).
        one_class: whether the accuracy counts rows whose columns are all correct, not columns.
        resamples: B.
    """
    patterns, counts = np.unique(np.hstack([true, decided]), axis=0, return_counts=True)
    random = np.random.default_rng(seed)
    step = max(1, _MAX_COUNTS // len(patterns))
    parts = []
    for start in range(0, resamples, step):
        n = min(step, resamples - start)
        drawn = random.multinomial(len(true), counts / len(true), size=n)
        parts.append(_score_resamples(drawn, patterns, one_class))
    return Resampled(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def compute_interval(scores: Numbers) -> Interval | None:
    """Compute the interval of a score over resamples, (B,); None if it is always undefined."""
    defined = scores[~np.isnan(scores)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _score_resamples(drawn: npt.NDArray[np.int64], patterns: Labels, one_class: bool) -> Resampled:
    """Score resamples, given how often (B, U) each has each of U patterns (U, 2 C)."""
    n_classes = patterns.shape[1] // 2
    true, decided = patterns[:, :n_classes], patterns[:, n_classes:]
    hits = drawn @ (true & decided).astype(np.int64)
    n_true, n_predicted = drawn @ true.astype(np.int64), drawn @ decided.astype(np.int64)
    correct = true == decided
    n_rows = drawn.sum(axis=1)
    exact = drawn @ correct.all(axis=1).astype(np.int64) / n_rows
    f1 = _divide(2 * hits, n_true + n_predicted)
    occur = np.maximum((n_true + n_predicted > 0).sum(axis=1), 1)
    return Resampled(
        precision=_divide(hits, n_predicted),
        recall=_divide(hits, n_true),
        f1=f1,
        accuracy=exact if one_class else drawn @ correct.mean(axis=1) / n_rows,
        exact_match=exact,
        macro_f1=np.where(
            (n_true + n_predicted).any(axis=1), np.nansum(f1, axis=1) / occur, np.nan
        ),
    )


def _divide(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Numbers:
    """Divide; nan where the divisor is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


class Score(NamedTuple):
    """A score and its interval; None where it is undefined."""

    value: float | None
    interval: Interval | None


class Roc(NamedTuple):
    """A ROC curve: false and true positive rates, (n,) each."""

    false_positive: Numbers
    true_positive: Numbers


class Reliability(NamedTuple):
    """A reliability diagram with 15 bins of equal width; nan in empty bins.

    Attributes:
        counts: number of probabilities in each bin, (15,).
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
    """Rows of one class that are predicted as another, and their share of the class's rows."""

    true: str
    decided: str
    rows: int
    share: float


@dataclass(frozen=True)
class Scores:
    """All scores of the predictions.

    Attributes:
        metrics: the result of `compute_metrics`, which ``lstmfcn evaluate`` prints.
        baseline: the accuracy of always giving the most frequent answer.
        classes: scores of each class, in the model's order.
        confusion: true classes in rows, predicted ones in columns, (C, C); None for multilabel.
        confusions: the most frequent confusions, those with most rows first.
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
        """A warning if the model is not better than a constant guess; else None."""
        value, interval = self.accuracy
        if value is None or interval is None or self.baseline == 1 or interval.low > self.baseline:
            return None
        guess = "always giving the most frequent answer"
        if value < self.baseline:
            return f"This model is worse than {guess}."
        return f"These rows do not show that this model is better than {guess}."


def compute_scores(predictions: Predictions, seed: int = 0) -> Scores:
    """Score the predictions; the seed is that of the bootstrap."""
    schema, columns = predictions.schema, predictions.columns
    metrics = compute_metrics(
        schema, predictions.labels, predictions.probabilities, predictions.decided
    )
    multilabel = schema.task == "multilabel"
    bootstrap = resample(columns.true, columns.decided, one_class=not multilabel, seed=seed)
    confusion = None if multilabel else np.array(metrics["confusion_matrix"], dtype=np.int64)
    return Scores(
        metrics=metrics,
        accuracy=Score(metrics["accuracy"], compute_interval(bootstrap.accuracy)),
        exact_match=(
            Score(metrics["exact_match"], compute_interval(bootstrap.exact_match))
            if multilabel
            else None
        ),
        macro_f1=Score(metrics["macro_f1"], compute_interval(bootstrap.macro_f1)),
        baseline=_compute_baseline(columns, multilabel),
        classes=[
            _score_class(name, metrics["classes"][name], columns, i, bootstrap)
            for i, name in enumerate(schema.classes)
        ],
        confusion=confusion,
        reliability=_compute_reliability(*compute_confidences(schema, columns)),
        confusions=[] if confusion is None else _find_confusions(schema.classes, confusion),
    )


def _compute_baseline(columns: OneVsRest, multilabel: bool) -> float:
    shares = columns.true.mean(axis=0)
    return float(np.maximum(shares, 1 - shares).mean() if multilabel else shares.max())


def _score_class(
    name: str, metrics: dict[str, Any], columns: OneVsRest, i: int, bootstrap: Resampled
) -> ClassScores:
    true, decided = columns.true[:, i], columns.decided[:, i]
    probabilities = columns.probabilities[:, i]
    area = metrics["roc_auc"]
    hits = int((true & decided).sum())
    return ClassScores(
        name=name,
        support=metrics["support"],
        precision=Score(metrics["precision"], compute_interval(bootstrap.precision[:, i])),
        recall=Score(metrics["recall"], compute_interval(bootstrap.recall[:, i])),
        f1=Score(metrics["f1"], compute_interval(bootstrap.f1[:, i])),
        roc_auc=area,
        roc=None if area is None else Roc(*roc_curve(true, probabilities)[:2]),
        reliability=_compute_reliability(probabilities, true == 1),
        found=hits,
        missed=int(true.sum()) - hits,
        false_alarms=int(decided.sum()) - hits,
    )


def _compute_reliability(
    stated: npt.NDArray[np.float32], came_true: npt.NDArray[np.bool_]
) -> Reliability:
    bins = confidence_bins(stated)
    counts = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, each, minlength=BINS) for each in (stated, came_true))
    means = (np.where(counts > 0, each / np.maximum(counts, 1), np.nan) for each in sums)
    return Reliability(counts, *means)


def _find_confusions(classes: tuple[str, ...], matrix: npt.NDArray[np.int64]) -> list[Confusion]:
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_CONFUSIONS]
    pairs = [divmod(int(k), len(classes)) for k in order]
    return [
        Confusion(classes[i], classes[j], int(wrong[i, j]), float(wrong[i, j] / matrix[i].sum()))
        for i, j in pairs
        if wrong[i, j]
    ]
