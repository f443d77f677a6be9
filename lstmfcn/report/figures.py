"""Draw every figure of a report, with text alternatives for screen readers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lstmfcn.console import pluralize
from lstmfcn.report.examples import Example, ExplainedExample
from lstmfcn.report.findings import Findings
from lstmfcn.report.score_plots import (
    PANELS_OF_CLASSES,
    draw_class_reliability,
    draw_class_scores,
    draw_confusion,
    draw_outcomes,
    draw_reliability,
    draw_roc,
    smallest_areas,
)
from lstmfcn.report.scores import Scores
from lstmfcn.report.series_plots import (
    MOST_CLASSES,
    draw_classes,
    draw_explanation,
    draw_lengths,
    draw_row,
)
from lstmfcn.report.style import Drawing, render_drawing
from lstmfcn.report.summary import ClassSeries, Summary
from lstmfcn.training.progress import draw_learning_curve

_CLASSES_PER_SHEET = 8
"""Classes per figure with several channels, one line each; they fit a printed page."""


class Figures(NamedTuple):
    """The figures of a report; None or empty where there is nothing to draw.

    Attributes:
        classes: medians of the classes, on one or several sheets.
        confusion: the confusion matrix; for multilabel, the found and missed rows of each label.
        hardest: one figure per hardest row.
        explained: one figure per explained row.
    """

    classes: list[Drawing]
    lengths: Drawing | None
    learning: Drawing | None
    class_scores: Drawing
    confusion: Drawing
    roc: Drawing | None
    reliability: Drawing
    class_reliability: Drawing | None
    hardest: list[Drawing]
    explained: list[Drawing]

    def all(self) -> Iterator[Drawing]:
        """Yield all figures in order."""
        for figures in self:
            if isinstance(figures, Drawing):
                yield figures
            elif figures is not None:
                yield from figures


def draw_figures(findings: Findings) -> Figures:
    """Draw all figures."""
    summary, scores = findings.summary, findings.scores
    classes = scores.classes
    varied = summary.lengths.least < summary.lengths.most
    return Figures(
        classes=_class_sheets(summary),
        lengths=_lengths(summary) if varied else None,
        learning=_learning(findings) if findings.history else None,
        class_scores=render_drawing(
            "class_scores.png", _scores_alt(scores), draw_class_scores, classes
        ),
        confusion=_confusion(scores),
        roc=_roc(scores) if smallest_areas(classes) else None,
        reliability=render_drawing(
            "reliability.png", _reliability_alt(scores), draw_reliability, scores.reliability
        ),
        class_reliability=_class_reliability(scores),
        hardest=[_hardest(summary, i, row) for i, row in enumerate(findings.hardest, start=1)],
        explained=[
            _explained(summary, i, row) for i, row in enumerate(findings.explained, start=1)
        ],
    )


def classes_to_draw(summary: Summary) -> list[ClassSeries]:
    """Select the classes whose medians are drawn: those with most rows, in the model's order."""
    most = sorted(summary.classes, key=lambda one: -one.rows)[:MOST_CLASSES]
    names = {one.name for one in most}
    return [one for one in summary.classes if one.name in names]


def _class_sheets(summary: Summary) -> list[Drawing]:
    classes = classes_to_draw(summary)
    step = _CLASSES_PER_SHEET if len(summary.channels) > 1 else MOST_CLASSES
    starts = range(0, len(classes), step)
    return [
        render_drawing(
            f"classes_{k}.png" if len(starts) > 1 else "classes.png",
            "Median series of each class, with the band between its 10 % and 90 % quantiles: "
            + ", ".join(one.name for one in classes[start : start + step])
            + ".",
            draw_classes,
            summary,
            classes[start : start + step],
        )
        for k, start in enumerate(starts, start=1)
    ]


def _lengths(summary: Summary) -> Drawing:
    least, median, most = summary.lengths
    alt = (
        f"Histogram of the lengths of series: from {least} to {most} timepoints, median {median:g}."
    )
    return render_drawing("lengths.png", alt, draw_lengths, summary)


