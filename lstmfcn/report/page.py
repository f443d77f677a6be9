"""The page: one HTML file that loads nothing, its drawings inside it."""

from __future__ import annotations

import base64
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import lstmfcn
from lstmfcn.counts import number
from lstmfcn.report.bootstrap import LEVEL, RESAMPLES
from lstmfcn.report.drawings import Drawings, drawn_classes
from lstmfcn.report.findings import Findings
from lstmfcn.report.gathering import ALIKE
from lstmfcn.report.score_drawing import CURVES_NAMED, PANELS_OF_CLASSES
from lstmfcn.report.style import Drawing
from lstmfcn.report.summary import BAND

_TEMPLATE, _STYLE_SHEET = "report.html.j2", "report.css"


def page_of(findings: Findings, drawings: Drawings) -> str:
    """The HTML of a report. Whatever text came from data or model is escaped."""
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
        "embedded": _embedded,
        "number": number,
    }
    style = files("lstmfcn.report").joinpath(_STYLE_SHEET).read_text(encoding="utf-8")
    return environment.get_template(_TEMPLATE).render(
        findings=findings,
        summary=findings.summary,
        scores=findings.scores,
        drawings=drawings,
        drawn_classes=len(drawn_classes(findings.summary)),
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
    """Three digits; a dash for what is undefined."""
    return "-" if value is None else f"{value:.3f}"


def _percent(share: float) -> str:
    """A share in per cent, with a digit below 10 %, and never 0 or 100 for what is not quite."""
    shown = 100 * share
    if 0 < shown < 0.1:
        return "< 0.1 %"
    if 99.9 < shown < 100:
        return "> 99.9 %"
    return f"{shown:.0f} %" if shown in (0, 100) else f"{shown:.1f} %"


def _embedded(drawing: Drawing) -> str:
    """The PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(drawing.png).decode("ascii")
