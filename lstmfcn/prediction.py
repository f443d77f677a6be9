"""Predict one shard: rows in, one CSV out, in the same order.

The same code runs here and inside Ray, so both write the same bytes.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from lstmfcn.cells import Array, FloatArray
from lstmfcn.classifier import Classifier
from lstmfcn.errors import DataError
from lstmfcn.files import whole_file
from lstmfcn.reading import read_header, read_tables
from lstmfcn.schema import SeriesSchema
from lstmfcn.shards import Shard


class Predicted(NamedTuple):
    """Probabilities, float32 (N, L), and what else was asked for of the same rows.

    Attributes:
        labels: encoded.
        others: a list of N texts for each further column.
    """

    probabilities: FloatArray
    labels: Array | None
    others: list[list[str]]


def predictions(
    classifier: Classifier, shard: Shard, labels: bool, others: Sequence[str] = ()
) -> Iterator[Predicted]:
    """A shard's predictions in row order, a few thousand rows at a time.

    Args:
        labels: whether the shard has labels, and they are wanted.
        others: further columns of the shard, wanted as text.

    Raises:
        DataError: the shard breaks the data contract or has other columns than the model.
    """
    schema = classifier.schema
    for table, source in read_tables(shard, schema, labels, read_header(shard), others):
        values = schema.encode_values(table, source)
        targets = schema.encode_labels(table, source) if labels else None
        texts = [table[name].fill_null("").to_pylist() for name in others]
        yield Predicted(classifier.predict_proba(values, source), targets, texts)


def output_name(shard: Shard) -> str:
    """The name of a shard's prediction file: its own, with .csv for .parquet."""
    return shard.name.removesuffix(".parquet") + ".csv" if shard.is_parquet else shard.name


def predict_shard(
    classifier: Classifier, shard: Shard, output: Path, keep: Sequence[str] = ()
) -> int:
    """Write the predictions of one shard as a CSV file. Returns its number of rows.

    The header is the columns to keep, the label columns, then the same with p for y; labels are 0
    or 1. Where the model was trained on one column of class names: that column, then ``p_NAME`` for
    each class. The file appears whole or not at all, and is compressed where its name ends in .gz.

    Raises:
        DataError: the shard breaks the data contract. OutputError: the file cannot be written.
    """
    rows = 0
    with (
        whole_file(output) as unfinished,
        _opened(unfinished, compressed=output.name.endswith(".gz")) as file,
    ):
        file.write(csv_line([*keep, *prediction_columns(classifier.schema)]))
        for part in predictions(classifier, shard, labels=False, others=keep):
            found = prediction_rows(classifier, part.probabilities)
            if keep:
                found = [[*kept, *row] for *kept, row in zip(*part.others, found, strict=True)]
            file.writelines(map(csv_line, found))
            rows += len(part.probabilities)
    return rows


def prediction_columns(schema: SeriesSchema) -> list[str]:
    """The columns of a prediction: labels, then probabilities."""
    return [*schema.label_columns, *schema.probability_columns]


def prediction_rows(classifier: Classifier, probabilities: FloatArray) -> list[list[str]]:
    """Predictions (N, L) as text, a cell for each of `prediction_columns`.

    Labels are 0 or 1, or a class name. Probabilities have the fewest digits that give back the same
    32-bit number, in a form that is a number in JSON too.
    """
    schema = classifier.schema
    if schema.holds_names:
        labels = [[schema.classes[i]] for i in probabilities.argmax(axis=1).tolist()]
    else:
        labels = [list(map(str, row)) for row in classifier.decide(probabilities).tolist()]
    return [[*row, *map(str, shares)] for row, shares in zip(labels, probabilities, strict=True)]


def csv_line(cells: Sequence[str]) -> str:
    """A line of CSV; cells are quoted where they must be."""
    return ",".join(map(_quoted, cells)) + "\n"


def _quoted(cell: str) -> str:
    if any(mark in cell for mark in ',"\r\n'):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def refuse_kept_twice(schema: SeriesSchema, keep: Sequence[str]) -> None:
    """Refuse columns to keep that are values, are predicted anew, or are named twice.

    Raises:
        DataError: names the first.
    """
    known = {*schema.value_columns, *prediction_columns(schema)}
    for i, name in enumerate(keep):
        if name in known or name in keep[:i]:
            raise DataError(
                f"--keep-columns {name}",
                "name other columns than values and those that are predicted, each once",
            )


@contextmanager
def _opened(path: Path, compressed: bool) -> Iterator[TextIO]:
    """A new text file; gzip without a time stamp, so that equal content is equal bytes."""
    with path.open("wb") as file:
        if not compressed:
            with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
                yield text
            return
        with (
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
        ):
            yield text
