"""Everything that a report says, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from lstmfcn.artifact import Artifact, model_folder
from lstmfcn.classifier import Classifier
from lstmfcn.data_arguments import Data, told
from lstmfcn.metrics_file import EpochMetrics
from lstmfcn.reading import survey
from lstmfcn.report.card import Card, card_of, history_of
from lstmfcn.report.gathering import gather
from lstmfcn.report.scores import Scores, scores_of
from lstmfcn.report.single_rows import ExplainedRow, ShownRow, explained_rows, hardest_rows
from lstmfcn.report.summary import Summary, summary_of
from lstmfcn.schema import SeriesSchema


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
    hardest: list[ShownRow]
    explained: list[ExplainedRow]
    card: Card


def find(model: str, data: Data, seed: int = 0) -> Findings:
    """Predict labelled shards and look at what comes out.

    Args:
        model: a model directory.
        data: labelled shards: a file, folder, glob or URI, or several of them.
        seed: of the sample that is drawn, and of the resamples.

    Raises:
        UserError: model or shards do not allow it.
    """
    model = str(model_folder(model))
    artifact = Artifact.load(model)
    shards = survey(data, schema=artifact.schema)
    history, card = history_of(model, artifact), card_of(model, artifact)
    classifier = Classifier(artifact)
    gathered = gather(classifier, shards, seed)
    return Findings(
        model=model,
        data=told(data),
        schema=artifact.schema,
        summary=summary_of(gathered),
        history=history,
        kept_epoch=artifact.metrics.get("epoch", 0),
        scores=scores_of(gathered, seed),
        hardest=hardest_rows(gathered),
        explained=explained_rows(classifier, gathered),
        card=card,
    )
