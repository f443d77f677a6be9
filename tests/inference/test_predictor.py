import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import lstmfcn
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.table import RowOrigin
from lstmfcn.errors import DataError
from lstmfcn.inference.device import chunk_rows
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.network import native_dtype
from tests.helpers.small_models import (
    KINDS,
    N_TIMEPOINTS,
    tiny_artifact,
    tiny_calibrated,
    tiny_rows,
    tiny_schema,
    tiny_task,
)

SOURCE = RowOrigin("shards/b.csv", 100)
NUMBERS = [0.5] * N_TIMEPOINTS
STEP = chunk_rows(N_TIMEPOINTS)


def classifier(kind="multiclass", scaler=None, **changes):
    artifact = tiny_artifact(kind, **changes)
    return Classifier(artifact if scaler is None else replace(artifact, scaler=scaler))


def balanced(kind, values):
    """A classifier without scaling that decides these values in more than one way."""
    artifact = tiny_artifact(kind, scaling="none")
    with torch.no_grad():
        middle = artifact.build_network().eval()(torch.tensor(values)).mean(dim=0)
    artifact.weights["head.bias"].sub_(middle)
    return Classifier(artifact)


def refusal(values, *source, using=None):
    with pytest.raises(DataError) as refused:
        (using or classifier()).predict_proba(values, *source)
    return str(refused.value)


def with_value(value, row=3, column=7, n_rows=6):
    values = np.zeros((n_rows, N_TIMEPOINTS))
    values[row, column] = value
    return values


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ([NUMBERS[:-1]], (1, 11)),
        ([[*NUMBERS, 1.0]] * 2, (2, 13)),
        (NUMBERS, (12,)),
        ([[NUMBERS, NUMBERS]], (1, 2, 12)),
        (1.0, ()),
        ([], (0,)),
        ([[]], (1, 0)),
    ],
)
def test_another_shape_is_refused(values, shape):
    assert refusal(values) == (
        f"found an array of shape {shape}; give a list of series of 12 values, shape (N, 12)"
    )


@pytest.mark.parametrize(
    "values",
    [
        [["one", *NUMBERS[1:]]],
        "series",
        {"values": [NUMBERS]},
        [[1j, *NUMBERS[1:]]],
        [[NUMBERS, *NUMBERS[1:]]],
        [[object()] * N_TIMEPOINTS],
    ],
    ids=["text", "string", "mapping", "complex", "nested", "objects"],
)
def test_what_is_no_array_of_numbers_is_refused(values):
    assert refusal(values) == (
        "found values that are not an array of numbers; "
        "give a list of series of numbers, all of one length"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e39, "inf"), (-1e39, "-inf")],
)
@pytest.mark.parametrize("as_given", [np.asarray, np.ndarray.tolist], ids=["array", "list"])
def test_a_value_that_is_not_finite_in_32_bits_is_refused(value, shown, as_given):
    found = (
        f"found {shown}, which is not a finite 32-bit number; "
        "give every value of every series as a finite number"
    )
    values = as_given(with_value(value))
    assert refusal(values) == f"row 4, column x_7: {found}"
    assert refusal(values, SOURCE) == f"shards/b.csv, row 104, column x_7: {found}"


def test_a_missing_value_is_refused():
    assert "row 2, column x_0: found nan" in refusal([NUMBERS, [None, *NUMBERS[1:]]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [0, 3, chunk_rows(N_TIMEPOINTS) + 1])
def test_values_that_overflow_while_scaling_are_refused(kind, row):
    scaler = Scaler(kind="global", mean=(0.0,), std=(1e-3,))
    values = with_value(3e38, row=row, n_rows=row + 3)
    problem = (
        "found values too large to compute with; "
        "give values of the same magnitude as the training data"
    )
    using = classifier(kind, scaler)
    assert refusal(values, using=using) == f"row {row + 1}: {problem}"
    assert refusal(values, SOURCE, using=using) == f"shards/b.csv, row {row + 101}: {problem}"


def test_values_that_overflow_within_a_series_are_refused():
    series = [-3.4e38] * 11 + [3.4e38]
    using = classifier(scaling="series")
    assert "row 2: found values too large" in refusal([NUMBERS, series], using=using)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaling", ["global", "timestep", "series", "none"])
def test_probabilities_are_those_of_the_network_on_scaled_values(kind, scaling):
    artifact = tiny_artifact(kind, scaling=scaling)
    values = tiny_rows(kind, seed=1).values
    exact = values.astype(np.float64)
    if scaling == "series":
        mean, std = exact.mean(axis=1, keepdims=True), exact.std(axis=1, keepdims=True)
    else:
        mean, std = np.array(artifact.scaler.mean or 0.0), np.array(artifact.scaler.std or 1.0)
    network = artifact.build_network().eval()
    with torch.no_grad():
        logits = network(torch.tensor((exact - mean) / std, dtype=torch.float32))
    expected = tiny_task(kind).probabilities(logits).numpy()
    found = Classifier(artifact).predict_proba(values)
    assert found.dtype == np.float32
    assert found.shape == (48, len(tiny_schema(kind).probability_columns))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "names"), [("multiclass", ("y_a", "y_b", "y_c")), ("names", ("cat", "dog", "emu"))]
)
def test_multiclass_predictions_are_class_names(kind, names):
    values = tiny_rows(seed=1).values
    using = balanced(kind, values)
    found = using.predict(values)
    largest = using.predict_proba(values).argmax(axis=1)
    assert found.tolist() == [names[i] for i in largest]
    assert len(set(found.tolist())) > 1


