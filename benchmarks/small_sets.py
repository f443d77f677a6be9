"""What views and batch norm's memory are worth on small sets: held-out rows of many splits.

    python benchmarks/small_sets.py --data DATA [--device cuda] [--check]

On the 13 small sets of ``benchmarks/held_out.py``, a half of whose training rows trains and the
other half judges, split at random many times, and on fewer splits of its other sets; no row of a
test file is read. All splits of a set are trained as one stack
(``benchmarks/stacked_training.py``), by which one GPU does in seconds what takes a CPU core hours.

Networks of the series are trained on 64 splits (16 of other sets), and judged with several memories
of batch norm's statistics, which take no part in training. A memory other than 0.1 is to be the
default if its accuracy is higher by more than two standard errors. Networks of other views are
trained on 16 (4), and judged alone and together, by the mean of their logits; the spectrum is none
of the package's. Rows of results are added to ``benchmarks/results/small-sets.csv``; sets that are
there are not run again. At the end it prints means over sets, and their differences from networks
of the series on the same splits, with standard errors over splits.

``--check`` trains two splits of two sets by the package too, and prints losses and cross-entropy of
both; it can be run without a GPU (``--device cpu``).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from archive_runs import RESULTS
from held_out import SETS, SMALL, HeldOut

from lstmfcn.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import torch

SHARES = {**SMALL, **SETS}
SPLITS, SPLITS_OF_VIEWS = 64, 16
"""Of small sets; a fourth of them of others."""

MEMORIES: dict[str, Callable[[Any], Any]] = {
    "0.1": lambda n: (1 / n).clamp(min=0.1),
    "0.01": lambda n: (1 / n).clamp(min=0.01),
    "0.1 to 0.01": lambda n: (25 / n).clamp(0.01, 0.1).maximum(1 / n),
}
"""What the n-th batch weighs."""

VIEWS = ("series", "differences", "coarse", "spectrum")
TOGETHER = (
    ("series", "differences"),
    ("series", "coarse"),
    ("differences", "coarse"),
    ("series", "differences", "coarse"),
    ("series", "differences", "coarse", "spectrum"),
)
COLUMNS = ("networks", "memory", "set", "split", "right", "rows", "cross_entropy")


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.data, arguments.device)
        return
    path = RESULTS / "small-sets.csv"
    run_missing(path, arguments.data, arguments.device, arguments.processes)
    show(pd.read_csv(path))


def run_missing(path: Path, data: Path, device: str, processes: int) -> None:
    """Each set, a few at a time."""
    known = set(pd.read_csv(path)["set"]) if path.exists() else set()
    with (
        path.open("a", newline="") as file,
        ProcessPoolExecutor(processes, get_context("spawn")) as pool,
    ):
        writer = csv.writer(file)
        if not known:
            writer.writerow(COLUMNS)
        wanted = [name for name in SHARES if name not in known]
        running = [pool.submit(judged, data, name, device) for name in wanted]
        for done in as_completed(running):
            writer.writerows(done.result())
            file.flush()


def judged(data: Path, name: str, device: str) -> list[tuple[Any, ...]]:
    """All views on one set: the rows of the results."""
    logits: dict[tuple[str, str], Any] = {}
    for view in VIEWS:
        began = time.perf_counter()
        count = SPLITS if view == "series" else SPLITS_OF_VIEWS
        held_out = splits_of(data, name, count if name in SMALL else count // 4)
        memories = tuple(MEMORIES) if view == "series" else ("0.1",)
        stack, judges, classes = stacked(held_out, Hyperparameters(), view, memories, device)
        stack.fit()
        for at, memory in enumerate(memories):
            logits[view, memory] = stack.logits(judges, at).detach().cpu().numpy()
        if view == "series":
            right = classes.cpu().numpy()
        print(f"{name}, {view}: {time.perf_counter() - began:.0f} s", flush=True)
    return rows_of(name, logits, right)


def rows_of(
    name: str, logits: Mapping[tuple[str, str], Any], right: npt.NDArray[np.int64]
) -> list[tuple[Any, ...]]:
    """The rows of a set's results.

    Args:
        logits: of each view with each memory, (K, N, C).
        right: the classes (K, N), of more splits perhaps.
    """
    networks = dict(logits)
    for views in TOGETHER:
        count = min(len(logits[view, "0.1"]) for view in views)
        members = [logits[view, "0.1"][:count] for view in views]
        networks[" + ".join(views), "0.1"] = np.mean(members, axis=0)
    rows = []
    for (together, memory), found in networks.items():
        for split, (each, classes) in enumerate(zip(found, right, strict=False)):
            shares = np.exp(each - each.max(axis=1, keepdims=True))
            likelihood = shares[np.arange(len(each)), classes] / shares.sum(axis=1)
            count = int((each.argmax(axis=1) == classes).sum())
            cross_entropy = round(float(-np.log(np.maximum(likelihood, 1e-12)).mean()), 4)
            rows.append((together, memory, name, split, count, len(classes), cross_entropy))
    return rows


def splits_of(data: Path, name: str, count: int) -> list[HeldOut]:
    """A set's first splits."""
    return [HeldOut.of(data, name, SHARES[name], seed) for seed in range(count)]


