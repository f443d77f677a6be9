"""Draw a sweep's plots in a separate process, which starts with the sweep.

The imports of the plots (scikit-learn, for the importance) take longer than a small sweep. So this
process imports them during the sweep, at low priority, and draws a made-up sweep, because a first
drawing takes twice as long. At the end, forks of this process draw the plots in parallel.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select

Draw = Callable[[Path], None]


@contextmanager
def sweep_plotter() -> Iterator[Draw]:
    """Start the process; at the end of the block, the requested plots are drawn.

    Yields:
        A function that starts to draw the plots of the sweep in a folder; call it once.

    Raises:
        RuntimeError: the process failed; its traceback is on stderr.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches the sweep only; this process ends with its pipe
    )
    _share_cpu(process.pid, 19)
    is_requested = False

    def draw(folder: Path) -> None:
        nonlocal is_requested
        is_requested = True
        _share_cpu(process.pid, 0)
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended; the error is raised below
            process.stdin.write(f"{folder}\n")
            process.stdin.flush()

    try:
        yield draw
        if is_requested and process.wait():
            raise RuntimeError(
                f"the process that draws the plots ended with exit code {process.returncode}"
            )
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _main() -> None:
    os.nice(10)  # lowest that is useful; only root could undo it
    from lstmfcn.tuning.plots import list_plots, warm_up
    from lstmfcn.tuning.sweep import Objective, SweepConfig, SweepLog

    if not select([sys.stdin], [], [], 0)[0]:
        warm_up()
    if line := sys.stdin.readline():
        folder = Path(line.removesuffix("\n"))
        record = SweepConfig.load(folder)
        assert record is not None
        sweep = (SweepLog(folder).trials, record.search_space(), Objective(record.metric))
        if not _draw_in_parallel(list_plots(*sweep, folder)):
            os._exit(1)
    os._exit(0)  # skips the clean-up of Python, which takes half a second


def _draw_in_parallel(plots: Sequence[Callable[[], None]]) -> bool:
    """Draw each plot in a fork; returns whether all succeeded (else stderr has the reason)."""
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=plot) for plot in plots]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return not any(child.exitcode for child in children)


def _share_cpu(pid: int, niceness: int) -> None:
    """Set the niceness of the session, as Linux may divide the CPU among sessions first."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


if __name__ == "__main__":
    _main()
