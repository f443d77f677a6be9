import math

import numpy as np
import pytest
import torch

from lstmfcn.model.layers import SqueezeExcite


@pytest.mark.parametrize(("n_filters", "n_between"), [(128, 8), (256, 16), (20, 1), (4, 1)])
def test_filters_are_weighed_by_their_means(n_filters, n_between):
    torch.manual_seed(0)
    block = SqueezeExcite(n_filters)
    with torch.no_grad():
        block.squeeze.weight[0].abs_()  # one unit, at least, that its ReLU lets through
    squeeze, excite = (layer.weight.detach().numpy() for layer in (block.squeeze, block.excite))
    assert squeeze.shape == (n_between, n_filters)
    assert excite.shape == (n_filters, n_between)
    x = np.random.default_rng(0).random((3, n_filters, 1, 7)).astype(np.float32)
    means = x.mean(axis=(2, 3))
    weights = 1 / (1 + np.exp(-np.maximum(means @ squeeze.T, 0) @ excite.T))
    found = block(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, x * weights[:, :, None, None], rtol=1e-5)
    assert weights.std() > 1e-3


def test_it_has_no_biases():
    assert {name for name, _ in SqueezeExcite(32).named_parameters()} == {
        "squeeze.weight",
        "excite.weight",
    }


def test_weights_begin_he_normal_cut_at_two_deviations():
    torch.manual_seed(0)
    weights = SqueezeExcite(512).squeeze.weight.detach()
    std = math.sqrt(2 / 512)
    assert weights.std() == pytest.approx(std, rel=0.02)
    assert weights.abs().max() <= 2 * std / 0.8796
    assert weights.abs().max() > 1.95 * std / 0.8796
