"""Show how training goes: the reference's log lines, a progress bar, the learning curve."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lstmfcn.console import Bar, print_progress
from lstmfcn.storage.files import atomic_write
from lstmfcn.training.metrics_log import EpochMetrics

_REFERENCE_NAMES = {
    "train_loss": "train:loss",
    "train_accuracy": "train:acc",
    "valid_loss": "valid:loss",
    "valid_accuracy": "valid:acc",
}
_CURVES = {"train": "training", "valid": "validation"}

logger = logging.getLogger(__name__)


class Progress(Bar):
    """Prints a line for each epoch; on a terminal, also draws a bar with speed and time left.

    Args:
        epochs: epochs of the whole training, over all members of an ensemble.
        done: epochs that an earlier run finished.
        began: when the command began, as `time.time` gives it.
        at_once: members that train at the same time.
    """

    def __init__(
        self, epochs: int, done: int = 0, began: float | None = None, at_once: int = 1
    ) -> None:
        super().__init__("epoch", epochs, done, tells_time_left=True)
        self._epochs, self._done, self._began, self._at_once = epochs, done, began, at_once
        self._seconds, self._shown = 0.0, 0

    def show(self, metrics: EpochMetrics, member: int | None = None) -> None:
        """Show a finished epoch; ``member`` is its number in an ensemble, None outside one."""
        if self._began is not None and not self._seconds:
            start_up = metrics["time"] - metrics["seconds"] - self._began
            logger.info("the first training step began %.1f s after the command", start_up)
        self._seconds += metrics["seconds"]
        speed = f"{metrics['rows_per_second']:,.0f} rows/s"
        self._shown += 1
        to_do = self._epochs - self._done - self._shown
        left = self._seconds / self._shown * to_do / self._at_once
        prefix = "" if member is None else f"member: {member} "
        print_progress(f"{prefix}{format_epoch(metrics)} ({speed}, {left:.0f} s left)")
        self.draw(speed, self._epochs - to_do)


def summary_lines(best: EpochMetrics) -> list[str]:
    """Format the best epoch's metrics as the reference does: ``train:loss 1.08076429``, ..."""
    lines = [f"{name} {best[key]:.8f}" for key, name in _REFERENCE_NAMES.items() if key in best]
    return [f"best: epoch {best['epoch']}", *lines]


def format_epoch(metrics: EpochMetrics) -> str:
    """Format an epoch as the reference does: ``epoch: 1 train_loss: 1.08076429 ...``."""
    shown = [f"{name}: {metrics[name]:.8f}" for name in _REFERENCE_NAMES if name in metrics]
    return " ".join([f"epoch: {metrics['epoch']}", *shown])


def save_learning_curve(history: Sequence[EpochMetrics], best_epoch: int, path: Path) -> None:
    """Write the figure of `draw_learning_curve` as a PNG file."""
    with atomic_write(path) as unfinished:
        draw_learning_curve(history, best_epoch).savefig(unfinished, dpi=120, format="png")


def draw_learning_curve(history: Sequence[EpochMetrics], best_epoch: int) -> Figure:
    """Draw loss and accuracy over epochs, for training and validation; mark the best epoch."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for prefix, name in _CURVES.items():
            key = f"{prefix}_{quantity}"
            if key in history[0]:
                axes.plot(
                    [metrics["epoch"] for metrics in history],
                    [metrics[key] for metrics in history],
                    marker="." if len(history) < 50 else "",
                    label=name,
                )
        axes.axvline(best_epoch, color="grey", linestyle=":", label=f"best epoch: {best_epoch}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
