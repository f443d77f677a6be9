"""Run commands in this process, which has all of it imported."""

import io
import logging
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from lstmfcn.cli.main import main


class Ended(NamedTuple):
    """A command that has ended, as `subprocess.CompletedProcess` has it."""

    returncode: int
    stdout: str
    stderr: str


def run_job(name, *flags):
    """Run what ``jobs/NAME.py`` runs, with flags."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        patch.setattr(logging.root, "handlers", [])  # pytest's, which would take all lines
        level = logging.root.level
        try:
            code = main([name, *map(str, flags)])
        finally:
            logging.root.setLevel(level)
    return Ended(code, stdout.getvalue(), stderr.getvalue())


def run_refused(*words):
    """Run a command that ends with exit code 2; returns its last line on stderr."""
    ended = run_job(*words)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]
