"""NumPy's files: .npz with the arrays x and y, .npy with values alone. Shapes: N rows."""

from __future__ import annotations

import io
import logging
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from lstmfcn.column_names import some_of
from lstmfcn.convert.series import Rereadable, Series, Wanted
from lstmfcn.counts import number
from lstmfcn.errors import DataError
from lstmfcn.packing import HEAD_BYTES, packing_of, unpacked
from lstmfcn.reading import readable
from lstmfcn.shards import Shard

_VALUES = ("x", "X", "data")
_LABELS = ("y", "Y", "labels")

_BROKEN = (
    ValueError,
    EOFError,
    MemoryError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise of broken, encrypted or too large files."""

Array = npt.NDArray[Any]

logger = logging.getLogger(__name__)


def read_arrays(shard: Shard, wanted: Wanted) -> Rereadable:
    """The series of x, (N, timepoints) or (N, channels, timepoints), with the classes y, (N,).

    Raises:
        DataError: the file holds no such arrays.
    """
    with _opened(shard) as arrays:
        x = arrays[_name_of(arrays, _VALUES, shard)]
        y = None if wanted.label == "none" else arrays[_name_of(arrays, _LABELS, shard)]
    if x.ndim not in (2, 3) or 0 in x.shape[1:] or x.dtype.kind not in "biuf":
        raise DataError(
            f"values of shape {x.shape} and type {x.dtype}",
            "store numbers, (rows, timepoints) or (rows, channels, timepoints)",
            file=shard.path,
        )
    fits = y is None or y.shape in (x.shape[:1], (len(x), 1))
    if y is not None and not (fits and y.dtype.kind in "biufUS"):
        raise DataError(
            f"labels of shape {y.shape} and type {y.dtype} beside {number(len(x), 'row')}",
            "store one number or text a row",
            file=shard.path,
        )
    if x.ndim == 3:
        _tell_axes(x, shard)
    return Rereadable(lambda: _series(x, y))


@contextmanager
def _opened(shard: Shard) -> Iterator[Mapping[str, Array]]:
    """The arrays of a file, by name, each read when it is asked for; pickles are not."""
    try:
        with readable(shard), shard.filesystem.open_input_file(shard.path) as file:
            packing = packing_of(file.read(HEAD_BYTES))
            file.seek(0)
            plain = io.BytesIO(unpacked(file, packing).read()) if packing else file
            loaded = np.load(plain, allow_pickle=False)
            yield {"x": loaded} if isinstance(loaded, np.ndarray) else loaded
    except _BROKEN as error:
        if "Object arrays" in str(error):
            raise DataError(
                "an array of Python objects", "store texts by y.astype(str)", file=shard.path
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason:  # said of any bytes that are no array, with the advice to allow it
            reason = "its first bytes are of no array"
        raise DataError(
            f"no file of NumPy's ({reason})", "write it by numpy.savez", file=shard.path
        ) from error


def _name_of(arrays: Mapping[str, Array], names: Sequence[str], shard: Shard) -> str:
    """The one of these names that there is."""
    found = [name for name in names if name in arrays]
    if len(found) == 1:
        return found[0]
    if names == _LABELS and list(arrays) == ["x"]:
        fix = "numpy.savez('NAME.npz', x=x, y=y) stores both; --label none converts without labels"
        raise DataError("values without labels", fix, file=shard.path)
    raise DataError(
        f"the arrays {some_of(list(arrays))}",
        f"name one of them {names[0]}: numpy.savez('NAME.npz', x=x, y=y)",
        file=shard.path,
    )


def _tell_axes(x: Array, shard: Shard) -> None:
    """Say how three axes are read; other libraries have the channels last."""
    _, n_channels, n_timepoints = x.shape
    read = f"{number(n_channels, 'channel')} of {number(n_timepoints, 'timepoint')}"
    if n_timepoints == 1 < n_channels:
        raise DataError(
            f"values of shape {x.shape}, {read}",
            "the axes are (rows, channels, timepoints): store x.transpose(0, 2, 1)",
            file=shard.path,
        )
    level = logging.WARNING if n_timepoints < n_channels else logging.INFO
    logger.log(level, "%s: read as (rows, channels, timepoints): %s", shard.name, read)


def _series(x: Array, y: Array | None) -> Iterator[Series]:
    plain = {"bool": np.int8, "float16": np.float32}  # short texts of float16 are other float32
    numbers = x.astype(plain.get(x.dtype.name, x.dtype))
    labels = [None] * len(x) if y is None else _texts(y.reshape(len(x)))
    for row, (values, label) in enumerate(zip(numbers, labels, strict=True), start=1):
        yield Series(row, label, np.atleast_2d(values).astype(str).tolist())


def _texts(labels: Array) -> list[str]:
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8")
    return [str(label) for label in labels.tolist()]
