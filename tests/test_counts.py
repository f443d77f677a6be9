import pytest

from lstmfcn.counts import number, size


@pytest.mark.parametrize(
    ("n", "told"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1234567, "1,234,567 rows")]
)
def test_one_is_singular(n, told):
    assert number(n, "row") == told


@pytest.mark.parametrize(
    ("n_bytes", "told"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (230_400, "230 kB"),
        (999_700, "1 MB"), (1_540_000, "1.54 MB"), (4e9, "4 GB"), (2.5e12, "2,500 GB"),
    ],
)  # fmt: skip
def test_bytes_are_told_in_a_unit_that_suits_them(n_bytes, told):
    assert size(n_bytes) == told
