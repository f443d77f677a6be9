import logging
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from lstmfcn import listing
from lstmfcn.errors import DataError
from lstmfcn.reading import survey
from lstmfcn.shards import _leads, _matches, find_shards

ROW = "y,x_1\na,1\n"


def tree(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ROW)


def found(data):
    return [shard.name for shard in find_shards(str(data))]


@pytest.mark.parametrize("name", ["part-1.csv", "part-1.parquet", "folder", "sub/part-1.csv"])
@pytest.mark.parametrize("pattern", ["", "**/*", "**/part-*"])
def test_a_link_to_nothing_is_refused_by_name(tmp_path, name, pattern):
    tree(tmp_path, "part-0.csv", "sub/part-0.csv")
    (tmp_path / name).symlink_to("/not/fetched")
    for data in (tmp_path / pattern, tmp_path / name, (tmp_path / pattern).as_uri()):
        if "*" in str(data) and name == "folder" and "part" in str(data):
            continue
        with pytest.raises(DataError) as refusal:
            find_shards(str(data))
        assert str(refusal.value) == (
            f"{tmp_path / name}: found a link to nothing (/not/fetched); fetch what it stands for "
            "(such as dvc pull, git annex get), or remove it"
        )


def test_a_link_to_nothing_may_have_been_a_folder_that_a_glob_leads_through(tmp_path):
    tree(tmp_path, "a/x.csv")
    (tmp_path / "b").symlink_to("/not/fetched")
    (tmp_path / "_c").symlink_to("/not/fetched")
    (tmp_path / "d").symlink_to("d")
    with pytest.raises(DataError, match=r"/(b|d): found a link to nothing"):
        find_shards(f"{tmp_path}/*/x.csv")
    assert found(f"{tmp_path}/a/x.c*") == ["x.csv"]


@pytest.mark.parametrize("target", [".", "..", "sub", "../data", "sub/..", "/"])
def test_a_link_to_what_is_read_already_is_passed_over_and_told(tmp_path, caplog, target):
    data = tmp_path / "data"
    tree(data, "a.csv", "sub/b.csv")
    (data / "again").symlink_to(target)
    (data / "sub" / "up").symlink_to("..")
    assert found(data) == ["a.csv", "sub/b.csv"]
    assert caplog.messages == ["passed over, links to what is read already: again, sub/up"]
    assert found(f"{data}/**/*.csv") == ["a.csv", "sub/b.csv"]


def test_what_lies_outside_is_read_once_whatever_links_lead_there(tmp_path, caplog):
    data, outside = tmp_path / "data", tmp_path / "outside"
    tree(data, "a.csv")
    tree(outside, "b.csv", "deep/c.csv")
    for name, target in {"one": outside, "two": outside, "three": outside / "deep"}.items():
        (data / name).symlink_to(target)
    (outside / "back").symlink_to(data)
    (outside / "deep" / "loop").symlink_to(outside)
    assert found(data) == ["a.csv", "one/b.csv", "one/deep/c.csv"]
    told = "one/back, one/deep/loop, three, two"
    assert caplog.messages == [f"passed over, links to what is read already: {told}"]


def test_two_names_of_one_file_are_read_once(tmp_path, caplog):
    data = tmp_path / "data"
    tree(data, "a.csv", "d.csv")
    tree(tmp_path, "outside.csv")
    (data / "b.csv").symlink_to("a.csv")
    (data / "c.csv").hardlink_to(data / "d.csv")
    (data / "e.csv").symlink_to("d.csv")
    (data / "f.csv").symlink_to(tmp_path / "outside.csv")
    (data / "g.csv").symlink_to("f.csv")
    (data / "h.txt").hardlink_to(data / "a.csv")
    assert found(data) == ["a.csv", "c.csv", "f.csv"]
    assert caplog.messages == [
        "passed over, links to what is read already: b.csv, d.csv, e.csv, g.csv",
        "not read, by their names no data: h.txt",
    ]


def test_a_file_that_a_glob_leaves_out_hides_none_that_it_names(tmp_path):
    tree(tmp_path, "b/x.csv")
    (tmp_path / "a.csv").hardlink_to(tmp_path / "b" / "x.csv")
    assert found(f"{tmp_path}/*/x.csv") == ["b/x.csv"]


