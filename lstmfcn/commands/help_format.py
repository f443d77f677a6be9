"""How a help page is laid out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cyclopts.help import DefaultFormatter, HelpPanel

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions


class PageFormatter(DefaultFormatter):
    """cyclopts' own layout, with lines that end where the terminal does, not the docstring's."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print a group of commands or flags."""
        for entry in panel.entries:
            _join_lines(entry.description)
        super().__call__(console, options, panel)

    def render_description(
        self, console: Console, options: ConsoleOptions, description: Any
    ) -> None:
        """Print what a command does."""
        _join_lines(description)
        super().render_description(console, options, description)


def _join_lines(description: Any) -> None:
    """Join the lines of each paragraph of a text."""
    text = getattr(description, "primary_renderable", None)
    if text is not None:
        text.plain = re.sub(r"(?<!\n)\n(?!\n)", " ", text.plain)
