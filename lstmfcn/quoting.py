"""A user's own text and values, as messages and terminals show them: harmless, and not endless."""

from __future__ import annotations

import reprlib

_LONGEST_LINE = 2000
_LONGEST_TEXT = 200
_MOST_BITS = 200

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
"""C0, DEL and C1: a terminal obeys them."""

_BIDI = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""They change the direction of what follows, so that a line reads as it does not stand there."""

_LINE_ENDS = [0x2028, 0x2029]
_ESCAPED = {
    code: chr(code).encode("unicode_escape").decode("ascii")
    for code in (*_CONTROLS, *_BIDI, *_LINE_ENDS)
    if chr(code) not in "\n\t"
}


def printable(text: str) -> str:
    r"""The text with its control characters escaped, as in ``\x1b``; line ends and tabs stay."""
    return text.translate(_ESCAPED)


def one_line(text: str) -> str:
    """The text as one line of bounded length, with its control characters escaped."""
    if len(text) > _LONGEST_LINE:
        half = _LONGEST_LINE // 2
        text = f"{text[:half]} ... {text[-half:]} ({len(text):,} characters in all)"
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class _Short(reprlib.Repr):
    """A repr of bounded length and work, however large or deep the value is."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 10
        self.maxstring = self.maxother = _LONGEST_TEXT

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002 - reprlib's arguments
        """The number; Python refuses to write more than 4,300 digits."""
        return repr(x) if x.bit_length() <= _MOST_BITS else f"an integer of {x.bit_length()} bits"


_SHORT = _Short()


def shown(value: object) -> str:
    """A value as Python writes it, shortened where it is long or deep."""
    return _SHORT.repr(value)
