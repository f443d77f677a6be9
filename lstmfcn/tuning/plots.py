"""Draw the results of a sweep as PNG files.

``objective.png``    each trial's objective, and the best so far
``slices.png``       the objective over each hyperparameter, for trials within the search space
``importance.png``   how important each hyperparameter is for being among the best tenth of trials
                     (PED-ANOVA, Watanabe et al. 2023, IJCAI; from Optuna); needs trials with
                     different objectives, and at least 20 of them for bars

A star marks the best trial.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from optuna.study import StudyDirection

from lstmfcn.console import pluralize
from lstmfcn.hyperparameters import to_flag
from lstmfcn.storage.files import atomic_write
from lstmfcn.tuning.search_space import Choice, Range, SearchedValues, SearchSpace
from lstmfcn.tuning.sweep import Objective, TrialResult

OBJECTIVE, SLICES, IMPORTANCE = "objective.png", "slices.png", "importance.png"

_COLOURS = {"done": "tab:blue", "stopped early": "tab:orange", "out of time": "tab:grey"}
_COLUMNS = 4

_BEST_SHARE = 0.1
"""Share of trials that counts as best in importances, as in PED-ANOVA's paper."""
_MIN_TRIALS = 20
"""Minimum for importances; below it, the best tenth is a single trial."""

Plot = Callable[[], Figure]


def list_plots(
    trials: Sequence[TrialResult], space: SearchSpace, objective: Objective, folder: Path
) -> list[Callable[[], None]]:
    """Return functions that each draw one plot into the folder; they may run in parallel.

    Args:
        trials: ended trials; at least one must be eligible.
    """
    plots = _prepare_plots([trial for trial in trials if trial.eligible], space, objective)
    return [partial(_save, plot, folder / name) for name, plot in plots.items()]


def warm_up() -> None:
    """Draw a made-up sweep into memory, so that imports and caches are ready for the real one."""
    space = SearchSpace({"lr": Range(0.001, 0.1, log=True), "hidden_size": Choice((8, 64))})
    trials = [
        TrialResult(n, {"lr": 0.002 * n, "hidden_size": 8}, "done", objective=1 / n)
        for n in range(1, _MIN_TRIALS + 1)
    ]
    for plot in _prepare_plots(trials, space, Objective("valid_accuracy")).values():
        _write(plot(), io.BytesIO())


def _prepare_plots(
    trials: Sequence[TrialResult], space: SearchSpace, objective: Objective
) -> dict[str, Plot]:
    """Return the function of each plot by file name; the slowest first."""
    plots: dict[str, Plot] = {}
    within = [trial for trial in trials if space.holds(trial.hyperparameters)]
    if len({trial.objective for trial in within}) > 1:
        plots[IMPORTANCE] = partial(_draw_importance, within, space, objective)
    plots[OBJECTIVE] = partial(_draw_history, trials, objective)
    if within:
        plots[SLICES] = partial(_draw_slices, within, space, objective, objective.best(trials))
    return plots


def _save(plot: Plot, path: Path) -> None:
    with atomic_write(path) as unfinished:
        _write(plot(), unfinished)


def _draw_history(trials: Sequence[TrialResult], objective: Objective) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    numbers = [trial.number for trial in trials]
    best = accumulate((_value(t) for t in trials), min if objective.mode == "min" else max)
    axes.step(numbers, list(best), where="post", color="tab:green", label="best so far")
    _scatter(axes, trials, numbers, objective.best(trials))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel(objective.metric)
    axes.legend()
    return figure


def _draw_slices(
    trials: Sequence[TrialResult],
    space: SearchSpace,
    objective: Objective,
    best: TrialResult | None,
) -> Figure:
    names = list(space.values)
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3 * columns, 2.6 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        values = [trial.hyperparameters[name] for trial in trials]
        _scatter(axes, trials, _set_up_axis(axes, space.values[name], values), best)
        axes.set_xlabel(to_flag(name))
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(objective.metric)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
    return figure


def _set_up_axis(axes: Axes, values: SearchedValues, tried: list[object]) -> list[float]:
    """Set up the x axis; returns the position of each tried value. Choices have equal distances."""
    if isinstance(values, Choice):
        axes.set_xticks(range(len(values.values)), [str(value) for value in values.values])
        axes.set_xlim(-0.5, len(values.values) - 0.5)
        return [float(values.values.index(value)) for value in tried]
    if values.log:
        ticks = _log_ticks(values.low, values.high)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(LogLocator(subs="all"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=isinstance(values.low, int)))
    return [float(str(value)) for value in tried]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1 and 3 times powers of ten, such as 0.0003, 0.001, 0.003; else both bounds."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 3)]
    within = [tick for tick in ticks if low <= tick <= high]
    return within if len(within) > 1 else [low, high]


def _scatter(
    axes: Axes, trials: Sequence[TrialResult], positions: Sequence[float], best: TrialResult | None
) -> None:
    for status, colour in _COLOURS.items():
        indices = [i for i, trial in enumerate(trials) if trial.status == status]
        if indices:
            axes.scatter(
                [positions[i] for i in indices],
                [_value(trials[i]) for i in indices],
                s=18,
                color=colour,
                label=status,
                alpha=0.7,
            )
    if best and best in trials:
        place = [positions[trials.index(best)]], [_value(best)]
        axes.scatter(*place, s=110, marker="*", color="tab:red", label="best", zorder=3)
    axes.grid(alpha=0.3)


def _draw_importance(
    trials: Sequence[TrialResult], space: SearchSpace, objective: Objective
) -> Figure:
    if len(trials) < _MIN_TRIALS:
        return _draw_too_few(len(trials))
    importances = optuna.importance.get_param_importances(
        _make_study(trials, space, objective),
        evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=_BEST_SHARE),
    )
    names = sorted(importances, key=lambda name: importances[name])
    figure = Figure(figsize=(7, 0.35 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([to_flag(name) for name in names], [importances[name] for name in names])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.margins(x=0.1)
    axes.set_xlabel(
        f"importance for the best tenth by {objective.metric}, {pluralize(len(trials), 'trial')}"
    )
    return figure


def _draw_too_few(n_trials: int) -> Figure:
    figure = Figure(figsize=(7, 1.4), layout="constrained")
    text = f"Too few trials for importances: {n_trials}, at least {_MIN_TRIALS} are needed."
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=12)
    return figure


def _make_study(
    trials: Sequence[TrialResult], space: SearchSpace, objective: Objective
) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = StudyDirection.MINIMIZE if objective.mode == "min" else StudyDirection.MAXIMIZE
    study = optuna.create_study(direction=direction)
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.hyperparameters,
                distributions=space.distributions(),
                value=_value(trial),
            )
        )
    return study


def _value(trial: TrialResult) -> float:
    return float("nan") if trial.objective is None else trial.objective


def _write(figure: Figure, file: Path | BinaryIO) -> None:
    figure.savefig(file, dpi=120, format="png")
