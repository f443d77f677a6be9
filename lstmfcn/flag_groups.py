"""The groups that flags stand in on the help pages, in the order of their numbers."""

from __future__ import annotations

from cyclopts import Group, Parameter

from lstmfcn.hyperparameters import AFTER_TRAINING, DATA, NETWORK, TRAINING

__all__ = ["AFTER_TRAINING", "DATA", "NETWORK", "TRAINING"]

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
