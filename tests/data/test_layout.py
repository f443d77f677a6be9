import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.data.dialect import find_separator
from lstmfcn.data.reader import read_header
from lstmfcn.data.shards import find_shards
from lstmfcn.errors import DataError

quickly = settings(max_examples=60, database=None)
ROWS = "y,x_1,x_2\na,1,2\nb,3,4\n"


def write_shard(folder, content, name="a.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (shard,) = find_shards(str(path))
    return shard


def catch_refusal(folder, content, name="a.csv", labels=True):
    with pytest.raises(DataError) as refusal:
        read_header(write_shard(folder, content, name), labels=labels)
    return refusal.value


def refusal_text(folder, *arguments, **options):
    refused = catch_refusal(folder, *arguments, **options)
    return str(refused).removeprefix(f"{refused.file}: found ").replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("y,x_1,x_2", ","),
        ("y;x_1;x_2", ";"),
        ("y\tx_1\tx_2", "\t"),
        ("x_1", ","),
        ('y,"x;1","x;2"', ","),
        ('y,x_1,"a;x;y;x"', ","),
        ('"y";"x_1, in mV";"x_2, in mV"', ";"),
        ("y;x_1 (a,b);x_2 (a,b)", ";"),
        ("y,x_1,note;b", ","),
        ("y,x_1,temp;x", ","),
        ("Y;X_1;X_2", ";"),
        ("label\tf1\tf2", "\t"),
        ("0,5;0,25;1,5;up", ";"),
        ("1\t0.5\t0.25", "\t"),
        ("", ","),
    ],
)
def test_the_separator_is_found_from_the_header(header, separator):
    assert find_separator(header) == separator


@quickly
@given(
    names=st.lists(st.text(st.sampled_from('xy_1 ,;\t"ä'), min_size=1), max_size=5),
    separator=st.sampled_from(",;\t"),
)
def test_names_of_any_characters_are_read_where_they_are_quoted(names, separator, tmp_path_factory):
    names = ["y", "x_1", "x_2", *(f"n{name}" for name in names)]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    shard = write_shard(tmp_path_factory.mktemp("data"), separator.join(quoted) + "\n")
    assert shard.layout.header == tuple(names)
    assert shard.layout.dialect.separator == separator


