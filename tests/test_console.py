import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lstmfcn

REPOSITORY = Path(lstmfcn.__file__).parents[1]

TRAINING = """
import logging, time
from lstmfcn.training.progress import Progress
from lstmfcn.console import OutputMode, configure_output, print_result, print_status

configure_output(OutputMode(quiet={quiet}, as_json={as_json}))
with print_status("starting"):
    time.sleep(0.2)
with Progress(epochs=2) as progress:
    for epoch in (1, 2):
        figures = {{"train_loss": 0.5, "train_accuracy": 0.5}}
        progress.show({{"epoch": epoch, "rows_per_second": 9.0, "seconds": 1.0, **figures}})
        logging.getLogger().info("a worker was lost in " + 12 * "a long folder/")
        time.sleep(0.2)
logging.getLogger().warning("a warning")
print_result("best: epoch 2", epoch=2)
"""


def make_program(**mode):
    text = TRAINING.format(**{"quiet": False, "as_json": False} | mode)
    return [sys.executable, "-c", text]


def on_a_terminal(command, **environment):
    """Run a command on a terminal with 80 columns; return what is shown."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(REPOSITORY)
        os.execvpe(command[0], command, os.environ | {"TERM": "xterm-256color"} | environment)
    shown = b""
    while True:
        try:
            shown += (part := os.read(terminal, 4096))
        except OSError:  # Linux says so at the end
            break
        if not part:
            break
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0, shown
    return shown.decode()


def in_a_pipe(command):
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.splitlines(), done.stderr.splitlines()


EPOCH = "epoch: 1 train_loss: 0.50000000 train_accuracy: 0.50000000 (9 rows/s, 1 s left)"


@pytest.mark.slow
def test_a_pipe_gets_only_lines():
    stdout, stderr = in_a_pipe(make_program())
    assert stdout[0] == EPOCH
    assert [line.split()[0] for line in stdout] == ["epoch:", "epoch:", "best:"]
    lost = "a worker was lost in " + 12 * "a long folder/"
    assert stderr == ["starting", lost, lost, "a warning"]


@pytest.mark.slow
def test_quiet_leaves_the_result_and_warnings():
    assert in_a_pipe(make_program(quiet=True)) == (["best: epoch 2"], ["a warning"])


@pytest.mark.slow
def test_json_is_one_object_on_stdout_and_progress_goes_to_stderr():
    (line,), stderr = in_a_pipe(make_program(as_json=True))
    assert json.loads(line) == {"epoch": 2}
    assert EPOCH in stderr


@pytest.mark.slow
def test_on_a_terminal_whole_lines_appear_above_a_bar_in_colours():
    shown = on_a_terminal(make_program())
    assert "\x1b[?25l" in shown  # the cursor is hidden, and is there again at the end
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert re.search(r"\x1b\[[0-9;]*m", shown)
    assert EPOCH in shown  # no line end within it, where 80 columns would have one
    assert "a worker was lost in " + 12 * "a long folder/" in shown
    assert "━" in shown
    assert shown.rstrip().endswith("best: epoch 2")


@pytest.mark.slow
def test_no_color_takes_the_colours_away():
    shown = on_a_terminal(make_program(), NO_COLOR="1")
    assert "━" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", shown)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [{}, {"quiet": True}])
def test_a_dumb_terminal_and_a_quiet_command_have_no_bar(mode):
    shown = on_a_terminal(make_program(**mode), **({} if mode else {"TERM": "dumb"}))
    assert "\x1b" not in shown
    assert "━" not in shown
    assert (EPOCH in shown) is not bool(mode)


WAITING = """
import time
from lstmfcn.signals import graceful_interrupts
try:
    with graceful_interrupts():
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            print("stopping", flush=True)
            time.sleep(60)
finally:
    print("never", flush=True)
"""


@pytest.mark.slow
def test_the_second_ctrl_c_ends_a_command_at_once():
    command = ["env", "--default-signal=INT", sys.executable, "-c", WAITING]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in ("ready\n", "stopping\n"):
            assert process.stdout.readline() == line
            process.send_signal(signal.SIGINT)
        rest, stderr = process.communicate(timeout=20)
    assert (process.returncode, rest, stderr) == (130, "", "lstmfcn: stopped at once\n")


NASTY = "a\x1b[31mb\x9b2Jc\rd\u202ee\u2066f\x07g\x7fh\u2028i"
TAMED = r"a\x1b[31mb\x9b2Jc\rd\u202ee\u2066f\x07g\x7fh\u2028i"

TELLING = """
import logging
from lstmfcn.console import OutputMode, configure_output, print_progress, print_result, print_status
from lstmfcn.console import show_all_characters
show_all_characters()
configure_output(OutputMode())
name = {name!r}
logging.getLogger().warning("log %s", name)
print_progress("progress " + name)
with print_status("stage " + name + "[red]"):
    pass
print_result("result " + name)
"""


def test_control_characters_of_names_are_escaped_in_all_that_is_printed():
    command = [sys.executable, "-c", TELLING.format(name=NASTY)]
    stdout, stderr = in_a_pipe(command)
    assert stdout == [f"progress {TAMED}", f"result {TAMED}"]
    assert stderr == [f"log {TAMED}", f"stage {TAMED}[red]"]
    shown = on_a_terminal(command)
    for line in (f"log {TAMED}", f"progress {TAMED}", f"result {TAMED}"):
        assert line in shown
    for control in ("\x1b[31mb", "\x9b", "\u202e", "\u2066", "\x07"):
        assert control not in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_names_that_stdout_cannot_encode_are_escaped(encoding):
    command = [sys.executable, "-c", TELLING.format(name="größe-日本-🐁")]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    name = "größe-日本-🐁".encode(encoding, "backslashreplace")
    assert done.stdout.split(b"\n") == [b"progress " + name, b"result " + name, b""]
    assert b"log " + name in done.stderr


def test_matplotlib_does_not_log_about_its_fonts():
    text = "from lstmfcn.console import OutputMode, configure_output; import logging; "
    text += "configure_output(OutputMode()); "
    text += 'logging.getLogger("matplotlib.font_manager").info("generated new fontManager")'
    assert in_a_pipe([sys.executable, "-c", text]) == ([], [])
