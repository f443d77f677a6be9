import numpy as np
import pytest
import torch

from lstmfcn.inference.predictor import Classifier
from lstmfcn.training.in_memory import train_arrays
from tests.helpers.small_models import tiny_hyperparameters, tiny_rows

NAMES = np.array(["10", "9", "b"])


def labelled(n_rows=48, seed=0):
    rows = tiny_rows(n_rows=n_rows, seed=seed)
    return rows.values, NAMES[rows.labels]


def test_it_learns_and_names_classes_in_order():
    history = []
    artifact = train_arrays(labelled(), tiny_hyperparameters(epochs=30), report=history.append)
    assert artifact.schema.classes == ("9", "10", "b")
    values, names = labelled(seed=5)
    assert (Classifier(artifact).predict(values) == names).mean() > 0.9
    assert len(history) == 30
    assert artifact.metrics == min(history, key=lambda metrics: metrics["train_loss"])


def test_validation_rows_decide_which_epoch_is_kept():
    history = []
    hyperparameters = tiny_hyperparameters(epochs=8, lr=0.1)
    artifact = train_arrays(labelled(), hyperparameters, labelled(20, 3), history.append)
    assert artifact.metrics == min(history, key=lambda metrics: metrics["valid_loss"])


def test_few_rows_take_as_many_steps_as_asked_for():
    history = []
    hyperparameters = tiny_hyperparameters(epochs=1, rows_per_epoch=100)
    train_arrays(labelled(), hyperparameters, report=history.append)
    assert history[0]["rows"] == 144


def test_every_hyperparameter_of_the_loss_and_of_the_optimiser_counts():
    plain = train_arrays(labelled(), tiny_hyperparameters())
    for change in ({"weight_decay": 0.5}, {"label_smoothing": 0.2}, {"schedule": "one-cycle"}):
        changed = train_arrays(labelled(), tiny_hyperparameters(**change))
        assert not torch.equal(changed.weights["head.weight"], plain.weights["head.weight"])


@pytest.mark.parametrize("scaling", ["global", "series", "timestep", "none"])
def test_series_of_several_channels(scaling):
    values, names = labelled()
    channels = values.reshape(len(values), 3, -1)
    hyperparameters = tiny_hyperparameters(epochs=30, scaling=scaling)
    artifact = train_arrays((channels, names), hyperparameters, (channels, names))
    assert artifact.schema.n_channels == 3
    assert artifact.schema.value_columns[3:5] == ("x1_4", "x2_1")
    assert any("squeeze_excite" in name for name in artifact.weights)
    values, names = labelled(seed=5)
    predicted = Classifier(artifact).predict(values.reshape(len(values), 3, -1))
    assert (predicted == names).mean() > 0.9


def test_one_channel_is_the_same_with_and_without_its_axis():
    values, names = labelled()
    flat = train_arrays((values, names), tiny_hyperparameters())
    nested = train_arrays((values[:, None], names), tiny_hyperparameters())
    assert nested.schema == flat.schema
    for name, tensor in flat.weights.items():
        assert torch.equal(nested.weights[name], tensor)


@pytest.mark.parametrize("scaling", ["global", "series", "none"])
def test_rows_in_another_order_in_memory_give_the_same_bits(scaling):
    """Those of a table lie column after column."""
    values, names = labelled()
    hyperparameters = tiny_hyperparameters(epochs=2, scaling=scaling)
    one, other = (
        train_arrays((given, names), hyperparameters)
        for given in (values, np.asfortranarray(values))
    )
    assert one.scaler == other.scaler
    for name, tensor in one.weights.items():
        assert tensor.equal(other.weights[name]), name
    predicted = [Classifier(one).predict_proba(v) for v in (values, np.asfortranarray(values))]
    np.testing.assert_array_equal(*predicted)
