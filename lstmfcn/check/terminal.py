"""The findings on a terminal: a table of faults for each file, lines broken between words."""

from __future__ import annotations

from itertools import groupby

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lstmfcn.check.report import (
    Findings,
    fault_heading,
    not_listed,
    places,
    summary,
    suspicion_heading,
    text,
)
from lstmfcn.errors import DataError
from lstmfcn.quoting import printable
from lstmfcn.terminal import Styled


def lines_for_terminal(findings: Findings, console: Console | None = None) -> list[str]:
    """The findings: tables where stdout is a terminal, else a line a fault, as training has it."""
    console = console or Console()
    if not console.is_terminal:
        return list(text(findings))
    with console.capture() as captured:
        _print(findings, console)
    return [Styled(line) for line in captured.get().split("\n")]


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
    if findings.suspicions:
        console.print(_text(f"\n{suspicion_heading(findings)}", "bold yellow"))
    for suspicion in findings.suspicions:
        console.print(Padding(_text(str(suspicion)), (0, 0, 0, 2)))
        for place in places(suspicion):
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
