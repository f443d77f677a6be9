"""Predict or explain the rows of a shard, and write them to a CSV file in the same order.

Columns that the user keeps are copied as text. The same code runs with and without Ray, so both
write the same bytes.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from lstmfcn.console import Bar, pluralize
from lstmfcn.data.reader import read_header_for, read_tables
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.shards import Shard
from lstmfcn.data.table import Array, FloatArray, RowOrigin, class_name
from lstmfcn.data.writer import opened_csv
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import DeviceName
from lstmfcn.inference.explanation import Explanation, outputs_to_explain
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.storage.files import atomic_write
from lstmfcn.storage.outputs import whole_file
from lstmfcn.storage.places import Place

logger = logging.getLogger(__name__)


class PredictionBatch(NamedTuple):
    """Predictions of N rows.

    Attributes:
        probabilities: float32 (N, L).
        labels: encoded true labels, if requested.
        others: the requested further columns, each a list of N texts.
    """

    probabilities: FloatArray
    labels: Array | None
    others: list[list[str]]


def predict_batches(
    classifier: Classifier, shard: Shard, labels: bool, others: Sequence[str] = ()
) -> Iterator[PredictionBatch]:
    """Predict a shard in row order, a few thousand rows at a time.

    Args:
        others: further columns of the shard to read as text.

    Raises:
        DataError: the shard breaks the data contract or has other columns than the model.
    """
    schema = classifier.schema
    header, threads = read_header_for(shard, schema), torch.get_num_threads()
    for table, source in read_tables(shard, schema, labels, header, others, threads):
        values = schema.encode_values(table, source)
        targets = schema.encode_labels(table, source) if labels else None
        texts = read_kept_columns(schema, table, others)
        yield PredictionBatch(classifier.predict_proba(values, source), targets, texts)


class Predictor:
    """A model, and what is asked of it for each shard."""

    def __init__(self, artifact: Artifact, device: DeviceName = "auto") -> None:
        self._classifier = Classifier(artifact, device=device)

    def write(self, shard: Shard, output: Place, keep_columns: Sequence[str]) -> int:
        """Write one shard's predictions; returns the number of rows."""
        with whole_file(output) as path:
            return predict_shard(self._classifier, shard, path, keep_columns)

    def explain(self, shard: Shard, output: Place, keep_columns: Sequence[str]) -> int:
        """Write the explanations of one shard's predictions; returns the number of rows."""
        with whole_file(output) as path:
            return explain_shard(self._classifier, shard, path, keep_columns)

    def collect(self, shard: Shard) -> list[PredictionBatch]:
        """Return one shard's probabilities and labels."""
        return list(predict_batches(self._classifier, shard, labels=True))


def predict_shard(
    classifier: Classifier, shard: Shard, output: Path, keep: Sequence[str] = ()
) -> int:
    """Write the predictions of one shard as a CSV file; returns its number of rows.

    The header has the columns to keep (`name_kept_columns`), the label columns (0 or 1), and the
    probability columns, with p for y. If the model was trained on one column of class names, it has
    that column and ``p_NAME`` for each class. The file is written atomically, and compressed if its
    name ends in .gz.

    Raises:
        DataError: the shard breaks the data contract. OutputError: the file cannot be written.
    """
    parts = (
        (batch.others, format_predictions(classifier, batch.probabilities))
        for batch in predict_batches(classifier, shard, labels=False, others=keep)
    )
    schema = classifier.schema
    return _write(
        output, [*name_kept_columns(schema, keep), *list_prediction_columns(schema)], parts
    )


def explain_shard(
    classifier: Classifier, shard: Shard, output: Path, keep: Sequence[str] = ()
) -> int:
    """Write the explanations of one shard's predictions, as `predict_shard` writes predictions.

    The header has the columns to keep, then `list_explanation_columns`.
    """
    parts = (
        (others, format_explanations(classifier, explanation))
        for explanation, others in explain_batches(classifier, shard, keep)
    )
    schema = classifier.schema
    return _write(
        output, [*name_kept_columns(schema, keep), *list_explanation_columns(schema)], parts
    )


