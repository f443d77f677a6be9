from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.data.dataset import Dataset
from lstmfcn.errors import HyperparameterError
from lstmfcn.inference.metrics import compute_metrics
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.task import Decision, make_task
from lstmfcn.training.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    calibrate,
    calibration_summary,
    fit_temperature,
    fit_thresholds,
)
from lstmfcn.training.in_memory import train_arrays
from tests.helpers.blocks import in_blocks
from tests.helpers.small_models import (
    KINDS,
    tiny_artifact,
    tiny_hyperparameters,
    tiny_rows,
    tiny_schema,
    tiny_task,
)

ONE_NAME_EACH = ("multiclass", "binary", "multilabel")


def drawn(kind, n_rows, seed=0):
    """Logits, and targets that occur as often as the logits' probabilities say."""
    random, n_outputs = np.random.default_rng(seed), tiny_task(kind).n_outputs
    logits = torch.tensor(random.normal(0, 2, (n_rows, n_outputs)), dtype=torch.float32)
    return logits, torch.from_numpy(targets_of(kind, logits, random))


def targets_of(kind, logits, random):
    shares = tiny_task(kind).probabilities(logits).numpy()
    if tiny_schema(kind).task == "multiclass":
        below = random.random((len(shares), 1)) > shares.cumsum(axis=1)
        return np.minimum(below.sum(axis=1), shares.shape[1] - 1)
    yes = (random.random(shares.shape) < shares).astype(np.float32)
    return yes if kind == "multilabel" else yes[:, -1]


def loss_at(task, logits, targets, temperature):
    targets = targets.double() if targets.is_floating_point() else targets
    return float(task.loss_sum(logits.double() / temperature, targets))


@pytest.mark.parametrize("kind", ONE_NAME_EACH)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5, 20.0])
def test_a_known_temperature_is_found(kind, temperature):
    logits, targets = drawn(kind, 20_000)
    found = fit_temperature(tiny_task(kind), logits * temperature, targets)
    assert found == pytest.approx(temperature, rel=0.04)


@given(kind=st.sampled_from(ONE_NAME_EACH), n_rows=st.integers(1, 30), data=st.data())
def test_no_temperature_within_the_bounds_has_less_loss(kind, n_rows, data):
    task = tiny_task(kind)
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    scale = data.draw(st.sampled_from([0.0, 0.01, 1.0, 30.0]))
    logits = torch.tensor(scale * random.standard_normal((n_rows, task.n_outputs))).float()
    _, targets = drawn(kind, n_rows, int(random.integers(100)))
    found = fit_temperature(task, logits, targets)
    assert MIN_TEMPERATURE <= found <= MAX_TEMPERATURE
    least = loss_at(task, logits, targets, found)
    assert least <= loss_at(task, logits, targets, 1.0)
    for other in np.geomspace(MIN_TEMPERATURE, MAX_TEMPERATURE, 50):
        assert least <= loss_at(task, logits, targets, other) + 1e-9 * n_rows


@given(
    kind=st.sampled_from(KINDS),
    temperature=st.floats(MIN_TEMPERATURE, MAX_TEMPERATURE),
    seed=st.integers(0, 99),
)
def test_a_temperature_changes_no_label(kind, temperature, seed):
    plain = tiny_task(kind)
    warm = make_task(tiny_artifact(kind).schema, decision=Decision(temperature=temperature))
    logits = torch.tensor(np.random.default_rng(seed).normal(0, 3, (20, plain.n_outputs))).float()
    labels = [task.predict_labels(task.probabilities(logits).numpy()) for task in (plain, warm)]
    np.testing.assert_array_equal(*labels)


def test_rows_that_are_all_right_or_all_wrong_end_at_a_bound():
    logits, classes = torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 1, 2, 0])
    assert fit_temperature(tiny_task(), logits, classes) == MIN_TEMPERATURE
    assert fit_temperature(tiny_task(), logits, (classes + 1) % 3) == MAX_TEMPERATURE
    assert fit_temperature(tiny_task(), torch.zeros(4, 3), classes) == 1.0


