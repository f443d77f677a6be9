import gzip
import logging
import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstmfcn.data.reader import open_dataset
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.shards import find_shards
from lstmfcn.errors import DataError

TREE = (
    "b.csv",
    "a.csv.gz",
    "sub/c.parquet",
    "sub/part-1.csv",
    "sub/part-12.csv",
    "sub/deep/part-3.csv",
    "_hidden.csv",
    ".hidden.csv",
    "_temporary/d.csv",
    "sub/.git/e.csv",
)


@pytest.fixture
def tree(tmp_path):
    for name in TREE:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return tmp_path


def find_names(data):
    return [shard.name for shard in find_shards(str(data))]


def test_a_folder_gives_its_visible_shards_of_all_depths_sorted_by_path(tree, caplog):
    assert find_names(tree) == [
        "a.csv.gz",
        "b.csv",
        "sub/c.parquet",
        "sub/deep/part-3.csv",
        "sub/part-1.csv",
        "sub/part-12.csv",
    ]
    assert caplog.text == ""


def test_a_folder_below_a_hidden_folder_can_be_named(tree):
    assert find_names(tree / "_temporary") == ["d.csv"]


def test_other_files_of_a_folder_are_skipped_with_a_warning(tree, caplog):
    (tree / "README.md").write_text("words")
    (tree / "sub" / "notes.txt").write_text("words")
    (tree / "_SUCCESS").write_text("")
    with caplog.at_level(logging.WARNING):
        assert "README.md" not in find_names(tree)
    assert [record.getMessage() for record in caplog.records] == [
        "skipped, because their names are not those of data files: README.md, sub/notes.txt"
    ]


def test_a_single_file_is_one_shard_whatever_its_name(tree):
    (tree / "data.txt").write_text("y,x\n1,2\n")
    (shard,) = find_shards(str(tree / "data.txt"))
    assert (shard.path, shard.name, shard.size) == (str(tree / "data.txt"), "data.txt", 8)
    assert not shard.is_parquet


def test_a_relative_path_is_found_from_the_working_folder(tree, monkeypatch):
    monkeypatch.chdir(tree)
    (shard,) = find_shards("sub/part-1.csv")
    assert shard.path == str(tree / "sub" / "part-1.csv")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["b.csv"]),
        ("*", ["a.csv.gz", "b.csv"]),
        ("sub/part-?.csv", ["part-1.csv"]),
        ("sub/part-*.csv", ["part-1.csv", "part-12.csv"]),
        ("*/part-*.csv", ["sub/part-1.csv", "sub/part-12.csv"]),
        ("sub/*/*.csv", ["deep/part-3.csv"]),
        ("**/*.csv", ["b.csv", "sub/deep/part-3.csv", "sub/part-1.csv", "sub/part-12.csv"]),
        ("sub/**/*.csv", ["deep/part-3.csv", "part-1.csv", "part-12.csv"]),
        ("**/*.parquet", ["sub/c.parquet"]),
        ("[ab].csv*", ["a.csv.gz", "b.csv"]),
    ],
)
def test_a_glob_names_shards_below_its_fixed_folder(tree, pattern, expected):
    assert find_names(tree / pattern) == expected


def test_a_file_with_wildcards_in_its_name_is_found(tmp_path):
    (tmp_path / "a[1]*.csv").write_text("y,x\n1,2\n")
    (tmp_path / "a1.csv").write_text("y,x\n1,2\n")
    assert find_names(tmp_path / "a[1]*.csv") == ["a[1]*.csv"]


@pytest.mark.parametrize(
    ("below", "expected"),
    [
        ("/b.csv", ["b.csv"]),
        ("/sub/deep", ["part-3.csv"]),
        ("/sub/*.csv", ["part-1.csv", "part-12.csv"]),
    ],
)
def test_a_file_uri_is_read_like_a_path(tree, below, expected):
    assert find_names(tree.as_uri() + below) == expected


def test_a_file_uri_may_have_escaped_characters(tmp_path):
    path = tmp_path / "a b%.csv"
    path.write_text("y,x\n1,2\n")
    assert find_names(path.as_uri()) == ["a b%.csv"]