def explain_batches(
    classifier: Classifier, shard: Shard, others: Sequence[str] = ()
) -> Iterator[tuple[Explanation, list[list[str]]]]:
    """Explain a shard in row order, a few rows at a time; also yields the texts of other columns.

    Raises:
        DataError: the shard breaks the data contract or has other columns than the model.
    """
    schema, step = classifier.schema, classifier.chunk_rows
    header, threads = read_header_for(shard, schema), torch.get_num_threads()
    for table, source in read_tables(shard, schema, False, header, others, threads):
        values = schema.encode_values(table, source)
        texts = read_kept_columns(schema, table, others)
        for start in range(0, len(values), step):
            rows = slice(start, start + step)
            place = RowOrigin(source.file, source.rows_before + start)
            yield classifier.explain(values[rows], place), [column[rows] for column in texts]


def _write(
    output: Path, header: list[str], parts: Iterable[tuple[list[list[str]], list[list[str]]]]
) -> int:
    """Write a CSV file of kept columns and rows of other cells; returns its number of rows."""
    n_rows = 0
    with (
        atomic_write(output) as unfinished,
        opened_csv(unfinished, "gzip" if output.suffix.lower() == ".gz" else "") as file,
    ):
        file.write(csv_line(header))
        for others, rows in parts:
            if others:
                rows = [[*kept, *row] for *kept, row in zip(*others, rows, strict=True)]
            file.writelines(map(csv_line, rows))
            n_rows += len(rows)
    return n_rows


def list_prediction_columns(schema: SeriesSchema) -> list[str]:
    """List the columns of a prediction: labels, then probabilities."""
    return [*schema.label_columns, *schema.probability_columns]


def format_predictions(classifier: Classifier, probabilities: FloatArray) -> list[list[str]]:
    """Format predictions (N, L) as rows of text, one cell per column of `list_prediction_columns`.

    Labels are 0 or 1, or a class name. Probabilities have the fewest digits from which the same
    32-bit number can be read back; the text is also a valid JSON number.
    """
    schema = classifier.schema
    if schema.holds_names:
        labels = [[schema.classes[i]] for i in probabilities.argmax(axis=1).tolist()]
    else:
        labels = [list(map(str, row)) for row in classifier.predict_labels(probabilities).tolist()]
    return [[*row, *map(str, floats)] for row, floats in zip(labels, probabilities, strict=True)]


def list_explanation_columns(schema: SeriesSchema) -> list[str]:
    """List the columns of an explanation: the class or label that it explains, and the terms.

    ``bias``, ``lstm`` and ``t_1`` to ``t_T`` add up to the logit of the predicted class; for binary
    to the only logit, which is negative if no is predicted; for multilabel to that of the most
    probable label.
    """
    return ["explained", "bias", "lstm", *(f"t_{t + 1}" for t in range(schema.n_timepoints))]


def format_explanations(classifier: Classifier, explanation: Explanation) -> list[list[str]]:
    """Format explanations of N rows as text, one cell per column of `list_explanation_columns`.

    Numbers are written as in `format_predictions`.
    """
    outputs, n_rows = outputs_to_explain(classifier.schema), len(explanation.logits)
    chosen = np.zeros(n_rows, dtype=np.intp)
    if len(outputs) > 1:
        chosen = classifier.probabilities(explanation.logits).argmax(axis=1)
    rows = np.arange(n_rows)
    bias_and_lstm = [explanation.bias[chosen], explanation.lstm[rows, chosen]]
    terms = np.column_stack([*bias_and_lstm, explanation.timepoints[rows, chosen]])
    return [[outputs[k], *map(str, row)] for k, row in zip(chosen, terms, strict=True)]


