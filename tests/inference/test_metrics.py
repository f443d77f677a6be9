import json

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    roc_auc_score,
)

from lstmfcn.inference.metrics import compute_metrics
from lstmfcn.model.task import make_task
from lstmfcn.training.calibration import compute_calibration_error
from tests.helpers.small_shards import KINDS, schema_of


def scored(kind, labels, probabilities):
    """The evaluation of probabilities and the labels that follow from them, as JSON gives it."""
    schema = schema_of(kind)
    shares = np.array(probabilities, dtype=np.float32)
    kept = np.int64 if schema.task == "multiclass" else np.float32
    found = compute_metrics(
        schema, np.array(labels, dtype=kept), shares, make_task(schema).predict_labels(shares)
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def scores(precision, recall, f1, roc_auc, support):
    return {
        "precision": pytest.approx(precision),
        "recall": pytest.approx(recall),
        "f1": pytest.approx(f1),
        "roc_auc": roc_auc if roc_auc is None else pytest.approx(roc_auc),
        "support": support,
    }


@pytest.mark.parametrize(
    ("kind", "names"), [("one-hot", ["y_1", "y_2", "y_3"]), ("names", ["ant", "bee", "cat"])]
)
def test_multiclass_numbers_are_those_computed_by_hand(kind, names):
    found = scored(
        kind,
        [0, 0, 1, 1, 2, 2],
        [
            [0.6, 0.3, 0.1],
            [0.4, 0.5, 0.1],  # decided for the second class
            [0.2, 0.7, 0.1],
            [0.1, 0.8, 0.1],
            [0.2, 0.2, 0.6],
            [0.5, 0.3, 0.2],  # decided for the first class
        ],
    )
    expected = [
        scores(1 / 2, 1 / 2, 1 / 2, 7 / 8, 2),
        scores(2 / 3, 1, 4 / 5, 1, 2),
        scores(1, 1 / 2, 2 / 3, 1, 2),
    ]
    assert found == {
        "task": "multiclass",
        "rows": 6,
        "accuracy": pytest.approx(4 / 6),
        "balanced_accuracy": pytest.approx((1 / 2 + 1 + 1 / 2) / 3),
        "log_loss": pytest.approx(-np.log([0.6, 0.4, 0.7, 0.8, 0.6, 0.2]).mean()),
        "brier_score": pytest.approx((0.26 + 0.62 + 0.14 + 0.06 + 0.24 + 0.98) / 6),
        "expected_calibration_error": pytest.approx((0.8 + 1.0 + 0.3 + 0.2) / 6),
        "macro_f1": pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3),
        "classes": dict(zip(names, expected, strict=True)),
        "confusion_matrix": [[1, 1, 0], [0, 2, 0], [1, 0, 1]],
    }


@pytest.mark.parametrize(
    ("kind", "names"), [("binary", ["0", "1"]), ("binary pair", ["y_1", "y_2"])]
)
def test_binary_numbers_are_those_computed_by_hand(kind, names):
    yes = np.array([[0.2], [0.6], [0.4], [0.7], [0.9]])
    shares = yes if kind == "binary" else np.hstack([1 - yes, yes])
    no_scores = scores(1 / 2, 1 / 2, 1 / 2, 5 / 6, 2)
    yes_scores = scores(2 / 3, 2 / 3, 2 / 3, 5 / 6, 3)
    assert scored(kind, [0, 0, 1, 1, 1], shares) == {
        "task": "binary",
        "rows": 5,
        "accuracy": pytest.approx(3 / 5),
        "balanced_accuracy": pytest.approx((1 / 2 + 2 / 3) / 2),
        "log_loss": pytest.approx(-np.log([0.8, 0.4, 0.4, 0.7, 0.9]).mean()),
        "brier_score": pytest.approx((0.04 + 0.36 + 0.36 + 0.09 + 0.01) / 5),
        "expected_calibration_error": pytest.approx((0.2 + 1.2 + 0.3 + 0.1) / 5),
        "macro_f1": pytest.approx((1 / 2 + 2 / 3) / 2),
        "classes": {names[0]: no_scores, names[1]: yes_scores},
        "confusion_matrix": [[1, 1], [1, 2]],
    }


