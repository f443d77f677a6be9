"""``sweep.json``: what a sweep was asked for, beside what `lstmfcn.run_folder.RunRecord` keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lstmfcn.errors import HyperparameterError, OutputError
from lstmfcn.files import whole_file
from lstmfcn.hyperparameters import explain, flag
from lstmfcn.search_space import SearchSpace

SWEEP = "sweep.json"

SchedulerName = Literal["asha", "none"]
SearcherName = Literal["optuna", "random"]

_MAY_CHANGE = {"num_samples"}
"""What may differ when a sweep goes on: more trials are just more of the same."""


class Search(BaseModel):
    """How a sweep searches, as the user asks for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: str = Field(
        "paper", description="What is searched: a YAML file, or a preset: paper or published."
    )
    num_samples: int = Field(20, ge=1, description="Trials in all.")
    metric: str = Field(
        "valid_accuracy",
        description="What trials are compared by, at the epoch that each keeps; losses are "
        "minimised, all else is maximised.",
    )
    searcher: SearcherName = Field(
        "optuna", description="optuna learns from the trials so far (TPE), random does not."
    )
    scheduler: SchedulerName = Field(
        "asha",
        description="asha stops the worse two thirds of the trials after a ninth, and again after "
        "a third, of the epochs; none lets all of them end.",
    )


class SweepRecord(Search):
    """What was asked for, and what its space holds.

    Attributes:
        written: the space without the hyperparameters that are given.
    """

    written: dict[str, Any]

    @classmethod
    def of(cls, search: Search, fixed: set[str]) -> SweepRecord:
        """The record of a sweep in which these hyperparameters are given.

        Raises:
            HyperparameterError: the space cannot be read, or allows impossible values, or nothing
                is left of it.
        """
        space = SearchSpace.load(search.space).without(fixed, search.space)
        return cls(**search.model_dump(), written=space.written())

    def search_space(self) -> SearchSpace:
        """The space, as it was when the sweep began."""
        return SearchSpace.of(self.written, self.space)

    def save(self, folder: Path) -> None:
        """Write ``sweep.json``.

        Raises:
            OutputError: it cannot be written.
        """
        with whole_file(folder / SWEEP) as path:
            path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SweepRecord | None:
        """The record of the sweep in a folder; None where there is none.

        Raises:
            OutputError: there is one, but it cannot be read.
        """
        path = folder / SWEEP
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise OutputError(f"{path}: {explain(error)}; name another --output") from error
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror})") from error

    def resumed_with(self, given: Search) -> SweepRecord:
        """This record, with more trials where they were given.

        Raises:
            HyperparameterError: something else was given that is not what the sweep has.
        """
        for name in sorted(given.model_fields_set - _MAY_CHANGE):
            theirs, ours = getattr(self, name), getattr(given, name)
            if theirs != ours:
                raise HyperparameterError(
                    f"{flag(name)}: found {ours!r}, the sweep to resume has {theirs!r}; "
                    "leave the flag out, or name another --output"
                )
        changes = {name: getattr(given, name) for name in _MAY_CHANGE & given.model_fields_set}
        return self.model_copy(update=changes)
