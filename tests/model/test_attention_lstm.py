import math

import numpy as np
import pytest
import torch
from torch import nn

from lstmfcn.model.layers import AttentionLSTM


def layer_of(n_features, hidden_size, seed=0):
    """A layer whose every weight counts: those that begin at zero are drawn too."""
    torch.manual_seed(seed)
    layer = AttentionLSTM(n_features, hidden_size)
    with torch.no_grad():
        for weights in (layer.bias, layer.attention_bias, layer.attention_vector):
            weights.normal_()
    return layer


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def states_of_one_row(layer, x):
    """The formulas of the module's docstring, step by step and input by input, for x (S, F)."""
    weights = {name: p.detach().double().numpy() for name, p in layer.named_parameters()}
    kernel, recurrent = weights["kernel"].T, weights["recurrent_kernel"].T
    attention, u = weights["attention_kernel"].T, weights["attention_recurrent_weights"].T
    w, v = weights["attention_weights"].T, weights["attention_vector"][0]
    h = c = np.zeros(layer.hidden_size)
    states = []
    for x_t in x:
        energies = [np.tanh(h @ u + x_s @ w + weights["attention_bias"]) @ v for x_s in x]
        shares = [math.exp(energy) / sum(map(math.exp, energies)) for energy in energies]
        z = sum(share * x_s for share, x_s in zip(shares, x, strict=True))
        i, f, new, o = np.split(x_t @ kernel + h @ recurrent + z @ attention + weights["bias"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


@pytest.mark.parametrize(
    ("n_steps", "n_features", "hidden_size"), [(4, 3, 5), (1, 6, 2), (7, 1, 1)]
)
def test_states_follow_the_formulas(n_steps, n_features, hidden_size):
    layer = layer_of(n_features, hidden_size)
    x = torch.randn(6, n_steps, n_features) * 2
    found = layer(x).detach().numpy()
    expected = np.stack([states_of_one_row(layer, row) for row in x.double().numpy()])
    assert found.shape == (6, n_steps, hidden_size)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_step_is_an_lstm_with_both_kernels():
    layer = layer_of(9, 4)
    plain = nn.LSTM(9, 4, batch_first=True)
    with torch.no_grad():
        plain.weight_ih_l0.copy_(layer.kernel + layer.attention_kernel)
        plain.weight_hh_l0.copy_(layer.recurrent_kernel)
        plain.bias_ih_l0.copy_(layer.bias)
        plain.bias_hh_l0.zero_()
    x = torch.randn(5, 1, 9)
    torch.testing.assert_close(layer(x), plain(x)[0])


def test_every_weight_has_a_gradient_at_several_steps_and_none_lacks_one_at_one():
    layer = layer_of(3, 4)
    layer(torch.randn(5, 6, 3)).sum().backward()
    assert all(bool(weights.grad.any()) for weights in layer.parameters())
    inert = layer_of(3, 4)
    inert(torch.randn(5, 1, 3)).sum().backward()
    assert all(weights.grad is not None for weights in inert.parameters())
    assert not inert.attention_weights.grad.any()


def test_attention_that_differs_changes_the_states():
    layer = layer_of(3, 4)
    x = torch.randn(5, 6, 3)
    before = layer(x)
    with torch.no_grad():
        layer.attention_vector.mul_(-3)
    assert not torch.allclose(layer(x), before, atol=1e-3)


def test_weights_begin_as_the_authors_code_begins_them():
    torch.manual_seed(0)
    layer = AttentionLSTM(10, 16)
    limit = math.sqrt(6 / (10 + 64))
    assert 0.97 * limit < layer.kernel.abs().max() <= limit
    for weights in (
        layer.recurrent_kernel.T,  # (16, 64): orthonormal rows
        layer.attention_kernel.T,
        layer.attention_weights.T,
        layer.attention_recurrent_weights,
    ):
        product = (weights @ weights.T).detach()
        torch.testing.assert_close(product, torch.eye(len(product)), atol=1e-5, rtol=0)
    for weights in (layer.bias, layer.attention_bias, layer.attention_vector):
        assert not weights.any()
