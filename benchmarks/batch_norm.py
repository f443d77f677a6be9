"""How long the memory of batch norm's statistics should be: judged on training rows held out.

    python benchmarks/batch_norm.py --data DATA

The default training, of 10, 30 and 200 epochs, on the sets and rows of ``benchmarks/held_out.py``,
small ones and others. Statistics take no part in a training, so that one training judges several of
them: those of a constant momentum, 0.1 and 0.01; those in which the n-th batch weighs
(M + 1) / (n + M), whose memory is a share 1 / (M + 1) of the batches so far (Shamir and Zhang 2013,
"Stochastic Gradient Descent for Non-smooth Optimization", ICML: polynomial decay averaging); and
such a share within the bounds of 10 and 100 batches. No row of a test file is read. Rows of results
are added to ``benchmarks/results/batch-norm.csv``; those that are there are not run again. At the
end it prints accuracy and cross-entropy on the held-out rows, means over sets.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from archive_runs import RESULTS, add_missing
from held_out import SETS, SMALL, HeldOut

from lstmfcn.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import torch

SHARES = {**SMALL, **SETS}
EPOCHS = (10, 30, 200)
WEIGHTS: dict[str, Callable[[int], float]] = {
    "0.1": lambda n: max(0.1, 1 / n),
    "0.01": lambda n: max(0.01, 1 / n),
    "tenth": lambda n: 10 / (n + 9),
    "25th": lambda n: 25 / (n + 24),
    "0.1 to 0.01": lambda n: max(1 / n, min(0.1, 25 / n), 0.01),
}
"""What the n-th batch weighs."""

COLUMNS = ("set", "epochs", "seed", "memory", "accuracy", "cross_entropy")


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    path, data = RESULTS / "batch-norm.csv", arguments.data.absolute()
    calls = {
        (name, epochs, seed): (data, name, epochs, seed)
        for seed in range(arguments.seeds)
        for epochs in EPOCHS
        for name in SHARES
    }
    add_missing(path, COLUMNS, judged, calls)
    show(pd.read_csv(path))


def judged(data: Path, name: str, epochs: int, seed: int) -> list[dict[str, Any]]:
    """One training on one set, on one thread; a row of the results for each memory."""
    import torch

    from lstmfcn.artifact import Artifact
    from lstmfcn.training import fit

    torch.set_num_threads(1)
    h = Hyperparameters(epochs=epochs, seed=seed)
    held_out = HeldOut.of(data, name, SHARES[name], seed)
    (training, task, batches), schema, scaler = held_out.start(h)
    statistics = Statistics(training.model)

    def after_an_epoch(metrics: dict[str, Any]) -> None:
        if training.best is metrics:
            statistics.keep()

    fit(training, task, batches, None, h, after_an_epoch)
    kept = Artifact(h, schema, scaler, training.best_weights, training.best)
    found = []
    for memory in WEIGHTS:
        model = replace(kept, weights={**kept.weights, **statistics.kept[memory]})
        row = (name, epochs, seed, memory, *held_out.judge(model))
        found.append(dict(zip(COLUMNS, row, strict=True)))
    return found


class Statistics:
    """Means and variances of the batches that a network's batch norms see, for each memory."""

    def __init__(self, network: torch.nn.Module) -> None:
        from lstmfcn.batch_norm import BatchNorm

        self._now: dict[str, dict[str, torch.Tensor]] = {memory: {} for memory in WEIGHTS}
        self._counts: dict[str, int] = {}
        self.kept: dict[str, dict[str, torch.Tensor]] = {}
        for name, module in network.named_modules():
            if isinstance(module, BatchNorm):
                module.register_forward_pre_hook(self._seen_by(name))

    def _seen_by(self, name: str) -> Callable[[torch.nn.Module, Any], None]:
        import torch

        def see(module: torch.nn.Module, inputs: Any) -> None:
            if not module.training:
                return
            self._counts[name] = n = self._counts.get(name, 0) + 1
            with torch.no_grad():
                variance, mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3))
            for memory, weight in WEIGHTS.items():
                for statistic, tensor in (("mean", mean), ("var", variance)):
                    key = f"{name}.running_{statistic}"
                    self._now[memory].setdefault(key, tensor.clone()).lerp_(tensor, weight(n))

        return see

    def keep(self) -> None:
        """These are the statistics of the weights that are kept."""
        self.kept = {
            memory: {name: tensor.clone() for name, tensor in now.items()}
            for memory, now in self._now.items()
        }


def show(found: pd.DataFrame) -> None:
    """Means over sets, small ones and others."""
    found["sets"] = np.where(found["set"].isin(SMALL), "small", "others")
    for figure in ("accuracy", "cross_entropy"):
        table = found.pivot_table(index=["sets", "epochs"], columns="memory", values=figure)
        print(f"\n{figure}\n{table[list(WEIGHTS)].round(4).to_string()}")


if __name__ == "__main__":
    main()
