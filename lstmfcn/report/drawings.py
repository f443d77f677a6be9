"""Every drawing of a report, with the words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lstmfcn.counts import number
from lstmfcn.curves import learning_curve
from lstmfcn.report.findings import Findings
from lstmfcn.report.row_drawing import (
    MOST_CLASSES,
    draw_classes,
    draw_explanation,
    draw_lengths,
    draw_row,
)
from lstmfcn.report.score_drawing import (
    PANELS_OF_CLASSES,
    draw_class_reliability,
    draw_class_scores,
    draw_confusion,
    draw_outcomes,
    draw_reliability,
    draw_roc,
    least_areas,
)
from lstmfcn.report.scores import Scores
from lstmfcn.report.single_rows import ExplainedRow, ShownRow
from lstmfcn.report.style import Drawing, drawing
from lstmfcn.report.summary import ClassSeries, Summary

_SHEET = 8
"""Classes of one drawing where each takes a line of several channels: what fits a printed page."""


class Drawings(NamedTuple):
    """The drawings; None, or none, where there is nothing to draw.

    Attributes:
        classes: the middle of each class, on one or several sheets.
        confusion: of multilabel, what was found and missed of each label.
        hardest, explained: one for each row.
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
        """One after the other."""
        for each in self:
            if isinstance(each, Drawing):
                yield each
            elif each is not None:
                yield from each


def drawings_of(findings: Findings) -> Drawings:
    """Draw everything."""
    summary, scores = findings.summary, findings.scores
    classes = scores.classes
    varied = summary.lengths.least < summary.lengths.most
    return Drawings(
        classes=_class_sheets(summary),
        lengths=_lengths(summary) if varied else None,
        learning=_learning(findings) if findings.history else None,
        class_scores=drawing("class_scores.png", _scores_alt(scores), draw_class_scores, classes),
        confusion=_confusion(scores),
        roc=_roc(scores) if least_areas(classes) else None,
        reliability=drawing(
            "reliability.png", _reliability_alt(scores), draw_reliability, scores.reliability
        ),
        class_reliability=_class_reliability(scores),
        hardest=[_hardest(summary, i, row) for i, row in enumerate(findings.hardest, start=1)],
        explained=[
            _explained(summary, i, row) for i, row in enumerate(findings.explained, start=1)
        ],
    )


def drawn_classes(summary: Summary) -> list[ClassSeries]:
    """The classes whose medians are drawn: all, or those with most rows, in the model's order."""
    most = sorted(summary.classes, key=lambda one: -one.rows)[:MOST_CLASSES]
    names = {one.name for one in most}
    return [one for one in summary.classes if one.name in names]


def _class_sheets(summary: Summary) -> list[Drawing]:
    classes = drawn_classes(summary)
    step = _SHEET if len(summary.channels) > 1 else MOST_CLASSES
    starts = range(0, len(classes), step)
    return [
        drawing(
            f"classes_{k}.png" if len(starts) > 1 else "classes.png",
            "Median series of each class, with the band between its quantiles of 10 % and 90 %: "
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
    return drawing("lengths.png", alt, draw_lengths, summary)


def _learning(findings: Findings) -> Drawing:
    first, last = findings.history[0], findings.history[-1]
    alt = (
        f"Loss and accuracy over {number(len(findings.history), 'epoch')}, "
        f"epoch {findings.kept_epoch} kept; "
        f"training loss from {first['train_loss']:.3g} to {last['train_loss']:.3g}"
    )
    if "valid_loss" in first:
        alt += f", validation loss from {first['valid_loss']:.3g} to {last['valid_loss']:.3g}"
    return drawing(
        "learning_curves.png", alt + ".", learning_curve, findings.history, findings.kept_epoch
    )


def _scores_alt(scores: Scores) -> str:
    ordered = sorted(scores.classes, key=lambda one: one.f1.value or 0.0)
    ends = [f"{one.name} with F1 {one.f1.value:.2f}" for one in (ordered[0], ordered[-1])]
    return (
        "Precision, recall and F1 of each class with intervals, the numbers of the table below: "
        f"from {ends[0]} to {ends[1]}."
    )


def _confusion(scores: Scores) -> Drawing:
    if scores.confusion is None:
        found = sum(one.found for one in scores.classes)
        missed = sum(one.missed for one in scores.classes)
        false_alarms = sum(one.false_alarms for one in scores.classes)
        alt = (
            "Rows of each label that were found, missed, and false alarms; over all labels "
            f"{found}, {missed} and {false_alarms}."
        )
        return drawing("labels.png", alt, draw_outcomes, scores.classes)
    wrong = [
        f"{each.true} for {each.decided}, {number(each.rows, 'row')}"
        for each in scores.confusions[:3]
    ]
    alt = "Confusion matrix, true classes in rows and predicted ones in columns. " + (
        f"Most often mistaken: {'; '.join(wrong)}." if wrong else "No row is mistaken."
    )
    return drawing("confusion_matrix.png", alt, draw_confusion, scores.classes, scores.confusion)


def _roc(scores: Scores) -> Drawing:
    least = least_areas(scores.classes)
    named = "; ".join(f"{one.name} {one.roc_auc:.3f}" for one in least)
    alt = f"ROC curves, each class against the rest. Areas under them, the least first: {named}."
    return drawing("roc.png", alt, draw_roc, scores.classes)


def _reliability_alt(scores: Scores) -> str:
    error = scores.metrics["expected_calibration_error"]
    return (
        "How often decisions were right over the probability that they were given, in 15 bins; "
        f"the expected calibration error is {error:.3f}."
    )


def _class_reliability(scores: Scores) -> Drawing | None:
    if len(scores.classes) > PANELS_OF_CLASSES:
        return None
    names = ", ".join(one.name for one in scores.classes)
    alt = f"Share of rows of each class over the probability that the class was given: {names}."
    return drawing("reliability_by_class.png", alt, draw_class_reliability, scores.classes)


def _hardest(summary: Summary, number: int, row: ShownRow) -> Drawing:
    alt = (
        f"{row.place.file}, row {row.place.row}: true {_listed(row.true)}, "
        f"predicted {_listed(row.decided)}; drawn over the median of {_class(summary, row)}."
    )
    return drawing(f"hardest_{number:02d}.png", alt, draw_row, summary, row)


def _explained(summary: Summary, number: int, explained: ExplainedRow) -> Drawing:
    terms = explained.terms
    at = int(abs(terms).argmax())
    alt = (
        f"{explained.row.place.file}, row {explained.row.place.row}, coloured by what speaks for "
        f"{explained.answer} rather than {explained.other}; the largest term is {terms[at]:+.2g}, "
        f"at timepoint {at + 1}."
    )
    return drawing(f"explained_{number}.png", alt, draw_explanation, summary, explained)


def _class(summary: Summary, row: ShownRow) -> str:
    return summary.classes[row.true_class].name


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "no label"
