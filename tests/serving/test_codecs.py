import json
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.data.columns import Roles
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import DataError
from lstmfcn.inference.predictor import Classifier
from serve_app import codecs
from serve_app.codecs import (
    CSV,
    JSON,
    JSON_LINES,
    decode,
    encode,
    is_slow_to_decode,
    max_request_bytes,
    request_type,
)
from serve_app.errors import RequestError
from tests.helpers.small_models import KINDS, N_TIMEPOINTS, tiny_artifact, tiny_rows, tiny_schema

SCHEMA = tiny_schema()
ROW = [0.5, -1.25, 3, 1e-3, 2e5, 0, 7, 8, 9, 10, 11, 12.75]
LINE = ",".join(map(str, ROW))
HEADER = ",".join(SCHEMA.value_columns)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SERIES = st.lists(NUMBERS, min_size=N_TIMEPOINTS, max_size=N_TIMEPOINTS)


HUGE = "row 1, column x_0: found 10000000000000000000... (401 characters), which is not a finite"
CHANNELS = tiny_schema(n_channels=3)
NESTED = [ROW[:4], ROW[4:8], ROW[8:]]


def decoded(content_type, body, max_rows=10, schema=SCHEMA):
    body = body if isinstance(body, bytes) else body.encode()
    return np.asarray(decode(request_type(content_type), body, schema, max_rows), dtype=np.float32)


@pytest.mark.parametrize(
    "body",
    [
        LINE,
        LINE + "\n",
        LINE + "\r\n",
        "\n" + LINE + "\n\n",
        "\ufeff" + LINE,
        f"{HEADER}\n{LINE}",
        f"{HEADER}\r\n{LINE}\r\n",
        ",".join(f'"{value}"' for value in ROW),
        ",".join(f" {value} " for value in ROW),
        f"id,{HEADER},y_a\nbeat 7,{LINE},1\n",
        ",".join(reversed(SCHEMA.value_columns)) + "\n" + ",".join(map(str, reversed(ROW))),
        f'id,{HEADER}\n"a, b",{LINE}\n',
    ],
)
def test_csv(body):
    assert decoded(CSV, body).tolist() == [np.array(ROW, dtype=np.float32).tolist()]


@given(st.lists(SERIES, min_size=1, max_size=5))
def test_every_content_type_keeps_every_32_bit_number(rows):
    expected = np.array(rows, dtype=np.float32)
    lines = [",".join(map(repr, row)) for row in rows]
    assert np.array_equal(decoded(CSV, "\n".join(lines)), expected)
    assert np.array_equal(decoded(JSON, json.dumps({"instances": rows})), expected)
    assert np.array_equal(decoded(JSON_LINES, "\n".join(map(json.dumps, rows))), expected)


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, min_value=-9, max_value=9),
                min_size=N_TIMEPOINTS, max_size=N_TIMEPOINTS))  # fmt: skip
def test_numbers_are_rounded_once_as_in_shards(numbers):
    cells = [f"{number:f}" for number in numbers]
    expected = pa.array(cells).cast(pa.float32()).to_numpy()
    assert np.array_equal(decoded(CSV, ",".join(cells))[0], expected)


