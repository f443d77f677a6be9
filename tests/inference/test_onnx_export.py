import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lstmfcn.errors import OutputError
from lstmfcn.inference.onnx_export import export_onnx
from lstmfcn.inference.predictor import Classifier
from lstmfcn.training.in_memory import train_arrays
from tests.helpers.small_models import (
    KINDS,
    tiny_artifact,
    tiny_calibrated,
    tiny_hyperparameters,
    tiny_rows,
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaling", ["global", "series", "timestep", "none"])
def test_onnx_runtime_gives_the_same_probabilities(kind, scaling, tmp_path):
    artifact = tiny_artifact(kind, scaling=scaling, num_layers=2, kernel_size_1=8)
    assert_same_probabilities(artifact, kind, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_temperature_is_part_of_the_file_and_thresholds_stand_beside(kind, tmp_path):
    artifact = tiny_calibrated(kind)
    assert_same_probabilities(artifact, kind, tmp_path)
    written = {p.key: p.value for p in onnx.load(str(tmp_path / "model.onnx")).metadata_props}
    thresholds = list(artifact.decision.thresholds)
    assert json.loads(written.get("thresholds", "[]")) == thresholds


def assert_same_probabilities(artifact, kind, tmp_path):
    export_onnx(artifact, tmp_path / "model.onnx")
    values = tiny_rows(kind, n_rows=60, seed=5).values
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(["probabilities"], {"series": values})
    expected = Classifier(artifact).predict_proba(values)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-6


def test_the_file_names_its_columns_and_classes(tmp_path):
    export_onnx(tiny_artifact("names"), tmp_path / "model.onnx")
    written = {p.key: p.value for p in onnx.load(str(tmp_path / "model.onnx")).metadata_props}
    assert written["task"] == "multiclass"
    assert json.loads(written["classes"]) == ["cat", "dog", "emu"]
    assert json.loads(written["columns"]) == ["p_cat", "p_dog", "p_emu"]


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        export_onnx(tiny_artifact(), tmp_path / "file" / "model.onnx")


@pytest.mark.parametrize("network", ["lstm-fcn", "alstm-fcn", "mlstm-fcn", "malstm-fcn"])
@pytest.mark.parametrize(("n_channels", "scaling"), [(1, "global"), (3, "series"), (4, "global")])
@pytest.mark.parametrize("view", ["series", "differences"])
def test_every_network_of_the_family_is_exported(network, n_channels, scaling, view, tmp_path):
    artifact = tiny_artifact(
        n_channels=n_channels, scaling=scaling, num_layers=2, network=network, view=view
    )
    torch.manual_seed(1)
    for name, weights in artifact.weights.items():
        if "attention" in name:
            weights.normal_()
    assert_same(artifact, tiny_rows(n_rows=60, seed=5).values, tmp_path)


def assert_same(artifact, values, tmp_path):
    export_onnx(artifact, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(["probabilities"], {"series": values})
    assert np.abs(found - Classifier(artifact).predict_proba(values)).max() < 2e-6


@pytest.mark.parametrize("network", ["lstm-fcn", "malstm-fcn"])
@pytest.mark.parametrize(("n_channels", "n_timepoints"), [(1, 50), (1, 99), (3, 101), (60, 100)])
def test_a_coarse_view_is_exported(network, n_channels, n_timepoints, tmp_path):
    """Whole windows and not, more channels than are left of the timepoints and fewer."""
    series = np.random.default_rng(0).standard_normal((24, n_channels, n_timepoints))
    names = np.array(["a", "b", "c"] * 8)
    h = tiny_hyperparameters(view="coarse", network=network, epochs=2)
    artifact = train_arrays((series.astype(np.float32), names), h)
    assert_same(artifact, series.reshape(24, -1).astype(np.float32), tmp_path)
