"""Types of flags that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from lstmfcn.errors import UserError
from lstmfcn.records import TrackerName

Count = Annotated[int, Parameter(validator=Number(gte=1))]
Port = Annotated[int, Parameter(validator=Number(gte=1, lte=65535))]
Amount = Annotated[float, Parameter(validator=Number(gte=0))]
Trackers = Annotated[list[TrackerName] | None, Parameter(negative="", consume_multiple=1)]
Seed = Annotated[int, Parameter(validator=Number(gte=0))]


EMPTY = "found an empty path; name one (a variable of the shell that is not set gives none)"


def _as_typed(type_: Any, tokens: Sequence[Token]) -> str:  # noqa: ARG001 - a converter's arguments
    if not tokens[0].value:  # the current folder, to most that takes a path
        raise UserError(f"{tokens[0].keyword or 'data'}: {EMPTY}")
    return tokens[0].value


Overwrite = Annotated[bool, Parameter(negative="")]

if TYPE_CHECKING:
    Place = str
else:
    # shells complete paths, but what is given may be a URI or a glob, which a Path would change
    Place = Annotated[Path, Parameter(converter=_as_typed)]

# what an unquoted glob of the shell makes: several words after one flag
Places = Annotated[list[Place], Parameter(consume_multiple=1, negative="")]
PlacesOrNone = Annotated[list[Place] | None, Parameter(consume_multiple=1, negative="")]

DATA_FLAGS = {
    "train": "--train",
    "tune": "--train",
    "evaluate": "--data",
    "report": "--data",
    "predict": "--input",
    "convert": "--input",
    "serve": "--model",
    "export": "--model",
}
"""The flag that is likely meant by a word after none."""