def test_a_number_half_way_between_two_is_rounded_once():
    cell = "1.000000059604644775390625000001"  # above half way, which 64 bits do not hold
    found = decoded(CSV, ",".join([cell] * N_TIMEPOINTS))
    assert found[0, 0] == np.float32(1) + np.finfo(np.float32).eps


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        (CSV, "", "found no rows; send at least one series"),
        (CSV, HEADER, "found no rows; send at least one series"),
        (CSV, b"\xff\xfe", "found bytes that are not UTF-8; send the body as UTF-8"),
        (CSV, "1,2", "row 1: found 2 cells; the header has 12 columns: write one cell for each"),
        (
            CSV,
            f"{LINE}\n{LINE},1",
            "row 2: found 13 cells; the header has 12 columns: write one cell for each",
        ),
        (CSV, LINE.replace("3", "three", 1), "row 1, column x_2: found 'three'; write a number"),
        (
            CSV,
            f"{HEADER}\n{LINE}\n{LINE.replace('7', '', 1)}",
            "row 2, column x_6: found an em",
        ),
        (CSV, f"id,{HEADER}\na,{LINE},5", "row 1: found 14 cells; the header has 13 columns"),
        (CSV, f"x_1,x_2\n{LINE}", "found 2 value columns (missing: x_0, x_3, ... x_11 (10"),
        (JSON, "", "found invalid JSON"),
        (JSON, "[" * 100_000, "found invalid JSON"),
        (JSON, "[1]", "found no list of instances"),
        (JSON, '{"instances": []}', "found no rows"),
        (JSON, '{"instances": [1]}', "row 1: found int for a series; send a list of 12 numbers"),
        (JSON, '{"instances": [[1, 2]]}', "row 1: found a series of 2 values; send a list of 12"),
        (JSON, json.dumps({"instances": [ROW, ROW[1:]]}), "row 2: found a series of 11 values"),
        (JSON, json.dumps({"instances": [[*ROW[:-1], "1"]]}), 'row 1, column x_11: found "1"'),
        (JSON, json.dumps({"instances": [[True, *ROW[1:]]]}), "row 1, column x_0: found true"),
        (JSON, json.dumps({"instances": [[None, *ROW[1:]]]}), "row 1, column x_0: found null"),
        (
            JSON,
            json.dumps({"instances": [[10**400, *ROW[1:]]]}),
            HUGE,
        ),
        (JSON_LINES, f"{ROW}\n{{", "row 2: found invalid JSON"),
        (JSON_LINES, f"{ROW}\n7", "row 2: found int for a series"),
    ],
)
def test_a_faulty_body_is_refused_with_its_place(content_type, body, message):
    with pytest.raises(DataError) as refused:
        decoded(content_type, body)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (CSV, f"{LINE}\n" * 11),
        (JSON, json.dumps({"instances": [ROW] * 11})),
        (JSON_LINES, f"{ROW}\n" * 11),
    ],
)
def test_too_many_rows_are_refused(content_type, body):
    with pytest.raises(RequestError) as refused:
        decoded(content_type, body)
    assert refused.value.status == 413
    assert "found 11 rows; send at most 10" in str(refused.value)


@given(st.binary(max_size=300), st.sampled_from([CSV, JSON, JSON_LINES]))
def test_any_bytes_are_decoded_or_refused(body, content_type):
    try:
        found = decode(request_type(content_type), body, SCHEMA, 10)
    except (DataError, RequestError):
        return
    assert found.shape[1] == N_TIMEPOINTS


@given(
    st.lists(
        st.lists(st.sampled_from(["1", "-2.5", "", "x", "1e400", '"', "nan", "true", "0x1", "1_0"]),
                 max_size=14), max_size=4)
)  # fmt: skip
def test_any_cells_are_decoded_or_refused(rows):
    body = "\n".join(",".join(row) for row in rows).encode()
    try:
        found = decode(request_type(CSV), body, SCHEMA, 10)
    except (DataError, RequestError):
        return
    assert found.shape == (len([row for row in rows if ",".join(row)]), N_TIMEPOINTS)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_hold_the_exact_probabilities(kind):
    classifier = Classifier(tiny_artifact(kind))
    probabilities = classifier.predict_proba(tiny_rows(kind, n_rows=5).values)
    columns = [*classifier.schema.label_columns, *classifier.schema.probability_columns]
    n_labels = len(classifier.schema.label_columns)
    header, *lines = encode(CSV, classifier, probabilities).decode().splitlines()
    assert header.split(",") == columns
    from_json = json.loads(encode(JSON, classifier, probabilities))["predictions"]
    from_lines = list(map(json.loads, encode(JSON_LINES, classifier, probabilities).splitlines()))
    assert from_json == from_lines
    for line, row, expected in zip(lines, from_json, probabilities, strict=True):
        cells = line.split(",")
        assert np.array_equal(np.array(cells[n_labels:], dtype=np.float32), expected)
        assert list(row) == columns
        shares = [row[name] for name in columns[n_labels:]]
        assert np.array_equal(np.array(shares, dtype=np.float32), expected)
        assert [str(row[name]) for name in columns[:n_labels]] == cells[:n_labels]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (CSV, LINE),
        (CSV, ",".join(reversed(CHANNELS.value_columns)) + "\n" + ",".join(map(str, ROW[::-1]))),
        (JSON, json.dumps({"instances": [ROW]})),
        (JSON, json.dumps({"instances": [NESTED]})),
        (JSON_LINES, str(ROW)),
        (JSON_LINES, str(NESTED)),
    ],
)
def test_series_of_several_channels(content_type, body):
    expected = [np.array(ROW, dtype=np.float32).tolist()]
    assert decoded(content_type, body, schema=CHANNELS).tolist() == expected


