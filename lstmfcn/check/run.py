"""Check training data, and validation data against the schema of the training data."""

from __future__ import annotations

from lstmfcn.check.findings import Findings
from lstmfcn.check.rules import find_warnings
from lstmfcn.check.scan import guess_task, name_classes, read_headers, reference_schema, scan_shards
from lstmfcn.data.listing import Data
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
    """Find all faults of the data, and warn of what may not be intended.

    Args:
        data: training shards: a file, folder, glob or URI, or several of them.
        task: what the labels mean; guessed if None.
        missing, missing_marker, missing_labels: as the hyperparameters.
        limit: how many faults to describe; all are counted.

    Raises:
        DataError: there is no shard.
    """
    headers = read_headers(data, missing)
    validation_headers = read_headers(validation, missing) if validation else None
    used_task = task or guess_task(headers)
    options = {
        "missing": missing,
        "missing_marker": missing_marker,
        "missing_labels": missing_labels,
    }
    schema = reference_schema(headers, used_task, options)
    training = scan_shards(data, headers, schema, used_task, limit)
    name_classes(training)
    validation_scan = None
    if validation and validation_headers:
        schema = training.schema or reference_schema(validation_headers, used_task, options)
        validation_scan = scan_shards(validation, validation_headers, schema, used_task, limit)
    warnings = find_warnings(training, validation_scan)
    return Findings(training, validation_scan, warnings, guessed=task is None, limit=limit)
