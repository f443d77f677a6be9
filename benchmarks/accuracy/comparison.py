"""Compare accuracies on archive sets with the published ones: a table, a scatter plot, ranks."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from scipy.stats import friedmanchisquare, wilcoxon

from benchmarks.common import print_ratio, print_table

PUBLISHED = {
    "LSTM-FCN": "published_lstm_fcn",
    "ALSTM-FCN": "published_alstm_fcn",
    "FCN": "published_fcn",
    "ResNet": "published_resnet",
}
OURS = "here"


def accuracies(found: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Our mean over seeds beside the published accuracies, one row per set that all have."""
    means = found.groupby("set").accuracy.mean().rename(OURS)
    published = index[list(PUBLISHED.values())].rename(columns={v: k for k, v in PUBLISHED.items()})
    return pd.DataFrame(means).join(published, how="inner").dropna()


def print_comparison(found: pd.DataFrame, index: pd.DataFrame) -> None:
    """The table of sets, then means, ranks, wins, draws, losses and the Wilcoxon test."""
    by_set = found.groupby("set")
    table = by_set.accuracy.agg(["mean", "std", "min", "max", "count"])
    table["seconds"] = by_set.seconds.mean()
    table["epochs"], table["parameters"] = by_set.epochs.max(), by_set.parameters.max()
    table = table.join(index[["n_train", "n_timepoints", "published_lstm_fcn"]])
    table["difference"] = table["mean"] - table.published_lstm_fcn
    print_table(table.reset_index())
    together = accuracies(found, index)
    ranks = together.rank(axis=1, ascending=False).mean()
    print(f"  {len(together)} sets that all have; seconds in all {found.seconds.sum():.0f}")
    rows: list[dict[str, object]] = []
    for name in together.columns:
        difference = (together[OURS] - together[name]).round(6)
        row = {"method": name, "mean": together[name].mean(), "mean rank": ranks[name]}
        if name != OURS:
            row |= {"wins here": (difference > 0).sum(), "draws": (difference == 0).sum()}
            row |= {"losses": (difference < 0).sum(), "Wilcoxon p": _wilcoxon(difference)}
        rows.append(row)
    print_table(rows)
    errors = (1 - together[OURS].mean()) / (1 - together["LSTM-FCN"].mean())
    print_ratio("error rate / published LSTM-FCN, mean of the sets", errors)


def _wilcoxon(difference: pd.Series[float]) -> float:
    return float(wilcoxon(difference).pvalue) if (difference != 0).any() else 1.0


def draw_scatter(found: pd.DataFrame, index: pd.DataFrame, path: Path) -> None:
    """Our accuracy over the published LSTM-FCN's, one point per set; above the line is better."""
    together = accuracies(found, index)
    figure, axes = plt.subplots(figsize=(7, 6.3), layout="constrained")
    low = min(together[OURS].min(), together["LSTM-FCN"].min()) - 0.03
    axes.plot([low, 1.01], [low, 1.01], color="0.7", linewidth=1, zorder=0)
    axes.scatter(together["LSTM-FCN"], together[OURS], s=24)
    for name, row in together.iterrows():
        if abs(row[OURS] - row["LSTM-FCN"]) > 0.02:
            place = (row["LSTM-FCN"], row[OURS])
            above = place[1] > place[0]
            shift = (0, 6) if above else (5, -9)  # away from the line
            side = "center" if above else "left"
            axes.annotate(name, place, shift, textcoords="offset points", size=8, ha=side)
    axes.set(xlim=(low, 1.15), ylim=(low, 1.03), aspect="equal")
    axes.set(xlabel="published LSTM-FCN", ylabel="lstmfcn, mean over seeds")
    axes.set_title(f"Test accuracy, {len(together)} sets of the UCR archive")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_ranks(found: pd.DataFrame, index: pd.DataFrame, path: Path) -> None:
    """A critical-difference diagram: mean ranks; a bar joins those that do not differ.

    Pairs are compared by the Wilcoxon signed-rank test with Holm's correction (Demsar 2006,
    "Statistical Comparisons of Classifiers over Multiple Data Sets"; Benavoli et al. 2016).
    """
    together = accuracies(found, index)
    ranks = together.rank(axis=1, ascending=False).mean().sort_values()
    names = ranks.index.tolist()
    different = _different(together, names)
    figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
    axes.hlines(0, 1, len(names), color="black")
    for rank in range(1, len(names) + 1):
        axes.vlines(rank, 0, 0.08, color="black")
        axes.text(rank, 0.14, str(rank), ha="center")
    for place, name in enumerate(names):
        left = place < len(names) / 2
        depth = -0.35 - 0.25 * (place if left else len(names) - 1 - place)
        x = 0.8 if left else len(names) + 0.2
        axes.plot([ranks[name], ranks[name], x], [0, depth, depth], color="black", linewidth=0.8)
        label = f" {name} {ranks[name]:.2f} "
        axes.text(x, depth, label, ha="right" if left else "left", va="center")
    depth = -0.12
    for first, last in _cliques(names, different):
        axes.hlines(depth, ranks[names[first]] - 0.03, ranks[names[last]] + 0.03, linewidth=3)
        depth -= 0.08
    statistic = friedmanchisquare(*(together[name] for name in names))
    axes.set_title(
        f"Mean ranks over {len(together)} sets (Friedman p = {statistic.pvalue:.3f})", size=10
    )
    axes.set(xlim=(-0.6, len(names) + 1.6), ylim=(-1.1, 0.4))
    axes.axis("off")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _different(together: pd.DataFrame, names: list[str]) -> set[tuple[int, int]]:
    """Pairs whose accuracies differ at 5%, by Holm's procedure."""
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    values = {}
    for i, j in pairs:
        values[i, j] = _wilcoxon((together[names[i]] - together[names[j]]).round(6))
    found = set()
    for done, pair in enumerate(sorted(pairs, key=values.__getitem__)):
        if values[pair] > 0.05 / (len(pairs) - done):
            break
        found.add(pair)
    return found


def _cliques(names: list[str], different: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest runs of neighbours none of which differ."""
    runs: list[tuple[int, int]] = []
    for first in range(len(names)):
        last = first
        while last + 1 < len(names) and not any(
            (i, last + 1) in different for i in range(first, last + 1)
        ):
            last += 1
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs
