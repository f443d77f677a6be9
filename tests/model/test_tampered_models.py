"""Models that a stranger changed, and made the checksums right again: refused in a line, or usable.

Nothing of them may be allocated before it is known to fit.
"""

import copy
import hashlib
import json
import math
import os
import struct
import time

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstmfcn.errors import ModelError
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from tests.helpers.small_models import KINDS, tiny_artifact, tiny_calibrated

NAN, INF = float("nan"), float("inf")
HUGE = 10**9


def saved(folder, kind="multilabel", **changes):
    tiny_calibrated(kind, **changes).save(folder)
    return folder


def sealed(folder, description, weights=None):
    """Write a description, and perhaps weights, with checksums that are right."""
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
        description["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    description.pop("description_sha256", None)
    text = json.dumps(description, sort_keys=True)
    description["description_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "model.json").write_text(json.dumps(description))


def described(folder):
    return json.loads((folder / "model.json").read_text())


def refusal(folder):
    began = time.process_time()
    with pytest.raises(ModelError) as refused:
        Artifact.load(folder)
    assert time.process_time() - began < 2
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith(str(folder))
    assert len(message) < 2500
    return message


def at(path, value):
    """Put a value at a path such as ``scaler.std.0``; ... removes what stands there."""

    def change(description):
        *above, last = (int(part) if part.isdigit() else part for part in path.split("."))
        place = description
        for part in above:
            place = place[part]
        if value is ...:
            del place[last]
        else:
            place[last] = value

    return change


DESCRIPTIONS = [
    *((name, ...) for name in ("hyperparameters", "schema", "scaler", "metrics", "training")),
    ("weights_sha256", ...),
    *((f"schema.{name}", ...) for name in ("task", "label_columns", "value_columns", "classes")),
    ("scaler.kind", ...),
    *(
        (name, value)
        for name in ("hyperparameters", "schema", "scaler", "decision", "metrics", "training")
        for value in (3, None, [], "text")
    ),
    ("format_version", True),
    ("format_version", 1.0),
    ("format_version", [[[[[1] * 1000]]]]),
    ("format_version", "x" * 100_000),
    ("weights_sha256", 3),
    ("weights_sha256", "a"),
    ("metrics.train_loss", NAN),
    ("metrics.train_loss", INF),
    ("metrics.train_loss", "low"),
    ("metrics.train_loss", True),
    ("metrics.epoch", 10**400),
    ("training.seconds", NAN),
    ("scaler.mean", [0.0, 0.0]),
    ("scaler.mean", []),
    ("scaler.std", []),
    ("scaler.mean.0", NAN),
    ("scaler.mean.0", 1e300),
    ("scaler.mean.0", "low"),
    ("scaler.std.0", 0.0),
    ("scaler.std.0", -1.0),
    ("scaler.std.0", 1e-300),
    ("scaler.std.0", INF),
    ("scaler.kind", "timestep"),
    ("scaler.kind", "series"),
    ("scaler.kind", "nonsense"),
    ("scaler.n_channels", 7),
    ("scaler.n_channels", 0),
    ("decision.temperature", 0),
    ("decision.temperature", NAN),
    ("decision.temperature", INF),
    ("decision.temperature", 1e-300),
    ("decision.thresholds", [0.5]),
    ("decision.thresholds", [9, 9, 9]),
    ("decision.thresholds", [0.5, 0.5, NAN]),
    ("hyperparameters.hidden-size", 20_000),
    ("hyperparameters.hidden-size", 10**30),
    ("hyperparameters.filters-1", 10**8),
    ("hyperparameters.filters-3", HUGE),
    ("hyperparameters.kernel-size-2", HUGE),
    ("hyperparameters.num-layers", 10**6),
    ("hyperparameters.num-layers", 10**12),
    ("hyperparameters.num-layers", NAN),
    ("hyperparameters.members", 100),
    ("hyperparameters.network", "malstm-fcn"),
    ("hyperparameters.view", "differences"),
    ("hyperparameters.task", "multiclass"),
    ("hyperparameters.missing", "mask"),
    ("hyperparameters.unknown", [["x" * 1000] * 1000] * 100),
    ("schema.n_channels", HUGE),
    ("schema.n_channels", 5),
    ("schema.n_channels", 2),
    ("schema.task", "binary"),
    ("schema.missing", "mask"),
    ("schema.label_columns", ["y", "y", "y"]),
    ("schema.label_columns", []),
    ("schema.label_columns", ["y_1", "y_2", ""]),
    ("schema.label_columns", ["y_1", "y_2", "x_0"]),
    ("schema.label_columns", ["y_1", "y_2", "\ud800"]),
    ("schema.classes", ["y_1", "y_2"]),
    ("schema.classes", ["y_1", "y_1", "y_1"]),
    ("schema.classes", []),
    ("schema.value_columns", ["x_1"] * 12),
    ("schema.value_columns", []),
    ("schema.value_columns", [f"x_{i}" for i in range(24)]),
    ("schema.value_columns.3", "x_2"),
    ("schema.value_columns.3", 4),
]


@pytest.mark.parametrize(("path", "value"), DESCRIPTIONS)
def test_a_tampered_description_is_refused_in_a_line(tmp_path, path, value):
    folder = saved(tmp_path / "model")
    description = described(folder)
    at(path, value)(description)
    sealed(folder, description)
    refusal(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_classes_and_labels_must_fit_in_each_task(tmp_path, kind):
    folder = saved(tmp_path / "model", kind)
    for classes in ([], ["a"], ["", "b", "c"], ["a", "a", "b"]):
        description = described(folder)
        description["schema"]["classes"] = classes
        sealed(folder, description)
        refusal(folder)


def test_a_value_that_is_large_or_deep_is_told_shortly_and_at_once(tmp_path):
    folder = saved(tmp_path / "model")
    for value in ({"a": ["b" * 10**6] * 3}, "x" * 10**6, [[[["x" * 100] * 100] * 10] * 10] * 10):
        description = described(folder)
        description["hyperparameters"]["hidden-size"] = value
        sealed(folder, description)
        assert "hidden-size: found " in refusal(folder)


def container(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def weights(**changes):
    tensors = {name: tensor.contiguous() for name, tensor in tiny_artifact().weights.items()}
    tensors |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return safetensors.torch.save({n: t for n, t in tensors.items() if t is not None})


def retyped(dtype):
    tensors = {
        name: tensor.contiguous().to(dtype) for name, tensor in tiny_artifact().weights.items()
    }
    return safetensors.torch.save(tensors)


def edited(change):
    content = weights()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header)
    return container(header, content[8 + length :])


WEIGHTS = {
    "empty": b"",
    "short": b"abc",
    "length only": struct.pack("<Q", 0),
    "header of 2^63": struct.pack("<Q", 1 << 63) + b"{}",
    "header of 2^40": struct.pack("<Q", 1 << 40) + b"{}",
    "junk": bytes(range(256)) * 40,
    "junk header": container(b"\xff" * 100),
    "a list": container([]),
    "a number": container(b"1"),
    "digits": container(b"1" * 5000),
    "no tensors": container({}),
    "deep": container(b"[" * 100_000),
    "deep objects": container(b'{"a":' * 50_000),
    "cut off": weights()[:-10],
    "longer": weights() + b"\0",
    "pickle": b"\x80\x04cos\nsystem\n",
    "a tensor less": weights(head__bias=None),
    "a tensor more": weights(other=torch.zeros(3)),
    "another shape": weights(head__bias=torch.zeros(4)),
    "nan": weights(head__bias=torch.tensor([0.0, NAN, 0.0])),
    "infinite": weights(head__bias=torch.tensor([0.0, INF, -INF])),
    "bf16": retyped(torch.bfloat16),
    "float64": retyped(torch.float64),
    "int32": retyped(torch.int32),
    "unknown type": edited(lambda h: h["head.bias"].update(dtype="X9")),
    "no type": edited(lambda h: h["head.bias"].pop("dtype")),
    "no shape": edited(lambda h: h["head.bias"].pop("shape")),
    "no offsets": edited(lambda h: h["head.bias"].pop("data_offsets")),
    "huge shape": edited(lambda h: h["head.bias"].update(shape=[1 << 62, 8])),
    "a shape of text": edited(lambda h: h["head.bias"].update(shape="long")),
    "overlap": edited(lambda h: h["head.bias"].update(data_offsets=[0, 12])),
    "offsets beyond": edited(lambda h: h["head.bias"].update(data_offsets=[10**12, 10**12 + 12])),
    "offsets backwards": edited(lambda h: h["head.bias"].update(data_offsets=[12, 0])),
    "metadata of lists": edited(lambda h: h.update(__metadata__=[1])),
    "a tensor of text": edited(lambda h: h.update({"head.bias": "text"})),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_tampered_weights_are_refused_in_a_line(tmp_path, name):
    tiny_artifact().save(tmp_path / "model")
    sealed(tmp_path / "model", described(tmp_path / "model"), WEIGHTS[name])
    refusal(tmp_path / "model")


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, name):
    folder = saved(tmp_path / "model")
    path = folder / name
    path.unlink()
    os.mkfifo(path)
    assert f"no readable {name} (it is not a regular file)" in refusal(folder)
    for target in ("/dev/zero", "/dev/stdin", "/dev/tty", path.name, tmp_path, "absent"):
        path.unlink()
        path.symlink_to(target)
        assert f"no readable {name} (" in refusal(folder)


def test_a_link_to_a_whole_file_is_read(tmp_path):
    folder = saved(tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "elsewhere")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    assert Artifact.load(folder).schema.task == "multilabel"


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_file_of_a_terabyte_is_refused_at_once(tmp_path, name):
    folder = saved(tmp_path / "model")
    os.truncate(folder / name, 1 << 40)  # sparse
    refusal(folder)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**8)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["mask", "none", "series", "timestep", "binary", "multiclass", "coarse"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(part, above=()):
    """Where something stands in a description."""
    yield from [above] if above else []
    if isinstance(part, dict | list):
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            yield from paths(value, (*above, key))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folders = []
    for kind in KINDS:
        for scaling in ("global", "timestep"):
            folder = tmp_path_factory.mktemp("models") / "model"
            folders.append(saved(folder, kind, scaling=scaling))
    return [(folder, described(folder)) for folder in folders]


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.data_too_large])
@given(data=st.data())
def test_any_change_of_a_description_is_refused_or_leaves_a_model_that_answers(models, data):
    folder, whole = models[data.draw(st.integers(0, len(models) - 1))]
    description = copy.deepcopy(whole)
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(paths(description))))
        place = description
        for key in path[:-1]:
            place = place[key]
        if data.draw(st.booleans()):
            place[path[-1]] = data.draw(JSON)
        elif data.draw(st.booleans()):
            del place[path[-1]]
        elif isinstance(place, list):
            place.insert(path[-1], data.draw(JSON))
        else:
            place[data.draw(st.text(max_size=5))] = data.draw(JSON)
    sealed(folder, description)
    try:
        classifier = Classifier.load(folder)
    except ModelError:
        refusal(folder)
        return
    scaler, n_values = classifier.artifact.scaler, classifier.schema.n_values
    noise = np.random.default_rng(0).standard_normal((3, n_values)).astype(np.float32)
    mean, std = (np.array(part or (1.0,)) for part in (scaler.mean, scaler.std))
    values = (noise * std + mean).astype(np.float32)
    probabilities = classifier.predict_proba(values)
    assert np.isfinite(probabilities).all()
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    assert classifier.predict(values).shape[0] == 3
    assert all(math.isfinite(number) for number in classifier.artifact.metrics.values())
