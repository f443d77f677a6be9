import numpy as np
import pytest

from lstmfcn.convert.series import find_step, parse_times
from lstmfcn.errors import DataError


@pytest.mark.parametrize(
    ("texts", "times"),
    [
        (["1", "2.5", "-3"], [1, 2.5, -3]),
        (["t1", "t10"], [1, 10]),
        (["x-1", "x-2"], [-1, -2]),
        (["2026-01-01", "2026-01-02 00:00:30"], [1767225600, 1767312030]),
        (["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"], [1767225600, 1767225600]),
        ([], []),
    ],
)
def test_times_are_numbers_dates_or_a_word_before_numbers(texts, times):
    assert parse_times(texts, "a.csv").tolist() == times


@pytest.mark.parametrize("texts", [["a", "b"], ["1", ""], ["2026-01-01", "5"], ["a1", "b2"]])
def test_other_times_are_refused(texts):
    with pytest.raises(DataError, match="found the times"):
        parse_times(texts, "a.csv")


@pytest.mark.parametrize(
    ("times", "step"),
    [
        ([0, 1, 2], 1),
        ([0, 0.999, 2.001], 1.0005),
        ([5], 0),
        ([], 0),
        ([0, 1, 3], None),
        ([0, 1.02, 2], None),
        ([2, 1], None),
        ([1, 1], None),
        ([0, np.inf, np.inf], None),
        ([np.nan, 1], None),
    ],
)
def test_a_step_is_one_for_all_times_but_for_jitter(times, step):
    assert find_step(np.array(times, float)) == (None if step is None else pytest.approx(step))
