"""The most memory of its own that each process of a Ray has had."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

_LOOK_EVERY_S = 0.2
_ANONYMOUS = re.compile(r"RssAnon:\s+(\d+) kB")


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Peaks in MB by kind of process, while this block runs.

    Counted is memory of its own (RssAnon): what lies in the object store is shared, and capped.
    """
    session = Path(ray._private.worker._global_node.get_session_dir_path()).name
    peaks: dict[str, float] = {}
    finished = threading.Event()

    def look() -> None:
        while not finished.wait(_LOOK_EVERY_S):
            for process in Path("/proc").glob("[0-9]*"):
                _note(process, session, peaks)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        finished.set()
        watcher.join()


def _note(process: Path, session: str, peaks: dict[str, float]) -> None:
    try:
        title = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        found = _ANONYMOUS.search((process / "status").read_text())
        log = str((process / "fd" / "1").readlink())
    except (OSError, UnicodeDecodeError):
        return
    ours = "jobs/train.py" in title or (title.startswith("ray::") and session in log)
    if ours and found:
        name = "the driver" if "jobs/train.py" in title else title.split("(")[0]
        peaks[name] = max(peaks.get(name, 0.0), int(found[1]) / 1000)