def _learning(findings: Findings) -> Drawing:
    first, last = findings.history[0], findings.history[-1]
    alt = (
        f"Loss and accuracy over {pluralize(len(findings.history), 'epoch')}, "
        f"best epoch {findings.best_epoch}; "
        f"training loss from {first['train_loss']:.3g} to {last['train_loss']:.3g}"
    )
    if "valid_loss" in first:
        alt += f", validation loss from {first['valid_loss']:.3g} to {last['valid_loss']:.3g}"
    return render_drawing(
        "learning_curves.png", alt + ".", draw_learning_curve, findings.history, findings.best_epoch
    )


def _scores_alt(scores: Scores) -> str:
    ordered = sorted(scores.classes, key=lambda one: one.f1.value or 0.0)
    ends = [f"{one.name} with F1 {one.f1.value:.2f}" for one in (ordered[0], ordered[-1])]
    return (
        "Precision, recall and F1 of each class with intervals, as in the table below: "
        f"from {ends[0]} to {ends[1]}."
    )


def _confusion(scores: Scores) -> Drawing:
    if scores.confusion is None:
        found = sum(one.found for one in scores.classes)
        missed = sum(one.missed for one in scores.classes)
        false_alarms = sum(one.false_alarms for one in scores.classes)
        alt = (
            "Found and missed rows, and false alarms, of each label; over all labels "
            f"{found}, {missed} and {false_alarms}."
        )
        return render_drawing("labels.png", alt, draw_outcomes, scores.classes)
    wrong = [
        f"{each.true} as {each.decided}, {pluralize(each.rows, 'row')}"
        for each in scores.confusions[:3]
    ]
    alt = "Confusion matrix, true classes in rows and predicted ones in columns. " + (
        f"Most frequent confusions: {'; '.join(wrong)}." if wrong else "All rows are correct."
    )
    return render_drawing(
        "confusion_matrix.png", alt, draw_confusion, scores.classes, scores.confusion
    )


def _roc(scores: Scores) -> Drawing:
    least = smallest_areas(scores.classes)
    named = "; ".join(f"{one.name} {one.roc_auc:.3f}" for one in least)
    alt = f"ROC curves of each class against the rest. Areas, the smallest first: {named}."
    return render_drawing("roc.png", alt, draw_roc, scores.classes)


def _reliability_alt(scores: Scores) -> str:
    error = scores.metrics["expected_calibration_error"]
    return (
        "Accuracy of the predictions over their probability, in 15 bins; "
        f"the expected calibration error is {error:.3f}."
    )


def _class_reliability(scores: Scores) -> Drawing | None:
    if len(scores.classes) > PANELS_OF_CLASSES:
        return None
    names = ", ".join(one.name for one in scores.classes)
    alt = f"Share of rows of each class over the predicted probability of the class: {names}."
    return render_drawing("reliability_by_class.png", alt, draw_class_reliability, scores.classes)


def _hardest(summary: Summary, number: int, row: Example) -> Drawing:
    shown = summary.classes[row.true_class]
    alt = (
        f"{row.place.file}, row {row.place.row}: true {_listed(row.true)}, "
        f"predicted {_listed(row.decided)}; drawn over the median of {shown.name}."
    )
    return render_drawing(f"hardest_{number:02d}.png", alt, draw_row, summary, row)


def _explained(summary: Summary, number: int, explained: ExplainedExample) -> Drawing:
    terms = explained.terms
    at = int(abs(terms).argmax())
    alt = (
        f"{explained.row.place.file}, row {explained.row.place.row}, coloured by what supports "
        f"{explained.answer} rather than {explained.other}; the largest term is {terms[at]:+.2g}, "
        f"at timepoint {at + 1}."
    )
    return render_drawing(f"explained_{number}.png", alt, draw_explanation, summary, explained)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "no label"