def test_a_shard_opens_as_its_bytes_decompressed_where_named_gz(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"y,x\n1,2\n"))
    (tmp_path / "b.csv").write_bytes(b"y,x\n3,4\n")
    contents = []
    for shard in find_shards(str(tmp_path)):
        with shard.open() as stream:
            contents.append(stream.read())
    assert contents == [b"y,x\n1,2\n", b"y,x\n3,4\n"]


def test_parquet_is_recognised_by_its_bytes(tmp_path):
    table = pa.table({"y": ["a"], "x_1": [1.0]})
    names = ("a.parquet", "b.PARQUET", "c.parq", "d.pq", "e.csv")
    for name in names:
        pq.write_table(table, tmp_path / name)
    (tmp_path / "f.parquet").write_text("y,x_1\na,1\n")
    shards = find_shards(str(tmp_path))
    assert [shard.name for shard in shards] == [*names, "f.parquet"]
    assert [shard.is_parquet for shard in shards] == [True] * 5 + [False]
    assert open_dataset(str(tmp_path)).headers == [["y", "x_1"]] * 6


def test_a_folder_gives_data_in_any_packing_by_suffixes_in_any_case(tmp_path, caplog):
    names = ["A.CSV", "b.csv.GZ", "c.csv.bz2", "d.tsv", "e.tsv.xz", "f.CSV.zst", "g.Parquet"]
    others = ["h.txt", "i.zip", "j.gz", "k.csv.7z", "l.json"]
    for name in (*names, *others):
        (tmp_path / name).write_text("y,x\n1,2\n")
    assert find_names(tmp_path) == names
    assert caplog.messages == [
        f"skipped, because their names are not those of data files: {', '.join(others)}"
    ]


def test_a_shard_keeps_its_layout_on_the_way_to_another_process(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("y;x\n1;2\n")
    (shard,) = find_shards(str(path))
    layout = shard.layout
    sent = pickle.dumps(shard)
    path.unlink()
    assert pickle.loads(sent).layout == layout
    assert pickle.loads(sent) == shard


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "pipe"])
def test_a_pipe_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(DataError, match="save it as a file first, and give that file"):
        find_shards(name)


@pytest.mark.parametrize("layout", ["y=up/part-0.parquet", "y=up/day=3/part-0.parquet"])
@pytest.mark.parametrize("data", ["", "y=up", "y=*/**/*.parquet", "part"])
def test_a_label_in_a_folder_name_is_refused(tmp_path, layout, data):
    path = tmp_path / layout
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"x_1": [1.0]}), path)
    named = path if data == "part" else tmp_path / data
    if "day" in layout and data == "part":
        return  # for a single file, only its folder counts
    with pytest.raises(DataError) as refusal:
        open_dataset(str(named))
    assert str(refusal.value) == (
        f"{path}: found no label column in the header, but y=up as the name of a folder; add a "
        "column y to the files: pandas.read_parquet(FOLDER) reads both"
    )
    open_dataset(
        str(named), schema=SeriesSchema.from_header(["y", "x_1"], "multiclass"), labels=False
    )


@pytest.mark.parametrize("data", ["missing", "missing.csv", "sub/missing.parquet"])
def test_a_missing_path_is_refused(tree, data):
    with pytest.raises(DataError) as refusal:
        find_shards(str(tree / data))
    assert str(refusal.value) == f"{tree / data}: found nothing; check the path"


def test_a_missing_file_uri_is_refused_as_it_was_written(tmp_path):
    uri = (tmp_path / "missing").as_uri()
    with pytest.raises(DataError) as refusal:
        find_shards(uri)
    assert str(refusal.value) == f"{uri}: found nothing; check the path"


