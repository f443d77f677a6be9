"""What names data: a file, a folder, a glob or a URI, or several of them, read in that order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Data = str | Sequence[str]


def arguments_of(data: Data) -> tuple[str, ...]:
    """Each of the arguments, where one or several were given."""
    return (data,) if isinstance(data, str) else tuple(data)


def told(data: Data) -> str:
    """The arguments as a message names them."""
    return ", ".join(arguments_of(data))


def as_arguments(data: Any) -> Any:
    """For a record: one argument as a tuple of one, all else as it is."""
    return (data,) if isinstance(data, str) else data
