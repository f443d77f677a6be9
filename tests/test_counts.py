import pytest

from lstmfcn.counts import number, size


@pytest.mark.parametrize(
    ("n_bytes", "told"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (4320, "4.32 kB"), (102_400, "102 kB"),
     (230_000, "230 kB"), (3.66e9, "3.66 GB"), (12_345_678, "12.3 MB"), (4.7e12, "4.7e+03 GB")],
)  # fmt: skip
def test_a_size_has_the_unit_that_fits(n_bytes, told):
    assert size(n_bytes) == told


def test_one_is_not_several():
    assert number(1, "worker") == "1 worker"
    assert number(1000, "worker") == "1,000 workers"
    assert number(2, "class", "classes") == "2 classes"
