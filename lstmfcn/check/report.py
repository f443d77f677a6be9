"""What was found, as text for people and as facts for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from lstmfcn.check.examination import Examined
from lstmfcn.check.suspicions import Suspicion
from lstmfcn.counts import number
from lstmfcn.errors import DataError

_MOST_CLASSES = 20


class Findings(NamedTuple):
    """All that a check found.

    Attributes:
        training: the data that was named.
        guessed: whether the task was guessed.
        limit: the most faults to describe.
    """

    training: Examined
    validation: Examined | None
    suspicions: list[Suspicion]
    guessed: bool
    limit: int

    @property
    def parts(self) -> dict[str, Examined]:
        """By what they are for."""
        parts = {"training": self.training}
        return parts | ({"validation": self.validation} if self.validation else {})

    @property
    def n_faults(self) -> int:
        """All of them."""
        return sum(examined.n_faults for examined in self.parts.values())

    @property
    def n_more(self) -> int:
        """Those that are not described."""
        return self.n_faults - len(self.faults)

    @property
    def faults(self) -> list[DataError]:
        """At most ``limit`` of them."""
        found = (e.first_faults(self.limit) for e in self.parts.values())
        return [fault for faults in found for fault in faults][: self.limit]

    @property
    def advice(self) -> str:
        """What to do about the faults: leaving rows out helps where there are others."""
        few = any(0 < examined.n_broken < examined.n_rows for examined in self.parts.values())
        return "mend them" + (", or leave such rows out with --fix --output DIR" if few else "")


def text(findings: Findings) -> Iterator[str]:
    """The findings, line by line."""
    yield from summary(findings)
    yield ""
    yield fault_heading(findings)
    yield from (f"  {fault}" for fault in findings.faults)
    if findings.n_more:
        yield f"  {not_listed(findings)}"
    if findings.suspicions:
        yield ""
        yield suspicion_heading(findings)
    for suspicion in findings.suspicions:
        yield f"  {suspicion}"
        yield from (f"    {place}" for place in places(suspicion))


def summary(findings: Findings) -> Iterator[str]:
    """Rows, columns and classes."""
    for which, examined in findings.parts.items():
        yield from _summary(which, examined, findings.guessed)
    yield from _classes(findings)


def fault_heading(findings: Findings) -> str:
    """What stands above the faults, or in their place."""
    if not findings.n_faults:
        return "no fault: training takes this data"
    return f"{number(findings.n_faults, 'fault')}: training refuses this data"


def not_listed(findings: Findings) -> str:
    """What stands below the faults where there are more."""
    return f"and {findings.n_more:,} more; --limit {findings.n_faults} lists all"


def suspicion_heading(findings: Findings) -> str:
    """What stands above the suspicions."""
    return f"{number(len(findings.suspicions), 'suspicion')}, with which training would go on"


def places(suspicion: Suspicion) -> Iterator[str]:
    """Where some of it stands, and how much more there is."""
    yield from suspicion.places
    if suspicion.places and suspicion.n > len(suspicion.places):
        yield f"and {suspicion.n - len(suspicion.places):,} more"


def _summary(which: str, examined: Examined, guessed: bool) -> Iterator[str]:
    yield f"{which}: {examined.data}"
    refused = sum(1 for shard in examined.shards if shard.statistics is None)
    shards = number(len(examined.shards), "shard") + (f" ({refused:,} not read)" if refused else "")
    broken = f" ({examined.n_broken:,} with faults)" if examined.n_broken else ""
    yield f"  {shards}, {number(examined.n_rows, 'row')}{broken}"
    schema = examined.schema
    if schema and which == "training":
        timepoints = number(schema.n_timepoints, "timepoint")
        yield f"  {timepoints}, {number(schema.n_channels, 'channel')}"
        how = " (guessed from its label columns)" if guessed else ""
        if guessed and schema.task != "multiclass":
            how = f" (guessed from its label columns: train with --task {schema.task})"
        classes = number(len(examined.class_counts()), "class", "classes")
        yield f"  task {schema.task}{how}, {classes}"
    if ignored := examined.ignored_columns():
        yield f"  columns not used: {', '.join(ignored)}"
    if lengths := examined.lengths():
        yield (
            f"  series of {lengths['least']} to {lengths['most']} timepoints, "
            f"median {lengths['median']}; {number(lengths['missing'], 'value')} missing within"
        )


def _classes(findings: Findings) -> Iterator[str]:
    counts = {which: examined.class_counts() for which, examined in findings.parts.items()}
    names = list(dict.fromkeys(name for own in counts.values() for name in own))
    if not names:
        return
    width = max(len("class"), *(len(name) for name in names[:_MOST_CLASSES]))
    yield ""
    yield f"{'class':{width}}" + "".join(f"  {which:>18}" for which in counts)
    for name in names[:_MOST_CLASSES]:
        cells = (_share(own.get(name, 0), findings.parts[which]) for which, own in counts.items())
        yield f"{name:{width}}" + "".join(f"  {cell:>18}" for cell in cells)
    if len(names) > _MOST_CLASSES:
        yield f"and {number(len(names) - _MOST_CLASSES, 'more class', 'more classes')}"


def _share(n_rows: int, examined: Examined) -> str:
    whole = examined.n_rows - examined.n_broken
    return f"{n_rows:,} ({100 * n_rows / max(1, whole):.1f} %)"


def as_facts(findings: Findings) -> dict[str, Any]:
    """The findings for a script."""
    schema = findings.training.schema
    found: dict[str, Any] = {
        "task": schema.task if schema else None,
        "task_guessed": findings.guessed,
        "n_timepoints": schema.n_timepoints if schema else None,
        "n_channels": schema.n_channels if schema else None,
    }
    for which, examined in findings.parts.items():
        found[which] = {
            "data": examined.data,
            "n_shards": len(examined.shards),
            "n_rows": examined.n_rows,
            "n_rows_with_faults": examined.n_broken,
            "columns_not_used": examined.ignored_columns(),
            "classes": examined.class_counts(),
            "lengths": examined.lengths(),
        }
    found["n_faults"] = findings.n_faults
    found["faults"] = [
        {
            "file": fault.file,
            "row": fault.row,
            "column": fault.column,
            "found": fault.found,
            "fix": fault.fix,
        }
        for fault in findings.faults
    ]
    found["suspicions"] = [suspicion._asdict() for suspicion in findings.suspicions]
    return found
