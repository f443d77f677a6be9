"""What the defaults are worth on small sets: accuracy on held-out rows of many splits.

    python benchmarks/small_sets.py --data DATA [--splits 64] [--device cuda]

On the 13 small sets of ``benchmarks/held_out.py``, a half of whose training rows trains and the
other half judges, split at random many times, and of the default and of views, on fewer splits, its
other sets too; no row of a test file is read. All splits of a set
are trained as one stack (``benchmarks/stacked_training.py``), which a GPU does a hundred times as
fast as a CPU core one after the other. Of the default one training judges several memories of batch
norm's statistics, in which they take no part. A memory other than 0.1 is to be the default if after
200 epochs its accuracy is higher by more than two standard errors, and after 10 and 30 epochs not
lower by more than two. Rows of results are added to
``benchmarks/results/small-sets.csv``; those that are there are not run again. At the end it prints
means over sets, and what each differs from the default on the same splits, with standard errors
over splits. ``--check`` trains two splits of two sets by the package too, and compares losses.
"""

from __future__ import annotations

import argparse
import csv
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from archive_runs import RESULTS
from held_out import SETS, SMALL, HeldOut

from lstmfcn.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import torch

MEMORIES = ("0.1", "0.01", "0.1 to 0.01")
COLUMNS = ("variant", "set", "memory", "split", "right", "rows", "cross_entropy")


class Variant(NamedTuple):
    """What is trained.

    Attributes:
        view: of the series; those of the package and others that were tried.
        memories: how batch norm's statistics remember.
        share: of the splits.
    """

    hyperparameters: Hyperparameters
    view: str = "series"
    memories: tuple[str, ...] = MEMORIES[:1]
    share: float = 0.25


VARIANTS = {
    "": Variant(Hyperparameters(), memories=MEMORIES, share=1),
    "--epochs 10": Variant(Hyperparameters(epochs=10), memories=MEMORIES, share=1),
    "--epochs 30": Variant(Hyperparameters(epochs=30), memories=MEMORIES, share=1),
    **{
        f"view {view}": Variant(Hyperparameters(), view)
        for view in ("differences", "coarse", "spectrum", "sums")
    },
    "--rows-per-epoch 100": Variant(Hyperparameters(rows_per_epoch=100)),
    "--lr 0.001": Variant(Hyperparameters(lr=0.001)),
    "--label-smoothing 0": Variant(Hyperparameters(label_smoothing=0)),
    "--weight-decay 0": Variant(Hyperparameters(weight_decay=0)),
    "--hidden-size 64": Variant(Hyperparameters(hidden_size=64)),
    "--dropout 0.5": Variant(Hyperparameters(dropout=0.5)),
    "--batch-size 16": Variant(Hyperparameters(batch_size=16)),
    "--schedule cosine": Variant(Hyperparameters(schedule="cosine")),
    "--lr 0.01": Variant(Hyperparameters(lr=0.01)),
}


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=64)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin none after these"
    )
    parser.add_argument("--logits", type=Path, help="folder for the logits of all networks")
    parser.add_argument("--output", type=Path, default=RESULTS / "small-sets.csv")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.data, arguments.device)
        return
    run_missing(arguments)
    show(pd.read_csv(arguments.output, keep_default_na=False))


def run_missing(arguments: argparse.Namespace) -> None:
    """Each variant on each set, a few at a time."""
    known: set[tuple[Any, ...]] = set()
    if arguments.output.exists():
        before = pd.read_csv(arguments.output, keep_default_na=False)
        known = set(before.iloc[:, :2].itertuples(index=False, name=None))
    until = time.time() + arguments.seconds
    wanted = [
        (variant, name)
        for variant, each in VARIANTS.items()
        for name in (SMALL if each.view == "series" and variant else {**SMALL, **SETS})
        if (variant, name) not in known
    ]
    with (
        arguments.output.open("a", newline="") as file,
        ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool,
    ):
        writer = csv.writer(file)
        if not known:
            writer.writerow(COLUMNS)
        running = [
            pool.submit(
                judged, arguments.data, *key, arguments.splits, arguments.device, until,
                arguments.logits,
            )
            for key in wanted
        ]  # fmt: skip
        for done in as_completed(running):
            writer.writerows(done.result())
            file.flush()


def judged(
    data: Path, variant: str, name: str, splits: int, device: str, until: float, logits: Path | None
) -> list[tuple[Any, ...]]:
    """One variant on one set: a row of the results for each memory and split."""
    import torch

    if time.time() > until:
        return []
    began = time.perf_counter()
    each = VARIANTS[variant]
    count = max(1, round(splits * each.share * (1 if name in SMALL else 0.25)))
    held_out = [HeldOut.of(data, name, {**SMALL, **SETS}[name], seed) for seed in range(count)]
    stack, judges, right = stacked(held_out, each, device)
    losses = stack.fit()
    rows, kept = [], {}
    with torch.inference_mode():
        for memory, memory_name in enumerate(each.memories):
            found = stack.logits(judges, memory)
            kept[memory_name] = found.cpu().numpy()
            cross_entropies = -found.log_softmax(dim=2).gather(2, right.unsqueeze(2)).mean((1, 2))
            rights = (found.argmax(dim=2) == right).sum(dim=1)
            for split in range(count):
                figures = (
                    int(rights[split]),
                    right.shape[1],
                    round(float(cross_entropies[split]), 5),
                )
                rows.append((variant, name, memory_name, split, *figures))
    if logits:
        logits.mkdir(parents=True, exist_ok=True)
        path = logits / f"{variant or 'default'}_{name}.npz".replace(" ", "_")
        np.savez_compressed(path, right=right.cpu().numpy(), **kept)
    accuracy = np.mean([row[4] / row[5] for row in rows])
    seconds = time.perf_counter() - began
    print(f"{variant or 'default'} {name}: {accuracy:.4f}, loss {np.mean(losses[-1]):.4f}, "
          f"{seconds:.1f} s", flush=True)  # fmt: skip
    return rows


