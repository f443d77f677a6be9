import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from lstmfcn.report.scores import compute_interval, resample


def labels(rows=120, classes=3, seed=0):
    """True and decided one-hot columns; four fifths of the decisions are right."""
    random = np.random.default_rng(seed)
    true = random.integers(0, classes, rows)
    decided = np.where(random.random(rows) < 0.8, true, random.integers(0, classes, rows))
    return np.eye(classes, dtype=np.int8)[true], np.eye(classes, dtype=np.int8)[decided]


def class_scores(true, decided):
    """Precision, recall and F1 of each class, as scikit-learn has them."""
    return precision_recall_fscore_support(true, decided)[:3]


@pytest.mark.slow
def test_scores_are_spread_as_those_of_rows_drawn_one_by_one():
    true, decided = labels()
    found = resample(true, decided, one_class=True, resamples=4000)
    random = np.random.default_rng(1)
    drawn = [random.integers(0, len(true), len(true)) for _ in range(1000)]
    one_by_one = np.array([class_scores(true[rows], decided[rows]) for rows in drawn])
    for i, name in enumerate(("precision", "recall", "f1")):
        limits = compute_interval(getattr(found, name)[:, 1])
        expected = np.quantile(one_by_one[:, i, 1], [0.025, 0.975])
        assert limits == pytest.approx(expected, abs=0.02)
    right = (true == decided).all(axis=1)
    accuracy = [right[rows].mean() for rows in drawn]
    assert compute_interval(found.accuracy) == pytest.approx(
        np.quantile(accuracy, [0.025, 0.975]), abs=0.02
    )
    macro_f1 = one_by_one[:, 2].mean(axis=1)
    assert found.macro_f1.mean() == pytest.approx(macro_f1.mean(), abs=0.005)
    assert found.macro_f1.std() == pytest.approx(macro_f1.std(), rel=0.15)


def test_accuracy_of_labels_is_their_mean_and_exact_match_counts_rows():
    true = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=np.int8)
    decided = np.array([[1, 1], [1, 1], [0, 1], [0, 1]], dtype=np.int8)
    found = resample(true, decided, one_class=False, resamples=3000)
    assert found.accuracy.mean() == pytest.approx(0.75, abs=0.01)
    assert found.exact_match.mean() == pytest.approx(0.5, abs=0.02)


def test_the_seed_decides():
    true, decided = labels()
    one, same, other = (
        resample(true, decided, one_class=True, seed=seed, resamples=50) for seed in (1, 1, 2)
    )
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one.accuracy, other.accuracy)


def test_what_no_resample_has_is_undefined():
    true = np.array([[1, 0], [1, 0]], dtype=np.int8)
    found = resample(true, true, one_class=True, resamples=20)
    assert compute_interval(found.recall[:, 0]) == (1.0, 1.0)
    assert compute_interval(found.recall[:, 1]) is None
    assert compute_interval(found.macro_f1) == (1.0, 1.0)
    nothing = np.zeros((3, 1), dtype=np.int8)
    assert (
        compute_interval(resample(nothing, nothing, one_class=False, resamples=5).macro_f1) is None
    )


def test_resamples_do_not_depend_on_how_many_are_computed_at_a_time(monkeypatch):
    true, decided = labels()
    whole = resample(true, decided, one_class=True, resamples=30)
    monkeypatch.setattr("lstmfcn.report.scores._MAX_COUNTS", 40)
    pieces = resample(true, decided, one_class=True, resamples=30)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(whole, pieces, strict=True))
