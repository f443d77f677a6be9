import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.inference.device import chunk_rows
from lstmfcn.inference.fused_network import FusedNetwork
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.network import LSTMFCN, native_dtype
from lstmfcn.model.task import make_task
from tests.helpers.small_models import (
    KINDS,
    N_TIMEPOINTS,
    tiny_artifact,
    tiny_rows,
    trained_looking,
)


@pytest.mark.parametrize("kernels", [(8, 5, 3), (3, 3, 3), (1, 2, 7), (2, 4, 6)])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_folded_and_trained_network_agree(kernels, num_layers):
    sizes = dict(zip(("kernel_size_1", "kernel_size_2", "kernel_size_3"), kernels, strict=True))
    hyperparameters = Hyperparameters(
        hidden_size=16, filters_1=8, filters_2=16, filters_3=8, num_layers=num_layers, **sizes
    )
    torch.manual_seed(0)
    network = trained_looking(LSTMFCN(hyperparameters, 30, 4))
    x = torch.randn(200, 30) * 3
    with torch.inference_mode():
        expected, found = network(x), FusedNetwork.fuse(network).compute_logits(x)
    assert (expected.softmax(1) - found.softmax(1)).abs().max() < 1e-6
    assert (expected.argmax(1) == found.argmax(1)).all()


def test_the_papers_net_agrees_too():
    torch.manual_seed(0)
    network = trained_looking(LSTMFCN(Hyperparameters(), 140, 5))
    x = torch.randn(300, 140)
    with torch.inference_mode():
        expected, found = (
            network(x).softmax(1),
            FusedNetwork.fuse(network).compute_logits(x).softmax(1),
        )
    assert (expected - found).abs().max() < 1e-6
    assert (expected.argmax(1) == found.argmax(1)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaling", ["global", "series", "timestep", "none"])
def test_the_classifier_agrees_with_the_trained_network(kind, scaling):
    artifact = tiny_artifact(kind, scaling=scaling)
    values = tiny_rows(kind, n_rows=chunk_rows(N_TIMEPOINTS) + 9, seed=3).values
    network = artifact.build_network().eval()
    with torch.inference_mode():
        logits = network(torch.tensor(artifact.scaler.transform(values)))
        expected = make_task(artifact.schema).probabilities(logits).numpy()
    found = Classifier(artifact).predict_proba(values)
    assert np.abs(found - expected).max() < 1e-6


def assert_near_in_bf16(near, exact):
    """Different, but by little; a processor without bf16 computes in fp32."""
    apart = np.abs(near - exact).max()
    assert apart < 0.02
    assert (apart > 0) == (native_dtype(torch.bfloat16) == torch.bfloat16)


def test_bf16_is_near_and_returns_float32():
    artifact = tiny_artifact()
    values = tiny_rows(n_rows=300, seed=3).values
    exact = Classifier(artifact).predict_proba(values)
    near = Classifier(artifact, "bf16").predict_proba(values)
    assert near.dtype == np.float32
    assert_near_in_bf16(near, exact)


def test_an_infinite_scaled_value_does_not_vanish_in_a_relu():
    artifact = tiny_artifact(scaling="global")
    values = tiny_rows(n_rows=5).values.copy()
    classifier = Classifier(artifact)
    values[3] = -3.4e38
    found = classifier.predict_validated(values)
    assert np.isnan(found[3]).all()
    assert np.isfinite(np.delete(found, 3, axis=0)).all()


@given(
    network=st.sampled_from(["lstm-fcn", "alstm-fcn", "mlstm-fcn", "malstm-fcn"]),
    n_channels=st.integers(1, 7),
    n_timepoints=st.one_of(st.integers(1, 20), st.integers(21, 120)),
    num_layers=st.integers(1, 2),
    view=st.sampled_from(["series", "differences", "coarse"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_every_network_of_the_family_folds(
    network, n_channels, n_timepoints, num_layers, view, seed
):
    sizes = {"hidden_size": 8, "filters_1": 16, "filters_2": 32, "filters_3": 8}
    h = Hyperparameters(network=network, num_layers=num_layers, view=view, **sizes)
    torch.manual_seed(seed)
    trained = trained_looking(LSTMFCN(h, n_timepoints, 3, n_channels))
    with torch.no_grad():
        for name, weights in trained.named_parameters():
            if "attention" in name:
                weights.normal_()
    x = torch.randn(20, n_channels * n_timepoints) * 2
    with torch.inference_mode():
        expected, found = trained(x), FusedNetwork.fuse(trained).compute_logits(x)
    assert (expected.softmax(1) - found.softmax(1)).abs().max() < 1e-5


@pytest.mark.parametrize("network", ["alstm-fcn", "mlstm-fcn", "malstm-fcn"])
@pytest.mark.parametrize("n_channels", [1, 3, 4])
def test_bf16_of_the_family_is_near(network, n_channels):
    artifact = tiny_artifact(n_channels=n_channels, network=network)
    values = tiny_rows(n_rows=300, seed=3).values
    exact = Classifier(artifact).predict_proba(values)
    near = Classifier(artifact, "bf16").predict_proba(values)
    assert near.dtype == np.float32
    assert_near_in_bf16(near, exact)
