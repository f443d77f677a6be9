"""Everything that a report says, in numbers."""

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
    """What is found of a model on labelled shards.

    Attributes:
        model, data: as they were named.
        schema: of the model.
        summary: of the rows.
        history: the run's metrics, an epoch each; empty where the model lies in no run folder.
        kept_epoch: the one that the model is of.
        scores: of the predictions.
        hardest: rows, the hardest first.
        explained: rows decided right, then rows that are not.
        card: of the model.
    """

    model: str
    data: str
    schema: SeriesSchema
    summary: Summary
    history: list[EpochMetrics]
    kept_epoch: int
    scores: Scores
    hardest: list[Example]
    explained: list[ExplainedExample]
    card: Card


def collect_findings(model: str, data: Data, seed: int = 0) -> Findings:
    """Predict labelled shards and look at what comes out.

    Args:
        model: a model directory.
        data: labelled shards: a file, folder, glob or URI, or several of them.
        seed: of the sample that is drawn, and of the resamples.

    Raises:
        UserError: model or shards do not allow it.
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
        kept_epoch=artifact.metrics.get("epoch", 0),
        scores=compute_scores(predictions, seed),
        hardest=select_hardest(predictions),
        explained=explain_examples(classifier, predictions),
        card=card,
    )
