"""Where a trial begins in its process: before PyTorch is imported.

Ray Tune takes a process for started once it has imported this. Where that takes longer than a trial
does, Tune gives every trial that waits for a process of its own to the first that is free again,
ends the one that was starting, and runs one trial at a time for ever
(ray/tune/execution/tune_controller.py, ``_maybe_reuse_cached_actor``).
"""

from __future__ import annotations

import gc
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from lstmfcn.distributed.trial_plan import TrialPlan


def start_trial(config: dict[str, Any], plan: TrialPlan) -> None:
    """Run one trial, as `run_trial` does."""
    _imported()(config, plan)


@cache
def _imported() -> Callable[[dict[str, Any], TrialPlan], None]:
    """What needs PyTorch, imported once in this process."""
    from lstmfcn.distributed.trial import run_trial

    gc.freeze()  # else this process looks through all of PyTorch before it ends, for 0.6 s
    return run_trial
