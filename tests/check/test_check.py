import io
import json
import os

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lstmfcn.check import findings as check_module
from lstmfcn.check.clean import write_clean
from lstmfcn.check.duplicates import rows_to_drop
from lstmfcn.check.findings import check, lines_for_terminal, to_facts, to_text
from lstmfcn.check.split import split
from lstmfcn.cli.main import main
from lstmfcn.data.packing import PACKED_SUFFIXES
from lstmfcn.data.shards import find_shards
from lstmfcn.data.writer import opened_csv
from lstmfcn.errors import DataError, OutputError
from tests.helpers.small_shards import shard_of

CLEAN = "no faults: training accepts this data"


def make_table(names, seed=0, n_timepoints=6):
    series = np.random.default_rng(seed).normal(size=(len(names), n_timepoints)).round(3)
    columns = [f"x_{i + 1}" for i in range(n_timepoints)]
    return pd.concat([pd.Series(names, name="y"), pd.DataFrame(series, columns=columns)], axis=1)


def find_warnings(folder, validation=None, **options):
    """The warnings, by kind."""
    findings = check(str(folder), validation and str(validation), **options)
    assert findings.n_faults == 0
    return {warning.kind: warning for warning in findings.warnings}


def test_good_data_has_neither_faults_nor_warnings(tmp_path):
    for i in range(2):
        shard_of(make_table(["ant", "bee"] * 10, seed=i), tmp_path / "train" / f"{i}.csv")
    shard_of(make_table(["ant", "bee"] * 5, seed=9), tmp_path / "valid.parquet")
    findings = check(str(tmp_path / "train"), str(tmp_path / "valid.parquet"))
    assert list(to_text(findings)) == [
        f"training: {tmp_path / 'train'}",
        "  2 shards, 40 rows",
        "  6 timepoints, 1 channel",
        "  task multiclass (guessed from its label columns), 2 classes",
        f"validation: {tmp_path / 'valid.parquet'}",
        "  1 shard, 10 rows",
        "",
        "class            training          validation",
        "ant           20 (50.0 %)          5 (50.0 %)",
        "bee           20 (50.0 %)          5 (50.0 %)",
        "",
        CLEAN,
    ]


def test_rows_with_the_same_series_are_reported_with_their_places(tmp_path):
    table = make_table(["ant", "bee"] * 10)
    again, other = table.iloc[[2]], table.iloc[[4]].assign(y="bee")
    broken = table.iloc[[0]].assign(x_1="abc")
    a, b = tmp_path / "train" / "a.csv", tmp_path / "train" / "b.csv"
    shard_of(table, a)
    shard_of(pd.concat([broken, again, other]), b)
    shared = pd.concat([make_table(["ant", "bee"], seed=5), table.iloc[[7, 8]].assign(y="ant")])
    shard_of(shared, tmp_path / "valid.csv")
    findings = check(str(tmp_path / "train"), str(tmp_path / "valid.csv"))
    found = {warning.kind: warning for warning in findings.warnings}
    assert found["duplicates"].places == [f"{b}, row 2, same as {a}, row 3"]
    assert found["contradictions"].places == [f"{b}, row 3, same as {a}, row 5"]
    valid = tmp_path / "valid.csv"
    assert found["shared_rows"].places == [
        f"{valid}, row 3, same as {a}, row 8",
        f"{valid}, row 4, same as {a}, row 9",
    ]
    assert (
        "2 of 4 validation rows with the same series as a training row, 1 with another class"
        in str(found["shared_rows"])
    )
    dropped = rows_to_drop(findings.training, findings.validation, duplicates=True, shared=True)
    assert {file: sorted(rows) for file, rows in dropped.items()} == {str(a): [8, 9], str(b): [2]}
    write_clean(findings, tmp_path / "clean", dropped)
    kept = pd.read_csv(tmp_path / "clean" / "train" / "a.csv")
    pd.testing.assert_frame_equal(kept, table.drop([7, 8]).reset_index(drop=True))
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "clean" / "train" / "b.csv"), other.reset_index(drop=True)
    )
    aside = pd.read_csv(tmp_path / "clean" / "set_aside.csv")
    assert aside["fix"].tolist() == [
        "removed by --drop-shared",
        "removed by --drop-shared",
        "write a number or remove the row",
        "removed by --drop-duplicates",
    ]
    clean = find_warnings(tmp_path / "clean" / "train", tmp_path / "clean" / "validation")
    assert clean.keys() == {"contradictions"}


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"x_2": [5.0] * 40}, "constant_columns", "1 column with one value in all training rows"),
        ({"x_2": [-999.0] + [0.0] * 39}, "extreme_values", "1 value of the training data more "),
        ({"y": ["ant"] * 37 + ["bee"] * 3}, "few_rows", "1 class with fewer than 5 training rows"),
        ({"y": ["ant"] * 37 + ["bee"] * 3}, "uneven_classes", "12 times as many training rows of"),
        ({"y": ["ant", "Ant"] * 20}, "names_alike", "almost the same: Ant, ant;"),
        ({"y": ["ant 1", "ant\u00a01"] * 20}, "names_alike", "almost the same: ant 1, ant\u00a01;"),
        ({"y": ["\ufb01n", "fin"] * 20}, "names_alike", "almost the same: fin, \ufb01n;"),
        ({"y": ["007", "7"] * 20}, "names_alike", "almost the same: 007, 7;"),
    ],
)
def test_suspicious_data_gives_a_warning(tmp_path, change, kind, says):
    table = make_table(["ant", "bee"] * 20)
    shard_of(table.assign(**change), tmp_path / "a.csv")
    assert kind not in find_warnings(shard_of(table, tmp_path / "b" / "b.csv").path)
    assert says in str(find_warnings(tmp_path / "a.csv")[kind])


