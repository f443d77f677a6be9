import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lstmfcn.data.scaler import Moments, Scaler

KINDS = ("global", "timestep", "series", "none")

FLOATS = st.floats(-1e6, 1e6, width=32)


def make_values(n_rows, n_timepoints, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n_rows, n_timepoints)) * 3 + offset).astype(np.float32)


def assert_same_moments(found, values):
    exact = values.astype(np.float64)
    assert (found.counts == len(exact)).all()
    scale = max(1.0, float(np.abs(exact).max()))
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-10, atol=1e-12 * scale)
    squares = exact.var(axis=0) * len(exact)
    np.testing.assert_allclose(found.squares, squares, rtol=1e-8, atol=1e-12 * scale**2)


@given(
    st.integers(1, 5).flatmap(
        lambda t: st.tuples(
            *(npst.arrays(np.float32, (n, t), elements=FLOATS) for n in (1, 4, 9)),
        )
    )
)
@settings(max_examples=60)
def test_merged_moments_are_those_of_one_pass(parts):
    first, second, third = (Moments.of(part) for part in parts)
    assert_same_moments(first.merge(second), np.concatenate(parts[:2]))
    assert_same_moments(first.merge(second).merge(third), np.concatenate(parts))
    assert_same_moments(first.merge(second.merge(third)), np.concatenate(parts))


def test_moments_of_more_rows_than_one_chunk():
    values = make_values(9001, 3, offset=1000.0)
    assert_same_moments(Moments.of(values), values)


def test_moments_keep_a_small_spread_around_a_large_mean():
    values = make_values(9001, 2, offset=2.0**20)
    variance = Moments.of(values).squares / 9001
    np.testing.assert_allclose(variance, values.astype(np.float64).var(axis=0), rtol=1e-9)


def test_global_scaling_uses_the_population_deviation_of_all_values():
    values = make_values(50, 7, offset=5.0)
    exact = values.astype(np.float64)
    scaler = Scaler.fit("global", values)
    assert scaler.mean == pytest.approx((exact.mean(),), rel=1e-12)
    assert scaler.std == pytest.approx((exact.std(),), rel=1e-12)
    expected = (exact - exact.mean()) / exact.std()
    np.testing.assert_allclose(scaler.transform(values), expected, atol=1e-5)


def test_global_scaling_counts_the_spread_between_timesteps():
    values = np.tile(np.array([[0.0, 10.0]], dtype=np.float32), (5, 1))
    scaler = Scaler.fit("global", values)
    assert (scaler.mean, scaler.std) == ((5.0,), (5.0,))


def test_timestep_scaling_uses_the_population_deviation_of_each_timestep():
    values = make_values(50, 7) * np.arange(1, 8, dtype=np.float32)
    exact = values.astype(np.float64)
    scaler = Scaler.fit("timestep", values)
    assert scaler.mean == pytest.approx(tuple(exact.mean(axis=0)), abs=1e-12)
    assert scaler.std == pytest.approx(tuple(exact.std(axis=0)), rel=1e-12)
    expected = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    np.testing.assert_allclose(scaler.transform(values), expected, atol=1e-5)


def test_series_scaling_uses_the_population_deviation_of_each_series():
    values = make_values(50, 7) * np.arange(1, 51, dtype=np.float32)[:, None]
    exact = values.astype(np.float64)
    scaler = Scaler.fit("series", values[:3])
    assert (scaler.mean, scaler.std) == ((), ())
    expected = (exact - exact.mean(axis=1, keepdims=True)) / exact.std(axis=1, keepdims=True)
    np.testing.assert_allclose(scaler.transform(values), expected, atol=1e-5)


def test_no_scaling_leaves_values_as_they_are():
    values = make_values(4, 3)
    scaler = Scaler.fit("none", values)
    assert (scaler.mean, scaler.std) == ((), ())
    np.testing.assert_array_equal(scaler.transform(values), values)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e6, 1e30])
@pytest.mark.parametrize("kind", ["global", "timestep", "series"])
def test_constants_are_centred_and_stay_finite(kind, constant):
    values = np.full((30, 7), constant, dtype=np.float32)
    np.testing.assert_array_equal(Scaler.fit(kind, values).transform(values), 0.0)


