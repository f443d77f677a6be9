import hashlib
import io
import json
import os
import pickle
import time
from multiprocessing import get_context

import pytest
import torch

from lstmfcn.errors import OutputError
from lstmfcn.training.checkpoints import (
    Position,
    find_newest,
    read_checkpoints,
    write_checkpoint,
)


def state(number):
    return {"model": {"weight": torch.full((3,), float(number))}, "best": {"epoch": number}}


def stored(value, **arguments):
    buffer = io.BytesIO()
    torch.save(value, buffer, **arguments)
    return buffer.getvalue()


def saved(folder, *positions):
    for number, position in enumerate(positions):
        write_checkpoint(folder, Position(*position), stored(state(number)))


def unpacked(folder, log=print):
    """Position and state of the newest checkpoint that holds one."""
    for checkpoint in read_checkpoints(folder, log):
        found = checkpoint.unpack(log)
        if found is not None:
            return checkpoint.position, found
    return None


def test_the_newest_is_read_back(tmp_path):
    saved(tmp_path, (1, 0), (1, 32), (2, 0))
    position, found = unpacked(tmp_path)
    assert position == (2, 0)
    assert found["best"] == {"epoch": 2}
    assert torch.equal(found["model"]["weight"], torch.full((3,), 2.0))


def test_a_folder_without_checkpoints_has_none(tmp_path):
    assert find_newest(tmp_path / "none") is None
    assert find_newest(tmp_path) is None


def test_two_are_kept_and_what_was_cut_off_before_is_removed(tmp_path):
    torn = tmp_path / ".epoch-0000001-step-00000000.1a2b3c4d"
    torn.mkdir()
    (torn / "state.pt").write_bytes(b"half")
    saved(tmp_path, (1, 0), (2, 0), (9, 0), (10, 0))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["epoch-0000009-step-00000000", "epoch-0000010-step-00000000"]


def test_a_position_reads_as_words():
    assert str(Position(3)) == "epoch 3"
    assert str(Position(3, 48)) == "epoch 3 and 48 steps"


def damages(path):
    """Every way in which a checkpoint's files can be cut short, changed or missing."""
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        steps = max(1, len(content) // 40)
        for length in range(0, len(content), steps):
            yield file, content[:length]
        for i in range(0, len(content), steps):
            yield file, content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :]
        yield file, None


def test_a_damaged_one_falls_back_to_the_one_before_and_says_so(tmp_path):
    saved(tmp_path, (1, 0), (2, 0))
    newest = tmp_path / "epoch-0000002-step-00000000"
    cases = list(damages(newest))
    assert len(cases) > 150
    for file, content in cases:
        whole = file.read_bytes()
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        told = []
        found = find_newest(tmp_path, told.append)
        file.write_bytes(whole)
        assert found is not None
        position = found.position
        if position == (2, 0):  # a changed byte of white space changes nothing
            assert json.loads(content) == json.loads(whole)
            continue
        assert position == (1, 0)
        assert len(told) == 1
        assert told[0].startswith(f"{newest}: ")
        assert told[0].endswith("; falling back to the one before it")
    assert find_newest(tmp_path).position == (2, 0)


def test_where_none_is_whole_there_is_none(tmp_path):
    saved(tmp_path, (1, 0), (2, 0))
    for path in tmp_path.iterdir():
        (path / "state.pt").write_bytes(b"")
    told = []
    assert find_newest(tmp_path, told.append) is None
    assert len(told) == 2


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_checkpoint(tmp_path / "file", Position(1), b"")


def write_for_ever(folder):
    state = {"weights": torch.arange(300_000.0)}
    for epoch in range(1, 100_000):
        write_checkpoint(folder, Position(epoch), stored(state | {"epoch": epoch}))


def test_a_writer_killed_at_any_moment_leaves_a_whole_one(tmp_path):
    """Real kills, spread over the time that a few checkpoints take."""
    for kill in range(6):
        writer = get_context("fork").Process(target=write_for_ever, args=(tmp_path,))
        writer.start()
        try:
            deadline = time.monotonic() + 60
            while find_newest(tmp_path) is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.013 * kill)
        finally:
            writer.kill()
            writer.join()
        position, found = unpacked(tmp_path)
        assert found["epoch"] == position.epoch
        assert torch.equal(found["weights"], torch.arange(300_000.0))
        for path in tmp_path.iterdir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


def sealed(folder, position, content, description=None):
    """A checkpoint of any content, whose checksum is right."""
    name = f"epoch-{position[0]:07d}-step-{position[1]:08d}"
    (folder / name).mkdir()
    (folder / name / "state.pt").write_bytes(content)
    sha256 = hashlib.sha256(name.encode() + b"\n" + content).hexdigest()
    text = description or json.dumps({"format_version": 2, "sha256": sha256})
    (folder / name / "checkpoint.json").write_text(text)
    return folder / name


class Command:
    """A pickle of this runs a command where it is read."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.system, (f"touch {self._path}",)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_checkpoint_that_would_run_a_command_is_passed_over_in_a_line(tmp_path, kind):
    mark = tmp_path / "ran"
    contents = {
        "zip": stored({"model": Command(mark)}),
        "legacy": stored({"model": Command(mark)}, _use_new_zipfile_serialization=False),
        "pickle": pickle.dumps(Command(mark)),
    }
    saved(tmp_path / "run", (1, 0))
    path = sealed(tmp_path / "run", (2, 0), contents[kind])
    told = []
    assert unpacked(tmp_path / "run", told.append)[0] == (1, 0)
    assert len(told) == 1
    assert told[0].startswith(f"{path}: holds no state (")
    assert "\n" not in told[0]
    assert len(told[0]) < 500
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"PK\x03\x04" + b"\0" * 100,
        stored(state(2))[:-30],
        bytes(10_000),
        b"\x80\x02" + b"(" * 100_000,
        stored([1, 2]),
        stored(torch.zeros(3)),
    ],
)
def test_what_holds_no_state_is_passed_over_though_its_checksum_is_right(tmp_path, content):
    saved(tmp_path, (1, 0))
    sealed(tmp_path, (2, 0), content)
    assert unpacked(tmp_path)[0] == (1, 0)


@pytest.mark.parametrize(
    "description",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "[]",
        "3",
        "1" * 5000,
        '{"format_version": ' + "1" * 4000 + "}",
        " " * 100_000 + "{}",
        '{"format_version": "' + "x" * 50_000 + '"}',
    ],
)
def test_a_strange_description_is_passed_over_in_a_line(tmp_path, description):
    saved(tmp_path, (1, 0))
    sealed(tmp_path, (2, 0), b"", description)
    told = []
    assert find_newest(tmp_path, told.append).position == (1, 0)
    assert len(told) == 1
    assert "\n" not in told[0]
    assert len(told[0]) < 600


@pytest.mark.parametrize("name", ["checkpoint.json", "state.pt"])
def test_a_pipe_in_the_place_of_a_file_is_passed_over(tmp_path, name):
    saved(tmp_path, (1, 0), (2, 0))
    path = tmp_path / "epoch-0000002-step-00000000" / name
    path.unlink()
    os.mkfifo(path)
    assert find_newest(tmp_path).position == (1, 0)
