"""The scikit-learn classifier, without Ray; tests/ray/test_estimator_on_ray.py has the rest."""

import dataclasses
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import lstmfcn
from lstmfcn import LSTMFCNClassifier
from lstmfcn.cli.main import main
from lstmfcn.data.synthetic import cylinder_bell_funnel
from lstmfcn.errors import DataError, HyperparameterError, ModelError
from lstmfcn.hyperparameters import RECIPES, Hyperparameters
from lstmfcn.inference.explanation import outputs_to_explain
from lstmfcn.inference.predictor import Classifier
from lstmfcn.training.in_memory import train_arrays
from tests.helpers.small_models import N_TIMEPOINTS, tiny_artifact, tiny_hyperparameters, tiny_rows

ROOT = Path(lstmfcn.__file__).parents[1]

NAMES = np.array(["10", "9", "b"])

NOT_HYPERPARAMETERS = {"random_state", "validation_fraction", "num_workers"}
NOT_PARAMETERS = {
    "task": "a row has one of two or more classes",
    "fit_thresholds": "only multilabel has thresholds",
    "seed": "is random_state",
    "missing_marker": "arrays hold nan, not text",
    "label_column": "labels are y",
    "value_columns": "values are X",
}


def tiny(**changes):
    """An estimator of a network that is trained in no time."""
    given = tiny_hyperparameters(**changes).model_dump(exclude_unset=True, exclude={"task"})
    return LSTMFCNClassifier(**given)


def rows(n_rows=48, seed=0):
    found = tiny_rows(n_rows=n_rows, seed=seed)
    return found.values, NAMES[found.labels]


def weights_of(estimator):
    return estimator.classifier_.artifact.weights


