"""Files of Weka's .arff format, as the UCR/UEA archive has them.

A row a series: the values of a single channel are numeric attributes, those of several one
relational attribute, whose cell holds a line of values for each channel. The class is the nominal
attribute. Names and cells may be quoted; % begins a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from lstmfcn.cells import class_name
from lstmfcn.column_names import some_of
from lstmfcn.convert.series import Rereadable, Series, Wanted, lines_of
from lstmfcn.counts import number
from lstmfcn.errors import DataError
from lstmfcn.shards import Shard

_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_CELL = re.compile(rf"\s*({_QUOTED}|[^,]*?)\s*(?:,|$)")
_ATTRIBUTE = re.compile(rf"@attribute\s+({_QUOTED}|\S+)\s+(.+)", re.IGNORECASE)
_NUMBERS = ("numeric", "real", "integer")


class _Attribute(NamedTuple):
    """A column: its name, and its type: numeric, relational, nominal, or the name of another."""

    name: str
    kind: str
    classes: tuple[str, ...] = ()


class _Form(NamedTuple):
    """What a file's columns are.

    Attributes:
        attributes: of each cell of a row.
        label: which of them is the class; None where none is.
        is_relational: whether all values of a row stand in one cell.
    """

    attributes: list[_Attribute]
    label: int | None
    is_relational: bool


def read_arff(shard: Shard, wanted: Wanted) -> Rereadable:
    """The series of an .arff file.

    Raises:
        DataError: its attributes are not values and a class, or a row does not fit them.
    """
    return Rereadable(lambda: _series(shard, wanted))


def _series(shard: Shard, wanted: Wanted) -> Iterator[Series]:
    lines = (line for line in lines_of(shard) if line and not line.startswith("%"))
    form = _form(_attributes(lines, shard.path), wanted, shard.path)
    n_attributes = number(len(form.attributes), "attribute")
    for row, line in enumerate(lines, start=1):
        cells = [] if line.startswith("{") else _cells(line)
        if len(cells) != len(form.attributes):
            raise DataError(
                number(len(cells), "cell") if cells else "a sparse row",
                f"write the cells of all {n_attributes}",
                file=shard.path,
                row=row,
            )
        label = None if form.label is None else cells.pop(form.label)
        if form.label is not None and label not in ("", "?"):
            _refuse_unlisted(form.attributes[form.label], str(label), shard.path, row)
        parts = cells[0].split("\n") if form.is_relational else []
        channels = [_cells(part) for part in parts] or [cells]
        yield Series(row, None if wanted.label == "none" else label, channels)


def _attributes(lines: Iterator[str], file: str) -> list[_Attribute]:
    """The columns, and the lines moved on behind @data."""
    attributes: list[_Attribute] = []
    within: list[_Attribute] | None = None
    for line in lines:
        word = line.split()[0].lower()
        if word == "@data":
            return attributes
        if word == "@end":
            within = None
        elif word == "@attribute" and (found := _ATTRIBUTE.fullmatch(line)):
            attribute = _attribute(_unquoted(found[1]), found[2])
            (attributes if within is None else within).append(attribute)
            if attribute.kind == "relational":
                within = []
        elif word != "@relation":
            raise DataError(
                f"{line[:40]!r} before the line @data",
                "write @relation, @attribute NAME TYPE, or begin a comment with %",
                file=file,
            )
    raise DataError("no line @data", "name a file in Weka's .arff format", file=file)


def _attribute(name: str, kind: str) -> _Attribute:
    if kind.startswith("{"):
        classes = tuple(class_name(text) for text in _cells(kind.strip("{} \t")))
        return _Attribute(name, "nominal", classes)
    kind = kind.lower().split()[0]
    return _Attribute(name, "numeric" if kind in _NUMBERS else kind)


def _form(attributes: list[_Attribute], wanted: Wanted, file: str) -> _Form:
    label = _label(attributes, wanted, file)
    values = [attribute for i, attribute in enumerate(attributes) if i != label]
    is_relational = [attribute.kind for attribute in values] == ["relational"]
    others = [attribute.name for attribute in values if attribute.kind != "numeric"]
    if others and not is_relational:
        raise DataError(
            f"the attribute {some_of(others)}, which holds no numbers, among the values",
            "leave it out of the file",
            file=file,
        )
    return _Form(attributes, label, is_relational)


def _label(attributes: list[_Attribute], wanted: Wanted, file: str) -> int | None:
    if wanted.label in ("first", "last") and attributes:
        return 0 if wanted.label == "first" else len(attributes) - 1
    nominal = [i for i, attribute in enumerate(attributes) if attribute.kind == "nominal"]
    if len(nominal) == 1:
        return nominal[0]
    if wanted.label == "none" and not nominal:
        return None
    names = [attributes[i].name for i in nominal]
    raise DataError(
        f"{number(len(names), 'nominal attribute')}" + (f" ({some_of(names)})" if names else ""),
        "one must be the class: --label first or last says which attribute is; --label none that "
        "there is none",
        file=file,
    )


def _refuse_unlisted(attribute: _Attribute, label: str, file: str, row: int) -> None:
    if attribute.classes and class_name(label) not in attribute.classes:
        raise DataError(
            f"the class {label!r}",
            f"the header lists {some_of(attribute.classes)}; correct one of the two",
            file=file,
            row=row,
        )


def _cells(line: str) -> list[str]:
    """The cells of a line, without their quotes."""
    if "'" not in line and '"' not in line:
        return [cell.strip() for cell in line.split(",")]
    cells, place = [], 0
    for found in _CELL.finditer(line):
        if found.start() != place:
            break
        cells.append(_unquoted(found[1]))
        place = found.end()
        if not found[0].endswith(","):
            break
    return cells


def _unquoted(text: str) -> str:
    r"""A name or cell without its quotes; within them ``\n`` ends a line."""
    if text[:1] not in ("'", '"') or len(text) < 2:
        return text
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text[1:-1])
