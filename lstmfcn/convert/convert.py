"""Convert a file of another form to CSV shards.

It is read twice: first to refuse what training would refuse and to learn how many rows and
timepoints there are, then to write. So no more than a row is in memory, but for arrays and long
tables, whose rows belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

from lstmfcn.cells import class_name
from lstmfcn.channels import value_names
from lstmfcn.convert.arff import read_arff
from lstmfcn.convert.arrays import read_arrays
from lstmfcn.convert.checking import Shape, check, with_empty_cells
from lstmfcn.convert.long_table import read_long_table
from lstmfcn.convert.rows import read_rows
from lstmfcn.convert.series import LabelName, Rereadable, Series, Wanted
from lstmfcn.convert.ts import read_ts
from lstmfcn.counts import number
from lstmfcn.errors import DataError
from lstmfcn.files import local_path, new_folder
from lstmfcn.hyperparameters import MissingName
from lstmfcn.packing import PACKED_SUFFIXES
from lstmfcn.reading import readable
from lstmfcn.shard_writing import write_rows
from lstmfcn.shards import Shard, find_shards


class _Form(NamedTuple):
    """How files of a suffix are read, and which flags they take."""

    read: Callable[[Shard, Wanted], Rereadable]
    labels: tuple[LabelName, ...] = ("none",)
    takes_channels: bool = False


_ROWS = _Form(read_rows, ("first", "last", "none"), takes_channels=True)
_FORMS = {
    ".tsv": _ROWS,
    ".txt": _ROWS,
    "": _ROWS,
    ".ts": _Form(read_ts),
    ".arff": _Form(read_arff, ("first", "last", "none")),
    ".csv": _Form(read_long_table),
    ".npz": _Form(read_arrays),
    ".npy": _Form(read_arrays),
}
"""By the end of the name, in small letters. No suffix is the UCR archive's of 2015."""


def convert(
    input: str,  # noqa: A002 - the flag's name
    output: str,
    shards: int = 1,
    missing: MissingName = "refuse",
    label: LabelName | None = None,
    header: bool = True,
    n_channels: int | None = None,
) -> int:
    """Write a file as CSV shards: ``part-000.csv``, ... with columns y, x_1, x_2, ...

    Of several channels y, x1_1, x1_2, ... (channel, timepoint). Values are copied digit by digit,
    with decimal points; classes by name, numbers as training names them.

    Args:
        input: a .ts, .tsv, .txt, .arff, .npz, .npy or .csv file, packed or not.
        output: a folder that does not exist yet or is empty.
        shards: how many files to spread the rows over, in order.
        missing: mask makes empty cells of gaps, and of what shorter series lack at their end.
        label: where the class of a row stands, or none where no labels are wanted; left out: as
            the file's form has it.
        header: whether a .csv has one: then it is a long table.
        n_channels: how many follow each other in a row of .tsv, .txt and headerless .csv.

    Returns:
        Rows written.

    Raises:
        DataError: the file is not such a file, or holds what cannot be converted.
        OutputError: the folder cannot be used.
    """
    folder = local_path(output)
    shard = _shard_of(input)
    new_folder(folder)
    wanted = Wanted(label, header, n_channels, missing)
    with readable(shard):
        series = _form_of(shard, wanted).read(shard, wanted)
        if missing == "mask":
            series = _with_empty_cells(series)
        shape = check(series, shard.path, missing)
    names = value_names(shape.n_channels, shape.n_timepoints)
    columns = ["y", *names] if shape.has_labels else names
    write_rows(folder, columns, _rows(series, shape, shard), shape.n_rows, shards)
    return shape.n_rows


def _shard_of(file: str) -> Shard:
    """The one file that is named."""
    if Path(file).is_dir():
        found = "a folder"
    else:
        shards = find_shards(file)
        if len(shards) == 1:
            return shards[0]
        found = number(len(shards), "file")
    raise DataError(found, "convert one file at a time, each to a folder of its own", file=file)


def _form_of(shard: Shard, wanted: Wanted) -> _Form:
    """How a file is read, by its name.

    Raises:
        DataError: no form is known by its name, or the form does not take a flag.
    """
    path = PurePath(shard.name.lower())
    suffix = PurePath(path.stem if path.suffix in PACKED_SUFFIXES else path).suffix
    form = _FORMS.get(suffix)
    if form is None:
        known = ", ".join(filter(None, _FORMS))
        raise DataError("no file to convert by its name", f"name one in {known}", file=shard.path)
    if suffix == ".csv" and not wanted.header:
        form = _ROWS
        if wanted.label is None:
            raise DataError(
                "--no-header without --label",
                "--label first, last or none says where the class of a row stands",
                file=shard.path,
            )
    if wanted.label and wanted.label not in form.labels:
        raise DataError(
            f"--label {wanted.label}",
            f"a {suffix} file says itself which its classes are: only --label none is of use",
            file=shard.path,
        )
    if wanted.n_channels and not form.takes_channels:
        fix = f"a {suffix} file says itself which its channels are: leave the flag out"
        raise DataError("--channels", fix, file=shard.path)
    return form


def _with_empty_cells(series: Rereadable) -> Rereadable:
    return Rereadable(lambda: map(with_empty_cells, series))


def _rows(series: Iterable[Series], shape: Shape, shard: Shard) -> Iterator[list[str]]:
    """Cells of each row, of shorter series empty ones too; the file must be the one checked."""
    for one in series:
        cells = [] if one.label is None else [class_name(one.label)]
        for values in one.channels:
            cells += values + [""] * (shape.n_timepoints - len(values))
        yield cells
    with readable(shard):
        shard.refuse_changed()