def f1_at(threshold, shares, labels):
    decided = shares > threshold
    return 2 * labels[decided].sum() / max(decided.sum() + labels.sum(), 1)


shares_near_each_other = st.sampled_from([0.0, 0.1, 0.3, 0.49, 0.5, 0.51, 0.8, 1.0]).flatmap(
    lambda share: st.sampled_from(
        [np.float32(share), np.clip(np.nextafter(np.float32(share), np.float32(2)), 0, 1)]
    )
)


@given(st.lists(st.tuples(shares_near_each_other, st.booleans()), min_size=1, max_size=25))
def test_no_threshold_has_a_better_f1(rows):
    shares = np.array([share for share, _ in rows], dtype=np.float32)
    labels = np.array([label for _, label in rows], dtype=np.float32)
    (found,) = fit_thresholds(shares[:, None], labels[:, None])
    best = max(f1_at(threshold, shares, labels) for threshold in {0.0, 0.5, *shares.tolist()})
    assert f1_at(found, shares, labels) == pytest.approx(best, abs=1e-12)
    if f1_at(0.5, shares, labels) == pytest.approx(best, abs=1e-12):
        assert found == 0.5


def test_among_equal_thresholds_the_nearest_to_a_half_is_taken():
    shares = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], dtype=np.float32)
    labels = np.array([[0, 1], [1, 0], [0, 0]], dtype=np.float32)
    np.testing.assert_allclose(fit_thresholds(shares, labels), [0.15, 0.85])
    all_right = np.array([[0.1], [0.9], [0.2]], dtype=np.float32)
    assert fit_thresholds(all_right, np.array([[0], [1], [0]], dtype=np.float32)) == [0.5]


def model_and_rows(kind, n_rows=200, **changes):
    """A model that is ten times too sure of rows, and the rows scaled for it."""
    artifact, values = tiny_artifact(kind, **changes), tiny_rows(kind, n_rows, seed=3).values
    scaled = artifact.scaler.transform(values)
    with torch.no_grad():
        logits = artifact.build_network().eval()(torch.from_numpy(scaled))
    labels = targets_of(kind, logits, np.random.default_rng(0))
    for part in ("head.weight", "head.bias"):
        artifact.weights[part].mul_(10)
    return artifact, Dataset(values, labels), Dataset(scaled, labels)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_calibrated_and_says_so(kind, tmp_path):
    artifact, rows, scaled = model_and_rows(kind, calibrate=True)
    found = calibrate(artifact, scaled)
    assert 1 < found.decision.temperature < MAX_TEMPERATURE
    before, after = found.training["calibration"]["calibration_error"]
    using = Classifier(found)
    shares = using.predict_proba(rows.values)
    metrics = compute_metrics(using.schema, rows.labels, shares, using.predict_labels(shares))
    assert metrics["expected_calibration_error"] == pytest.approx(after, abs=2e-3)
    assert after < before
    (line,) = calibration_summary(found)
    assert line == (
        f"temperature {found.decision.temperature:.3g} fitted on 200 validation rows: "
        f"expected calibration error {before:.3f} -> {after:.3f}"
    )
    found.save(tmp_path / "model")
    loaded = Artifact.load(tmp_path / "model")
    np.testing.assert_array_equal(Classifier(loaded).predict_proba(rows.values), shares)
    assert list(calibration_summary(loaded)) == [line]


def test_thresholds_are_those_of_calibrated_probabilities_and_an_absent_label_is_told():
    artifact, rows, scaled = model_and_rows("multilabel", calibrate=True, fit_thresholds=True)
    scaled.labels[:, 1] = 0
    found = calibrate(artifact, scaled)
    shares = Classifier(found).predict_proba(rows.values)
    np.testing.assert_allclose(
        found.decision.thresholds, fit_thresholds(shares, scaled.labels), atol=1e-5
    )
    assert found.decision.thresholds[1] == 0.5
    before, after = found.training["calibration"]["mean_f1"]
    assert after > before
    _, thresholds, absent = calibration_summary(found)
    assert thresholds.startswith(
        f"thresholds fitted on 200 validation rows: mean F1 {before:.3f} -> {after:.3f} (y_1 "
    )
    assert absent == "no validation row has y_2; the threshold stays 0.5"