@pytest.mark.parametrize(
    ("names", "kind", "says"),
    [
        (["y", "x_1", "x_10", "x_2"], "column_order", "found the column x_10 before x_2 in the "),
        (["y", "x2_1", "x2_10", "x2_2"], "column_order", "the column x2_10 before x2_2 in the "),
        (["y", "xb", "xa", "xc"], "names_without_numbers", "3 value columns without a number in "
         "the name: xb, xa, xc; they are read as one channel, in the order of the header; rename"),
        (["year", "x_1", "x_2", "x_3"], "odd_labels", "the column year, read as labels because "),
    ],
)  # fmt: skip
def test_suspicious_column_names_give_a_warning(tmp_path, names, kind, says):
    table = make_table(["ant", "bee"] * 10, n_timepoints=3)
    usual = shard_of(table, tmp_path / "b" / "b.csv").path
    shard_of(table.set_axis(names, axis=1), tmp_path / "a.csv")
    assert kind not in find_warnings(usual)
    found = find_warnings(tmp_path / "a.csv")
    assert found.keys() == {kind}
    assert says.removeprefix("found ") in str(found[kind])


def test_classes_with_names_of_missing_labels_give_a_warning(tmp_path):
    shard_of(make_table(["ant", "NA", "bee", "null"] * 10), tmp_path / "a.csv")
    assert check(str(tmp_path / "a.csv")).n_faults == 20
    found = find_warnings(tmp_path / "a.csv", missing_labels="name")
    assert str(found["missing_names"]) == (
        "2 classes whose name often stands for a missing label: NA (10), null (10); "
        "without --missing-labels name, training refuses such rows"
    )


