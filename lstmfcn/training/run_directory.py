"""Manage the folder that a training writes: its files, its lock and its configuration.

==================================  ===============================================================
``model/``                          the best epoch's model
``metrics.jsonl``                   one line per epoch
``learning_curve.png``              drawn at the end
``run.json``                        the configuration of the run, which ``--resume`` reads
``checkpoints/``                    the newest two
``members/NN/``                     for an ensemble: model, metrics and checkpoints of each member
``tensorboard/``, ``mlflow.json``   with ``--track``: event files; the ids of the runs in MLflow
``.lock``                           only while the training runs
``.stop``                           asks the workers to write a checkpoint and stop
==================================  ===============================================================
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_serializer

from lstmfcn.data.listing import as_arguments
from lstmfcn.errors import DataError, HyperparameterError, OutputError, shown
from lstmfcn.hyperparameters import Hyperparameters, format_validation_error, to_flag
from lstmfcn.storage.files import (
    atomic_write,
    exists,
    make_folder,
    read_regular,
    refusing_write_errors,
)
from lstmfcn.storage.places import without_password
from lstmfcn.training.checkpoints import Position, find_newest_position

TrackerName = Literal["tensorboard", "mlflow"]

MODEL, CHECKPOINTS, MEMBERS = "model", "checkpoints", "members"
METRICS, CURVE, RUN = "metrics.jsonl", "learning_curve.png", "run.json"
TENSORBOARD, MLFLOW = "tensorboard", "mlflow.json"
STOP = ".stop"

_SIGNS_OF_A_RUN = (MODEL, METRICS, RUN, CHECKPOINTS, MEMBERS, TENSORBOARD, MLFLOW)

RUN_FILES = (*_SIGNS_OF_A_RUN, CURVE)
"""The files and folders that a run leaves in its folder."""

_LOCK = ".lock"

_MAX_BYTES = 1 << 20
"""Size limit of a JSON record."""

_MAX_LOCK_ATTEMPTS = 20

_MAY_CHANGE = {"epochs"}
"""Hyperparameters that may differ when a run resumes."""

logger = logging.getLogger(__name__)

_Arguments = Annotated[tuple[str, ...], BeforeValidator(as_arguments)]
"""Data arguments; older records have a single one as a plain string."""


class JsonRecord(BaseModel):
    """A pydantic model that has a JSON file of its own in a folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_name: ClassVar[str]

    def save(self, folder: Path) -> None:
        """Write the file; raises `OutputError` if it cannot be written."""
        with atomic_write(folder / self.file_name) as path:
            path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read the record of a folder, None if it has none; an invalid one raises `OutputError`."""
        path = folder / cls.file_name
        try:
            return cls.model_validate_json(read_regular(path, _MAX_BYTES))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise OutputError(
                f"{path}: {format_validation_error(error, 'the record')}; name another --output"
            ) from error
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror})") from error


def refuse_changes(
    recorded: BaseModel, requested: BaseModel, may_change: Set[str] = frozenset()
) -> dict[str, object]:
    """Check that the user's options are those of the run to resume.

    Args:
        requested: the user's options; only the fields that are set count.

    Returns:
        The requested values of the fields that may differ.

    Raises:
        HyperparameterError: another field differs; names it.
    """
    for name in sorted(requested.model_fields_set - may_change):
        old, new = getattr(recorded, name), getattr(requested, name)
        if old != new:
            raise HyperparameterError(
                f"{to_flag(name)}: found {shown(new)}, the run to resume has {shown(old)}; "
                "leave the flag out, or name another --output"
            )
    return {name: getattr(requested, name) for name in may_change & requested.model_fields_set}


class RunConfig(JsonRecord):
    """The configuration of a run, and a checksum of its training rows."""

    file_name = RUN

    train: _Arguments
    validation: _Arguments | None
    model: str | None
    hyperparameters: Hyperparameters
    train_sha256: str = ""
    track: tuple[TrackerName, ...] = ()

    @field_serializer("train", "validation")
    def _leave_out_passwords(self, places: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if places is None else tuple(map(without_password, places))

    def apply_resume_changes(self, requested: Hyperparameters) -> Hyperparameters:
        """Return them with the requested epochs; refuse (`HyperparameterError`) other changes."""
        changes = refuse_changes(self.hyperparameters, requested, _MAY_CHANGE)
        return self.hyperparameters.model_copy(update=changes)

    def refuse_other_rows(self, train_sha256: str, file: str) -> None:
        """Refuse (`DataError`) training rows other than those that the run began with."""
        if self.train_sha256 not in ("", train_sha256):
            raise DataError(
                "training rows that differ from those of the run to resume",
                "give the same rows in the same order, or name another --output",
                file=file,
            )


@contextmanager
def hold_run_folder(folder: Path, replaced: Iterable[str] = ()) -> Iterator[None]:
    """Create a folder and lock it for one training; the lock ends with the process.

    Temporary files are removed at the end, and the folder too if it is empty then.

    Args:
        replaced: files and folders of an earlier run, which are removed first.

    Raises:
        OutputError: another training holds the lock, or the folder cannot be written to.
    """
    lock = _acquire_lock(folder)
    try:
        _remove_temporary_files(folder)
        _remove(folder, replaced)
        yield
    finally:
        _remove_temporary_files(folder)
        (folder / _LOCK).unlink(missing_ok=True)
        os.close(lock)
        with suppress(OSError):  # not empty: files of this training or of the next one
            folder.rmdir()


def _acquire_lock(folder: Path) -> int:
    """Create the folder and lock its lock file; returns the file descriptor of the lock.

    A training that ends removes the lock file, and perhaps the folder. If that happens between
    opening and locking, the lock is void, and this process tries again.
    """
    for _ in range(_MAX_LOCK_ATTEMPTS):
        try:
            make_folder(folder)
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written to ({error.strerror})") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), (folder / _LOCK).stat()):
                return lock
        except BlockingIOError as error:
            os.close(lock)
            raise OutputError(
                f"{folder}: another training is running there; wait until it ends"
            ) from error
        except FileNotFoundError:
            os.close(lock)
        except OSError as error:
            os.close(lock)
            raise OutputError(f"{folder}: cannot be locked ({error.strerror})") from error
        else:
            os.close(lock)
    raise OutputError(f"{folder}: cannot be written to (files in it disappear)")


def list_member_folders(folder: Path, members: int) -> list[Path]:
    """List the folder of each ensemble member; a single network uses the run's own folder."""
    if members == 1:
        return [folder]
    return [folder / MEMBERS / f"{k:02d}" for k in range(members)]


