"""A trial on several workers, or on GPUs: Ray Train inside it, whose epochs it passes on."""

from __future__ import annotations

import time

import ray
from ray import tune

from lstmfcn.checkpoints import Checkpoints
from lstmfcn.distributed.allotment import Allotment
from lstmfcn.distributed.background import in_thread
from lstmfcn.distributed.prepare import Prepared, PreparedRefs
from lstmfcn.distributed.trainer import train_until_done
from lstmfcn.distributed.training_run import TrainedOn, TrainingRun, artifact_of
from lstmfcn.distributed.trial_plan import TrialPlan, report_of
from lstmfcn.metrics_file import read_metrics
from lstmfcn.run_folder import CHECKPOINTS, METRICS, MODEL
from lstmfcn.scratch import scratch_folder

_LOOK_EVERY_S = 0.5


def train_on_workers(
    run: TrainingRun, data: PreparedRefs, plan: TrialPlan, allotment: Allotment
) -> None:
    """Train as `lstmfcn train` does, and report until the end, or until Ray Tune stops the trial.

    Raises:
        LstmfcnError: what the training ended with.
    """
    run.stop_file.unlink(missing_ok=True)  # of a sweep that was interrupted
    prepared: Prepared = ray.get(data.prepared)
    relay = _Relay(run, prepared, plan, allotment)
    with scratch_folder() as storage:
        training = in_thread(lambda: train_until_done(run, data, allotment, storage))
        try:
            while not training.done():
                time.sleep(_LOOK_EVERY_S)
                relay.look()
        except SystemExit:  # Ray Tune has heard enough
            run.stop_file.touch()
            training.exception()
            run.stop_file.unlink(missing_ok=True)
            raise
        training.result()  # raises what it ended with
    relay.look(ended=True)


class _Relay:
    """Reports what the newest checkpoint holds, whose best weights it saves as a model first.

    Nobody else saves the trial's model: two at a time would replace the folder under each other.
    """

    def __init__(
        self, run: TrainingRun, prepared: Prepared, plan: TrialPlan, allotment: Allotment
    ) -> None:
        self._run, self._prepared, self._plan = run, prepared, plan
        self._allotment, self._reported = allotment, 0

    def look(self, *, ended: bool = False) -> None:
        """Report, where there is an epoch more; the last one when the training has ended."""
        found = Checkpoints(self._run.output / CHECKPOINTS).newest()
        if found is None:
            return
        (epoch, _), state = found
        finished = epoch == self._run.hyperparameters.epochs
        if epoch <= self._reported or (finished and not ended):
            return
        allotment = self._allotment
        trained_on = TrainedOn(allotment.num_workers, allotment.device, state["precision"])
        artifact = artifact_of(
            self._run, self._prepared, state["best_weights"], state["best"], trained_on
        )
        artifact.save(self._run.output / MODEL)
        self._reported = epoch
        history = read_metrics(self._run.output / METRICS)[:epoch]
        tune.report(report_of(history, state["best"], self._plan, finished=finished))
