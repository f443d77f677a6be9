import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.channels import channels_of, value_names
from lstmfcn.errors import DataError


@given(st.integers(1, 12), st.integers(1, 12))
def test_names_are_read_as_they_were_given(n_channels, n_timepoints):
    names = value_names(n_channels, n_timepoints)
    assert len(set(names)) == n_channels * n_timepoints
    assert channels_of(names) == (n_channels, tuple(names))


@given(st.integers(2, 5), st.integers(1, 5), st.randoms())
def test_in_any_order_a_channel_stands_after_the_other(n_channels, n_timepoints, random):
    names = value_names(n_channels, n_timepoints)
    random.shuffle(names)
    found = channels_of(names)
    assert found.n_channels == n_channels
    assert sorted(found.columns) == sorted(names)
    channels = [found.columns[i : i + n_timepoints] for i in range(0, len(names), n_timepoints)]
    places = [[name[1:].split("_") for name in channel] for channel in channels]
    order = list(dict.fromkeys(name[1:].split("_")[0] for name in names))
    assert [{c for c, _ in channel} for channel in places] == [{c} for c in order]
    assert len({tuple(t for _, t in channel) for channel in places}) == 1
    first = [name for name in names if name.startswith(f"x{order[0]}_")]
    assert list(channels[0]) == first


@pytest.mark.parametrize(
    "header", ["x_2,x_1", "x1,x2", "x3_1,x3_0", "x", "x1_a,x2_a", "x1_1_1,x2_1_1", "x-1_1"]
)
def test_other_names_are_one_channel_in_their_order(header):
    names = header.split(",")
    assert channels_of(names) == (1, tuple(names))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("x1_1,x1_2,x2_1", "found channel 2 without x2_2, which channel 1 has; give every channel "
         "the same timepoints"),
        ("x1_1,x2_1,x2_2,x2_3", "found channel 1 without x1_2 and 1 more, which channel 2 has; "
         "give every channel the same timepoints"),
        ("x1_1,x2_01", "found channel 2 without x2_1, which channel 1 has; give every channel the "
         "same timepoints"),
        ("x1_1,x2_1,x_3", "found the column x_3 beside x1_1; name all values x1_1, x1_2, ... "
         "(channel, timepoint), or all of one channel x_1, x_2"),
    ],
)  # fmt: skip
def test_channels_that_do_not_fit_together_are_refused(header, message):
    with pytest.raises(DataError) as refusal:
        channels_of(header.split(","), "a.csv")
    assert str(refusal.value) == f"a.csv: {message}"