@pytest.mark.parametrize(
    ("above", "found"),
    [
        ("sep=,\n", "the line 'sep=,', which is for Excel, above the header; remove it (lstmfcn"),
        (
            '"SEP=;"\n',
            "the line '\"SEP=;\"', which is for Excel, above the header; remove it (lstmfcn",
        ),
        ("# by a logger\n", "the comment '# by a logger' above the header; remove it (lstmfcn"),
        ('# 5" of rain\n', "the comment '# 5\" of rain' above the header; remove it (lstmfcn"),
        (
            "% a\n\n% b\n",
            "2 lines above the header, starting with the comment '% a'; remove them (lstmfcn",
        ),
        ("Logger 7\n", "the line 'Logger 7' above the header; remove it (lstmfcn check --fix"),
        ("label,mV,mV\n", "the line 'label,mV,mV' above the header; remove it (lstmfcn"),
        ("\n\n# a\n", "the comment '# a' above the header; remove it (lstmfcn"),
        ("# " + "a" * 99 + "\n", "the comment '# " + "a" * 38 + "...' above the header; remove"),
        ("# größer\n", "the comment '# größer' above the header; remove it (lstmfcn check"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_above_the_header_are_refused_and_removed_by_check(tmp_path, above, found, end):
    shard = write_shard(tmp_path, (above + ROWS).replace("\n", end))
    assert shard.layout.header == ("y", "x_1", "x_2")
    with pytest.raises(DataError) as refusal:
        read_header(shard)
    assert str(refusal.value).startswith(f"{tmp_path}/a.csv: found {found}")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_empty_lines_above_the_header_do_not_count(tmp_path, end):
    assert read_header(write_shard(tmp_path, f"{end}{end}{ROWS}")) == ["y", "x_1", "x_2"]


@pytest.mark.parametrize(
    ("content", "cells", "label"),
    [
        ("0.5,0.25,1e-3,0\n0.5,0.2,1,1\n", "(0.5, 0.25, 1e-3, 0)", "last"),
        ("0.5,0.25,0.1,up\n", "(0.5, 0.25, 0.1, up)", "last"),
        ("up,0.5,,nan,0.1\n", "(up, 0.5, , nan, 0.1)", "first"),
        ("7,5;0,25;0,1;up\n", "(7,5, 0,25, 0,1, up)", "last"),
        ("# savetxt\n0.5,0.25,0.1\n", "(0.5, 0.25, 0.1)", "last"),
    ],
)
def test_a_file_without_header_is_refused_with_the_command_that_adds_one(
    tmp_path, content, cells, label
):
    without = "last" if "up)" in cells else "none" if label == "last" else label
    for labels, place in {True: label, False: without}.items():
        assert refusal_text(tmp_path, content, labels=labels) == (
            f"a first line that looks like data {cells}, not like a header; add a header "
            f"with lstmfcn convert a.csv --output DIR --no-header --label {place}"
        )


def test_a_tsv_of_the_archive_is_refused_with_the_command_that_converts_it(tmp_path):
    assert refusal_text(tmp_path, "1\t0.5\t0.25\n2\t0.5\t0.1\n", "Toy_TRAIN.tsv") == (
        "a first line that looks like data (1, 0.5, 0.25), not like a header; "
        "add a header with lstmfcn convert Toy_TRAIN.tsv --output DIR"
    )


@pytest.mark.parametrize(
    "header", ["0,1,2,3", "y,1,2,3,4", ",0,1,2,label", "0.0,0.5,1.0,1.5", "country,2001,2002,2003"]
)
def test_a_header_of_numbers_is_not_read_as_a_row(tmp_path, header):
    found = refusal_text(tmp_path, header + "\n0.5,0.25,1,3\n")
    assert found.startswith("a header of numbers (")
    assert "; name the values x_1, x_2, ... and the label y; if this line is a row, add" in found


@pytest.mark.parametrize("header", ["# y,x_1,x_2", "#x_1,x_2,y", "# y;x_1;x_2"])
def test_a_header_after_a_comment_mark_is_refused(tmp_path, header):
    first = header.replace(";", ",").split(",")[0]
    assert refusal_text(tmp_path, f"{header}\n1,2,3\n") == (
        f"a header after a comment mark ({first}); "
        "remove the mark; in numpy.savetxt use comments=''"
    )


def test_a_column_may_be_named_with_a_comment_mark(tmp_path):
    assert read_header(write_shard(tmp_path, "#id,y,x_1\n1,2,3\n"), labels=True) == [
        "#id",
        "y",
        "x_1",
    ]
    assert read_header(write_shard(tmp_path, "# y,x_1\n1,2\n")) == ["# y", "x_1"]


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-16", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-16-be", "UTF-16BE"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_utf16_and_utf32_are_refused_with_the_command_that_converts_them(
    tmp_path, encoding, name, mark
):
    name = name[:6] if mark else name
    assert refusal_text(tmp_path, (mark + ROWS).encode(encoding)) == (
        f"text in {name}, not in UTF-8; convert it: iconv -f {name} -t UTF-8 a.csv > new.csv"
    )


@pytest.mark.parametrize(
    ("content", "cell", "encoding"),
    [
        ("y,x_1,größe\n".encode("latin-1"), "größe", "CP1252"),
        ('y,x_1,"a €"\n'.encode("cp1252"), "a €", "CP1252"),
        (b"y,x_1,a\x81\n", "a\x81", "ISO-8859-1"),
    ],
)
def test_a_header_in_another_encoding_is_refused(tmp_path, content, cell, encoding):
    assert refusal_text(tmp_path, content) == (
        f"bytes that are not UTF-8, probably {encoding}, in which a cell reads {cell!r}; "
        f"convert it: iconv -f {encoding} -t UTF-8 a.csv > new.csv"
    )
    assert refusal_text(tmp_path, gzip.compress(content), "b.csv.gz").endswith(
        f"gzip -dc b.csv.gz | iconv -f {encoding} -t UTF-8 > new.csv"
    )
    assert f"{tmp_path}/c d.csv' > new.csv" in str(catch_refusal(tmp_path, content, "c d.csv"))


def archive(kind):
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("a.csv", ROWS)
    elif kind == "xlsx":
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("[Content_Types].xml", "<xml/>")
    elif kind == "npz":
        np.savez(buffer, x=np.arange(3))
    elif kind == "npy":
        np.save(buffer, np.arange(3))
    elif kind == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as file:
            file.addfile(tarfile.TarInfo("a.csv"))
    else:
        write = {"feather": pa.feather.write_feather, "orc": pa.orc.write_table}[kind]
        write(pa.table({"y": ["a"], "x_1": [1.0]}), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (archive("zip"), "a zip archive; unpack it"),
        (archive("xlsx"), "an Excel or other Office file; save its table as CSV"),
        (archive("npz"), "NumPy arrays (.npz); convert them with lstmfcn convert"),
        (archive("npy"), "a NumPy array (.npy); convert it with lstmfcn convert"),
        (archive("tar"), "a tar archive; unpack it"),
        (gzip.compress(archive("tar"), mtime=0), "a tar archive, compressed with gzip; unpack it"),
        (archive("feather"), "an Arrow (Feather) file; save its table"),
        (archive("orc"), "an ORC file; save its table"),
        (
            gzip.compress(gzip.compress(b"a", mtime=0), mtime=0),
            "a file compressed with gzip, compressed with gzip; unpack it",
        ),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer; fetch the real file"),
        (b"/annex/objects/SHA256E-s1--a.csv\n", "a git-annex pointer; fetch the real file"),
        (b"<!DOCTYPE html>\n<html>", "a web page; download the data itself"),
        (b"@relation a\n@data\n1,2\n", "a .ts or .arff file (@relation a); convert it"),
        (b"# c\n@problemName a\n", "a .ts or .arff file (@problemName a); convert it"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path, content, found):
    assert refusal_text(tmp_path, content).startswith(found)


def test_compressed_parquet_is_refused(tmp_path):
    buffer = io.BytesIO()
    pd.DataFrame({"y": ["a"], "x_1": [1.0]}).to_parquet(buffer)
    for pack, name, command in ((gzip, "gzip", "gzip -dc"), (lzma, "xz", "xz -dc")):
        assert refusal_text(tmp_path, pack.compress(buffer.getvalue())) == (
            f"Parquet, compressed with {name}; unpack it: {command}"
        )


def test_several_packed_streams_in_one_file_are_one(tmp_path):
    for name, pack in {"a.gz": gzip, "a.bz2": bz2, "a.xz": lzma}.items():
        shard = write_shard(tmp_path, b"".join(pack.compress(line.encode()) for line in ROWS), name)
        with shard.open() as stream:
            assert stream.read(99) == ROWS.encode()


@quickly
@given(content=st.binary(min_size=1, max_size=400))
def test_any_bytes_are_read_or_refused_in_a_line(content, tmp_path_factory):
    shard = write_shard(tmp_path_factory.mktemp("data"), content)
    with contextlib.suppress(DataError):
        read_header(shard)
