"""The model's card: what it is, how it came to be, what it was made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from lstmfcn.artifact import DESCRIPTION_FILE, Artifact
from lstmfcn.errors import ModelError
from lstmfcn.hyperparameters import Hyperparameters, flag
from lstmfcn.metrics_file import EpochMetrics, read_metrics
from lstmfcn.run_folder import METRICS


class Entry(NamedTuple):
    """A name and its value; marked where the value is not the default."""

    name: str
    value: str
    marked: bool = False


class Card(NamedTuple):
    """The model in lists."""

    model: list[Entry]
    hyperparameters: list[Entry]
    metrics: list[Entry]
    training: list[Entry]
    versions: list[Entry]


def card_of(directory: str, artifact: Artifact) -> Card:
    """The card of a model that was loaded from a directory."""
    schema, decision = artifact.schema, artifact.decision
    wanted, defaults = artifact.hyperparameters, Hyperparameters()
    parameters = sum(weight.numel() for weight in artifact.network().parameters())
    model = {
        "directory": directory,
        "checksum (SHA-256)": artifact.sha256,
        "network": wanted.network_for(schema.n_channels),
        "parameters": f"{parameters:,}",
        "task": schema.task,
        "classes": len(schema.classes),
        "input": f"{schema.n_channels} x {schema.n_timepoints} (channels x timepoints)",
        "temperature": f"{decision.temperature:.4g}",
        "thresholds": ", ".join(f"{each:.4g}" for each in decision.thresholds) or "0.5",
    }
    if schema.task == "multiclass":
        del model["thresholds"]
    stated = json.loads((Path(directory) / DESCRIPTION_FILE).read_bytes())
    return Card(
        model=[Entry(name, _text(value)) for name, value in model.items()],
        hyperparameters=[
            Entry(flag(name), _text(value), value != getattr(defaults, name))
            for name, value in wanted
        ],
        metrics=_entries({k: v for k, v in artifact.metrics.items() if k != "time"}),
        training=_entries(artifact.training),
        versions=_entries(stated.get("versions", {})),
    )


def history_of(directory: str, artifact: Artifact) -> list[EpochMetrics]:
    """The run's metrics, an epoch each, where the model lies in the folder of the run it is of.

    Raises:
        ModelError: there are metrics that cannot be read.
    """
    path = Path(directory).absolute().parent / METRICS
    try:
        history = read_metrics(path)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: cannot be read ({error}); mend it, or copy the model out of its folder"
        ) from error
    epochs = {metrics["epoch"] for metrics in history}
    return history if artifact.metrics.get("epoch") in epochs else []


def _entries(values: dict[str, Any]) -> list[Entry]:
    """What a dict holds, a level deep; what lies deeper stays as JSON."""
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += [Entry(f"{name}, {below}", _text(each)) for below, each in value.items()]
        else:
            found.append(Entry(name, _text(value)))
    return [Entry(entry.name.replace("_", " "), entry.value) for entry in found]


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return ", ".join(map(_text, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)
