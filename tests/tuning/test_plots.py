import numpy as np
import pytest
from matplotlib.image import imread

import lstmfcn.tuning.plots as sweep_plots_module
from lstmfcn.tuning.plots import IMPORTANCE, OBJECTIVE, SLICES, list_plots
from lstmfcn.tuning.search_space import SearchSpace
from lstmfcn.tuning.sweep import Objective, TrialResult

pytestmark = pytest.mark.slow

SPACE = SearchSpace.parse(
    "lr: {loguniform: [0.001, 0.1]}\nfilters-1: {int: [3, 7]}\n"
    "schedule: {choice: [constant, cosine]}",
    "space",
)


def trials(n, objective=None):
    random = np.random.default_rng(0)
    return [
        TrialResult(
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
    for plot in list_plots(*sweep):
        plot()


@pytest.mark.parametrize("metric", ["valid_accuracy", "valid_loss"])
def test_three_plots(tmp_path, metric):
    failed = TrialResult(25, {"lr": 0.01, "filters_1": 3, "schedule": "cosine"}, "failed")
    draw([*trials(24), failed], SPACE, Objective(metric), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {OBJECTIVE, SLICES, IMPORTANCE}
    for path in tmp_path.iterdir():
        assert imread(path).std() > 0.01  # not blank


def bars(tmp_path, sweep, monkeypatch):
    """Whether importances were computed."""
    computed = []
    importances = sweep_plots_module.optuna.importance.get_param_importances
    monkeypatch.setattr(
        sweep_plots_module.optuna.importance,
        "get_param_importances",
        lambda study, **options: computed.append(study) or importances(study, **options),
    )
    draw(sweep, SPACE, Objective("valid_accuracy"), tmp_path)
    assert imread(tmp_path / IMPORTANCE).std() > 0.01
    return bool(computed)


@pytest.mark.parametrize(("n", "expected"), [(2, False), (19, False), (20, True)])
def test_importances_of_few_trials_are_not_drawn(tmp_path, monkeypatch, n, expected):
    assert bars(tmp_path, trials(n), monkeypatch) == expected


def test_defaults_outside_of_the_space_are_drawn_among_the_trials_alone(tmp_path, monkeypatch):
    outside = TrialResult(
        1, {"lr": 0.5, "filters_1": 128, "schedule": "one-cycle"}, "done", objective=0.99
    )
    assert not bars(tmp_path, [outside, *trials(20)[1:]], monkeypatch)
    draw([outside], SPACE, Objective("valid_accuracy"), tmp_path / "alone")
    assert {path.name for path in (tmp_path / "alone").iterdir()} == {OBJECTIVE}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0003, 0.01, [0.0003, 0.001, 0.003, 0.01]),
        (0.001, 0.1, [0.001, 0.003, 0.01, 0.03, 0.1]),
        (8, 128, [10, 30, 100]),
        (0.002, 0.008, [0.002, 0.008]),
    ],
)
def test_a_logarithmic_axis_has_more_ticks_than_one(low, high, expected):
    assert sweep_plots_module._log_ticks(low, high) == expected


def test_no_importance_where_trials_do_not_differ(tmp_path):
    draw(trials(4, objective=0.5), SPACE, Objective("valid_accuracy"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {OBJECTIVE, SLICES}


def test_one_trial(tmp_path):
    draw(trials(1), SPACE, Objective("valid_accuracy"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {OBJECTIVE, SLICES}
