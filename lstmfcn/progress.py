"""Training progress: the reference algorithm's log lines, a bar on a terminal."""

from __future__ import annotations

import logging

from lstmfcn.metrics_file import EpochMetrics
from lstmfcn.terminal import Bar, tell_progress

_QUANTITIES = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
_SUMMARY = {
    "train_loss": "train:loss",
    "train_accuracy": "train:acc",
    "valid_loss": "valid:loss",
    "valid_accuracy": "valid:acc",
}


logger = logging.getLogger(__name__)


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
        tell_progress(f"{of}{log_line(metrics)} ({speed}, {left:.0f} s left)")
        self.draw(speed, self._epochs - to_do)


def summary(kept: EpochMetrics) -> list[str]:
    """The best epoch's figures, in the reference's form: ``train:loss 1.08076429``, ..."""
    figures = [f"{written} {kept[name]:.8f}" for name, written in _SUMMARY.items() if name in kept]
    return [f"best: epoch {kept['epoch']}", *figures]


def log_line(metrics: EpochMetrics) -> str:
    """An epoch in the reference's form: ``epoch: 1 train_loss: 1.08076429 train_accuracy: ...``."""
    shown = [f"{name}: {metrics[name]:.8f}" for name in _QUANTITIES if name in metrics]
    return " ".join([f"epoch: {metrics['epoch']}", *shown])