def test_multilabel_numbers_are_those_computed_by_hand():
    found = scored(
        "multilabel",
        [[1, 1], [0, 1], [1, 0], [0, 0]],
        [[0.9, 0.8], [0.2, 0.7], [0.4, 0.1], [0.6, 0.2]],
    )
    assert found == {
        "task": "multilabel",
        "rows": 4,
        "accuracy": pytest.approx(6 / 8),
        "exact_match": pytest.approx(2 / 4),
        "log_loss": pytest.approx(-np.log([0.9, 0.8, 0.8, 0.7, 0.4, 0.9, 0.4, 0.8]).mean()),
        "brier_score": pytest.approx((0.01 + 0.04 + 0.04 + 0.09 + 0.36 + 0.01 + 0.36 + 0.04) / 8),
        "expected_calibration_error": pytest.approx((0.2 + 0.6 + 0.3 + 1.2) / 8),
        "macro_f1": pytest.approx((1 / 2 + 1) / 2),
        "classes": {
            "y_a": scores(1 / 2, 1 / 2, 1 / 2, 3 / 4, 2),
            "y_b": scores(1, 1, 1, 1, 2),
        },
    }


def test_a_single_label_of_multilabel_is_scored_alone():
    assert scored("one label", [[1], [0], [1]], [[0.9], [0.3], [0.4]]) == {
        "task": "multilabel",
        "rows": 3,
        "accuracy": pytest.approx(2 / 3),
        "exact_match": pytest.approx(2 / 3),
        "log_loss": pytest.approx(-np.log([0.9, 0.7, 0.4]).mean()),
        "brier_score": pytest.approx((0.01 + 0.09 + 0.36) / 3),
        "expected_calibration_error": pytest.approx((0.1 + 0.3 + 0.6) / 3),
        "macro_f1": pytest.approx(2 / 3),
        "classes": {"y_1": scores(1, 1 / 2, 2 / 3, 1, 2)},
    }


def test_rows_of_the_confusion_matrix_are_true_classes():
    always_third = [[0.1, 0.2, 0.7]] * 3
    matrix = scored("one-hot", [0, 0, 1], always_third)["confusion_matrix"]
    assert matrix == [[0, 0, 2], [0, 0, 1], [0, 0, 0]]


