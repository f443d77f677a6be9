"""Types of flags that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from lstmfcn.records import TrackerName

Count = Annotated[int, Parameter(validator=Number(gte=1))]
Port = Annotated[int, Parameter(validator=Number(gte=1, lte=65535))]
Amount = Annotated[float, Parameter(validator=Number(gte=0))]
Trackers = Annotated[list[TrackerName] | None, Parameter(negative="", consume_multiple=1)]
Seed = Annotated[int, Parameter(validator=Number(gte=0))]


def _as_typed(type_: Any, tokens: Sequence[Token]) -> str:  # noqa: ARG001 - a converter's arguments
    return tokens[0].value


if TYPE_CHECKING:
    Place = str
else:
    # shells complete paths, but what is given may be a URI or a glob, which a Path would change
    Place = Annotated[Path, Parameter(converter=_as_typed)]
