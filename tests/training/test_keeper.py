import pickle

import pytest
import torch

from lstmfcn.errors import OutputError
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.checkpoints import Position
from lstmfcn.training.keeper import Checkpoints, FolderKeeper
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.small_models import newest, saving, tiny_artifact

EPOCHS = [{"epoch": i, "train_loss": 1 / i} for i in range(1, 4)]


def test_what_is_given_is_in_the_folder_at_once_and_found_again(tmp_path):
    keeper, folder = FolderKeeper(tmp_path / "run"), tmp_path / "run"
    assert list(keeper.saved_checkpoints()) == []
    keeper.start(0)
    assert read_metrics(folder / "metrics.jsonl") == []
    keeper.add_epochs(EPOCHS[0])
    assert read_metrics(folder / "metrics.jsonl") == EPOCHS[:1]
    keeper.add_epochs(*EPOCHS[1:])
    for epoch in (1, 2, 3):
        keeper.save_checkpoint(Position(epoch), b"%d" % epoch)
    keeper.start(2)
    assert read_metrics(folder / "metrics.jsonl") == EPOCHS[:2]
    again = FolderKeeper(folder).saved_checkpoints()
    assert [(each.position, each.content) for each in again] == [((3, 0), b"3"), ((2, 0), b"2")]


def test_a_model_is_kept_as_a_model_saves_itself(tmp_path):
    artifact = tiny_artifact()
    artifact.save(tmp_path / "expected")
    for _ in range(2):  # also in place of an earlier one
        FolderKeeper(tmp_path).save_model(artifact.to_files())
    for name in ("model.json", "model.safetensors"):
        expected = (tmp_path / "expected" / name).read_bytes()
        assert (tmp_path / "model" / name).read_bytes() == expected
    assert Artifact.load(tmp_path / "model").hyperparameters == artifact.hyperparameters


def test_a_wish_to_stop_is_a_file(tmp_path):
    checkpoints = saving(tmp_path, every_s=1e9)
    assert not checkpoints.stop_requested()
    assert not checkpoints.is_due()
    (tmp_path / ".stop").touch()
    assert checkpoints.stop_requested()
    assert checkpoints.is_due()


def test_a_checkpoint_is_due_when_its_time_has_come(tmp_path):
    now = [100.0]
    keeper = FolderKeeper(tmp_path)
    keeper.start(0)
    checkpoints = Checkpoints(keeper, every_s=30, clock=lambda: now[0])
    due = []
    for seconds in (29.9, 0.1, 0.0):
        now[0] += seconds
        due.append(checkpoints.is_due())
    checkpoints.save(Position(1), {})
    assert [*due, checkpoints.is_due()] == [False, True, True, False]


def test_a_state_is_read_back_and_one_without_a_state_is_passed_over_in_a_line(tmp_path, caplog):
    checkpoints = saving(tmp_path)
    checkpoints.save(Position(1), {"weight": torch.ones(3)})
    FolderKeeper(tmp_path).save_checkpoint(Position(2), pickle.dumps([1]))
    position, state = newest(tmp_path)
    assert position == (1, 0)
    assert torch.equal(state["weight"], torch.ones(3))
    path = tmp_path / "checkpoints" / "epoch-0000002-step-00000000"
    (told,) = caplog.messages
    assert told.startswith(f"{path}: holds no state")
    assert told.endswith("; falling back to the one before it")


def test_no_checkpoint_is_ahead_of_the_metrics(tmp_path):
    """They are durable first; without their file there is no checkpoint."""
    keeper = FolderKeeper(tmp_path)
    with pytest.raises(OutputError, match=r"metrics\.jsonl: cannot be written"):
        keeper.save_checkpoint(Position(1), b"")
    assert newest(tmp_path) is None


def test_a_folder_that_cannot_be_written_is_told_in_a_line(tmp_path):
    (tmp_path / "run").touch()
    keeper = FolderKeeper(tmp_path / "run")
    for write in (
        lambda: keeper.start(0),
        lambda: keeper.add_epochs(*EPOCHS),
        lambda: keeper.save_checkpoint(Position(1), b""),
        lambda: keeper.save_model({"model.json": b""}),
    ):
        with pytest.raises(OutputError, match=r"cannot be written \(Not a directory\)$"):
            write()