def assert_same_weights(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


CHECKED = {
    "hidden_size": 4,
    "filters_1": 8,
    "filters_2": 8,
    "filters_3": 8,
    "kernel_size_1": 3,
    "kernel_size_2": 3,
    "dropout": 0.1,
    "epochs": 6,
    "lr": 0.05,
    "batch_size": 64,
    "precision": "fp32",
}
EXPECTED_FAILURES = {
    "check_class_weight_classifiers": "class_weight is none, sqrt or balanced, as of every "
    "training; weights by class, which the check gives, are not known to the loss",
}


@pytest.mark.slow
@parametrize_with_checks(
    [LSTMFCNClassifier(**CHECKED), LSTMFCNClassifier(**CHECKED, missing="mask")],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_parameters_are_the_hyperparameters():
    parameters = LSTMFCNClassifier().get_params()
    expected = Hyperparameters.model_fields.keys() - NOT_PARAMETERS.keys()
    assert parameters.keys() == expected | NOT_HYPERPARAMETERS
    types = LSTMFCNClassifier.__annotations__
    for name in expected:
        assert parameters[name] is None
        assert types[name].endswith(" | None")


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_not_given_is_what_the_recipe_says(recipe):
    found = LSTMFCNClassifier(recipe=recipe, random_state=3)._hyperparameters()
    assert found == Hyperparameters(recipe=recipe, seed=3)
    given = LSTMFCNClassifier(recipe=recipe, batch_size=8, lr=3e-3)._hyperparameters()
    assert given == Hyperparameters(recipe=recipe, batch_size=8, lr=3e-3)


def test_numbers_of_numpy_are_numbers():
    numbers = {"epochs": np.int64(2), "lr": np.float64(0.1), "random_state": np.int32(7)}
    assert LSTMFCNClassifier(**numbers)._hyperparameters() == Hyperparameters(
        epochs=2, lr=0.1, seed=7
    )


def test_a_seed_is_drawn_where_none_is_given():
    def seed(random_state):
        return LSTMFCNClassifier(random_state=random_state)._hyperparameters().seed

    assert seed(np.random.RandomState(1)) == seed(np.random.RandomState(1))
    assert len({seed(None) for _ in range(5)}) == 5


@pytest.mark.parametrize("changes", [{}, {"members": 2}, {"batch_size": "auto"}])
def test_it_trains_what_train_arrays_trains(changes):
    values, names = rows()
    estimator = tiny(**changes).set_params(random_state=5)
    expected = train_arrays((values, names), tiny_hyperparameters(**changes, seed=5))
    assert_same_weights(weights_of(estimator.fit(values, names)), expected.weights)
    found = estimator.classifier_.artifact
    assert found.schema == expected.schema
    assert found.hyperparameters == expected.hyperparameters


def test_a_fraction_of_the_rows_decides_which_epoch_is_kept():
    values, names = rows()
    training, held_out = train_test_split(
        np.arange(48), test_size=0.25, stratify=names, random_state=0
    )
    training, held_out = np.sort(training), np.sort(held_out)
    wanted = {"epochs": 8, "lr": 0.1, "calibrate": True}
    expected = train_arrays(
        (values[training], names[training]),
        tiny_hyperparameters(**wanted),
        (values[held_out], names[held_out]),
    )
    estimator = tiny(**wanted).set_params(validation_fraction=0.25).fit(values, names)
    found = estimator.classifier_.artifact
    assert_same_weights(found.weights, expected.weights)
    assert found.decision == expected.decision
    assert found.decision.temperature != 1
    assert found.metrics["epoch"] == expected.metrics["epoch"]


@pytest.mark.parametrize(
    ("labels", "make", "kind"),
    [
        (["b", "9", "10"], np.asarray, "U"),
        (["b", "9", "10"], np.ndarray.tolist, "U"),
        (["b", "9", "10"], lambda y: y.astype(object), "O"),
        (["b", "9", "10"], pd.Series, "O"),
        (["b", "9", "10"], lambda y: pd.Series(y, dtype="category"), "O"),
        ([-2, 10, 9], np.asarray, "i"),
        ([-2, 10, 9], np.ndarray.tolist, "i"),
        ([True, False, True], np.asarray, "b"),
        ([2.0, -1.0, 10.0], np.asarray, "f"),
    ],
)
def test_labels_are_predicted_as_they_were_given(labels, make, kind, tmp_path):
    found = tiny_rows(n_rows=48)
    y = make(np.array(labels)[found.labels])
    estimator = tiny(epochs=30).fit(found.values, y)
    assert estimator.classes_.dtype.kind == kind
    np.testing.assert_array_equal(estimator.classes_, np.unique(np.asarray(y)))
    predicted = estimator.predict(found.values)
    assert predicted.dtype == estimator.classes_.dtype
    assert estimator.score(found.values, y) > 0.9
    estimator.save(tmp_path / "model")
    loaded = LSTMFCNClassifier.load(tmp_path / "model")
    assert loaded.classes_.dtype == estimator.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(found.values), predicted)


def test_probabilities_are_in_the_order_of_the_classes():
    values, names = rows()
    estimator = tiny(epochs=30).fit(values, names)
    assert estimator.classes_.tolist() == ["10", "9", "b"]
    assert estimator.classifier_.schema.classes == ("9", "10", "b")
    found = estimator.predict_proba(values)
    np.testing.assert_array_equal(found, estimator.classifier_.predict_proba(values)[:, [1, 0, 2]])
    assert (estimator.classes_[found.argmax(axis=1)] == names).mean() > 0.9


def test_explanations_are_in_the_order_of_the_classes():
    values, names = rows()
    estimator = tiny(missing="mask").fit(values, names)
    found = estimator.explain(values)
    assert found.timepoints.shape == (48, 3, N_TIMEPOINTS)
    summed = found.bias + found.lstm + found.timepoints.sum(axis=-1)
    np.testing.assert_allclose(found.logits, summed, atol=1e-5)
    shares = torch.tensor(found.logits).softmax(dim=1)
    np.testing.assert_allclose(shares, estimator.predict_proba(values), atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["1", "1.0"], "y has the labels '1' and '1.0', which are one class to lstmfcn"),
        (["1e0", "+1"], "y has the labels '+1' and '1e0', which are one class to lstmfcn"),
        (["a", " "], "y has the label ' ' at index 1, which is missing; give the row's class"),
        (
            ["a", "NA"],
            "y has the label 'NA' at index 1, which is missing; give the row's class or "
            'remove the row; missing_labels="name" keeps such names',
        ),
        (np.array(["a", None], object), "y has the label None at index 1, which is missing"),
        (np.array(["a", np.nan], object), "y has the label nan at index 1, which is missing"),
        (np.array(["a", pd.NA], object), "y has the label <NA> at index 1, which is missing"),
        (["a", "a"], "y has only the class a; training needs two"),
        (np.array(["2026-01-01", "2026-01-02"], "M8[D]"), "y has the label 2026-01-01; give text"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        tiny().fit(np.eye(4, 12), np.array(labels)[[0, 1, 0, 1]])


@pytest.mark.parametrize("marker", ["NA", "nan", "None"])
def test_text_that_marks_missing_labels_may_be_kept_as_a_name(marker):
    values, names = rows()
    names = np.where(names == "b", marker, names)
    estimator = tiny(missing_labels="name").fit(values, names)
    assert set(estimator.classes_) == {"9", "10", marker}
    assert marker in estimator.classifier_.schema.classes


def test_a_model_of_float_labels_saved_with_other_names_is_loaded(tmp_path):
    values, _ = rows()
    labels = np.array([1e16, 1.0, 2.0])[np.arange(48) % 3]
    estimator = tiny().fit(values, labels)
    artifact = estimator.classifier_.artifact
    assert artifact.schema.classes == ("1", "2", "10000000000000000")
    older = artifact.schema.model_copy(update={"classes": ("1", "2.00", "1e+16")})
    replace(artifact, schema=older).save(tmp_path / "model")
    loaded = LSTMFCNClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(values), estimator.predict(values))


def test_series_of_several_channels():
    values, names = rows()
    nested = values.reshape(48, 3, 4)
    estimator = tiny(epochs=3).fit(nested, names)
    expected = train_arrays((nested, names), tiny_hyperparameters(epochs=3))
    assert_same_weights(weights_of(estimator), expected.weights)
    assert estimator.classifier_.schema.n_channels == 3
    assert estimator.n_features_in_ == 12
    found = estimator.predict_proba(nested)
    np.testing.assert_array_equal(estimator.predict_proba(nested.tolist()), found)
    np.testing.assert_array_equal(estimator.predict_proba(values), found)
    with pytest.raises(ValueError, match=r"shape \(48, 4, 3\).*expecting \(N, 3, 4\)"):
        estimator.predict(values.reshape(48, 4, 3))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((4, 12, 1)),
        np.zeros((4, 12, 1)).tolist(),
        torch.zeros((4, 12, 1)),
        [np.zeros((12, 1))] * 4,  # tslearn's, as a list
    ],
    ids=["array", "lists", "tensor", "list of arrays"],
)
def test_timepoints_in_place_of_channels_are_refused(values):
    with pytest.raises(
        ValueError, match=r"X has 12 channels of 1 timepoint: the axes must be \(N,"
    ):
        tiny().fit(values, [0, 1, 0, 1])
    trained = tiny().fit(np.eye(4, 12), [0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"expecting \(N, 1, 12\); X.transpose\(0, 2, 1\) has it"):
        trained.predict(np.asarray(values))


def test_more_channels_than_timepoints_are_warned_of():
    values = np.eye(4, 12).reshape(4, 4, 3)
    with pytest.warns(UserWarning, match=r"X has 4 channels of 3 timepoints: the axes must"):
        tiny().fit(values, [0, 1, 0, 1])
    with pytest.warns(UserWarning, match="arrays of 4 channels of 3 timepoints"):
        train_arrays((values.astype(np.float32), np.array(["a", "b"] * 2)), tiny_hyperparameters())
    swapped = np.eye(4, 12, dtype=np.float32)[:, :, None]
    with pytest.raises(DataError, match="found arrays of 12 channels of 1 timepoint"):
        train_arrays((swapped, np.array(["a", "b"] * 2)), tiny_hyperparameters())


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("form", ["list", "objects", "nested"])
def test_series_of_several_lengths_are_those_that_end_in_nan(n_channels, form):
    filled, labels = np.random.default_rng(0).normal(size=(9, n_channels, 12)), [0, 1, 2] * 3
    ragged = []
    for i, row in enumerate(filled):
        row[:, 12 - i :] = np.nan
        ragged.append(row[:, : 12 - i] if n_channels > 1 else row[0, : 12 - i])
    given = ragged
    if form == "objects":
        given = np.empty(9, dtype=object)
        given[:] = ragged
    elif form == "nested":
        cells = [[pd.Series(channel) for channel in np.atleast_2d(row)] for row in ragged]
        given = pd.DataFrame(cells, columns=[f"dim_{c}" for c in range(n_channels)])
    estimator = tiny(missing="mask").fit(given, labels)
    expected = tiny(missing="mask").fit(filled, labels)
    assert_same_weights(weights_of(estimator), weights_of(expected))
    np.testing.assert_array_equal(estimator.predict_proba(given), expected.predict_proba(filled))
    shorter = given.iloc[3:] if form == "nested" else given[3:]
    np.testing.assert_array_equal(
        estimator.predict_proba(shorter), expected.predict_proba(filled[3:])
    )
    with pytest.raises(ValueError, match=r"X has series of 4 to 12 timepoints; missing='mask'"):
        tiny().fit(given, labels)


def test_tables_of_named_channels_are_what_shards_of_them_are(tmp_path):
    values, names = rows()
    columns = [f"x{channel}_{t}" for channel in (1, 2, 3) for t in range(4)]
    table = pd.DataFrame(values, columns=columns)
    estimator = tiny().fit(table, names)
    assert estimator.feature_names_in_.tolist() == columns
    assert estimator.classifier_.schema.value_columns == tuple(columns)
    nested = tiny().fit(values.reshape(48, 3, 4), names)
    assert_same_weights(weights_of(estimator), weights_of(nested))
    found = estimator.predict_proba(table)
    estimator.save(tmp_path / "model")
    loaded = LSTMFCNClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(table), found)
    np.testing.assert_array_equal(loaded.predict_proba(values.reshape(48, 3, 4)), found)
    with pytest.raises(ValueError, match="order them x1_1, x1_2"):
        tiny().fit(table[[*columns[::3], *columns[1::3], *columns[2::3]]], names)
    with pytest.raises(DataError, match="channel 3 without x3_3"):
        tiny().fit(table.iloc[:, :-1], names)


