import threading
import time

import pytest

from lstmfcn.signals import in_thread


def test_work_comes_to_its_result_or_its_error():
    assert in_thread(lambda: 3).result(timeout=5) == 3
    with pytest.raises(ZeroDivisionError):
        in_thread(lambda: 1 / 0).result(timeout=5)


def test_work_that_is_abandoned_ends_even_where_it_survives_every_error():
    begun = threading.Event()

    def stubborn():
        while True:
            try:
                begun.set()
                time.sleep(0.01)
            except Exception:  # as a controller does that tries again
                continue

    work = in_thread(stubborn)
    assert begun.wait(5)
    work.abandon()
    with pytest.raises(SystemExit):
        work.result(timeout=5)
    work.abandon()  # of no consequence any more
