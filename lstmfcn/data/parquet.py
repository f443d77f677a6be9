"""Read Parquet shards: numbers, text and lists of any type, as columns of declared types.

A series may be one list column instead of one column for each timepoint. It is read as these
columns: ``x`` as ``x_1``, ``x_2``, ...; ``x1`` as ``x1_1``, ``x1_2``, ...

Shapes: N rows of a batch, T timepoints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from lstmfcn.data.columns import list_column_names
from lstmfcn.data.shards import Shard
from lstmfcn.data.table import RowOrigin
from lstmfcn.errors import DataError
from lstmfcn.signals import map_in_order

Types = Mapping[str, pa.DataType | None]
"""The type of each column; None to keep the type that is stored."""

_BATCH_ROWS = 1 << 16
_BATCH_VALUES = 1 << 20
"""4 MiB of float32, which stay in the processor's cache until they are checked."""
_LIST_TYPES = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_NUMBER_TYPES = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_boolean,
    pa.types.is_null,
)
_TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)


def parquet_names(shard: Shard, model_columns: Collection[str] = ()) -> list[str]:
    """The column names of a shard, in file order; a list column gives one name for each value.

    All lists count as long as the longest one.

    Args:
        model_columns: columns of a model, to which shorter lists are filled up.

    Raises:
        DataError: a column has a type that pyarrow does not read.
    """
    with shard.filesystem.open_input_file(shard.path) as file:
        stored = _open(file, shard)
        lists = _list_columns(stored.schema_arrow)
        length = max((_longest(stored, name) for name in lists), default=0)
        names: list[str] = []
        for name in stored.schema_arrow.names:
            if name not in lists:
                names.append(name)
            else:
                names += list_column_names(name, max(length, _width(name, model_columns)))
        return names


def count_parquet_rows(shard: Shard) -> int:
    """Return the number of rows, which the file says."""
    with shard.filesystem.open_input_file(shard.path) as file:
        return int(_open(file, shard).metadata.num_rows)


