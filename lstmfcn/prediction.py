"""Predict one shard, or explain its predictions: rows in, one CSV out, in the same order.

The same code runs here and inside Ray, so both write the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lstmfcn.cells import Array, FloatArray, Source
from lstmfcn.classifier import Classifier, chunk_rows
from lstmfcn.errors import DataError
from lstmfcn.explanation import Explanation, explained_outputs
from lstmfcn.files import whole_file
from lstmfcn.kept_columns import kept_names, kept_texts
from lstmfcn.reading import read_header_for, read_tables
from lstmfcn.schema import SeriesSchema
from lstmfcn.shard_writing import opened_csv
from lstmfcn.shards import Shard

_OTHER_SUFFIX = re.compile(
    r"(.+)\.(?:parquet|parq|pq|tsv(?:(\.gz)|\.bz2|\.xz|\.zst)?|csv\.(?:bz2|xz|zst))",
    re.IGNORECASE,
)
"""Suffixes of shards that a CSV file, packed by gzip or not, has not."""


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
    for table, source in read_tables(shard, schema, labels, read_header_for(shard, schema), others):
        values = schema.encode_values(table, source)
        targets = schema.encode_labels(table, source) if labels else None
        texts = kept_texts(schema, table, others)
        yield Predicted(classifier.predict_proba(values, source), targets, texts)


def output_name(shard: Shard) -> str:
    """The name of a shard's prediction file: its own, with .csv for .parquet, .tsv, .csv.xz, ..."""
    found = _OTHER_SUFFIX.fullmatch(shard.name)
    return f"{found[1]}.csv{found[2] or ''}" if found else shard.name


def output_names(shards: Sequence[Shard]) -> list[str]:
    """Of each shard. Beside a.csv, a.parquet is predicted as a.parquet.csv."""
    names = [output_name(shard) for shard in shards]
    counts = Counter(names)
    return [
        f"{shard.name}.csv" if counts[name] > 1 and name != shard.name else name
        for name, shard in zip(names, shards, strict=True)
    ]


def predict_shard(
    classifier: Classifier, shard: Shard, output: Path, keep: Sequence[str] = ()
) -> int:
    """Write the predictions of one shard as a CSV file. Returns its number of rows.

    The header is the columns to keep (`kept_names`), the label columns, then the same with p for y;
    labels are 0 or 1. Where the model was trained on one column of class names: that column, then
    ``p_NAME`` for each class. The file appears whole or not at all, and is compressed where its
    name ends in .gz.

    Raises:
        DataError: the shard breaks the data contract. OutputError: the file cannot be written.
    """
    found = (
        (part.others, prediction_rows(classifier, part.probabilities))
        for part in predictions(classifier, shard, labels=False, others=keep)
    )
    schema = classifier.schema
    return _write(output, [*kept_names(schema, keep), *prediction_columns(schema)], found)


def explain_shard(
    classifier: Classifier, shard: Shard, output: Path, keep: Sequence[str] = ()
) -> int:
    """Write what explains one shard's predictions as a CSV file. Returns its number of rows.

    The header is the columns to keep, then `explanation_columns`. The file appears as that of
    `predict_shard` does. A few rows of all outputs are in memory at a time.

    Raises:
        DataError: the shard breaks the data contract. OutputError: the file cannot be written.
    """
    found = (
        (others, explanation_rows(classifier, explanation))
        for explanation, others in explanations(classifier, shard, keep)
    )
    schema = classifier.schema
    return _write(output, [*kept_names(schema, keep), *explanation_columns(schema)], found)


def explanations(
    classifier: Classifier, shard: Shard, others: Sequence[str] = ()
) -> Iterator[tuple[Explanation, list[list[str]]]]:
    """Explanations of a shard's rows in their order, and the texts of other columns.

    Raises:
        DataError: the shard breaks the data contract or has other columns than the model.
    """
    schema, step = classifier.schema, chunk_rows(classifier.schema.n_values)
    for table, source in read_tables(shard, schema, False, read_header_for(shard, schema), others):
        values = schema.encode_values(table, source)
        texts = kept_texts(schema, table, others)
        for start in range(0, len(values), step):
            rows = slice(start, start + step)
            place = Source(source.file, source.rows_before + start)
            yield classifier.explain(values[rows], place), [column[rows] for column in texts]


def _write(
    output: Path, header: list[str], parts: Iterable[tuple[list[list[str]], list[list[str]]]]
) -> int:
    """Write a CSV file. Returns its number of rows.

    Args:
        parts: some rows each: columns that are kept, a list a column, and the rows beside them.
    """
    n_rows = 0
    with (
        whole_file(output) as unfinished,
        opened_csv(unfinished, "gzip" if output.suffix.lower() == ".gz" else "") as file,
    ):
        file.write(csv_line(header))
        for others, rows in parts:
            if others:
                rows = [[*kept, *row] for *kept, row in zip(*others, rows, strict=True)]
            file.writelines(map(csv_line, rows))
            n_rows += len(rows)
    return n_rows


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


def explanation_columns(schema: SeriesSchema) -> list[str]:
    """The columns of an explanation: the class or label that it is of, and the parts.

    ``bias``, ``lstm`` and ``t_1`` to ``t_T`` add up to the logit of the predicted class; for
    binary to the only logit, which is negative where no is predicted; for multilabel to that of
    the most probable label.
    """
    return ["explained", "bias", "lstm", *(f"t_{t + 1}" for t in range(schema.n_timepoints))]


def explanation_rows(classifier: Classifier, explanation: Explanation) -> list[list[str]]:
    """Explanations of N rows as text, a cell for each of `explanation_columns`.

    Numbers are written as those of `prediction_rows`.
    """
    outputs, n_rows = explained_outputs(classifier.schema), len(explanation.logits)
    chosen = np.zeros(n_rows, dtype=np.intp)
    if len(outputs) > 1:
        chosen = classifier.probabilities(explanation.logits).argmax(axis=1)
    each = np.arange(n_rows)
    before = [explanation.bias[chosen], explanation.lstm[each, chosen]]
    parts = np.column_stack([*before, explanation.timepoints[each, chosen]])
    return [[outputs[k], *map(str, row)] for k, row in zip(chosen, parts, strict=True)]


def csv_line(cells: Sequence[str]) -> str:
    """A line of CSV; cells are quoted where they must be."""
    return ",".join(map(_quoted, cells)) + "\n"


def _quoted(cell: str) -> str:
    if any(mark in cell for mark in ',"\r\n'):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def refuse_kept_twice(schema: SeriesSchema, keep: Sequence[str], explain: bool = False) -> None:
    """Refuse columns to keep that are values, or whose names a prediction file has already.

    Args:
        explain: whether names of an explanation's columns are refused too.

    Raises:
        DataError: names the first.
    """
    known = {*schema.value_columns, *prediction_columns(schema)}
    if explain:
        known.update(explanation_columns(schema))
    for name, written in zip(keep, kept_names(schema, keep), strict=True):
        if written in known:
            raise DataError(
                f"--keep-columns {name}",
                "name other columns than values and those that are predicted, each once",
            )
        known.add(written)
