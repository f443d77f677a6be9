from pathlib import Path

import pytest

from lstmfcn.data.shards import Shard
from lstmfcn.inference.prediction_files import make_finder, output_names


def named(*names):
    return [Shard(f"/in/{name}", name, 1) for name in names]


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("a.csv", "a.csv"), ("d/a.csv.gz", "d/a.csv.gz"), ("UPPER.CSV", "UPPER.CSV"),
        ("data.txt", "data.txt"), ("part", "part"), ("d/a.parquet", "d/a.csv"),
        ("a.PARQUET", "a.csv"), ("a.parq", "a.csv"), ("a.tsv", "a.csv"), ("a.tsv.gz", "a.csv.gz"),
        ("a.csv.bz2", "a.csv"), ("a.csv.xz", "a.csv"), ("a.b.csv.zst", "a.b.csv"),
        ("sub/A.CSV", "sub/A.CSV"),
        ("a.csv.gz", "a.csv.gz"),
        ("a.CSV.ZST", "a.csv"),
        ("a.tsv.xz", "a.csv"),
        ("a.parquet", "a.csv"),
        ("v1.2/a.PARQUET", "v1.2/a.csv"),
        ("data", "data"),
    ],
)  # fmt: skip
def test_a_prediction_file_has_its_shards_name_and_is_csv(name, output):
    assert output_names(named(name)) == [output]


def test_shards_that_differ_by_suffix_alone_have_files_of_their_own():
    names = ["a.csv", "a.parquet", "b.parquet", "d/a.csv", "c.tsv", "c.parq"]
    expected = ["a.csv", "a.parquet.csv", "b.csv", "d/a.csv", "c.tsv.csv", "c.parq.csv"]
    assert output_names(named(*names)) == expected
    assert output_names(named(*names[::-1])) == expected[::-1]


@pytest.mark.parametrize(
    ("data", "file", "finds"),
    [
        ("sub", "sub/out/a.csv", True),
        (".", "out/a.csv", True),
        ("sub", "out/a.csv", False),
        ("sub", "sub/_out/a.csv", False),
        ("sub/part-1.csv", "sub/part-1.csv/a.csv", False),
        ("sub/*.csv", "sub/out/a.csv", False),
        ("sub/**/*.csv", "sub/out/a.csv", True),
        ("*/out/part-*.csv", "sub/out/part-0.csv", True),
        ("*/out/part-*.csv", "sub/out/a.csv", False),
        ("nowhere/*.csv", "nowhere/a.csv", True),
    ],
)
def test_finder_says_which_argument_would_find_a_file(tmp_path, monkeypatch, data, file, finds):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    for named in (data, f"file://{tmp_path}/{data}"):
        assert make_finder(["b.csv", named])(Path(file).absolute()) == (named if finds else None)
