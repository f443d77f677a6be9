"""Warn of data that training accepts, but that may not be intended."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

from lstmfcn.check.duplicates import Pairs, Series
from lstmfcn.check.raw_rows import read_cells
from lstmfcn.check.scan import DataScan
from lstmfcn.check.statistics import N_MAGNITUDES
from lstmfcn.console import pluralize
from lstmfcn.data.columns import DataWarning, abbreviate
from lstmfcn.data.reader import refuse_absent
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.table import MISSING_TEXTS, Place

FEW_ROWS = 5
"""Warn of classes with fewer rows: a validation set of a fifth may have none of four."""

UNEVEN = 10
"""Warn if a class has so many times the rows of another."""

_EXTREME_EXPONENTS = 8
"""Warn of values 2^7 to 2^9 times as large as usual, such as 999 among values around 1. None of 24
data sets of the UCR archive has such a training value."""

_MAX_PLACES = 3
"""Examples of each warning."""


def find_warnings(training: DataScan, validation: DataScan | None) -> list[DataWarning]:
    """All warnings; none if no header makes a schema."""
    if training.schema is None or not training.n_rows:
        return []
    warnings = [
        *training.schema.naming_warnings(),
        *_warn_of_classes(training, validation),
        *_warn_of_duplicates(training, validation),
        *_warn_of_values(training, training.schema, "training"),
    ]
    if validation and validation.n_rows:
        warnings += _warn_of_values(validation, training.schema, "validation")
    return warnings


def warn_of_groups(training: DataScan, validation: DataScan, column: str) -> Iterator[DataWarning]:
    """Warn of groups, such as patients, with rows on both sides.

    Raises:
        DataError: a shard does not have the column.
    """
    both = _groups(training, column) & _groups(validation, column)
    if both:
        shown = sorted(both)
        yield DataWarning(
            "shared_groups",
            f"{pluralize(len(both), 'group')} of the column {column} in training and validation "
            f"data: {abbreviate(shown)}",
            "rows of one group are alike, so the validation looks better than it is; keep a group "
            f"on one side (lstmfcn split --group-column {shlex.quote(column)})",
            len(both),
            shown[:_MAX_PLACES],
        )


def _groups(scan: DataScan, column: str) -> set[str]:
    """The texts of a column in all shards that can be read."""
    found: set[str] = set()
    for shard in scan.shards:
        if shard.statistics is not None:
            refuse_absent([column], shard.header, shard.shard)
            found.update(cell for (cell,) in read_cells(shard.shard, [column]))
    return found - {""}


def _warn_of_classes(training: DataScan, validation: DataScan | None) -> Iterator[DataWarning]:
    counts = training.class_counts()
    few = [f"{name} ({n})" for name, n in counts.items() if 0 < n < FEW_ROWS]
    if few:
        yield DataWarning(
            "few_rows",
            f"{pluralize(len(few), 'class', 'classes')} with fewer than {FEW_ROWS} training rows: "
            f"{abbreviate(few)}",
            "add rows of these classes or merge classes",
            len(few),
        )
    present = {name: n for name, n in counts.items() if n}
    if present:
        most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        if present[most] >= UNEVEN * present[least]:
            yield DataWarning(
                "uneven_classes",
                f"{present[most] // present[least]} times as many training rows of the class "
                f"{most} as of {least}",
                "--class-weight sqrt or balanced gives rare classes more weight",
                2,
            )
    yield from _warn_of_names(list(counts))
    if missing := [f"{name} ({n})" for name, n in present.items() if name in MISSING_TEXTS]:
        yield DataWarning(
            "missing_names",
            f"{pluralize(len(missing), 'class', 'classes')} whose name often stands for a missing "
            f"label: {abbreviate(missing)}",
            "without --missing-labels name, training refuses such rows",
            len(missing),
        )
    if validation and validation.n_rows:
        validation_counts = validation.class_counts()
        if absent := [name for name in present if not validation_counts.get(name)]:
            yield DataWarning(
                "not_validated",
                f"no validation row of the class {abbreviate(absent)}",
                "validation cannot measure it; add rows",
                len(absent),
            )


def _warn_of_names(names: Sequence[str]) -> Iterator[DataWarning]:
    """Warn of names that differ only in capitals, spaces, leading zeros or forms of letters."""
    alike: dict[str, list[str]] = {}
    for name in names:
        plain = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        alike.setdefault(plain.lstrip("0") if plain.isdecimal() else plain, []).append(name)
    for group in alike.values():
        if len(group) > 1:
            yield DataWarning(
                "names_alike",
                f"classes whose names are almost the same: {abbreviate(group)}",
                "use one name if they are the same class",
                len(group),
            )


def _warn_of_duplicates(training: DataScan, validation: DataScan | None) -> Iterator[DataWarning]:
    class_codes: dict[tuple[str, ...], int] = {}
    rows = Series(training, class_codes)
    repeats, contradictions = rows.repeats(), rows.contradictions()
    if len(repeats.rows):
        yield DataWarning(
            "duplicates",
            f"{pluralize(len(repeats.rows), 'training row')} with the same series and class as "
            "an earlier row",
            "--fix --drop-duplicates removes them",
            len(repeats.rows),
            _describe_pairs(repeats, rows, rows),
        )
    if len(contradictions.rows):
        yield DataWarning(
            "contradictions",
            f"{pluralize(len(contradictions.rows), 'training row')} with the same series as an "
            "earlier row, but another class",
            "correct one of the two",
            len(contradictions.rows),
            _describe_pairs(contradictions, rows, rows),
        )
    if validation and validation.n_rows:
        validation_rows = Series(validation, class_codes)
        shared = validation_rows.shared_with(rows)
        if len(shared.rows):
            differ = int((validation_rows.codes[shared.rows] != rows.codes[shared.equals]).sum())
            other_class = f", {differ:,} with another class" if differ else ""
            yield DataWarning(
                "shared_rows",
                f"{len(shared.rows):,} of "
                f"{pluralize(len(validation_rows.hashes), 'validation row')}"
                f" with the same series as a training row{other_class}",
                "validation results would look too good; --fix --drop-shared removes these "
                "training rows",
                len(shared.rows),
                _describe_pairs(shared, validation_rows, rows),
            )


def _describe_pairs(pairs: Pairs, rows: Series, others: Series) -> list[str]:
    """Say where some rows are, and which rows they are equal to."""
    examples = zip(
        pairs.rows[:_MAX_PLACES].tolist(), pairs.equals[:_MAX_PLACES].tolist(), strict=True
    )
    return [f"{rows.place(row)}, same as {others.place(other)}" for row, other in examples]


def _warn_of_values(scan: DataScan, schema: SeriesSchema, which: str) -> Iterator[DataWarning]:
    yield from _warn_of_constant_series(scan, which)
    low = np.fmin.reduce([rows.low for rows in scan.statistics])
    high = np.fmax.reduce([rows.high for rows in scan.statistics])
    n_rows = scan.n_rows - scan.n_broken
    columns = np.array(schema.value_columns)
    same, empty = columns[low == high].tolist(), columns[np.isnan(low)].tolist()
    if same and n_rows > 1 and which == "training":
        yield DataWarning(
            "constant_columns",
            f"{pluralize(len(same), 'column')} with one value in all training rows: "
            f"{abbreviate(same)}",
            "check that they contain measurements",
            len(same),
        )
    if empty and n_rows:
        yield DataWarning(
            "empty_columns",
            f"{pluralize(len(empty), 'column')} without any value in the {which} data: "
            f"{abbreviate(empty)}",
            "check that they contain measurements",
            len(empty),
        )
    yield from _warn_of_extremes(scan, schema, which)


def _warn_of_constant_series(scan: DataScan, which: str) -> Iterator[DataWarning]:
    places = [
        Place(shard.shard.path, shard.row_number(row))
        for shard in scan.shards
        if shard.statistics
        for row in shard.statistics.constant
    ]
    n = sum(rows.n_constant for rows in scan.statistics)
    if n:
        yield DataWarning(
            "constant_series",
            f"{pluralize(n, f'{which} row')} with one value at all timepoints",
            "check that something was measured",
            n,
            [str(place) for place in places[:_MAX_PLACES]],
        )


def _warn_of_extremes(scan: DataScan, schema: SeriesSchema, which: str) -> Iterator[DataWarning]:
    """Warn of values far larger than the median of their channel; zeros are left out."""
    counts = np.sum([rows.magnitudes for rows in scan.statistics], axis=0)
    n, examples = 0, []
    for channel in range(schema.n_channels):
        n_up_to = np.cumsum(counts[channel])
        median = int(np.searchsorted(n_up_to, (n_up_to[-1] + 1) // 2))
        n_extreme = int(n_up_to[-1] - n_up_to[min(median + _EXTREME_EXPONENTS, N_MAGNITUDES) - 1])
        if n_extreme:
            n += n_extreme
            examples.append(_describe_largest(scan, channel))
    if n:
        yield DataWarning(
            "extreme_values",
            f"{pluralize(n, 'value')} of the {which} data more than "
            f"{2 ** (_EXTREME_EXPONENTS - 1)} times as large as the median of their channel",
            "if they mark missing values, leave these cells empty and use --missing mask",
            n,
            examples[:_MAX_PLACES],
        )


def _describe_largest(scan: DataScan, channel: int) -> str:
    candidates = [
        (shard.statistics.largest[channel], shard.shard.path)
        for shard in scan.shards
        if shard.statistics
    ]
    largest, file = max(candidates, key=lambda candidate: abs(candidate[0].value))
    return f"{file}, row {largest.row}, column {largest.column}: {largest.value:g}"
