import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.network import LSTMFCN, BatchNorm, ConvolutionBlock, LSTMBranch
from tests.helpers.small_models import tiny_hyperparameters, tiny_network


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def batches_of(n, n_channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, n_channels, 1, 5, generator=generator) * 2 + 1 for _ in range(n)]


def means(batches):
    return torch.stack([batch.mean(dim=(0, 2, 3)) for batch in batches])


def variances(batches):
    return torch.stack([batch.transpose(0, 1).flatten(1).var(dim=1) for batch in batches])


def assert_uniform_within(weights, limit):
    """All of the range is used, and nothing beyond it."""
    weights = weights.detach()
    assert weights.abs().max() <= limit
    assert weights.abs().max() > 0.97 * limit
    assert abs(weights.mean()) < 0.1 * limit
    assert weights.std() == pytest.approx(limit / math.sqrt(3), rel=0.1)


def test_the_small_net_has_3703_parameters():
    sizes = {f"filters_{i}": 4 for i in (1, 2, 3)} | {f"kernel_size_{i}": 3 for i in (1, 2, 3)}
    assert count(LSTMFCN(Hyperparameters(hidden_size=8, **sizes), 100, 3)) == 3703


def test_the_papers_net_has_428293_parameters():
    assert count(LSTMFCN(Hyperparameters(hidden_size=128), 187, 5)) == 428293


@given(
    n_rows=st.integers(1, 4),
    n_timepoints=st.integers(1, 30),
    kernels=st.tuples(*[st.integers(1, 12)] * 3),
    n_outputs=st.integers(1, 5),
    num_layers=st.integers(1, 3),
)
@settings(max_examples=40)
def test_any_length_and_kernel_give_one_row_of_logits_a_series(
    n_rows, n_timepoints, kernels, n_outputs, num_layers
):
    names = {f"kernel_size_{i + 1}": kernel for i, kernel in enumerate(kernels)}
    h = tiny_hyperparameters(num_layers=num_layers, filters_2=5, filters_3=6, **names)
    model = LSTMFCN(h, n_timepoints, n_outputs).eval()
    x = torch.randn(n_rows, n_timepoints)
    assert model.lstm(x[:, None]).shape == (n_rows, 4)
    assert model.fcn(x[:, None]).shape == (n_rows, 6)
    assert model(x).shape == (n_rows, n_outputs)
    assert model.fcn.blocks[0](x[:, None, None]).shape == (n_rows, 4, 1, n_timepoints)


@pytest.mark.parametrize(("kernel", "left", "right"), [(8, 3, 4), (5, 2, 2), (2, 0, 1), (1, 0, 0)])
def test_a_block_pads_as_tensorflow_does_then_normalises_and_rectifies(kernel, left, right):
    block = ConvolutionBlock(1, 1, kernel, 0.1).eval()
    series = np.random.default_rng(0).standard_normal(11)
    with torch.no_grad():
        block.convolution.bias.fill_(0.25)
    weights = block.convolution.weight.detach().numpy()[0, 0, 0]
    padded = np.concatenate([np.zeros(left), series, np.zeros(right)])
    sums = np.array([weights @ padded[t : t + kernel] for t in range(11)]) + 0.25
    expected = np.maximum(sums / math.sqrt(1 + 1e-3), 0)
    found = block(torch.tensor(series, dtype=torch.float32)[None, None, None])
    np.testing.assert_allclose(found.detach().numpy()[0, 0, 0], expected, atol=1e-5)
    assert (expected > 0).any()


def test_the_net_joins_lstm_and_pooled_convolutions():
    model = tiny_network().eval()
    x = torch.randn(5, 12)
    image = x[:, None, None]
    for block in model.fcn.blocks:
        image = block(image)
    pooled = image.mean(dim=(2, 3))
    joined = torch.cat([model.lstm(x[:, None]), pooled], dim=1)
    torch.testing.assert_close(model(x), joined @ model.head.weight.T + model.head.bias)


def test_the_lstm_at_one_step_needs_input_weights_only():
    branch = LSTMBranch(9, 6, 1, 0.8).eval()
    layer = branch.layers[0]
    with torch.no_grad():
        layer.bias_hh_l0.normal_()
    x = torch.randn(4, 9)
    i, _, g, o = (x @ layer.weight_ih_l0.T + layer.bias_ih_l0 + layer.bias_hh_l0).chunk(4, dim=1)
    expected = o.sigmoid() * (i.sigmoid() * g.tanh()).tanh()
    torch.testing.assert_close(branch(x[:, None]), expected)


