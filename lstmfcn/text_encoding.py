"""Text that is no UTF-8: which encoding it likely has, and the command that converts it."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePath

from lstmfcn.errors import DataError
from lstmfcn.packing import UNPACKERS, Packing

_BYTE_ORDER_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x19\x1c-\x1f]")
_ENDS_OF_CELLS = re.compile(rb'[,;\t\r\n"]')
_FEW = 40
"""Bytes of a file that a message shows."""


def refuse_wide(head: bytes, file: str, packing: Packing) -> None:
    """Refuse text of two or four bytes a character, with a byte order mark or without.

    Args:
        head: the first plain bytes of the file.
        file: for the message.
        packing: that they were packed by.

    Raises:
        DataError: names the encoding and the command that converts it.
    """
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            raise _in(encoding, file, packing)
    first = head[:200]
    if len(first) < 4:
        return
    for encoding, zeros in (("UTF-16LE", first[1::2]), ("UTF-16BE", first[::2])):
        others = first[::2] if encoding == "UTF-16LE" else first[1::2]
        if not any(zeros) and all(others):
            raise _in(encoding, file, packing)


def not_utf8(error: UnicodeDecodeError, file: str, packing: Packing) -> DataError:
    """What to say of a file whose bytes cannot be decoded."""
    around = error.object[max(0, error.start - _FEW) : error.start + _FEW]
    if _CONTROLS.search(around):
        return DataError("bytes that are no text", "check that it is whole and CSV", file=file)
    before = _ENDS_OF_CELLS.split(error.object[max(0, error.start - _FEW) : error.start])[-1]
    after = _ENDS_OF_CELLS.split(error.object[error.start : error.start + _FEW])[0]
    cell = before + after
    try:
        encoding, text = "CP1252", cell.decode("cp1252")
    except UnicodeDecodeError:
        encoding, text = "ISO-8859-1", cell.decode("latin-1")
    return _in(encoding, file, packing, f", likely {encoding}, in which a cell is {text!r}")


def _in(encoding: str, file: str, packing: Packing, likely: str = "") -> DataError:
    name, path = shlex.quote(file), PurePath(file)
    suffix = (PurePath(path.stem) if packing else path).suffix or ".csv"
    convert = f"iconv -f {encoding} -t UTF-8"
    command = f"{UNPACKERS[packing]} {name} | {convert}" if packing else f"{convert} {name}"
    found = f"bytes that are no UTF-8{likely}" if likely else f"text in {encoding}, not in UTF-8"
    return DataError(found, f"convert it: {command} > new{suffix}", file=file)
