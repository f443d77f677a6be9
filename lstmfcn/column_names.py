"""Names of columns: how a few of many are told, and names that no header may have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lstmfcn.errors import DataError


def refuse_blanks(header: Sequence[str], file: str | None) -> None:
    """Refuse blanks around the name of a value or label column.

    Raises:
        DataError: names the columns.
    """
    padded = (name for name in header if name != name.strip())
    blank = [repr(name) for name in padded if name.strip().startswith(("x", "y"))]
    if blank:
        raise DataError(f"blanks around the column name {some_of(blank)}", "remove them", file=file)


def refuse_repeats(columns: Sequence[str], file: str | None) -> None:
    """Refuse a name that stands there twice.

    Raises:
        DataError: names it.
    """
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise DataError(
            f"the column {some_of(repeated)} more than once",
            "give every column a name of its own",
            file=file,
        )


def count(names: Sequence[str], kind: str) -> str:
    """How many columns of a kind."""
    return f"{len(names)} {kind} column{'s' if len(names) != 1 else ''}"


def some_of(names: Sequence[str]) -> str:
    """A few of many names: the first, the last, and how many."""
    if len(names) <= 6:
        return ", ".join(names) or "nothing"
    return f"{names[0]}, {names[1]}, ... {names[-1]} ({len(names)} in all)"