def stacked(held_out: list[HeldOut], variant: Variant, device: str) -> tuple[Any, Any, Any]:
    """The stack of all splits; what is judged, (K, N, T), and its classes."""
    import torch
    from stacked_training import Rows, Stack

    from lstmfcn.model import LSTMFCN

    h = variant.hyperparameters
    states, trains, judges = [], [], []
    for seed, split in enumerate(held_out):
        values, names = split.training
        _, schema, scaler = split.start(h)
        trains.append((scaler.transform(values), schema.encode_names(names.tolist())))
        judges.append((scaler.transform(split.values[split.judges]), split.right(schema)))
        normed = variant.view not in ("series", "coarse")
        shaped = h.model_copy(update={"view": "differences" if normed else "series"})
        n_seen = seen(torch.zeros(1, values.shape[1]), variant.view).shape[1]
        torch.manual_seed(seed)
        states.append(LSTMFCN(shaped, n_seen, len(schema.classes)).state_dict())

    def rows(of: list[Any]) -> Rows:
        x = torch.stack([seen(torch.from_numpy(values), variant.view) for values, _ in of])
        classes = torch.stack([torch.from_numpy(classes) for _, classes in of])
        return Rows(x.to(device), classes.to(device))

    precision = torch.bfloat16 if device == "cuda" else torch.float32
    memories = {name: weight_of(name) for name in variant.memories}
    stack = Stack(states, h, range(len(held_out)), rows(trains), memories, precision)
    return stack, *rows(judges)


def weight_of(memory: str) -> Any:
    """What the n-th batch weighs."""
    return {
        "0.1": lambda n: (1 / n).clamp(min=0.1),
        "0.01": lambda n: (1 / n).clamp(min=0.01),
        "0.1 to 0.01": lambda n: (25 / n).clamp(0.01, 0.1).maximum(1 / n),
    }[memory]


def seen(x: torch.Tensor, view: str) -> torch.Tensor:
    """Series (N, T) as a view has them, (N, S)."""
    import torch

    from lstmfcn.view import differences, window_of

    match view:
        case "differences":
            return differences(x.unsqueeze(1)).squeeze(1)
        case "coarse":
            window = window_of(x.shape[1])
            whole = torch.nn.functional.pad(x, (0, -x.shape[1] % window), value=torch.nan)
            return whole.reshape(len(x), -1, window).nanmean(dim=2)
        case "spectrum":
            return torch.fft.rfft(x).abs().log1p()[:, 1:]
        case "sums":
            return (x - x.mean(dim=1, keepdim=True)).cumsum(dim=1)
    return x


def check(data: Path, device: str) -> None:
    """Losses of the stack beside the package's, without dropout, and held-out cross-entropy."""
    from lstmfcn.artifact import Artifact
    from lstmfcn.training import fit

    h = Hyperparameters(epochs=4, dropout=0, precision="fp32")
    for view in ("series", "differences", "coarse"):
        variant = Variant(h.model_copy(update={"view": view}), view)
        for name in ("ItalyPowerDemand", "SonyAIBORobotSurface1"):
            held_out = [HeldOut.of(data, name, SMALL[name], seed) for seed in range(2)]
            stack, judges, right = stacked(held_out, variant, device)
            found = np.array(stack.fit()).T
            likelihoods = stack.logits(judges, 0).log_softmax(dim=2)
            figures = -likelihoods.gather(2, right.unsqueeze(2)).mean((1, 2)).detach()
            for seed, split in enumerate(held_out):
                history: list[Any] = []
                asked = variant.hyperparameters.model_copy(update={"seed": seed})
                (training, task, batches), schema, scaler = split.start(asked)
                fit(training, task, batches, None, asked, history.append)
                model = Artifact(asked, schema, scaler, training.best_weights, training.best)
                expected = [metrics["train_loss"] for metrics in history]
                print(view, name, seed, found[seed].round(5), np.round(expected, 5), end=" ")
                print(round(float(figures[seed]), 5), split.judge(model)[1])


def show(found: pd.DataFrame) -> None:
    """Means over sets, and differences from the default with their standard errors."""
    found = found[found["set"].isin(SMALL)]
    found["accuracy"] = found["right"] / found["rows"]
    whole = found.groupby(["variant", "memory"])["set"].transform("nunique") == len(SMALL)
    of_splits = (
        found[whole].groupby(["variant", "memory", "split"])[["accuracy", "cross_entropy"]].mean()
    )
    for base in ("", "--epochs 10", "--epochs 30"):
        if (base, "0.1") not in of_splits.index:
            continue
        reference = of_splits.loc[(base, "0.1")]
        for (variant, memory), each in of_splits.groupby(level=[0, 1]):
            if base and variant != base:
                continue
            each = each.droplevel([0, 1])
            difference = each - reference.loc[each.index]
            error = difference.std() / len(difference) ** 0.5
            print(
                f"{variant or 'default':24} {memory:12} {len(each):3} splits"
                f"  accuracy {each['accuracy'].mean():.4f}"
                f" ({difference['accuracy'].mean():+.4f} +- {error['accuracy']:.4f})"
                f"  cross-entropy {each['cross_entropy'].mean():.4f}"
                f" ({difference['cross_entropy'].mean():+.4f} +- {error['cross_entropy']:.4f})"
            )


if __name__ == "__main__":
    main()