def test_a_constant_column_is_left_unscaled_beside_others():
    values = make_values(30, 3)
    values[:, 1] = 0.1
    scaler = Scaler.fit("timestep", values)
    assert scaler.std[1] == 1.0
    assert scaler.std[0] == pytest.approx(float(values[:, 0].astype(np.float64).std()))
    np.testing.assert_array_equal(scaler.transform(values)[:, 1], 0.0)


def test_a_constant_series_is_centred_beside_others():
    values = make_values(3, 8)
    values[1] = 0.1
    scaled = Scaler.fit("series", values).transform(values)
    np.testing.assert_array_equal(scaled[1], 0.0)
    np.testing.assert_allclose(scaled[[0, 2]].std(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_scaled_values_are_float32_and_the_input_is_untouched(kind):
    values = make_values(20, 5)
    before = values.copy()
    scaled = Scaler.fit(kind, values).transform(values)
    assert scaled.dtype == np.float32
    assert scaled.shape == values.shape
    np.testing.assert_array_equal(values, before)


def test_values_too_large_for_32_bits_overflow_without_a_warning():
    huge = np.array([[3e38, -3e38]], dtype=np.float32)
    scaled = Scaler(kind="global", mean=(1e38,), std=(1e-3,)).transform(huge)
    assert not np.isfinite(scaled).any()


@pytest.mark.parametrize("kind", ["global", "timestep"])
def test_statistics_do_not_depend_on_memory_order(kind):
    values = make_values(5000, 6, offset=3.0)
    wide = np.zeros((5000, 12), dtype=np.float32)
    wide[:, ::2] = values
    expected = Scaler.fit(kind, values)
    assert Scaler.fit(kind, np.asfortranarray(values)) == expected
    assert Scaler.fit(kind, wide[:, ::2]) == expected
    assert Scaler.fit(kind, values[::-1][::-1]) == expected


@pytest.mark.parametrize("kind", ["global", "timestep"])
@pytest.mark.parametrize("cuts", [[1], [4096], [2500, 7000], [100, 200, 9999]])
def test_statistics_do_not_depend_on_how_rows_lie_in_shards(kind, cuts):
    values = make_values(10000, 4, offset=3.0)
    joined = np.concatenate(np.split(values, cuts))
    assert Scaler.fit(kind, joined) == Scaler.fit(kind, values)
    merged = None
    for part in np.split(values, cuts):
        merged = Moments.of(part) if merged is None else merged.merge(Moments.of(part))
    assert_same_moments(merged, values)


@pytest.mark.parametrize("kind", ["global", "timestep"])
def test_values_that_are_equal_as_float32_are_constant(kind):
    values = np.array([[0.0], [1e-45]], dtype=np.float32)
    scaler = Scaler.fit(kind, values)
    assert scaler.std == (1.0,)
    np.testing.assert_allclose(scaler.transform(values), 0.0, atol=1e-30)


@given(npst.arrays(np.float32, (5, 3), elements=FLOATS), st.sampled_from(KINDS))
@settings(max_examples=60)
def test_a_scaler_survives_json_bit_for_bit(values, kind):
    scaler = Scaler.fit(kind, values)
    again = Scaler.model_validate_json(scaler.model_dump_json())
    assert again == scaler
    np.testing.assert_array_equal(again.transform(values), scaler.transform(values))
    assert np.isfinite(scaler.transform(values)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_channels", [1, 2, 5])
def test_channels_are_scaled_each_for_itself(kind, n_channels):
    channels = [make_values(40, 6, seed, offset=100.0 * seed) for seed in range(n_channels)]
    values = np.concatenate(channels, axis=1)
    scaler = Scaler.fit(kind, values, n_channels)
    apart = [Scaler.fit(kind, channel).transform(channel) for channel in channels]
    np.testing.assert_array_equal(scaler.transform(values), np.concatenate(apart, axis=1))
    again = Scaler.model_validate_json(scaler.model_dump_json())
    np.testing.assert_array_equal(again.transform(values), scaler.transform(values))
    assert scaler.transform(values[:0]).shape == (0, 6 * n_channels)


@pytest.mark.parametrize("kind", KINDS)
def test_how_rows_lie_in_memory_changes_no_bit(kind):
    values = make_values(50, 70, offset=3.0)
    scaler = Scaler.fit(kind, values)
    for rows in (np.asfortranarray(values), np.repeat(values, 2, axis=1)[:, ::2]):
        scaled = scaler.transform(rows)
        assert scaled.flags.c_contiguous
        np.testing.assert_array_equal(scaled, scaler.transform(values))
