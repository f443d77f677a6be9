"""Read NumPy files: .npz with the arrays x and y, .npy with x only. Shapes: N rows."""

from __future__ import annotations

import io
import logging
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lstmfcn.console import pluralize
from lstmfcn.convert.series import ConvertRequest, ReadSeries, Series
from lstmfcn.data.columns import abbreviate
from lstmfcn.data.packing import HEAD_BYTES, find_packing, unpack
from lstmfcn.data.reader import readable
from lstmfcn.data.shards import Shard
from lstmfcn.errors import DataError

_VALUE_NAMES = ("x", "X", "data")
_LABEL_NAMES = ("y", "Y", "labels")

_BROKEN = (
    ValueError,
    EOFError,
    MemoryError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""The errors of NumPy and zipfile for broken, encrypted or too large files."""

Array = npt.NDArray[Any]

logger = logging.getLogger(__name__)


def read_arrays(shard: Shard, request: ConvertRequest) -> ReadSeries:
    """Read the series x, (N, timepoints) or (N, channels, timepoints), with the classes y, (N,).

    Raises:
        DataError: the file does not have such arrays.
    """
    with _open(shard) as arrays:
        x = arrays[_find_array(arrays, _VALUE_NAMES, shard)]
        y = None if request.label == "none" else arrays[_find_array(arrays, _LABEL_NAMES, shard)]
    if x.ndim not in (2, 3) or 0 in x.shape[1:] or x.dtype.kind not in "biuf":
        raise DataError(
            f"values of shape {x.shape} and type {x.dtype}",
            "store numbers of shape (rows, timepoints) or (rows, channels, timepoints)",
            file=shard.path,
        )
    fits = y is None or y.shape in (x.shape[:1], (len(x), 1))
    if y is not None and not (fits and y.dtype.kind in "biufUS"):
        raise DataError(
            f"labels of shape {y.shape} and type {y.dtype} beside {pluralize(len(x), 'row')}",
            "store one number or text for each row",
            file=shard.path,
        )
    if x.ndim == 3:
        _log_axes(x, shard)
    return partial(_iterate, x, y)


@contextmanager
def _open(shard: Shard) -> Iterator[Mapping[str, Array]]:
    """Open a file; gives its arrays by name, read when they are accessed. Pickles are refused."""
    try:
        with readable(shard), shard.filesystem.open_input_file(shard.path) as file:
            packing = find_packing(file.read(HEAD_BYTES))
            file.seek(0)
            plain = io.BytesIO(unpack(file, packing).read()) if packing else file
            loaded = np.load(plain, allow_pickle=False)
            yield {"x": loaded} if isinstance(loaded, np.ndarray) else loaded
    except _BROKEN as error:
        if "Object arrays" in str(error):
            raise DataError(
                "an array of Python objects", "store text with y.astype(str)", file=shard.path
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason:  # NumPy's advice for any other file
            reason = "it does not start like an array"
        raise DataError(
            f"a file that NumPy cannot read ({reason})",
            "write it with numpy.savez",
            file=shard.path,
        ) from error


def _find_array(arrays: Mapping[str, Array], names: Sequence[str], shard: Shard) -> str:
    """The only one of these names that the file has."""
    present = [name for name in names if name in arrays]
    if len(present) == 1:
        return present[0]
    if names == _LABEL_NAMES and list(arrays) == ["x"]:
        fix = "numpy.savez('NAME.npz', x=x, y=y) stores both; --label none converts without labels"
        raise DataError("values without labels", fix, file=shard.path)
    raise DataError(
        f"the arrays {abbreviate(list(arrays))}",
        f"name one of them {names[0]}: numpy.savez('NAME.npz', x=x, y=y)",
        file=shard.path,
    )


def _log_axes(x: Array, shard: Shard) -> None:
    """Log how three axes are read, because other libraries have the channels last."""
    _, n_channels, n_timepoints = x.shape
    shape = f"{pluralize(n_channels, 'channel')} of {pluralize(n_timepoints, 'timepoint')}"
    if n_timepoints == 1 < n_channels:
        raise DataError(
            f"values of shape {x.shape}, {shape}",
            "the axes must be (rows, channels, timepoints): store x.transpose(0, 2, 1)",
            file=shard.path,
        )
    level = logging.WARNING if n_timepoints < n_channels else logging.INFO
    logger.log(level, "%s: read as (rows, channels, timepoints): %s", shard.name, shape)


def _iterate(x: Array, y: Array | None) -> Iterator[Series]:
    plain = {
        "bool": np.int8,
        "float16": np.float32,
    }  # the shortest text of a float16 is not that of the same float32
    numbers = x.astype(plain.get(x.dtype.name, x.dtype))
    labels = [None] * len(x) if y is None else _to_texts(y.reshape(len(x)))
    for row, (values, label) in enumerate(zip(numbers, labels, strict=True), start=1):
        yield Series(row, label, np.atleast_2d(values).astype(str).tolist())


def _to_texts(labels: Array) -> list[str]:
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8")
    return [str(label) for label in labels.tolist()]
