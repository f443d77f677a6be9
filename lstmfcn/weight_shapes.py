"""The tensors of a network, by name: computed, so that no network need be built to know them.

A model that a stranger hands over may describe a network that no memory holds, or one whose mere
construction never ends. Tests hold these equal to `lstmfcn.model`.

Names and shapes are those of docs/model-directory.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from lstmfcn.hyperparameters import Hyperparameters, NetworkName
from lstmfcn.squeeze_excite import n_between
from lstmfcn.view import window_of

FLOATS, COUNTS = "F32", "I64"
"""Types of tensors, as safetensors names them."""


class Tensor(NamedTuple):
    """What a file holds under a name: type and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """How long it is."""
        n = 8 if self.dtype == COUNTS else 4
        for size in self.shape:
            n *= size
        return n


def tensors_of(
    hyperparameters: Hyperparameters, n_timepoints: int, n_outputs: int, n_channels: int
) -> Iterator[tuple[str, Tensor]]:
    """Name, type and shape of each tensor of a network, of an ensemble member after member.

    They come one by one, so that whoever compares them may stop at the first that differs.
    """
    members = hyperparameters.of_members()
    for k, member in enumerate(members):
        prefix = f"members.{k}." if len(members) > 1 else ""
        for name, tensor in _of_one(member, n_timepoints, n_outputs, n_channels):
            yield prefix + name, tensor


def _of_one(
    h: Hyperparameters, n_timepoints: int, n_outputs: int, n_channels: int
) -> Iterator[tuple[str, Tensor]]:
    network = h.network_for(n_channels)
    window = window_of(n_timepoints) if h.view_of_one == "coarse" else 1
    n_seen = -(-n_timepoints // window)
    if h.view_of_one == "differences":
        yield from _batch_norm("view.batch_norm", n_channels)
    n_features = n_seen if n_seen > n_channels else n_channels
    yield from _lstm(h, n_features, attends=network in ("alstm-fcn", "malstm-fcn"))
    yield from _convolutions(h, n_channels, network)
    yield from _floats("head", weight=(n_outputs, h.hidden_size + h.filters_3), bias=(n_outputs,))


def _lstm(h: Hyperparameters, n_features: int, attends: bool) -> Iterator[tuple[str, Tensor]]:
    hidden, gates = h.hidden_size, 4 * h.hidden_size
    for layer in range(h.num_layers):
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
    h: Hyperparameters, n_channels: int, network: NetworkName
) -> Iterator[tuple[str, Tensor]]:
    filters = (n_channels, h.filters_1, h.filters_2, h.filters_3)
    kernels = (h.kernel_size_1, h.kernel_size_2, h.kernel_size_3)
    for block, ((n_in, n_out), kernel) in enumerate(zip(pairwise(filters), kernels, strict=True)):
        name = f"fcn.blocks.{block}"
        yield from _floats(f"{name}.convolution", weight=(n_out, n_in, 1, kernel), bias=(n_out,))
        yield from _batch_norm(f"{name}.batch_norm", n_out)
        if network in ("mlstm-fcn", "malstm-fcn") and block < 2:
            between = n_between(n_out)
            yield from _floats(f"{name}.squeeze_excite.squeeze", weight=(between, n_out))
            yield from _floats(f"{name}.squeeze_excite.excite", weight=(n_out, between))


def _batch_norm(name: str, n: int) -> Iterator[tuple[str, Tensor]]:
    yield from _floats(name, weight=(n,), bias=(n,), running_mean=(n,), running_var=(n,))
    yield f"{name}.num_batches_tracked", Tensor(COUNTS, ())


def _floats(name: str, **shapes: tuple[int, ...]) -> Iterator[tuple[str, Tensor]]:
    for part, shape in shapes.items():
        yield f"{name}.{part}", Tensor(FLOATS, shape)
