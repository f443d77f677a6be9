"""Commands in a terminal, where Ctrl-C is typed."""

import os
import pty
import re
import signal
import sys
import threading
from contextlib import contextmanager

from tests.helpers.checkout import REPOSITORY
from tests.helpers.killing import wait_until

CTRL_C = b"\x03"


class Terminal:
    """A command in a terminal of its own, as `python -m lstmfcn`.

    Args:
        cluster: the Ray that it uses; None if its process is to work alone.
        arguments: the words of the command.
    """

    def __init__(self, cluster, *arguments):
        environment = {name: v for name, v in os.environ.items() if name != "RAY_ADDRESS"}
        environment |= {"TERM": "xterm"} | ({"RAY_ADDRESS": cluster} if cluster else {})
        words = [sys.executable, "-m", "lstmfcn", *map(str, arguments)]
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.chdir(REPOSITORY)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background job's children ignore it
            os.execve(sys.executable, words, environment)
        self.shown = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        while True:
            try:
                part = os.read(self._terminal, 65536)
            except OSError:  # Linux says so at the end
                return
            if not part:
                return
            self.shown += part.decode(errors="replace")

    def shows(self, text):
        wait_until(lambda: text in self.shown, f"{text} in {self.shown}", 120)

    def interrupt(self):
        os.write(self._terminal, CTRL_C)

    def exit_code(self):
        def ended():
            pid, status = os.waitpid(self._process, os.WNOHANG)
            return (status,) if pid else None

        (status,) = wait_until(ended, "the end of the command", 60)
        self._reader.join()
        os.close(self._terminal)
        self._process = None
        return os.waitstatus_to_exitcode(status)

    def kill(self):
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)


@contextmanager
def terminals(cluster=None):
    """Yields a function that starts a command in a terminal; those that still run are killed."""
    started = []

    def start(*arguments):
        started.append(Terminal(cluster, *arguments))
        return started[-1]

    yield start
    for terminal in started:
        terminal.kill()


def last_line(shown):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).strip().splitlines()[-1].strip()
