"""What a GPU's pipeline computes, on the CPU: all but the copies and the graphs themselves."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from lstmfcn.data.scaler import Scaler
from lstmfcn.errors import ResourceError
from lstmfcn.inference.device import LogitsOnGPU, choose_device, chunk_rows
from lstmfcn.inference.predictor import Classifier
from tests.helpers.small_models import KINDS, N_TIMEPOINTS, tiny_artifact, tiny_rows

CPU = torch.device("cpu")
MAX_ROWS = 16


def pipelined(classifier, max_rows=MAX_ROWS):
    """The classifier, computing as on a GPU."""
    n_outputs = classifier._task.n_outputs
    classifier._logits = LogitsOnGPU(
        classifier._network, CPU, max_rows, classifier.schema.n_values, n_outputs
    )
    classifier.chunk_rows = max_rows
    return classifier


@pytest.mark.parametrize("n_rows", [0, 1, 2, 15, 16, 17, 3 * MAX_ROWS + 5])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_predicts_what_the_cpu_predicts_for_any_number_of_rows(kind, n_rows):
    artifact = tiny_artifact(kind)
    values = tiny_rows(kind, n_rows=64, seed=3).values[:n_rows]
    expected = Classifier(artifact).predict_validated(values)
    found = pipelined(Classifier(artifact)).predict_validated(values)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_rows_that_overflow_are_nan_and_their_neighbours_are_not():
    values = tiny_rows(n_rows=40).values.copy()
    values[17] = 3e38
    artifact = replace(tiny_artifact(), scaler=Scaler(kind="global", mean=(0.0,), std=(1e-3,)))
    found = pipelined(Classifier(artifact)).predict_validated(values)
    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [17]


def test_padding_is_not_seen_in_the_rows_that_follow():
    """Rows of the chunk before stay in the buffer."""
    classifier = pipelined(Classifier(tiny_artifact()))
    values = tiny_rows(n_rows=40).values
    classifier.predict_validated(values)
    alone = pipelined(Classifier(tiny_artifact())).predict_validated(values[:3])
    assert np.array_equal(classifier.predict_validated(values[:3]), alone)


def test_threads_take_turns():
    classifier = pipelined(Classifier(tiny_artifact()))
    values = tiny_rows(n_rows=200).values
    expected, found = classifier.predict_validated(values), {}

    def predict(number):
        for _ in range(5):
            found[number] = classifier.predict_validated(values[number:])

    threads = [threading.Thread(target=predict, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for number, probabilities in found.items():
        np.testing.assert_allclose(probabilities, expected[number:], atol=1e-6)


def test_a_chunk_that_fails_leaves_the_pipeline_usable():
    classifier = pipelined(Classifier(tiny_artifact()))
    chunks = [np.zeros((2, N_TIMEPOINTS), np.float32), np.zeros((2, 3), np.float32)]
    with pytest.raises(RuntimeError):
        list(classifier._logits.compute(chunks))
    assert len(classifier.predict_validated(tiny_rows().values)) == 48


@pytest.mark.parametrize(("n_values", "n_rows"), [(1, 4096), (100, 4096), (187, 2048), (10**6, 8)])
def test_a_gpu_takes_a_power_of_two_of_rows(n_values, n_rows):
    assert chunk_rows(n_values, "cuda") == n_rows


def test_warming_up_computes_every_size_and_tells_what_cannot_predict(monkeypatch):
    classifier, sizes = Classifier(tiny_artifact()), []
    predict = classifier.predict_validated
    monkeypatch.setattr(
        classifier, "predict_validated", lambda x: [sizes.append(len(x)), predict(x)][1]
    )
    assert classifier.warm_up()
    assert sorted(sizes) == [1, 128]
    classifier._device, classifier.chunk_rows = torch.device("cuda"), 16
    sizes.clear()
    assert classifier.warm_up()
    assert sorted(sizes) == [1, 2, 4, 8, 16]
    monkeypatch.setattr(classifier, "predict_validated", lambda x: np.full((len(x), 3), np.nan))
    assert not classifier.warm_up()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused_in_a_line():
    assert choose_device("auto") == choose_device("cpu") == CPU
    with pytest.raises(ResourceError, match=r"^this process has no GPU that PyTorch can use; "):
        Classifier(tiny_artifact(), device="cuda")
