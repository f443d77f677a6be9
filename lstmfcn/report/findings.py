"""Collect all results that a report shows."""

from __future__ import annotations

from dataclasses import dataclass

from lstmfcn.data.listing import Data, join_arguments
from lstmfcn.data.reader import open_dataset
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact, find_model_folder
from lstmfcn.report.examples import Example, ExplainedExample, explain_examples, select_hardest
from lstmfcn.report.model_card import Card, make_card, read_history
from lstmfcn.report.predictions import collect_predictions
from lstmfcn.report.scores import Scores, compute_scores
from lstmfcn.report.summary import Summary, summarise
from lstmfcn.training.metrics_log import EpochMetrics


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

    Args:
        seed: seed of the sample of rows, and of the bootstrap.

    Raises:
        UserError: the model or the shards cannot be used.
    """
    model = str(find_model_folder(model))
    artifact = Artifact.load(model)
    shards = open_dataset(data, schema=artifact.schema)
    history, card = read_history(model, artifact), make_card(model, artifact)
    classifier = Classifier(artifact)
    predictions = collect_predictions(classifier, shards, seed)
    return Findings(
        model=model,
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
