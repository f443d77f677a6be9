"""Workers and their CPUs, shared out to fit the machines; machines that are too small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.distributed.capacity import Node, capacity, max_cpus_per_worker
from lstmfcn.distributed.requests import Resources, resolve_resources
from lstmfcn.distributed.worker import refusing_memory_errors
from lstmfcn.errors import ResourceError


@given(
    there=st.lists(st.builds(Node, st.integers(0, 16), st.integers(0, 4)), max_size=4),
    num_workers=st.integers(1, 12),
    gpus=st.integers(0, 1),
)
def test_each_worker_gets_the_most_cpus_with_which_all_fit_on_the_machines(
    there, num_workers, gpus
):
    each = max_cpus_per_worker(there, num_workers, gpus)
    if capacity(there, 1, gpus) >= num_workers:
        assert capacity(there, each, gpus) >= num_workers
        assert capacity(there, each + 1, gpus) < num_workers
    else:
        assert each == 1


@pytest.mark.parametrize(
    ("there", "members", "cpus"),
    [
        ([Node(16, 1)], 6, 16),  # one at a time, on the only GPU
        ([Node(16, 2), Node(8, 2)], 6, 4),
        ([Node(16, 0)], 6, 2),
        ([Node(4, 0)], 6, 1),
    ],
)
def test_members_share_out_the_cpus_of_those_that_train_at_a_time(there, members, cpus):
    assert resolve_resources(there, Resources(), members).cpus_per_worker == cpus


def test_a_worker_never_spans_two_machines():
    assert max_cpus_per_worker([Node(4, 0), Node(4, 0)], 1) == 4
    assert max_cpus_per_worker([Node(4, 0), Node(4, 0)], 3) == 2
    assert capacity([Node(8, 1), Node(8, 2)], 2, gpus=1) == 3


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 16.00 TiB.\nSee documentation",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "[enforce fail at alloc_cpu.cpp:126] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_a_device_or_machine_without_memory_is_a_lack_of_resources(message):
    with pytest.raises(ResourceError) as refusal, refusing_memory_errors():
        raise RuntimeError(message)
    assert str(refusal.value).startswith(f"out of memory in a worker ({message.splitlines()[0]})")
