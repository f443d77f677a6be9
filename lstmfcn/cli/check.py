"""``lstmfcn check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lstmfcn.cli.app import DATA_COMMANDS, page
from lstmfcn.cli.flags import (
    DATA,
    FIRST_DATA,
    OUTPUT,
    Count,
    Overwrite,
    Place,
    Places,
    PlacesOrNone,
)
from lstmfcn.console import pluralize, print_result, print_status
from lstmfcn.data.listing import join_arguments
from lstmfcn.errors import DataError, OutputError
from lstmfcn.hyperparameters import Hyperparameters, MissingLabelsName, MissingName, TaskName
from lstmfcn.storage.places import absolute, checked_place, shown_place

if TYPE_CHECKING:
    from lstmfcn.check.findings import Findings


@page(
    DATA_COMMANDS,
    "DATA... [OPTIONS]",
    "lstmfcn check data/train --validation data/valid",
    "lstmfcn check data/train --fix --output clean",
)
def check(
    data: Annotated[Places, FIRST_DATA, DATA],
    *,
    validation: Annotated[PlacesOrNone, DATA] = None,
    task: Annotated[TaskName | None, DATA] = None,
    missing: Annotated[MissingName, DATA] = "refuse",
    missing_marker: Annotated[str, DATA] = "",
    missing_labels: Annotated[MissingLabelsName, DATA] = "refuse",
    label_column: Annotated[str, DATA] = "",
    value_columns: Annotated[str, DATA] = "",
    group_column: Annotated[str, DATA] = "",
    limit: Annotated[Count, OUTPUT] = 100,
    fix: Annotated[bool, Parameter(negative=""), OUTPUT] = False,
    output: Annotated[Place | None, OUTPUT] = None,
    drop_duplicates: Annotated[bool, Parameter(negative=""), OUTPUT] = False,
    drop_shared: Annotated[bool, Parameter(negative=""), OUTPUT] = False,
    overwrite: Annotated[Overwrite, OUTPUT] = False,
) -> None:
    """Validate data: list every error, and warn about suspicious rows.

    The exit code is 0 if the data can be trained on, else 2.

    Parameters
    ----------
    data
        Training shards: files, folders, globs or URIs of CSV or Parquet.
    validation
        Validation shards.
    task
        What the labels mean. By default guessed from the label columns.
    missing
        mask: empty cells, nan, NA, NULL and the like are missing values, not errors.
    missing_marker
        With --missing mask, one more text that means a missing value, such as ?.
    missing_labels
        name: nan, NA, None, null and the like are class names.
    label_column
        Label column, or several: names or patterns such as 'is_*', separated by commas. By default
        the columns whose names start with y.
    value_columns
        Value columns: names or patterns such as 't*', separated by commas. By default the columns
        whose names start with x.
    group_column
        With --validation, column of a group, such as a patient: warn of groups on both sides.
    limit
        How many errors to list; all are counted.
    fix
        Copy the data to OUTPUT without the rows that have errors. The data itself is not changed.
    output
        New folder, or its URI, for train, validation, and set_aside.csv, which lists the rows left
        out.
    drop_duplicates
        With --fix, also leave out training rows that repeat an earlier row and its class.
    drop_shared
        With --fix, also leave out training rows whose series is in the validation data too.
    overwrite
        Replace what an earlier --fix wrote to OUTPUT.
    """
    asked = {"missing": missing, "missing_marker": missing_marker}  # they go together
    asked |= {"label_column": label_column, "value_columns": value_columns}
    checked = Hyperparameters.parse(asked)
    if group_column and not validation:
        raise DataError("--group-column without --validation", "give both, or neither")
    if fix != (output is not None) or ((drop_duplicates or drop_shared) and not fix):
        raise OutputError("--fix and --output DIR go together, and --drop-... with them")
    if output:
        checked_place(output)
    from lstmfcn.check.findings import check as check_data
    from lstmfcn.check.findings import lines_for_terminal, to_facts
    from lstmfcn.data.columns import Roles

    with print_status(f"checking {join_arguments(data)}"):
        findings = check_data(
            data,
            validation,
            task,
            missing,
            limit,
            missing_marker=missing_marker,
            missing_labels=missing_labels,
            roles=Roles(checked.label_column, checked.value_columns),
            group_column=group_column,
        )
    lines, facts = lines_for_terminal(findings), to_facts(findings)
    try:
        if output:
            with print_status(f"writing {shown_place(output)}"):
                written = _write_clean(findings, output, drop_duplicates, drop_shared, overwrite)
            lines += ["", written]
            facts["output"] = str(absolute(output))
    finally:
        print_result(*lines, **facts)
    if findings.n_faults and not output:
        raise DataError(
            pluralize(findings.n_faults, "fault"),
            findings.advice,
            file=join_arguments(data),
        )


def _write_clean(
    findings: Findings, output: Place, drop_duplicates: bool, drop_shared: bool, overwrite: bool
) -> str:
    """Write clean shards, and say what was written."""
    from lstmfcn.check.clean import write_clean
    from lstmfcn.check.duplicates import rows_to_drop

    dropped = rows_to_drop(findings.training, findings.validation, drop_duplicates, drop_shared)
    cleaned = write_clean(findings, output, dropped, overwrite=overwrite)
    shown = shown_place(output)
    return (
        f"{shown}: {pluralize(cleaned.n_rows, 'row')}; set aside: "
        f"{pluralize(cleaned.n_rows_left_out, 'row')} and "
        f"{pluralize(cleaned.n_shards_left_out, 'shard')}, listed in {shown}/set_aside.csv"
    )
