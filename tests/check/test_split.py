"""Splits: every row once, each class with its share, no group in two parts."""

import gzip
import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.check.split import PARTS, Shares, assign_groups, assign_rows, cut_in_order, split
from lstmfcn.cli.main import main
from lstmfcn.data.columns import Roles
from lstmfcn.errors import DataError, OutputError

SHARES = st.tuples(st.floats(0.05, 0.45), st.floats(0, 0.45)).map(lambda both: Shares(*both))


def table(n_rows=90, classes=("ant", "bee", "cat")):
    """Rows of a few patients, each with a number of its own."""
    return pd.DataFrame({
        "id": np.arange(n_rows),
        "patient": [f"p{row % 9}" for row in range(n_rows)],
        "y": [classes[row % len(classes)] for row in range(n_rows)],
        "x_1": np.random.default_rng(0).normal(size=n_rows).round(3),
    })  # fmt: skip


def parts_of(folder):
    """The rows of each part, over all of its shards."""
    return {
        name: pd.concat(map(pd.read_csv, sorted((folder / name).rglob("*.csv"))))
        for name in PARTS
        if (folder / name).exists()
    }


@given(
    codes=st.lists(st.integers(0, 4), min_size=2, max_size=300).map(np.array),
    shares=SHARES,
    seed=st.integers(0, 9),
)
def test_each_class_has_its_share_in_each_part_and_a_row_for_training(codes, shares, seed):
    parts = assign_rows(codes, shares, seed)
    assert np.array_equal(parts, assign_rows(codes, shares, seed))
    for code in np.unique(codes):
        of_class = parts[codes == code]
        assert (of_class == 0).any()
        for part, share in enumerate(shares.all[1:], start=1):
            rows = int((of_class == part).sum())
            assert rows <= share * len(of_class) + 1.5
            if len(of_class) > 3:
                assert rows >= share * len(of_class) - 2.5  # a row stays for training


@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=1, max_size=300),
    shares=SHARES,
    seed=st.integers(0, 9),
)
def test_no_group_is_in_two_parts_whatever_the_groups(rows, shares, seed):
    codes = np.unique([code for code, _ in rows], return_inverse=True)[1]
    groups = np.unique([group for _, group in rows], return_inverse=True)[1]
    parts = assign_groups(codes, groups, shares, seed)
    for group in np.unique(groups):
        assert len(set(parts[groups == group].tolist())) == 1
    n_parts = 2 + (shares.test > 0)
    assert parts.max() < n_parts
    assert len(set(parts.tolist())) == min(n_parts, len(np.unique(groups)))


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_one_size_meet_the_shares_to_a_group(seed):
    random = np.random.default_rng(seed)
    groups, codes = np.repeat(np.arange(50), 8), random.integers(0, 2, 400)
    parts = assign_groups(codes, groups, Shares(0.2, 0.1), seed)
    counts = np.bincount(parts, minlength=3)
    np.testing.assert_allclose(counts, [280, 80, 40], atol=8)
    for part in (1, 2):
        assert abs(codes[parts == part].mean() - codes.mean()) < 0.1


@given(n_rows=st.integers(1, 500), shares=SHARES)
def test_in_order_each_part_follows_the_one_before(n_rows, shares):
    parts = cut_in_order(n_rows, shares)
    assert (np.diff(parts) >= 0).all()
    for part, share in enumerate(shares.all):
        assert abs((parts == part).sum() - share * n_rows) <= 1


@pytest.mark.parametrize("group_column", ["", "patient"])
def test_every_row_is_copied_once_in_its_shards_format_and_order(tmp_path, group_column):
    rows = table()
    rows["note"] = 'a "quoted", text\nin two lines'
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    rows[:40].to_csv(data / "a.csv", index=False, sep=";")
    (data / "sub" / "b.csv.gz").write_bytes(gzip.compress(rows[40:70].to_csv(index=False).encode()))
    rows[70:].to_parquet(data / "c.parquet")
    output = tmp_path / "out"
    found = split(str(data), output, Shares(0.2, 0.2), group_column=group_column)
    assert [part.name for part in found] == list(PARTS)
    kept = []
    for part in found:
        folder = output / part.name
        tables = [
            *(pd.read_csv(path, sep=";") for path in folder.glob("a.csv")),
            *(pd.read_csv(path) for path in folder.glob("sub/b.csv.gz")),
            *(pd.read_parquet(path) for path in folder.glob("c.parquet")),
        ]
        whole = pd.concat(tables)
        assert len(whole) == part.rows
        assert whole["y"].value_counts().to_dict() == {k: v for k, v in part.classes.items() if v}
        assert all(frame["id"].is_monotonic_increasing for frame in tables)
        assert part.groups == (whole["patient"].nunique() if group_column else 0)
        kept.append(whole)
    together = pd.concat(kept).sort_values("id").reset_index(drop=True)
    pd.testing.assert_frame_equal(together, rows)
    if group_column:
        assert max(Counter(name for w in kept for name in set(w["patient"])).values()) == 1