def test_tables_with_other_columns(tmp_path):
    values, names = rows()
    columns = [f"hour {t}" for t in range(N_TIMEPOINTS)]
    table = pd.DataFrame(values, columns=columns)
    estimator = tiny().fit(table, names)
    assert estimator.classifier_.schema.value_columns[:2] == ("x_1", "x_2")
    estimator.save(tmp_path / "model")
    loaded = LSTMFCNClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(table), estimator.predict_proba(table))
    for one in (estimator, loaded):
        with pytest.raises(ValueError, match="must be in the same order"):
            one.predict(table.iloc[:, ::-1])


def test_missing_values_are_masked_where_they_may_be():
    values, names = rows()
    values[::5, 7:] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        tiny().fit(values, names)
    estimator = tiny(missing="mask").fit(values, names)
    expected = train_arrays((values, names), tiny_hyperparameters(missing="mask"))
    assert_same_weights(weights_of(estimator), expected.weights)
    assert np.isfinite(estimator.predict_proba(values)).all()
    values[3] = np.nan
    with pytest.raises(DataError, match="row 4: found a row without any value"):
        estimator.predict(values)
    with pytest.raises(DataError, match="row 4: found a row without any value"):
        tiny(missing="mask").fit(values, names)


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"lr": -1}, HyperparameterError, "lr: found -1; it must be greater than 0"),
        ({"batch_size": 1}, HyperparameterError, "batch-size: found 1; it must be at least 2"),
        ({"random_state": -1}, HyperparameterError, "seed: found -1"),
        ({"calibrate": True}, ValueError, "calibrate is fitted on validation rows; give valid"),
        ({"validation_fraction": 1.5}, ValueError, "validation_fraction: found 1.5; it must be"),
        ({"num_workers": 0}, ValueError, "num_workers: found 0; it must be at least 1"),
    ],
)
def test_parameters_that_are_impossible_are_refused(changes, error, told):
    with pytest.raises(error, match=re.escape(told)):
        tiny().set_params(**changes).fit(*rows())


