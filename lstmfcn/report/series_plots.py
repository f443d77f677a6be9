"""Draw series: medians of classes, lengths, single rows, and explained rows.

Shapes: K channels of T timepoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lstmfcn.data.table import FloatArray
from lstmfcn.report.examples import Example, ExplainedExample
from lstmfcn.report.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    ORANGE,
    WIDTH,
    set_timepoint_axis,
    shorten_names,
)
from lstmfcn.report.summary import ClassSeries, Summary

MOST_CLASSES = 60
"""Maximum number of classes whose medians are drawn."""

_FOR_AND_AGAINST = LinearSegmentedColormap.from_list("terms", [ORANGE, "#d9dde2", BLUE])


def draw_classes(summary: Summary, classes: Sequence[ClassSeries]) -> Figure:
    """Draw median and band of each class in a panel; several channels get a column each."""
    n_channels = len(summary.channels)
    columns = n_channels if n_channels > 1 else min(len(classes), 4 if len(classes) <= 16 else 6)
    n_panels = len(classes) * n_channels
    n_rows = -(-n_panels // columns)
    height = 1.6 if columns <= 4 else 1.25
    figure = Figure(figsize=(WIDTH, max(2.2, height * n_rows + 0.3)), layout="constrained")
    grid = figure.subplots(
        n_rows, columns, sharex=True, sharey="col" if n_channels > 1 else True, squeeze=False
    )
    panels = iter(grid.flat)
    names = shorten_names([one.name for one in classes], 24 if columns <= 4 else 17)
    for name, one in zip(names, classes, strict=True):
        for k, channel in zip(summary.channels, summary.channel_names, strict=True):
            axes = next(panels)
            _draw_band(axes, one, k, BLUE)
            set_timepoint_axis(axes, summary.n_timepoints)
            axes.set_title(f"{name}, {channel}" if n_channels > 1 else name)
    for axes in panels:
        axes.set_axis_off()
    for axes in grid.flat:
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=2))
        axes.yaxis.set_major_locator(MaxNLocator(3))
    return figure


def draw_lengths(summary: Summary) -> Figure:
    """Draw a histogram of the lengths."""
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(summary.all_lengths, bins=min(40, int(np.ptp(summary.all_lengths)) + 1), color=BLUE)
    axes.set_xlabel("timepoints up to the last value")
    axes.set_ylabel("rows")
    return figure


def draw_row(summary: Summary, row: Example) -> Figure:
    """Draw a row over the median of its true class, and of the predicted class."""
    figure, panels = _make_panels(summary)
    for axes, k in zip(panels, summary.channels, strict=True):
        _draw_band(axes, summary.classes[row.true_class], k, BLUE)
        if row.decided_class != row.true_class:
            decided = summary.classes[row.decided_class].median[k]
            axes.plot(_times(decided), decided, color=ORANGE, linestyle="--", linewidth=1.3)
        axes.plot(
            _times(row.values[k]),
            row.values[k],
            color=INK,
            linewidth=1.1,
            marker="." if summary.n_timepoints == 1 else "",
        )
    return figure


def draw_explanation(summary: Summary, explained: ExplainedExample) -> Figure:
    """Draw a row coloured by its terms, and the terms as bars; upward bars support the answer."""
    figure, (*panels, bars) = _make_panels(summary, below=1)
    terms = explained.terms
    limit = float(np.abs(terms).max()) or 1.0
    colours = _FOR_AND_AGAINST(Normalize(-limit, limit)(terms))
    for axes, k in zip(panels, summary.channels, strict=True):
        _draw_coloured_line(axes, explained.row.values[k], colours)
    bars.bar(_times(terms), terms, width=1.0, color=colours)
    bars.axhline(0, color=MUTED, linewidth=0.8)
    bars.set_ylim(-1.08 * limit, 1.08 * limit)
    bars.yaxis.set_major_locator(MaxNLocator(2, symmetric=True))
    bars.set_ylabel("term")
    return figure


def _make_panels(summary: Summary, below: int = 0) -> tuple[Figure, list[Axes]]:
    """Make a column of panels: one per drawn channel, and ``below`` smaller ones."""
    n_channels = len(summary.channels)
    height = 1.75 if n_channels == 1 else 0.85
    figure = Figure(figsize=(4.8, n_channels * height + 0.8 * below + 0.35), layout="constrained")
    heights = [height] * n_channels + [0.8] * below
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes in panels[:, 0]:
        set_timepoint_axis(axes, summary.n_timepoints)
        axes.yaxis.set_major_locator(MaxNLocator(3))
    panels[-1, 0].xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=2))
    panels[-1, 0].set_xlabel("timepoint")
    if n_channels > 1:
        for axes, name in zip(panels[:, 0], summary.channel_names, strict=False):
            axes.set_ylabel(name)
    return figure, list(panels[:, 0])


def _draw_band(axes: Axes, one: ClassSeries, channel: int, colour: str) -> None:
    times = _times(one.median[channel])
    axes.fill_between(
        times, one.low[channel], one.high[channel], color=colour, alpha=0.18, linewidth=0
    )
    axes.plot(times, one.median[channel], color=colour, linewidth=1.4)
    if not one.sampled:
        axes.text(0.5, 0.5, "no row", transform=axes.transAxes, color=MUTED, ha="center")


def _draw_coloured_line(axes: Axes, values: FloatArray, colours: FloatArray) -> None:
    """Draw a line; each half of a step has the colour of the nearer timepoint."""
    times = _times(values)
    middles = np.convolve(times, [0.5, 0.5], mode="valid")
    levels = np.convolve(values, [0.5, 0.5], mode="valid")
    points = np.column_stack([times, values])
    between = np.column_stack([middles, levels])
    before = np.vstack([points[:1], between])
    after = np.vstack([between, points[-1:]])
    pieces = np.stack([before, points, after], axis=1)
    axes.plot(times, values, color=FAINT, linewidth=0.8)
    axes.add_collection(LineCollection(list(pieces), colors=colours, linewidths=2.4))
    if len(times) == 1:
        axes.scatter(times, values, c=colours)


def _times(values: FloatArray) -> FloatArray:
    return np.arange(1, len(values) + 1, dtype=np.float32)