def parquet_tables(shard: Shard, types: Types, threads: int = 1) -> Iterator[pa.Table]:
    """Read the rows of a shard, in order, as tables; empty cells are null.

    In text columns (labels) NaN becomes null, and bools become ``True`` and ``False``.

    Args:
        threads: how many tables are converted at a time.

    Raises:
        DataError: a column has another type, a list has more values than there are columns, or
            text is not UTF-8.
    """
    with shard.filesystem.open_input_file(shard.path) as file:
        stored = _open(file, shard)
        widths = {name: _width(name, types) for name in _list_columns(stored.schema_arrow)}
        in_lists = {c for name, width in widths.items() for c in list_column_names(name, width)}
        plain = [name for name in types if name not in in_lists]
        _refuse_other_types(shard, stored.schema_arrow, {name: types[name] for name in plain})
        lists = [name for name, width in widths.items() if width]

        def convert(part: tuple[pa.RecordBatch, RowOrigin]) -> pa.Table:
            batch, source = part
            columns = {name: _cast(batch[name], types[name], name, source) for name in plain}
            for name in lists:
                columns |= _split_lists(batch[name], name, widths[name], source)
            return pa.table({name: columns[name] for name in types})

        n_rows = min(_BATCH_ROWS, max(1, _BATCH_VALUES // max(1, len(types))))
        batches = stored.iter_batches(n_rows, columns=[*plain, *lists])
        yield from map_in_order(convert, _number_rows(shard, batches), threads)


def _number_rows(
    shard: Shard, batches: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, RowOrigin]]:
    """Say with each batch how many rows come before."""
    rows = 0
    for batch in batches:
        yield batch, RowOrigin(shard.path, rows)
        rows += batch.num_rows


def _open(file: pa.NativeFile, shard: Shard) -> pa.parquet.ParquetFile:
    try:
        stored = pa.parquet.ParquetFile(file)
        assert stored.schema_arrow is not None  # pyarrow checks the types here
    except pa.ArrowNotImplementedError as error:
        raise DataError(
            f"a column of a type that cannot be read ({str(error).splitlines()[0]})",
            "store integers of at most 64 bits, floats or text",
            file=shard.path,
        ) from error
    return stored


def _list_columns(schema: pa.Schema) -> list[str]:
    """The value columns that contain lists of numbers."""
    return [
        field.name
        for field in schema
        if field.name.startswith("x")
        and _is_any(field.type, _LIST_TYPES)
        and _is_any(field.type.value_type, _NUMBER_TYPES)
    ]


def _is_any(kind: pa.DataType, checks: Collection[object]) -> bool:
    return any(is_kind(kind) for is_kind in checks if callable(is_kind))


def _longest(stored: pa.parquet.ParquetFile, name: str) -> int:
    """The length of the longest list in the column."""
    kind = stored.schema_arrow.field(name).type
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    batches = stored.iter_batches(_BATCH_ROWS, columns=[name])
    return max((int(_lengths(batch[name]).max(initial=0)) for batch in batches), default=0)


def _width(name: str, columns: Collection[str]) -> int:
    """The number of columns that are values of the list column with this name."""
    names, width = columns if isinstance(columns, Mapping) else set(columns), 0
    while f"{name}_{width + 1}" in names:
        width += 1
    return width


def _lengths(lists: pa.Array) -> npt.NDArray[np.int64]:
    """The length of each list, (N,); 0 for null."""
    counts = pc.if_else(lists.is_null(), 0, pc.list_value_length(lists))
    lengths: npt.NDArray[np.int64] = counts.to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def _split_lists(lists: pa.Array, name: str, width: int, source: RowOrigin) -> dict[str, pa.Array]:
    """Make a float32 column of each timepoint; null for missing values and after a list's end."""
    lengths = _lengths(lists)
    for row in np.flatnonzero(lengths > width).tolist():
        fix = f"the series have {width} timepoints: make all lists as long"
        raise source.fault(row, f"a list of {lengths[row]} values", fix, name)
    rows = np.repeat(np.arange(len(lists)), lengths)
    times = np.arange(len(rows)) - np.repeat(lengths.cumsum() - lengths, lengths)
    flat = lists.flatten().cast(pa.float32(), safe=False)
    values = np.full((width, len(lists)), np.nan, dtype=np.float32)
    absent = np.ones(values.shape, dtype=np.bool_)
    values[times, rows] = flat.to_numpy(zero_copy_only=False)
    absent[times, rows] = flat.is_null().to_numpy(zero_copy_only=False)
    names = list_column_names(name, width)
    return {
        column: pa.array(cells, mask=missing, from_pandas=False)
        for column, cells, missing in zip(names, values, absent, strict=True)
    }


def _cast(column: pa.Array, kind: pa.DataType | None, name: str, source: RowOrigin) -> pa.Array:
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
        raise _not_utf8_fault(column, name, source) from error


def _not_utf8_fault(column: pa.Array, name: str, source: RowOrigin) -> DataError:
    """Describe the first cell of a column that is not UTF-8."""
    cells = [cell or b"" for cell in column.to_pylist()]
    row = [cell.decode(errors="ignore").encode() == cell for cell in cells].index(False)
    return source.fault(row, "bytes that are not UTF-8", "store text as UTF-8", name)


def _refuse_other_types(shard: Shard, schema: pa.Schema, types: Types) -> None:
    """Refuse value columns that are not numbers, and label columns that are not numbers or text."""
    for name, declared in types.items():
        kind = schema.field(name).type
        stored = kind.value_type if pa.types.is_dictionary(kind) else kind
        is_label = declared == pa.string()
        if declared is None or _is_any(stored, _NUMBER_TYPES + (_TEXT_TYPES if is_label else ())):
            continue
        fix = f"store {'class names or numbers' if is_label else 'numbers'}"
        if pa.types.is_nested(kind) and not is_label:
            fix = "store one column for each timepoint, or one list column x of numbers"
        raise DataError(f"values of type {kind}", fix, file=shard.path, column=name)
