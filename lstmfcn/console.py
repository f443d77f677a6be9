"""Print the result of a command on stdout, and everything else on stderr.

=============  ========================  ================================================
flags          stdout                    stderr
=============  ========================  ================================================
none           progress, then result     status, warnings, errors; a bar on a terminal
``--quiet``    result                    warnings, errors
``--json``     result, as one object     progress, status, warnings, errors; a bar
=============  ========================  ================================================

Progress is one line for each epoch, trial or file. On a terminal, lines appear above the bar.
``NO_COLOR`` turns colours off, ``TERM=dumb`` turns the bar off.

Control characters, such as in names of classes, columns and files, are escaped in every line.
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lstmfcn.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputMode:
    """How a command prints; see the table in this module."""

    quiet: bool = False
    as_json: bool = False
    verbose: bool = False


_mode = OutputMode()


def configure_output(mode: OutputMode) -> None:
    """Use this mode for all output, and write the log to stderr."""
    global _mode
    _mode = mode
    level = logging.WARNING if mode.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", handlers=[_LogHandler()])
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it logs about its font cache


def show_all_characters() -> None:
    """Escape characters that the encoding of stdout does not have, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Style(str):
    """A line with styles for the terminal, whose control characters are printed as they are."""


def is_verbose() -> bool:
    """Whether to print the messages of Ray."""
    return _mode.verbose


def print_result(*lines: str, **facts: Any) -> None:
    """Print the result: lines of text, or with ``--json`` the facts as one JSON object."""
    shown = "\n".join(line if isinstance(line, Style) else printable(line) for line in lines)
    print(json.dumps(facts, allow_nan=False) if _mode.as_json else shown, flush=True)


def print_written(rows: int, shards: int, folder: str, absolute: Path | str) -> None:
    """Print the number of rows and shards that were written, and the folder as typed."""
    print_result(
        f"{pluralize(rows, 'row')} in {pluralize(shards, 'shard')}: {folder}",
        output=str(absolute),
        rows=rows,
        shards=shards,
    )


def next_commands(folder: str) -> list[str]:
    """What to do with the model of a run or a sweep: command lines, with the folder as typed."""
    model = shlex.quote(folder)
    return [
        f"lstmfcn evaluate DATA --model {model}",
        f"lstmfcn predict DATA --model {model} --output FOLDER",
        f"lstmfcn serve {model}",
    ]


def print_progress(line: str) -> None:
    """Print a line of progress, such as of an epoch or a trial."""
    if _mode.quiet:
        return
    line = printable(line)
    if _mode.as_json or (sys.stdout.isatty() and sys.stderr.isatty()):
        _console().out(line, highlight=False)
    else:
        print(line, flush=True)


@contextmanager
def print_status(text: str) -> Iterator[None]:
    """Show what this block does: as a spinner on a terminal, otherwise as a line."""
    if _can_draw():
        from rich.text import Text

        with _console().status(Text(printable(text))):
            yield
    else:
        logger.info(text)
        yield


class Bar:
    """A progress bar at the bottom of the terminal, as a context manager.

    Nothing is drawn without a terminal or with ``--quiet``.

    Args:
        counted: what is counted, such as ``epoch``.
        state: the text after the bar.
    """

    def __init__(
        self,
        counted: str,
        total: int,
        done: int = 0,
        state: str = "",
        tells_time_left: bool = False,
    ) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        time_left = [TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False)]
        self._progress = Progress(
            TextColumn(counted),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            *(time_left if tells_time_left else []),
            console=_console(),
            disable=not _can_draw(),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._progress.add_task(counted, total=total, completed=done, state=state)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def draw(self, state: str, done: int | None = None) -> None:
        """Update the text after the bar, and the count if it is given."""
        self._progress.update(self._task, completed=done, state=printable(state))


class _LogHandler(logging.Handler):
    """Writes log lines to stderr, above the bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        _console().out(printable(self.format(record)), highlight=False)


def _can_draw() -> bool:
    return not _mode.quiet and sys.stderr.isatty() and not _console().is_dumb_terminal


@cache
def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def pluralize(n: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun: ``1 row``, ``1,000 rows``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def is_number(text: str) -> bool:
    """Whether a text is written as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def format_bytes(n_bytes: float) -> str:
    """Write a number of bytes with three digits: ``231 kB``, ``1.5 GB``."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB" if n_bytes < 999.5 else f"{n_bytes:,.0f} GB"
