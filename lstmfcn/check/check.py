"""Examine training data, and validation data by its schema."""

from __future__ import annotations

from lstmfcn.check.examination import examine, name_classes
from lstmfcn.check.headers import guess_task, read_headers, reference
from lstmfcn.check.report import Findings
from lstmfcn.check.suspicions import suspicions
from lstmfcn.data_arguments import Data
from lstmfcn.hyperparameters import MissingLabelsName, MissingName, TaskName


def check(
    data: Data,
    validation: Data | None = None,
    task: TaskName | None = None,
    missing: MissingName = "refuse",
    limit: int = 100,
    *,
    missing_marker: str = "",
    missing_labels: MissingLabelsName = "refuse",
) -> Findings:
    """Look for all faults of the data, and for what may not be meant.

    Args:
        data: training shards: a file, folder, glob or URI, or several of them.
        validation: validation shards.
        task: what the labels mean; guessed where None.
        missing, missing_marker, missing_labels: as the hyperparameters.
        limit: how many faults to describe; all are counted.

    Raises:
        DataError: there is no shard.
    """
    headers = read_headers(data, missing)
    held_out = read_headers(validation, missing) if validation else None
    wanted = task or guess_task(headers)
    how = {"missing": missing, "missing_marker": missing_marker, "missing_labels": missing_labels}
    schema = reference(headers, wanted, how)
    training = examine(data, headers, schema, wanted, limit)
    name_classes(training)
    examined = None
    if validation and held_out:
        schema = training.schema or reference(held_out, wanted, how)
        examined = examine(validation, held_out, schema, wanted, limit)
    found = suspicions(training, examined)
    return Findings(training, examined, found, guessed=task is None, limit=limit)
