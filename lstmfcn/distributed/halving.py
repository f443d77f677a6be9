"""Which trials of a sweep go on at a milestone: asynchronous successive halving (ASHA).

Li et al. (2020), "A System for Massively Parallel Hyperparameter Tuning", MLSys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from lstmfcn.distributed.trial_plan import NUMBER
from lstmfcn.distributed.tune import SweepRequest
from lstmfcn.metrics_file import read_metrics
from lstmfcn.run_folder import METRICS
from lstmfcn.sweep import Trial, trial_folder
from lstmfcn.training_state import deciding_loss

_REDUCTION = 3
"""A third of the trials goes on at each milestone; the paper suggests 3 or 4."""


class _Ended(NamedTuple):
    """What the scheduler asks of a trial."""

    trial_id: str
    config: Mapping[str, Any] = {}


class _Sparing(ASHAScheduler):
    """Lets the first trial, of the defaults, end: it is what the best one is compared with."""

    def on_trial_result(
        self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        action: str = super().on_trial_result(tune_controller, trial, result)
        return self.CONTINUE if trial.config.get(NUMBER) == 1 else action


def milestones(request: SweepRequest) -> list[int]:
    """The epochs after which ASHA decides: a ninth and a third of the most that a trial has."""
    if request.sweep.scheduler == "none":
        return []
    most = request.space.largest("epochs", request.inputs.record.hyperparameters.epochs)
    first = max(1, round(most / _REDUCTION**2))
    return [epoch for epoch in (first, first * _REDUCTION) if epoch < most]


def scheduler_of(request: SweepRequest, ended: Iterable[Trial]) -> TrialScheduler:
    """What decides, knowing what trials that ended before had reached at the milestones."""
    decisive = milestones(request)
    if not decisive:
        return FIFOScheduler()
    scheduler = (_Sparing if request.sweep.defaults_first else ASHAScheduler)(
        time_attr="epoch",
        metric=request.objective.metric,
        mode=request.objective.mode,
        max_t=_REDUCTION * decisive[-1] - 1,
        grace_period=decisive[0],
        reduction_factor=_REDUCTION,
        stop_last_trials=False,
    )
    for trial in ended:
        _tell(scheduler, request, trial, decisive)
    return scheduler


def _tell(
    scheduler: ASHAScheduler, request: SweepRequest, trial: Trial, decisive: list[int]
) -> None:
    """Report the milestones of a trial as it reported them itself."""
    path = trial_folder(request.folder, trial.number) / METRICS
    history = read_metrics(path) if path.exists() else []
    known, metric = cast(TuneTrial, _Ended(f"ended-{trial.number}")), request.objective.metric
    scheduler.on_trial_add(None, known)
    for epoch in decisive:
        if epoch <= len(history):
            best = min(history[:epoch], key=deciding_loss)
            scheduler.on_trial_result(None, known, {"epoch": epoch, metric: best[metric]})
    scheduler.on_trial_remove(None, known)
