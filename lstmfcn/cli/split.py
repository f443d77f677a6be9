"""``lstmfcn split``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from lstmfcn.cli.app import DATA_COMMANDS, page
from lstmfcn.cli.flags import DATA, FIRST_DATA, OUTPUT, Overwrite, Place, Places, Seed
from lstmfcn.console import pluralize, print_result, print_status
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.storage.places import absolute, shown_place

Share = Annotated[float, Parameter(validator=Number(gte=0, lt=1))]


@page(
    DATA_COMMANDS,
    "DATA... --output FOLDER [OPTIONS]",
    "lstmfcn split beats.csv --output beats --validation 0.2 --test 0.2",
    "lstmfcn split beats.csv --output beats --group-column patient",
)
def split(
    data: Annotated[Places, FIRST_DATA, DATA],
    *,
    output: Annotated[Place, OUTPUT],
    validation: Annotated[Share, DATA] = 0.2,
    test: Annotated[Share, DATA] = 0.0,
    group_column: Annotated[str, DATA] = "",
    in_order: Annotated[bool, Parameter(negative=""), DATA] = False,
    label_column: Annotated[str, DATA] = "",
    seed: Annotated[Seed, DATA] = 0,
    overwrite: Annotated[Overwrite, OUTPUT] = False,
) -> None:
    """Split labelled data into training, validation and test rows, in folders of these names.

    Rows are copied as they are. Each part has its share of each class.

    Parameters
    ----------
    data
        Shards: files, folders, globs or URIs of CSV or Parquet.
    output
        New folder, or its URI, for train, validation and test.
    validation
        Share of the rows for validation.
    test
        Share of the rows for test.
    group_column
        Column of a group, such as a patient, a device or a day. All rows of a group go to the same
        part, because rows of one group are alike: a model is else tested on what it has seen.
    in_order
        Take the last rows for validation and test, as for data that are sorted by time.
    label_column
        Label column, or several: names or patterns such as 'is_*', separated by commas. By default
        the columns whose names start with y.
    seed
        Seed of the random choice.
    overwrite
        Replace an earlier split in OUTPUT.
    """
    if validation + test >= 1 or not validation + test:
        raise DataError(
            f"--validation {validation:g} and --test {test:g}",
            "give shares above 0 that leave rows for training",
        )
    if in_order and group_column:
        raise DataError("--in-order and --group-column", "use one of them")
    label_column = Hyperparameters.parse({"label_column": label_column}).label_column
    from lstmfcn.check.split import Shares
    from lstmfcn.check.split import split as split_data
    from lstmfcn.data.columns import Roles

    with print_status(f"splitting into {shown_place(output)}"):
        parts = split_data(
            data,
            output,
            Shares(validation, test),
            group_column=group_column,
            in_order=in_order,
            seed=seed,
            roles=Roles(label_column),
            overwrite=overwrite,
        )
    total = sum(part.rows for part in parts)
    lines = []
    for part in parts:
        groups = f" of {pluralize(part.groups, 'group')}" if group_column else ""
        counts = ", ".join(f"{name} {count:,}" for name, count in part.classes.items())
        rows = f"{pluralize(part.rows, 'row')}{groups} ({100 * part.rows / total:.1f} %)"
        lines.append(f"{shown_place(output)}/{part.name}: {rows}: {counts}")
    print_result(
        *lines, output=str(absolute(output)), parts={part.name: part._asdict() for part in parts}
    )
