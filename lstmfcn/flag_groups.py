"""The groups that flags stand in on the help pages, in the order of their numbers."""

from __future__ import annotations

from cyclopts import Group, Parameter

DATA = Parameter(group=Group("Data", sort_key=1))
OUTPUT = Parameter(group=Group("Output", sort_key=2))
LISTENING = Parameter(group=Group("Listening", sort_key=2))
SEARCH = Parameter(group=Group("Search", sort_key=3))
TRAINING = Parameter(group=Group("Training", sort_key=4))
NETWORK = Parameter(group=Group("Network", sort_key=5))
AFTER_TRAINING = Parameter(group=Group("After training", sort_key=6))
RESOURCES = Parameter(group=Group("Resources", sort_key=7))
PRINTING = Parameter(
    negative="",
    group=Group(
        "Printing",
        "Results and progress go to stdout; stages, warnings and errors to stderr.",
        sort_key=8,
    ),
)
