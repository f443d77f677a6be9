"""Intervals of scores, by drawing the rows anew with replacement (percentile bootstrap).

Efron and Tibshirani (1993), "An Introduction to the Bootstrap", section 13.3. Rows with the same
true and decided labels count alike, so what is drawn is how often each such pattern occurs.

Shapes: N rows, C classes, B resamples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]

RESAMPLES, LEVEL = 1000, 0.95
_COUNTS_AT_A_TIME = 1 << 22


class Interval(NamedTuple):
    """The middle 95 % of a score over resamples."""

    low: float
    high: float


class Resampled(NamedTuple):
    """Scores of each resample; nan where a resample leaves one undefined.

    Attributes:
        precision, recall, f1: (B, C).
        accuracy, exact_match, macro_f1: (B,), as `lstmfcn.evaluation.evaluation` defines them.
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