def test_nested_and_flat_series_can_be_mixed():
    found = decoded(JSON_LINES, f"{ROW}\n{NESTED}", schema=CHANNELS)
    assert found.tolist() == [np.array(ROW, dtype=np.float32).tolist()] * 2


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (7, "found int for a series; send a list of 12 numbers, or 3 lists of 4"),
        (ROW[1:], "found a series of 11 values; send a list of 12 numbers, or 3 lists of 4"),
        (NESTED[1:], "found a series of 2 channels; send a list of 12"),
        ([*NESTED, []], "found a series of 4 channels"),
        ([ROW[:4], ROW[4:7], ROW[8:]], "column x2_1 to x2_4: found 3 values for a channel; send a"),
        ([ROW[:4], 5, ROW[8:]], "column x2_1 to x2_4: found int for a channel; send a list of 12"),
        ([ROW[:4], ROW[4:8], [1, 2, None, 4]], "column x3_3: found null; send a number there"),
        ([ROW[:4], ROW[4:8], [1, 2, [3], 4]], "column x3_3: found [3]; send a number there"),
        ([*ROW[:11], [1]], "found a series of 12 channels"),
        ([], "found a series of 0 values; send a list of 12"),
    ],
)
def test_faulty_channels_are_refused_with_their_place(series, message):
    with pytest.raises(DataError) as refused:
        decoded(JSON, json.dumps({"instances": [ROW, series]}), schema=CHANNELS)
    assert str(refused.value).removeprefix("row 2: ").removeprefix("row 2, ").startswith(message)
    assert refused.value.row == 2


def test_one_channel_is_not_nested():
    with pytest.raises(DataError, match=r"row 1: found a series of 1 value; send a list of 12 n"):
        decoded(JSON, json.dumps({"instances": [[ROW]]}))


def numbers(start, quote="", end=""):
    return ",".join(f"{quote}{i}{end}{quote}" for i in range(start, start + N_TIMEPOINTS))


COUNTS = [
    numbers(0),
    numbers(1),
    numbers(0, quote='"'),
    numbers(0, end=".0"),
    numbers(2),  # of df.iloc[:, 2:]
    "," + numbers(0),  # with the index
    "id," + numbers(0),
    numbers(0) + ",class",
    "\ufeff" + numbers(0),
    numbers(0).replace(",", ";"),
]


@pytest.mark.parametrize("header", COUNTS)
@pytest.mark.parametrize("kind", ["text/csv", "text/csv; header=present"])
def test_a_header_that_only_numbers_its_columns_is_refused(header, kind):
    """pandas' to_csv(index=False) of a table without names."""
    with pytest.raises(
        DataError, match=r"^found a header that only numbers its columns \(.*header=abs"
    ):
        decoded(kind, f"{header}\n{LINE}")


def test_a_row_that_counts_is_read_if_the_client_says_so():
    found = decoded("text/csv; header=absent", f"{numbers(0)}\n{LINE}")
    assert found.tolist() == [list(range(N_TIMEPOINTS)), np.array(ROW, dtype=np.float32).tolist()]
    below = decoded(CSV, f"{LINE}\n{numbers(0)}")
    assert below.tolist() == found[::-1].tolist()


@pytest.mark.parametrize("row", ["0,1,2,3,4,5,6,7,8,9,10,12", numbers(10), numbers(-1)])
def test_other_rows_of_whole_numbers_are_read(row):
    assert len(decoded(CSV, row)) == 1


