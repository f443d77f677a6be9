"""Compute names and shapes of a network's tensors without building the network.

An untrusted model.json may describe a network that does not fit into memory, or that takes forever
to build. A test compares this with `lstmfcn.model.network`; docs/model-directory.md lists the
tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from lstmfcn.hyperparameters import Hyperparameters, NetworkName
from lstmfcn.model.input_view import window_size
from lstmfcn.model.layers import bottleneck_size

FLOATS, COUNTS = "F32", "I64"
"""Dtypes, as safetensors names them."""


class TensorShape(NamedTuple):
    """Dtype and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Size of the tensor in bytes."""
        n = 8 if self.dtype == COUNTS else 4
        for size in self.shape:
            n *= size
        return n


def expected_tensors(
    hyperparameters: Hyperparameters, n_timepoints: int, n_outputs: int, n_channels: int
) -> Iterator[tuple[str, TensorShape]]:
    """Yield name, dtype and shape of each tensor of a network, or of an ensemble's members in turn.

    The caller may stop at the first tensor that differs; there may be very many.
    """
    members = hyperparameters.split_into_members()
    for k, member in enumerate(members):
        prefix = f"members.{k}." if len(members) > 1 else ""
        for name, tensor in _network_tensors(member, n_timepoints, n_outputs, n_channels):
            yield prefix + name, tensor


def _network_tensors(
    params: Hyperparameters, n_timepoints: int, n_outputs: int, n_channels: int
) -> Iterator[tuple[str, TensorShape]]:
    network = params.resolve_network(n_channels)
    window = window_size(n_timepoints) if params.single_view == "coarse" else 1
    n_seen = -(-n_timepoints // window)
    if params.single_view == "differences":
        yield from _batch_norm("view.batch_norm", n_channels)
    n_features = n_seen if n_seen > n_channels else n_channels
    yield from _lstm(params, n_features, attends=network in ("alstm-fcn", "malstm-fcn"))
    yield from _convolutions(params, n_channels, network)
    yield from _floats(
        "head", weight=(n_outputs, params.hidden_size + params.filters_3), bias=(n_outputs,)
    )


def _lstm(
    params: Hyperparameters, n_features: int, attends: bool
) -> Iterator[tuple[str, TensorShape]]:
    hidden, gates = params.hidden_size, 4 * params.hidden_size
    for layer in range(params.num_layers):
        n_in = hidden if layer else n_features
        name = f"lstm.layers.{layer}"
        if attends:
            yield from _floats(
                name,
                kernel=(gates, n_in),
                recurrent_kernel=(gates, hidden),
                attention_kernel=(gates, n_in),
                attention_weights=(hidden, n_in),
                attention_recurrent_weights=(hidden, hidden),
                bias=(gates,),
                attention_bias=(hidden,),
                attention_vector=(1, hidden),
            )
        else:
            yield from _floats(
                name,
                weight_ih_l0=(gates, n_in),
                weight_hh_l0=(gates, hidden),
                bias_ih_l0=(gates,),
                bias_hh_l0=(gates,),
            )


def _convolutions(
    params: Hyperparameters, n_channels: int, network: NetworkName
) -> Iterator[tuple[str, TensorShape]]:
    filters = (n_channels, params.filters_1, params.filters_2, params.filters_3)
    kernels = (params.kernel_size_1, params.kernel_size_2, params.kernel_size_3)
    for block, ((n_in, n_out), kernel) in enumerate(zip(pairwise(filters), kernels, strict=True)):
        name = f"fcn.blocks.{block}"
        yield from _floats(f"{name}.convolution", weight=(n_out, n_in, 1, kernel), bias=(n_out,))
        yield from _batch_norm(f"{name}.batch_norm", n_out)
        if network in ("mlstm-fcn", "malstm-fcn") and block < 2:
            between = bottleneck_size(n_out)
            yield from _floats(f"{name}.squeeze_excite.squeeze", weight=(between, n_out))
            yield from _floats(f"{name}.squeeze_excite.excite", weight=(n_out, between))


def _batch_norm(name: str, n: int) -> Iterator[tuple[str, TensorShape]]:
    yield from _floats(name, weight=(n,), bias=(n,), running_mean=(n,), running_var=(n,))
    yield f"{name}.num_batches_tracked", TensorShape(COUNTS, ())


def _floats(name: str, **shapes: tuple[int, ...]) -> Iterator[tuple[str, TensorShape]]:
    for part, shape in shapes.items():
        yield f"{name}.{part}", TensorShape(FLOATS, shape)
