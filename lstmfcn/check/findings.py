"""Check data, and show the findings: tables on a terminal, lines elsewhere, a dict for programs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, groupby, islice
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lstmfcn.check.rules import find_warnings, warn_of_groups
from lstmfcn.check.scan import (
    DataScan,
    guess_task,
    name_classes,
    read_headers,
    reference_schema,
    scan_shards,
)
from lstmfcn.console import Style, pluralize
from lstmfcn.data.columns import BY_FIRST_LETTER, DataWarning, Roles
from lstmfcn.data.listing import Data
from lstmfcn.errors import DataError, printable
from lstmfcn.hyperparameters import MissingLabelsName, MissingName, TaskName

_MAX_CLASSES = 20


class Findings(NamedTuple):
    """Everything that a check found.

    Attributes:
        warnings: what training accepts, but may not be intended.
        limit: how many faults to describe.
    """

    training: DataScan
    validation: DataScan | None
    warnings: list[DataWarning]
    guessed: bool
    limit: int

    @property
    def scans(self) -> dict[str, DataScan]:
        """The scans by what the data is for."""
        scans = {"training": self.training}
        return scans | ({"validation": self.validation} if self.validation else {})

    @property
    def n_faults(self) -> int:
        """The number of all faults."""
        return sum(scan.n_faults for scan in self.scans.values())

    @property
    def n_more(self) -> int:
        """The number of faults that are not described."""
        return self.n_faults - len(self.faults)

    @property
    def faults(self) -> list[DataError]:
        """The first faults, at most ``limit``."""
        faults = (scan.first_faults(self.limit) for scan in self.scans.values())
        return list(islice(chain.from_iterable(faults), self.limit))

    @property
    def advice(self) -> str:
        """What to do about the faults; removing rows helps only if other rows are left."""
        some_rows = any(0 < scan.n_broken < scan.n_rows for scan in self.scans.values())
        return "correct them" + (
            ", or remove these rows with --fix --output DIR" if some_rows else ""
        )


def to_text(findings: Findings) -> Iterator[str]:
    """The findings as lines of text."""
    yield from summary(findings)
    yield ""
    yield fault_heading(findings)
    yield from (f"  {fault}" for fault in findings.faults)
    if findings.n_more:
        yield f"  {not_listed(findings)}"
    if findings.warnings:
        yield ""
        yield warning_heading(findings)
    for warning in findings.warnings:
        yield f"  {warning}"
        yield from (f"    {place}" for place in places(warning))


def summary(findings: Findings) -> Iterator[str]:
    """Lines with the number of shards, rows and columns, and the classes."""
    for which, scan in findings.scans.items():
        yield from _summary(which, scan, findings.guessed)
    yield from _classes(findings)


def fault_heading(findings: Findings) -> str:
    """The line above the faults, or instead of them."""
    if not findings.n_faults:
        return "no faults: training accepts this data"
    return f"{pluralize(findings.n_faults, 'fault')}: training refuses this data"


def not_listed(findings: Findings) -> str:
    """The line below the faults if there are more."""
    return f"and {findings.n_more:,} more; --limit {findings.n_faults} lists all"


def warning_heading(findings: Findings) -> str:
    """The line above the warnings."""
    return f"{pluralize(len(findings.warnings), 'warning')} about data that training accepts"


def places(warning: DataWarning) -> Iterator[str]:
    """Where some of the rows or values are, and how many more there are."""
    yield from warning.places
    if warning.places and warning.n > len(warning.places):
        yield f"and {warning.n - len(warning.places):,} more"


def _summary(which: str, scan: DataScan, guessed: bool) -> Iterator[str]:
    yield f"{which}: {scan.data}"
    n_refused = sum(1 for shard in scan.shards if shard.statistics is None)
    shards = pluralize(len(scan.shards), "shard") + (
        f" ({n_refused:,} not read)" if n_refused else ""
    )
    broken = f" ({scan.n_broken:,} with faults)" if scan.n_broken else ""
    yield f"  {shards}, {pluralize(scan.n_rows, 'row')}{broken}"
    schema = scan.schema
    if schema and which == "training":
        timepoints = pluralize(schema.n_timepoints, "timepoint")
        yield f"  {timepoints}, {pluralize(schema.n_channels, 'channel')}"
        how = " (guessed from its label columns)" if guessed else ""
        if guessed and schema.task != "multiclass":
            how = f" (guessed from its label columns: train with --task {schema.task})"
        classes = pluralize(len(scan.class_counts()), "class", "classes")
        yield f"  task {schema.task}{how}, {classes}"
    if ignored := scan.ignored_columns():
        yield f"  columns not used: {', '.join(ignored)}"
    if lengths := scan.lengths():
        yield (
            f"  series of {lengths['least']} to {lengths['most']} timepoints, "
            f"median {lengths['median']}; {pluralize(lengths['missing'], 'value')} missing "
            "inside the series"
        )


def _classes(findings: Findings) -> Iterator[str]:
    counts = {which: scan.class_counts() for which, scan in findings.scans.items()}
    names = list(dict.fromkeys(chain.from_iterable(counts.values())))
    if not names:
        return
    width = max(len("class"), *(len(name) for name in names[:_MAX_CLASSES]))
    yield ""
    yield f"{'class':{width}}" + "".join(f"  {which:>18}" for which in counts)
    for name in names[:_MAX_CLASSES]:
        cells = (_share(n.get(name, 0), findings.scans[which]) for which, n in counts.items())
        yield f"{name:{width}}" + "".join(f"  {cell:>18}" for cell in cells)
    if len(names) > _MAX_CLASSES:
        yield f"and {pluralize(len(names) - _MAX_CLASSES, 'more class', 'more classes')}"


def _share(n_rows: int, scan: DataScan) -> str:
    n_intact = scan.n_rows - scan.n_broken
    return f"{n_rows:,} ({100 * n_rows / max(1, n_intact):.1f} %)"


def to_facts(findings: Findings) -> dict[str, Any]:
    """The findings as a dict, for `--json`."""
    schema = findings.training.schema
    facts: dict[str, Any] = {
        "task": schema.task if schema else None,
        "task_guessed": findings.guessed,
        "n_timepoints": schema.n_timepoints if schema else None,
        "n_channels": schema.n_channels if schema else None,
    }
    for which, scan in findings.scans.items():
        facts[which] = {
            "data": scan.data,
            "n_shards": len(scan.shards),
            "n_rows": scan.n_rows,
            "n_rows_with_faults": scan.n_broken,
            "columns_not_used": scan.ignored_columns(),
            "classes": scan.class_counts(),
            "lengths": scan.lengths(),
        }
    facts["n_faults"] = findings.n_faults
    facts["faults"] = [
        {name: getattr(fault, name) for name in ("file", "row", "column", "found", "fix")}
        for fault in findings.faults
    ]
    facts["suspicions"] = [warning._asdict() for warning in findings.warnings]
    return facts


def lines_for_terminal(findings: Findings, console: Console | None = None) -> list[str]:
    """The findings as tables if stdout is a terminal, otherwise as `to_text`."""
    console = console or Console()
    if not console.is_terminal:
        return list(to_text(findings))
    with console.capture() as captured:
        _print(findings, console)
    return [Style(line) for line in captured.get().split("\n")]


def _print(findings: Findings, console: Console) -> None:
    for line in summary(findings):
        console.print(_text(line))
    console.print()
    style = "bold red" if findings.n_faults else "bold green"
    console.print(_text(fault_heading(findings), style))
    for file, faults in groupby(findings.faults, key=lambda fault: fault.file):
        rows = list(faults)
        if all(fault.row is None for fault in rows):
            console.print(*map(_text, ("", *map(str, rows))), sep="\n")
        else:
            console.print(_text(f"\n{file}"), _table(rows), sep="\n")
    if findings.n_more:
        console.print(_text(not_listed(findings)))
    if findings.warnings:
        console.print(_text(f"\n{warning_heading(findings)}", "bold yellow"))
    for warning in findings.warnings:
        console.print(Padding(_text(str(warning)), (0, 0, 0, 2)))
        for place in places(warning):
            console.print(Padding(_text(place, "dim"), (0, 0, 0, 4)))


def _text(line: str, style: str = "") -> Text:
    return Text(printable(line), style)


def _table(faults: list[DataError]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("row", justify="right")
    table.add_column("column", overflow="fold")
    table.add_column("found", overflow="fold", ratio=2)
    table.add_column("what to do", overflow="fold", ratio=3)
    for fault in faults:
        row = "all" if fault.row is None else str(fault.row)
        table.add_row(*map(_text, (row, fault.column or "", fault.found, fault.fix)))
    return table


def check(
    data: Data,
    validation: Data | None = None,
    task: TaskName | None = None,
    missing: MissingName = "refuse",
    limit: int = 100,
    *,
    missing_marker: str = "",
    missing_labels: MissingLabelsName = "refuse",
    roles: Roles = BY_FIRST_LETTER,
    group_column: str = "",
) -> Findings:
    """Find all faults of the data, and warn of what may not be intended.

    Args:
        data: training shards: a file, folder, glob or URI, or several of them.
        task: what the labels mean; guessed if None.
        missing, missing_marker, missing_labels, roles: as the hyperparameters.
        limit: how many faults to describe; all are counted.
        group_column: a column whose rows of one text belong on one side.

    Raises:
        DataError: there is no shard, or a shard without the group column.
    """
    headers = read_headers(data, missing, roles)
    validation_headers = read_headers(validation, missing, roles) if validation else None
    used_task = task or guess_task(headers, roles)
    options = {
        "missing": missing,
        "missing_marker": missing_marker,
        "missing_labels": missing_labels,
        "roles": roles,
    }
    schema = reference_schema(headers, used_task, options)
    training = scan_shards(data, headers, schema, used_task, limit, roles)
    name_classes(training)
    validation_scan = None
    if validation and validation_headers:
        schema = training.schema or reference_schema(validation_headers, used_task, options)
        validation_scan = scan_shards(
            validation, validation_headers, schema, used_task, limit, roles
        )
    warnings = find_warnings(training, validation_scan)
    if group_column and validation_scan:
        warnings += warn_of_groups(training, validation_scan, group_column)
    return Findings(training, validation_scan, warnings, guessed=task is None, limit=limit)
