"""What of the cluster a training takes; what is not there is refused."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from lstmfcn.counts import number
from lstmfcn.distributed.runtime import Node, may_grow_to, most_cpus_each, places
from lstmfcn.distributed.train import Resources
from lstmfcn.errors import ResourceError

_SHARE_OF_OBJECT_STORE = 0.5
"""Rows in memory lie in the object store of each machine, beside what is being read."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Allotment:
    """What of the cluster a training takes; of an ensemble, each of its members.

    Attributes:
        min_workers: the fewest that training goes on with where others were lost.
    """

    num_workers: int
    min_workers: int
    cpus_per_worker: int
    use_gpu: bool

    @property
    def device(self) -> str:
        """Where PyTorch computes in each worker."""
        return "cuda" if self.use_gpu else "cpu"


def allot(there: list[Node], wanted: Resources, members: int = 1) -> Allotment:
    """Settle what was left open.

    A worker takes a GPU where there are any, and by default all CPUs of a machine: on two, one
    worker of two threads trained 0.98 to 2.5 times as fast as two workers of one, and 1.3 to 1.6
    times as fast as one of one but for tiny nets on tiny sets (benchmarks/train.py, workers).
    Members of an ensemble share the CPUs out among them, as many as there are at a time.

    Raises:
        ResourceError: the cluster has not what is asked for.
    """
    use_gpu = any(node.gpus for node in there) if wanted.use_gpu is None else wanted.use_gpu
    gpus, num_workers = int(use_gpu), wanted.num_workers
    if members > 1 and num_workers > 1:
        raise ResourceError(
            f"--num-workers {num_workers}: each of the {members} members is trained by one "
            "worker, several of them at a time; leave the flag out"
        )
    at_once = max(num_workers, min(members, places(there, 1, gpus)))
    each = wanted.cpus_per_worker or most_cpus_each(there, at_once, gpus)
    fewest = num_workers if wanted.min_workers is None else wanted.min_workers
    if fewest > num_workers:
        raise ResourceError(f"--min-workers {fewest} is more than --num-workers {num_workers}")
    if places(there, each, gpus) >= num_workers:
        return Allotment(num_workers, fewest, each, use_gpu)
    if not may_grow_to(each * num_workers, gpus * num_workers):
        raise ResourceError(_does_not_fit(there, num_workers, each, gpus))
    logger.info(
        "the machines that are up do not hold %s; asking for more", number(num_workers, "worker")
    )
    return Allotment(num_workers, fewest, each, use_gpu)


def _does_not_fit(there: list[Node], num_workers: int, cpus: int, gpus: int) -> str:
    has = (f"{number(node.cpus, 'CPU')} and {number(node.gpus, 'GPU')}" for node in there)
    return (
        f"{number(num_workers, 'worker')} of {number(cpus, 'CPU')}{' and a GPU' if gpus else ''} "
        f"{'does' if num_workers == 1 else 'do'} not fit the cluster's machines "
        f"({', '.join(has)}); lower --num-workers or --cpus-per-worker"
        + (", or add --no-use-gpu" if gpus else "")
    )


def members_at_once(there: list[Node], allotment: Allotment, members: int) -> int:
    """How many members of an ensemble are trained at a time; 1 while the cluster has to grow."""
    room = places(there, allotment.cpus_per_worker, int(allotment.use_gpu))
    return max(1, min(room, members))


def memory_bytes(there: list[Node], wanted: Resources) -> int:
    """The most that all rows may take in memory: by default half of the least object store."""
    if wanted.memory_gb is not None:
        return int(wanted.memory_gb * 1e9)
    return int(_SHARE_OF_OBJECT_STORE * min(node.object_store_bytes for node in there))
