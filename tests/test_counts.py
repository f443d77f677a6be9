import pytest

from lstmfcn.console import format_bytes, pluralize


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1234567, "1,234,567 rows")]
)
def test_one_is_singular(n, text):
    assert pluralize(n, "row") == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (230_400, "230 kB"),
        (999_700, "1 MB"), (1_540_000, "1.54 MB"), (4e9, "4 GB"), (2.5e12, "2,500 GB"),
    ],
)  # fmt: skip
def test_bytes_are_written_in_a_suitable_unit(n_bytes, text):
    assert format_bytes(n_bytes) == text
