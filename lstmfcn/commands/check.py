"""``lstmfcn check``."""

from __future__ import annotations

from pathlib import Path

from lstmfcn.commands.flag_types import Count
from lstmfcn.errors import DataError
from lstmfcn.files import whole_file
from lstmfcn.hyperparameters import MissingName, TaskName


def check(
    data: str,
    /,
    *,
    validation: str | None = None,
    task: TaskName | None = None,
    missing: MissingName = "refuse",
    limit: Count = 100,
    json: str | None = None,
) -> None:
    """List everything in shards that training would refuse, and what it takes but may be wrong.

    Ends with exit code 0 where training takes the data, with 2 where it does not.

    Parameters
    ----------
    data
        Training shards: a file, folder, glob or URI of CSV, CSV.gz or Parquet.
    validation
        Validation shards.
    task
        What the labels mean; by default guessed from the label columns.
    missing
        mask: empty cells are no fault.
    limit
        How many faults to list; all are counted.
    json
        File that all findings are also written to, as one JSON object.
    """
    from lstmfcn.check.check import check as check_data
    from lstmfcn.check.report import as_json, text

    findings = check_data(data, validation, task, missing, limit)
    print("\n".join(text(findings)), flush=True)
    if json:
        with whole_file(Path(json)) as path:
            path.write_text(as_json(findings), encoding="utf-8")
    if findings.n_faults:
        raise DataError("faults", "x", file=data)
