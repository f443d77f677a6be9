"""What the keeper of a cluster does, without a cluster; `tests/ray/test_nodes.py` has one."""

import pickle

import pytest

from lstmfcn.distributed.failures import LostKeeperError
from lstmfcn.distributed.keeper import KeeperActor
from lstmfcn.errors import OutputError
from lstmfcn.training.checkpoints import Position
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.small_models import newest

EPOCH = {"epoch": 1, "train_loss": 1.0}


@pytest.fixture
def keeper():
    return KeeperActor()


def write_epoch(keeper, folder, attempt, writer="workers"):
    keeper.write(folder, writer, attempt, "start", 0)
    keeper.write(folder, writer, attempt, "add_epochs", EPOCH)
    keeper.write(folder, writer, attempt, "save_checkpoint", Position(1), b"state")


def test_a_worker_of_an_earlier_attempt_writes_nothing_any_more(tmp_path, keeper):
    keeper.open(tmp_path, "workers", "first")
    write_epoch(keeper, tmp_path, "first")
    keeper.open(tmp_path, "workers", "second")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for method, arguments in {
        "start": [0],
        "add_epochs": [EPOCH],
        "save_checkpoint": [Position(2), b"late"],
        "save_model": [{"model.json": b"late"}],
    }.items():
        with pytest.raises(LostKeeperError):
            keeper.write(tmp_path, "workers", "first", method, *arguments)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    keeper.write(tmp_path, "workers", "second", "save_checkpoint", Position(2), b"new")


def test_an_attempt_starts_where_the_one_before_was_when_it_began(tmp_path, keeper):
    assert keeper.open(tmp_path, "workers", "first") == ((Position(), []), [])
    write_epoch(keeper, tmp_path, "first")
    (position, faults), saved = keeper.open(tmp_path, "workers", "second")
    assert (position, faults) == ((1, 0), [])
    assert [(each.position, each.content) for each in saved] == [((1, 0), b"state")]


def test_a_damaged_checkpoint_is_told_to_whoever_begins_the_attempt(tmp_path, keeper):
    keeper.open(tmp_path, "workers", "first")
    write_epoch(keeper, tmp_path, "first")
    (path,) = (tmp_path / "checkpoints").iterdir()
    (path / "state.pt").write_bytes(b"other")
    (position, [fault]), saved = keeper.open(tmp_path, "workers", "second")
    assert (position, saved) == (Position(), [])
    assert fault.startswith(f"{path}: is damaged")


def test_runs_and_the_writers_of_a_run_do_not_fence_each_other(tmp_path, keeper):
    one, other = tmp_path / "one", tmp_path / "other"
    for place in [(one, "workers"), (other, "workers"), (one, "reporter")]:
        keeper.open(*place, "attempt")
    keeper.open(other, "workers", "later")
    write_epoch(keeper, one, "attempt")
    keeper.write(one, "reporter", "attempt", "save_model", {"model.json": b"{}"})
    assert newest(other) is None


def test_a_keeper_that_started_again_knows_no_attempt(tmp_path, keeper):
    """Whatever happened meanwhile, the training begins again from the newest checkpoint."""
    keeper.open(tmp_path, "workers", "first")
    write_epoch(keeper, tmp_path, "first")
    with pytest.raises(LostKeeperError) as lost:
        KeeperActor().write(tmp_path, "workers", "first", "add_epochs", EPOCH)
    assert str(pickle.loads(pickle.dumps(lost.value))) == (
        "the process that writes the output was lost"
    )
    assert read_metrics(tmp_path / "metrics.jsonl") == [EPOCH]


def test_progress_is_told_once_and_with_as_many_epochs_as_are_saved(tmp_path, keeper):
    assert keeper.progress(tmp_path, 0) is None
    keeper.open(tmp_path, "workers", "first")
    write_epoch(keeper, tmp_path, "first")
    keeper.write(tmp_path, "workers", "first", "add_epochs", EPOCH | {"epoch": 2})
    saved, history = keeper.progress(tmp_path, 0)
    assert (saved.position, history) == ((1, 0), [EPOCH])
    assert keeper.progress(tmp_path, 1) is None


def test_a_wish_to_stop_is_told_and_taken_back(tmp_path, keeper):
    assert not keeper.stop_requested(tmp_path)
    for wish in (True, True, False, False):
        keeper.request_stop(tmp_path, wish)
        assert keeper.stop_requested(tmp_path) == wish


def test_a_folder_that_cannot_be_written_is_told_as_in_one_process(tmp_path, keeper):
    (tmp_path / "run").touch()
    keeper.open(tmp_path / "run", "workers", "first")
    with pytest.raises(
        OutputError, match=r"metrics\.jsonl: cannot be written \(Not a directory\)$"
    ):
        keeper.write(tmp_path / "run", "workers", "first", "start", 0)
