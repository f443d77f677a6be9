"""What is told where workers do not stop in time."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from lstmfcn.distributed import train_driver as module
from lstmfcn.errors import RunInterruptedError
from lstmfcn.training.checkpoints import Position
from lstmfcn.training.keeper import FolderKeeper
from lstmfcn.training.run_directory import RunConfig, list_member_folders
from tests.helpers.problems import TINY


def stopped(folder, monkeypatch, members, epochs, done):
    """What a run tells whose workers do not stop, of so many epochs, and so many in checkpoints."""
    monkeypatch.setattr(module, "_SECONDS_TO_STOP", 0.01)
    record = RunConfig(
        train="data",
        validation=None,
        model=None,
        hyperparameters=TINY.model_copy(update={"members": members}),
    )
    record.save(folder)
    for member in list_member_folders(folder, members):
        keeper = FolderKeeper(member)
        keeper.start(0)
        keeper.add_epochs(*({"epoch": k, "train_loss": 1.0} for k in range(1, epochs + 1)))
        if done:
            keeper.save_checkpoint(Position(done), b"")
    inputs = SimpleNamespace(folder=folder, hyperparameters=record.hyperparameters)
    with pytest.raises(RunInterruptedError) as told:
        module._stop(inputs, Future(), KeyboardInterrupt(), ray_stays=False)
    assert told.value.resumable
    return str(told.value)


@pytest.mark.parametrize(
    ("members", "epochs", "done", "message"),
    [
        (1, 3, 0, "stopped after epoch 0: no checkpoint could be written; 3 epochs after it"),
        (1, 3, 2, "stopped after epoch 2: no checkpoint could be written; 1 epoch after it"),
        (2, 3, 2, "stopped after epoch 2: no checkpoint could be written; 2 epochs after it"),
    ],
)
def test_epochs_without_a_checkpoint_are_told(
    tmp_path, monkeypatch, members, epochs, done, message
):
    told = stopped(tmp_path, monkeypatch, members, epochs, done)
    assert told == f"{message} will be trained again"


def test_nothing_is_said_to_be_lost_where_nothing_is(tmp_path, monkeypatch):
    assert stopped(tmp_path, monkeypatch, 1, 3, 3) == "stopped after epoch 3"


@pytest.mark.parametrize(
    ("stop", "granted", "seconds"),
    [
        (KeyboardInterrupt(), None, 30.0),
        (SystemExit(), None, 2.5),
        (SystemExit(), "30", 29.5),
        (SystemExit(), "soon", 2.5),
    ],
)
def test_a_job_that_is_stopped_has_the_time_that_ray_gives_it(monkeypatch, stop, granted, seconds):
    monkeypatch.delenv("RAY_JOB_STOP_WAIT_TIME_S", raising=False)
    if granted:
        monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", granted)
    assert module._seconds_to_stop(stop) == seconds