def test_dropout_follows_each_lstm_layer_in_training():
    torch.manual_seed(0)
    branch = LSTMBranch(10, 64, 2, 0.5).train()
    outputs, inputs = [], []
    for layer in branch.layers:
        layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        layer.register_forward_hook(lambda *call: outputs.append(call[-1][0]))
    last = branch(torch.randn(8, 1, 10))
    for before, after in [(outputs[0], inputs[1]), (outputs[1][:, 0], last)]:
        dropped = after == 0
        assert 0.4 < dropped.float().mean() < 0.6
        torch.testing.assert_close(after[~dropped], 2 * before[~dropped])


def test_dropout_does_nothing_in_evaluation():
    branch = LSTMBranch(10, 8, 2, 0.9).eval()
    x = torch.randn(3, 1, 10)
    torch.testing.assert_close(branch(x), branch(x), rtol=0, atol=0)
    assert (branch(x) != 0).all()


@pytest.mark.parametrize(("n_in", "kernel"), [(1, 8), (16, 5)])
def test_convolutions_begin_he_uniform_with_zero_bias(n_in, kernel):
    torch.manual_seed(0)
    convolution = ConvolutionBlock(n_in, 128, kernel, 0.1).convolution
    assert_uniform_within(convolution.weight, math.sqrt(6 / (n_in * kernel)))
    assert not convolution.bias.any()


def test_lstm_layers_begin_as_keras_begins_them():
    torch.manual_seed(0)
    branch = LSTMBranch(50, 16, 2, 0.8)
    for layer, n_in in zip(branch.layers, (50, 16), strict=True):
        assert_uniform_within(layer.weight_ih_l0, math.sqrt(6 / (n_in + 4 * 16)))
        recurrent = layer.weight_hh_l0.detach()
        torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(16), atol=1e-5, rtol=0)
        forget = torch.zeros(64)
        forget[16:32] = 1
        torch.testing.assert_close(layer.bias_ih_l0 + layer.bias_hh_l0, forget, rtol=0, atol=0)


def test_the_head_begins_glorot_uniform_with_zero_bias():
    torch.manual_seed(0)
    head = LSTMFCN(tiny_hyperparameters(hidden_size=64, filters_3=64), 10, 8).head
    assert_uniform_within(head.weight, math.sqrt(6 / (128 + 8)))
    assert not head.bias.any()