@pytest.mark.parametrize(
    ("lines", "advice"),
    [
        ("y,x_1\na,1\nb,2\na,no\n", "correct them, or remove these rows with --fix --output DIR"),
        ("y,x_1\na,no\nb,no\n", "correct them"),
        ("x_1,x_2\n1,2\n", "correct them"),
        ("y,x_1,x_1\na,1,2\n", "correct them"),
        ("y,x_1\na,1\na,2\n", "correct them"),
    ],
)
def test_leaving_rows_out_is_advised_where_others_are_left(tmp_path, capsys, lines, advice):
    (tmp_path / "a.csv").write_text(lines)
    assert main(["check", str(tmp_path / "a.csv")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"; {advice}")
    assert "fault" in last


def test_an_extreme_value_is_reported_with_its_place(tmp_path):
    table = make_table(["ant", "bee"] * 20)
    table.loc[16, "x_3"] = -9999.5
    shard_of(table, tmp_path / "a.csv")
    places = find_warnings(tmp_path / "a.csv")["extreme_values"].places
    assert places == [f"{tmp_path / 'a.csv'}, row 17, column x_3: -9999.5"]


def test_series_with_only_one_constant_channel_give_no_warning(tmp_path):
    table = make_table(["ant", "bee"] * 10, n_timepoints=4)
    table.loc[3, ["x_1", "x_2"]] = 1.0
    table.loc[5, ["x_1", "x_2", "x_3", "x_4"]] = [1.0, 1.0, 2.0, 2.0]
    shard_of(table.set_axis(["y", "x1_1", "x1_2", "x2_1", "x2_2"], axis=1), tmp_path / "a.csv")
    assert find_warnings(tmp_path / "a.csv")["constant_series"].places == [
        f"{tmp_path}/a.csv, row 6"
    ]


def test_a_class_without_validation_rows_gives_a_warning_and_an_unknown_class_is_refused(tmp_path):
    shard_of(make_table(["ant", "bee"] * 10), tmp_path / "train.csv")
    valid = shard_of(make_table(["ant", "ant", "cat"], seed=2), tmp_path / "valid.csv").path
    findings = check(str(tmp_path / "train.csv"), valid)
    assert [str(fault) for fault in findings.faults] == [
        f"{valid}, row 3, column y: found the class 'cat'; "
        "the model's classes are ant, bee; correct the label or train a new model"
    ]
    assert [warning.kind for warning in findings.warnings] == ["not_validated"]


def test_missing_values_are_faults_or_lengths(tmp_path):
    table = make_table(["ant", "bee"] * 10)
    table.loc[0, ["x_5", "x_6"]] = np.nan
    table.loc[1, "x_2"] = np.nan
    shard_of(table, tmp_path / "a.csv")
    assert check(str(tmp_path / "a.csv")).n_faults == 3
    lines = list(to_text(check(str(tmp_path / "a.csv"), missing="mask")))
    assert "  series of 4 to 6 timepoints, median 6; 1 value missing inside the series" in lines
    assert CLEAN in lines


@pytest.mark.parametrize(
    ("rows", "task", "n_faults"),
    [
        (["1,0", "0,1"] * 5 + ["1,1"], "multiclass", 1),
        (["1,1", "0,0", "0,1"] * 5, "multilabel", 0),
    ],
)
def test_the_task_is_guessed_from_several_label_columns(tmp_path, rows, task, n_faults):
    lines = [f"{labels},{i},2" for i, labels in enumerate(rows)]
    (tmp_path / "a.csv").write_text("\n".join(["y_1,y_2,x_1,x_2", *lines]))
    findings = check(str(tmp_path / "a.csv"))
    assert findings.training.schema.task == task
    assert findings.n_faults == n_faults


def test_of_shards_that_disagree_the_fewer_are_at_fault(tmp_path):
    shard_of(make_table(["ant", "bee"]).drop(columns="x_3"), tmp_path / "a.csv")
    for name in ("b", "c"):
        shard_of(make_table(["ant", "bee"], seed=3), tmp_path / f"{name}.csv")
    (fault,) = check(str(tmp_path)).faults
    assert (fault.file, fault.found) == (
        str(tmp_path / "a.csv"),
        "5 value columns (missing: x_3)",
    )


def test_a_class_without_rows_is_a_fault_of_the_data(tmp_path):
    (tmp_path / "a.csv").write_text("y_1,y_2,x_1\n1,0,1\n1,0,2\n")
    (fault,) = check(str(tmp_path / "a.csv")).faults
    assert (fault.file, fault.found) == (str(tmp_path / "a.csv"), "no row of the class y_2")


def bad_data(folder):
    table = make_table(["ant", "bee"] * 10).astype(object)
    table.loc[[1, 2, 3], "x_2"] = ["abc", "", "inf"]
    shard_of(table, folder / "a.csv")
    return folder


def test_the_command_lists_up_to_a_limit_and_ends_with_2(tmp_path, capsys):
    data = bad_data(tmp_path / "in")
    assert main(["check", str(data), "--limit", "1"]) == 2
    captured = capsys.readouterr()
    assert f"  {data}/a.csv, row 2, column x_2: found 'abc'; write a number" in captured.out
    assert "  and 2 more; --limit 3 lists all\n" in captured.out
    assert captured.err.splitlines()[-1] == (
        f"lstmfcn: {data}: found 3 faults; correct them, or remove these rows with --fix "
        "--output DIR"
    )
    assert main(["check", str(data), "--limit", "1", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["n_faults"], len(found["faults"])) == (3, 1)
    assert found["training"]["classes"] == {"ant": 9, "bee": 8}
    assert found["faults"][0]["row"] == 2


def test_the_command_fixes_and_ends_with_0(tmp_path, capsys):
    data, clean = bad_data(tmp_path / "in"), tmp_path / "clean"
    assert main(["check", str(data), "--fix", "--output", str(clean)]) == 0
    said = f"{clean}: 17 rows; set aside: 3 rows and 0 shards, listed in {clean}/set_aside.csv"
    assert capsys.readouterr().out.splitlines()[-1] == said
    assert main(["check", str(clean / "train")]) == 0


@pytest.mark.parametrize(
    "flags", [["--fix"], ["--output", "clean"], ["--drop-duplicates"], ["--drop-shared"]]
)
def test_flags_that_go_together_are_refused_alone(tmp_path, capsys, flags):
    assert main(["check", str(bad_data(tmp_path)), *flags]) == 2
    assert "--fix and --output DIR go together" in capsys.readouterr().err


def test_nothing_is_written_into_the_data_or_where_nothing_could_be_trained(tmp_path):
    findings = check(str(bad_data(tmp_path / "in")))
    with pytest.raises(OutputError, match="is inside the data"):
        write_clean(findings, tmp_path / "in" / "clean", {})
    (tmp_path / "in" / "a.csv").write_text("y,x_1\na,1\na,2\nb,c\n")
    with pytest.raises(DataError, match="only the class a, after rows with faults were removed"):
        write_clean(check(str(tmp_path / "in")), tmp_path / "clean", {})
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_a_clean_shard_keeps_its_format_and_its_other_columns(tmp_path, suffix):
    table = make_table(["ant", "bee"] * 10).assign(id=[f"n°{i}, a" for i in range(20)])
    table.loc[4, "x_2"] = np.inf
    shard_of(table, tmp_path / "in" / "deep" / f"a.{suffix}")
    write_clean(check(str(tmp_path / "in")), tmp_path / "clean", {})
    read = pd.read_parquet if suffix == "parquet" else pd.read_csv
    kept = read(tmp_path / "clean" / "train" / "deep" / f"a.{suffix}")
    pd.testing.assert_frame_equal(kept, table.drop(4).reset_index(drop=True))


def test_a_terminal_gets_tables_of_80_columns(tmp_path):
    console = Console(width=80, force_terminal=True, color_system=None, file=io.StringIO())
    findings = check(str(bad_data(tmp_path / "in")))
    lines = lines_for_terminal(findings, console)
    assert max(map(len, lines)) <= 80 or str(tmp_path) in max(lines, key=len)
    assert any(line.split()[:3] == ["2", "x_2", "'abc'"] for line in lines)


def test_json_has_all_findings(tmp_path):
    findings = check(str(bad_data(tmp_path / "in")), missing="mask")
    found = json.loads(json.dumps(to_facts(findings), allow_nan=False))
    assert found["training"]["lengths"] == {"least": 6, "median": 6, "most": 6, "missing": 1}
    assert [fault["found"] for fault in found["faults"]] == [f.found for f in findings.faults]


ABOVE = {"sep": "sep=;\n", "comment": "# a logger\n\n# of ours\n", "nothing": ""}


@pytest.mark.parametrize("above", ABOVE)
@pytest.mark.parametrize("name", ["a.csv", "a.CSV.gz", "a.csv.bz2", "a.csv.xz", "a.csv.zst"])
def test_fix_removes_lines_that_are_not_rows(tmp_path, above, name):
    table = make_table(["ant", "bee"] * 5).assign(note='p;q "r", s')
    text = table.to_csv(index=False, sep=";", decimal=",")
    header, rows = text.split("\n", 1)
    units = "label" + ";mV" * 6 + ";\n"
    empty = ";" * 7 + "\n"
    lines = [ABOVE[above], header, "\n", units, rows, header, "\n", rows, empty, empty]
    write_packed(tmp_path / "in" / name, "".join(lines))
    findings = check(str(tmp_path / "in"))
    found = [fault.found for fault in findings.faults]
    assert found[bool(ABOVE[above]) :] == [
        "text instead of all values (mV, mV, mV, mV, mV, mV), perhaps units",
        "a second header",
        "an empty row",
        "an empty row",
    ]
    cleaned = write_clean(findings, tmp_path / "clean", {})
    assert (cleaned.n_rows, cleaned.n_rows_left_out, cleaned.n_shards_left_out) == (20, 4, 0)
    assert check(str(tmp_path / "clean" / "train")).n_faults == 0
    (shard,) = find_shards(str(tmp_path / "clean" / "train"))
    assert shard.layout.packing == find_shards(str(tmp_path / "in"))[0].layout.packing
    assert (shard.name, shard.layout.dialect) == (name, (";", ","))
    with shard.open() as stream:
        kept = pd.read_csv(io.BytesIO(stream.read(1 << 20)), sep=";", decimal=",")
    pd.testing.assert_frame_equal(kept, pd.concat([table] * 2).reset_index(drop=True))
    aside = pd.read_csv(tmp_path / "clean" / "set_aside.csv")
    assert len(aside) == len(found)


def write_packed(path, text):
    path.parent.mkdir()
    packing = PACKED_SUFFIXES.get(path.suffix, "")
    with opened_csv(path, packing) as file:
        file.write(text)


def test_a_file_in_good_order_but_for_a_line_above_its_header_is_copied_without_it(tmp_path):
    table = make_table(["ant", "bee"] * 5)
    write_packed(tmp_path / "in" / "a.csv", "# a\n" + table.to_csv(index=False))
    write_clean(check(str(tmp_path / "in")), tmp_path / "clean", {})
    kept = (tmp_path / "clean" / "train" / "a.csv").read_text()
    assert kept == table.to_csv(index=False)


def test_a_second_header_of_other_columns_leaves_out_the_whole_file(tmp_path):
    table = make_table(["ant", "bee"] * 5)
    other = table[[*table.columns[::-1]]].to_csv(index=False)
    write_packed(tmp_path / "in" / "a.csv", table.to_csv(index=False) + other)
    (tmp_path / "in" / "b.csv").write_text(table.to_csv(index=False))
    findings = check(str(tmp_path / "in"))
    assert [(f.row, f.found) for f in findings.faults] == [
        (11, "a second header, with other columns or another order")
    ]
    cleaned = write_clean(findings, tmp_path / "clean", {})
    assert (cleaned.n_rows, cleaned.n_shards_left_out) == (10, 1)


def test_a_shard_that_changes_while_it_is_checked_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text(make_table(["ant", "bee"] * 5).to_csv(index=False))
    headers = check_module.read_headers

    def read_and_cut(*arguments):
        found = headers(*arguments)
        os.truncate(path, path.stat().st_size - 1)
        return found

    monkeypatch.setattr(check_module, "read_headers", read_and_cut)
    (fault,) = check(str(path)).faults
    assert fault.found == "a file that changed while it was being read"


@pytest.mark.parametrize("broken", [False, True])
def test_markers_of_gaps_and_missing_labels_are_checked_as_training_reads_them(tmp_path, broken):
    names = ["NA", "None", "ant", "bee"] * 5
    gaps = make_table(names).astype({"x_2": object})
    gaps.loc[::4, "x_2"] = "<NA>"
    gaps.loc[1, "x_2"] = "?"
    if broken:
        gaps.loc[2, "x_3"] = np.inf
        gaps = gaps.astype({"x_4": object})
        gaps.loc[3, "x_4"] = "abc"  # so that the shard is read line by line
    shard_of(gaps, tmp_path / "a.csv")
    options = {"missing": "mask", "missing_marker": "?", "missing_labels": "name"}
    findings = check(str(tmp_path / "a.csv"), **options)
    assert [fault.row for fault in findings.faults] == ([3, 4] if broken else [])
    assert findings.training.class_counts().keys() == {"NA", "None", "ant", "bee"}
    write_clean(findings, tmp_path / "clean", {})
    assert not check(str(tmp_path / "clean" / "train"), **options).n_faults
    strict = check(str(tmp_path / "a.csv"), missing="mask")
    missing = [fault.row for fault in strict.faults if fault.column == "y"]
    assert missing == [row + 1 for row, name in enumerate(names) if name in ("NA", "None")]


def test_lists_of_parquet_are_checked_as_training_reads_them(tmp_path):
    for name, length in (("a", 3), ("b", 2)):
        series = np.random.default_rng(length).normal(size=(20, length)).tolist()
        frame = pd.DataFrame({"y": ["ant", "bee"] * 10, "x": series})
        frame.to_parquet(tmp_path / f"{name}.parquet")
    findings = check(str(tmp_path), missing="mask")
    assert findings.n_faults == 0
    assert findings.training.lengths() == {"least": 2, "median": 2, "most": 3, "missing": 0}
    (fault,) = check(str(tmp_path)).faults
    assert fault.file == str(tmp_path / "b.parquet")
    assert "found 2 value columns (missing: x_3)" in str(fault)


def test_a_task_is_guessed_of_labels_with_decimal_commas(tmp_path):
    rows = ["1,0;0,0;0,5", "0,0;1,0;1,5"] * 5
    (tmp_path / "a.csv").write_text("\n".join(["y_1;y_2;x_1", *rows]))
    findings = check(str(tmp_path / "a.csv"))
    assert (findings.training.schema.task, findings.n_faults) == ("multiclass", 0)


@pytest.mark.parametrize(
    ("cell", "separator"), [("1,5", ";"), ('"1,500"', ","), ("1\u00a0500", ","), ("1'500.5", ",")]
)
def test_rows_of_numbers_in_another_form_are_not_units(tmp_path, cell, separator):
    rows = ["a,1.5,2.5", "b,3.5,4.5"] * 150
    text = "\n".join(["y,x_1,x_2", *rows]).replace(",", separator)
    (tmp_path / "a.csv").write_text(f"{text}\na{separator}{cell}{separator}{cell}\n")
    faults = check(str(tmp_path / "a.csv")).faults
    message = "use one decimal mark in all numbers, and no thousands separators"
    assert [(f.row, f.column, f.fix) for f in faults] == [
        (301, "x_1", message),
        (301, "x_2", message),
    ]


def test_a_task_is_guessed_of_true_and_false(tmp_path):
    table = make_table(["ant"] * 20).drop(columns="y")
    bools = np.random.default_rng(0).random((20, 3)) < 0.5
    labels = pd.DataFrame(bools, columns=["y_a", "y_b", "y_c"])
    one_hot = pd.get_dummies(pd.Series(["a", "b"] * 10), prefix="y")
    for frame, task in ((labels, "multilabel"), (one_hot, "multiclass")):
        shard_of(pd.concat([frame, table], axis=1), tmp_path / "a.csv")
        findings = check(str(tmp_path / "a.csv"))
        assert findings.training.schema.task == task
        assert findings.n_faults == 0
        shard_of(pd.concat([frame, table], axis=1), tmp_path / "a.parquet")
        assert check(str(tmp_path / "a.parquet")).training.class_counts() == (
            findings.training.class_counts()
        )


def test_a_marker_alone_is_refused(tmp_path, capsys):
    shard_of(make_table(["ant", "bee"] * 10), tmp_path / "a.csv")
    assert main(["check", str(tmp_path / "a.csv"), "--missing-marker", "?"]) == 2
    assert "found '?'; it must be used together with --missing mask" in capsys.readouterr().err


def test_groups_on_both_sides_give_a_warning(tmp_path):
    for name, patients in (("a", ["p1", "p2", "p3", ""]), ("b", ["p2", "p4", "p3", ""])):
        rows = make_table(["ant", "bee"] * 10).assign(patient=patients * 5)
        shard_of(rows, tmp_path / f"{name}.csv")
    places = str(tmp_path / "a.csv"), str(tmp_path / "b.csv")
    (found,) = [w for w in check(*places, group_column="patient").warnings if "group" in w.kind]
    assert (found.kind, found.n, found.places) == ("shared_groups", 2, ["p2", "p3"])
    assert str(found) == (
        "2 groups of the column patient in training and validation data: p2, p3; rows of one group "
        "are alike, so the validation looks better than it is; keep a group on one side (lstmfcn "
        "split --group-column patient)"
    )
    assert not [w for w in check(*places).warnings if "group" in w.kind]
    with pytest.raises(DataError, match=r"found no column 'device'; besides its values"):
        check(*places, group_column="device")


def test_a_split_by_group_has_no_group_on_both_sides(tmp_path):
    rows = make_table(["ant", "bee"] * 30).assign(patient=[f"p{row // 4}" for row in range(60)])
    shard_of(rows, tmp_path / "a.csv")
    split(str(tmp_path / "a.csv"), tmp_path / "out", group_column="patient")
    parts = (str(tmp_path / "out" / name) for name in ("train", "validation"))
    assert not [w for w in check(*parts, group_column="patient").warnings if "group" in w.kind]
