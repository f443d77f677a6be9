"""What a training or a sweep begins with: what was asked for, the headers of its shards, its model.

All that can be checked without Ray is checked here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lstmfcn.data_arguments import Data, arguments_of
from lstmfcn.errors import DataError, ModelError
from lstmfcn.files import local_path
from lstmfcn.hyperparameters import Hyperparameters, resume_with
from lstmfcn.reading import ShardSet, survey
from lstmfcn.records import TrackerName
from lstmfcn.run_folder import RunRecord, refuse_used

if TYPE_CHECKING:
    from lstmfcn.artifact import Artifact

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """What the user asked to train; the fields are those of `RunRecord`.

    Raises:
        ModelError: the model is a URI.
    """

    train: Data | None
    validation: Data | None
    model: str | None
    hyperparameters: Hyperparameters
    track: Sequence[TrackerName] | None = None

    def __post_init__(self) -> None:
        if self.model:
            local_path(self.model, ModelError)

    def begin(self, folder: Path, resume: bool) -> RunRecord:
        """The record of a run in a folder that holds none yet.

        Raises:
            UserError: there is no training data, or the folder holds a run.
        """
        if self.train is None:
            raise DataError("no training data", "name it with --train")
        refuse_used(folder)
        if resume:
            logger.info("%s: nothing to resume there; starting anew", folder)
        return RunRecord(
            train=arguments_of(self.train),
            validation=arguments_of(self.validation) if self.validation else None,
            model=self.model,
            hyperparameters=self.hyperparameters,
            track=tuple(self.track or ()),
        )

    def found_at(self, record: RunRecord) -> RunRecord:
        """The record of a run to resume, with data and model where they lie now.

        It goes on to be tracked as before, unless trackers are named.
        """
        given: dict[str, object] = {
            "train": arguments_of(self.train) if self.train else None,
            "validation": arguments_of(self.validation) if self.validation else None,
            "model": self.model,
            "track": None if self.track is None else tuple(self.track),
        }
        changes = {name: value for name, value in given.items() if value is not None}
        return record.model_copy(update=changes)


@dataclass(frozen=True)
class Inputs:
    """Shards whose headers were read and agree.

    Attributes:
        record: what was asked for; its hyperparameters are those of the model to continue from,
            where there is one.
        training: training shards.
        validation: validation shards.
        start: the model to continue from.
    """

    record: RunRecord
    training: ShardSet
    validation: ShardSet | None
    start: Artifact | None


def read_inputs(record: RunRecord) -> Inputs:
    """Read the model to continue from, and the headers.

    Raises:
        UserError: they do not fit.
    """
    start = None
    if record.model:
        from lstmfcn.artifact import Artifact  # imports PyTorch

        start = Artifact.load(record.model)
        continued = resume_with(start.hyperparameters, record.hyperparameters, logger.info)
        record = record.model_copy(update={"hyperparameters": continued})
    record.hyperparameters.refuse_fitting(record.validation is not None)
    schema = start.schema if start else None
    wanted = record.hyperparameters
    training = survey(
        record.train,
        wanted.task,
        schema,
        missing=wanted.missing,
        missing_marker=wanted.missing_marker,
        missing_labels=wanted.missing_labels,
    )
    validation = survey(record.validation, schema=training.schema) if record.validation else None
    if ignored := training.ignored_columns():
        logger.info("columns not used: %s", ", ".join(ignored))
    for warning in training.schema.naming_warnings():
        logger.warning("%s: %s", training.data, warning)
    return Inputs(record, training, validation, start)