def test_batch_norm_divides_by_the_batchs_own_deviation_with_epsilon_in_training():
    (batch,) = batches_of(1)
    found = BatchNorm(3, 0.01).train()(batch)
    mean = batch.mean(dim=(0, 2, 3), keepdim=True)
    variance = batch.var(dim=(0, 2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(found, (batch - mean) / (variance + 1e-3).sqrt())


@pytest.mark.parametrize(
    ("n", "momentum"), [(1, 0.1), (2, 0.1), (10, 0.1), (57, 0.01), (100, 0.01)]
)
def test_running_statistics_are_the_plain_mean_of_the_first_batches(n, momentum):
    batches, norm = batches_of(n), BatchNorm(3, momentum).train()
    for batch in batches:
        norm(batch)
    torch.testing.assert_close(norm.running_mean, means(batches).mean(dim=0))
    torch.testing.assert_close(norm.running_var, variances(batches).mean(dim=0))


@pytest.mark.parametrize(("momentum", "plain"), [(0.1, 10), (0.01, 100)])
def test_later_batches_weigh_as_the_momentum_says(momentum, plain):
    batches, norm = batches_of(150), BatchNorm(3, momentum).train()
    for batch in batches:
        norm(batch)
    expected = means(batches[:plain]).mean(dim=0)
    for mean in means(batches[plain:]):
        expected = (1 - momentum) * expected + momentum * mean
    torch.testing.assert_close(norm.running_mean, expected)


@pytest.mark.parametrize("used_before", [False, True])
def test_running_statistics_continue_from_a_loaded_count(used_before):
    batches, norm = batches_of(12), BatchNorm(3, 0.01).train()
    for batch in batches[:7]:
        norm(batch)
    other = BatchNorm(3, 0.01).train()
    if used_before:
        other(batches[0] * 100)
    other.load_state_dict(norm.state_dict())
    for batch in batches[7:]:
        other(batch)
    assert other.num_batches_tracked == 12
    torch.testing.assert_close(other.running_mean, means(batches).mean(dim=0))


def test_evaluation_neither_uses_nor_counts_the_batch():
    batches, norm = batches_of(4), BatchNorm(3, 0.01).train()
    norm(batches[0])
    state = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    found = norm.eval()(batches[1])
    for name, tensor in norm.state_dict().items():
        assert torch.equal(tensor, state[name])
    mean = state["running_mean"][:, None, None]
    expected = (batches[1] - mean) / (state["running_var"][:, None, None] + 1e-3).sqrt()
    torch.testing.assert_close(found, expected)
    norm.train()(batches[2])
    torch.testing.assert_close(norm.running_mean, means([batches[0], batches[2]]).mean(dim=0))


def parts_of_the_papers_net(features, n_channels, n_outputs, hidden=128):
    """Parameters by the architecture: gates, convolutions with batch norms, head; and the extras.

    features: of a step of the LSTM.
    """
    lstm = 4 * hidden * (features + hidden + 2)  # PyTorch has two biases
    attention = 4 * hidden * (2 * features + hidden + 1) + hidden * (features + hidden + 2)
    kernels = 128 * 8 * n_channels + 256 * 5 * 128 + 128 * 3 * 256
    fcn = kernels + (128 + 256 + 128) * 3  # bias, scale and shift of each filter
    squeeze_excite = 2 * 128 * 8 + 2 * 256 * 16
    head = (hidden + 128 + 1) * n_outputs
    return {
        "lstm-fcn": lstm + fcn + head,
        "alstm-fcn": attention + fcn + head,
        "mlstm-fcn": lstm + fcn + squeeze_excite + head,
        "malstm-fcn": attention + fcn + squeeze_excite + head,
    }


@pytest.mark.parametrize("network", ["lstm-fcn", "alstm-fcn", "mlstm-fcn", "malstm-fcn"])
@pytest.mark.parametrize(
    ("n_channels", "n_timepoints", "features"), [(1, 187, 187), (6, 100, 100), (30, 20, 30)]
)
def test_each_network_has_the_parameters_of_its_parts(network, n_channels, n_timepoints, features):
    expected = parts_of_the_papers_net(features, n_channels, 5)
    assert expected["lstm-fcn"] == 428293 or n_channels > 1
    found = LSTMFCN(Hyperparameters(network=network, hidden_size=128), n_timepoints, 5, n_channels)
    assert count(found) == expected[network]


def test_several_channels_are_an_mlstm_fcn_unless_named():
    assert (
        count(LSTMFCN(Hyperparameters(), 100, 4, 6))
        == (parts_of_the_papers_net(100, 6, 4, hidden=8)["mlstm-fcn"])
    )


@given(
    n_rows=st.integers(1, 3),
    n_channels=st.integers(1, 6),
    n_timepoints=st.integers(1, 6),
    num_layers=st.integers(1, 2),
    network=st.sampled_from(["auto", "lstm-fcn", "alstm-fcn", "malstm-fcn"]),
)
@settings(max_examples=40)
def test_any_channels_give_one_row_of_logits_a_series(
    n_rows, n_channels, n_timepoints, num_layers, network
):
    h = tiny_hyperparameters(num_layers=num_layers, network=network)
    model = LSTMFCN(h, n_timepoints, 3, n_channels).eval()
    x = torch.randn(n_rows, n_channels * n_timepoints)
    assert model(x).shape == (n_rows, 3)
    several = torch.cat([x, torch.randn(4, x.shape[1])])
    torch.testing.assert_close(model(several)[:n_rows], model(x))


@pytest.mark.parametrize(
    ("n_channels", "n_timepoints", "shuffled"),
    [(3, 4, True), (4, 3, False), (3, 3, False), (1, 9, True), (1, 1, False)],
)
def test_the_shuffle_is_for_series_longer_than_they_have_channels(
    n_channels, n_timepoints, shuffled
):
    model = LSTMFCN(tiny_hyperparameters(), n_timepoints, 2, n_channels).eval()
    layer = model.lstm.layers[0]
    assert layer.input_size == (n_timepoints if shuffled else n_channels)
    x = torch.randn(5, n_channels, n_timepoints)
    steps = x if shuffled else x.transpose(1, 2)
    h = c = torch.zeros(1, 5, 4)
    for step in steps.unbind(dim=1):
        _, (h, c) = layer(step[:, None], (h, c))
    torch.testing.assert_close(model.lstm(x), h[0])


def test_convolutions_see_all_channels_at_each_timepoint():
    model = LSTMFCN(tiny_hyperparameters(network="lstm-fcn"), 6, 2, 3).eval()
    block = model.fcn.blocks[0]
    x = torch.randn(1, 3, 6)
    weights, bias = block.convolution.weight.detach()[:, :, 0], block.convolution.bias
    expected = torch.nn.functional.conv1d(torch.nn.functional.pad(x, (3, 4)), weights, bias)
    expected = (expected / math.sqrt(1 + 1e-3)).relu()
    torch.testing.assert_close(block(x[:, :, None])[:, :, 0], expected)
    flat = torch.cat([x[0, 0], x[0, 1], x[0, 2]])[None]
    both = torch.cat([model.lstm(x), model.fcn(x)], dim=1)
    torch.testing.assert_close(model(flat), model.head(both))
