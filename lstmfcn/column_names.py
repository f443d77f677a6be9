"""Names of columns: which are labels and values, and names that no header may have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from lstmfcn.counts import is_number, number
from lstmfcn.errors import DataError


def value_columns(header: Sequence[str]) -> list[str]:
    """The names that start with x."""
    return [name for name in header if name.startswith("x")]


def label_columns(header: Sequence[str]) -> list[str]:
    """The names that start with y."""
    return [name for name in header if name.startswith("y")]


def odd_labels(labels: Sequence[str]) -> list[str]:
    """Those of label columns that may start with y by chance, as ``year``: a letter follows."""
    return [name for name in labels if name[1:2].isalpha()]


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


def label_name_faults(labels: Sequence[str], file: str | None) -> Iterator[DataError]:
    """Label columns that cannot all be meant: beside ``y``, or by chance beside ``y_1``."""
    odd = odd_labels(labels)
    if "y" in labels and len(labels) > 1:
        yield DataError(
            f"{len(labels)} label columns that start with y ({some_of(labels)})",
            "keep y alone, which holds class names, or y_1, y_2, ... of 0 and 1; rename what is no "
            "label",
            file=file,
        )
    elif odd and len(odd) < len(labels):
        yield DataError(
            f"the label column {some_of(odd)} beside "
            f"{some_of([name for name in labels if name not in set(odd)])}",
            "rename what is no label, for names that start with y are labels; name all labels y_1, "
            "y_2, ...",
            file=file,
        )


def column_faults(
    kind: str, header: Sequence[str], expected: Sequence[str], file: str | None
) -> Iterator[DataError]:
    """Why the value or label columns of a header are not those that are expected.

    Args:
        kind: "value" or "label".
        header: all names.
        expected: of that kind, in any order.
        file: for the message.
    """
    found = value_columns(header) if kind == "value" else label_columns(header)
    yield from repeat_faults(found, file)
    there, wanted = set(found), set(expected)
    if there == wanted:
        return
    fix = f"give it the {number(len(expected), f'{kind} column')} {some_of(expected)}"
    if not found:
        unlabelled = "; for data without labels use lstmfcn predict" if kind == "label" else ""
        yield lack_fault(header, kind, fix + unlabelled, file)
        return
    missing = [name for name in expected if name not in there]
    extra = [name for name in found if name not in wanted]
    differences = [f"without {some_of(missing)}"] if missing else []
    differences += [f"with {some_of(extra)} beside them"] if extra else []
    count = number(len(found), f"{kind} column")
    yield DataError(f"{count}, {', '.join(differences)}", fix, file=file)


def lack_fault(header: Sequence[str], kind: str, fix: str, file: str | None) -> DataError:
    """What to say of a header without any value column, or without any label column.

    Args:
        header: all names.
        kind: "value" or "label".
        fix: what to do, where the header does not tell why.
        file: for the message.
    """
    found = f"no {kind} column in the header ({some_of(header)})"
    capitals = [name for name in header if name.startswith("X" if kind == "value" else "Y")]
    if header and sum(map(is_number, header)) > len(header) / 2:
        found = f"numbers in place of column names ({some_of(header)})"
        fix = "write the names as the first line of the file, such as y,x_1,x_2"
    elif capitals:
        others = [name for name in header if name.startswith("Y")] if kind == "value" else []
        renames = [f"{name} to {name[0].lower()}{name[1:]}" for name in [*capitals, *others]]
        fix = f"names are case-sensitive: rename {some_of(renames)}"
    return DataError(found, fix, file=file)


def some_of(names: Sequence[str]) -> str:
    """A few of many names: the first, the last, and how many."""
    if len(names) <= 6:
        return ", ".join(names) or "nothing"
    return f"{names[0]}, {names[1]}, ... {names[-1]} ({len(names)} in all)"
