"""Draw a sweep's plots in a process of its own, which begins with the sweep.

What the plots need takes longer to import (scikit-learn, for the importance) than a small sweep's
trials to run. So it is imported meanwhile, at a low priority, until somebody waits for it; and a
made-up sweep is drawn, for the first drawing takes twice as long as the next. Copies of this
process, which have all of it, then draw side by side.
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
    """Start the process; what this block asks it to draw is there when the block has ended.

    Yields:
        A function that begins to draw the plots of the sweep in a folder into it; call it once.

    Raises:
        RuntimeError: the process failed; its traceback is on stderr.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the sweep; this ends with it, as its pipe does
    )
    _share_cpu(process.pid, 19)
    asked = False

    def draw(folder: Path) -> None:
        nonlocal asked
        asked = True
        _share_cpu(process.pid, 0)
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it ended before: that is told below
            process.stdin.write(f"{folder}\n")
            process.stdin.flush()

    try:
        yield draw
        if asked and process.wait():
            raise RuntimeError(f"the plots' process ended with {process.returncode}")
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _main() -> None:
    os.nice(10)  # not less, for only root can take that back
    from lstmfcn.sweep import Objective, SweepLog
    from lstmfcn.sweep_plots import rehearse, sweep_plots
    from lstmfcn.sweep_record import SweepRecord

    if not select([sys.stdin], [], [], 0)[0]:
        rehearse()
    if line := sys.stdin.readline():
        folder = Path(line.removesuffix("\n"))
        record = SweepRecord.load(folder)
        assert record is not None
        sweep = (SweepLog(folder).trials, record.search_space(), Objective(record.metric))
        if not _side_by_side(sweep_plots(*sweep, folder)):
            os._exit(1)
    os._exit(0)  # Python would look through all that was imported once more, for half a second


def _side_by_side(plots: Sequence[Callable[[], None]]) -> bool:
    """Draw each in a copy of this process; whether all could be drawn, else stderr tells why."""
    fork = multiprocessing.get_context("fork")
    copies = [fork.Process(target=plot) for plot in plots]
    for copy in copies:
        copy.start()
    for copy in copies:
        copy.join()
    return not any(copy.exitcode for copy in copies)


def _share_cpu(pid: int, niceness: int) -> None:
    """Linux may divide the CPU among sessions first, and then by the niceness of processes."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


if __name__ == "__main__":
    _main()
