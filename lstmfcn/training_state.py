"""All that changes while a model is trained."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from lstmfcn.adam import Adam
from lstmfcn.batches import Taken
from lstmfcn.checkpoints import Checkpoints, Position, State
from lstmfcn.errors import StoppedError
from lstmfcn.hyperparameters import PrecisionName
from lstmfcn.metrics_file import EpochMetrics
from lstmfcn.workers import OneWorker, Workers

logger = logging.getLogger(__name__)


class Training:
    """All that changes while a model is trained, and how it is written to a checkpoint.

    Args:
        model: on its device already.
        lr: learning rate to begin with.
        workers: who trains along; nobody by default.
        weight_decay: of the optimiser.

    Attributes:
        position: epochs done, and steps done in the one after them.
        taken: what of the epoch that is not done these steps have trained on.
        sums: this worker's totals over these steps.
        seconds: time spent on these steps.
        losses: train_loss of the epochs done.
        best: metrics of the epoch with the least loss so far; empty before the first.
        best_weights: its weights, on the CPU.
        precision: in which it is trained, once that has begun.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        workers: Workers | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        self.model, self.workers = model, workers or OneWorker()
        self.optimizer = Adam(model.parameters(), lr, weight_decay)
        self.device = next(model.parameters()).device
        self.position, self.taken = Position(), Taken()
        self.sums = torch.zeros(4, dtype=torch.float64, device=self.device)
        self.seconds = 0.0
        self.losses: list[float] = []
        self.best: EpochMetrics = {}
        self.best_weights: dict[str, Tensor] = {}
        self.precision: PrecisionName = "fp32"

    def finish_epoch(self, metrics: EpochMetrics) -> None:
        """Count the epoch, and keep its weights if its loss is the least."""
        self.position, self.taken = Position(self.position.epoch + 1), Taken()
        self.sums, self.seconds = torch.zeros_like(self.sums), 0.0
        self.losses.append(float(metrics["train_loss"]))
        if not self.best or deciding_loss(metrics) < deciding_loss(self.best):
            self.best = metrics
            weights = self.model.state_dict()
            if not self.best_weights:
                self.best_weights = {
                    name: torch.empty_like(tensor, device="cpu") for name, tensor in weights.items()
                }
            for name, tensor in weights.items():
                self.best_weights[name].copy_(tensor)

    def save(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint; every worker calls this, the first one writes.

        Raises:
            OutputError: it cannot be written.
            StoppedError: training is to stop; the checkpoint has been written.
        """
        buffers = self.workers.gather(self._buffers())
        sums = self.workers.add_up(self.sums.clone())
        if self.workers.rank == 0:
            state: State = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "buffers": buffers,
                "taken": tuple(self.taken),
                "sums": sums,
                "seconds": self.seconds,
                "losses": self.losses,
                "best": self.best,
                "best_weights": self.best_weights,
                "precision": self.precision,
            }
            checkpoints.save(self.position, state)
        self.stop_if_asked(checkpoints)

    def stop_if_asked(self, checkpoints: Checkpoints) -> None:
        """Every worker calls this, where there is nothing that a checkpoint does not have.

        Raises:
            StoppedError: training is to stop.
        """
        if self.workers.agree(checkpoints.stopped()):
            raise StoppedError(f"stopped after {self.position}", goes_on=True)

    def restore_newest(self, checkpoints: Checkpoints) -> None:
        """Go on from the newest checkpoint that is one of this network; from none, begin."""
        for position, state in checkpoints.whole():
            if fault := self._misfit(state):
                logger.warning(
                    "the checkpoint after %s is not of this training (%s); falling back to the "
                    "one before it",
                    position,
                    fault,
                )
                continue
            self.restore(position, state)
            return

    def restore(self, position: Position, state: State) -> None:
        """Go on from a checkpoint, which another number of workers may have written."""
        self.position, self.seconds = position, state["seconds"]
        self.losses = list(state["losses"])
        self.best, self.best_weights = state["best"], state["best_weights"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.workers.rank == 0:
            self.sums = state["sums"].to(self.device)
        buffers = state["buffers"]
        # an older checkpoint has counted the rows in its sums alone
        rows = int(state["sums"][3])
        self.taken = Taken(*state.get("taken", (rows, len(buffers) if rows else 0)))
        same = len(buffers) == self.workers.world_size
        self._set_buffers(buffers[self.workers.rank] if same else buffers.mean(dim=0))

    def _misfit(self, state: State) -> str:
        """Why a checkpoint's state is none of this training; empty where it is one."""
        own = self.model.state_dict()
        moments = self.optimizer.state_dict()
        optimizer = state.get("optimizer")
        if not isinstance(optimizer, dict) or not all(
            _alike(optimizer.get(name), tensors) for name, tensors in moments.items()
        ):
            return "its optimizer's state"
        best = state.get("best_weights")
        if not _alike(state.get("model"), own) or not (best == {} or _alike(best, own)):
            return "its weights"
        buffers, sums = state.get("buffers"), state.get("sums")
        if not _alike(sums, self.sums) or not isinstance(buffers, Tensor):
            return "its sums"
        if buffers.ndim != 2 or not len(buffers) or not _alike(buffers[0], self._buffers()):
            return "its statistics"
        kinds = {"seconds": float | int, "losses": list, "best": dict}
        return next(
            (name for name, kind in kinds.items() if not isinstance(state.get(name), kind)), ""
        )

    def _buffers(self) -> Tensor:
        """This worker's batch-norm statistics, (n,)."""
        floats = [buffer for buffer in self.model.buffers() if buffer.is_floating_point()]
        return torch.cat([buffer.flatten() for buffer in floats])

    def _set_buffers(self, numbers: Tensor) -> None:
        start = 0
        for buffer in self.model.buffers():
            if buffer.is_floating_point():
                part = numbers[start : start + buffer.numel()]
                buffer.copy_(part.reshape(buffer.shape))
                start += buffer.numel()


def deciding_loss(metrics: EpochMetrics) -> float:
    """The loss by which epochs are compared: valid_loss where there is one, else train_loss."""
    return float(metrics["valid_loss" if "valid_loss" in metrics else "train_loss"])


def _alike(found: object, own: object) -> bool:
    """Whether what was found has the structure, types and shapes of one's own."""
    if isinstance(own, Tensor):
        return isinstance(found, Tensor) and found.shape == own.shape and found.dtype == own.dtype
    if isinstance(own, dict):
        return (
            isinstance(found, dict)
            and found.keys() == own.keys()
            and all(_alike(found[name], part) for name, part in own.items())
        )
    return (
        isinstance(found, list)
        and isinstance(own, list)
        and len(found) == len(own)
        and all(map(_alike, found, own))
    )
