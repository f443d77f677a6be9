"""The tensors that are computed are those of the networks that are built."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.network import build_network
from lstmfcn.model.weight_shapes import expected_tensors

SIZES = st.integers(1, 40)
NAMES = {"F32": torch.float32, "I64": torch.int64}


@settings(max_examples=60)
@given(
    network=st.sampled_from(["auto", "lstm-fcn", "alstm-fcn", "mlstm-fcn", "malstm-fcn"]),
    view=st.sampled_from(["series", "differences", "coarse", "all"]),
    members=st.integers(1, 4),
    num_layers=st.integers(1, 3),
    sizes=st.tuples(*[SIZES] * 4),
    kernels=st.tuples(*[st.integers(1, 5)] * 3),
    n_timepoints=st.integers(1, 120),
    n_outputs=st.integers(1, 5),
    n_channels=st.integers(1, 3),
)
def test_names_types_and_shapes_are_those_of_the_network(
    network, view, members, num_layers, sizes, kernels, n_timepoints, n_outputs, n_channels
):
    hyperparameters = Hyperparameters(
        network=network,
        view="series" if (view, members) == ("all", 1) else view,
        members=members,
        num_layers=num_layers,
        **dict(zip(("hidden_size", "filters_1", "filters_2", "filters_3"), sizes, strict=True)),
        **dict(zip(("kernel_size_1", "kernel_size_2", "kernel_size_3"), kernels, strict=True)),
    )
    arguments = hyperparameters, n_timepoints, n_outputs, n_channels
    built = build_network(*arguments).state_dict()
    found = {name: (NAMES[t.dtype], t.shape) for name, t in expected_tensors(*arguments)}
    assert found == {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in built.items()}
    assert all(
        tensor.n_bytes == built[name].numel() * built[name].element_size()
        for name, tensor in expected_tensors(*arguments)
    )


@pytest.mark.parametrize(
    "sizes", [{"num_layers": 10**9}, {"hidden_size": 10**30}, {"filters_1": 10**9, "members": 100}]
)
def test_a_network_that_no_memory_holds_is_described_at_once(sizes):
    first = list(itertools.islice(expected_tensors(Hyperparameters(**sizes), 100, 3, 1), 5))
    assert first[0][0].endswith("lstm.layers.0.weight_ih_l0")
