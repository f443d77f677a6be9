"""The command line that the commands are added to, each with its group and its examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from cyclopts import App, Group, Parameter

import lstmfcn
from lstmfcn.commands.help_format import PageFormatter

DATA_COMMANDS = Group("Data", sort_key=1)
MODEL_COMMANDS = Group("Model", sort_key=2)
USE_COMMANDS = Group("Use", sort_key=3)
SHELL_COMMANDS = Group("Shell", sort_key=4)


def indented(title: str, *texts: str) -> str:
    """Texts below a title, as they stand in a terminal."""
    lines = [f"  {line}" for text in texts for line in text.splitlines()]
    return "\n".join([f"{title}:", *lines])


def shown_default(value: Any) -> str | None:
    """A default as a help page shows it: no more than there is to know."""
    return None if value is None or value is False or value == () else str(value)


app = App(
    name="lstmfcn",
    help="Train and use the LSTM-FCN time-series classifier on CSV shards, through Ray.",
    help_format="plaintext",
    help_formatter=PageFormatter(),
    help_epilogue=indented(
        "First steps",
        "lstmfcn sample --output data/train --rows 300 --seed 1",
        "lstmfcn sample --output data/valid --rows 150 --seed 2",
        "lstmfcn train --train data/train --validation data/valid --output runs/first",
        "lstmfcn evaluate --model runs/first/model --data data/valid",
        "lstmfcn predict --model runs/first/model --input data/valid --output out",
    )
    + "\n\n"
    + indented(
        "Exit codes",
        "0    all of it is done",
        "1    training failed",
        "2    something given is wrong; the last line on stderr says what to do",
        "130  stopped by Ctrl-C; the last line on stderr says how to go on",
    )
    + "\n\nlstmfcn COMMAND --help has all flags of a command, and an example.",
    version=lstmfcn.__version__,
    default_parameter=Parameter(show_default=shown_default, negative_iterable=()),
    group_commands=Group("Help", sort_key=5),
)
app.suppress_keyboard_interrupt = app.meta.suppress_keyboard_interrupt = False  # cli tells of it

Command = TypeVar("Command", bound=Callable[..., None])


class Page(NamedTuple):
    """What a command's help page has besides its flags.

    Attributes:
        group: of commands, on the page of `lstmfcn --help`.
        examples: command lines; one that is long goes on after a backslash.
    """

    group: Group
    examples: tuple[str, ...]


PAGES: dict[Callable[..., None], Page] = {}


def page(group: Group, *examples: str) -> Callable[[Command], Command]:
    """Give a command its page."""

    def keep(command: Command) -> Command:
        PAGES[command] = Page(group, examples)
        return command

    return keep


def add(command: Callable[..., None]) -> None:
    """Add a command with its page to the command line."""
    group, examples = PAGES[command]
    title = "Examples" if len(examples) > 1 else "Example"
    app.command(command, group=group, help_epilogue=indented(title, *examples))
