import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_sample_weight

from lstmfcn.model.task import (
    Binary,
    MetricSums,
    Multiclass,
    Multilabel,
    compute_class_weights,
    make_task,
)
from tests.helpers.small_models import KINDS, tiny_schema, tiny_task

LOGITS = np.random.default_rng(0).normal(0, 3, (40, 3))


def targets_of(kind, n_rows=40, seed=1):
    rng = np.random.default_rng(seed)
    task = tiny_schema(kind).task
    if task == "multiclass":
        return rng.integers(0, 3, n_rows)
    return rng.integers(0, 2, (n_rows, 3) if task == "multilabel" else n_rows).astype(np.float32)


def logits_of(kind):
    return torch.tensor(LOGITS[:, : tiny_task(kind).n_outputs], dtype=torch.float32)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_multiclass_loss_is_the_summed_cross_entropy():
    targets = targets_of("multiclass")
    exponentials = np.exp(LOGITS)
    chances = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = -np.log(chances[np.arange(40), targets]).sum()
    found = Multiclass(3).loss_sum(logits_of("multiclass"), torch.tensor(targets))
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n_columns", [1, 2])
def test_binary_loss_is_the_summed_binary_cross_entropy(n_columns):
    targets = targets_of("binary")
    p = sigmoid(LOGITS[:, 0])
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum()
    found = Binary(n_columns).loss_sum(logits_of("binary"), torch.tensor(targets))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_multilabel_loss_is_averaged_over_labels_and_summed_over_rows():
    targets = targets_of("multilabel")
    p = sigmoid(LOGITS)
    losses = -(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    found = Multilabel(3).loss_sum(logits_of("multilabel"), torch.tensor(targets))
    assert found.item() == pytest.approx(losses.mean(axis=1).sum(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_extreme_logits_are_finite(kind):
    task = tiny_task(kind)
    logits = torch.tensor([[1e4, -1e4, 0.0]])[:, : task.n_outputs]
    for seed in range(3):
        targets = torch.tensor(targets_of(kind, n_rows=1, seed=seed))
        assert torch.isfinite(task.loss_sum(logits, targets))


@pytest.mark.parametrize("kind", KINDS)
@given(quarters=st.lists(st.integers(-40, 40), min_size=12, max_size=12), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_rows_are_right_where_the_decision_is_the_target(kind, quarters, seed):
    task = tiny_task(kind)
    logits = (torch.tensor(quarters) / 4).reshape(4, 3)[:, : task.n_outputs]
    targets = targets_of(kind, n_rows=4, seed=seed)
    decided = task.predict_labels(task.probabilities(logits).numpy())
    if tiny_schema(kind).task == "multiclass":
        expected = decided.argmax(axis=1) == targets
    elif tiny_schema(kind).task == "binary":
        expected = decided[:, -1] == targets
    else:
        expected = (decided == targets).sum(axis=1)
    found = task.n_correct(logits, torch.tensor(targets)).numpy()
    np.testing.assert_array_equal(found, expected)
    assert found.max() <= task.targets_per_row


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_have_a_column_for_each_label(kind):
    found = tiny_task(kind).probabilities(logits_of(kind))
    assert found.shape == (40, len(tiny_schema(kind).probability_columns))
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1


def test_multiclass_probabilities_of_a_row_add_up_to_1():
    found = Multiclass(3).probabilities(logits_of("multiclass")).numpy()
    exponentials = np.exp(LOGITS)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_two_binary_columns_are_complements_and_the_second_means_yes():
    one = Binary(1).probabilities(logits_of("binary")).numpy()
    two = Binary(2).probabilities(logits_of("binary")).numpy()
    np.testing.assert_allclose(one[:, 0], sigmoid(LOGITS[:, 0]), rtol=1e-5)
    np.testing.assert_array_equal(two[:, 1:], one)
    np.testing.assert_array_equal(two[:, 0] + two[:, 1], 1)


def test_multilabel_probabilities_are_independent_sigmoids():
    found = Multilabel(3).probabilities(logits_of("multilabel")).numpy()
    np.testing.assert_allclose(found, sigmoid(LOGITS), rtol=1e-4)


def test_a_probability_of_exactly_a_half_means_no():
    half = np.array([[0.5, 0.5]], dtype=np.float32)
    assert Binary(1).predict_labels(half[:, :1]).tolist() == [[0]]
    assert Binary(2).predict_labels(half).tolist() == [[1, 0]]
    assert Multilabel(2).predict_labels(half).tolist() == [[0, 0]]
    assert Multiclass(2).predict_labels(half).tolist() == [[1, 0]]
    zero, yes, no = torch.zeros(1, 1), torch.ones(1), torch.zeros(1)
    assert not Binary(1).n_correct(zero, yes)
    assert Binary(1).n_correct(zero, no)


@pytest.mark.parametrize("kind", KINDS)
def test_decisions_are_zeros_and_ones_in_the_shape_of_the_probabilities(kind):
    task = tiny_task(kind)
    probabilities = task.probabilities(logits_of(kind)).numpy()
    decided = task.predict_labels(probabilities)
    assert decided.dtype == np.int8
    assert decided.shape == probabilities.shape
    assert set(np.unique(decided)) <= {0, 1}
    if kind in ("multiclass", "names", "one-hot pair"):
        np.testing.assert_array_equal(decided.sum(axis=1), 1)


def test_totals_become_means_over_rows():
    totals = MetricSums(loss=6.0, correct=3.0, exact=3.0, rows=4.0)
    assert totals.metrics("valid", Multiclass(3)) == {"valid_loss": 1.5, "valid_accuracy": 0.75}
    assert totals.metrics("train", Binary(1)) == {"train_loss": 1.5, "train_accuracy": 0.75}


def test_totals_of_several_labels_also_tell_the_exact_match():
    totals = MetricSums(loss=6.0, correct=9.0, exact=1.0, rows=4.0)
    assert totals.metrics("train", Multilabel(3)) == {
        "train_loss": 1.5,
        "train_accuracy": 0.75,
        "train_exact_match": 0.25,
    }


@pytest.mark.parametrize(
    ("kind", "cls", "n_outputs", "targets_per_row"),
    [
        ("multiclass", Multiclass, 3, 1),
        ("names", Multiclass, 3, 1),
        ("binary", Binary, 1, 1),
        ("one-hot pair", Binary, 1, 1),
        ("multilabel", Multilabel, 3, 3),
    ],
)
def test_a_schema_has_its_task(kind, cls, n_outputs, targets_per_row):
    task = make_task(tiny_schema(kind))
    assert type(task) is cls
    assert (task.n_outputs, task.targets_per_row) == (n_outputs, targets_per_row)


@pytest.mark.parametrize("kind", KINDS)
def test_balanced_weights_give_every_class_the_same_say(kind):
    """The loss is the one that scikit-learn's balanced weights of each row, or answer, give."""
    schema, targets, logits = tiny_schema(kind), targets_of(kind), logits_of(kind)
    targets[:25] = targets[0]
    weights = compute_class_weights("balanced", schema, targets)
    plain, weighted = make_task(schema), make_task(schema, weights)
    columns = targets[:, None] if targets.ndim == 1 else targets
    each = np.stack([compute_sample_weight("balanced", column) for column in columns.T], axis=1)
    rows = range(len(targets))
    if schema.task == "multilabel":
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, torch.tensor(targets), reduction="none"
        )
        expected = (losses.numpy() * each).sum() / targets.shape[1]
    else:
        one = [plain.loss_sum(logits[i : i + 1], torch.tensor(targets[i : i + 1])) for i in rows]
        expected = sum(float(loss) * weight for loss, weight in zip(one, each[:, 0], strict=True))
    assert float(weighted.loss_sum(logits, torch.tensor(targets))) == pytest.approx(expected, 1e-5)
    assert each.sum() == pytest.approx(each.size)


@pytest.mark.parametrize("name", ["balanced", "sqrt"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_of_all_rows_add_up_to_their_number(kind, name):
    """So that a weighted loss has the size of a plain one, and a rare class weighs more."""
    schema, targets = tiny_schema(kind), targets_of(kind)
    targets[:25] = targets[0]
    weights = compute_class_weights(name, schema, targets).numpy()
    if schema.task == "multiclass":
        counts = np.bincount(targets, minlength=3)
    else:
        counts = np.stack([len(targets) - targets.sum(axis=0), targets.sum(axis=0)])
    np.testing.assert_allclose((weights * counts).sum(axis=0), len(targets), rtol=1e-5)
    assert (weights.argmax(axis=0) == counts.argmin(axis=0)).all()


def test_the_square_root_lies_between_balanced_and_none():
    schema, targets = tiny_schema("multiclass"), np.array([0] * 16 + [1] * 4 + [2])
    balanced, root = (compute_class_weights(name, schema, targets) for name in ("balanced", "sqrt"))
    assert (root / root[0]).tolist() == pytest.approx([1, 2, 4])
    assert (balanced / balanced[0]).tolist() == pytest.approx([1, 4, 16])
    assert compute_class_weights("none", schema, targets) is None


@pytest.mark.parametrize("name", ["balanced", "sqrt"])
def test_a_class_without_rows_weighs_something_finite(name):
    weights = compute_class_weights(name, tiny_schema("multiclass"), np.array([0, 0, 1]))
    assert torch.isfinite(weights).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_smoothed_label_is_spread_over_all_classes(kind):
    """The loss is linear in the label, so that of each class, averaged, takes its share."""
    schema, logits = tiny_schema(kind), logits_of(kind)
    targets = torch.tensor(targets_of(kind))
    plain, smoothed = make_task(schema), make_task(schema, smoothing=0.3)
    classes = range(len(schema.classes)) if schema.task == "multiclass" else (0, 1)
    others = [float(plain.loss_sum(logits, torch.full_like(targets, c))) for c in classes]
    expected = 0.7 * float(plain.loss_sum(logits, targets)) + 0.3 * np.mean(others)
    assert float(smoothed.loss_sum(logits, targets)) == pytest.approx(expected, 1e-5)
