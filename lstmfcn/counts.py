"""Counts and sizes as messages tell them."""

from __future__ import annotations


def number(n: int, one: str, many: str | None = None) -> str:
    """How many of something: ``1 row``, ``1,000 rows``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def size(n_bytes: float) -> str:
    """How many bytes, in decimal units: ``97 bytes``, ``0.23 MB``, ``1.2 GB``."""
    if n_bytes < 1000:
        return number(int(n_bytes), "byte")
    unit, of = next((u, s) for u, s in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if n_bytes >= s)
    return f"{n_bytes / of:.3g} {unit}"
