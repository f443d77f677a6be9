"""The functions that a GPU replays, on the CPU: all but the capture itself."""

import copy
import logging

import pytest
import torch
from torch import nn

from lstmfcn.model.layers import BatchNorm
from lstmfcn.model.replay import GraphedFunction, graphed
from lstmfcn.training import loop
from lstmfcn.training.batches import EvaluationLoader, make_loader
from lstmfcn.training.loop import fit
from lstmfcn.training.state import TrainState
from tests.helpers.small_models import (
    KINDS,
    tiny_hyperparameters,
    tiny_network,
    tiny_rows,
    tiny_task,
)

CPU = torch.device("cpu")


def run_thrice(run, _):
    """What stands for a capture: the runs that warm up, and then the run itself at each replay."""
    random = torch.get_rng_state()
    for _ in range(3):
        run()
    torch.set_rng_state(random)
    return run


def replayed(function, device=CPU, name="it", state=tuple):
    assert device == CPU
    return GraphedFunction(function, name, state, run_thrice)


def count_on_device(norm, x, mask=None):
    return norm._train_without_host(x, mask) if norm.training else nn.BatchNorm2d.forward(norm, x)


def test_on_a_cpu_the_function_stays_itself():
    assert graphed(torch.add, CPU, "adding") is torch.add


def test_each_shape_and_number_is_captured_once_and_computed_from_what_is_given():
    captured = []

    def capture(run, pool):
        captured.append(pool)
        return run

    add = GraphedFunction(lambda x, n: x.sum() + n, "adding", tuple, capture)
    given = [(torch.ones(2), 1), (torch.ones(3), 1), (torch.ones(2), 2), (torch.full((2,), 5.0), 1)]
    assert [float(add(x, n)) for x, n in given] == [3, 4, 4, 11]
    assert len(captured) == 3
    assert len(set(captured)) == 1  # they share their memory


def test_the_runs_before_a_capture_leave_the_state_as_it_was():
    total = torch.zeros(())
    add = replayed(lambda x: total.add_(x.sum()), state=lambda: [total])
    for expected in (2, 4, 6):
        assert float(add(torch.ones(2))) == expected


def test_what_cannot_be_captured_is_computed_as_it_is_and_told_once(caplog):
    total = torch.zeros(())

    def refuse(run, _):
        run()
        raise RuntimeError("operation not permitted when stream is capturing\nsecond line")

    add = GraphedFunction(lambda x: total.add_(x.sum()), "the sum", lambda: [total], refuse)
    with caplog.at_level(logging.WARNING):
        results = [float(add(torch.ones(n))) for n in (2, 3, 2)]
    assert results == [2, 5, 7]
    assert caplog.messages == [
        "the sum cannot be captured as a CUDA graph (operation not permitted when stream is "
        "capturing); it runs several times slower"
    ]


def test_what_has_no_memory_for_a_graph_is_computed_without():
    def refuse(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    add = GraphedFunction(torch.sum, "the sum", tuple, refuse)
    assert float(add(torch.ones(2))) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_replayed_training_is_the_training_bit_for_bit(kind, monkeypatch):
    """Also of a last batch that is smaller than the others, with dropout and validation."""
    monkeypatch.setattr(BatchNorm, "forward", count_on_device)
    expected = fitted(kind)
    monkeypatch.setattr(loop, "graphed", replayed)
    found = fitted(kind)
    assert found[1] == expected[1]
    for name, tensor in expected[0].items():
        assert torch.equal(found[0][name], tensor), name


def fitted(kind):
    """The weights, and the losses of all epochs."""
    h = tiny_hyperparameters(kind, dropout=0.5, batch_size=7, epochs=4, weight_decay=0.01)
    torch.manual_seed(0)
    training = TrainState(tiny_network(kind, dropout=0.5), h.lr, weight_decay=0.01)
    history = []
    batches = make_loader(tiny_rows(kind), h.batch_size, 0)
    validation = EvaluationLoader(tiny_rows(kind, seed=1))
    fit(training, tiny_task(kind), batches, validation, h, history.append)
    losses = [(metrics["train_loss"], metrics["valid_loss"]) for metrics in history]
    return copy.deepcopy(training.model.state_dict()), losses


@pytest.mark.parametrize("masked", [False, True])
def test_batch_norm_that_counts_on_the_device_is_the_one_that_counts_on_the_host(masked):
    torch.manual_seed(0)
    here, there = BatchNorm(3, 0.2), BatchNorm(3, 0.2)
    mask = (torch.rand(6, 1, 1, 5) > 0.3).float() if masked else None
    for _ in range(8):  # beyond 1 / 0.2 batches, where the momentum stops to fall
        x = torch.randn(6, 3, 1, 5)
        expected, found = here(x, mask), there._train_without_host(x, mask)
        torch.testing.assert_close(found, expected)
    for name, tensor in here.state_dict().items():
        torch.testing.assert_close(there.state_dict()[name], tensor)
    assert int(there.num_batches_tracked) == 8
