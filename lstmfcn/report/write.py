"""Write a report: ``report.html``, and its drawings as PNGs beside it."""

from __future__ import annotations

import logging
from pathlib import Path

from lstmfcn.counts import number
from lstmfcn.data_arguments import Data
from lstmfcn.errors import OutputError
from lstmfcn.files import exists, local_path, refuse_existing, refuse_unwritable, whole_folder
from lstmfcn.report.drawings import drawings_of
from lstmfcn.report.findings import find
from lstmfcn.report.page import page_of

REPORT = "report.html"

logger = logging.getLogger(__name__)


def write_report(
    model: str, data: Data, output: str, seed: int = 0, *, overwrite: bool = False
) -> Path:
    """Compare a model with labelled shards, and write what is found as a page.

    Args:
        model: a model directory.
        data: labelled shards: a file, folder, glob or URI, or several of them.
        output: a folder, which appears whole or not at all.
        seed: of the sample that is drawn, and of the resamples.
        overwrite: whether the report may take the place of an earlier one in that folder.

    Returns:
        The path of the page.

    Raises:
        UserError: model, shards or output do not allow it.
    """
    folder = local_path(output)
    _refuse_other(folder)
    if not overwrite:
        refuse_existing(folder / REPORT)
    refuse_unwritable(folder)
    earlier = [path.name for path in folder.iterdir()] if overwrite and folder.exists() else []
    with whole_folder(folder, may_go=earlier) as unfinished:
        findings = find(model, data, seed)
        rows = number(findings.summary.rows, "row")
        logger.info("%s in %s", rows, number(findings.summary.shards, "shard"))
        drawings = drawings_of(findings)
        for drawing in drawings.all():
            drawing.save(unfinished)
        page = page_of(findings, drawings)
        (unfinished / REPORT).write_text(page, encoding="utf-8")
    return folder / REPORT


def _refuse_other(folder: Path) -> None:
    """Refuse what is no folder for a report, before any row is read.

    Raises:
        OutputError: it is a file, or holds what is of no report.
    """
    if not exists(folder):
        return
    if not folder.is_dir():
        raise OutputError(f"{folder}: is a file; name a folder")
    names = sorted(entry.name for entry in folder.iterdir())
    others = [name for name in names if name != REPORT and not name.endswith(".png")]
    if others or (names and REPORT not in names):
        raise OutputError(
            f"{folder}: holds {(others or names)[0]}, which is of no report; name a new --output"
        )
