import numpy as np
import pytest
import torch

from lstmfcn.data.dataset import Dataset
from lstmfcn.errors import ModelError
from lstmfcn.inference.onnx_export import export_onnx
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.network import Ensemble
from lstmfcn.model.task import make_task
from lstmfcn.training.batches import EvaluationLoader
from lstmfcn.training.ensemble import member_weights
from lstmfcn.training.in_memory import train_arrays
from lstmfcn.training.loop import evaluate
from tests.helpers.small_models import tiny_hyperparameters, tiny_network
from tests.training.test_in_memory import labelled

THREE = tiny_hyperparameters(members=3, seed=5)


@pytest.fixture(scope="module")
def ensemble():
    return train_arrays(labelled(), THREE)


def test_members_are_what_their_seeds_train_alone(ensemble):
    members = member_weights(ensemble.weights, 3)
    for k, weights in enumerate(members):
        alone = train_arrays(labelled(), tiny_hyperparameters(seed=5 + k)).weights
        assert alone.keys() == weights.keys()
        assert all(torch.equal(alone[name], weights[name]) for name in alone)


def test_it_answers_with_the_mean_of_its_members_logits(ensemble):
    rows = labelled(seed=9)[0]
    scaled = torch.from_numpy(ensemble.scaler.transform(rows))
    network = ensemble.build_network().eval()
    assert isinstance(network, Ensemble)
    logits = torch.stack([member(scaled) for member in network.members]).mean(dim=0)
    found = Classifier(ensemble).predict_proba(rows)
    np.testing.assert_allclose(found, logits.softmax(dim=1).detach().numpy(), atol=1e-6)


def test_its_metrics_are_its_own(ensemble):
    values, names = labelled()
    labels = ensemble.schema.encode_names(names.tolist())
    scaled = Dataset(ensemble.scaler.transform(values), labels)
    network, task = ensemble.build_network(), make_task(ensemble.schema)
    totals = evaluate(network, task, EvaluationLoader(scaled))
    totals = totals._replace(by_class=())
    assert ensemble.metrics | totals.metrics("train", task) == ensemble.metrics
    losses = [metrics["train_loss"] for metrics in ensemble.training["members"]]
    assert len(set(losses)) == 3


def test_it_is_saved_and_loaded_as_one_model(ensemble, tmp_path):
    ensemble.save(tmp_path / "model")
    rows = labelled(seed=9)[0]
    loaded = Classifier.load(tmp_path / "model")
    assert loaded.artifact.hyperparameters == THREE
    assert np.array_equal(loaded.predict_proba(rows), Classifier(ensemble).predict_proba(rows))


def test_weights_of_fewer_members_are_refused(ensemble):
    weights = {name: tensor for name, tensor in ensemble.weights.items() if "members.2" not in name}
    torn = Artifact(THREE, ensemble.schema, ensemble.scaler, weights)
    with pytest.raises(ModelError, match="does not fit"):
        torn.build_network()


def test_onnx_runtime_agrees(ensemble, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    export_onnx(ensemble, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    rows = labelled(seed=9)[0]
    (found,) = session.run(["probabilities"], {"series": rows})
    np.testing.assert_allclose(found, Classifier(ensemble).predict_proba(rows), atol=1e-5)


def test_validation_rows_choose_each_member_and_judge_the_ensemble():
    artifact = train_arrays(labelled(), THREE, labelled(20, 3))
    assert "valid_accuracy" in artifact.metrics
    single = tiny_network()
    assert all(f"members.0.{name}" in artifact.weights for name in single.state_dict())
