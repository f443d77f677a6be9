"""The scikit-learn classifier with one worker: it trains as ``lstmfcn train`` does."""

import numpy as np
import pytest
import torch

from lstmfcn import LSTMFCNClassifier
from tests.helpers.problems import TINY, waves


@pytest.fixture
def with_threads():
    """Sets how many threads PyTorch uses here, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_one_worker_trains_what_arrays_train_and_gaps_are_masked(with_threads):
    table = waves(60)
    names = np.array(["rising", "falling", "flat"])[table.filter(like="y_").to_numpy().argmax(1)]
    values = table.filter(like="x_").to_numpy(copy=True)
    values[::7, 8:] = np.nan
    given = TINY.model_dump(exclude_unset=True) | {"missing": "mask", "scaling": "series"}
    worker = LSTMFCNClassifier(**given, num_workers=1).fit(values, names)
    found = worker.classifier_.artifact
    with_threads(found.training["cpus_per_worker"])  # others round otherwise
    expected = LSTMFCNClassifier(**given).fit(values, names).classifier_.artifact
    assert found.schema == expected.schema
    assert found.weights.keys() == expected.weights.keys()
    for name, tensor in expected.weights.items():
        assert torch.equal(found.weights[name], tensor), name
