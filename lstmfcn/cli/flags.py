"""Types of flags that several commands have, and the groups that flags stand in on help pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from lstmfcn.errors import UserError
from lstmfcn.hyperparameters import AFTER_TRAINING, DATA, NETWORK, TRAINING
from lstmfcn.training.run_directory import TrackerName

__all__ = ["AFTER_TRAINING", "DATA", "NETWORK", "TRAINING"]

FIRST_DATA = Parameter(name="--data")
TRAIN_DATA = Parameter(name=("--data", "--train"))
INPUT_DATA = Parameter(name=("--data", "--input"))
FIRST_MODEL = Parameter(name="--model")
"""What stands first, before all flags. Help pages do not show that these flags are taken too."""

OUTPUT = Parameter(group=Group("Output", sort_key=2))
LISTENING = Parameter(group=Group("Listening", sort_key=2))
SEARCH = Parameter(group=Group("Search", sort_key=3))
RESOURCES = Parameter(group=Group("Resources", sort_key=7))
PRINTING = Parameter(
    negative="",
    group=Group(
        "Printing",
        "Results and progress go to stdout; stages, warnings and errors to stderr.",
        sort_key=8,
    ),
)

Count = Annotated[int, Parameter(validator=Number(gte=1))]
Port = Annotated[int, Parameter(validator=Number(gte=1, lte=65535))]
Amount = Annotated[float, Parameter(validator=Number(gte=0))]
Trackers = Annotated[list[TrackerName] | None, Parameter(negative="", consume_multiple=1)]
Seed = Annotated[int, Parameter(validator=Number(gte=0))]
Overwrite = Annotated[bool, Parameter(negative="")]

EMPTY_PATH = "found an empty path; name one (a variable of the shell that is not set gives none)"


def _as_typed(type_: Any, tokens: Sequence[Token]) -> str:  # noqa: ARG001 - a converter's arguments
    if not tokens[0].value:  # the current folder, to most that takes a path
        raise UserError(f"{tokens[0].keyword or 'data'}: {EMPTY_PATH}")
    return tokens[0].value


if TYPE_CHECKING:
    Place = str
else:
    # shells complete paths, but what is given may be a URI or a glob, which a Path would change
    Place = Annotated[Path, Parameter(converter=_as_typed)]

# what an unquoted glob of the shell makes: several words after one flag
Places = Annotated[list[Place], Parameter(consume_multiple=1, negative="")]

PlacesOrNone = Annotated[list[Place] | None, Parameter(consume_multiple=1, negative="")]