@pytest.mark.parametrize(
    ("kind", "first", "message"),
    [
        (CSV, ",".join(f"t_{i}" for i in range(12)), "found a header of other columns (t_0, t_1"),
        (CSV, "time,a,b,c,d,e,f,g,h,i,j,k", "found a header of other columns (time, a, ... k"),
        ("text/csv; header=present", LINE, "found numbers instead of column names (0.5, -1.25"),
        ("text/csv; header=absent", HEADER, "row 1: found a second header; remove the row"),
    ],
)
def test_a_header_is_found_by_its_names_or_named_by_the_client(kind, first, message):
    with pytest.raises(DataError) as refused:
        decoded(kind, f"{first}\n{LINE}")
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    "body",
    [
        LINE.replace(",", ";"),
        LINE.replace(",", "\t"),
        LINE.replace(",", ";").replace(".", ","),
        f"{HEADER}\n{LINE}".replace(",", ";"),
        f"id;{HEADER}\n1,5;{LINE}".replace(",x", ";x").replace(f"{LINE}", LINE.replace(",", ";")),
        f"{HEADER}\n{LINE}".replace(",", "\t"),
    ],
)
def test_semicolons_and_tabs_can_separate_cells(body):
    assert decoded(CSV, body).tolist() == [np.array(ROW, dtype=np.float32).tolist()]


def test_separators_in_quotes_do_not_separate():
    found = decoded(CSV, f'"a;b",{HEADER}\n"c;d",{LINE}')
    assert found.tolist() == [np.array(ROW, dtype=np.float32).tolist()]
    with pytest.raises(DataError, match="quotes, and ';' between cells; separate cells by commas"):
        decoded(CSV, '"a";' + HEADER.replace(",", ";"))


@pytest.mark.parametrize("content_type", [JSON, JSON_LINES])
@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("NaN", "found NaN, which is not a finite 32-bit number; send a number there"),
        ("Infinity", "found Infinity, which is not a finite 32-bit number"),
        ("-Infinity", "found Infinity, which is not a finite 32-bit number"),
        ("1e400", "found 1e400, which is not a finite 32-bit number"),
        (
            "1" * 5000,
            "found 11111111111111111111... (5000 characters), which is not a finite 32-bit",
        ),
        ('"' + "a" * 5000 + '"', 'found "aaaaaaaaaaaaaaaaaaa... (5002 characters); send a number'),
        ("{}", "found {}; send a number there"),
    ],
)
def test_a_json_value_that_is_not_a_number_is_refused_with_its_place(content_type, cell, message):
    row = ", ".join(map(str, ROW[:-1]))
    body = f"[{row}, {cell}]"
    if content_type == JSON:
        body = f'{{"instances": [{body}]}}'
    with pytest.raises(DataError) as refused:
        decoded(content_type, body)
    assert str(refused.value).startswith(f"row 1, column x_11: {message}")


def test_nan_is_a_missing_value_in_json():
    schema = SCHEMA.model_copy(update={"missing": "mask"})
    body = json.dumps({"instances": [[*ROW[:-1], float("nan")]]})
    assert np.isnan(decoded(JSON, body, schema=schema)[0, -1])


def test_instances_twice_are_refused():
    with pytest.raises(DataError, match='found "instances" 2 times; send it once'):
        decoded(JSON, f'{{"instances": [{ROW}], "instances": [{ROW}]}}')


@pytest.mark.parametrize("n_rows", [10, 4000])
def test_long_bodies_are_read_like_short_ones(n_rows):
    rows = np.random.default_rng(0).standard_normal((n_rows, N_TIMEPOINTS)).astype(np.float32)
    lines = [",".join(map(repr, row.tolist())) for row in rows]
    columns = ",".join(("id", *SCHEMA.value_columns))
    for body in ("\n".join(lines), "\n".join([columns, *(f"a,{line}" for line in lines)])):
        assert np.array_equal(decoded(CSV, body, n_rows), rows)
    for line, message in (("1,2", "2 cells"), (f"{lines[0][:-1]}oops", "oops"), ("", "")):
        if line:
            with pytest.raises(DataError, match=rf"^row {n_rows}.*{message}"):
                decoded(CSV, "\n".join([*lines[:-1], line]), n_rows)


