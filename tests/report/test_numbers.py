import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lstmfcn.errors import ModelError
from lstmfcn.inference.metrics import compute_metrics
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.report.findings import collect_findings
from lstmfcn.report.summary import CHANNELS_DRAWN
from tests.helpers.small_reports import (
    CASES,
    report_artifact,
    report_case,
    report_schema,
    report_table,
)


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """The kind of labels, what was found, and a classifier of the same model."""
    model, data = report_case(tmp_path_factory.mktemp("case"), request.param)
    return request.param, collect_findings(model, data), Classifier.load(model)


def test_metrics_are_those_of_evaluate(case):
    kind, found, classifier = case
    schema = report_schema(kind)
    table = report_table(schema, 60)
    columns = pa.table(
        {
            name: table[name].astype(str if kind == "names" and name == "y" else "float32")
            for name in table
        }
    )
    labels = schema.encode_labels(columns)
    shares = classifier.predict_proba(table.filter(regex="^x").to_numpy(np.float32))
    expected = compute_metrics(schema, labels, shares, classifier.predict_labels(shares))
    assert found.scores.metrics.keys() == expected.keys()
    for name, value in expected.items():
        same = pytest.approx(value, abs=1e-6) if isinstance(value, float) else value
        if name != "classes":
            assert found.scores.metrics[name] == same
    for one in found.scores.classes:
        for name in ("precision", "recall", "f1"):
            assert getattr(one, name).value == pytest.approx(expected["classes"][one.name][name])
        assert one.support == expected["classes"][one.name]["support"] == one.found + one.missed


def test_intervals_hold_their_scores(case):
    _, found, _ = case
    scores = [found.scores.accuracy, found.scores.macro_f1]
    scores += [score for one in found.scores.classes for score in (one.recall, one.f1)]
    for score in scores:
        assert score.interval.low <= score.value + 1e-9
        assert score.value - 1e-9 <= score.interval.high
    assert any(score.interval.low < score.interval.high for score in scores)


def test_the_area_below_a_curve_is_the_one_in_the_table(case):
    _, found, _ = case
    for one in found.scores.classes:
        x, y = one.roc
        area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
        assert area == pytest.approx(one.roc_auc, abs=1e-6)


def test_the_distance_of_the_reliability_curve_is_the_calibration_error(case):
    _, found, _ = case
    counts, stated, observed = found.scores.reliability
    there = counts > 0
    distance = (counts[there] * np.abs(stated - observed)[there]).sum() / counts.sum()
    expected = found.scores.metrics["expected_calibration_error"]
    assert distance == pytest.approx(expected, abs=1e-6)


def test_confusions_are_the_largest_cells_off_the_diagonal(case):
    _, found, _ = case
    matrix = found.scores.confusion
    if matrix is None:
        assert found.schema.task == "multilabel"
        assert found.scores.confusions == []
        return
    assert matrix.sum() == found.summary.rows
    off = matrix[~np.eye(len(matrix), dtype=bool)]
    expected = sorted(off[off > 0].tolist(), reverse=True)[:10]
    assert [each.rows for each in found.scores.confusions] == expected


def test_terms_add_up_to_the_logit_that_the_probabilities_say(case):
    _, found, _ = case
    assert found.explained
    for each in found.explained:
        share = each.row.decided_share
        if found.schema.task != "multiclass":
            assert each.total == pytest.approx(np.log(share / (1 - share)), abs=1e-2)
        elif not each.row.right:
            assert each.total == pytest.approx(np.log(share / each.row.true_share), abs=1e-2)
            assert each.total > 0
    kinds = [each.row.right for each in found.explained]
    assert kinds == sorted(kinds, reverse=True)  # those that are right come first


def test_hardest_rows_come_in_order(case):
    _, found, _ = case
    shares = [row.true_share for row in found.hardest]
    assert shares == sorted(shares)
    assert [row.right for row in found.hardest] == [
        row.true == row.decided for row in found.hardest
    ]