@pytest.mark.parametrize(("kind", "width"), [("binary", 1), ("one-hot pair", 2), ("multilabel", 3)])
def test_other_predictions_are_zeros_and_ones(kind, width):
    values = tiny_rows(kind, seed=1).values
    using = balanced(kind, values)
    found, probabilities = using.predict(values), using.predict_proba(values)
    assert found.shape == (48, width)
    np.testing.assert_array_equal(found, probabilities > 0.5)
    np.testing.assert_array_equal(found, using.predict_labels(probabilities))
    assert set(found.ravel().tolist()) == {0, 1}


def test_the_form_of_the_input_makes_no_difference():
    using, values = classifier(), tiny_rows(n_rows=700).values
    expected = using.predict_proba(values)
    read_only = values.copy()
    read_only.setflags(write=False)
    for same in (
        values.astype(np.float64),
        values.astype(">f4"),
        np.asfortranarray(values),
        np.repeat(values, 2, axis=1)[:, ::2],
        values[::-1].copy()[::-1],
        values.tolist(),
        tuple(map(tuple, values.tolist())),
        torch.tensor(values),
        read_only,
    ):
        np.testing.assert_array_equal(using.predict_proba(same), expected)


@pytest.mark.parametrize("scaling", ["global", "none"])
def test_the_input_is_left_untouched(scaling):
    values = tiny_rows().values
    before = values.copy()
    classifier(scaling=scaling).predict_proba(values)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_give_no_predictions(kind):
    none = np.empty((0, N_TIMEPOINTS), dtype=np.float32)
    using = classifier(kind)
    assert using.predict_proba(none).shape == (0, len(tiny_schema(kind).probability_columns))
    assert len(using.predict(none)) == 0


@pytest.mark.parametrize(
    "n_rows",
    [STEP - 1, STEP, STEP + 1, 2 * STEP + 3],
)
def test_rows_are_answered_in_order_over_chunks(n_rows):
    using, values = classifier(), tiny_rows(n_rows=n_rows).values
    found = using.predict_proba(values)
    for row in (0, chunk_rows(N_TIMEPOINTS) - 2, n_rows - 1):
        np.testing.assert_allclose(found[[row]], using.predict_proba(values[[row]]), atol=1e-6)


def test_dropout_is_off_and_repeated_calls_agree():
    using, values = classifier(dropout=0.9), tiny_rows().values
    np.testing.assert_array_equal(using.predict_proba(values), using.predict_proba(values))


@pytest.mark.parametrize("sizes", [{}, {"hidden_size": 128, "filters_1": 128, "filters_2": 256}])
def test_one_and_two_threads_give_the_same_bits(sizes):
    using, values = classifier(**sizes), tiny_rows(n_rows=600).values
    expected = using.predict_proba(values)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    try:
        found = using.predict_proba(values)
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(found, expected)


def test_an_integer_too_large_for_any_float_is_refused():
    with pytest.raises(DataError, match="found values that are not an array of numbers"):
        classifier().predict_proba([[10**400] * N_TIMEPOINTS])


def test_channels_may_be_nested_flat_or_named():
    classifier = Classifier(tiny_artifact(n_channels=3))
    values = tiny_rows(n_rows=9).values
    expected = classifier.predict_proba(values)
    np.testing.assert_array_equal(classifier.predict_proba(values.reshape(9, 3, 4)), expected)
    table = pd.DataFrame(values, columns=list(classifier.schema.value_columns))
    np.testing.assert_array_equal(classifier.predict_proba(table.iloc[:, ::-1]), expected)
    assert not np.array_equal(classifier.predict_proba(values[:, ::-1]), expected)


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (2, 11), (2, 1, 12)])
def test_other_channels_are_refused(shape):
    classifier = Classifier(tiny_artifact(n_channels=3))
    with pytest.raises(DataError) as refusal:
        classifier.predict_proba(np.zeros(shape))
    assert str(refusal.value) == (
        f"found an array of shape {shape}; give a list of series of 12 values, "
        "shape (N, 12) or (N, 3, 4)"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_divided_by_the_temperature(kind):
    values, artifact = tiny_rows(kind).values, tiny_calibrated(kind)
    with torch.no_grad():
        logits = artifact.build_network().eval()(torch.tensor(artifact.scaler.transform(values)))
    expected = tiny_task(kind).probabilities(logits * 4).numpy()
    found = Classifier(artifact).predict_proba(values)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - classifier(kind).predict_proba(values)).max() > 0.01