@given(st.integers(1, 400), st.integers(1, 20))
def test_any_valid_body_is_within_the_byte_limit(n_rows, indent):
    """Numbers as long as Python writes them, one per line."""
    row = [-1.2345678901234567e-300] * N_TIMEPOINTS
    body = json.dumps({"instances": [row] * n_rows}, indent=min(indent, 4))
    assert len(body) <= max_request_bytes(SCHEMA, n_rows)


@pytest.mark.parametrize("marker", ["NA", "#N/A", "null", "None", "<NA>", " NA", "?", '"n/a"'])
def test_missing_values_of_csv_are_marked_as_in_shards(marker):
    schema = SeriesSchema.from_header(
        ["y", "x_1", "x_2", "x_3"], "binary", missing="mask", missing_marker="?"
    )
    for body in (f"{marker},2,3", f"x_2,id,x_1,x_3\n2,7,{marker},3", f"\n{marker},2,3\n"):
        found = decoded("text/csv", body, schema=schema)
        np.testing.assert_array_equal(found, [[np.nan, 2, 3]])
    with pytest.raises(DataError, match=r"row 1, column x_1: found '-'; write a number"):
        decoded("text/csv", "-,2,3", schema=schema)
    refusing = schema.model_copy(update={"missing": "refuse"})
    with pytest.raises(DataError, match="row 1, column x_1: found"):
        decoded("text/csv", f"{marker},2,3", schema=refusing)


def test_a_wide_header_of_other_columns_is_refused_quickly():
    header = ",".join(f"x_{t}" for t in range(100_000))
    began = time.perf_counter()
    with pytest.raises(DataError, match="found 100,000 value columns"):
        decoded("text/csv", f"{header}\n1,2\n")
    assert time.perf_counter() - began < 5  # comparing each with each took 38 s


def test_short_series_count_with_their_padding(monkeypatch):
    schema = SCHEMA.model_copy(update={"missing": "mask"})
    body = json.dumps({"instances": [[1]] * 10})
    assert len(decoded("application/json", body, schema=schema)) == 10
    assert not is_slow_to_decode(body.encode(), schema)
    many = json.dumps({"instances": [[1]] * (codecs.LONG_BODY // schema.n_values)})
    assert is_slow_to_decode(many.encode(), schema)
    assert not is_slow_to_decode(many.encode(), SCHEMA)
    monkeypatch.setattr(codecs, "MAX_VALUES", 9 * schema.n_values)
    with pytest.raises(RequestError, match="found 10 rows; send at most 9 per request") as refused:
        decoded("application/json", body, schema=schema)
    assert refused.value.status == 413


def test_a_column_name_can_hold_another_separator():
    names, row = ",".join(SCHEMA.value_columns), ",".join(["1.5"] * SCHEMA.n_values)
    for name in ("note;more", '"note;more"', '"a;b\tc"'):
        found = decoded("text/csv", f"{names},{name}\n{row},3\n")
        np.testing.assert_array_equal(found, [[1.5] * SCHEMA.n_values])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("others", [[], ["id"]])
def test_a_header_of_names_that_the_user_chose_is_found(separator, others):
    roles = Roles("diagnosis", "t*")
    names = [f"t{t}" for t in range(N_TIMEPOINTS)]
    schema = SeriesSchema.from_header(["diagnosis", *names], "multiclass", roles=roles)
    expected = decoded(CSV, LINE, schema=schema)
    header = separator.join([*others, *reversed(names)])
    cells = LINE.split(",")[::-1]
    row = separator.join(["7"] * len(others) + cells)
    assert decoded(CSV, f"{header}\n{row}", schema=schema).tolist() == expected.tolist()
    with pytest.raises(DataError, match=r"^found 11 value columns \(missing: t0\); the file must"):
        decoded(CSV, f"{separator.join(names[1:])}\n{row}", schema=schema)
