"""What training takes, but may not be meant."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lstmfcn.cells import MISSING_TEXTS, Place
from lstmfcn.channels import names_without_numbers, timepoints_out_of_order
from lstmfcn.check.duplicates import Pairs, Series
from lstmfcn.check.examination import Examined
from lstmfcn.check.row_statistics import N_MAGNITUDES, Largest
from lstmfcn.column_names import odd_labels, some_of
from lstmfcn.counts import number
from lstmfcn.schema import SeriesSchema

FEW_ROWS = 5
"""A class with fewer is told: of four rows, a validation set of a fifth holds none."""

UNEVEN = 10
"""A class with so many times the rows of another is told."""

_FAR_EXPONENTS = 8
"""Between 2^7 and 2^9 times as large: 999 among values around 1. None of 24 sets of the UCR archive
has such a training value."""

_PLACES = 3
"""Examples of a suspicion."""


class Suspicion(NamedTuple):
    """Something to look at.

    Attributes:
        kind: a name for programs.
        found: what stands there.
        advice: what to do about it, if it is not meant.
        n: how many rows, columns, values or classes.
        places: some of them.
    """

    kind: str
    found: str
    advice: str
    n: int
    places: list[str]

    def __str__(self) -> str:
        return f"{self.found}; {self.advice}"


def suspicions(training: Examined, validation: Examined | None) -> list[Suspicion]:
    """All of them; none of data whose headers make no schema."""
    if training.schema is None or not training.n_rows:
        return []
    found = [
        *_of_columns(training.schema),
        *_of_classes(training, validation),
        *_of_duplicates(training, validation),
        *_of_values(training, training.schema, "training"),
    ]
    if validation and validation.n_rows:
        found += _of_values(validation, training.schema, "validation")
    return found


def _of_columns(schema: SeriesSchema) -> Iterator[Suspicion]:
    """Names of columns that may say something else than how they are read."""
    if pair := timepoints_out_of_order(schema.value_columns):
        yield Suspicion(
            "column_order",
            f"the column {pair[0]} before {pair[1]}: columns stay in the order of the header, not "
            "in that of their numbers",
            "write them in order of time",
            2,
            [],
        )
    if free := names_without_numbers(schema.value_columns):
        yield Suspicion(
            "names_without_numbers",
            f"{number(len(free), 'value column')} without a number in the name: {some_of(free)}; "
            "they are read as one channel, in the order of the header",
            "rename what is no value, so that it does not start with x",
            len(free),
            [],
        )
    if odd := odd_labels(schema.label_columns):
        yield Suspicion(
            "odd_labels",
            f"the {'label' if len(odd) == 1 else 'labels'} {some_of(odd)}, by a name that starts "
            "with y",
            "rename what is no label",
            len(odd),
            [],
        )


def _of_classes(training: Examined, validation: Examined | None) -> Iterator[Suspicion]:
    counts = training.class_counts()
    few = [f"{name} ({n})" for name, n in counts.items() if 0 < n < FEW_ROWS]
    if few:
        yield Suspicion(
            "few_rows",
            f"{number(len(few), 'class', 'classes')} with fewer than {FEW_ROWS} training rows: "
            f"{some_of(few)}",
            "add rows of them, or join classes",
            len(few),
            [],
        )
    present = {name: n for name, n in counts.items() if n}
    if present:
        most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        if present[most] >= UNEVEN * present[least]:
            yield Suspicion(
                "uneven_classes",
                f"{present[most] // present[least]} times as many training rows of the class "
                f"{most} as of {least}",
                "--class-weight sqrt or balanced gives rare classes more say",
                2,
                [],
            )
    yield from _of_names(list(counts))
    if missing := [f"{name} ({n})" for name, n in present.items() if name in MISSING_TEXTS]:
        yield Suspicion(
            "missing_names",
            f"{number(len(missing), 'class', 'classes')} whose name often stands for a missing "
            f"label: {some_of(missing)}",
            "without --missing-labels name such rows are refused",
            len(missing),
            [],
        )
    if validation and validation.n_rows:
        held_out = validation.class_counts()
        if absent := [name for name in present if not held_out.get(name)]:
            yield Suspicion(
                "not_validated",
                f"no validation row of the class {some_of(absent)}",
                "validation says nothing about it; add rows",
                len(absent),
                [],
            )


def _of_names(names: Sequence[str]) -> Iterator[Suspicion]:
    """Class names that differ in capitals, blanks, zeros before a number or forms of letters."""
    alike: dict[str, list[str]] = {}
    for name in names:
        plain = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        alike.setdefault(plain.lstrip("0") if plain.isdecimal() else plain, []).append(name)
    for group in alike.values():
        if len(group) > 1:
            yield Suspicion(
                "names_alike",
                f"classes whose names are almost the same: {some_of(group)}",
                "write one name if they are one class",
                len(group),
                [],
            )


def _of_duplicates(training: Examined, validation: Examined | None) -> Iterator[Suspicion]:
    code_of: dict[tuple[str, ...], int] = {}
    rows = Series(training, code_of)
    repeats, other = rows.repeats(), rows.contradictions()
    if len(repeats.rows):
        yield Suspicion(
            "duplicates",
            f"{number(len(repeats.rows), 'training row')} with the series and class of an "
            "earlier one",
            "--fix --drop-duplicates leaves them out",
            len(repeats.rows),
            _pairs(repeats, rows, rows),
        )
    if len(other.rows):
        yield Suspicion(
            "contradictions",
            f"{number(len(other.rows), 'training row')} with the series of an earlier one, but "
            "another class",
            "correct one of the two",
            len(other.rows),
            _pairs(other, rows, rows),
        )
    if validation and validation.n_rows:
        held_out = Series(validation, code_of)
        shared = held_out.shared_with(rows)
        if len(shared.rows):
            differ = int((held_out.codes[shared.rows] != rows.codes[shared.equals]).sum())
            other_class = f", {differ:,} with another class" if differ else ""
            yield Suspicion(
                "shared_rows",
                f"{number(len(shared.rows), 'validation row')} of {len(held_out.hashes):,} with "
                f"the series of a training row{other_class}",
                "validation would flatter the model; --fix --drop-shared leaves those training "
                "rows out",
                len(shared.rows),
                _pairs(shared, held_out, rows),
            )


def _pairs(pairs: Pairs, rows: Series, others: Series) -> list[str]:
    examples = zip(pairs.rows[:_PLACES].tolist(), pairs.equals[:_PLACES].tolist(), strict=True)
    return [f"{rows.place(row)}, as {others.place(other)}" for row, other in examples]


def _of_values(examined: Examined, schema: SeriesSchema, which: str) -> Iterator[Suspicion]:
    yield from _constant_series(examined, which)
    low = np.fmin.reduce([rows.low for rows in examined.statistics])
    high = np.fmax.reduce([rows.high for rows in examined.statistics])
    n_rows = examined.n_rows - examined.n_broken
    columns = np.array(schema.value_columns)
    same, empty = columns[low == high].tolist(), columns[np.isnan(low)].tolist()
    if same and n_rows > 1 and which == "training":
        yield Suspicion(
            "constant_columns",
            f"{number(len(same), 'column')} with one value in all training rows: {some_of(same)}",
            "see whether they were filled",
            len(same),
            [],
        )
    if empty and n_rows:
        yield Suspicion(
            "empty_columns",
            f"{number(len(empty), 'column')} without any value in the {which} data: "
            f"{some_of(empty)}",
            "see whether they were filled",
            len(empty),
            [],
        )
    yield from _extremes(examined, schema, which)


def _constant_series(examined: Examined, which: str) -> Iterator[Suspicion]:
    places = [
        Place(shard.shard.path, shard.row_of(row))
        for shard in examined.shards
        if shard.statistics
        for row in shard.statistics.constant
    ]
    n = sum(rows.n_constant for rows in examined.statistics)
    if n:
        yield Suspicion(
            "constant_series",
            f"{number(n, f'{which} row')} with one value at all timepoints",
            "see whether something was measured",
            n,
            [str(place) for place in places[:_PLACES]],
        )


def _extremes(examined: Examined, schema: SeriesSchema, which: str) -> Iterator[Suspicion]:
    """Values far larger than the median of their channel, zeros left out."""
    counts = np.sum([rows.magnitudes for rows in examined.statistics], axis=0)
    n, examples = 0, []
    for channel in range(schema.n_channels):
        below = np.cumsum(counts[channel])
        median = int(np.searchsorted(below, (below[-1] + 1) // 2))
        far = int(below[-1] - below[min(median + _FAR_EXPONENTS, N_MAGNITUDES) - 1])
        if far:
            n += far
            examples.append(_largest(examined, channel))
    if n:
        yield Suspicion(
            "extreme_values",
            f"{number(n, 'value')} of the {which} data more than {2 ** (_FAR_EXPONENTS - 1)} "
            "times as large as the median of their channel",
            "a missing value is an empty cell, with --missing mask",
            n,
            examples[:_PLACES],
        )


def _largest(examined: Examined, channel: int) -> str:
    found = [
        (shard.statistics.largest[channel], shard.shard.path)
        for shard in examined.shards
        if shard.statistics
    ]
    largest, file = max(found, key=_magnitude)
    return f"{file}, row {largest.row}, column {largest.column}: {largest.value:g}"


def _magnitude(found: tuple[Largest, str]) -> float:
    return abs(found[0].value)
