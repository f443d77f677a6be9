"""Series of several channels, from shards with interleaved columns to predictions and an endpoint's
model, with the commands that users type."""

import json

import numpy as np
import pandas as pd
import pytest

from lstmfcn.data.columns import value_names
from lstmfcn.distributed.train import train
from lstmfcn.errors import DataError
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from tests.helpers.problems import TINY, flags_of, write

N_CHANNELS, N_TIMEPOINTS = 3, 8
NAMES = ("rest", "left", "right")


def movements(n_rows, seed=0):
    """Rows whose class is the channel that rises; channels have levels and units of their own."""
    random = np.random.default_rng(seed)
    kind = random.permutation(np.arange(n_rows) % N_CHANNELS)
    values = 0.2 * random.standard_normal((n_rows, N_CHANNELS, N_TIMEPOINTS))
    values[np.arange(n_rows), kind] += np.linspace(-2, 2, N_TIMEPOINTS)
    values = values * np.array([1.0, 1000.0, 0.01])[:, None] + np.array([0, 5000, 7])[:, None]
    columns = value_names(N_CHANNELS, N_TIMEPOINTS)
    table = pd.DataFrame(values.reshape(n_rows, -1).astype(np.float32), columns=columns)
    table.insert(0, "y", np.array(NAMES)[kind])
    return table


def interleaved(table):
    """The same rows, timepoint after timepoint, as sensors write them."""
    return table[["y", *sorted(table.columns[1:], key=lambda name: int(name.split("_")[1]))]]


@pytest.mark.parametrize("network", ["auto", "alstm-fcn"])
def test_shards_of_channels_train_evaluate_and_predict(tmp_path, job, network):
    data = write(tmp_path / "train", interleaved(movements(150)), 2)
    test = write(tmp_path / "test", movements(60, seed=1), 2)
    flags = flags_of(TINY, epochs=15, network=network)
    trained = job("train", "--train", data, "--output", tmp_path / "run", *flags)
    assert trained.returncode == 0, trained.stderr
    told = trained.stdout + trained.stderr
    assert "training: 150 rows of 3 channels of 8 timepoints from 2 shards" in told

    model = tmp_path / "run" / "model"
    artifact = Artifact.load(model)
    assert artifact.schema.n_channels == N_CHANNELS
    assert len(artifact.scaler.mean) == N_CHANNELS
    assert artifact.scaler.mean[1] == pytest.approx(5000, abs=50)
    evaluated = job("evaluate", "--model", model, "--data", test)
    assert json.loads(evaluated.stdout.splitlines()[-1])["accuracy"] > 0.9

    output = tmp_path / "predictions"
    predicted = job("predict", "--model", model, "--input", test, "--output", output)
    assert predicted.returncode == 0, predicted.stderr
    found = pd.concat([pd.read_csv(path) for path in sorted(output.glob("*.csv"))])
    table = movements(60, seed=1)
    nested = table.iloc[:, 1:].to_numpy().reshape(60, N_CHANNELS, N_TIMEPOINTS)
    expected = Classifier(artifact).predict_proba(nested)
    order = [f"p_{name}" for name in artifact.schema.classes]
    np.testing.assert_allclose(found[order].to_numpy(), expected, atol=1e-6)
    assert (found.y.to_numpy() == table.y.to_numpy()).mean() > 0.9


def test_shards_with_other_channels_are_refused(tmp_path):
    table = movements(30)
    data = write(tmp_path / "data", table.drop(columns="x2_3"))
    with pytest.raises(DataError, match=r"channel 2 without x2_3, which channel 1 has; give all"):
        train(str(data), str(tmp_path / "run"), hyperparameters=TINY)
    assert not (tmp_path / "run").exists()