def csv_line(cells: Sequence[str]) -> str:
    """Format a line of CSV; quote cells only where necessary."""
    return ",".join(map(_quote, cells)) + "\n"


def _quote(cell: str) -> str:
    if any(mark in cell for mark in ',"\r\n'):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def validate_keep_columns(schema: SeriesSchema, keep: Sequence[str], explain: bool = False) -> None:
    """Check that the columns to keep are not values and have names of their own in the output.

    Args:
        explain: whether explanations are written too, whose column names are then taken.

    Raises:
        DataError: names the first invalid column.
    """
    taken = {*schema.value_columns, *list_prediction_columns(schema)}
    if explain:
        taken.update(list_explanation_columns(schema))
    for name, output_column in zip(keep, name_kept_columns(schema, keep), strict=True):
        if output_column in taken:
            raise DataError(
                f"--keep-columns {name}",
                "name each column once, and only columns that are neither values nor predicted",
            )
        taken.add(output_column)


class ShardProgress(Bar):
    """Logs how many shards are processed; draws a bar with the finished ones and the speed.

    Args:
        doing: names the work, such as ``predicting``.
        explains: number of shards that are explained too.
    """

    def __init__(self, doing: str, n_shards: int, explains: int = 0) -> None:
        also = f", explaining {explains:,}" if explains else ""
        logger.info("%s %s%s", doing, pluralize(n_shards, "shard"), also)
        super().__init__("file" if explains else "shard", n_shards + explains)
        self._began = time.monotonic()
        self._shards, self._rows = Counter[bool](), Counter[bool]()  # by whether explained

    def ended(self, rows: int, explained: bool = False) -> None:
        """A shard of so many rows has been predicted, or explained."""
        self._shards[explained] += 1
        self._rows[explained] += rows
        speed = self._rows.total() / (time.monotonic() - self._began)
        self.draw(f"{speed:,.0f} rows/s", self._shards.total())

    def log_speed(self) -> None:
        """Log how many rows of how many shards were predicted, and explained, in a second."""
        seconds = time.monotonic() - self._began
        for explained, n_shards in sorted(self._shards.items()):
            logger.info(
                "%s %s of %s in %.1f s, %s rows/s",
                "explained" if explained else "predicted",
                pluralize(self._rows[explained], "row"),
                pluralize(n_shards, "shard"),
                seconds,
                f"{self._rows[explained] / seconds:,.0f}",
            )


def name_kept_columns(schema: SeriesSchema, keep: Sequence[str]) -> list[str]:
    """Name the kept columns in a prediction file: true labels get the suffix ``_true``."""
    return [f"{name}_true" if name in schema.label_columns else name for name in keep]


def read_kept_columns(
    schema: SeriesSchema, table: pa.Table, keep: Sequence[str]
) -> list[list[str]]:
    """Read the kept columns as text, one list per column.

    Labels that are numbers are written as class names (``1`` for 1.0); see `to_texts` for others.
    """
    texts = [to_texts(table[name]) for name in keep]
    return [
        list(map(class_name, cells)) if name in schema.label_columns else cells
        for name, cells in zip(keep, texts, strict=True)
    ]


def to_texts(column: pa.ChunkedArray) -> list[str]:
    """Convert cells of any type to text as pandas writes them to CSV; missing cells become empty.

    Unlike in pandas, a timestamp at midnight always keeps its time, and UTF-8 bytes become text.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_floating(kind):  # numpy writes a float32 with fewer digits than Python
        numbers = column.to_numpy()
        return ["" if np.isnan(number) else str(number) for number in numbers]
    try:
        return list(map(_text, column.to_pylist()))
    except (OverflowError, ValueError):  # a date outside Python's calendar
        return column.cast(pa.string()).fill_null("").to_pylist()  # type: ignore[no-any-return]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return str(value)
    if isinstance(value, datetime.timedelta):
        import pandas as pd  # takes half a second

        return str(pd.Timedelta(value))
    return str(value)
