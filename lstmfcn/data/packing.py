"""What a file is by its first bytes: its compression, encoding, or a format that is not a table."""

from __future__ import annotations

import lzma
import re
import shlex
from pathlib import PurePath
from typing import Literal

import pyarrow as pa

from lstmfcn.errors import DataError

Packing = Literal["", "gzip", "bz2", "xz", "zstd"]

HEAD_BYTES = 1 << 16
"""Enough bytes to recognise a file, and for the header of a usual one."""

PACKED_SUFFIXES: dict[str, Packing] = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}

UNPACKERS: dict[Packing, str] = {
    "gzip": "gzip -dc",
    "bz2": "bzip2 -dc",
    "xz": "xz -dc",
    "zstd": "zstd -dc",
}
"""The commands that write the uncompressed bytes of a file to standard output."""

_MAGIC_BYTES: dict[Packing, bytes] = {  # RFC 1952, bzip2's manual, the .xz file format, RFC 8878
    "gzip": b"\x1f\x8b",
    "bz2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
    "zstd": b"\x28\xb5\x2f\xfd",
}
_BZIP2_BLOCKS = (
    b"1AY&SY",
    b"\x17\x72\x45\x38\x50\x90",
)  # digits of pi, or of its root

_UNPACK = "unpack it, and give the files inside"
_SAVE = "save its table as CSV (UTF-8) or Parquet"
_FETCH = "fetch the real file"
_FOREIGN: dict[bytes, tuple[str, str]] = {  # the magic bytes of the file command
    b"PK\x03\x04": ("a zip archive", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    b"Rar!\x1a\x07": ("a RAR archive", _UNPACK),
    b"\x1f\x9d": ("a file compressed with compress", "unpack it with uncompress"),
    b"\x04\x22\x4d\x18": ("a file compressed with lz4", "unpack it with lz4 -d"),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an Excel or other Office file", _SAVE),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", _SAVE),
    b"ARROW1": ("an Arrow (Feather) file", _SAVE),
    b"ORC": ("an ORC file", _SAVE),
    b"Obj\x01": ("an Avro file", _SAVE),
    b"SQLite format 3\x00": ("an SQLite database", _SAVE),
    b"\x93NUMPY": ("a NumPy array (.npy)", "convert it with lstmfcn convert"),
    b"MATLAB 5.0 MAT": ("a MATLAB file", _SAVE),
    b"version https://git-lfs": ("a Git LFS pointer", f"{_FETCH}: git lfs pull"),
    b"/annex/objects/": ("a git-annex pointer", f"{_FETCH}: git annex get"),
    b"<!DOCTYPE": ("a web page", "download the data itself"),
    b"<!doctype": ("a web page", "download the data itself"),
    b"<html": ("a web page", "download the data itself"),
}
_TAR_OFFSET = 257  # of "ustar" in a POSIX tar archive


_BYTE_ORDER_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}

_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x19\x1c-\x1f]")

_CELL_ENDS = re.compile(rb'[,;\t\r\n"]')

_CONTEXT_BYTES = 40
"""Bytes before and after a faulty byte in which to look for its cell."""


def find_packing(head: bytes) -> Packing:
    """How a file with these first bytes is compressed; "" if it is not, or not in a known way."""
    for packing, magic in _MAGIC_BYTES.items():
        if head.startswith(magic) and (packing != "bz2" or head[4:10] in _BZIP2_BLOCKS):
            return packing
    return ""


def unpack(stream: pa.NativeFile, packing: Packing) -> pa.NativeFile:
    """Uncompress a stream."""
    if packing == "xz":
        return pa.PythonFile(lzma.open(stream), mode="r")
    return pa.CompressedInputStream(stream, packing) if packing else stream


def is_parquet(head: bytes) -> bool:
    """Whether a file with these first bytes is Parquet, encrypted or not."""
    return head.startswith((b"PAR1", b"PARE"))


def refuse_foreign(head: bytes, file: str, packing: Packing) -> None:
    """Refuse a file that is known not to be a shard.

    Args:
        head: the first uncompressed bytes.

    Raises:
        DataError: says what the file is, and what to do.
    """
    within = f", compressed with {packing}" if packing else ""
    if packing and (is_parquet(head) or find_packing(head)):
        what = "Parquet" if is_parquet(head) else f"a file compressed with {find_packing(head)}"
        fix = f"unpack it: {UNPACKERS[packing]}"
        raise DataError(f"{what}{within}", fix, file=file)
    if head[_TAR_OFFSET : _TAR_OFFSET + 5] == b"ustar":
        raise DataError(f"a tar archive{within}", _UNPACK, file=file)
    for magic, (what, fix) in _FOREIGN.items():
        if head.startswith(magic):
            if what == "a zip archive":
                what, fix = _describe_zip(head)
            raise DataError(f"{what}{within}", fix, file=file)


def _describe_zip(head: bytes) -> tuple[str, str]:
    """What a zip archive is, by the name of its first member, and what to do."""
    first = head[30:200]
    if b".npy" in first:
        return "NumPy arrays (.npz)", "convert them with lstmfcn convert"
    if first.startswith((b"[Content_Types].xml", b"_rels/", b"xl/", b"docProps/")):
        return "an Excel or other Office file", _SAVE
    return _FOREIGN[b"PK\x03\x04"]


def refuse_wide(head: bytes, file: str, packing: Packing) -> None:
    """Refuse UTF-16 and UTF-32 text, with or without a byte order mark.

    Args:
        head: the first uncompressed bytes of the file.

    Raises:
        DataError: with the encoding, and the command that converts the file.
    """
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            raise _encoding_fault(encoding, file, packing)
    first = head[:200]
    if len(first) < 4:
        return
    for encoding, zeros in (("UTF-16LE", first[1::2]), ("UTF-16BE", first[::2])):
        others = first[::2] if encoding == "UTF-16LE" else first[1::2]
        if not any(zeros) and all(others):
            raise _encoding_fault(encoding, file, packing)


def not_utf8(error: UnicodeDecodeError, file: str, packing: Packing) -> DataError:
    """Describe a file whose bytes cannot be decoded."""
    around = error.object[max(0, error.start - _CONTEXT_BYTES) : error.start + _CONTEXT_BYTES]
    if _CONTROLS.search(around):
        return DataError(
            "bytes that are not text", "check that the file is complete and is CSV", file=file
        )
    before = _CELL_ENDS.split(error.object[max(0, error.start - _CONTEXT_BYTES) : error.start])[-1]
    after = _CELL_ENDS.split(error.object[error.start : error.start + _CONTEXT_BYTES])[0]
    cell = before + after
    try:
        encoding, text = "CP1252", cell.decode("cp1252")
    except UnicodeDecodeError:
        encoding, text = "ISO-8859-1", cell.decode("latin-1")
    return _encoding_fault(
        encoding, file, packing, f", probably {encoding}, in which a cell reads {text!r}"
    )


def _encoding_fault(encoding: str, file: str, packing: Packing, likely: str = "") -> DataError:
    """Describe a file in another encoding, with the command that converts it."""
    name, path = shlex.quote(file), PurePath(file)
    suffix = (PurePath(path.stem) if packing else path).suffix or ".csv"
    convert = f"iconv -f {encoding} -t UTF-8"
    command = f"{UNPACKERS[packing]} {name} | {convert}" if packing else f"{convert} {name}"
    found = f"bytes that are not UTF-8{likely}" if likely else f"text in {encoding}, not in UTF-8"
    return DataError(found, f"convert it: {command} > new{suffix}", file=file)
