import signal

import pytest

from lstmfcn.signals import end_now, graceful_interrupts


def test_the_resume_command_is_printed_inside_the_block_only(monkeypatch, capfd):
    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr("os._exit", end)
    with graceful_interrupts(lambda: "lstmfcn train --resume"), pytest.raises(SystemExit):
        end_now("Ray ended", 1)
    with pytest.raises(SystemExit):
        end_now("Ray ended", 1)
    assert capfd.readouterr().err.splitlines() == [
        "lstmfcn: Ray ended; resume with: lstmfcn train --resume",
        "lstmfcn: Ray ended",
    ]


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN])
def test_the_first_ctrl_c_stops_unless_it_is_ignored_and_the_handler_comes_back(before):
    was = signal.signal(signal.SIGINT, before)
    try:
        with graceful_interrupts():
            if before is signal.SIG_IGN:
                signal.raise_signal(signal.SIGINT)
            else:
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, was)
