"""Collect all results that a report shows, and the model card: model, training, versions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lstmfcn.data.listing import Data, join_arguments
from lstmfcn.data.reader import open_dataset
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import ModelError
from lstmfcn.hyperparameters import Hyperparameters, to_flag
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import DESCRIPTION_FILE, WEIGHTS_FILE, Artifact, find_model_folder
from lstmfcn.report.examples import Example, ExplainedExample, explain_examples, select_hardest
from lstmfcn.report.predictions import collect_predictions
from lstmfcn.report.scores import Scores, compute_scores
from lstmfcn.report.summary import Summary, summarise
from lstmfcn.storage.outputs import fetched
from lstmfcn.storage.places import Place, is_remote, shown_place, split_place
from lstmfcn.training.metrics_log import EpochMetrics, read_metrics
from lstmfcn.training.run_directory import METRICS


@contextmanager
def _with_history(place: Place) -> Iterator[Path]:
    """The local folder of a model, with the metrics of its run beside it."""
    run, name = split_place(place)
    if not is_remote(place) or not name:  # at a bucket's top there is nothing beside it
        with fetched(place, (DESCRIPTION_FILE, WEIGHTS_FILE), ModelError) as folder:
            yield folder
        return
    names = (f"{name}/{DESCRIPTION_FILE}", f"{name}/{WEIGHTS_FILE}", METRICS)
    with fetched(run, names, ModelError) as folder:
        yield folder / name


class Entry(NamedTuple):
    """A name and its value; ``marked`` if the value is not the default."""

    name: str
    value: str
    marked: bool = False


class Card(NamedTuple):
    """The entries of a model card, by table."""

    model: list[Entry]
    hyperparameters: list[Entry]
    metrics: list[Entry]
    training: list[Entry]
    versions: list[Entry]


def make_card(directory: str, artifact: Artifact, folder: Path) -> Card:
    """Make the card of a model of ``directory``, whose files are in a local folder."""
    schema, decision = artifact.schema, artifact.decision
    hyperparameters, defaults = artifact.hyperparameters, Hyperparameters()
    parameters = sum(weight.numel() for weight in artifact.build_network().parameters())
    model = {
        "directory": directory,
        "checksum (SHA-256)": artifact.sha256,
        "network": hyperparameters.resolve_network(schema.n_channels),
        "parameters": f"{parameters:,}",
        "task": schema.task,
        "classes": len(schema.classes),
        "input": f"{schema.n_channels} x {schema.n_timepoints} (channels x timepoints)",
        "temperature": f"{decision.temperature:.4g}",
        "thresholds": ", ".join(f"{each:.4g}" for each in decision.thresholds) or "0.5",
    }
    if schema.task == "multiclass":
        del model["thresholds"]
    description = json.loads((folder / DESCRIPTION_FILE).read_bytes())
    return Card(
        model=[Entry(name, _text(value)) for name, value in model.items()],
        hyperparameters=[
            Entry(to_flag(name), _text(value), value != getattr(defaults, name))
            for name, value in hyperparameters
        ],
        metrics=_entries({k: v for k, v in artifact.metrics.items() if k != "time"}),
        training=_entries(artifact.training),
        versions=_entries(description.get("versions", {})),
    )


def read_history(folder: Path, artifact: Artifact) -> list[EpochMetrics]:
    """Read the run's metrics of each epoch, or raise `ModelError`; empty outside its folder."""
    path = folder.absolute().parent / METRICS
    try:
        history = read_metrics(path)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: cannot be read ({error}); repair it, or copy the model out of this folder"
        ) from error
    epochs = {metrics["epoch"] for metrics in history}
    return history if artifact.metrics.get("epoch") in epochs else []


def _entries(values: dict[str, Any]) -> list[Entry]:
    """Make the entries of a dict and its nested dicts; deeper levels are written as JSON."""
    entries = []
    for name, value in values.items():
        if isinstance(value, dict):
            entries += [Entry(f"{name}, {key}", _text(nested)) for key, nested in value.items()]
        else:
            entries.append(Entry(name, _text(value)))
    return [Entry(entry.name.replace("_", " "), entry.value) for entry in entries]


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


@dataclass(frozen=True)
class Findings:
    """The results of a model on labelled shards.

    Attributes:
        data: the data arguments, as the user gave them.
        history: the run's metrics of each epoch; empty if the model is not in its run's folder.
        best_epoch: the epoch whose weights the model has.
        hardest: the hardest rows, the hardest first.
        explained: explained rows: correct predictions, then wrong ones.
    """

    model: str
    data: str
    schema: SeriesSchema
    summary: Summary
    history: list[EpochMetrics]
    best_epoch: int
    scores: Scores
    hardest: list[Example]
    explained: list[ExplainedExample]
    card: Card


def collect_findings(model: str, data: Data, seed: int = 0) -> Findings:
    """Predict labelled shards, and collect all results for the report.

    The seed is that of the sample of rows, and of the bootstrap.

    Raises:
        UserError: the model or the shards cannot be used.
    """
    place = find_model_folder(model)
    with _with_history(place) as folder:
        artifact = Artifact.load(folder)
        shards = open_dataset(data, schema=artifact.schema)
        history = read_history(folder, artifact)
        card = make_card(shown_place(place), artifact, folder)
    classifier = Classifier(artifact)
    predictions = collect_predictions(classifier, shards, seed)
    return Findings(
        model=shown_place(place),
        data=join_arguments(data),
        schema=artifact.schema,
        summary=summarise(predictions),
        history=history,
        best_epoch=artifact.metrics.get("epoch", 0),
        scores=compute_scores(predictions, seed),
        hardest=select_hardest(predictions),
        explained=explain_examples(classifier, predictions),
        card=card,
    )
