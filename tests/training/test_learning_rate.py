import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.training.optim import learning_rate


def rates(schedule, epochs, lr=0.01):
    hyperparameters = Hyperparameters(schedule=schedule, epochs=epochs, lr=lr)
    return [learning_rate(hyperparameters, [1.0] * done) for done in range(epochs)]


def test_constant():
    assert rates("constant", 3) == [0.01] * 3


@given(st.integers(2, 300), st.floats(1e-5, 1.0))
def test_cosine_falls_from_lr(epochs, lr):
    found = rates("cosine", epochs, lr)
    assert found[0] == lr
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < lr


@given(st.integers(8, 400), st.floats(1e-5, 1.0))
def test_one_cycle_rises_to_lr_in_a_quarter_and_falls_to_nothing(epochs, lr):
    found = rates("one-cycle", epochs, lr)
    top = found.index(max(found))
    assert found[0] == pytest.approx(lr / 25)
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert abs(top - epochs / 4) <= 1
    assert 0.9 * lr < max(found) <= lr * (1 + 1e-12)
    assert found[-1] < lr * (3 / epochs) ** 2 * 2.5


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([1.0, 0.99995, 0.9, 0.5, 2.0]), max_size=40),
    st.integers(0, 1200),
    st.floats(1e-5, 1e-2),
)
def test_plateau_is_the_one_that_torch_has(losses, more, lr):
    losses = losses + [1.5] * more
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=lr)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=2 ** (-1 / 3), patience=99, threshold=1e-4, threshold_mode="abs",
        min_lr=min(lr, 1e-4), eps=0,
    )  # fmt: skip
    for loss in losses:
        theirs.step(loss)
    hyperparameters = Hyperparameters(schedule="plateau", lr=lr, epochs=10_000)
    assert learning_rate(hyperparameters, losses) == pytest.approx(optimizer.param_groups[0]["lr"])
