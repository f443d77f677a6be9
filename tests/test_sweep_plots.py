import numpy as np
import pytest
from matplotlib.image import imread

from lstmfcn.search_space import SearchSpace
from lstmfcn.sweep import Objective, Trial
from lstmfcn.sweep_plots import IMPORTANCE, OBJECTIVE, SLICES, sweep_plots

SPACE = SearchSpace.parse(
    "lr: {loguniform: [0.001, 0.1]}\nfilters-1: {int: [3, 7]}\n"
    "schedule: {choice: [constant, cosine]}",
    "space",
)


def trials(n, objective=None):
    random = np.random.default_rng(0)
    return [
        Trial(
            number,
            {
                "lr": float(random.uniform(0.001, 0.1)),
                "filters_1": int(random.integers(3, 8)),
                "schedule": ["constant", "cosine"][number % 2],
            },
            "done",
            objective=objective or float(random.uniform()),
        )
        for number in range(1, n + 1)
    ]


def draw(*sweep):
    for plot in sweep_plots(*sweep):
        plot()


@pytest.mark.parametrize("metric", ["valid_accuracy", "valid_loss"])
def test_three_plots(tmp_path, metric):
    failed = Trial(13, {"lr": 0.01, "filters_1": 3, "schedule": "cosine"}, "failed")
    draw([*trials(12), failed], SPACE, Objective(metric), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {OBJECTIVE, SLICES, IMPORTANCE}
    for path in tmp_path.iterdir():
        assert imread(path).std() > 0.01  # not blank


def test_no_importance_where_trials_do_not_differ(tmp_path):
    draw(trials(4, objective=0.5), SPACE, Objective("valid_accuracy"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {OBJECTIVE, SLICES}


def test_one_trial(tmp_path):
    draw(trials(1), SPACE, Objective("valid_accuracy"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {OBJECTIVE, SLICES}
