from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.data.columns import value_names
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.synthetic import cylinder_bell_funnel
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.inference.device import chunk_rows
from lstmfcn.inference.explanation import outputs_to_explain
from lstmfcn.inference.fused_network import FusedEnsemble
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.network import Ensemble, build_network
from lstmfcn.training.in_memory import train_arrays
from tests.helpers.small_models import (
    KINDS,
    N_TIMEPOINTS,
    tiny_artifact,
    tiny_calibrated,
    tiny_hyperparameters,
    tiny_rows,
    tiny_schema,
    trained_looking,
)


def artifact_of(kind, n_channels, n_timepoints, seed=0, **hyperparameters):
    """A model of any family, size and task, whose weights look trained."""
    sizes = {"hidden_size": 8, "filters_1": 16, "filters_2": 32, "filters_3": 8, "scaling": "none"}
    task = tiny_schema(kind).task
    h = Hyperparameters(**{"task": task, **sizes, **hyperparameters})
    labels = tiny_schema(kind).label_columns
    header = [*labels, *value_names(n_channels, n_timepoints)]
    schema = SeriesSchema.from_header(header, task, missing=h.missing)
    if kind == "names":
        schema = schema.with_classes(["cat", "dog", "emu"])
    torch.manual_seed(seed)
    n_outputs = len(outputs_to_explain(schema))
    network = build_network(h, n_timepoints, n_outputs, n_channels)
    for member in network.members if isinstance(network, Ensemble) else [network]:
        trained_looking(member)
        torch.nn.init.normal_(member.head.bias)
        for name, weights in member.named_parameters():
            if "attention" in name:
                torch.nn.init.normal_(weights)
    return Artifact(h, schema, Scaler(kind="none", n_channels=n_channels), network.state_dict())


def summed(explanation):
    exact = explanation.timepoints.astype(np.float64).sum(axis=-1)
    return explanation.bias + explanation.lstm + exact


@given(
    kind=st.sampled_from(KINDS),
    network=st.sampled_from(["lstm-fcn", "alstm-fcn", "mlstm-fcn", "malstm-fcn"]),
    n_channels=st.integers(1, 4),
    n_timepoints=st.integers(1, 110),
    missing=st.sampled_from(["refuse", "mask"]),
    members=st.integers(1, 3),
    view=st.sampled_from(["series", "differences", "coarse", "all"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_the_parts_add_up_to_logits_that_give_the_probabilities(
    kind, network, n_channels, n_timepoints, missing, members, view, seed
):
    seen = {"members": members, "view": "coarse" if (members, view) == (1, "all") else view}
    artifact = artifact_of(
        kind, n_channels, n_timepoints, seed, network=network, missing=missing, **seen
    )
    random = np.random.default_rng(seed)
    values = random.standard_normal((20, n_channels * n_timepoints)).astype(np.float32)
    gaps = np.zeros((20, 1, n_timepoints), dtype=bool)
    if missing == "mask":
        gaps = random.random((20, 1, n_timepoints)) < 0.3
        gaps[:, :, 0] = False
        values[np.broadcast_to(gaps, (20, n_channels, n_timepoints)).reshape(20, -1)] = np.nan
    classifier = Classifier(artifact)
    found = classifier.explain(values)
    outputs = outputs_to_explain(artifact.schema)
    assert found.timepoints.shape == (20, len(outputs), n_timepoints)
    assert found.bias.shape == (len(outputs),)
    assert {part.dtype for part in found} == {np.dtype(np.float32)}
    np.testing.assert_allclose(summed(found), found.logits, rtol=1e-5, atol=1e-5)
    expected = classifier.predict_proba(values)
    assert np.array_equal(classifier.probabilities(found.logits), expected)
    assert not found.timepoints[np.broadcast_to(gaps, found.timepoints.shape)].any()


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_before_the_temperature(kind):
    values = tiny_rows(kind).values
    plain, calibrated = Classifier(tiny_artifact(kind)), Classifier(tiny_calibrated(kind))
    for expected, found in zip(plain.explain(values), calibrated.explain(values), strict=True):
        assert np.array_equal(found, expected)
    probabilities = calibrated.probabilities(plain.explain(values).logits)
    assert np.array_equal(probabilities, calibrated.predict_proba(values))
    assert not np.array_equal(probabilities, plain.predict_proba(values))


def test_each_part_is_what_the_network_says_without_the_others():
    """The logits where the head sees the LSTM branch, or one timepoint's filters, alone."""
    artifact = artifact_of("multiclass", 2, 9, network="malstm-fcn")
    values = np.random.default_rng(0).standard_normal((5, 18)).astype(np.float32)
    found = Classifier(artifact).explain(values)
    network = artifact.build_network().eval()
    with torch.inference_mode():
        network.head.bias.zero_()
        lstm_alone = network.head.weight.clone()
        lstm_alone[:, network.lstm.layers[0].hidden_size :] = 0
        image = torch.tensor(values).reshape(5, 2, 1, 9)
        for block in network.fcn.blocks:
            image = block(image)
        filters = network.head.weight[:, network.lstm.layers[0].hidden_size :]
        for t in range(9):
            expected = torch.nn.functional.linear(image[:, :, 0, t] / 9, filters)
            np.testing.assert_allclose(found.timepoints[:, :, t], expected, atol=1e-5)
        network.head.weight.copy_(lstm_alone)
        np.testing.assert_allclose(found.lstm, network(torch.tensor(values)), atol=1e-5)


@pytest.mark.parametrize("kind", ["multiclass", "binary", "multilabel"])
def test_an_ensemble_averages_its_members_parts(kind):
    artifact = artifact_of(kind, 1, 12, members=3)
    values = tiny_rows(kind).values
    network = artifact.build_network().eval()
    with torch.inference_mode():
        x = torch.tensor(values)
        alone = [
            FusedEnsemble.fuse(member).compute_terms(x).timepoints for member in network.members
        ]
    found = Classifier(artifact).explain(values).timepoints
    np.testing.assert_allclose(found, torch.stack(alone).mean(dim=0), atol=1e-6)
    assert np.abs(found - alone[0].numpy()).max() > 1e-3


def test_rows_are_explained_in_order_over_chunks():
    classifier = Classifier(tiny_artifact())
    values = tiny_rows(n_rows=2 * chunk_rows(N_TIMEPOINTS) + 3).values
    found = classifier.explain(values)
    for row in (0, chunk_rows(N_TIMEPOINTS), len(values) - 1):
        alone = classifier.explain(values[[row]])
        np.testing.assert_allclose(found.timepoints[[row]], alone.timepoints, atol=1e-6)
        np.testing.assert_allclose(found.lstm[[row]], alone.lstm, atol=1e-6)


def test_bf16_explains_the_logits_of_bf16():
    classifier, values = Classifier(tiny_artifact(), "bf16"), tiny_rows().values
    found = classifier.explain(values)
    assert np.array_equal(classifier.probabilities(found.logits), classifier.predict_proba(values))
    np.testing.assert_allclose(summed(found), found.logits, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_have_no_explanation(kind):
    found = Classifier(tiny_artifact(kind)).explain(np.empty((0, N_TIMEPOINTS)))
    n_outputs = len(outputs_to_explain(tiny_schema(kind)))
    assert found.timepoints.shape == (0, n_outputs, N_TIMEPOINTS)
    assert np.isfinite(found.bias).all()


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        ("multiclass", ("y_a", "y_b", "y_c")),
        ("names", ("cat", "dog", "emu")),
        ("binary", ("y",)),
        ("one-hot pair", ("y_yes",)),
        ("multilabel", ("y_1", "y_2", "y_3")),
    ],
)
def test_outputs_have_names(kind, outputs):
    assert outputs_to_explain(tiny_schema(kind)) == outputs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "row 3, column x_1: found nan, which is not a finite 32-bit number"),
        (3e38, "row 3: found values too large to compute with"),
        (-3e38, "row 3: found values too large to compute with"),
    ],
)
def test_what_is_not_predicted_is_not_explained(kind, value, message):
    values = tiny_rows(kind).values.copy()
    values[2, 1] = value
    scaler = Scaler(kind="global", mean=(0.0,), std=(1e-3,))
    with pytest.raises(DataError) as refused:
        Classifier(replace(tiny_artifact(kind), scaler=scaler)).explain(values)
    assert str(refused.value).startswith(message)


