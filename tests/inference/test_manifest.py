import hashlib
import json
import re
from dataclasses import replace

import pytest

from lstmfcn.data.shards import Shard
from lstmfcn.errors import OutputError
from lstmfcn.inference.manifest import MANIFEST_FILE, Manifest

MODEL = hashlib.sha256(b"model").hexdigest()


def shard(i, size=10, modified_ns=1_700_000_000_123_456_789):
    return Shard(f"/data/train/day/part-{i:05d}.csv", f"part-{i:05d}.csv", size, modified_ns)


def output(folder, i):
    path = folder / f"part-{i:05d}.csv"
    path.touch()
    return path


def record(folder, keep=(), model=MODEL):
    return Manifest(folder, model, keep)


def test_what_is_written_is_known_to_the_next_run(tmp_path):
    first = record(tmp_path)
    for i in range(3):
        first.add(shard(i), output(tmp_path, i), rows=i + 5)
    again = record(tmp_path)
    assert [again.rows(shard(i), tmp_path / f"part-{i:05d}.csv") for i in range(4)] == [
        *(5, 6, 7, None)
    ]
    changed = [replace(shard(0), size=11), replace(shard(0), modified_ns=1), shard(1)]
    assert [again.rows(each, tmp_path / "part-00000.csv") for each in changed] == [None] * 3
    for other in (record(tmp_path, ["id"]), record(tmp_path, model="0" * 64)):
        assert other.rows(shard(0), tmp_path / "part-00000.csv") is None
    (tmp_path / "part-00000.csv").unlink()
    assert again.rows(shard(0), tmp_path / "part-00000.csv") is None


def test_only_files_of_the_same_model_and_columns_may_be_replaced(tmp_path):
    assert record(tmp_path).may_replace(tmp_path / "part-00000.csv")  # there is none
    assert not record(tmp_path).may_replace(output(tmp_path, 0))  # of a stranger
    record(tmp_path).begin()
    assert record(tmp_path).may_replace(tmp_path / "part-00000.csv")  # of a run that was killed
    record(tmp_path).add(shard(0), output(tmp_path, 0), rows=1)
    for i in range(2):
        path = output(tmp_path, i)
        assert record(tmp_path).may_replace(path)
        assert not record(tmp_path, ["id"]).may_replace(path)
        assert not record(tmp_path, model="0" * 64).may_replace(path)


def test_the_last_line_of_a_file_holds_and_the_next_run_drops_the_others(tmp_path):
    known = record(tmp_path)
    for size in (10, 11, 12):
        known.add(shard(0, size), output(tmp_path, 0), rows=size)
    assert record(tmp_path).rows(shard(0, 12), tmp_path / "part-00000.csv") == 12
    assert record(tmp_path).rows(shard(0, 11), tmp_path / "part-00000.csv") is None
    record(tmp_path).add(shard(1), output(tmp_path, 1), rows=1)
    assert len((tmp_path / MANIFEST_FILE).read_text().splitlines()) == 2


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_line_that_a_kill_cut_off_is_a_file_to_write_again(tmp_path, cut):
    first = record(tmp_path)
    for i in range(2):
        first.add(shard(i), output(tmp_path, i), rows=1)
    written = (tmp_path / MANIFEST_FILE).read_text()
    last = written.splitlines(keepends=True)[-1]
    (tmp_path / MANIFEST_FILE).write_text(written.removesuffix(last) + last[:cut])
    again = record(tmp_path)
    assert again.rows(shard(0), tmp_path / "part-00000.csv") == 1
    assert again.rows(shard(1), tmp_path / "part-00001.csv") is None
    again.add(shard(1), output(tmp_path, 1), rows=1)
    assert (tmp_path / MANIFEST_FILE).read_text() == written


def test_a_run_that_writes_nothing_leaves_the_record_as_it_is(tmp_path):
    record(tmp_path).add(shard(0), output(tmp_path, 0), rows=1)
    before = (tmp_path / MANIFEST_FILE).stat().st_mtime_ns
    assert record(tmp_path).rows(shard(0), tmp_path / "part-00000.csv") == 1
    assert (tmp_path / MANIFEST_FILE).stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".csv"] == [MANIFEST_FILE]


def test_the_record_of_an_earlier_version_is_known_and_replaced(tmp_path):
    entry = {
        "shard": shard(0).path, "bytes": 10, "modified": shard(0).modified_ns, "rows": 7,
        "model": MODEL, "keep": ["id"],
    }  # fmt: skip
    former = tmp_path / "_predicted.json"
    former.write_text(json.dumps({"part-00000.csv": entry}, indent=1) + "\n")
    output(tmp_path, 0)
    assert record(tmp_path).rows(shard(0), tmp_path / "part-00000.csv") is None
    known = record(tmp_path, ["id"])
    assert known.rows(shard(0), tmp_path / "part-00000.csv") == 7
    known.add(shard(1), output(tmp_path, 1), rows=8)
    assert not former.exists()
    again = record(tmp_path, ["id"])
    assert [again.rows(shard(i), tmp_path / f"part-{i:05d}.csv") for i in (0, 1)] == [7, 8]


@pytest.mark.parametrize("name", [MANIFEST_FILE, "_predicted.json"])
@pytest.mark.parametrize("text", ["{\n", "[1]\n", "3\n", '{"file": "a"}\n', '{"a": 1}\n', "\xff\n"])
def test_a_record_that_cannot_be_read_is_told_in_a_line(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(OutputError, match=r"cannot be read \(.*\); remove it") as refusal:
        record(tmp_path)
    assert re.fullmatch(rf"{tmp_path}/{name}: [^\n]+", str(refusal.value))


def test_a_record_that_cannot_be_written_is_told(tmp_path):
    known = record(tmp_path / "file")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        known.add(shard(0), tmp_path / "file/a.csv", rows=1)


def test_many_small_shards_are_recorded_in_few_bytes(tmp_path):
    known, folder = record(tmp_path), tmp_path / "predicted" / "day"
    for i in range(2000):
        known.add(shard(i), folder / f"part-{i:05d}.csv", rows=30)
    assert (tmp_path / MANIFEST_FILE).stat().st_size < 2000 * 250  # 20,000 take less than 5 MB
