"""Cases of `lstmfcn convert`: files that are converted, and files that are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.cases.case import Case, contains, refused, run
from tests.cases.inputs import COUNTS, NUMBERED, N, T, X
from tests.cases.shards import read_values

Act = Callable[[Path, Path], None]


def cases() -> Iterator[Case]:
    """All cases of this module."""
    eight = {"n_rows": 8, "classes": {"a": 4, "b": 4}}
    for name in (
        "plain.ts",
        "comments_in_data.ts",
        "percent_comments.ts",
        "time_stamps.ts",
        "dates.ts",
    ):
        yield Case("convert", name, converts(name, **eight))
    yield Case("convert", "weka.arff", converts("weka.arff", classes=COUNTS))
    yield Case("convert", "Toy_TRAIN.TSV", converts("Toy_TRAIN.TSV", classes=COUNTS))
    yield Case("convert", "Toy_TRAIN.tsv.gz", converts("Toy_TRAIN.tsv.gz", classes=COUNTS))
    numbers = {"1": COUNTS["up"], "2": COUNTS["down"]}
    yield Case("convert", "Toy2015_TRAIN.txt", converts("Toy2015_TRAIN.txt", classes=numbers))
    yield Case("convert", "a long table", converts("long_table.csv", classes=COUNTS))
    yield Case("convert", "arrays.npz", converts("arrays.npz", classes=COUNTS))
    for place, classes in {"last": NUMBERED, "first": NUMBERED}.items():
        name = f"no_header_label_{place}.csv"
        act = converts(name, "--no-header", "--label", place, classes=classes)
        yield Case("convert", f"{name} --no-header", act)
    for name, patterns in {
        "class_label_false.ts": ("class",),
        "univariate_without_class.ts": ("class",),
        "regression.ts": ("regression|target",),
        "regression_capital.ts": ("regression|target",),
        "unlisted_class.ts": ("row 8", "c"),
        "unknown_class.ts": ("row 8", r"\?"),
        "more_dimensions.ts": ("row 1", "dimension"),
        "uneven_time_stamps.ts": ("times", "equal steps"),
        "underscore_numbers.tsv": ("row 1", "1_000"),
        "arabic_digits.tsv": ("row 1",),
    }.items():
        yield Case("convert takes no class for one", name, declines(name, *patterns))


def converts(name: str, *flags: str, **facts: Any) -> Act:
    """The file is converted to shards without faults, with the values of the base table."""

    def act(inputs: Path, folder: Path) -> None:
        ended = run("convert", "--input", inputs / name, "--output", folder / "shards", *flags)
        assert ended.code == 0, ended.stderr[-400:]
        checked = run("--json", "check", folder / "shards")
        assert checked.code == 0, checked.stdout[-400:]
        contains(checked.facts, **{"n_rows": N, "n_timepoints": T, "n_channels": 1} | facts)
        values, _labels, _schema = read_values(folder / "shards")
        assert np.array_equal(values, X[: len(values)].astype(np.float32))

    return act


def declines(name: str, *patterns: str) -> Act:
    """The file is refused in one line, and nothing is written."""

    def act(inputs: Path, folder: Path) -> None:
        ended = run("convert", "--input", inputs / name, "--output", folder / "shards")
        refused(ended, *patterns)
        assert not any(folder.iterdir())

    return act
