"""Parquet shards: numbers, text and lists of any type as columns of declared types.

A series may stand in one list column instead of a column a timepoint. It is then told, and read, as
the columns that it would be: ``x_1``, ``x_2``, ... of ``x``; ``x1_1``, ... of ``x1``.

Shapes: N rows of a batch, T timepoints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from lstmfcn.cells import Source
from lstmfcn.channels import list_names
from lstmfcn.errors import DataError
from lstmfcn.shards import Shard

Types = Mapping[str, pa.DataType | None]
"""Of columns; None for that which each is stored as."""

_ROWS = 1 << 16
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_NUMBERS = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_boolean,
    pa.types.is_null,
)
_TEXTS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)


def parquet_names(shard: Shard, known: Collection[str] = ()) -> list[str]:
    """A shard's column names, in file order; those of a list's values in place of the list's.

    All lists are as long as the longest of any row.

    Args:
        shard: of Parquet.
        known: columns of which there may be more than the lists are long.

    Raises:
        DataError: a column of a type that pyarrow does not read.
    """
    with shard.filesystem.open_input_file(shard.path) as file:
        stored = _opened(file, shard)
        lists = _lists_of(stored.schema_arrow)
        length = max((_longest(stored, name) for name in lists), default=0)
        names: list[str] = []
        for name in stored.schema_arrow.names:
            if name not in lists:
                names.append(name)
            else:
                names += list_names(name, max(length, _width(name, known)))
        return names


def parquet_tables(shard: Shard, types: Types) -> Iterator[pa.Table]:
    """A shard's rows, in order, as tables of the columns of these types; empty cells are null.

    Labels, whose type is text, are null where they are NaN, and True or False where they are bools.

    Raises:
        DataError: a column of another type, a list with more values than there are columns, text
            that is no UTF-8.
    """
    with shard.filesystem.open_input_file(shard.path) as file:
        stored = _opened(file, shard)
        lists = {name: _width(name, types) for name in _lists_of(stored.schema_arrow)}
        of_lists = {column for name in lists for column in list_names(name, lists[name])}
        plain = [name for name in types if name not in of_lists]
        _refuse_other_types(shard, stored.schema_arrow, {name: types[name] for name in plain})
        wanted = [*plain, *(name for name, width in lists.items() if width)]
        rows = 0
        for batch in stored.iter_batches(_ROWS, columns=wanted):
            source = Source(shard.path, rows)
            columns = {name: _typed(batch[name], types[name], name, source) for name in plain}
            for name in wanted[len(plain) :]:
                columns |= _values_of(batch[name], name, lists[name], source)
            yield pa.table({name: columns[name] for name in types})
            rows += batch.num_rows


def _opened(file: pa.NativeFile, shard: Shard) -> pa.parquet.ParquetFile:
    try:
        stored = pa.parquet.ParquetFile(file)
        assert stored.schema_arrow is not None  # which is where types are looked at
    except pa.ArrowNotImplementedError as error:
        raise DataError(
            f"a column of a type that cannot be read ({str(error).splitlines()[0]})",
            "store integers of at most 64 bits, floats or text",
            file=shard.path,
        ) from error
    return stored


def _lists_of(schema: pa.Schema) -> list[str]:
    """The value columns that hold lists of numbers."""
    return [
        field.name
        for field in schema
        if field.name.startswith("x")
        and _is_any(field.type, _LISTS)
        and _is_any(field.type.value_type, _NUMBERS)
    ]


def _is_any(kind: pa.DataType, checks: Collection[object]) -> bool:
    return any(is_kind(kind) for is_kind in checks if callable(is_kind))


def _longest(stored: pa.parquet.ParquetFile, name: str) -> int:
    """The most values that a list of the column has."""
    kind = stored.schema_arrow.field(name).type
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    batches = stored.iter_batches(_ROWS, columns=[name])
    return max((int(_lengths(batch[name]).max(initial=0)) for batch in batches), default=0)


def _width(name: str, columns: Collection[str]) -> int:
    """How many of the columns are those of the list column of this name."""
    known, width = columns if isinstance(columns, Mapping) else set(columns), 0
    while f"{name}_{width + 1}" in known:
        width += 1
    return width


def _lengths(lists: pa.Array) -> npt.NDArray[np.int64]:
    """Values in each list, (N,); 0 of null."""
    lengths = pc.if_else(lists.is_null(), 0, pc.list_value_length(lists))
    found: npt.NDArray[np.int64] = lengths.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _values_of(lists: pa.Array, name: str, width: int, source: Source) -> dict[str, pa.Array]:
    """The columns that lists make, float32; null where a list has ended, or holds null."""
    lengths = _lengths(lists)
    for row in np.flatnonzero(lengths > width).tolist():
        raise DataError(
            f"a list of {lengths[row]} values",
            f"the series have {width} timepoints: give every list as many",
            file=source.file,
            row=source.rows_before + row + 1,
            column=name,
        )
    rows = np.repeat(np.arange(len(lists)), lengths)
    times = np.arange(len(rows)) - np.repeat(lengths.cumsum() - lengths, lengths)
    flat = lists.flatten().cast(pa.float32(), safe=False)
    values = np.full((width, len(lists)), np.nan, dtype=np.float32)
    absent = np.ones(values.shape, dtype=np.bool_)
    values[times, rows] = flat.to_numpy(zero_copy_only=False)
    absent[times, rows] = flat.is_null().to_numpy(zero_copy_only=False)
    names = list_names(name, width)
    return {
        column: pa.array(of_time, mask=missing, from_pandas=False)
        for column, of_time, missing in zip(names, values, absent, strict=True)
    }


def _typed(column: pa.Array, kind: pa.DataType | None, name: str, source: Source) -> pa.Array:
    if kind is None:
        return column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if kind != pa.string():
        return column.cast(kind, safe=False)
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "True", "False")
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        raise _no_utf8(column, name, source) from error


def _no_utf8(column: pa.Array, name: str, source: Source) -> DataError:
    """What to say of a column of bytes that are no text."""
    is_text = [_is_text(cell) for cell in column.to_pylist()]
    row = source.rows_before + 1 + is_text.index(False)
    fix = "store text as UTF-8"
    return DataError("bytes that are no UTF-8", fix, file=source.file, row=row, column=name)


def _is_text(cell: bytes | None) -> bool:
    try:
        (cell or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _refuse_other_types(shard: Shard, schema: pa.Schema, types: Types) -> None:
    """Refuse a column that is neither numbers nor, for labels, text."""
    for name, wanted in types.items():
        kind = schema.field(name).type
        stored = kind.value_type if pa.types.is_dictionary(kind) else kind
        is_label = wanted == pa.string()
        if wanted is None or _is_any(stored, _NUMBERS + (_TEXTS if is_label else ())):
            continue
        fix = f"store {'class names or numbers' if is_label else 'numbers'} there"
        if pa.types.is_nested(kind) and not is_label:
            fix = "store a column a timepoint, or one list column x of numbers"
        raise DataError(f"values of type {kind}", fix, file=shard.path, column=name)
