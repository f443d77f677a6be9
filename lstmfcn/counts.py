"""Counts as messages tell them, and texts that are numbers."""

from __future__ import annotations


def number(n: int, one: str, many: str | None = None) -> str:
    """How many of something: ``1 row``, ``1,000 rows``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def is_number(text: str) -> bool:
    """Whether a text is written as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
