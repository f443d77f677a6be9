"""Write a report: ``report.html``, and its figures as PNG files."""

from __future__ import annotations

import logging
from pathlib import Path

from lstmfcn.console import pluralize
from lstmfcn.data.listing import Data
from lstmfcn.errors import OutputError
from lstmfcn.report.figures import draw_figures
from lstmfcn.report.findings import collect_findings
from lstmfcn.report.page import render_page
from lstmfcn.storage.files import (
    atomic_directory,
    exists,
    local_path,
    refuse_existing,
    refuse_unwritable,
)

REPORT = "report.html"

logger = logging.getLogger(__name__)


def write_report(
    model: str, data: Data, output: str, seed: int = 0, *, overwrite: bool = False
) -> Path:
    """Evaluate a model on labelled shards, and write the results as an HTML page.

    Args:
        output: the folder of the report; it is written atomically.
        seed: seed of the sample of rows, and of the bootstrap.

    Raises:
        UserError: the model, the shards or the output cannot be used.
    """
    folder = local_path(output)
    _refuse_other(folder)
    if not overwrite:
        refuse_existing(folder / REPORT)
    refuse_unwritable(folder)
    earlier = [path.name for path in folder.iterdir()] if overwrite and folder.exists() else []
    with atomic_directory(folder, may_go=earlier) as unfinished:
        findings = collect_findings(model, data, seed)
        rows = pluralize(findings.summary.rows, "row")
        logger.info("%s in %s", rows, pluralize(findings.summary.shards, "shard"))
        drawings = draw_figures(findings)
        for drawing in drawings.all():
            drawing.save(unfinished)
        page = render_page(findings, drawings)
        (unfinished / REPORT).write_text(page, encoding="utf-8")
    return folder / REPORT


def _refuse_other(folder: Path) -> None:
    """Refuse a file, or a folder that holds other files than a report, before any row is read."""
    if not exists(folder):
        return
    if not folder.is_dir():
        raise OutputError(f"{folder}: is a file; choose a folder")
    names = sorted(entry.name for entry in folder.iterdir())
    others = [name for name in names if name != REPORT and not name.endswith(".png")]
    if others or (names and REPORT not in names):
        raise OutputError(
            f"{folder}: holds {(others or names)[0]}, which is not part of a report; "
            "name a new --output"
        )