@settings(max_examples=40, database=None)
@given(
    links=st.lists(
        st.tuples(
            st.sampled_from(["", "s/", "s/t/", "u/"]),
            st.sampled_from([".", "..", "s", "../s", "t", "../u", "../../u", "u"]),
        ),
        max_size=6,
    )
)
def test_no_links_make_a_row_count_twice(tmp_path_factory, links):
    data = tmp_path_factory.mktemp("data")
    tree(data, "a.csv", "s/b.csv", "s/t/c.csv", "u/d.csv")
    for i, (folder, target) in enumerate(links):
        if (data / folder / target).exists():
            (data / folder / f"link{i}").symlink_to(target)
    assert found(data) == ["a.csv", "s/b.csv", "s/t/c.csv", "u/d.csv"]


def test_what_is_no_file_is_named(tmp_path, caplog):
    tree(tmp_path, "a.csv")
    os.mkfifo(tmp_path / "b.csv")
    assert found(tmp_path) == ["a.csv"]
    assert caplog.messages == ["not read, as these are no files: b.csv"]


@pytest.mark.parametrize("data", ["", "*.csv", "caf\udce9.csv"])
def test_a_name_that_is_no_utf8_is_refused_in_a_line(tmp_path, data):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.csv", "w") as file:  # noqa: PTH123
        file.write(ROW)
    with pytest.raises(DataError) as refusal:
        find_shards(str(tmp_path / data))
    assert str(refusal.value) == (
        f"{tmp_path}/caf\\xe9.csv: found a name that is no UTF-8; rename it, such as by convmv"
    )


def test_other_names_that_are_no_utf8_are_told_as_other_files_are(tmp_path, caplog):
    tree(tmp_path, "a.csv")
    with open(os.fsencode(tmp_path) + b"/caf\xe9.txt", "w"):  # noqa: PTH123
        pass
    with caplog.at_level(logging.WARNING):
        assert found(tmp_path) == ["a.csv"]
    assert caplog.messages == ["not read, by their names no data: caf\\xe9.txt"]


@pytest.mark.parametrize(
    ("pattern", "entered"),
    [
        ("*/x.csv", {"", "a", "b"}),
        ("a/*/x.csv", {"a", "a/deep"}),
        ("[b]/*.csv", {"", "b"}),
        ("*.csv", {""}),
        ("**/x.csv", {"", "a", "b", "a/deep", "a/deep/er"}),
    ],
)
def test_a_glob_looks_only_where_it_leads(tmp_path, monkeypatch, pattern, entered):
    tree(tmp_path, "x.csv", "a/x.csv", "b/x.csv", "a/deep/x.csv", "a/deep/er/x.csv", "_h/x.csv")
    seen, scandir = set(), os.scandir

    def watched(folder):
        seen.add(os.path.relpath(folder, tmp_path).removeprefix("."))
        return scandir(folder)

    monkeypatch.setattr(listing.os, "scandir", watched)
    assert find_shards(f"{tmp_path}/{pattern}")
    assert seen == entered


@pytest.mark.parametrize("pattern", ["", "*", "*/x.csv", "**/x.csv", "a/**/*.csv", "a/*/*.csv"])
def test_another_filesystem_gives_what_the_local_one_does(tmp_path, pattern):
    tree(tmp_path, "x.csv", "a/x.csv", "b/x.csv", "a/deep/x.csv", "_h/x.csv", "a/.h/x.csv")
    other = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    parts = tuple(pattern.split("/")) if pattern else ("**",)
    wanted = listing.Wanted(
        lambda names: _matches(names, parts), lambda names: _leads(names, parts), "**" in parts
    )
    here = listing.files_below(fs.LocalFileSystem(), str(tmp_path), wanted)
    there = listing.files_below(other, "", wanted)
    assert [file.name for file in there.files] == [file.name for file in here.files]
    assert [file.modified_ns for file in there.files] == [file.modified_ns for file in here.files]


def test_data_of_links_alone_is_read(tmp_path):
    """As DVC, git-annex and caches of models keep it."""
    tree(tmp_path, "store/1a", "store/2b")
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.csv").symlink_to("../store/1a")
    (data / "b.csv").symlink_to("../store/2b")
    assert [shard.name for shard in survey(str(data)).shards] == ["a.csv", "b.csv"]
    assert found(f"{data}/*.csv") == ["a.csv", "b.csv"]
