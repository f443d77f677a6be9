import hashlib
import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from lstmfcn.errors import ModelError, OutputError
from lstmfcn.estimator import LSTMFCNClassifier
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.network import LSTMFCN
from lstmfcn.model.task import Decision
from tests.helpers.small_models import KINDS, tiny_artifact, tiny_calibrated, tiny_rows

FILES = ["model.json", "model.safetensors"]
DAMAGED = "found content that is not what was saved"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def saved(tmp_path, **changes):
    tiny_artifact(**changes).save(tmp_path / "model")
    return tmp_path / "model"


def refusal(folder):
    with pytest.raises(ModelError) as refused:
        Artifact.load(folder)
    message = str(refused.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def assert_equal(found, expected):
    for part in ("hyperparameters", "schema", "scaler", "metrics", "training", "decision"):
        assert getattr(found, part) == getattr(expected, part)
    assert found.weights.keys() == expected.weights.keys()
    for name, tensor in expected.weights.items():
        assert found.weights[name].dtype == tensor.dtype
        assert torch.equal(found.weights[name], tensor)


def assert_refused_or_equal(folder, expected):
    """What says the same in other bytes, such as 1E-07 for 1e-07, may be read."""
    try:
        found = Artifact.load(folder)
    except ModelError:
        assert refusal(folder)
        return False
    assert_equal(found, expected)
    return True


def rewritten(folder, **changes):
    """Change the description and make its checksum right again."""
    description = json.loads((folder / "model.json").read_text()) | changes
    del description["description_sha256"]
    text = json.dumps(description, sort_keys=True)
    description["description_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "model.json").write_text(json.dumps(description))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaling", ["global", "timestep", "series", "none"])
def test_a_model_comes_back_equal_in_every_part(tmp_path, kind, scaling):
    artifact = tiny_artifact(kind, scaling=scaling, num_layers=2)
    artifact.save(tmp_path / "model")
    assert_equal(Artifact.load(tmp_path / "model"), artifact)
    assert_equal(Artifact.load(str(tmp_path / "model")), artifact)


def test_a_loaded_model_answers_like_the_saved_one(tmp_path):
    values = tiny_rows(seed=1).values
    expected = Classifier(tiny_artifact()).predict_proba(values)
    found = Classifier.load(saved(tmp_path)).predict_proba(values)
    np.testing.assert_array_equal(found, expected)


def test_a_model_directory_holds_two_files_and_no_pickle(tmp_path):
    folder = saved(tmp_path)
    assert names(folder) == FILES
    assert names(tmp_path) == ["model"]
    description = json.loads((folder / "model.json").read_text())
    weights = (folder / "model.safetensors").read_bytes()
    assert description["format_version"] == 1
    assert description["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert description["hyperparameters"]["batch-size"] == 16
    assert set(description["versions"]) == {"lstmfcn", "python", "torch", "numpy"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_temperature_and_thresholds_are_kept(tmp_path, kind):
    artifact = tiny_calibrated(kind)
    artifact.save(tmp_path / "model")
    assert_equal(Artifact.load(tmp_path / "model"), artifact)


def test_a_model_that_was_not_calibrated_writes_no_decision_and_has_the_default(tmp_path):
    folder = saved(tmp_path)
    assert "decision" not in json.loads((folder / "model.json").read_text())
    assert Artifact.load(folder).decision == Decision(temperature=1.0, thresholds=())


def test_a_model_of_before_there_was_calibration_is_loaded(tmp_path):
    folder = saved(tmp_path)
    hyperparameters = json.loads((folder / "model.json").read_text())["hyperparameters"]
    del hyperparameters["calibrate"], hyperparameters["fit-thresholds"]
    rewritten(folder, hyperparameters=hyperparameters)
    assert_equal(Artifact.load(folder), tiny_artifact())


def test_a_model_of_before_there_were_markers_is_loaded_and_knows_its_classes(tmp_path):
    folder = saved(tmp_path, kind="names")
    description = json.loads((folder / "model.json").read_text())
    hyperparameters, schema = description["hyperparameters"], description["schema"]
    for name in ("missing-marker", "missing-labels"):
        del hyperparameters[name], schema[name.replace("-", "_")]
    assert "missing" in schema
    rewritten(folder, hyperparameters=hyperparameters, schema=schema)
    assert_equal(Artifact.load(folder), tiny_artifact("names"))
    schema["classes"] = ["0.0000e+00", "1.0000e+00", "nan"]
    rewritten(folder, schema=schema)
    known = Artifact.load(folder).schema
    assert known.classes == ("0.0000e+00", "1.0000e+00", "nan")
    labels = pa.table({"y": ["1", "nan", "0", "1.0000e+00", "-0.0"]})
    assert known.encode_labels(labels).tolist() == [1, 2, 0, 1, 0]


def test_an_impossible_temperature_is_explained(tmp_path):
    folder = saved(tmp_path)
    rewritten(folder, decision={"temperature": 0})
    assert "temperature: found 0; it must be greater than or equal to 0.01" in refusal(folder)


def test_equal_models_are_saved_as_equal_bytes(tmp_path):
    for name in ("a", "b"):
        tiny_artifact().save(tmp_path / name)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_network_has_the_saved_weights(tmp_path):
    network = Artifact.load(saved(tmp_path)).build_network()
    assert isinstance(network, LSTMFCN)
    for name, tensor in tiny_artifact().weights.items():
        assert torch.equal(network.state_dict()[name], tensor)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_noticed(tmp_path, name):
    artifact, folder = tiny_artifact(), saved(tmp_path)
    content = (folder / name).read_bytes()
    rng = np.random.default_rng(0)
    read = 0
    for position in {0, 7, 8, len(content) - 1, *rng.integers(0, len(content), 150).tolist()}:
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(rng.integers(8))
        (folder / name).write_bytes(flipped)
        read += assert_refused_or_equal(folder, artifact)
    assert read == 0 or name == "model.json"
    assert read < 15


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_off_is_noticed(tmp_path, name):
    folder = saved(tmp_path)
    content = (folder / name).read_bytes()
    lengths = np.linspace(0, len(content) - 2, 80).astype(int)  # the last byte of JSON is a newline
    for length in lengths.tolist():
        (folder / name).write_bytes(content[:length])
        assert DAMAGED in refusal(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_grew_is_noticed(tmp_path, name):
    folder = saved(tmp_path)
    with (folder / name).open("ab") as file:
        file.write(b"\0")
    assert f"{name}: {DAMAGED}" in refusal(folder)


@pytest.mark.parametrize(
    ("before", "after"),
    [('"dropout": 0.1', '"dropout": 0.2'), ('"dog"', '"cat"'), ('"workers": 1', '"workers": 2')],
)
def test_an_edited_description_is_noticed(tmp_path, before, after):
    path = saved(tmp_path, kind="names") / "model.json"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    assert f"{path}: {DAMAGED}" in refusal(path.parent)


def test_weights_of_another_model_are_noticed(tmp_path):
    folder = saved(tmp_path)
    tiny_artifact(seed=1).save(tmp_path / "other")
    (folder / "model.safetensors").write_bytes(
        (tmp_path / "other" / "model.safetensors").read_bytes()
    )
    assert f"{folder / 'model.safetensors'}: {DAMAGED}" in refusal(folder)


def test_weights_of_another_shape_do_not_become_a_network():
    small, large = tiny_artifact(), tiny_artifact(hidden_size=5)
    mixed = Artifact(large.hyperparameters, small.schema, small.scaler, small.weights)
    with pytest.raises(ModelError, match=r"model.safetensors does not fit model.json"):
        mixed.build_network()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    folder = saved(tmp_path)
    (folder / name).unlink()
    assert f"found no readable {name} (No such file or directory)" in refusal(folder)
    (folder / name).mkdir()
    assert f"found no readable {name} (Is a directory)" in refusal(folder)


def test_a_path_that_is_no_model_directory_is_refused(tmp_path):
    assert "name a model directory" in refusal(tmp_path / "absent")
    assert "found no readable model.json" in refusal(tmp_path)
    assert "name a model directory" in refusal(saved(tmp_path) / "model.json")


@pytest.mark.parametrize("foreign", ["{}", "[]", "null", '"format_version"', '{"name": "x"}', "1"])
def test_foreign_json_is_refused(tmp_path, foreign):
    folder = saved(tmp_path)
    (folder / "model.json").write_text(foreign)
    assert "found no lstmfcn model description" in refusal(folder)


@pytest.mark.parametrize(
    "broken", ["", "{", "[" * 100_000, '{"a":' * 100_000, "\xff\xfe", "{'a': 1}", "1" * 5000]
)
def test_what_is_no_json_is_refused(tmp_path, broken):
    folder = saved(tmp_path)
    (folder / "model.json").write_bytes(broken.encode("latin-1"))
    assert DAMAGED in refusal(folder)


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.5])
def test_another_format_version_is_named(tmp_path, version):
    folder = saved(tmp_path)
    rewritten(folder, format_version=version)
    assert f"found format version {version}, this lstmfcn reads 1" in refusal(folder)


def test_a_description_of_the_right_version_without_checksum_is_refused(tmp_path):
    folder = saved(tmp_path)
    (folder / "model.json").write_text('{"format_version": 1}')
    assert DAMAGED in refusal(folder)


def test_an_impossible_hyperparameter_is_explained(tmp_path):
    folder = saved(tmp_path)
    rewritten(folder, hyperparameters={"hidden-size": 0})
    assert "hidden-size: found 0; it must be greater than or equal to 1" in refusal(folder)


def test_saving_replaces_the_model_that_stands_there(tmp_path):
    folder = saved(tmp_path)
    second = tiny_artifact("binary", seed=1, hidden_size=6)
    second.save(folder)
    assert_equal(Artifact.load(folder), second)
    assert names(folder) == FILES
    assert names(tmp_path) == ["model"]


def test_saving_makes_the_folders_above_and_fills_an_empty_one(tmp_path):
    for folder in (tmp_path / "a" / "b" / "model", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        tiny_artifact().save(str(folder))
        assert_equal(Artifact.load(folder), tiny_artifact())


def test_saving_over_a_file_is_refused_and_leaves_it(tmp_path):
    path = tmp_path / "model"
    path.write_text("mine")
    with pytest.raises(OutputError, match="is a file; choose a folder"):
        tiny_artifact().save(path)
    assert path.read_text() == "mine"
    assert names(tmp_path) == ["model"]


def test_saving_over_a_folder_of_other_files_is_refused_and_leaves_it(tmp_path):
    folder = saved(tmp_path)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"contains notes\.txt, which would be lost"):
        tiny_artifact(seed=1).save(folder)
    assert_equal(Artifact.load(folder), tiny_artifact())
    assert names(tmp_path) == ["model"]


def test_a_model_that_cannot_be_described_leaves_nothing(tmp_path):
    artifact = tiny_artifact()
    artifact.metrics["train_loss"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifact.save(tmp_path / "model")
    assert names(tmp_path) == []


@pytest.mark.parametrize("record", ["run.json", "sweep.json"])
def test_the_folder_of_a_run_or_a_sweep_stands_for_its_model(tmp_path, caplog, record):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    (run / record).write_text("{}")
    with pytest.raises(ModelError, match=r"run: this run has no model yet; wait until it ends"):
        Artifact.load(run)
    saved(run)
    with caplog.at_level("INFO"):
        assert_equal(Artifact.load(run), tiny_artifact())
    assert caplog.messages == [f"{run} is the folder of a run; using its model {run / 'model'}"]
    np.testing.assert_array_equal(
        Classifier.load(str(run)).predict(tiny_rows().values),
        Classifier.load(run / "model").predict(tiny_rows().values),
    )


@pytest.mark.parametrize("uri", ["s3:/b", "memory::", "hdfs:/b/model"])
def test_what_looks_like_a_uri_is_no_model(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (Artifact.load, Classifier.load, LSTMFCNClassifier.load):
        with pytest.raises(ModelError, match=rf"^found {uri}; write a folder, or a URI with two"):
            use(uri)
    with pytest.raises(OutputError, match=rf"^found {uri}; write a folder, or a URI with two"):
        tiny_artifact().save(uri)
    assert names(tmp_path) == []
