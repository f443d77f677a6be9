"""``sweep.json``: what a sweep was asked for, beside what `lstmfcn.run_folder.RunRecord` keeps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lstmfcn.records import Record, refuse_changes
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
        "default",
        description="What is searched: a YAML file, or a preset: default, paper or published.",
    )
    num_samples: int = Field(
        20, ge=1, description="Trials in all; the first has the values that train would have."
    )
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
        "a third, of the epochs, but not the first trial; none lets all of them end.",
    )


class SweepRecord(Search, Record):
    """What was asked for, and what its space holds.

    Attributes:
        written: the space without the hyperparameters that are given.
        defaults_first: whether the first trial has the values that ``lstmfcn train`` would have;
            sweeps that older versions began do not say so.
    """

    file_name = SWEEP

    written: dict[str, Any]
    defaults_first: bool = False

    @classmethod
    def of(cls, search: Search, fixed: set[str]) -> SweepRecord:
        """The record of a sweep in which these hyperparameters are given.

        Raises:
            HyperparameterError: the space cannot be read, or allows impossible values, or nothing
                is left of it.
        """
        space = SearchSpace.load(search.space).without(fixed, search.space)
        return cls(**search.model_dump(), written=space.written(), defaults_first=True)

    def search_space(self) -> SearchSpace:
        """The space, as it was when the sweep began."""
        return SearchSpace.of(self.written, self.space)

    def resumed_with(self, given: Search) -> SweepRecord:
        """This record, with more trials where they were given.

        Raises:
            HyperparameterError: something else was given that is not what the sweep has.
        """
        return self.model_copy(update=refuse_changes(self, given, _MAY_CHANGE))
