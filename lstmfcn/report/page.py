"""Render the page: one HTML file that contains its figures and loads nothing."""

from __future__ import annotations

import base64
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import lstmfcn
from lstmfcn.console import pluralize
from lstmfcn.report.figures import Figures, classes_to_draw
from lstmfcn.report.findings import Findings
from lstmfcn.report.predictions import ALIKE
from lstmfcn.report.score_plots import CURVES_NAMED, PANELS_OF_CLASSES
from lstmfcn.report.scores import LEVEL, RESAMPLES
from lstmfcn.report.style import Drawing
from lstmfcn.report.summary import BAND

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