def test_values_too_large_are_refused():
    values, names = rows()
    with pytest.raises(ValueError, match="too large for dtype"):
        tiny().fit(values.astype(np.float64) * 1e300, names)
    with pytest.raises(DataError, match="row 1: found values too large to compute with"):
        tiny().fit(values, names).predict(np.full((1, N_TIMEPOINTS), 3e38))


def test_the_model_directory_is_everyones(tmp_path):
    values, names = rows()
    estimator = tiny(dropout=0.3).fit(values, names)
    estimator.save(tmp_path / "model")
    classifier = Classifier.load(tmp_path / "model")
    found = classifier.predict_proba(values)
    np.testing.assert_array_equal(found[:, [1, 0, 2]], estimator.predict_proba(values))
    assert (classifier.predict(values) == estimator.predict(values)).all()
    loaded = LSTMFCNClassifier.load(tmp_path / "model")
    assert loaded.get_params() == estimator.get_params()
    assert loaded.n_features_in_ == N_TIMEPOINTS
    assert not hasattr(loaded, "feature_names_in_")
    refitted = clone(loaded).fit(values, names)
    assert_same_weights(weights_of(refitted), weights_of(estimator))


@pytest.mark.parametrize(
    ("kind", "classes"),
    [
        ("names", ["cat", "dog", "emu"]),
        ("multiclass", ["y_a", "y_b", "y_c"]),
        ("binary", ["0", "1"]),
        ("one-hot pair", ["y_no", "y_yes"]),
    ],
)
def test_models_of_shards_are_loaded(kind, classes, tmp_path):
    artifact = tiny_artifact(kind, recipe="paper", seed=3)
    artifact.save(tmp_path / "model")
    estimator = LSTMFCNClassifier.load(tmp_path / "model")
    wanted = estimator._hyperparameters().model_copy(update={"task": artifact.schema.task})
    assert wanted == artifact.hyperparameters
    assert estimator.get_params()["recipe"] == "paper"
    assert estimator.classes_.tolist() == classes
    table = pd.DataFrame(tiny_rows(kind).values, columns=list(artifact.schema.value_columns))
    found = estimator.predict_proba(table)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    expected = Classifier(artifact).predict_proba(table)
    np.testing.assert_array_equal(found[:, -expected.shape[1] :], expected)
    decided = Classifier(artifact).predict_labels(expected)[:, -1] == 1
    np.testing.assert_array_equal(estimator.predict(table) == classes[-1], decided)
    outputs = outputs_to_explain(artifact.schema)
    assert estimator.explain(table).logits.shape == (48, len(outputs))


