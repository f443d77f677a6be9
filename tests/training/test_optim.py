import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.network import LSTMFCN
from lstmfcn.training.optim import EPSILON, Adam

STEP_AND_LIST_COMPILER = """
import sys
import torch
from lstmfcn.training.optim import Adam
parameter = torch.nn.Parameter(torch.ones(3))
parameter.sum().backward()
Adam([parameter], 0.1).step()
print([name for name in sys.modules if name.startswith("torch._dynamo")])
"""


def net():
    torch.manual_seed(0)
    h = Hyperparameters(hidden_size=4, filters_1=3, filters_2=4, filters_3=3)
    return LSTMFCN(h, 12, 3).eval()


def train(model, optimizer, first, last):
    for step in range(first, last):
        optimizer.zero_grad()
        x = torch.randn(6, 12, generator=torch.Generator().manual_seed(step))
        model(x).square().sum().backward()
        optimizer.step()


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@settings(max_examples=25)
@given(lr=st.floats(1e-5, 0.1), weight_decay=st.floats(1e-4, 1.0), steps=st.integers(1, 8))
def test_weights_decay_as_by_torchs_adamw_and_vectors_do_not(lr, weight_decay, steps):
    ours, theirs = net(), net()
    train(ours, Adam(ours.parameters(), lr, weight_decay), 0, steps)
    decaying = [p for p in theirs.parameters() if p.ndim > 1]
    others = [p for p in theirs.parameters() if p.ndim == 1]
    groups = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
    train(theirs, torch.optim.AdamW(groups, lr, eps=EPSILON, weight_decay=weight_decay), 0, steps)
    torch.testing.assert_close(weights(ours), weights(theirs))


@settings(max_examples=25)
@given(lr=st.floats(1e-5, 1.0), steps=st.integers(1, 8))
def test_it_gives_what_torch_gives_bit_for_bit(lr, steps):
    ours, theirs = net(), net()
    train(ours, Adam(ours.parameters(), lr), 0, steps)
    fused = torch.optim.Adam(theirs.parameters(), lr=lr, eps=EPSILON, fused=True)
    train(theirs, fused, 0, steps)
    assert torch.equal(weights(ours), weights(theirs))


def test_it_goes_on_from_its_state():
    whole, parted = net(), net()
    train(whole, Adam(whole.parameters(), 0.01), 0, 9)
    first = Adam(parted.parameters(), 0.01)
    train(parted, first, 0, 4)
    second = Adam(parted.parameters(), 0.01)
    second.load_state_dict(first.state_dict())
    train(parted, second, 4, 9)
    assert torch.equal(weights(whole), weights(parted))


@pytest.mark.slow
def test_it_does_not_import_the_compiler():
    done = subprocess.run(
        [sys.executable, "-c", STEP_AND_LIST_COMPILER], capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr
