"""The command line that resumes what was stopped."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from lstmfcn.hyperparameters import Hyperparameters, to_flag
from lstmfcn.storage.places import without_password
from lstmfcn.training.run_directory import RunConfig
from lstmfcn.tuning.sweep import SearchConfig

_WITH_RESUME = ("train", "tune")
_REMEMBERED = {
    to_flag(name)
    for kind in (RunConfig, Hyperparameters, SearchConfig)
    for name in kind.model_fields
}
"""The flags that are stored with a run or a sweep, so that resuming it does not need them."""

_ONLY_ONCE = {"data", "resume", "overwrite"}


def resume_command(arguments: Sequence[str]) -> str:
    """What to type to resume the command with these arguments: without flags that the run has."""
    place = next(i for i, word in enumerate(arguments) if not word.startswith("-"))
    command, words = arguments[place], [*arguments[:place], *arguments[place + 1 :]]
    if command in _WITH_RESUME:
        words = [*_forgotten_flags(words), "--resume"]
    return shlex.join([*_program(command), *map(without_password, words)])


def _forgotten_flags(words: Sequence[str]) -> list[str]:
    """The flags, with their values, that are not stored with a run; no data, which is."""
    left, is_left = [], False
    for word in words:
        if word.startswith("--"):
            name = to_flag(word.removeprefix("--").partition("=")[0])
            is_left = name not in _REMEMBERED | _ONLY_ONCE
        if is_left:
            left.append(word)
    return left


def _program(command: str) -> list[str]:
    """How this process was started: as lstmfcn, as a module, or as one of jobs/."""
    path = Path(sys.argv[0])
    if path.stem == command:
        return ["python", sys.argv[0]]
    if path.name == "__main__.py":
        return ["python", "-m", "lstmfcn", command]
    return ["lstmfcn", command]