def test_medians_and_bands_are_those_of_the_rows(case):
    kind, found, _ = case
    table = report_table(report_schema(kind), 60)
    one = found.summary.classes[-1]
    if found.schema.holds_names:
        rows = table[table.y == one.name]
    elif one.name in table:
        rows = table[table[one.name] == 1]
    else:
        rows = table[table.y == int(one.name)]
    values = rows.filter(regex="^x").to_numpy(np.float32)
    assert (one.rows, one.sampled) == (len(values), len(values))
    assert one.median[0] == pytest.approx(np.median(values, axis=0), abs=1e-5)
    assert one.low[0] == pytest.approx(np.quantile(values, 0.1, axis=0), abs=1e-5)


def test_terms_are_of_logits_before_the_temperature(tmp_path):
    model, data = report_case(tmp_path)
    schema = report_schema()
    report_artifact(schema, temperature=2.0).save(tmp_path / "run" / "model")
    for each in collect_findings(model, data).explained:
        if not each.row.right:
            ratio = np.log(each.row.decided_share / each.row.true_share)
            assert each.total == pytest.approx(2 * ratio, abs=1e-2)


def test_the_channels_that_tell_classes_apart_are_drawn(tmp_path):
    model, data = report_case(tmp_path, n_channels=7, n_rows=40)
    for path in (tmp_path / "data").iterdir():
        table = pd.read_csv(path)
        level = table.y.map({"ant": 0.0, "bee": 30.0, "cat": 60.0})
        for name in table.filter(regex="^x6_"):
            table[name] += level
        table.to_csv(path, index=False)
    found = collect_findings(model, data).summary
    assert len(found.channels) == CHANNELS_DRAWN
    assert "x6" in found.channel_names


def test_series_that_end_early_leave_no_median_behind_them(tmp_path):
    model, data = report_case(tmp_path, missing="mask")
    found = collect_findings(model, data).summary
    assert (found.lengths.least, found.lengths.most) == (8, 16)
    assert 0 < found.gaps < 0.25
    assert all(np.isfinite(one.median[0, :8][[0, 1, 4, 5, 6, 7]]).all() for one in found.classes)
    assert all(np.isnan(one.median[0, 2:4]).all() for one in found.classes)


def history(*epochs):
    return "".join(json.dumps({"epoch": k, "train_loss": 1 / k}) + "\n" for k in epochs)


def test_the_history_is_that_of_the_run_around_the_model(tmp_path):
    model, data = report_case(tmp_path, n_rows=9)
    assert collect_findings(model, data).history == []
    (tmp_path / "run" / "metrics.jsonl").write_text(history(1, 2, 3))
    assert [line["epoch"] for line in collect_findings(model, data).history] == [1, 2, 3]
    (tmp_path / "run" / "metrics.jsonl").write_text(history(1))  # not the model's: its epoch is 2
    assert collect_findings(model, data).history == []
    (tmp_path / "run" / "metrics.jsonl").write_text("{\n")
    with pytest.raises(ModelError, match=r"metrics\.jsonl: cannot be read"):
        collect_findings(model, data)


def test_the_card_tells_what_is_not_the_default(tmp_path):
    model, data = report_case(tmp_path, n_rows=9)
    card = collect_findings(model, data).card
    wanted = Artifact.load(model).hyperparameters
    entries = {entry.name: entry for entry in card.hyperparameters}
    assert entries["filters-1"] == ("filters-1", str(wanted.filters_1), True)
    assert not entries["kernel-size-1"].marked
    assert {"lstmfcn", "torch"} <= {entry.name for entry in card.versions}


def test_one_row_is_enough(tmp_path):
    model, data = report_case(tmp_path, n_rows=1, n_shards=1)
    found = collect_findings(model, data)
    assert found.summary.rows == len(found.hardest) == 1
    assert [one.roc for one in found.scores.classes] == [None] * 3


def test_no_row_is_explained_twice_for_one_class(case):
    _, found, _ = case
    sure = [each.answer for each in found.explained if each.row.right]
    assert len(set(sure)) == len(sure)