def random_case(kind, rows=200, seed=3):
    """Random encoded labels, probabilities that lean towards them, and 0/1 columns of both."""
    random, schema = np.random.default_rng(seed), schema_of(kind)
    n = len(schema.classes)
    if schema.task == "multilabel":
        labels = random.integers(0, 2, (rows, n)).astype(np.float32)
        shares = (0.3 * labels + 0.7 * random.random((rows, n))).astype(np.float32)
        return labels, shares, labels, shares
    labels = random.integers(0, n, rows)
    shares = random.dirichlet(np.ones(n), rows) + 0.3 * np.eye(n)[labels]
    shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    asked = shares[:, 1:] if kind == "binary" else shares
    return labels, asked, np.eye(n)[labels], shares


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_scikit_learn(kind):
    labels, shares, true, every_share = random_case(kind)
    found, schema = scored(kind, labels, shares), schema_of(kind)
    many = schema.task == "multilabel"
    decided = every_share > 0.5 if many else np.eye(true.shape[1])[every_share.argmax(axis=1)]
    assert found["rows"] == len(labels)
    f1 = [f1_score(a, b) for a, b in zip(true.T, decided.T, strict=True)]
    areas = [roc_auc_score(a, b) for a, b in zip(true.T, every_share.T, strict=True)]
    assert [c["f1"] for c in found["classes"].values()] == pytest.approx(f1)
    assert [c["roc_auc"] for c in found["classes"].values()] == pytest.approx(areas, abs=1e-6)
    assert found["macro_f1"] == pytest.approx(np.mean(f1))
    assert [c["support"] for c in found["classes"].values()] == true.sum(axis=0).tolist()
    if many:
        assert found["exact_match"] == pytest.approx((true == decided).all(axis=1).mean())
        assert found["accuracy"] == pytest.approx((true == decided).mean())
        assert not found.keys() & {"confusion_matrix", "balanced_accuracy"}
        pairs = list(zip(true.T, every_share.T.astype(float), strict=True))
        assert found["log_loss"] == pytest.approx(np.mean([log_loss(*pair) for pair in pairs]))
        briers = [brier_score_loss(*pair) for pair in pairs]
        assert found["brier_score"] == pytest.approx(np.mean(briers))
    else:
        classes = decided.argmax(axis=1)
        assert found["accuracy"] == pytest.approx(accuracy_score(labels, classes))
        assert found["confusion_matrix"] == confusion_matrix(labels, classes).tolist()
        assert "exact_match" not in found
        assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, classes))
        exact = every_share / every_share.sum(axis=1, keepdims=True, dtype=float)
        assert found["log_loss"] == pytest.approx(log_loss(labels, exact), rel=1e-5)
        if schema.task == "binary":
            expected = brier_score_loss(labels, exact[:, 1])
        else:
            expected = ((exact - true) ** 2).sum(axis=1).mean()
        assert found["brier_score"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("kind", ["binary", "binary pair"])
def test_roc_auc_is_null_where_only_one_side_occurs(kind, label):
    yes = np.array([[0.2], [0.9]])
    shares = yes if kind == "binary" else np.hstack([1 - yes, yes])
    found = scored(kind, [label, label], shares)
    assert [c["roc_auc"] for c in found["classes"].values()] == [None, None]
    assert found["accuracy"] == 0.5


def test_roc_auc_is_null_for_the_label_alone_that_has_one_side():
    found = scored("multilabel", [[1, 1], [1, 0]], [[0.9, 0.8], [0.8, 0.1]])
    assert [c["roc_auc"] for c in found["classes"].values()] == [None, 1.0]


def test_a_wrong_row_of_certainty_costs_much_but_not_infinitely():
    found = scored("one-hot", [0, 1], [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    assert found["log_loss"] == pytest.approx(-np.log(np.finfo(np.float32).eps) / 2, rel=1e-6)
    assert found["brier_score"] == 1.0


def test_one_row_is_enough():
    found = scored("one-hot", [1], [[0.1, 0.8, 0.1]])
    assert (found["accuracy"], found["macro_f1"]) == (1.0, 1.0)
    assert [c["roc_auc"] for c in found["classes"].values()] == [None] * 3


def test_macro_f1_leaves_out_a_class_that_is_neither_true_nor_predicted():
    found = scored("one-hot", [0, 1, 0], [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    assert found["classes"]["y_3"] == scores(0, 0, 0, None, 0)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_macro_f1_counts_a_class_that_is_only_predicted():
    found = scored("one-hot", [0, 1], [[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]])
    assert found["macro_f1"] == pytest.approx((1 + 0 + 0) / 3)


@pytest.mark.parametrize("kind", ["multilabel", "one label"])
def test_macro_f1_is_null_where_no_label_occurs(kind):
    columns = len(KINDS[kind][1])
    found = scored(kind, np.zeros((3, columns)), np.full((3, columns), 0.1))
    assert found["macro_f1"] is None
    assert (found["accuracy"], found["exact_match"]) == (1.0, 1.0)


def test_decisions_that_are_as_often_right_as_they_are_sure_are_calibrated():
    random = np.random.default_rng(0)
    sure = random.uniform(0.5, 1, 100_000)
    assert compute_calibration_error(sure, random.uniform(size=len(sure)) < sure) < 0.01
    half = random.uniform(size=len(sure)) < 0.5
    assert compute_calibration_error(np.full(len(sure), 0.95), half) == pytest.approx(
        0.45, abs=0.01
    )
