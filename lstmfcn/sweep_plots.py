"""What a sweep found, as PNGs.

``objective.png``    each trial's objective, and the best so far
``slices.png``       the objective over each hyperparameter, of trials within the space
``importance.png``   how much each hyperparameter tells of whether a trial is among the best tenth
                     (PED-ANOVA, Watanabe et al. 2023, IJCAI; by Optuna); drawn where trials differ,
                     with bars from 20 trials on

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

from lstmfcn.counts import number
from lstmfcn.files import whole_file
from lstmfcn.hyperparameters import flag
from lstmfcn.search_space import Choice, Range, SearchSpace, Values
from lstmfcn.sweep import Objective, Trial

OBJECTIVE, SLICES, IMPORTANCE = "objective.png", "slices.png", "importance.png"

_COLOURS = {"done": "tab:blue", "stopped early": "tab:orange", "out of time": "tab:grey"}
_COLUMNS = 4

_BEST_SHARE = 0.1
"""Of trials, which importances are for: PED-ANOVA's own."""
_FEWEST_TRIALS = 20
"""For importances: the best tenth of fewer is one trial, which tells of nothing."""

Plot = Callable[[], Figure]


def sweep_plots(
    trials: Sequence[Trial], space: SearchSpace, objective: Objective, folder: Path
) -> list[Callable[[], None]]:
    """What draws each plot of the trials that have an objective into the folder; one has at least.

    They need nothing of each other, and may run side by side.
    """
    plots = _plots([trial for trial in trials if trial.counts], space, objective)
    return [partial(_save, plot, folder / name) for name, plot in plots.items()]


def rehearse() -> None:
    """Draw a made-up sweep for nobody; what drawing needs is then imported and computed."""
    space = SearchSpace({"lr": Range(0.001, 0.1, log=True), "hidden_size": Choice((8, 64))})
    trials = [
        Trial(n, {"lr": 0.002 * n, "hidden_size": 8}, "done", objective=1 / n)
        for n in range(1, _FEWEST_TRIALS + 1)
    ]
    for plot in _plots(trials, space, Objective("valid_accuracy")).values():
        _write(plot(), io.BytesIO())


def _plots(trials: Sequence[Trial], space: SearchSpace, objective: Objective) -> dict[str, Plot]:
    """What draws each; that which takes longest first."""
    plots: dict[str, Plot] = {}
    within = [trial for trial in trials if space.holds(trial.hyperparameters)]
    if len({trial.objective for trial in within}) > 1:
        draw = _importance if len(within) >= _FEWEST_TRIALS else _too_few
        plots[IMPORTANCE] = partial(draw, within, space, objective)
    plots[OBJECTIVE] = partial(_history, trials, objective)
    if within:
        plots[SLICES] = partial(_slices, within, space, objective, objective.best(trials))
    return plots


def _save(plot: Plot, path: Path) -> None:
    with whole_file(path) as unfinished:
        _write(plot(), unfinished)


def _history(trials: Sequence[Trial], objective: Objective) -> Figure:
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


def _slices(
    trials: Sequence[Trial], space: SearchSpace, objective: Objective, best: Trial | None
) -> Figure:
    names = list(space.values)
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3 * columns, 2.6 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        values = [trial.hyperparameters[name] for trial in trials]
        _scatter(axes, trials, _positions(axes, space.values[name], values), best)
        axes.set_xlabel(flag(name))
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(objective.metric)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
    return figure


def _positions(axes: Axes, values: Values, found: list[object]) -> list[float]:
    """Where each value lies on the axis: choices at equal distances, by their names."""
    if isinstance(values, Choice):
        axes.set_xticks(range(len(values.values)), [str(value) for value in values.values])
        axes.set_xlim(-0.5, len(values.values) - 0.5)
        return [float(values.values.index(value)) for value in found]
    if values.log:
        ticks = _log_ticks(values.low, values.high)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(LogLocator(subs="all"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=isinstance(values.low, int)))
    return [float(str(value)) for value in found]


def _log_ticks(low: float, high: float) -> list[float]:
    """One and three times the powers of ten, as 0.0003, 0.001, 0.003; else both bounds."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 3)]
    within = [tick for tick in ticks if low <= tick <= high]
    return within if len(within) > 1 else [low, high]


def _scatter(
    axes: Axes, trials: Sequence[Trial], positions: Sequence[float], best: Trial | None
) -> None:
    for status, colour in _COLOURS.items():
        here = [i for i, trial in enumerate(trials) if trial.status == status]
        if here:
            axes.scatter(
                [positions[i] for i in here],
                [_value(trials[i]) for i in here],
                s=18,
                color=colour,
                label=status,
                alpha=0.7,
            )
    if best and best in trials:
        place = [positions[trials.index(best)]], [_value(best)]
        axes.scatter(*place, s=110, marker="*", color="tab:red", label="best", zorder=3)
    axes.grid(alpha=0.3)


def _importance(trials: Sequence[Trial], space: SearchSpace, objective: Objective) -> Figure:
    found = optuna.importance.get_param_importances(
        _study(trials, space, objective),
        evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=_BEST_SHARE),
    )
    names = sorted(found, key=lambda name: found[name])
    figure = Figure(figsize=(7, 0.35 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([flag(name) for name in names], [found[name] for name in names])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.margins(x=0.1)
    axes.set_xlabel(
        f"importance for the best tenth in {objective.metric}, {number(len(trials), 'trial')}"
    )
    return figure


def _too_few(trials: Sequence[Trial], space: SearchSpace, objective: Objective) -> Figure:  # noqa: ARG001 - as _importance
    figure = Figure(figsize=(7, 1.4), layout="constrained")
    found = number(len(trials), "trial")
    text = f"Too few trials to tell importances: {found} of at least {_FEWEST_TRIALS}."
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=12)
    return figure


def _study(trials: Sequence[Trial], space: SearchSpace, objective: Objective) -> optuna.Study:
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


def _value(trial: Trial) -> float:
    return float("nan") if trial.objective is None else trial.objective


def _write(figure: Figure, file: Path | BinaryIO) -> None:
    figure.savefig(file, dpi=120, format="png")
