"""Read .arff files, the format of Weka, as in the UCR/UEA archive.

There is one series per row. The values of a single channel are numeric attributes; several channels
are one relational attribute, whose cell has one line of values for each channel. The class is the
nominal attribute. Names and cells may be quoted; % starts a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from lstmfcn.console import pluralize
from lstmfcn.convert.series import ConvertRequest, ReadSeries, Series, read_lines
from lstmfcn.data.columns import abbreviate
from lstmfcn.data.shards import Shard
from lstmfcn.data.table import class_name
from lstmfcn.errors import DataError

_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_CELL = re.compile(rf"\s*({_QUOTED}|[^,]*?)\s*(?:,|$)")
_ATTRIBUTE = re.compile(rf"@attribute\s+({_QUOTED}|\S+)\s+(.+)", re.IGNORECASE)
_NUMBERS = ("numeric", "real", "integer")


class _Attribute(NamedTuple):
    """A column: its name and type (numeric, relational, nominal or the name of another type)."""

    name: str
    kind: str
    classes: tuple[str, ...] = ()


class _Form(NamedTuple):
    """The attribute of each cell, the index of the class, and whether one cell has all values."""

    attributes: list[_Attribute]
    label: int | None
    is_relational: bool


def read_arff(shard: Shard, request: ConvertRequest) -> ReadSeries:
    """Read the series of an .arff file; attributes or rows that do not fit raise `DataError`."""
    return partial(_iterate, shard, request)


def _iterate(shard: Shard, request: ConvertRequest) -> Iterator[Series]:
    lines = (line for line in read_lines(shard) if line and not line.startswith("%"))
    form = _find_form(_read_attributes(lines, shard.path), request, shard.path)
    for row, line in enumerate(lines, start=1):
        is_sparse = line.startswith("{")
        cells = [] if is_sparse else _split_cells(line)
        if len(cells) != len(form.attributes):
            raise DataError(
                "a sparse row" if is_sparse else pluralize(len(cells), "cell"),
                f"write {pluralize(len(form.attributes), 'cell')}, one for each attribute",
                file=shard.path,
                row=row,
            )
        label = None if form.label is None else cells.pop(form.label)
        if form.label is not None and label not in ("", "?"):
            _refuse_unlisted(form.attributes[form.label], str(label), shard.path, row)
        parts = cells[0].split("\n") if form.is_relational else []
        channels = [_split_cells(part) for part in parts] or [cells]
        yield Series(row, None if request.label == "none" else label, channels)


def _read_attributes(lines: Iterator[str], file: str) -> list[_Attribute]:
    """Read the attributes, up to the line @data."""
    attributes: list[_Attribute] = []
    relational: list[_Attribute] | None = None
    for line in lines:
        word = line.split()[0].lower()
        if word == "@data":
            return attributes
        if word == "@end":
            relational = None
        elif word == "@attribute" and (match := _ATTRIBUTE.fullmatch(line)):
            attribute = _parse_attribute(_unquote(match[1]), match[2])
            (attributes if relational is None else relational).append(attribute)
            if attribute.kind == "relational":
                relational = []
        elif word != "@relation":
            raise DataError(
                f"{line[:40]!r} before the line @data",
                "use @relation and @attribute NAME TYPE there, and start comments with %",
                file=file,
            )
    raise DataError("no line @data", "give a file in Weka's .arff format", file=file)


def _parse_attribute(name: str, kind: str) -> _Attribute:
    if kind.startswith("{"):
        classes = tuple(class_name(text) for text in _split_cells(kind.strip("{} \t")))
        return _Attribute(name, "nominal", classes)
    kind = kind.lower().split()[0]
    return _Attribute(name, "numeric" if kind in _NUMBERS else kind)


def _find_form(attributes: list[_Attribute], request: ConvertRequest, file: str) -> _Form:
    label = _find_label(attributes, request, file)
    values = [attribute for i, attribute in enumerate(attributes) if i != label]
    is_relational = [attribute.kind for attribute in values] == ["relational"]
    others = [attribute.name for attribute in values if attribute.kind != "numeric"]
    if others and not is_relational:
        raise DataError(
            f"the attribute {abbreviate(others)} among the values, which is not numeric",
            "remove it from the file",
            file=file,
        )
    return _Form(attributes, label, is_relational)


def _find_label(attributes: list[_Attribute], request: ConvertRequest, file: str) -> int | None:
    if request.label in ("first", "last") and attributes:
        return 0 if request.label == "first" else len(attributes) - 1
    nominal = [i for i, attribute in enumerate(attributes) if attribute.kind == "nominal"]
    if len(nominal) == 1:
        return nominal[0]
    if request.label == "none" and not nominal:
        return None
    names = [attributes[i].name for i in nominal]
    raise DataError(
        f"{pluralize(len(names), 'nominal attribute')}"
        + (f" ({abbreviate(names)})" if names else ""),
        "one must be the class: choose it with --label first or last, or use --label none if "
        "there is no class",
        file=file,
    )


def _refuse_unlisted(attribute: _Attribute, label: str, file: str, row: int) -> None:
    if attribute.classes and class_name(label) not in attribute.classes:
        raise DataError(
            f"the class {label!r}",
            f"the header lists {abbreviate(attribute.classes)}; correct one of the two",
            file=file,
            row=row,
        )


def _split_cells(line: str) -> list[str]:
    """Split a line into cells without quotes."""
    if "'" not in line and '"' not in line:
        return [cell.strip() for cell in line.split(",")]
    cells, end = [], 0
    for match in _CELL.finditer(line):
        if match.start() != end:
            break
        cells.append(_unquote(match[1]))
        end = match.end()
        if not match[0].endswith(","):
            break
    return cells


def _unquote(text: str) -> str:
    r"""Remove the quotes of a name or cell; within quotes ``\n`` is a line break."""
    if text[:1] not in ("'", '"') or len(text) < 2:
        return text
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text[1:-1])