def test_a_seed_gives_one_split_and_another_seed_another(tmp_path):
    table().to_csv(tmp_path / "a.csv", index=False)
    found = {}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        split(str(tmp_path / "a.csv"), tmp_path / name, seed=seed)
        found[name] = parts_of(tmp_path / name)["validation"]["id"].tolist()
    assert found["one"] == found["same"] != found["other"]
    assert len(found["one"]) == 18


def test_one_hot_labels_and_labels_that_are_named_are_classes(tmp_path):
    rows = table()
    one_hot = pd.get_dummies(rows["y"], prefix="is").astype(int)
    pd.concat([rows[["id", "x_1"]], one_hot], axis=1).to_csv(tmp_path / "a.csv", index=False)
    found = split(str(tmp_path / "a.csv"), tmp_path / "out", roles=Roles("is_*"))
    assert found[1].classes == {"is_ant": 6, "is_bee": 6, "is_cat": 6}


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        ({"y": ["a", None]}, {}, r"a\.csv, row 2, column y: found an empty cell"),
        ({"y": ["a", "b"], "g": ["p", ""]}, {"group_column": "g"}, r"row 2, column g: found an"),
        ({"y": ["a", "b"]}, {"group_column": "g"}, r"found no column 'g'; besides its values"),
        ({"y": ["a", "a"]}, {}, r"found only the class a; .*--label-column"),
        ({"z": ["a", "a"]}, {}, r"found no label column .*add --label-column NAME"),
        ({"y": ["a", "b"], "year": [1, 2]}, {}, r"found 2 columns whose names start with y"),
        ({"y": ["a", "b"]}, {}, r"found too few rows for 2 parts, of which validation"),
        ({"y": ["a", "b"] * 9, "g": [1] * 18}, {"group_column": "g"}, r"too few groups in the col"),
    ],
)  # fmt: skip
def test_what_cannot_be_split_is_refused_and_nothing_is_written(tmp_path, cells, options, message):
    pd.DataFrame({**cells, "x_1": 1.5}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match=message):
        split(str(tmp_path / "a.csv"), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_is_replaced_only_if_it_is_an_earlier_split(tmp_path, capsys):
    data, output = tmp_path / "a.csv", tmp_path / "out"
    table().to_csv(data, index=False)
    flags = ["split", str(data), "--output", str(output)]
    assert main([*flags, "--test", "0.2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {name: part["rows"] for name, part in facts["parts"].items()} == {
        "train": 54, "validation": 18, "test": 18,
    }  # fmt: skip
    record = json.loads((output / "split.json").read_text())
    assert {name: record[name] for name in ("validation", "test", "seed", "group_column")} == {
        "validation": 0.2, "test": 0.2, "seed": 0, "group_column": "",
    }  # fmt: skip
    assert [part["rows"] for part in record["parts"]] == [54, 18, 18]
    assert main(flags) == 2
    assert "is not empty; add --overwrite" in capsys.readouterr().err
    assert main([*flags, "--overwrite"]) == 0
    assert not (output / "test").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").touch()
    with pytest.raises(OutputError, match="is not empty"):
        split(str(data), mine, overwrite=True)
    with pytest.raises(OutputError, match="is inside the data"):
        split(str(tmp_path), output / "train", overwrite=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--validation", "0.5", "--test", "0.5"], "give shares above 0 that leave rows for"),
        (["--validation", "0"], "give shares above 0 that leave rows for training"),
        (["--in-order", "--group-column", "patient"], "found --in-order and --group-column"),
    ],
)  # fmt: skip
def test_flags_that_do_not_go_together_are_refused(tmp_path, capsys, flags, message):
    table().to_csv(tmp_path / "a.csv", index=False)
    words = ["split", str(tmp_path / "a.csv"), "--output", str(tmp_path / "out"), *flags]
    assert main(words) == 2
    assert message in capsys.readouterr().err
