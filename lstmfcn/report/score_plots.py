"""Draw scores: intervals of each class, confusion, ROC curves, reliability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lstmfcn.report.scores import ClassScores, Reliability
from lstmfcn.report.style import (
    BLUE,
    COLOURS,
    DASHES,
    FAINT,
    INK,
    MUTED,
    ORANGE,
    WIDTH,
    shorten_names,
)
from lstmfcn.training.calibration import BINS

CURVES_NAMED = 6
"""Number of ROC curves with a colour and a name; the others are grey."""

PANELS_OF_CLASSES = 12
"""Maximum number of classes for which each gets a reliability curve."""

_SHADES = LinearSegmentedColormap.from_list("rows", ["#ffffff", "#9ecae9", "#0b5394", "#062a4d"])
_MAX_CLASSES_WITH_COUNTS = 50
_MIN_COUNT = 10
"""Below this number of probabilities in a bin, its point is hollow."""


def draw_class_scores(classes: Sequence[ClassScores]) -> Figure:
    """Draw precision, recall and F1 of each class with intervals, in order of F1."""
    ordered = sorted(classes, key=lambda one: one.f1.value or 0.0)
    figure = Figure(figsize=(WIDTH, 0.26 * len(classes) + 1.0), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    places = range(len(ordered))
    for axes, name in zip(panels, ("precision", "recall", "f1"), strict=True):
        scores = [getattr(one, name) for one in ordered]
        for place, score in zip(places, scores, strict=True):
            if score.interval is not None:
                axes.plot(score.interval, [place, place], color=BLUE, alpha=0.4, linewidth=3.2)
        axes.scatter([score.value for score in scores], places, color=BLUE, s=22, zorder=3)
        axes.set_title(name if name != "f1" else "F1")
        axes.set_xlim(-0.03, 1.03)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
    by_name = dict(zip((one.name for one in classes), _short_names(classes), strict=True))
    panels[0].set_yticks(places, [by_name[one.name] for one in ordered])
    panels[0].set_ylim(-0.7, len(ordered) - 0.3)
    return figure


def draw_confusion(classes: Sequence[ClassScores], matrix: npt.NDArray[np.int64]) -> Figure:
    """Draw the confusion matrix: shades for shares of the true class, numbers for rows."""
    n_classes = len(classes)
    names = _short_names(classes)
    label_width = 0.5 + 0.075 * max(map(len, names))
    preferred = float(np.interp(n_classes, [4, 12, 24], [0.75, 0.45, 0.28]))
    cell = min(preferred, (WIDTH - label_width - 1.3) / n_classes)
    small = min(8.5, 30 * cell)
    width, height = cell * n_classes + label_width + 1.3, cell * n_classes + label_width + 0.2
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap=_SHADES, vmin=0, vmax=1)
    axes.set_xticks(range(n_classes), names, rotation=90, fontsize=small)
    axes.set_yticks(range(n_classes), names, fontsize=small)
    axes.set_xticks(np.arange(n_classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n_classes + 1) - 0.5, minor=True)
    axes.grid(visible=False)
    axes.grid(which="minor", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if n_classes <= _MAX_CLASSES_WITH_COUNTS:
        _write_counts(axes, matrix, shares, small)
    bar = figure.colorbar(image, shrink=0.5, aspect=24, format=PercentFormatter(1))
    bar.outline.set_visible(False)
    bar.set_label("share of the true class's rows")
    return figure


def draw_roc(classes: Sequence[ClassScores]) -> Figure:
    """Draw ROC curves, one class against the rest; of many, highlight those with smallest area."""
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.subplots()
    names = dict(zip((one.name for one in classes), _short_names(classes), strict=True))
    front = smallest_areas(classes)
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle=":", linewidth=1.2)
    curves = {one.name: one.roc for one in classes if one.roc}
    for one in classes:
        if one.roc and one.name not in [other.name for other in front]:
            axes.plot(*one.roc, color=FAINT, linewidth=0.9)
    lines = [
        axes.plot(
            *curves[one.name],
            color=colour,
            linestyle=dash,
            label=f"{one.roc_auc:.3f}  {names[one.name]}",
        )[0]
        for one, colour, dash in zip(front, COLOURS, DASHES, strict=False)
    ]
    axes.set_aspect("equal", anchor="W")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    title = "area" if len(curves) <= CURVES_NAMED else "smallest areas"
    axes.legend(
        handles=lines,
        title=title,
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(1.02, 0.0),
    )
    return figure


def smallest_areas(classes: Sequence[ClassScores]) -> list[ClassScores]:
    """Select the classes whose ROC curves are highlighted, the smallest area first."""
    defined = [one for one in classes if one.roc_auc is not None]
    return sorted(defined, key=lambda one: one.roc_auc or 0.0)[:CURVES_NAMED]


def draw_reliability(reliability: Reliability) -> Figure:
    """Draw accuracy over probability of the predictions, and below it their number."""
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    _diagonal(upper)
    filled = reliability.counts > 0
    upper.bar(
        (np.arange(BINS)[filled] + 0.5) / BINS,
        reliability.observed[filled],
        width=0.9 / BINS,
        color=BLUE,
        alpha=0.25,
    )
    _reliability_line(upper, reliability)
    upper.set_ylabel("share that is correct")
    lower.bar((np.arange(BINS) + 0.5) / BINS, reliability.counts, width=0.9 / BINS, color=MUTED)
    lower.set_ylabel("predictions")
    lower.set_xlabel("probability of the prediction")
    lower.set_xlim(0, 1)
    return figure


def draw_class_reliability(classes: Sequence[ClassScores]) -> Figure:
    """Draw the share of rows of each class over the predicted probability of the class."""
    columns = min(4, len(classes))
    n_rows = -(-len(classes) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.3 * n_rows + 0.4), layout="constrained")
    grid = figure.subplots(n_rows, columns, sharex=True, sharey=True, squeeze=False)
    names = _short_names(classes)
    for axes, one, name in zip(grid.flat, classes, names, strict=False):
        _diagonal(axes)
        _reliability_line(axes, one.reliability)
        axes.set_title(name)
    for axes in grid.flat[len(classes) :]:
        axes.set_axis_off()
    figure.supxlabel("predicted probability", color=MUTED, fontsize=9)
    figure.supylabel("share of rows of the class", color=MUTED, fontsize=9)
    return figure


def draw_outcomes(classes: Sequence[ClassScores]) -> Figure:
    """Draw found and missed rows, and false alarms, of each label."""
    figure = Figure(figsize=(WIDTH, 0.34 * len(classes) + 1.1), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(classes))
    left = np.zeros(len(classes))
    kinds = (
        ("found", [one.found for one in classes], BLUE, ""),
        ("missed", [one.missed for one in classes], "#f0b48a", "///"),
        ("false alarms", [one.false_alarms for one in classes], ORANGE, ""),
    )
    for label, counts, colour, hatch in kinds:
        axes.barh(places, counts, left=left, color=colour, hatch=hatch, label=label, ec="white")
        left += counts
    axes.set_yticks(places, _short_names(classes))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("rows")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return figure


def _write_counts(
    axes: Axes, matrix: npt.NDArray[np.int64], shares: npt.NDArray[np.float64], size: float
) -> None:
    for i, j in np.argwhere(matrix):
        colour = "white" if shares[i, j] > 0.5 else INK
        axes.text(j, i, f"{matrix[i, j]}", ha="center", va="center", color=colour, fontsize=size)


def _diagonal(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1.1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def _reliability_line(axes: Axes, reliability: Reliability) -> None:
    filled = reliability.counts > 0
    stated, observed = reliability.stated[filled], reliability.observed[filled]
    few = reliability.counts[filled] < _MIN_COUNT
    axes.plot(stated, observed, color=BLUE, linewidth=1.2)
    faces = np.where(few, "white", BLUE)
    axes.scatter(stated, observed, s=18, color=faces, edgecolor=BLUE, zorder=3, clip_on=False)


def _short_names(classes: Sequence[ClassScores]) -> list[str]:
    return shorten_names([one.name for one in classes])
