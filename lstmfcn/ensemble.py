"""Several trained networks as one model.

Lakshminarayanan, Pritzel and Blundell (2017), "Simple and Scalable Predictive Uncertainty
Estimation using Deep Ensembles": networks that differ by initial weights and order of rows, and
here perhaps by what they see of a series (`lstmfcn.view`).
Their logits are averaged, not their probabilities, so that a logit of the ensemble remains a sum
over the parts of its members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from lstmfcn.artifact import Artifact
from lstmfcn.batches import Batch
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.task import task_of
from lstmfcn.training import evaluate

_PREFIX = "members."
"""What the names of weights begin with (`lstmfcn.model.Ensemble`)."""


def ensemble_of(
    members: Sequence[Artifact],
    hyperparameters: Hyperparameters,
    batches: Mapping[str, Iterable[Batch]],
) -> Artifact:
    """The model whose members were trained.

    Args:
        members: of the same schema and scaler.
        hyperparameters: of the ensemble.
        batches: scaled rows that it is judged by, under ``train`` and ``valid``.
    """
    first = members[0]
    weights = {
        f"{_PREFIX}{k}.{name}": tensor
        for k, member in enumerate(members)
        for name, tensor in member.weights.items()
    }
    ensemble = replace(first, hyperparameters=hyperparameters, weights=weights)
    network, task = ensemble.network(), task_of(first.schema)
    metrics = {"epoch": max(member.metrics["epoch"] for member in members)}
    for purpose, rows in batches.items():
        metrics |= evaluate(network, task, rows).metrics(purpose, task)
    record = {name: value for name, value in first.training.items() if name != "member"}
    record["members"] = [member.metrics for member in members]
    return replace(ensemble, metrics=metrics, training=record)


def member_weights(weights: Mapping[str, Tensor], members: int) -> list[dict[str, Tensor]]:
    """The weights of each member, out of those of an ensemble."""
    return [
        {
            name.removeprefix(f"{_PREFIX}{k}."): tensor
            for name, tensor in weights.items()
            if name.startswith(f"{_PREFIX}{k}.")
        }
        for k in range(members)
    ]