def test_each_label_is_decided_by_its_threshold():
    using, values = Classifier(tiny_calibrated("multilabel")), tiny_rows("multilabel").values
    probabilities = np.array([[0.25, 0.5625, 0.5], [0.26, 0.57, 0.51]], dtype=np.float32)
    assert using.predict_labels(probabilities).tolist() == [[0, 0, 0], [1, 1, 1]]
    found = using.predict(values)
    np.testing.assert_array_equal(found, using.predict_proba(values) > [0.25, 0.5625, 0.5])
    assert (found != (using.predict_proba(values) > 0.5)).any()


def test_a_table_of_names_has_the_answers_of_an_array():
    using, values = classifier(), tiny_rows(n_rows=7).values
    names = list(using.schema.value_columns)
    table = pd.DataFrame(values, columns=names)
    expected = using.predict_proba(values)
    shuffled = table[names[::-1]].assign(id="u", y="cat")
    for same in (shuffled, pa.Table.from_pandas(shuffled), pl.from_pandas(shuffled)):
        np.testing.assert_array_equal(using.predict_proba(same), expected)
    numbered = pd.DataFrame(values)
    np.testing.assert_array_equal(using.predict_proba(numbered), expected)
    told = f"found a table without 1 value column of the model, {names[-1]}; use the model's"
    assert refusal(table.iloc[:, :-1].assign(id=1.0)).startswith(told)
    assert "found a table without 12 value columns" in refusal(table.add_prefix("t"))


def test_columns_that_an_estimator_was_fitted_on_are_known():
    artifact, values = tiny_artifact(), tiny_rows(n_rows=7).values
    names = [f"t{i}" for i in range(N_TIMEPOINTS)]
    using = Classifier(replace(artifact, training={"estimator": {"columns": names}}))
    table = pd.DataFrame(values, columns=names)
    expected = using.predict_proba(values)
    np.testing.assert_array_equal(using.predict_proba(table[names[::-1]]), expected)
    nameless = replace(artifact, training={"estimator": {"columns": None}})
    assert "found a table without" in refusal(table, using=Classifier(nameless))


def test_series_of_several_lengths_are_refused_or_filled_up():
    rows = [NUMBERS, NUMBERS[:-1]]
    told = "found series of 11 to 12 timepoints; this model takes exactly 12 timepoints; a model"
    assert refusal(rows).startswith(told)
    using = classifier(missing="mask")
    filled = np.array([NUMBERS, [*NUMBERS[:-1], np.nan]])
    expected = using.predict_proba(filled)
    nested = pd.DataFrame({"dim_0": [pd.Series(row) for row in rows]})
    for same in (rows, [np.array(row) for row in rows], nested, [np.array([row]) for row in rows]):
        np.testing.assert_array_equal(using.predict_proba(same), expected)
    assert "found an array of shape (2, 13)" in refusal([[*NUMBERS, 1.0], NUMBERS], using=using)


@pytest.mark.parametrize(("n_channels", "shape"), [(1, (2, 12, 1)), (3, (2, 4, 3))])
def test_swapped_axes_are_refused_with_the_way_to_turn_them(n_channels, shape):
    told = refusal(np.zeros(shape), using=Classifier(tiny_artifact(n_channels=n_channels)))
    assert told.startswith(f"found an array of shape {shape}; ")
    assert told.endswith("; the axes must be (N, channels, timepoints): use X.transpose(0, 2, 1)")


def test_it_shows_what_it_takes_and_gives():
    assert repr(Classifier(tiny_artifact("names"))) == (
        "<Classifier of 12 timepoints, multiclass: cat, dog, emu; fp32 on cpu>"
    )
    shown = repr(Classifier(tiny_artifact(n_channels=3)))
    assert shown == "<Classifier of 3 x 4 timepoints, multiclass: y_a, y_b, y_c; fp32 on cpu>"


FORKS = """
import multiprocessing, sys
import numpy as np, torch
from lstmfcn.inference.predictor import Classifier

torch.set_num_threads(2)
classifier = Classifier.load(sys.argv[1])
values = np.random.default_rng(0).normal(size=(300, classifier.schema.n_values))
expected = classifier.predict(values)  # OpenMP's threads are up

def answer(_):
    return classifier.predict(values)

with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map_async(answer, range(4)).get(timeout=30)
assert all((each == expected).all() for each in found)
assert torch.get_num_threads() == 2
"""


@pytest.mark.slow
def test_forked_processes_predict_with_the_model_of_their_parent(tmp_path):
    tiny_artifact("names", hidden_size=32, filters_1=64).save(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", FORKS, tmp_path / "model"],
        cwd=Path(lstmfcn.__file__).parents[1],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_processor_without_bf16_is_told_so(caplog):
    Classifier(tiny_artifact(), "bf16")
    lacks = native_dtype(torch.bfloat16) != torch.bfloat16
    told = "this processor has no bf16 instructions; predicting in fp32"
    assert caplog.messages == ([told] if lacks else [])
