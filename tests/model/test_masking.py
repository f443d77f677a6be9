"""What is missing takes no part: in the network, in scaling, in predictions and in training."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lstmfcn.data.columns import value_names
from lstmfcn.data.scaler import Moments, Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import DataError, ModelError
from lstmfcn.inference.fused_network import FusedNetwork
from lstmfcn.inference.onnx_export import export_onnx
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.layers import Statistics
from lstmfcn.model.network import LSTMFCN
from lstmfcn.training.in_memory import train_arrays
from tests.helpers.small_models import tiny_hyperparameters

T = 20
LENGTHS = {"series": (T, 29), "differences": (T, 29), "coarse": (98, 109)}
"""Timepoints of a network, and of one for longer series that sees those as it does, by view."""
NETWORKS = ["lstm-fcn", "alstm-fcn", "mlstm-fcn", "malstm-fcn"]


def network_with(n_channels, n_timepoints, network, view="series", seed=0):
    torch.manual_seed(seed)
    h = tiny_hyperparameters(missing="mask", network=network, view=view, dropout=0.0)
    return LSTMFCN(h, n_timepoints, 3, n_channels)


def longer(network, n_channels):
    """The same network for longer series; what its LSTM reads of the added timepoints is random."""
    other = network_with(n_channels, LENGTHS[network.kind[1]][1], *network.kind, seed=1)
    state = other.state_dict()
    for name, tensor in network.state_dict().items():
        if tensor.shape == state[name].shape:
            state[name] = tensor
        else:
            state[name][:, : tensor.shape[1]] = tensor
    other.load_state_dict(state)
    return other


def pair(n_channels, name, view):
    short = network_with(n_channels, LENGTHS[view][0], name, view)
    short.kind = name, view
    return short, longer(short, n_channels)


def padded(x, n_channels, view):
    short, long = LENGTHS[view]
    series = x.reshape(len(x), n_channels, short)
    return nn.functional.pad(series, (0, long - short), value=torch.nan).flatten(1)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("view", LENGTHS)
@pytest.mark.parametrize("n_channels", [1, 3, 40])
def test_padding_changes_nothing_in_training_and_in_prediction(n_channels, view, name):
    """Neither logits, nor gradients, nor the statistics of batch norm."""
    short, long = pair(n_channels, name, view)
    x = torch.randn(6, n_channels * LENGTHS[view][0])
    x_padded = padded(x, n_channels, view)
    for network, series in ((short, x), (long, x_padded)):
        network.train()
        network.logits = network(series)
        network.logits.square().sum().backward()
    torch.testing.assert_close(long.logits, short.logits)
    of_long = dict(long.named_parameters())
    for parameter_name, parameter in short.named_parameters():
        gradient = of_long[parameter_name].grad
        if gradient.shape != parameter.grad.shape:
            assert (gradient[:, parameter.grad.shape[1] :] == 0).all()
            gradient = gradient[:, : parameter.grad.shape[1]]
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-5, rtol=1e-4)
    buffers = dict(long.named_buffers())
    for buffer_name, buffer in short.named_buffers():
        torch.testing.assert_close(buffers[buffer_name], buffer)
    short.eval(), long.eval()
    expected = short(x)
    torch.testing.assert_close(long(x_padded), expected)
    for network, series in ((short, x), (long, x_padded)):
        folded = FusedNetwork.fuse(network).compute_logits(series)
        torch.testing.assert_close(folded, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_without_gaps_are_as_in_a_network_that_does_not_mask(name):
    masking = network_with(2, T, name)
    h = tiny_hyperparameters(network=name, dropout=0.0)
    plain = LSTMFCN(h, T, 3, 2)
    plain.load_state_dict(masking.state_dict())
    x = torch.randn(5, 2 * T)
    for network in (masking, plain):
        network.train()
    torch.testing.assert_close(masking(x), plain(x))
    for buffer, expected in zip(masking.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected)


@given(seed=st.integers(0, 1000), n_rows=st.integers(2, 6))
@settings(max_examples=20)
def test_statistics_are_those_of_the_timepoints_that_count(seed, n_rows):
    random = np.random.default_rng(seed)
    mask = random.random((n_rows, 1, 1, 9)) < 0.6
    mask[0, 0, 0, :2] = True
    x = random.standard_normal((n_rows, 4, 1, 9)).astype(np.float32)
    chosen = x.transpose(1, 0, 2, 3)[:, np.broadcast_to(mask, (n_rows, 1, 1, 9))[:, 0]]
    found = Statistics.compute(torch.from_numpy(x), torch.from_numpy(mask).float())
    np.testing.assert_allclose(found.mean, chosen.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(found.variance, chosen.var(axis=1), rtol=1e-4)
    np.testing.assert_allclose(found.unbiased, chosen.var(axis=1, ddof=1), rtol=1e-4)


@given(seed=st.integers(0, 1000), n_channels=st.integers(1, 3), shift=st.sampled_from([0, 1e4]))
@settings(max_examples=30)
def test_scaling_leaves_out_what_is_missing(seed, n_channels, shift):
    random = np.random.default_rng(seed)
    values = (random.standard_normal((7, n_channels * 5)) + shift).astype(np.float32)
    values[random.random(values.shape) < 0.4] = np.nan
    values[0] = shift
    channels = values.reshape(7, n_channels, 5).astype(np.float64)
    mean = np.nanmean(channels, axis=(0, 2))
    std = np.nanstd(channels, axis=(0, 2))
    scaler = Scaler.fit("global", values, n_channels)
    np.testing.assert_allclose(scaler.mean, mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scaler.std, std, rtol=1e-6)
    timestep = Scaler.fit("timestep", values, n_channels)
    np.testing.assert_allclose(timestep.mean, np.nanmean(values.astype(float), axis=0), rtol=1e-6)
    for kind in ("global", "timestep", "series"):
        scaled = Scaler.fit(kind, values, n_channels).transform(values)
        assert np.array_equal(np.isnan(scaled), np.isnan(values))


def test_moments_of_parts_are_those_of_the_whole():
    random = np.random.default_rng(0)
    values = random.standard_normal((9000, 3)).astype(np.float32)
    values[random.random(values.shape) < 0.3] = np.nan
    values[:5000, 2] = np.nan
    found = Moments.of(values)
    np.testing.assert_array_equal(found.counts, (~np.isnan(values)).sum(axis=0))
    np.testing.assert_allclose(found.mean, np.nanmean(values.astype(float), axis=0), atol=1e-9)
    np.testing.assert_allclose(found.variance, np.nanvar(values.astype(float), axis=0), rtol=1e-9)


def unequal(n_rows=60, seed=0):
    """Rising and falling series of 8 to 20 timepoints, with a gap each."""
    random = np.random.default_rng(seed)
    names = np.array(["down", "up"])[np.arange(n_rows) % 2]
    slopes = np.where(names == "up", 1.0, -1.0)[:, None]
    values = slopes * np.linspace(-1, 1, T) + 0.1 * random.standard_normal((n_rows, T))
    for row, length in enumerate(random.integers(8, T + 1, n_rows)):
        values[row, length:] = np.nan
        values[row, random.integers(0, 8)] = np.nan
    return values.astype(np.float32), names


@pytest.fixture(scope="module")
def artifact():
    return train_arrays(unequal(), tiny_hyperparameters(missing="mask", epochs=25))


def test_series_of_unequal_length_are_learned(artifact):
    values, names = unequal(seed=3)
    assert (Classifier(artifact).predict(values) == names).mean() > 0.9


def test_a_series_that_ends_is_predicted_as_one_that_is_padded(artifact, tmp_path):
    artifact.save(tmp_path / "model")
    classifier = Classifier.load(tmp_path / "model")
    values = unequal(seed=4)[0][:, :11]
    full = np.pad(values, [(0, 0), (0, T - 11)], constant_values=np.nan)
    assert np.array_equal(classifier.predict_proba(values), classifier.predict_proba(full))


def test_a_row_without_values_and_an_infinite_one_are_refused(artifact):
    classifier = Classifier(artifact)
    values = unequal(4)[0]
    values[2] = np.nan
    with pytest.raises(DataError, match="row 3: found a row without any value; remove the row"):
        classifier.predict(values)
    values[2], values[3, 5] = 0.0, np.inf
    with pytest.raises(DataError, match="row 4, column x_6: found inf"):
        classifier.predict(values)


def test_values_too_large_are_not_taken_for_missing(artifact):
    values = np.full((1, T), 3e38, dtype=np.float32)
    values[0, 0] = np.nan
    with pytest.raises(DataError, match="values too large to compute with"):
        Classifier(artifact).predict(values)


def test_a_longer_series_is_refused(artifact):
    with pytest.raises(DataError, match=r"shape \(2, 21\)"):
        Classifier(artifact).predict(np.zeros((2, T + 1)))


def test_channels_may_end_together(tmp_path):
    h = tiny_hyperparameters(missing="mask")
    schema = SeriesSchema.from_header(["y", *value_names(2, 6)], "multiclass")
    schema = schema.with_classes(["a", "b"]).model_copy(update={"missing": "mask"})
    model = Artifact(h, schema, Scaler(kind="none", n_channels=2), LSTMFCN(h, 6, 2, 2).state_dict())
    series = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)
    full = np.pad(series, [(0, 0), (0, 0), (0, 2)], constant_values=np.nan)
    classifier = Classifier(model)
    assert np.array_equal(classifier.predict_proba(series), classifier.predict_proba(full))
    with pytest.raises(ModelError, match="--missing mask"):
        export_onnx(model, tmp_path / "model.onnx")