def stacked(
    held_out: list[HeldOut],
    h: Hyperparameters,
    view: str,
    memories: tuple[str, ...],
    device: str,
) -> tuple[Any, Any, Any]:
    """The stack of all splits; what is judged, (K, N, T), and its classes (K, N)."""
    import torch
    from stacked_training import Rows, Stack

    from lstmfcn.model import LSTMFCN

    states, trains, judges = [], [], []
    for seed, split in enumerate(held_out):
        values, names = split.training
        _, schema, scaler = split.start(h)
        trains.append((scaler.transform(values), schema.encode_names(names.tolist())))
        judges.append((scaler.transform(split.values[split.judges]), split.right(schema)))
        normed = view in ("differences", "spectrum")
        shaped = h.model_copy(update={"view": "differences" if normed else "series"})
        n_seen = seen(torch.zeros(1, values.shape[1]), view).shape[1]
        torch.manual_seed(seed)
        states.append(LSTMFCN(shaped, n_seen, len(schema.classes)).state_dict())

    def rows(of: list[Any]) -> Rows:
        x = torch.stack([seen(torch.from_numpy(values), view) for values, _ in of])
        classes = torch.stack([torch.from_numpy(classes) for _, classes in of])
        return Rows(x.to(device), classes.to(device))

    precision = torch.bfloat16 if device == "cuda" else torch.float32
    weights = [MEMORIES[memory] for memory in memories]
    stack = Stack(states, h, range(len(held_out)), rows(trains), weights, precision)
    return stack, *rows(judges)


def seen(x: torch.Tensor, view: str) -> torch.Tensor:
    """Series (N, T) as a view has them, (N, S)."""
    import torch

    from lstmfcn.view import View, differences

    match view:
        case "differences":  # without the norm of that view: the stack has one
            return differences(x.unsqueeze(1)).squeeze(1)
        case "coarse":
            means = View("coarse", 1, x.shape[1], masks=False, batch_norm_momentum=0.1)
            return means(x.unsqueeze(1))[0].squeeze(1)
        case "spectrum":
            return torch.fft.rfft(x).abs().log1p()[:, 1:]
    return x


def check(data: Path, device: str) -> None:
    """Losses of the stack beside the package's, without dropout, and held-out cross-entropy."""
    from lstmfcn.artifact import Artifact
    from lstmfcn.training import fit

    for view in VIEWS[:3]:
        h = Hyperparameters.parse({"epochs": 4, "dropout": 0, "precision": "fp32", "view": view})
        for name in ("ItalyPowerDemand", "SonyAIBORobotSurface1"):
            held_out = splits_of(data, name, 2)
            stack, judges, right = stacked(held_out, h, view, ("0.1",), device)
            found = np.array(stack.fit()).T
            likelihoods = stack.logits(judges, 0).log_softmax(dim=2)
            figures = -likelihoods.gather(2, right.unsqueeze(2)).mean((1, 2)).detach()
            for seed, split in enumerate(held_out):
                history: list[Any] = []
                asked = h.model_copy(update={"seed": seed})
                (training, task, batches), schema, scaler = split.start(asked)
                fit(training, task, batches, None, asked, history.append)
                model = Artifact(asked, schema, scaler, training.best_weights, training.best)
                expected = [metrics["train_loss"] for metrics in history]
                print(view, name, seed, found[seed].round(5), np.round(expected, 5), end=" ")
                print(round(float(figures[seed]), 5), split.judge(model)[1])


def compared(found: pd.DataFrame, sets: Mapping[str, Any]) -> pd.DataFrame:
    """Means over these sets, and differences from networks of the series, with standard errors."""
    found = found[found["set"].isin(sets)].assign(accuracy=lambda rows: rows.right / rows.rows)
    figures = ["accuracy", "cross_entropy"]
    of_splits = found.groupby(["networks", "memory", "split"])[figures].mean()
    lines = {}
    for key, each in of_splits.groupby(level=[0, 1]):
        splits = each.droplevel([0, 1])
        difference = splits - of_splits.loc[("series", "0.1")].loc[splits.index]
        line = {"splits": len(splits), **splits.mean()}
        line |= {f"{name} more": mean for name, mean in difference.mean().items()}
        line |= {f"{name} +-": std / len(splits) ** 0.5 for name, std in difference.std().items()}
        lines[key] = line
    return pd.DataFrame(lines).T


def show(found: pd.DataFrame) -> None:
    """Both groups of sets."""
    for name, sets in {"small sets": SMALL, "other sets": SETS}.items():
        print(f"\n{name}\n{compared(found, sets).round(4).to_string()}")


if __name__ == "__main__":
    main()
