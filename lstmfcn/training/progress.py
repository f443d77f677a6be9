"""Training progress: the reference algorithm's log lines, a bar on a terminal, the curve."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lstmfcn.console import Bar, print_progress
from lstmfcn.storage.files import atomic_write
from lstmfcn.training.metrics_log import EpochMetrics

_QUANTITIES = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
_SUMMARY = {
    "train_loss": "train:loss",
    "train_accuracy": "train:acc",
    "valid_loss": "valid:loss",
    "valid_accuracy": "valid:acc",
}


logger = logging.getLogger(__name__)


_NAMES = {"train": "training", "valid": "validation"}


class Progress(Bar):
    """Shows each epoch: a log line, and epoch, speed and time left in a bar.

    The bar is drawn on a terminal only; log files get the lines, with speed and time left in them.

    Args:
        epochs: of the whole training, over all members of an ensemble.
        done: epochs that were done before.
        at_once: members that are trained at a time.
        began: when the command began, as `time.time` tells it.
    """

    def __init__(
        self, epochs: int, done: int = 0, began: float | None = None, at_once: int = 1
    ) -> None:
        super().__init__("epoch", epochs, done, tells_time_left=True)
        self._epochs, self._done, self._began, self._at_once = epochs, done, began, at_once
        self._seconds, self._shown = 0.0, 0

    def show(self, metrics: EpochMetrics, member: int | None = None) -> None:
        """One epoch is done, of that member of an ensemble."""
        if self._began is not None and not self._seconds:
            start_up = metrics["time"] - metrics["seconds"] - self._began
            logger.info("the first step began %.1f s after the command", start_up)
        self._seconds += metrics["seconds"]
        speed = f"{metrics['rows_per_second']:,.0f} rows/s"
        self._shown += 1
        to_do = self._epochs - self._done - self._shown
        left = self._seconds / self._shown * to_do / self._at_once
        of = "" if member is None else f"member: {member} "
        print_progress(f"{of}{format_epoch(metrics)} ({speed}, {left:.0f} s left)")
        self.draw(speed, self._epochs - to_do)


def summary_lines(kept: EpochMetrics) -> list[str]:
    """The best epoch's figures, in the reference's form: ``train:loss 1.08076429``, ..."""
    figures = [f"{written} {kept[name]:.8f}" for name, written in _SUMMARY.items() if name in kept]
    return [f"best: epoch {kept['epoch']}", *figures]


def format_epoch(metrics: EpochMetrics) -> str:
    """An epoch in the reference's form: ``epoch: 1 train_loss: 1.08076429 train_accuracy: ...``."""
    shown = [f"{name}: {metrics[name]:.8f}" for name in _QUANTITIES if name in metrics]
    return " ".join([f"epoch: {metrics['epoch']}", *shown])


def save_learning_curve(history: Sequence[EpochMetrics], best_epoch: int, path: Path) -> None:
    """Write what `draw_learning_curve` draws."""
    with atomic_write(path) as unfinished:
        draw_learning_curve(history, best_epoch).savefig(unfinished, dpi=120, format="png")


def draw_learning_curve(history: Sequence[EpochMetrics], best_epoch: int) -> Figure:
    """Draw loss and accuracy over epochs, training and validation, the kept epoch marked."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for prefix, name in _NAMES.items():
            key = f"{prefix}_{quantity}"
            if key in history[0]:
                axes.plot(
                    [metrics["epoch"] for metrics in history],
                    [metrics[key] for metrics in history],
                    marker="." if len(history) < 50 else "",
                    label=name,
                )
        axes.axvline(best_epoch, color="grey", linestyle=":", label=f"kept: epoch {best_epoch}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
