"""Where the process of a trial begins: before PyTorch is imported.

For Ray Tune a process has started once it has imported this module. If that took longer than a
trial, Tune would give each waiting trial's place to the first process that is free again, end the
process that was starting, and run one trial at a time for ever
(ray/tune/execution/tune_controller.py, ``_maybe_reuse_cached_actor``).
"""

from __future__ import annotations

import gc
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from lstmfcn.distributed.trial import SweepContext


def start_trial(config: dict[str, Any], context: SweepContext) -> None:
    """Run one trial, as `run_trial` does."""
    _import_run_trial()(config, context)


@cache
def _import_run_trial() -> Callable[[dict[str, Any], SweepContext], None]:
    """Import what needs PyTorch, once in this process."""
    from lstmfcn.distributed.trial import run_trial

    gc.freeze()  # without it the collector looks through PyTorch for 0.6 s before the process ends
    return run_trial
