"""What networks see of series."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.model.input_view import InputView, differences, window_size
from lstmfcn.model.network import LSTMFCN, Ensemble, build_network
from lstmfcn.training.in_memory import train_arrays
from tests.helpers.small_models import (
    N_TIMEPOINTS,
    tiny_hyperparameters,
    tiny_network,
    trained_looking,
)

NAN = float("nan")


def test_differences_begin_with_nothing():
    x = torch.tensor([[[1.0, 4.0, 9.0], [2.0, 2.0, 1.0]]])
    assert differences(x).tolist() == [[[0.0, 3.0, 5.0], [0.0, 0.0, -1.0]]]


def test_a_difference_with_a_gap_on_either_side_is_missing_in_its_channel():
    x = torch.tensor([[[1.0, NAN, 9.0, 9.5], [2.0, NAN, NAN, 3.0]]])
    view = InputView("differences", 2, 4, masks=True, batch_norm_momentum=0.1).eval()
    found, mask = view(x)
    assert found.tolist() == [[[0.0, 0.0, 0.0, pytest.approx(0.5, rel=1e-3)], [0.0] * 4]]
    assert mask.flatten().tolist() == [1.0, 0.0, 0.0, 1.0]


@given(
    n_timepoints=st.integers(1, 200),
    n_channels=st.integers(1, 3),
    gaps=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_a_coarse_view_has_the_means_of_what_is_there(n_timepoints, n_channels, gaps, seed):
    random = np.random.default_rng(seed)
    x = random.standard_normal((5, n_channels, n_timepoints)).astype(np.float32)
    x[random.random(x.shape) < gaps] = np.nan
    view = InputView("coarse", n_channels, n_timepoints, masks=True, batch_norm_momentum=0.1)
    found, mask = view(torch.from_numpy(x))
    assert found.shape == (5, n_channels, view.n_seen)
    for start in range(0, n_timepoints, view.window):
        window = x[:, :, start : start + view.window]
        there = ~np.isnan(window)
        sums, counts = np.where(there, window, 0).sum(axis=2), there.sum(axis=2)
        seen = start // view.window
        np.testing.assert_allclose(found[:, :, seen], sums / np.maximum(counts, 1), atol=1e-6)
        assert np.array_equal(mask[:, 0, 0, seen], counts.any(axis=1))


@given(st.integers(1, 200), st.floats(0, 0.9), st.integers(0, 99))
@settings(max_examples=60)
def test_what_a_mean_has_is_shared_by_the_timepoints_that_it_is_of(n_timepoints, gaps, seed):
    random = np.random.default_rng(seed)
    x = random.standard_normal((5, 2, n_timepoints)).astype(np.float32)
    missing = torch.from_numpy(random.random((5, n_timepoints)) < gaps)
    x[missing[:, None].expand(x.shape).numpy()] = np.nan
    view = InputView("coarse", 2, n_timepoints, masks=True, batch_norm_momentum=0.1)
    _, mask = view(torch.from_numpy(x))
    terms = torch.randn(5, 3, view.n_seen) * mask[:, :, 0]
    spread = view.spread(terms, torch.from_numpy(x))
    assert spread.shape == (5, 3, n_timepoints)
    assert not spread[missing[:, None].expand(spread.shape)].any()
    torch.testing.assert_close(spread.sum(dim=2), terms.sum(dim=2), atol=1e-5, rtol=1e-5)
    for row, start in np.ndindex(5, view.n_seen):
        window = slice(start * view.window, (start + 1) * view.window)
        shares = spread[row, :, window][:, ~missing[row, window]]
        assert (shares == shares[:, :1]).all()


def test_short_series_are_seen_whole():
    assert [window_size(n) for n in (1, 24, 47, 48, 95, 96, 1000)] == [1, 1, 1, 2, 3, 4, 4]


@pytest.mark.slow
@given(st.floats(-100, 100), st.integers(1, 4), st.booleans())
@settings(max_examples=30)
def test_only_a_network_that_sees_values_sees_their_level(level, n_channels, training):
    x = torch.randn(8, N_TIMEPOINTS, generator=torch.Generator().manual_seed(0)).double()
    for view in ("series", "differences"):
        network = trained_looking(tiny_network(n_channels=n_channels, view=view, dropout=0.0))
        network.double().train(training)
        moved = (network(x) - network(x + level)).abs().max()
        assert moved < 1e-6 if view == "differences" else moved > 1e-4 or abs(level) < 1


def test_views_begin_with_the_same_weights_and_steps_on_a_scale_of_their_own():
    values, differences = (tiny_network(view=view) for view in ("series", "differences"))
    state = differences.state_dict()
    for name, tensor in values.state_dict().items():
        assert torch.equal(tensor, state.pop(name))
    assert {name.split(".")[0] for name in state} == {"view"}
    x = torch.randn(64, N_TIMEPOINTS).cumsum(dim=1) * 1000
    found, _ = differences.train().view(x[:, None])
    assert found.mean().abs() < 1e-5
    assert 0.99 < found.std() < 1.01


def test_an_ensembles_members_are_those_of_its_views():
    network = build_network(tiny_hyperparameters(members=4, view="all"), 100, 3)
    assert isinstance(network, Ensemble)
    views = [member.view for member in network.members]
    assert [view.batch_norm is not None for view in views] == [False, True, False, False]
    assert [view.n_seen for view in views] == [100, 100, 25, 100]


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["refuse", "mask"])
def test_what_differs_by_its_steps_alone_is_learned_by_differences(missing):
    """Series of one shape at random levels, whose only difference is the sign of one step."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 2
    x = 100 * torch.randn(120, 1, generator=random).expand(120, N_TIMEPOINTS).clone()
    x[torch.arange(120), torch.randint(1, 11, (120,), generator=random)] += 2.0 * labels - 1
    h = tiny_hyperparameters(epochs=60, view="differences", missing=missing, lr=0.02)
    artifact = train_arrays((x.numpy(), labels.numpy().astype(str)), h)
    assert artifact.metrics["train_accuracy"] == 1.0


@pytest.mark.slow
def test_a_slow_wave_in_noise_is_learned_from_its_means():
    """Waves longer than the kernels reach at a timepoint, but not at four times as many."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % 2
    starts = random.uniform(0, 2 * np.pi, (120, 1))
    waves = np.sin(starts + 2 * np.pi * np.arange(100) / np.where(labels, 40, 80)[:, None])
    x = (waves + random.standard_normal((120, 100))).astype(np.float32)
    losses = {}
    for view in ("series", "coarse"):
        h = tiny_hyperparameters(epochs=30, view=view)
        losses[view] = train_arrays((x, labels.astype(str)), h).metrics["train_loss"]
    assert losses["coarse"] < losses["series"]


def test_a_network_of_differences_is_not_loaded_as_one_of_values():
    differences = tiny_network(view="differences").state_dict()
    with pytest.raises(RuntimeError, match=r"view\.batch_norm"):
        LSTMFCN(tiny_hyperparameters(), N_TIMEPOINTS, 3).load_state_dict(differences)
