"""Predict one shard: rows in, one CSV out, in the same order.

The same code runs here and inside Ray, so both write the same bytes.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import pandas as pd

from lstmfcn.classifier import Classifier
from lstmfcn.files import whole_file
from lstmfcn.reading import read_header, read_tables
from lstmfcn.schema import Array, FloatArray
from lstmfcn.shards import Shard


class Predicted(NamedTuple):
    """Probabilities, float32 (N, L), and, where asked for, encoded labels of the same rows."""

    probabilities: FloatArray
    labels: Array | None


def predictions(classifier: Classifier, shard: Shard, labels: bool) -> Iterator[Predicted]:
    """A shard's predictions in row order, a few thousand rows at a time.

    Raises:
        DataError: the shard breaks the data contract or has other columns than the model.
    """
    schema = classifier.schema
    for table, source in read_tables(shard, schema, labels, read_header(shard)):
        values = schema.encode_values(table, source)
        targets = schema.encode_labels(table, source) if labels else None
        yield Predicted(classifier.predict_proba(values, source), targets)


def output_name(shard: Shard) -> str:
    """The name of a shard's prediction file: its own, with .csv for .parquet."""
    return shard.name.removesuffix(".parquet") + ".csv" if shard.is_parquet else shard.name


def predict_shard(classifier: Classifier, shard: Shard, output: Path) -> int:
    """Write the predictions of one shard as a CSV file. Returns its number of rows.

    The header is the label columns, then the same with p for y; labels are 0 or 1. Where the model
    was trained on one column of class names: that column, then ``p_NAME`` for each class. The file
    appears whole or not at all, and is compressed where its name ends in .gz.

    Raises:
        DataError: the shard breaks the data contract. OutputError: the file cannot be written.
    """
    rows = 0
    with (
        whole_file(output) as unfinished,
        _opened(unfinished, compressed=output.name.endswith(".gz")) as file,
    ):
        for part in predictions(classifier, shard, labels=False):
            table = prediction_table(classifier, part.probabilities)
            table.to_csv(file, index=False, header=rows == 0, lineterminator="\n")
            rows += len(table)
    return rows


def prediction_table(classifier: Classifier, probabilities: FloatArray) -> pd.DataFrame:
    """Labels and probabilities as a prediction file shows them.

    Probabilities are written with the fewest digits that give back the same 32-bit number.
    """
    schema = classifier.schema
    if schema.holds_names:
        names = np.array(schema.classes)[probabilities.argmax(axis=1)]
        labels = pd.DataFrame({schema.label_columns[0]: names})
    else:
        decided = classifier.decide(probabilities)
        labels = pd.DataFrame(decided, columns=list(schema.label_columns))
    shares = pd.DataFrame(probabilities, columns=list(schema.probability_columns))
    return pd.concat([labels, shares], axis=1)


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
