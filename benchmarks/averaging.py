"""What averages of the weights are worth: accuracy on training rows that were held out.

    python benchmarks/averaging.py --data DATA

The default training, 60 epochs and 200, on the sets and rows of ``benchmarks/held_out.py``. Judged
are the weights that it keeps; the same with batch norm's statistics computed anew, by a pass over
the training rows; and the mean of the weights after each of the last epochs (Izmailov et al. 2018,
"Averaging Weights Leads to Wider Optima and Better Generalization", UAI), a tenth and a quarter of
them, with statistics computed anew. No row of a test file is read. Rows of results are added to
``benchmarks/results/averaging.csv``; those that are there are not run again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from archive_runs import RESULTS, add_missing
from held_out import SETS, HeldOut

from lstmfcn.artifact import Artifact
from lstmfcn.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import torch

RUNS = ((60, 0), (60, 1), (60, 2), (200, 0))
"""Epochs and seed of each training."""

SHARES = {"last tenth": 0.1, "last quarter": 0.25}
"""Of the epochs, whose weights are averaged."""

COLUMNS = ("set", "epochs", "seed", "kept", "anew", *SHARES)
PLAIN_MEAN = 1e-9
"""A batch norm momentum by which statistics are the plain mean of all batches."""


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data.absolute()
    path = RESULTS / "averaging.csv"
    calls = {(name, *run): (data, name, *run) for run in RUNS for name in SETS}
    add_missing(path, COLUMNS, judged, calls)
    found = pd.read_csv(path).drop(columns=["set", "seed"])
    print(found.groupby("epochs").mean().round(4).to_string())


def judged(data: Path, name: str, epochs: int, seed: int) -> dict[str, Any]:
    """One training on one set, on one thread; a row of the results."""
    import torch

    from lstmfcn.training import fit

    torch.set_num_threads(1)
    h = Hyperparameters(epochs=epochs, seed=seed)
    held_out = HeldOut.of(data, name, SETS[name], seed)
    (training, task, batches), schema, scaler = held_out.start(h)
    means = {share: Mean(training.model, round(epochs * (1 - SHARES[share]))) for share in SHARES}

    def after_an_epoch(metrics: dict[str, Any]) -> None:
        for mean in means.values():
            mean.add(metrics["epoch"])

    fit(training, task, batches, None, h, after_an_epoch)
    kept = Artifact(h, schema, scaler, training.best_weights, training.best)
    again = [batch.x for batch in batches(1)]
    found = {"kept": kept, "anew": with_statistics(kept, again)}
    for share, mean in means.items():
        found[share] = with_statistics(replace(kept, weights=mean.weights), again)
    accuracies = {which: held_out.judge(artifact)[0] for which, artifact in found.items()}
    return {"set": name, "epochs": epochs, "seed": seed, **accuracies}


class Mean:
    """The mean of a network's weights after each epoch that follows the first so many."""

    def __init__(self, network: torch.nn.Module, first: int) -> None:
        self._network, self._first, self._count = network, first, 0
        self.weights: dict[str, torch.Tensor] = {}

    def add(self, epoch: int) -> None:
        """An epoch has ended."""
        if epoch <= self._first:
            return
        self._count += 1
        for name, tensor in self._network.state_dict().items():
            before = self.weights.setdefault(name, tensor.clone())
            if tensor.is_floating_point():
                before.lerp_(tensor, 1 / self._count)


def with_statistics(artifact: Artifact, batches: list[torch.Tensor]) -> Artifact:
    """The same weights, with the statistics of batch norm that these batches have."""
    import torch

    plain = artifact.hyperparameters.model_copy(update={"batch_norm_momentum": PLAIN_MEAN})
    network = replace(artifact, hyperparameters=plain).network()
    uncounted = {
        name: torch.zeros_like(tensor) if name.endswith("num_batches_tracked") else tensor
        for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(uncounted)
    network.train()
    with torch.no_grad():
        for x in batches:
            network(x)
    return replace(artifact, weights=dict(network.state_dict()))


if __name__ == "__main__":
    main()
