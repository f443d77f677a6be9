"""Names of columns: how a few of many are told, and names that no header may have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from lstmfcn.errors import DataError


def blank_faults(header: Sequence[str], file: str | None) -> Iterator[DataError]:
    """Blanks around the names of value or label columns."""
    padded = (name for name in header if name != name.strip())
    blank = [repr(name) for name in padded if name.strip().startswith(("x", "y"))]
    if blank:
        yield DataError(f"blanks around the column name {some_of(blank)}", "remove them", file=file)


def repeat_faults(columns: Sequence[str], file: str | None) -> Iterator[DataError]:
    """Names that stand there twice."""
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        yield DataError(
            f"the column {some_of(repeated)} more than once",
            "give every column a name of its own",
            file=file,
        )


def some_of(names: Sequence[str]) -> str:
    """A few of many names: the first, the last, and how many."""
    if len(names) <= 6:
        return ", ".join(names) or "nothing"
    return f"{names[0]}, {names[1]}, ... {names[-1]} ({len(names)} in all)"
