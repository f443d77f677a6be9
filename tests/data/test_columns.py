import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.data.columns import (
    names_without_numbers,
    parse_channels,
    timepoints_out_of_order,
    value_names,
)
from lstmfcn.errors import DataError

RENAME = (
    "rename columns that are not values (names that start with x are values), or name all "
    "values x_1, x_2, ... or x1_1, x1_2, ... (channel, timepoint)"
)
ONE = "; name the columns of a single channel x_1, x_2, ...; rename columns that are not values"


@given(st.integers(1, 12), st.integers(1, 12))
def test_names_are_read_as_they_were_given(n_channels, n_timepoints):
    names = value_names(n_channels, n_timepoints)
    assert len(set(names)) == n_channels * n_timepoints
    assert parse_channels(names) == (n_channels, tuple(names))


@given(st.integers(2, 5), st.integers(1, 5), st.randoms())
def test_columns_in_any_order_give_one_channel_after_the_other(n_channels, n_timepoints, random):
    names = value_names(n_channels, n_timepoints)
    random.shuffle(names)
    found = parse_channels(names)
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
    "header", ["x_2,x_1", "x1,x2", "x3_1,x3_0", "x", "x1_a,x2_a", "x_acc_1,x_acc_2", "x-1_1"]
)
def test_other_names_are_one_channel_in_their_order(header):
    names = header.split(",")
    assert parse_channels(names) == (1, tuple(names))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("x1_1,x1_2,x2_1", "found channel 2 without x2_2, which channel 1 has; give all channels "
         f"the same timepoints{ONE}"),
        ("x1_1,x2_1,x2_2,x2_3", "found channel 1 without x1_2 and 1 more, which channel 2 has; "
         f"give all channels the same timepoints{ONE}"),
        ("x1_1,x2_01", "found channel 2 without x2_1, which channel 1 has; give all channels the "
         f"same timepoints{ONE}"),
        ("x1_1,x2_1,x_3", f"found the column x_3 beside x1_1, x2_1; {RENAME}"),
        ("xid,x_1,x_2", f"found the column xid beside x_1, x_2; {RENAME}"),
        ("xmin,xmax,x_1", f"found the column xmin, xmax beside x_1; {RENAME}"),
        ("x_1,x_2,xmin,x_mean", f"found the column xmin, x_mean beside x_1, x_2; {RENAME}"),
        ("x_1,x_2,x_3,x2021", f"found the column x2021 beside x_1, x_2, x_3; {RENAME}"),
        ("x_a_1,x_b_1,x_a_2", "found channel b without x_b_2, which channel a has; give all "
         f"channels the same timepoints{ONE}"),
        ("x_2020_1,x_2021_1,x_2021_2", "found channel 2020 without x_2020_2, which channel 2021 "
         f"has; give all channels the same timepoints{ONE}"),
    ],
)  # fmt: skip
def test_channels_that_do_not_fit_together_are_refused(header, message):
    with pytest.raises(DataError) as refusal:
        parse_channels(header.split(","), "a.csv")
    assert str(refusal.value) == f"a.csv: {message}"


@pytest.mark.parametrize("name", ["x_{}_{}", "x{}_{}", "x_{}{}", "x.{}.{}", "x_{}-{}", "x {} {}"])
@pytest.mark.parametrize("channels", [["acc", "gyr"], ["left_a", "b", "ä"], ["1a", "2b"]])
def test_channels_may_have_any_names(name, channels):
    names = [name.format(channel, t) for t in (1, 2, 10) for channel in channels]
    found = parse_channels(names)
    assert found.n_channels == len(channels)
    assert found.columns == tuple(name.format(c, t) for c in channels for t in (1, 2, 10))


def test_numbered_channels_may_have_a_separator_before_their_number():
    assert parse_channels(["x_1_1", "x_2_1", "x_1_2", "x_2_2"]) == (
        2,
        ("x_1_1", "x_1_2", "x_2_1", "x_2_2"),
    )
    assert parse_channels(["x1_1_1", "x2_1_1"]).n_channels == 2


@pytest.mark.parametrize(
    "header",
    [
        "x_0.0,x_0.5,x_1.0,x_1.5",
        "x1.1,x1.2,x2.1",
        "x_-1,x_0,x_1",
        "x_1,x_1.1",
        "x.1,x.2",
        "x_01,x_02",
    ],
)
def test_fractions_and_signs_belong_to_the_timepoint(header):
    names = header.split(",")
    assert parse_channels(names) == (1, tuple(names))
    assert timepoints_out_of_order(names) is None


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("x_1,x_10,x_11,x_2", ("x_11", "x_2")),
        ("x3,x2,x1", ("x3", "x2")),
        ("x1_1,x1_2,x2_1,x2_2", None),
        ("x_acc_1,x_acc_10,x_acc_2,x_gyr_1,x_gyr_10,x_gyr_2", ("x_acc_10", "x_acc_2")),
        ("x_b,x_a", None),
    ],
)
def test_decreasing_timepoints_are_found(header, found):
    assert timepoints_out_of_order(header.split(",")) == found


@given(st.lists(st.integers(0, 200), min_size=1, unique=True))
def test_sorted_timepoints_are_in_order_and_others_are_not(times):
    rising = [f"x_{t}" for t in sorted(times)]
    assert timepoints_out_of_order(rising) is None
    names = [f"x_{t}" for t in times]
    assert (timepoints_out_of_order(names) is None) == (times == sorted(times))


def test_names_without_timepoint_are_listed():
    assert names_without_numbers(["x_a", "x_b"]) == ["x_a", "x_b"]
    assert names_without_numbers(["x"]) == []
    assert names_without_numbers(["x_1", "x_2"]) == []


@given(st.text(alphabet="x1a_.-0", max_size=12).map("x".__add__))
def test_any_single_name_is_one_channel(name):
    assert parse_channels([name]) == (1, (name,))
