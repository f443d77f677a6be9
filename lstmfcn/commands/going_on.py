"""The command line that goes on with what was stopped."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from lstmfcn.hyperparameters import Hyperparameters, flag
from lstmfcn.run_folder import RunRecord
from lstmfcn.sweep_record import Search

_WITH_RESUME = ("train", "tune")
_REMEMBERED = {
    flag(name) for kind in (RunRecord, Hyperparameters, Search) for name in kind.model_fields
}
"""The flags that a run or a sweep that is resumed knows by itself."""


def going_on(arguments: Sequence[str]) -> str:
    """What to type, where these arguments were stopped: without what the run remembers."""
    place = next(i for i, word in enumerate(arguments) if not word.startswith("-"))
    command, words = arguments[place], [*arguments[:place], *arguments[place + 1 :]]
    if command in _WITH_RESUME:
        words = [*_forgotten(words), "--resume"]
    return shlex.join([*_program(command), *words])


def _forgotten(words: Sequence[str]) -> list[str]:
    """The flags, with their values, that a run does not remember."""
    left, is_left = [], True
    for word in words:
        if word.startswith("--"):
            name = flag(word.removeprefix("--").partition("=")[0])
            is_left = name not in _REMEMBERED and name != "resume"
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
