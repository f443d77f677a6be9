"""What a run was asked for, as a JSON file in its folder, to go on from after an interruption."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lstmfcn.errors import HyperparameterError, OutputError
from lstmfcn.files import read_regular, whole_file
from lstmfcn.hyperparameters import explain, flag
from lstmfcn.quoting import shown

_MOST_BYTES = 1 << 20
"""Of a file."""

TrackerName = Literal["tensorboard", "mlflow"]


class Record(BaseModel):
    """A model with a file of its own in a folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_name: ClassVar[str]

    def save(self, folder: Path) -> None:
        """Write the file.

        Raises:
            OutputError: it cannot be written.
        """
        with whole_file(folder / self.file_name) as path:
            path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The record in a folder; None where there is none.

        Raises:
            OutputError: there is one, but it cannot be read.
        """
        path = folder / cls.file_name
        try:
            return cls.model_validate_json(read_regular(path, _MOST_BYTES))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise OutputError(
                f"{path}: {explain(error, 'the record')}; name another --output"
            ) from error
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror})") from error


def refuse_changes(
    known: BaseModel, given: BaseModel, may_change: Set[str] = frozenset()
) -> dict[str, object]:
    """Refuse what was given and is not what the run to resume has.

    Args:
        known: what the run has.
        given: the fields that are set were given.
        may_change: fields that may differ.

    Returns:
        Those of them that were given.

    Raises:
        HyperparameterError: another field differs; names it.
    """
    for name in sorted(given.model_fields_set - may_change):
        theirs, ours = getattr(known, name), getattr(given, name)
        if theirs != ours:
            raise HyperparameterError(
                f"{flag(name)}: found {shown(ours)}, the run to resume has {shown(theirs)}; "
                "leave the flag out, or name another --output"
            )
    return {name: getattr(given, name) for name in may_change & given.model_fields_set}
