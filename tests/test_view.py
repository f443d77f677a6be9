"""What networks see of series."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import (
    N_TIMEPOINTS,
    tiny_hyperparameters,
    tiny_network,
    trained_looking,
)

from lstmfcn.model import LSTMFCN, Ensemble, network_of
from lstmfcn.train_arrays import train_arrays
from lstmfcn.view import seen

NAN = float("nan")


def test_differences_begin_with_nothing():
    x = torch.tensor([[[1.0, 4.0, 9.0], [2.0, 2.0, 1.0]]])
    found, mask = seen(x, differences=True, masks=False)
    assert found.tolist() == [[[0.0, 3.0, 5.0], [0.0, 0.0, -1.0]]]
    assert mask is None


def test_a_difference_with_a_gap_on_either_side_is_missing_in_its_channel():
    x = torch.tensor([[[1.0, NAN, 9.0, 9.5], [2.0, NAN, NAN, 3.0]]])
    found, mask = seen(x, differences=True, masks=True)
    assert found.tolist() == [[[0.0, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]]]
    assert mask.flatten().tolist() == [1.0, 0.0, 0.0, 1.0]


@given(st.floats(-100, 100), st.integers(1, 4), st.booleans())
@settings(deadline=None, max_examples=30)
def test_only_a_network_that_sees_values_sees_their_level(level, n_channels, training):
    x = torch.randn(8, N_TIMEPOINTS, generator=torch.Generator().manual_seed(0)).double()
    for view in ("series", "differences"):
        network = trained_looking(tiny_network(n_channels=n_channels, view=view, dropout=0.0))
        network.double().train(training)
        moved = (network(x) - network(x + level)).abs().max()
        assert moved < 1e-6 if view == "differences" else moved > 1e-4 or abs(level) < 1


def test_both_views_begin_with_the_same_weights_and_steps_on_a_scale_of_their_own():
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
    network = network_of(tiny_hyperparameters(members=3, view="both"), N_TIMEPOINTS, 3)
    assert isinstance(network, Ensemble)
    assert [member.view.batch_norm is not None for member in network.members] == [
        False,
        True,
        False,
    ]


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


def test_a_network_of_differences_is_not_loaded_as_one_of_values():
    differences = tiny_network(view="differences").state_dict()
    with pytest.raises(RuntimeError, match=r"view\.batch_norm"):
        LSTMFCN(tiny_hyperparameters(), N_TIMEPOINTS, 3).load_state_dict(differences)
