"""What a file is by its first bytes: packed, a table, or what is no shard; its plain bytes."""

from __future__ import annotations

import lzma
from typing import Literal

import pyarrow as pa

from lstmfcn.errors import DataError

Packing = Literal["", "gzip", "bz2", "xz", "zstd"]

HEAD_BYTES = 1 << 16
"""Enough to know a file by, and to hold the header of a usual one."""

PACKED_SUFFIXES: dict[str, Packing] = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}

UNPACKERS: dict[Packing, str] = {
    "gzip": "gzip -dc",
    "bz2": "bzip2 -dc",
    "xz": "xz -dc",
    "zstd": "zstd -dc",
}
"""The command that writes the plain bytes of a packed file to standard output."""

_PACKED: dict[Packing, bytes] = {  # RFC 1952, bzip2's manual, the .xz file format, RFC 8878
    "gzip": b"\x1f\x8b",
    "bz2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
    "zstd": b"\x28\xb5\x2f\xfd",
}
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")  # the digits of pi; of its root, at an end

_UNPACK = "unpack it, and name the files that were in it"
_SAVE = "save its table as CSV (UTF-8) or Parquet"
_FETCH = "fetch the file that it stands for"
_FOREIGN: dict[bytes, tuple[str, str]] = {  # as the file command knows them
    b"PK\x03\x04": ("a zip archive", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    b"Rar!\x1a\x07": ("a RAR archive", _UNPACK),
    b"\x1f\x9d": ("a file packed by compress", "unpack it with uncompress"),
    b"\x04\x22\x4d\x18": ("a file packed by lz4", "unpack it with lz4 -d"),
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
_TAR_PLACE = 257  # of "ustar" in a POSIX tar archive


def packing_of(head: bytes) -> Packing:
    """What a file with these first bytes is packed by; "" for nothing that is known."""
    for packing, magic in _PACKED.items():
        if head.startswith(magic) and (packing != "bz2" or head[4:10] in _BZIP2_BLOCKS):
            return packing
    return ""


def unpacked(stream: pa.NativeFile, packing: Packing) -> pa.NativeFile:
    """The plain bytes of a stream."""
    if packing == "xz":
        return pa.PythonFile(lzma.open(stream), mode="r")
    return pa.CompressedInputStream(stream, packing) if packing else stream


def is_parquet(head: bytes) -> bool:
    """Whether a file with these first bytes is Parquet, encrypted or not."""
    return head.startswith((b"PAR1", b"PARE"))


def refuse_foreign(head: bytes, file: str, packing: Packing) -> None:
    """Refuse what is known to be no shard.

    Args:
        head: the first plain bytes.
        file: for the message.
        packing: that they were packed by.

    Raises:
        DataError: says what it is, and what to do.
    """
    within = f", packed by {packing}" if packing else ""
    if packing and (is_parquet(head) or packing_of(head)):
        what = "Parquet" if is_parquet(head) else f"a file packed by {packing_of(head)}"
        fix = f"unpack it: {UNPACKERS[packing]}"
        raise DataError(f"{what}{within}", fix, file=file)
    if head[_TAR_PLACE : _TAR_PLACE + 5] == b"ustar":
        raise DataError(f"a tar archive{within}", _UNPACK, file=file)
    for magic, (what, fix) in _FOREIGN.items():
        if head.startswith(magic):
            if what == "a zip archive":
                what, fix = _zip_archive(head)
            raise DataError(f"{what}{within}", fix, file=file)


def _zip_archive(head: bytes) -> tuple[str, str]:
    """What a zip archive is by the name of its first member."""
    first = head[30:200]
    if b".npy" in first:
        return "NumPy arrays (.npz)", "convert them with lstmfcn convert"
    if first.startswith((b"[Content_Types].xml", b"_rels/", b"xl/", b"docProps/")):
        return "an Excel or other Office file", _SAVE
    return _FOREIGN[b"PK\x03\x04"]
