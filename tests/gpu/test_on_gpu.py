"""The training loop on a GPU: beside the CPU's numbers, and beside itself."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from lstmfcn.data.dataset import Dataset
from lstmfcn.inference.predictor import Classifier
from lstmfcn.training.batches import Batch, EvaluationLoader, WorkerContext
from lstmfcn.training.calibration import calibrate
from lstmfcn.training.loop import choose_precision, fit, make_step
from lstmfcn.training.state import TrainState, set_up
from tests.helpers.small_models import (
    KINDS,
    CutError,
    cut_off,
    newest,
    saving,
    tiny_artifact,
    tiny_hyperparameters,
    tiny_network,
    tiny_rows,
    tiny_schema,
    tiny_task,
    trained_looking,
)

DEVICE = "cuda"

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

PAPERS_SIZES = {"hidden_size": 8, "filters_1": 128, "filters_2": 256, "filters_3": 128}
NETS = {
    "tiny": {"n_channels": 1},
    "of the paper's size": {"n_channels": 1, "n_timepoints": 96, **PAPERS_SIZES},
    "masked malstm": {"n_channels": 3, "network": "malstm-fcn", "missing": "mask"},
    "masked differences": {"n_channels": 3, "view": "differences", "missing": "mask"},
}
"""Number of channels and timepoints, and what else differs from the tiny net."""


class Fitted(NamedTuple):
    """What a fit left, and every epoch's report."""

    trained: TrainState
    history: list


def fitted(
    rows, schema, changes, valid=None, device=DEVICE, start=None, checkpoints=None, cut_at=None
):
    """A network fitted on a device; at a cut, (epoch, step), it ends as if it were killed."""
    h = tiny_hyperparameters(**{"task": schema.task, "dropout": 0.5, **changes})
    share = WorkerContext(device=device)
    training, task, batches = set_up(rows, schema, h, share=share)
    if start:
        training.restore(*start)
    validation = EvaluationLoader(valid, share) if valid else None
    history = []
    source = cut_off(batches, cut_at) if cut_at else batches
    fit(training, task, source, validation, h, history.append, checkpoints)
    return Fitted(training, history)


def problem(net):
    """Rows and schema that a net of `NETS` is trained on, and its hyperparameters."""
    changes = dict(NETS[net])
    n_channels, n_timepoints = changes.pop("n_channels"), changes.pop("n_timepoints", 12)
    random = np.random.default_rng(0)
    values = random.standard_normal((96, n_timepoints)).astype(np.float32)
    labels = np.arange(96) % 3
    values[:, : n_timepoints // 2] += labels[:, None]
    schema = tiny_schema(n_values=n_timepoints, n_channels=n_channels)
    if changes.get("missing") == "mask":
        values = with_gaps(values)
        schema = schema.model_copy(update={"missing": "mask"})
    return Dataset(values, labels.astype(np.int64)), schema, changes


def with_gaps(values):
    """Rows of 3 channels whose end is missing in all, and a value in one."""
    channels = values.reshape(len(values), 3, -1).copy()
    channels[::2, :, -1] = np.nan
    channels[1::3, 1, 0] = np.nan
    return channels.reshape(len(values), -1)


def different(one, other):
    """The names of tensors that differ, last and kept, each with the largest difference."""
    pairs = {
        "last": (one.trained.model.state_dict(), other.trained.model.state_dict()),
        "kept": (one.trained.best_weights, other.trained.best_weights),
    }
    return {
        f"{which} {name}": float((first[name].float() - second[name].float()).abs().max())
        for which, (first, second) in pairs.items()
        for name in first
        if not torch.equal(first[name], second[name])
    }


def column(history, name):
    return [metrics[name] for metrics in history]


@pytest.mark.parametrize("kind", KINDS)
def test_training_gives_the_losses_that_it_gives_on_the_cpu(kind):
    changes = {"dropout": 0.0, "weight_decay": 0.01, "label_smoothing": 0.1}
    changes |= {"class_weight": "balanced", "rows_per_epoch": 90}
    rows, schema, valid = tiny_rows(kind), tiny_schema(kind), tiny_rows(kind, seed=1)
    here = fitted(rows, schema, changes, valid, device="cpu")
    there = fitted(rows, schema, changes, valid)
    assert next(there.trained.model.parameters()).device.type == DEVICE
    for name in ("train_loss", "valid_loss"):
        expected = pytest.approx(column(here.history, name), rel=1e-2)
        assert column(there.history, name) == expected, name


@pytest.mark.parametrize("view", ["series", "differences", "coarse"])
@pytest.mark.parametrize("network", ["lstm-fcn", "alstm-fcn", "mlstm-fcn", "malstm-fcn"])
@pytest.mark.parametrize(("n_channels", "n_timepoints"), [(1, 50), (3, 50), (8, 4)])
def test_each_network_gives_the_logits_that_it_gives_on_the_cpu_and_takes_a_step(
    network, view, n_channels, n_timepoints
):
    h = tiny_hyperparameters(network=network, view=view, missing="mask", num_layers=2)
    values = np.random.default_rng(0).standard_normal((24, n_channels, n_timepoints))
    values[::2, :, -1] = np.nan
    values[1::3, 0, 0] = np.nan
    x = torch.tensor(values.reshape(24, -1), dtype=torch.float32)
    model = network_with(h, n_channels, n_timepoints)
    with torch.inference_mode():
        expected = model(x)
    model.to(DEVICE)
    with torch.inference_mode():
        found = model(x.to(DEVICE))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-2, atol=5e-3)
    task, targets = tiny_task(), torch.arange(24, device=DEVICE) % 3
    for precision in ("fp32", "bf16"):
        model = network_with(h, n_channels, n_timepoints).to(DEVICE).train()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        training = TrainState(model, 0.01, weight_decay=0.01)
        training.precision = precision
        make_step(training, task)(Batch(x.to(DEVICE), targets, 24))
        assert torch.isfinite(training.sums).all(), (precision, training.sums)
        after = model.state_dict()
        wrong = [name for name, tensor in after.items() if not torch.isfinite(tensor).all()]
        assert not wrong, precision
        assert not torch.equal(before["head.weight"], after["head.weight"]), precision


