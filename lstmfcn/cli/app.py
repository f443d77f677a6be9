"""The command line that commands are added to, each with its group, examples and help page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cyclopts import App, Group, Parameter
from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel

import lstmfcn

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions


DATA_COMMANDS = Group("Data", sort_key=1)

MODEL_COMMANDS = Group("Model", sort_key=2)

USE_COMMANDS = Group("Use", sort_key=3)

SHELL_COMMANDS = Group("Shell", sort_key=4)

Command = TypeVar("Command", bound=Callable[..., None])


class PageFormatter(DefaultFormatter):
    """cyclopts' own layout, with lines that end where the terminal does, not the docstring's."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print a group of commands or flags."""
        for entry in panel.entries:
            _join_lines(entry.description)
        panel.entries = [_without_aliases(entry) for entry in panel.entries]
        super().__call__(console, options, panel)

    def render_description(
        self, console: Console, options: ConsoleOptions, description: Any
    ) -> None:
        """Print what a command does."""
        _join_lines(description)
        super().render_description(console, options, description)


def _without_aliases(entry: HelpEntry) -> HelpEntry:
    """What stands first is shown as DATA or MODEL, without the flags that it may also have."""
    return entry.copy(positive_names=()) if entry.positional_label else entry


def _join_lines(description: Any) -> None:
    """Join the lines of each paragraph of a text."""
    text = getattr(description, "primary_renderable", None)
    if text is not None:
        text.plain = re.sub(r"(?<!\n)\n(?!\n)", " ", text.plain)


def indented(title: str, *texts: str) -> str:
    """Texts below a title, as they stand in a terminal."""
    lines = [f"  {line}" for text in texts for line in text.splitlines()]
    return "\n".join([f"{title}:", *lines])


def shown_default(value: Any) -> str | None:
    """A default as a help page shows it; None where there is nothing to show."""
    return None if value is None or value is False or value in ((), "") else str(value)


app = App(
    name="lstmfcn",
    help="Train, tune and serve the LSTM-FCN time-series classifier, on a laptop or a Ray cluster.",
    help_format="plaintext",
    help_formatter=PageFormatter(),
    help_epilogue=indented(
        "First steps",
        "lstmfcn sample --output data/train --rows 300 --seed 1",
        "lstmfcn sample --output data/valid --rows 150 --seed 2",
        "lstmfcn train data/train --validation data/valid --output run --epochs 5",
        "lstmfcn evaluate data/valid --model run",
        "lstmfcn predict data/valid --model run --output predicted",
    )
    + "\n\n"
    + indented(
        "Exit codes",
        "0    success",
        "1    training failed",
        "2    wrong input; the last line on stderr says what to do",
        "130  stopped by Ctrl-C; the last line on stderr says how to resume",
    )
    + "\n\nlstmfcn COMMAND --help shows all flags of a command, and examples.",
    version=lstmfcn.__version__,
    default_parameter=Parameter(show_default=shown_default, negative_iterable=()),
    group_commands=Group("Help", sort_key=5),
)
app.suppress_keyboard_interrupt = app.meta.suppress_keyboard_interrupt = False  # cli tells of it


class Page(NamedTuple):
    """What a command's help page has besides its flags; usage is what stands behind its name."""

    group: Group
    usage: str
    examples: tuple[str, ...]


PAGES: dict[Callable[..., None], Page] = {}


def page(group: Group, usage: str, *examples: str) -> Callable[[Command], Command]:
    """Give a command its page."""

    def keep(command: Command) -> Command:
        PAGES[command] = Page(group, usage, examples)
        return command

    return keep


def add(command: Callable[..., None]) -> None:
    """Add a command with its page to the command line."""
    group, usage, examples = PAGES[command]
    title = "Examples" if len(examples) > 1 else "Example"
    app.command(
        command,
        group=group,
        usage=f"Usage: lstmfcn {command.__name__} {usage}",
        help_epilogue=indented(title, *examples),
    )
