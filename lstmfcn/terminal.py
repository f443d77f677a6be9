"""What a command prints, and where: its result on stdout, all else on stderr.

=============  ========================  ================================================
flags          stdout                    stderr
=============  ========================  ================================================
none           progress, then result     stages, warnings, errors; a bar on a terminal
``--quiet``    result                    warnings, errors
``--json``     result, as one object     progress, stages, warnings, errors; a bar
=============  ========================  ================================================

Progress is a line for each epoch, trial or file. Where stdout and stderr are a terminal, lines
appear above the bar. ``NO_COLOR`` takes the colours away, ``TERM=dumb`` the bar.

Control characters in names of classes, columns and files are escaped here, whatever the line.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, Self

from lstmfcn.quoting import printable

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manners:
    """How a command is to print; see this module's table.

    Attributes:
        quiet: only its result, warnings and errors.
        as_json: its result as one JSON object.
        verbose: also what Ray has to say.
    """

    quiet: bool = False
    as_json: bool = False
    verbose: bool = False


_manners = Manners()


def use(manners: Manners) -> None:
    """Print in this manner from now on, and what is logged too."""
    global _manners
    _manners = manners
    level = logging.WARNING if manners.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", handlers=[_Lines()])
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its cache of fonts


def show_all_characters() -> None:
    """Have characters that stdout's encoding lacks escaped, where Python would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Styled(str):
    """A line made for the terminal, whose control characters are meant, and nobody else's."""


def is_verbose() -> bool:
    """Whether the user wants to read what Ray has to say."""
    return _manners.verbose


def tell_result(*lines: str, **facts: Any) -> None:
    """Print what the command found or made.

    Args:
        lines: for people.
        facts: the same for a script, as one JSON object.
    """
    shown = "\n".join(line if isinstance(line, Styled) else printable(line) for line in lines)
    print(json.dumps(facts, allow_nan=False) if _manners.as_json else shown, flush=True)


def tell_progress(line: str) -> None:
    """Print a line of what a command is doing: an epoch, a trial."""
    if _manners.quiet:
        return
    line = printable(line)
    if _manners.as_json or (sys.stdout.isatty() and sys.stderr.isatty()):
        _console().out(line, highlight=False)
    else:
        print(line, flush=True)


@contextmanager
def stage(text: str) -> Iterator[None]:
    """Say what goes on inside this block: a line, or on a terminal a sign that turns."""
    if _draws():
        from rich.text import Text

        with _console().status(Text(printable(text))):
            yield
    else:
        logger.info(text)
        yield


class Bar:
    """A bar at the bottom of the terminal, from entering to leaving; none where none is drawn.

    Args:
        counted: what it counts, such as ``epoch``.
        total: how many there will be.
        done: how many there are already.
        state: what stands behind the bar.
        tells_time_left: whether the time that is left stands there too.
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

        left = [TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False)]
        self._drawn = Progress(
            TextColumn(counted),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            *(left if tells_time_left else []),
            console=_console(),
            disable=not _draws(),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._drawn.add_task(counted, total=total, completed=done, state=state)

    def __enter__(self) -> Self:
        self._drawn.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._drawn.stop()

    def draw(self, state: str, done: int | None = None) -> None:
        """Draw anew: what stands behind the bar, and how many are done where that changed."""
        self._drawn.update(self._task, completed=done, state=printable(state))


class _Lines(logging.Handler):
    """Writes log lines to stderr, above the bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        _console().out(printable(self.format(record)), highlight=False)


def _draws() -> bool:
    return not _manners.quiet and sys.stderr.isatty() and not _console().is_dumb_terminal


@cache
def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)