def network_with(h, n_channels, n_timepoints):
    start = set_up(
        Dataset(np.zeros((8, n_channels * n_timepoints), np.float32), np.arange(8) % 3),
        tiny_schema(n_values=n_channels * n_timepoints, n_channels=n_channels),
        h,
    )
    return trained_looking(start.training.model)


@pytest.mark.parametrize("kind", KINDS)
def test_auto_is_bf16_where_the_gpu_has_it_and_learns(kind):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("a GPU without bf16")
    assert choose_precision("auto", torch.device(DEVICE)) == "bf16"
    changes = {"precision": "auto", "epochs": 30, "dropout": 0.1}
    found = fitted(tiny_rows(kind), tiny_schema(kind), changes, tiny_rows(kind, seed=1))
    assert found.trained.best["valid_accuracy"] > 0.95, column(found.history, "valid_loss")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("net", NETS)
def test_the_same_training_twice_gives_the_same_weights_bit_for_bit(net, precision):
    rows, schema, changes = problem(net)
    first, second = (fitted(rows, schema, {**changes, "precision": precision}) for _ in range(2))
    assert different(first, second) == {}
    assert column(first.history, "train_loss") == column(second.history, "train_loss")


@pytest.mark.parametrize("at", [(3, 0), (2, 4)], ids=["epoch", "mid-epoch"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("net", NETS)
def test_a_training_that_was_cut_off_ends_as_if_it_never_was(
    tmp_path, monkeypatch, net, precision, at
):
    monkeypatch.setattr("lstmfcn.training.loop._STEPS_BETWEEN_CHECKS", 3)
    rows, schema, changes = problem(net)
    changes |= {"precision": precision, "epochs": 4, "schedule": "one-cycle"}
    whole = fitted(rows, schema, changes, rows)
    with pytest.raises(CutError):
        fitted(rows, schema, changes, rows, checkpoints=saving(tmp_path, 0), cut_at=at)
    position, state = newest(tmp_path)
    assert position == (at[0] - 1, at[1] // 3 * 3)
    went_on = fitted(rows, schema, changes, rows, start=(position, state))
    losses = column(whole.history, "train_loss")
    assert column(went_on.history, "train_loss") == losses[position.epoch :]
    assert different(went_on, whole) == {}


def test_a_training_goes_on_where_a_cpu_left_it_and_the_other_way_round(tmp_path):
    rows, schema = tiny_rows(), tiny_schema()
    for first, second in [(DEVICE, "cpu"), ("cpu", DEVICE)]:
        folder = tmp_path / first
        changes = {"dropout": 0.0, "epochs": 2}
        begun = fitted(rows, schema, changes, device=first, checkpoints=saving(folder, 1e9))
        start = newest(folder)
        changes = {"dropout": 0.0, "epochs": 4}
        found = fitted(rows, schema, changes, device=second, start=start)
        whole = fitted(rows, schema, changes, device=second)
        together = column(begun.history + found.history, "train_loss")
        assert together == pytest.approx(column(whole.history, "train_loss"), rel=1e-2), first


def test_the_kept_weights_are_on_the_cpu_and_predict_there():
    rows, valid = tiny_rows(), tiny_rows(seed=1)
    found = fitted(rows, tiny_schema(), {"epochs": 30, "dropout": 0.1, "scaling": "none"}, valid)
    weights = found.trained.best_weights
    assert {tensor.device.type for tensor in weights.values()} == {"cpu"}
    artifact = replace(tiny_artifact(scaling="none"), weights=weights)
    probabilities = Classifier(artifact, device="cpu").predict_proba(valid.values)
    accuracy = (probabilities.argmax(axis=1) == valid.labels).mean()
    assert accuracy == pytest.approx(found.trained.best["valid_accuracy"], abs=0.021)
    loss = -np.log(probabilities[np.arange(len(valid.labels)), valid.labels]).mean()
    assert loss == pytest.approx(found.trained.best["valid_loss"], rel=1e-2)


@pytest.mark.parametrize("kind", ["multiclass", "binary", "multilabel"])
def test_calibrating_finds_what_it_finds_on_the_cpu(kind):
    asked = {"calibrate": True, "fit_thresholds": kind == "multilabel"}
    artifact, rows = tiny_artifact(kind, **asked), tiny_rows(kind, 200, seed=2)
    network = trained_looking(tiny_network(kind))
    artifact = replace(artifact, weights=network.state_dict())
    here, there = (calibrate(artifact, rows, device=device) for device in ("cpu", DEVICE))
    assert there.decision.temperature == pytest.approx(here.decision.temperature, rel=2e-2)
    assert there.decision.thresholds == pytest.approx(here.decision.thresholds, abs=2e-2)
    assert {tensor.device.type for tensor in there.weights.values()} == {"cpu"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_predicts_and_explains_what_it_does_on_the_cpu(kind):
    artifact = replace(
        tiny_artifact(kind), weights=trained_looking(tiny_network(kind)).state_dict()
    )
    values = tiny_rows(kind, 300, seed=2).values
    here, there = (Classifier(artifact, device=device) for device in ("cpu", DEVICE))
    expected, found = here.predict_proba(values), there.predict_proba(values)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.array_equal(found, there.predict_proba(values))
    few = there.predict_proba(values[:3])
    np.testing.assert_allclose(few, expected[:3], atol=1e-5)
    terms, theirs = here.explain(values), there.explain(values)
    np.testing.assert_allclose(theirs.timepoints, terms.timepoints, atol=1e-4)
    half = Classifier(artifact, "bf16", DEVICE).predict_proba(values)
    np.testing.assert_allclose(half, expected, atol=0.02)
    assert there.warm_up()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("net", NETS)
def test_steps_and_evaluations_are_captured_and_give_what_single_kernels_give(
    net, precision, monkeypatch, caplog
):
    rows, schema, changes = problem(net)
    changes |= {"precision": precision, "batch_size": 36}  # so that the last batch is smaller
    graphs = fitted(rows, schema, changes, rows)
    assert not [message for message in caplog.messages if "CUDA graph" in message]
    monkeypatch.setattr("lstmfcn.training.loop.graphed", lambda function, *_, **__: function)
    kernels = fitted(rows, schema, changes, rows)
    assert different(graphs, kernels) == {}
    assert column(graphs.history, "valid_loss") == column(kernels.history, "valid_loss")
