"""``lstmfcn check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lstmfcn.commands.flag_types import Count, Place, Places, PlacesOrNone
from lstmfcn.commands.pages import DATA_COMMANDS, page
from lstmfcn.counts import number
from lstmfcn.data_arguments import told
from lstmfcn.errors import DataError, OutputError
from lstmfcn.files import local_path
from lstmfcn.flag_groups import DATA, OUTPUT
from lstmfcn.hyperparameters import Hyperparameters, MissingLabelsName, MissingName, TaskName
from lstmfcn.terminal import stage, tell_result

if TYPE_CHECKING:
    from lstmfcn.check.report import Findings


@page(
    DATA_COMMANDS,
    "lstmfcn check data/train --validation data/valid",
    "lstmfcn check data/train --fix --output clean",
)
def check(
    data: Annotated[Places, DATA],
    /,
    *,
    validation: Annotated[PlacesOrNone, DATA] = None,
    task: Annotated[TaskName | None, DATA] = None,
    missing: Annotated[MissingName, DATA] = "refuse",
    missing_marker: Annotated[str, DATA] = "",
    missing_labels: Annotated[MissingLabelsName, DATA] = "refuse",
    limit: Annotated[Count, OUTPUT] = 100,
    fix: Annotated[bool, Parameter(negative=""), OUTPUT] = False,
    output: Annotated[Place | None, OUTPUT] = None,
    drop_duplicates: Annotated[bool, Parameter(negative=""), OUTPUT] = False,
    drop_shared: Annotated[bool, Parameter(negative=""), OUTPUT] = False,
) -> None:
    """List everything in shards that training would refuse, and what it takes but may be wrong.

    Ends with exit code 0 where training takes the data, with 2 where it does not.

    Parameters
    ----------
    data
        Training shards: files, folders, globs or URIs of CSV or Parquet.
    validation
        Validation shards.
    task
        What the labels mean; by default guessed from the label columns.
    missing
        mask: empty cells are no fault, nor are nan, NA, NULL and the like.
    missing_marker
        With --missing mask, a further text that stands for an empty cell, such as ?.
    missing_labels
        name: nan, NA, None, null and the like are class names.
    limit
        How many faults to list; all are counted.
    fix
        Write the shards without the rows that are at fault; the data itself stays as it is.
    output
        New folder for them: train, validation, and set_aside.csv, the list of what is left out.
    drop_duplicates
        With --fix, leave out training rows that repeat an earlier one, class and all.
    drop_shared
        With --fix, leave out training rows whose series the validation data has too.
    """
    Hyperparameters.parse({"missing": missing, "missing_marker": missing_marker})  # go together
    if fix != (output is not None) or ((drop_duplicates or drop_shared) and not fix):
        raise OutputError("--fix and --output DIR go together, and --drop-... with them")
    folder = local_path(output) if output else None
    from lstmfcn.check.check import check as check_data
    from lstmfcn.check.report import as_facts
    from lstmfcn.check.terminal import lines_for_terminal

    with stage(f"checking {told(data)}"):
        findings = check_data(
            data,
            validation,
            task,
            missing,
            limit,
            missing_marker=missing_marker,
            missing_labels=missing_labels,
        )
    lines, facts = lines_for_terminal(findings), as_facts(findings)
    try:
        if folder:
            with stage(f"writing {output}"):
                written = _write_clean(findings, folder, drop_duplicates, drop_shared)
            lines += ["", written]
            facts["output"] = str(folder.absolute())
    finally:
        tell_result(*lines, **facts)
    if findings.n_faults and not output:
        raise DataError(
            number(findings.n_faults, "fault"),
            findings.advice,
            file=told(data),
        )


def _write_clean(findings: Findings, output: Path, drop_duplicates: bool, drop_shared: bool) -> str:
    """Write clean shards, and say what was written."""
    from lstmfcn.check.cleaning import write_clean
    from lstmfcn.check.duplicates import rows_to_drop

    dropped = rows_to_drop(findings.training, findings.validation, drop_duplicates, drop_shared)
    cleaned = write_clean(findings, output, dropped)
    return (
        f"{output}: {number(cleaned.n_rows, 'row')}; set aside: "
        f"{number(cleaned.n_rows_left_out, 'row')} and "
        f"{number(cleaned.n_shards_left_out, 'shard')}, listed in {output}/set_aside.csv"
    )
