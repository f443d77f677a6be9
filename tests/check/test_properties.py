"""Random shards with faults: `check` lists the faults, and --fix removes them."""

import csv
import gzip
import io
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lstmfcn.check.clean import write_clean
from lstmfcn.check.findings import check
from lstmfcn.data import csv_parser
from lstmfcn.data.batch_plan import refuse_few_rows
from lstmfcn.data.reader import open_dataset, read_tables
from lstmfcn.errors import DataError

pytestmark = pytest.mark.slow

quickly = settings(max_examples=60, database=None)

CLASSES = 3
VALUES = ["x_1", "x_2", "x_3"]
LABELS = {"names": ["y"], "one-hot": ["y_1", "y_2", "y_3"], "multilabel": ["y_1", "y_2", "y_3"]}
JUNK = ["", "abc", "nan", "-inf", "1e39", "1,5", "0x1", "1;2", " ", 'a"b', "--1", "é"]


NO_NUMBERS = ["abc", "0x1", "1;2", 'a"b', "--1", "é"]
"""A row with one of these in place of each value has one fault, that of the row."""


class Row(NamedTuple):
    """The cells of a row, and the columns with faults; None for a fault of the whole row."""

    cells: list[str]
    faults: tuple[str | None, ...] = ()


class File(NamedTuple):
    """A shard, its bytes, and whether it must be refused."""

    rows: list[Row]
    content: bytes
    refused: bool


def label_cells(kind, i):
    if kind == "names":
        return [["ant", "bee", 'c "q", ä'][i % CLASSES]]
    bits = [str(int(k == i % CLASSES)) for k in range(CLASSES)]
    if kind == "multilabel" and i >= CLASSES:
        bits[(i + 1) % CLASSES] = "1"
    return bits


@st.composite
def draw_rows(draw, kind, corrupt):
    """Draw rows, some of them with faults."""
    labels = LABELS[kind]
    columns = [*labels, *VALUES, "id"]
    rows = []
    for i in range(draw(st.integers(CLASSES, 8))):
        numbers = draw(st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3))
        note = draw(st.sampled_from(["", "p", 'q "r"', "s,t", "u\nv"]))
        cells = [*label_cells(kind, i), *map(str, numbers), note]
        how = draw(st.sampled_from(["well"] * 3 + corrupt))
        faults = ()
        if how == "values":
            wrong = draw(st.sets(st.sampled_from(VALUES), min_size=1))
            for name in wrong:
                cells[columns.index(name)] = draw(st.sampled_from(JUNK))
            values = [cells[columns.index(name)] for name in VALUES]
            faults = (None,) if set(values) <= set(NO_NUMBERS) else tuple(wrong)
        elif how == "label":
            name = draw(st.sampled_from(labels))
            junk = [""] if kind == "names" else ["", "2", "no", "-1", "0.5"]
            cells[columns.index(name)] = draw(st.sampled_from(junk))
            faults = (name,)
        elif how == "two ones" and kind == "one-hot":
            cells[:CLASSES] = draw(st.sampled_from([["1", "1", "0"], ["0", "0", "0"], ["1"] * 3]))
            faults = ("y_1 to y_3",)
        elif how == "short":
            cells, faults = cells[: draw(st.integers(2, len(cells) - 1))], (None,)
        elif how == "long":
            cells, faults = [*cells, "more"], (None,)
        rows.append(Row(cells, faults))
    return rows


def to_csv(header, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *(row.cells for row in rows)])
    return text.getvalue().encode()


def without_column(rows):
    return [Row([*row.cells[:-2], row.cells[-1]]) for row in rows]


@st.composite
def draw_files(draw, kind):
    """Draw a good shard and shards with faults, by name."""
    header = [*LABELS[kind], *VALUES, "id"]
    good = draw(draw_rows(kind, []))
    files = {"good.csv": File(good, to_csv(header, good), refused=False)}
    everything = ["values", "label", "two ones", "short", "long"]
    for i in range(draw(st.integers(1, 3))):
        packed = draw(st.booleans())
        rows = draw(draw_rows(kind, everything))
        content = to_csv(header, rows)
        kinds = ["rows"] * 4 + ["empty", "no rows", "gzip", "encoding"]
        how = draw(st.sampled_from(kinds + (["column"] if i == 2 else [])))
        if how == "column":
            content = to_csv([*header[:-2], "id"], without_column(rows))
        elif how == "no rows":
            content = to_csv(header, [])
        elif how == "encoding":
            content = b"\xe9" + content
        if packed or how == "gzip":
            content = gzip.compress(content)
        if how == "gzip":
            content = content[: draw(st.integers(1, len(content) - 9))]
        if how == "empty":
            content = b""
        name = f"sub/{i}.csv" + (".gz" if packed or how == "gzip" else "")
        files[name] = File(rows, content, refused=how != "rows")
    return files


def write(folder, files):
    for name, file in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)


def read_cells(path):
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def train_reads(data, task, missing="refuse"):
    """Do with data what `lstmfcn train` does before training; raise the first fault."""
    dataset = open_dataset(str(data), task, missing=missing)
    schema, labels, n_rows = dataset.schema, [], 0
    for shard, header in zip(dataset.shards, dataset.headers, strict=True):
        for table, source in read_tables(shard, schema, True, header):
            n_rows += len(schema.encode_values(table, source))
            encode = schema.label_names if schema.holds_names else schema.encode_labels
            labels += list(encode(table, source))
    if schema.holds_names:
        schema = schema.with_classes(sorted(set(labels)), str(data))
        labels = schema.encode_names(labels)
    schema.refuse_absent_classes(np.array(labels), str(data))
    refuse_few_rows(n_rows, 1, str(data))


