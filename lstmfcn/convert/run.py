"""Convert a file of another format to CSV shards.

The file is read twice: first to check it and to count rows and timepoints, then to write. So only
one row at a time is in memory, except for arrays and long tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

from lstmfcn.console import pluralize
from lstmfcn.convert.arff import read_arff
from lstmfcn.convert.arrays import read_arrays
from lstmfcn.convert.checking import Shape, validate_series, with_empty_cells
from lstmfcn.convert.long_table import read_long_table
from lstmfcn.convert.rows import read_rows
from lstmfcn.convert.series import ConvertRequest, LabelName, ReadSeries, Series
from lstmfcn.convert.ts import read_ts
from lstmfcn.data.columns import value_names
from lstmfcn.data.packing import PACKED_SUFFIXES
from lstmfcn.data.reader import readable
from lstmfcn.data.shards import Shard, find_shards
from lstmfcn.data.table import class_name
from lstmfcn.data.writer import write_rows
from lstmfcn.errors import DataError, OutputError
from lstmfcn.hyperparameters import MissingName
from lstmfcn.storage.files import new_folder
from lstmfcn.storage.outputs import output_folder
from lstmfcn.storage.places import lies_in


class _Form(NamedTuple):
    """How to read files with a suffix, and which flags they allow."""

    read: Callable[[Shard, ConvertRequest], ReadSeries]
    labels: tuple[LabelName, ...] = ("none",)
    takes_channels: bool = False


_ROWS_FORM = _Form(read_rows, ("first", "last", "none"), takes_channels=True)
_FORMS = {
    ".tsv": _ROWS_FORM,
    ".txt": _ROWS_FORM,
    "": _ROWS_FORM,
    ".ts": _Form(read_ts),
    ".arff": _Form(read_arff, ("first", "last", "none")),
    ".csv": _Form(read_long_table),
    ".npz": _Form(read_arrays),
    ".npy": _Form(read_arrays),
}
"""The formats by suffix, in small letters. The UCR archive of 2015 has no suffix."""


def convert(
    input: str,  # noqa: A002 - the flag's name
    output: str,
    shards: int = 1,
    missing: MissingName = "refuse",
    label: LabelName | None = None,
    header: bool = True,
    n_channels: int | None = None,
    *,
    overwrite: bool = False,
) -> int:
    """Convert a file to CSV shards, as ``lstmfcn convert`` does; returns the number of rows.

    With several channels, the columns are y, x1_1, x1_2, ... (channel, timepoint). Values are
    copied digit by digit, with decimal points; classes are named as in training.

    Raises:
        DataError: the file has another format, or cannot be converted.
        OutputError: the folder cannot be used.
    """
    with output_folder(output) as folder:
        shard = _make_shard(input)
        if not overwrite:
            new_folder(folder)
        elif lies_in(input, output):
            raise OutputError(f"{folder}: contains the file to convert; choose another --output")
        return _convert(
            shard, folder, shards, ConvertRequest(label, header, n_channels, missing), overwrite
        )


def _convert(
    shard: Shard, folder: Path, shards: int, request: ConvertRequest, overwrite: bool
) -> int:
    missing = request.missing
    with readable(shard):
        read = _find_form(shard, request).read(shard, request)
        shape = validate_series(_with_gaps(read(), missing), shard.path, missing)
    names = value_names(shape.n_channels, shape.n_timepoints)
    columns = ["y", *names] if shape.has_labels else names
    write_rows(
        folder,
        columns,
        _make_rows(_with_gaps(read(), missing), shape, shard),
        shape.n_rows,
        shards,
        overwrite=overwrite,
    )
    return shape.n_rows


def _make_shard(file: str) -> Shard:
    """Find the file; refuse a folder or several files."""
    if Path(file).is_dir():
        found = "a folder"
    else:
        shards = find_shards(file)
        if len(shards) == 1:
            return shards[0]
        found = pluralize(len(shards), "file")
    raise DataError(found, "convert one file at a time, each into its own folder", file=file)


def _find_form(shard: Shard, request: ConvertRequest) -> _Form:
    """Find the format of a file by its name; refuse flags that it does not allow."""
    path = PurePath(shard.name.lower())
    suffix = PurePath(path.stem if path.suffix in PACKED_SUFFIXES else path).suffix
    form = _FORMS.get(suffix)
    if form is None:
        suffixes = ", ".join(filter(None, _FORMS))
        raise DataError(
            "a file name without a known suffix",
            f"give a file that ends in {suffixes}",
            file=shard.path,
        )
    if suffix == ".csv" and not request.header:
        form = _ROWS_FORM
        if request.label is None:
            raise DataError(
                "--no-header without --label",
                "add --label first, last or none: where the class is in a row",
                file=shard.path,
            )
    if request.label and request.label not in form.labels:
        raise DataError(
            f"--label {request.label}",
            f"a {suffix} file states its classes itself: use --label none or remove the flag",
            file=shard.path,
        )
    if request.n_channels and not form.takes_channels:
        fix = f"a {suffix} file states its channels itself: remove the flag"
        raise DataError("--channels", fix, file=shard.path)
    return form


def _with_gaps(series: Iterator[Series], missing: MissingName) -> Iterator[Series]:
    return map(with_empty_cells, series) if missing == "mask" else series


def _make_rows(series: Iterable[Series], shape: Shape, shard: Shard) -> Iterator[list[str]]:
    """Make the cells of each row; at the end, refuse a file that changed after it was checked."""
    for one in series:
        cells = [] if one.label is None else [class_name(one.label)]
        for values in one.channels:
            cells += values + [""] * (shape.n_timepoints - len(values))
        yield cells
    with readable(shard):
        shard.refuse_changed()
