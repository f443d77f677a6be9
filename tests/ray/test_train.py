"""Two workers that share every batch: what they train of shards, and of an estimator's arrays."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from lstmfcn import LSTMFCNClassifier
from lstmfcn.distributed.predict import predict
from lstmfcn.distributed.requests import Resources
from lstmfcn.errors import DataError, ResourceError
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.task import Decision
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.no_cluster import no_cluster
from tests.helpers.problems import TINY, waves, write
from tests.helpers.runs import train_run

pytestmark = pytest.mark.usefixtures("cluster")

N_ROWS, N_TRAINED = 127, 101  # leaves a remainder for every number of shards, workers and batches
HYPERPARAMETERS = TINY.model_copy(update={"epochs": 20, "calibrate": True})
KINDS = np.array(["rising", "falling", "flat"])


def labelled(n_rows=N_ROWS, seed=0):
    """Series as a table, and the name of each."""
    table = waves(n_rows, seed)
    kinds = table.filter(like="y_").to_numpy().argmax(axis=1)
    return table.filter(like="x_"), KINDS[kinds]


@pytest.fixture(scope="module")
def estimator(cluster):  # noqa: ARG001 - the cluster runs it
    given = HYPERPARAMETERS.model_dump(exclude_unset=True)
    return LSTMFCNClassifier(**given, num_workers=2, validation_fraction=0.2).fit(*labelled())


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The rows that the estimator trains on and those that it holds out, as shards."""
    folder = tmp_path_factory.mktemp("shards")
    series, names = labelled()
    parts = train_test_split(np.arange(N_ROWS), test_size=0.2, stratify=names, random_state=0)
    table = series.assign(y=names)
    for name, rows, n_shards in zip(("train", "validation"), parts, (7, 1), strict=True):
        write(folder / name, table.iloc[np.sort(rows)], n_shards)
    return folder


@pytest.fixture(scope="module")
def run(cluster, shards):  # noqa: ARG001 - the cluster runs it
    output, _ = train_run(
        shards,
        shards / "train",
        validation=shards / "validation",
        hyperparameters=HYPERPARAMETERS,
        resources=Resources(2),
    )
    return output


def test_every_row_is_trained_once_an_epoch(run):
    history = read_metrics(run / "metrics.jsonl")
    assert [epoch["rows"] for epoch in history] == [N_TRAINED] * HYPERPARAMETERS.epochs


def test_the_kept_weights_score_what_the_metrics_say(run):
    artifact, (series, names) = Artifact.load(run / "model"), labelled()
    rows = train_test_split(np.arange(N_ROWS), test_size=0.2, stratify=names, random_state=0)[1]
    assert artifact.decision.temperature != 1
    classifier = Classifier(replace(artifact, decision=Decision()))
    probabilities = classifier.predict_proba(series.iloc[rows])
    truth = [classifier.schema.classes.index(name) for name in names[rows]]
    loss = -np.log(probabilities[np.arange(len(rows)), truth]).mean()
    kept = artifact.metrics
    assert kept["valid_loss"] == pytest.approx(loss, rel=1e-4)
    assert kept["valid_accuracy"] == pytest.approx((probabilities.argmax(axis=1) == truth).mean())


def test_an_estimator_trains_what_is_trained_of_shards_in_any_layout(
    run, shards, estimator, tmp_path
):
    found, expected = estimator.classifier_.artifact, Artifact.load(run / "model")
    assert found.schema == expected.schema
    for name in ("num_workers", "train_rows", "validation_rows", "train_sha256"):
        assert found.training[name] == expected.training[name]
    assert [found.training[f"{name}_rows"] for name in ("train", "validation")] == [N_TRAINED, 26]
    assert found.training["num_workers"] == 2
    assert found.weights.keys() == expected.weights.keys()
    for name, tensor in expected.weights.items():
        assert tensor.equal(found.weights[name]), name

    assert estimator.score(*labelled(seed=1)) > 0.8
    loaded, (series, _) = LSTMFCNClassifier.load(run / "model"), labelled(seed=1)
    np.testing.assert_array_equal(loaded.predict_proba(series), estimator.predict_proba(series))
    estimator.save(tmp_path / "model")
    with no_cluster():
        predicted = predict(
            shards / "train", model=tmp_path / "model", output=tmp_path / "predictions"
        )
    assert predicted.rows == N_TRAINED


def test_too_large_a_wish_is_refused(tmp_path):
    data = write(tmp_path / "data", waves(30))
    with pytest.raises(
        ResourceError, match=r"no room for 3 workers of 2 CPUs: .* 4 CPUs and 0 GPUs;"
    ):
        train_run(tmp_path, data, resources=Resources(3, cpus_per_worker=2))
    with pytest.raises(
        ResourceError, match=r"no room for 1 worker of 1 CPU and a GPU: .* or add --no-use-gpu"
    ):
        train_run(tmp_path, data, resources=Resources(use_gpu=True))
    with pytest.raises(ResourceError, match="no room for 99 workers of 1 CPU"):
        LSTMFCNClassifier(num_workers=99).fit(*labelled())
    with pytest.raises(DataError, match=r"found 3 rows for 2 workers"):
        train_run(tmp_path, write(tmp_path / "few", waves(3)), resources=Resources(2))
    assert not (tmp_path / "run").exists()