@pytest.mark.parametrize("data", ["", "*.csv", "**/*.parquet", "missing/*.csv"])
def test_a_folder_or_glob_without_shards_is_refused(tmp_path, data):
    (tmp_path / "_only.csv").write_text("y,x\n1,2\n")
    (tmp_path / ".only.parquet").write_text("y,x\n1,2\n")
    with pytest.raises(DataError) as refusal:
        find_shards(str(tmp_path / data))
    assert str(refusal.value) == (
        f"{tmp_path / data}: found no shard; "
        "give files, or a folder with files ending in .csv, .csv.gz, .tsv or .parquet"
    )


@pytest.mark.parametrize("data", ["", "empty.csv", "*.csv"])
def test_an_empty_file_is_refused_however_it_is_named(tmp_path, data):
    (tmp_path / "a.csv").write_text("y,x\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError) as refusal:
        find_shards(str(tmp_path / data))
    assert str(refusal.value) == (
        f"{tmp_path / 'empty.csv'}: found an empty file; add rows to it or remove it"
    )


def test_a_uri_of_an_unknown_filesystem_is_refused():
    with pytest.raises(DataError) as refusal:
        find_shards("nowhere://bucket/a.csv")
    message = str(refusal.value)
    assert message.startswith("nowhere://bucket/a.csv: found a URI that cannot be opened (")
    assert message.endswith("); check it")


def test_two_stars_stand_for_whole_folders_only(tmp_path):
    for name in ("part-1.csv", "mypart-2.csv", "sub/part-3.csv", "sub/mypart-4.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("y,x_1\na,1\n")
    found = find_shards(f"{tmp_path}/**/part-*.csv")
    assert [shard.name for shard in found] == ["part-1.csv", "sub/part-3.csv"]
    found = find_shards(f"file://{tmp_path}/**/part-*.csv")
    assert [shard.name for shard in found] == ["part-1.csv", "sub/part-3.csv"]


def test_several_arguments_are_read_in_the_order_given(tree):
    (tree / "data.txt").write_text("data")
    arguments = [f"{tree}/sub/part-*.csv", str(tree / "data.txt"), f"file://{tree}/b.csv"]
    assert find_names_and_paths(arguments) == [
        ("sub/part-1.csv", tree / "sub/part-1.csv"),
        ("sub/part-12.csv", tree / "sub/part-12.csv"),
        ("data.txt", tree / "data.txt"),
        ("b.csv", tree / "b.csv"),
    ]


def find_names_and_paths(arguments):
    return [(shard.name, Path(shard.path)) for shard in find_shards(arguments)]


@pytest.mark.parametrize("sort", [sorted, lambda names: sorted(names, reverse=True)])
def test_files_listed_by_the_shell_have_the_names_of_the_glob(tree, sort, monkeypatch):
    monkeypatch.chdir(tree)
    names = sort(["sub/part-1.csv", "sub/part-12.csv"])
    assert [name for name, _ in find_names_and_paths(names)] == [Path(name).name for name in names]


def test_files_of_one_name_from_several_folders_keep_their_folders(tmp_path, monkeypatch):
    for folder in ("a", "b", "b/c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "day.csv").write_text("y,x_1")
    monkeypatch.chdir(tmp_path / "a")
    names = ["b/day.csv", "b/c/day.csv", "a/day.csv"]
    assert sorted(name for name, _ in find_names_and_paths(["../a", "../b"])) == sorted(names)
    assert [
        name for name, _ in find_names_and_paths([f"{tmp_path}/{name}" for name in names])
    ] == names
    assert [name for name, _ in find_names_and_paths(["../b/day.csv", "../b/c"])] == [
        "day.csv",
        "c/day.csv",
    ]


def test_one_argument_in_a_list_is_that_argument(tree):
    assert find_shards([str(tree)]) == find_shards(str(tree))


@pytest.mark.parametrize(
    "again", ["b.csv", "sub/../b.csv", "*.csv", "link.csv", "", "file://{tree}/b.csv"]
)
def test_a_file_that_two_arguments_name_is_refused(tree, again, monkeypatch):
    (tree / "link.csv").symlink_to(tree / "b.csv")
    monkeypatch.chdir(tree)
    with pytest.raises(DataError, match=r"csv: found a file that is given twice; give it once"):
        find_shards(["b.csv", again.format(tree=tree) or str(tree)])
