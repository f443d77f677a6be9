"""Cases of commands that start a Ray of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.cases.case import Case
from tests.cases.commands import TWO_WORKERS, trains

LONG_FOLDER = (
    "a_long_folder_of_a_job_on_a_cluster_0123456789/1355700/tmp.t0016/scratch/of/this/very/job"
)


def cases() -> Iterator[Case]:
    """All cases of this module."""
    yield Case(
        "surroundings", "HOME that cannot be written, TMPDIR of 100 characters", _no_place_for_files
    )


def _no_place_for_files(inputs: Path, folder: Path) -> None:
    temporary = folder / LONG_FOLDER
    temporary.mkdir(parents=True)
    ended = trains(inputs, folder, *TWO_WORKERS, HOME="/proc", TMPDIR=str(temporary))
    assert "Traceback" not in ended.stderr, ended.stderr[-600:]
    assert ended.returncode == 0, ended.stderr[-600:]
