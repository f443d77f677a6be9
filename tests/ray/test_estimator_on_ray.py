"""The scikit-learn classifier on Ray: what ``lstmfcn train`` makes of the same rows."""

import os

import numpy as np
import pytest
import torch

from lstmfcn import LSTMFCNClassifier
from lstmfcn.distributed.predict import predict
from lstmfcn.distributed.requests import Resources
from lstmfcn.distributed.train import train
from lstmfcn.errors import ResourceError
from lstmfcn.model.artifact import Artifact
from tests.helpers.problems import TINY, waves, write

pytestmark = pytest.mark.usefixtures("cluster")

KINDS = np.array(["rising", "falling", "flat"])


def tiny(**changes):
    given = TINY.model_dump(exclude_unset=True)
    return LSTMFCNClassifier(**{**given, **changes})


def labelled(n_rows=101, seed=0):
    """Series as a table, and the name of each."""
    table = waves(n_rows, seed)
    kinds = table.filter(like="y_").to_numpy().argmax(axis=1)
    return table.filter(like="x_"), KINDS[kinds]


def test_two_workers_train_what_they_train_of_shards(tmp_path):
    series, names = labelled()
    estimator = tiny(epochs=20, num_workers=2, validation_fraction=0.2).fit(series, names)
    assert estimator.score(*labelled(seed=1)) > 0.8
    model = tmp_path / "model"
    estimator.save(model)
    described = Artifact.load(model).training
    assert described["num_workers"] == 2
    assert described["train_rows"] == 80
    assert described["validation_rows"] == 21

    whole = tiny(num_workers=2).fit(series, names)
    shards = series.copy()
    shards.insert(0, "y", names)
    data = write(tmp_path / "data", shards, 2)
    train(str(data), str(tmp_path / "run"), hyperparameters=TINY, resources=Resources(2))
    found, expected = whole.classifier_.artifact, Artifact.load(tmp_path / "run" / "model")
    assert found.schema == expected.schema
    assert found.training["train_sha256"] == expected.training["train_sha256"]
    for name, tensor in expected.weights.items():
        assert torch.equal(found.weights[name], tensor), name

    loaded = LSTMFCNClassifier.load(tmp_path / "run" / "model")
    np.testing.assert_array_equal(loaded.predict_proba(series), whole.predict_proba(series))
    assert predict(str(data), model=str(model), output=str(tmp_path / "predictions")).rows == 101


@pytest.fixture
def with_threads():
    """Sets how many threads PyTorch uses here, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_members_are_trained_side_by_side_and_gaps_are_masked(with_threads):
    series, names = labelled(60)
    values = series.to_numpy(copy=True)
    values[::7, 8:] = np.nan
    given = {"members": 2, "missing": "mask", "scaling": "series"}
    found = tiny(**given, num_workers=1).fit(values, names).classifier_.artifact
    with_threads(min(found.training["cpus_per_worker"], os.cpu_count()))  # others round otherwise
    expected = tiny(**given).fit(values, names).classifier_.artifact
    assert found.schema == expected.schema
    assert found.weights.keys() == expected.weights.keys()
    for name, tensor in expected.weights.items():
        assert torch.equal(found.weights[name], tensor), name


def test_what_the_cluster_has_not_is_refused():
    with pytest.raises(ResourceError, match="no room for 99 workers of 1 CPU"):
        tiny(num_workers=99).fit(*labelled())
