import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.signals import end_now, graceful_interrupts, map_in_order


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


@given(st.integers(0, 12), st.integers(1, 4), st.integers(0, 14), st.integers(0, 14))
def test_results_come_in_order_and_the_first_fault_after_those_before_it(n, threads, bad, torn):
    """A fault of the function at one item, or of the items themselves, whichever comes first."""
    begun = []

    def items():
        for i in range(n):
            if i == torn:
                raise EOFError
            begun.append(i)
            yield i

    def square(i):
        time.sleep(0.0003 * (n - i))  # the first take longest
        if i == bad:
            raise ValueError(i)
        return i * i

    found, fault = [], None
    try:
        for result in map_in_order(square, items(), threads):
            assert len(begun) <= len(found) + threads + 1
            found.append(result)
    except (ValueError, EOFError) as error:
        fault = type(error)
    first = min(bad, torn)
    assert found == [i * i for i in range(min(n, first))]
    assert fault == (None if first >= n else EOFError if torn <= bad else ValueError)
