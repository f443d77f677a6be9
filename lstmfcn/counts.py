"""Counts and sizes as messages tell them, and texts that are numbers."""

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


def size(n_bytes: float) -> str:
    """How many bytes, in three digits of a unit of thousands: ``231 kB``, ``1.5 GB``."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB" if n_bytes < 999.5 else f"{n_bytes:,.0f} GB"
