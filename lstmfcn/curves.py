"""The learning curve of a run as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lstmfcn.files import whole_file
from lstmfcn.metrics_file import EpochMetrics

_NAMES = {"train": "training", "valid": "validation"}


def save_learning_curve(history: Sequence[EpochMetrics], best_epoch: int, path: Path) -> None:
    """Write what `learning_curve` draws."""
    with whole_file(path) as unfinished:
        learning_curve(history, best_epoch).savefig(unfinished, dpi=120, format="png")


def learning_curve(history: Sequence[EpochMetrics], best_epoch: int) -> Figure:
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
