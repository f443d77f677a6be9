from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.data.synthetic import CLASSES, N_TIMEPOINTS, cylinder_bell_funnel

SEEDS = st.integers(0, 2**32 - 1)
quickly = settings(max_examples=30, database=None)


@cache
def large_sample():
    """Draw 10,000 rows of each class."""
    values, names = cylinder_bell_funnel(30_000, seed=0)
    return {name: values[names == name] for name in CLASSES}


def published_mean(name):
    """The mean of each timepoint over all a and b - a; eta and epsilon have the mean 0."""
    t = np.arange(1, 129)
    curves = []
    for a in range(16, 33):
        for b in range(a + 32, a + 97):
            shape = {
                "cylinder": np.ones(128),
                "bell": (t - a) / (b - a),
                "funnel": (b - t) / (b - a),
            }
            curves.append(np.where((t >= a) & (t <= b), 6 * shape[name], 0))
    return np.mean(curves, axis=0)


@quickly
@given(n_rows=st.integers(1, 60), seed=SEEDS)
def test_rows_have_128_finite_points_and_classes_in_balance(n_rows, seed):
    values, names = cylinder_bell_funnel(n_rows, seed)
    assert values.shape == (n_rows, N_TIMEPOINTS) == (n_rows, 128)
    assert names.shape == (n_rows,)
    assert np.isfinite(values).all()
    counts = Counter(names.tolist())
    assert set(counts) <= set(CLASSES) == {"cylinder", "bell", "funnel"}
    assert max(counts[name] for name in CLASSES) - min(counts[name] for name in CLASSES) <= 1


@quickly
@given(seed=SEEDS)
def test_a_seed_gives_the_same_rows_and_another_seed_others(seed):
    values, names = cylinder_bell_funnel(9, seed)
    again, names_again = cylinder_bell_funnel(9, seed)
    others, _ = cylinder_bell_funnel(9, seed + 1)
    assert np.array_equal(values, again)
    assert np.array_equal(names, names_again)
    assert not np.array_equal(values, others)


def test_rows_are_shuffled():
    _, names = cylinder_bell_funnel(300, seed=1)
    assert names.tolist() != [CLASSES[i % 3] for i in range(300)]
    assert names.tolist() != sorted(names.tolist())


@pytest.mark.parametrize("name", CLASSES)
def test_the_first_15_points_are_standard_normal_noise(name):
    before = large_sample()[name][:, :15]
    assert before.mean() == pytest.approx(0, abs=0.01)
    assert before.std() == pytest.approx(1, abs=0.01)
    assert ((before > -1) & (before < 1)).mean() == pytest.approx(0.6827, abs=0.005)
    correlations = np.corrcoef(before, rowvar=False) - np.eye(15)
    assert abs(correlations).max() < 0.05


@pytest.mark.parametrize("name", CLASSES)
def test_every_timepoint_has_the_published_mean(name):
    assert large_sample()[name].mean(axis=0) == pytest.approx(published_mean(name), abs=0.15)


@pytest.mark.parametrize(("name", "area"), [("cylinder", 390), ("bell", 195), ("funnel", 195)])
def test_the_plateau_includes_both_ends(name, area):
    # 6 times the mean of b - a + 1, which is 65; half of it under a ramp.
    assert large_sample()[name].sum(axis=1).mean() == pytest.approx(area, abs=4)


def test_a_cylinder_has_height_6_plus_a_standard_normal():
    inside = large_sample()["cylinder"][:, 32:48]  # every [a, b] holds t = 33..48
    heights = inside.mean(axis=1)
    assert heights.mean() == pytest.approx(6, abs=0.05)
    assert heights.std() == pytest.approx(np.sqrt(1 + 1 / 16), abs=0.03)
    assert (inside - heights[:, None]).std() == pytest.approx(np.sqrt(15 / 16), abs=0.02)


def test_a_bell_rises_a_funnel_falls_and_a_cylinder_is_level():
    rise = {
        name: (rows[:, 40:48].mean(axis=1) - rows[:, 32:40].mean(axis=1)).mean()
        for name, rows in large_sample().items()
    }
    # 8 steps of 6 / (b - a)
    expected = 8 * 6 * np.mean([1 / length for length in range(32, 97)])
    assert rise["bell"] == pytest.approx(expected, abs=0.05)
    assert rise["funnel"] == pytest.approx(-expected, abs=0.05)
    assert rise["cylinder"] == pytest.approx(0, abs=0.05)