def request_stop(folder: Path, members: int) -> None:
    """Ask the workers of a run, and those of each member, to write a checkpoint and stop."""
    for each in list_member_folders(folder, members):
        make_folder(each)
        (each / STOP).touch()


def find_run_position(
    folder: Path, members: int, log: Callable[[str], None] = logger.debug
) -> Position:
    """Return the position from which a run would resume; for an ensemble, its slowest member's."""
    folders = list_member_folders(folder, members)
    return min(find_newest_position(path / CHECKPOINTS, log) for path in folders)


def refuse_existing_run(folder: Path) -> None:
    """Refuse (`OutputError`) a folder that holds a run already."""
    for name in _SIGNS_OF_A_RUN:
        if exists(folder / name):
            raise OutputError(
                f"{folder}: found {name} of an earlier run; add --resume to continue it, "
                "--overwrite to replace it, or name another --output"
            )


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files and folders of these names, if they exist."""
    for name in names:
        path = folder / name
        with refusing_write_errors(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _remove_temporary_files(folder: Path) -> None:
    """Remove files that only a running training needs; a killed one leaves them behind."""
    for stop in (folder / STOP, *folder.glob(f"{MEMBERS}/*/{STOP}")):
        stop.unlink(missing_ok=True)
        if stop.parent != folder:
            with suppress(OSError):  # the member has begun
                stop.parent.rmdir()