def catch_refusal(work):
    try:
        work()
    except DataError as refusal:
        return refusal
    return None


def find_task(kind):
    return "multilabel" if kind == "multilabel" else "multiclass"


@quickly
@given(kind=st.sampled_from(list(LABELS)), data=st.data())
def test_check_lists_exactly_what_was_corrupted_and_fix_leaves_exactly_the_rest(
    kind, data, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("data")
    files = data.draw(draw_files(kind))
    write(folder / "in", files)
    findings = check(str(folder / "in"), task=find_task(kind), limit=10**6)
    expected = []
    for name, file in files.items():
        path = str(folder / "in" / name)
        if file.refused:
            expected.append((path, None, None))
            continue
        for number, row in enumerate(file.rows, start=1):
            expected += [(path, number, column) for column in row.faults]
    message = [(f.file, f.row, f.column) for f in findings.faults]
    refused = {str(folder / "in" / name) for name, file in files.items() if file.refused}
    message = {(f, None, None) if f in refused else (f, r, c) for f, r, c in message}
    assert message == set(expected)
    assert sum(scan.n_faults for scan in findings.scans.values()) == findings.n_faults

    write_clean(findings, folder / "out", {})
    train_reads(folder / "out" / "train", find_task(kind))
    assert check(str(folder / "out" / "train"), task=find_task(kind)).n_faults == 0
    written = {
        str(path.relative_to(folder / "out" / "train"))
        for path in (folder / "out" / "train").rglob("*.csv*")
    }
    for name, file in files.items():
        kept = [row.cells for row in file.rows if not row.faults]
        assert (name in written) == (not file.refused and kept != [])
        if name in written:
            assert read_cells(folder / "out" / "train" / name)[1:] == kept
    aside = pd.read_csv(folder / "out" / "set_aside.csv", keep_default_na=False)
    assert set(zip(aside["file"], aside["row"].astype(str), strict=True)) == {
        (file, "" if row is None else str(row)) for file, row, _ in expected
    }
    for name, file in files.items():
        assert (folder / "in" / name).read_bytes() == file.content


HEADERS = ["y,x_1,x_2", "y_1,y_2,x_1,x_2", "x_2,y,id,x_1", "y,x_1,x_1", "y,x1_1,x_1", "id,x_1"]
CELLS = st.sampled_from(
    [
        "0",
        "1",
        "1",
        "0",
        "2",
        "",
        "a",
        "b",
        "1e39",
        '"',
        '""',
        '"a',
        'b"',
        ' "c"',
        "é",
        "\r",
        "\ufeff",
        "nan",
        " 1",
        "1 ",
        "\t",
        "1.0",
        "True",
        "\x00",
        "'",
        '"x\ny"',
        "\\",
    ]
)
LINES = st.lists(CELLS, min_size=1, max_size=5).map(",".join)
TEXTS = st.builds(
    lambda header, lines, end: "\n".join([header, *lines]) + end,
    st.sampled_from(HEADERS),
    st.lists(
        LINES | st.sampled_from(["0,1,0", "1,0,1", "a,1,2", "b,2,3", "0,1,0,1", "1,0,1,2", ""]),
        max_size=12,
    ),
    st.sampled_from(["", "\n", "\r\n", "\n\n"]),
)
CONTENTS = st.builds(lambda text, encoding: text.encode(encoding), TEXTS, st.just("utf-8")) | (
    st.builds(lambda text: text.encode("utf-8").replace(b"\xc3\xa9", b"\xe9"), TEXTS)
)


@settings(quickly, max_examples=400)
@given(
    contents=st.lists(CONTENTS, min_size=1, max_size=2),
    task=st.sampled_from(["multiclass", "binary", "multilabel"]),
    missing=st.sampled_from(["refuse", "mask"]),
    block_bytes=st.sampled_from([64, 16 << 20]),
)
@example(  # a character that is cut off, after a ragged row
    contents=[b"y,x_1,x_2\n0\n\xe9"], task="multiclass", missing="refuse", block_bytes=64
)
def test_check_lists_exactly_what_training_refuses(
    contents, task, missing, block_bytes, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("data")
    (folder / "in").mkdir()
    for i, content in enumerate(contents):
        (folder / "in" / f"{i}.csv").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_parser, "BLOCK_BYTES", block_bytes)
        patch.setattr(csv_parser, "SEGMENT_BYTES", block_bytes)
        findings = check(str(folder / "in"), task=task, missing=missing, limit=10**6)
        refused = catch_refusal(lambda: train_reads(folder / "in", task, missing))
        if refused is None:
            assert findings.faults == []
        else:
            same_shard = [f for f in findings.faults if f.file == refused.file and f.row is None]
            listed = [str(fault) for fault in findings.faults]
            assert str(refused) in listed or (refused.row is None and same_shard)
        nothing_left = catch_refusal(lambda: write_clean(findings, folder / "out", {}))
        assert (folder / "out").exists() == (nothing_left is None)
        if nothing_left:
            assert "nothing was written" in str(nothing_left)
        else:
            train_reads(folder / "out" / "train", task, missing)