def test_rows_in_blocks_give_the_same():
    artifact, rows, scaled = model_and_rows("multiclass", 2500, calibrate=True)
    stored = replace(in_blocks(rows.values, 700), scaler=artifact.scaler)
    found = calibrate(artifact, Dataset(stored, rows.labels))
    assert found.decision == calibrate(artifact, scaled).decision


def test_an_ensemble_has_one_temperature_for_the_mean_of_its_logits():
    wanted = tiny_hyperparameters(calibrate=True, members=2, class_weight="balanced")
    artifact = train_arrays(imbalanced(200, 0), wanted, imbalanced(300, 1))
    assert artifact.decision.temperature != 1
    values, _ = imbalanced(50, 2)
    with torch.no_grad():
        logits = artifact.build_network().eval()(
            torch.from_numpy(artifact.scaler.transform(values))
        )
    expected = (logits / artifact.decision.temperature).softmax(dim=1).numpy()
    np.testing.assert_allclose(Classifier(artifact).predict_proba(values), expected, atol=1e-5)
    assert list(calibration_summary(artifact))


def test_thresholds_alone_leave_probabilities_as_they_are():
    artifact, _, scaled = model_and_rows("multilabel", fit_thresholds=True)
    decision = calibrate(artifact, scaled).decision
    assert decision.temperature == 1.0
    assert len(decision.thresholds) == 3


def test_a_bound_is_told():
    artifact, _, scaled = model_and_rows("multiclass", calibrate=True)
    with torch.no_grad():
        answers = artifact.build_network().eval()(torch.from_numpy(scaled.values)).argmax(dim=1)
    found = calibrate(artifact, Dataset(scaled.values, answers.numpy()))
    assert found.decision.temperature == MIN_TEMPERATURE
    assert list(calibration_summary(found))[1] == (
        "All 200 validation rows are classified correctly, so no temperature can be fitted "
        "reliably; T was limited to 0.25. Use more validation rows."
    )
    others = (answers.numpy() + 1) % 3
    found = calibrate(artifact, Dataset(scaled.values, others))
    assert found.decision.temperature == MAX_TEMPERATURE
    assert "T was limited to 100. Use more validation rows." in list(calibration_summary(found))[1]


def test_what_is_not_asked_for_changes_nothing():
    artifact, _, scaled = model_and_rows("multilabel")
    assert calibrate(artifact, scaled) is artifact
    assert list(calibration_summary(artifact)) == []


def imbalanced(n_rows, seed):
    """Series whose classes overlap, nine in ten of the first class, with their names."""
    random = np.random.default_rng(seed)
    rare = random.random(n_rows) < 0.1
    values = random.standard_normal((n_rows, 12)) + 0.35 * rare[:, None]
    return values.astype(np.float32), np.where(rare, "rare", "usual")


def test_calibration_mends_what_balanced_classes_do_to_probabilities():
    changes = {"class_weight": "balanced", "epochs": 6, "seed": 1}
    test, names = imbalanced(2000, 2)
    errors, labels = [], []
    for fitted in (False, True):
        wanted = tiny_hyperparameters(calibrate=fitted, **changes)
        using = Classifier(train_arrays(imbalanced(400, 0), wanted, imbalanced(600, 1)))
        shares, decided = using.predict_proba(test), using.predict(test)
        true = using.schema.encode_names(names.tolist())
        metrics = compute_metrics(using.schema, true, shares, using.predict_labels(shares))
        errors.append(metrics["expected_calibration_error"])
        labels.append(decided)
    assert errors[1] < errors[0] - 0.01
    np.testing.assert_array_equal(*labels)


def test_arrays_without_validation_rows_are_refused():
    with pytest.raises(HyperparameterError, match="calibrate: needs validation rows"):
        train_arrays(imbalanced(40, 0), tiny_hyperparameters(calibrate=True))
