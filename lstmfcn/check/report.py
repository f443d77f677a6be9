"""What was found, as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from lstmfcn.check.examination import Examined
from lstmfcn.check.suspicions import Suspicion
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
    def n_faulty_shards(self) -> int:
        """Shards that have any."""
        shards = (shard for examined in self.parts.values() for shard in examined.shards)
        return sum(1 for shard in shards if shard.n_faults)

    @property
    def faults(self) -> list[DataError]:
        """At most ``limit`` of them."""
        found = (e.first_faults(self.limit) for e in self.parts.values())
        return [fault for faults in found for fault in faults][: self.limit]


def text(findings: Findings) -> Iterator[str]:
    """The findings, line by line."""
    for which, examined in findings.parts.items():
        yield from _summary(which, examined, findings.guessed)
    yield from _classes(findings)
    yield ""
    if findings.n_faults:
        yield f"{findings.n_faults:,} faults, which training refuses:"
        yield from (f"  {fault}" for fault in findings.faults)
        if (more := findings.n_faults - len(findings.faults)) > 0:
            yield f"  and {more:,} more; --limit {findings.n_faults} lists all"
    else:
        yield "no fault: training takes this data"
    if findings.suspicions:
        yield ""
        yield f"{len(findings.suspicions)} suspicions, which training takes as they are:"
    for suspicion in findings.suspicions:
        yield f"  {suspicion}"
        yield from (f"    {place}" for place in suspicion.places)
        if (more := suspicion.n - len(suspicion.places)) > 0 and suspicion.places:
            yield f"    and {more:,} more"


def _summary(which: str, examined: Examined, guessed: bool) -> Iterator[str]:
    n_shards = len(examined.shards)
    yield f"{which}: {examined.data}"
    rows = f"{examined.n_rows:,} rows" + (
        f" ({examined.n_broken:,} with faults)" if examined.n_broken else ""
    )
    yield f"  {n_shards} shard{'s' if n_shards != 1 else ''}, {rows}"
    schema = examined.schema
    if schema and which == "training":
        channels = f"{schema.n_channels} channel{'s' if schema.n_channels > 1 else ''}"
        yield f"  {schema.n_timepoints} timepoints, {channels}"
        how = " (by its label columns; --task says otherwise)" if guessed else ""
        yield f"  task {schema.task}{how}, {len(examined.class_counts())} classes"
    if ignored := examined.ignored_columns():
        yield f"  columns not used: {', '.join(ignored)}"
    if lengths := examined.lengths():
        yield (
            f"  series of {lengths['least']} to {lengths['most']} timepoints, "
            f"median {lengths['median']}; {lengths['missing']:,} values missing within"
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
        yield f"and {len(names) - _MOST_CLASSES} more classes"


def _share(n_rows: int, examined: Examined) -> str:
    whole = examined.n_rows - examined.n_broken
    return f"{n_rows:,} ({100 * n_rows / max(1, whole):.1f} %)"


def as_json(findings: Findings) -> str:
    """The findings as one JSON object."""
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
    return json.dumps(found, indent=1, allow_nan=False) + "\n"
