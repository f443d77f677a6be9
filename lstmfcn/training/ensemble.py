"""Combine several trained networks into one model, an ensemble.

Lakshminarayanan, Pritzel and Blundell (2017), "Simple and Scalable Predictive Uncertainty
Estimation using Deep Ensembles": the networks differ in initial weights and in the order of rows,
and optionally in their input view (`lstmfcn.model.input_view`). Logits are averaged, not
probabilities, so that a logit of the ensemble is still a sum of explainable terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.task import make_task
from lstmfcn.training.batches import Batch
from lstmfcn.training.loop import evaluate

_PREFIX = "members."
"""Prefix of the weights' names (`lstmfcn.model.network.Ensemble`)."""


def combine_members(
    members: Sequence[Artifact],
    hyperparameters: Hyperparameters,
    batches: Mapping[str, Iterable[Batch]],
) -> Artifact:
    """Build the ensemble's model from its trained members, and compute its metrics.

    Args:
        members: models with the same schema and scaler.
        batches: scaled rows to evaluate it on, by purpose: ``train`` and ``valid``.
    """
    first = members[0]
    weights = {
        f"{_PREFIX}{k}.{name}": tensor
        for k, member in enumerate(members)
        for name, tensor in member.weights.items()
    }
    ensemble = replace(first, hyperparameters=hyperparameters, weights=weights)
    network, task = ensemble.build_network(), make_task(first.schema)
    metrics = {"epoch": max(member.metrics["epoch"] for member in members)}
    for purpose, rows in batches.items():
        sums = evaluate(network, task, rows)
        if purpose == "train":  # whose scores by class no training has
            sums = sums._replace(by_class=())
        metrics |= sums.metrics(purpose, task)
    record = {name: value for name, value in first.training.items() if name != "member"}
    record["members"] = [member.metrics for member in members]
    return replace(ensemble, metrics=metrics, training=record)


def member_weights(weights: Mapping[str, Tensor], members: int) -> list[dict[str, Tensor]]:
    """Split the weights of an ensemble into those of each member."""
    return [
        {
            name.removeprefix(f"{_PREFIX}{k}."): tensor
            for name, tensor in weights.items()
            if name.startswith(f"{_PREFIX}{k}.")
        }
        for k in range(members)
    ]