def test_a_part_that_overflows_is_refused_though_its_probability_is_a_number():
    artifact = tiny_artifact("multilabel", scaling="none")
    artifact.weights["head.weight"].abs_().mul_(1e30)
    values = tiny_rows(n_rows=3).values
    values[1] *= 1e10
    classifier = Classifier(artifact)
    assert np.isfinite(classifier.predict_proba(values)).all()
    with pytest.raises(DataError, match="row 2: found values too large to compute with"):
        classifier.explain(values)


def test_another_length_is_not_explained():
    with pytest.raises(DataError, match=r"found an array of shape \(2, 5\)"):
        Classifier(tiny_artifact()).explain(np.zeros((2, 5)))


SMALL = tiny_hyperparameters(filters_1=8, filters_2=16, filters_3=8, epochs=15)
REACH = 8
"""Timepoints on either side that the kernels of 8, 5 and 3 can see, and one more."""


def test_a_planted_bump_explains_its_class():
    random = np.random.default_rng(0)

    def rows(n):
        values = random.standard_normal((n, 60)) * 0.3
        starts = random.integers(REACH, 60 - REACH - 6, n)
        names = np.array(["bump", "flat"])[np.arange(n) % 2]
        for row in np.flatnonzero(names == "bump"):
            values[row, starts[row] : starts[row] + 6] += 2
        return (values.astype(np.float32), names), starts

    classifier = Classifier(train_arrays(rows(200)[0], SMALL))
    (values, names), starts = rows(100)
    assert (classifier.predict(values) == names).mean() > 0.95
    bump, flat = classifier.explain(values).timepoints.transpose(1, 0, 2)
    most = (bump - flat).argmax(axis=1)
    near = (most >= starts - REACH) & (most < starts + 6 + REACH)
    assert near[names == "bump"].mean() > 0.95


def test_a_bell_is_explained_by_where_it_is():
    """The event of a series, not the noise around it, has the larger terms for its class."""
    values, names = cylinder_bell_funnel(300, seed=0)
    classifier = Classifier(train_arrays((values.astype(np.float32), names), SMALL))
    values, names = cylinder_bell_funnel(60, seed=1)
    found, classes = classifier.explain(values), classifier.schema.classes
    own = found.timepoints[np.arange(60), [classes.index(name) for name in names]]
    others = (found.timepoints.sum(axis=1) - own) / 2
    inside, outside = slice(32, 48), slice(0, 8)  # an event starts at 16 to 32, and lasts 32
    said = own - others
    assert said[:, inside].mean() > 2 * np.abs(said[:, outside].mean())