def test_what_cannot_be_loaded_or_saved_is_refused(tmp_path):
    tiny_artifact("multilabel").save(tmp_path / "model")
    with pytest.raises(ModelError, match="found a multilabel model; load it with"):
        LSTMFCNClassifier.load(tmp_path / "model")
    with pytest.raises(NotFittedError):
        tiny().save(tmp_path / "other")


def test_it_is_pickled_with_its_model():
    values, names = rows()
    estimator = tiny(members=2).fit(values, names)
    other = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(other.predict_proba(values), estimator.predict_proba(values))


@pytest.mark.slow
def test_pipelines_cross_validation_and_searches():
    values, names = rows()
    shifted = make_pipeline(FunctionTransformer(np.negative), tiny(epochs=20))
    assert cross_val_score(shifted, values, names, cv=3).mean() > 0.9
    grid = {"epochs": [1, 20], "calibrate": [False, True], "scaling": ["global", "series"]}
    search = GridSearchCV(tiny().set_params(validation_fraction=0.25), grid, cv=2)
    search.fit(values, names)
    assert search.best_params_["epochs"] == 20
    assert search.best_score_ > 0.9
    assert search.score(*rows(seed=5)) > 0.9


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    tiny().fit(*rows())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_the_package_names_it_without_importing_it():
    code = (
        "import sys, lstmfcn\n"
        "assert not {'torch', 'sklearn', 'ray', 'lstmfcn.estimator'} & sys.modules.keys()\n"
        "assert lstmfcn.LSTMFCNClassifier.__module__ == 'lstmfcn.estimator'\n"
        "assert 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="module 'lstmfcn' has no attribute 'Nobody'"):
        _ = lstmfcn.Nobody


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "how-to" / "scikit-learn.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert "epochs=5" in code
    monkeypatch.chdir(tmp_path)
    for folder in ("data/train", "data/test"):
        assert main(["sample", "--output", folder, "--rows", "30", "--shards", "1"]) == 0
    exec(compile(code.replace("epochs=5", "epochs=1"), "scikit-learn.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\['(bell|cylinder|funnel)'.*\]", printed[-1])
    assert Classifier.load("runs/best").schema.classes == ("bell", "cylinder", "funnel")


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "<U1000000000"},
        {"dtype": "nonsense"},
        {"dtype": 3},
        {"classes": []},
        {"classes": ["a", "a"]},
        {"classes": ["a", "other"]},
        {"classes": [["a"], "b"]},
        {"classes": 3},
        {"columns": ["x_1"]},
        {"columns": 3},
        {"more": 3},
    ],
)
def test_a_model_whose_labels_were_tampered_with_is_refused_in_a_line(tmp_path, changes):
    artifact = tiny_artifact("binary")
    record = {"classes": ["0", "1"], "dtype": "<U1", "columns": None}
    replace(artifact, training={"estimator": record}).save(tmp_path / "model")
    assert LSTMFCNClassifier.load(tmp_path / "model").classes_.tolist() == ["0", "1"]
    replace(artifact, training={"estimator": record | changes}).save(tmp_path / "model")
    with pytest.raises(ModelError) as refusal:
        LSTMFCNClassifier.load(tmp_path / "model")
    assert str(refusal.value).startswith(f"{tmp_path / 'model'}: ")
    assert len(str(refusal.value)) < 500


def test_its_help_describes_every_hyperparameter():
    described = LSTMFCNClassifier.__doc__
    for field in dataclasses.fields(LSTMFCNClassifier):
        assert re.search(rf"^ +{field.name}[: ]", described, re.MULTILINE), field.name
    assert f"epochs (200): {Hyperparameters.model_fields['epochs'].description}" in described


def test_it_and_its_model_show_what_they_are():
    values, names = cylinder_bell_funnel(30, seed=1)
    estimator = LSTMFCNClassifier(epochs=1, filters_1=2, filters_2=2, filters_3=2)
    estimator.fit(values, names)
    assert repr(estimator) == "LSTMFCNClassifier(epochs=1, filters_1=2, filters_2=2, filters_3=2)"
    shown = "<Classifier of 128 timepoints, multiclass: bell, cylinder, funnel; fp32 on cpu>"
    assert repr(estimator.classifier_) == shown
    assert estimator.metrics_["epoch"] == 1
    assert estimator.metrics_ == estimator.classifier_.artifact.metrics
