"""Cases of shards: what `lstmfcn check` accepts and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lstmfcn.data.reader import open_dataset, read_pieces
from tests.cases.case import Case, contains, refused, run
from tests.cases.inputs import COUNTS, GAPS, MISSING_LABELS, NUMBERED, N, T, X

Act = Callable[[Path, Path], None]


def cases() -> Iterator[Case]:
    """All cases of this module."""
    yield from _dialects()
    yield from _first_lines()
    yield from _packing()
    yield from _class_names()
    yield from _missing_labels()
    yield from _gaps()
    yield from _column_names()
    yield from _channels()
    yield from _parquet()
    yield from _links()
    yield from _arguments()


def reads(name: str, *flags: str, says: str = "", **facts: Any) -> Act:
    """`lstmfcn check` finds no fault, the facts, and the values of the base table."""

    def act(inputs: Path, _: Path) -> None:
        ended = run("--json", "check", inputs / name, *flags)
        assert ended.code == 0, ended.stdout[-400:] + ended.stderr[-400:]
        contains(ended.facts, **{"n_rows": N, "n_timepoints": T, "n_channels": 1} | facts)
        if says:
            message = (ended.stderr + ended.stdout).lower()
            assert says.lower() in message, f"{says!r} is not in: {message[-400:]}"

    return act


def finds(name: str, *patterns: str, n: int | None = None, flags: tuple[str, ...] = ()) -> Act:
    """`lstmfcn check` finds a fault whose line matches the patterns; n faults in all."""

    def act(inputs: Path, folder: Path) -> None:
        ended = run("--json", "check", inputs / name, *flags)
        assert ended.code == 2, ended.stdout[-400:]
        faults = ended.facts["faults"] if ended.stdout.strip() else []
        first = " ".join(str(part) for part in faults[0].values()) if faults else ended.refusal
        for pattern in patterns:
            assert pattern.lower() in first.lower(), f"{pattern!r} is not in: {first}"
        if n is not None:
            assert ended.facts["n_faults"] == n, ended.facts["n_faults"]
        train_refuses(inputs / name, folder, *flags)

    return act


def train_refuses(data: Path, folder: Path, *flags: str) -> None:
    """Training refuses the same data in one line, and leaves nothing behind."""
    # evaluate reads as train does, and refuses headers before Ray starts; rows need Ray
    ended = run("check", data, *flags, "--limit", "1")
    refused(ended)
    assert not any(folder.iterdir())


def fixes(name: str, n_rows: int, **facts: Any) -> Act:
    """`lstmfcn check --fix` writes shards with n_rows rows and no faults."""

    def act(inputs: Path, folder: Path) -> None:
        clean = folder / "clean"
        run("check", inputs / name, "--fix", "--output", clean)
        ended = run("--json", "check", clean / "train")
        assert ended.code == 0, ended.stdout[-400:] + ended.stderr[-400:]
        contains(ended.facts, n_rows=n_rows, n_timepoints=T, **facts)

    return act


def read_values(data: object, missing: str = "refuse") -> tuple[np.ndarray, list[str], Any]:
    """Read the values (N, V), class names or labels, and schema of a data argument."""
    dataset = open_dataset(str(data), missing=missing)  # type: ignore[arg-type]
    values, labels = [], []
    for shard, header in zip(dataset.shards, dataset.headers, strict=True):
        for piece, names in read_pieces(shard, header, dataset.schema):
            values.append(piece)
            labels += names.tolist()
    return np.concatenate(values), labels, dataset.schema


def equal_to_base(name: str) -> Act:
    """The values are those of base.csv, bit for bit."""

    def act(inputs: Path, _: Path) -> None:
        values, labels, _schema = read_values(inputs / name)
        base, names, _schema = read_values(inputs / "base.csv")
        assert labels == names
        assert np.array_equal(values, base)

    return act


def _dialects() -> Iterator[Case]:
    for name, says in {
        "semicolon.csv": ";",
        "semicolon_decimal_comma.csv": ";",
        "semicolon_quoted_note.csv": ";",
        "tab.csv": "tab",
        "tab_named.tsv": "tab",
        "bom.csv": "",
        "carriage_returns.csv": "",
    }.items():
        yield Case("separator", name, reads(name, says=says, classes=COUNTS))
        yield Case("separator", f"{name}, values", equal_to_base(name))


def _first_lines() -> Iterator[Case]:
    yield Case("first lines", "sep= of Excel", finds("excel_sep_line.csv", "sep=", "--fix", n=1))
    yield Case("first lines", "a comment", finds("comment_line.csv", "#", "--fix", n=1))
    yield Case("first lines", "units below the header", finds("units_line.csv", "mV", n=1))
    yield Case(
        "first lines", "two files joined", finds("two_files_joined.csv", "second header", n=1)
    )
    yield Case("first lines", "empty rows", finds("empty_rows_at_end.csv", "empty row", n=3))
    for name, n_rows in {
        "excel_sep_line.csv": N,
        "comment_line.csv": N,
        "units_line.csv": N,
        "two_files_joined.csv": 2 * N,
        "empty_rows_at_end.csv": N,
    }.items():
        yield Case("first lines", f"{name}, check --fix", fixes(name, n_rows))
    for name in ("no_header_label_last.csv", "no_header_label_first.csv", "no_header_names.csv"):
        message = finds(name, "looks like data", "convert", "--no-header")
        yield Case("no header", name, message)
    yield Case("encoding", "UTF-16", finds("utf16.csv", "UTF-16", "iconv"))
    yield Case("encoding", "Latin-1", finds("latin1.csv", "iconv"))
    foreign = {"down": COUNTS["down"], "größer": COUNTS["up"]}
    yield Case("encoding", "UTF-8", reads("foreign.csv", classes=foreign))


def _packing() -> Iterator[Case]:
    for name in (
        *("UPPER.CSV", "packed.csv.bz2", "packed.csv.xz", "packed.csv.zst", "packed.csv.GZ"),
        *("gzip_named.csv", "parquet_named.csv", "table.parq", "TABLE.PARQUET"),
    ):
        yield Case("packing", name, equal_to_base(name))
    yield Case("packing", "a folder of all sorts", reads("mixed", n_rows=3 * N, n_shards=3))


def _class_names() -> Iterator[Case]:
    for form in ("0e+00", "0_1", "0.0", "plus", "dot", "capital_e", "exponent", "minus_zero"):
        name = f"classes_{form}.csv"
        yield Case("numbers as class names", name, reads(name, classes=NUMBERED))

    def as_validation(inputs: Path, _: Path) -> None:
        ended = run(
            *("--json", "check", inputs / "classes_0e+00.csv"),
            *("--validation", inputs / "classes_0_1.csv"),
        )
        assert ended.code == 0, ended.stdout[-400:]
        assert ended.facts["validation"]["classes"] == NUMBERED

    yield Case("numbers as class names", "0e+00 trained, 0 validated", as_validation)
    for name in ("onehot_true_false.csv", "onehot_true_false.parquet"):
        onehot = {"y_down": COUNTS["down"], "y_up": COUNTS["up"]}
        yield Case("True and False", name, reads(name, classes=onehot))
    truth = {"False": COUNTS["down"], "True": COUNTS["up"]}
    for name in ("true_false.csv", "true_false.parquet"):
        yield Case("True and False", name, reads(name, classes=truth))

    def one_class(inputs: Path, _: Path) -> None:
        ended = run("--json", "check", inputs / "two_unicode_forms.csv")
        classes = ended.facts["training"]["classes"]
        kinds = {suspicion["kind"] for suspicion in ended.facts["suspicions"]}
        assert len(classes) == 2 or "names_alike" in kinds or ended.code == 2, classes

    yield Case("numbers as class names", "one name in two Unicode forms", one_class)


def _missing_labels() -> Iterator[Case]:
    for i, marker in enumerate(MISSING_LABELS):
        message = finds(f"label_{i}.csv", "missing", "--missing-labels", n=(N + 6) // 7)
        yield Case("missing labels", f"the text {marker} in CSV", message)
        kept = reads(f"label_{i}.csv", "--missing-labels", "name")
        yield Case("missing labels", f"{marker} with --missing-labels name", kept)
    for name in (*("label_float_nan", "label_float_nan_32", "label_null", "onehot_nan"),):
        message = finds(f"{name}.parquet", "5", "y", "an empty cell")
        yield Case("missing labels", f"{name}.parquet", message)
    yield Case(
        "missing labels", "label_text_nan.parquet", finds("label_text_nan.parquet", "missing")
    )


def _gaps() -> Iterator[Case]:
    for i, marker in enumerate(GAPS):
        yield Case(
            "gaps", f"{marker} with --missing mask", reads(f"gap_{i}.csv", "--missing", "mask")
        )
        yield Case("gaps", f"{marker} without", finds(f"gap_{i}.csv", "--missing mask"))
    question = f"gap_{len(GAPS)}.csv"
    yield Case("gaps", "? is none by itself", finds(question, "?", flags=("--missing", "mask")))
    marked = reads(question, "--missing", "mask", "--missing-marker", "?")
    yield Case("gaps", "? with --missing-marker", marked)


def _column_names() -> Iterator[Case]:
    for name, column in {
        "id_that_starts_with_x.csv": "xid",
        "xmin_among.csv": "xmin",
        "x_mean_among.csv": "x_mean",
        "year_beside_y.csv": "year",
        "yaw_beside_y.csv": "yaw",
        "youtube_id_beside_y.csv": "youtube_id",
    }.items():
        yield Case("names that only start so", name, finds(name, column, "rename", n=1))
    message = finds("capital_names.csv", "case", "x_1")
    yield Case("names that only start so", "capital letters", message)

    def sorted_names(inputs: Path, _: Path) -> None:
        ended = run("--json", "check", inputs / "sorted_columns.csv")
        message = " ".join(suspicion["found"] for suspicion in ended.facts["suspicions"])
        assert "x_19 before x_2" in message, message

    yield Case("names that only start so", "x_1, x_10, x_11, x_2", sorted_names)


def _channels() -> Iterator[Case]:
    for form in ("acc_gyr", "numbers", "joined", "plain"):
        name = f"channels_{form}.csv"
        yield Case("channels", name, reads(name, n_channels=2))

        def in_order(inputs: Path, _: Path, name: str = name) -> None:
            values, _labels, schema = read_values(inputs / name)
            assert schema.n_channels == 2
            assert np.array_equal(values[:, :T], X.astype(np.float32))
            assert np.array_equal(values[:, T:], -X.astype(np.float32))

        yield Case("channels", f"{name}, values", in_order)
    yield Case("channels", "of unequal length", finds("channels_unequal.csv", "x_gyr_20", n=1))


def _parquet() -> Iterator[Case]:
    for name in (
        *("list_column", "fixed_list_column"),
        *("string_view_labels", "large_string_labels", "binary_labels"),
    ):
        yield Case("Parquet types", name, equal_to_base(f"{name}.parquet"))
    two = reads("list_columns_two_channels.parquet", n_channels=2, classes=COUNTS)
    yield Case("Parquet types", "list_columns_two_channels", two)
    yield Case("Parquet types", "lists_unequal", finds("lists_unequal.parquet", "--missing mask"))
    padded = reads("lists_unequal.parquet", "--missing", "mask", classes=COUNTS)
    yield Case("Parquet types", "lists_unequal with --missing mask", padded)
    hive = finds("hive", "y=up")
    yield Case("Parquet types", "a hive folder y=up", hive)


def _links() -> Iterator[Case]:
    def dangling(pattern: str) -> Act:
        def act(inputs: Path, folder: Path) -> None:
            data = _linked_folder(inputs, folder)
            (data / "part-002.csv").symlink_to("/not/fetched/part-002.csv")
            ended = run("check", str(data / pattern) if pattern else data)
            refused(ended, "part-002.csv")

        return act

    yield Case("links", "a dangling link in a folder", dangling(""))
    yield Case("links", "a dangling link in a glob", dangling("*.csv"))
    yield Case("links", "a dangling link itself", dangling("part-002.csv"))

    def dangling_folder(inputs: Path, folder: Path) -> None:
        data = _linked_folder(inputs, folder)
        (data / "more").symlink_to("/not/mounted")
        ended = run("check", data)
        assert "more" in ended.stderr, ended.stderr
        refused(ended, "more")

    yield Case("links", "a dangling link to a folder", dangling_folder)

    def loop(target: str) -> Act:
        def act(inputs: Path, folder: Path) -> None:
            data = _linked_folder(inputs, folder)
            (data / "again").symlink_to(target)
            ended = run("--json", "check", data)
            if ended.code == 0:
                contains(ended.facts, n_rows=2 * N)
            else:
                refused(ended, "again")

        return act

    for target in (".", "..", "../data"):
        yield Case("links", f"a link to {target}", loop(target))

    def pipe(_: Path, folder: Path) -> None:
        os.mkfifo(folder / "pipe.csv")
        refused(run("check", folder / "pipe.csv"), "pipe")

    yield Case("links", "a pipe", pipe)


def _linked_folder(inputs: Path, folder: Path) -> Path:
    data = folder / "data"
    data.mkdir()
    for part in (0, 1):
        (data / f"part-00{part}.csv").symlink_to(
            inputs / "base.csv" if part else inputs / "tab.csv"
        )
    return data


def _arguments() -> Iterator[Case]:
    def several(*words: str) -> Act:
        def act(inputs: Path, _: Path) -> None:
            files = [str(inputs / "two" / f"part-{part}.csv") for part in (0, 1)]
            filled = [word.format(*files) for word in words]
            ended = run("--json", "check", *filled)
            assert ended.code == 0, ended.stderr[-400:]
            contains(ended.facts, n_rows=2 * N)

        return act

    yield Case("data arguments", "check a.csv b.csv", several("{0}", "{1}"))
    yield Case("data arguments", "-", lambda *_: refused(run("check", "-"), "-"))

    def positional(inputs: Path, folder: Path) -> None:
        gone = inputs / "gone.csv"
        refused(run("train", inputs / "base.csv", gone, "--output", folder / "run"), str(gone))

    yield Case("data arguments", "train data", positional)
