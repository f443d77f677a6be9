"""Write a report: ``report.html``, which contains its figures and loads nothing, and PNG files."""

from __future__ import annotations

import base64
import logging
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import lstmfcn
from lstmfcn.console import pluralize
from lstmfcn.data.listing import Data
from lstmfcn.errors import OutputError
from lstmfcn.report.figures import Figures, classes_to_draw, draw_figures
from lstmfcn.report.findings import Findings, collect_findings
from lstmfcn.report.predictions import ALIKE
from lstmfcn.report.score_plots import CURVES_NAMED, PANELS_OF_CLASSES
from lstmfcn.report.scores import LEVEL, RESAMPLES
from lstmfcn.report.style import Drawing
from lstmfcn.report.summary import BAND
from lstmfcn.storage.files import (
    atomic_directory,
    exists,
    refuse_existing,
    refuse_unwritable,
)
from lstmfcn.storage.outputs import output_folder
from lstmfcn.storage.places import Place, within

REPORT = "report.html"

logger = logging.getLogger(__name__)


def write_report(
    model: str, data: Data, output: str, seed: int = 0, *, overwrite: bool = False
) -> Place:
    """Evaluate a model on labelled shards, and write the results as an HTML page; returns its path.

    The seed is that of the sample of rows, and of the bootstrap.

    Raises:
        UserError: the model, the shards or the output cannot be used.
    """
    with output_folder(output) as folder:
        _write(folder, model, data, seed, overwrite)
    return within(output, REPORT)


def _write(folder: Path, model: str, data: Data, seed: int, overwrite: bool) -> None:
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


_TEMPLATE, _STYLE_SHEET = "report.html.j2", "report.css"


def render_page(findings: Findings, drawings: Figures) -> str:
    """Render the HTML of a report; all text from data and model is escaped."""
    environment = Environment(
        loader=PackageLoader("lstmfcn.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": _score,
        "percent": _percent,
        "embedded": _embed,
        "number": pluralize,
    }
    style = files("lstmfcn.report").joinpath(_STYLE_SHEET).read_text(encoding="utf-8")
    return environment.get_template(_TEMPLATE).render(
        findings=findings,
        summary=findings.summary,
        scores=findings.scores,
        drawings=drawings,
        classes_to_draw=len(classes_to_draw(findings.summary)),
        style=Markup(style),
        version=lstmfcn.__version__,
        band=BAND,
        resamples=RESAMPLES,
        level=LEVEL,
        alike=ALIKE,
        curves_named=CURVES_NAMED,
        panels_of_classes=PANELS_OF_CLASSES,
    )


def _score(value: float | None) -> str:
    """Format a score with three decimals; a dash if it is undefined."""
    return "-" if value is None else f"{value:.3f}"


def _percent(share: float) -> str:
    """Format a share in per cent with one decimal; only exact 0 and 1 become 0 % and 100 %."""
    shown = 100 * share
    if 0 < shown < 0.1:
        return "< 0.1 %"
    if 99.9 < shown < 100:
        return "> 99.9 %"
    return f"{shown:.0f} %" if shown in (0, 100) else f"{shown:.1f} %"


def _embed(drawing: Drawing) -> str:
    """Convert a PNG to a data URI."""
    return "data:image/png;base64," + base64.b64encode(drawing.png).decode("ascii")
