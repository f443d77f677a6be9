"""A case: an action of a user, and the expected result."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lstmfcn.cli.main import main


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def facts(self) -> dict[str, Any]:
        """What it printed with --json."""
        return json.loads(self.stdout.splitlines()[-1])

    @property
    def refusal(self) -> str:
        """Its last line on stderr."""
        return self.stderr.splitlines()[-1] if self.stderr.strip() else ""


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        family: the fault that it stands for.
        name: what is tried.
        act: does it in a folder of its own, given the folder of the inputs; raises AssertionError
            where something else happens than should.
    """

    family: str
    name: str
    act: Callable[[Path, Path], None]

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


def run(*words: object) -> Ended:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    lines, logger = logging.StreamHandler(err), logging.getLogger("lstmfcn")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main([str(word) for word in words])
    finally:
        logger.removeHandler(lines)
    return Ended(code, out.getvalue(), err.getvalue())


def refused(ended: Ended, *patterns: str) -> None:
    """Assert that a command ended with one line in which all patterns are found."""
    assert ended.code == 2, f"exit code {ended.code}: {ended.stdout[-300:]} {ended.stderr[-300:]}"
    assert "Traceback" not in ended.stderr, ended.stderr[-500:]
    message = ended.refusal
    assert message.startswith("lstmfcn: "), message
    for pattern in patterns:
        assert re.search(pattern, message, re.IGNORECASE), f"{pattern!r} is not in: {message}"


def contains(facts: dict[str, Any], **expected: Any) -> None:
    """Assert that facts have these values; classes and n_rows are those of the training data."""
    own = facts | {name: facts["training"][name] for name in ("n_rows", "classes", "n_shards")}
    for name, value in expected.items():
        assert own[name] == value, f"{name}: {own[name]!r}, not {value!r}"
