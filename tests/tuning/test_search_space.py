import math
import os
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.errors import HyperparameterError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.tuning.search_space import PRESETS, Choice, Range, SearchSpace


def parsed(text):
    return SearchSpace.parse(text, "space.yaml")


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_of_a_preset_is_a_hyperparameters(name):
    import optuna

    space = SearchSpace.load(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        suggested = study.ask(space.distributions()).params
        assert suggested.items() <= Hyperparameters.parse(suggested).model_dump().items()


def test_kinds_of_values():
    space = parsed(
        """
        lr: {loguniform: [1e-4, 1e-2]}
        dropout: {uniform: [0.2, 0.9]}
        hidden-size: {int: [8, 128], log: true}
        filters_1: {int: [3, 7]}
        schedule: {choice: [constant, cosine]}
        batch-size: {choice: [16, "32"]}
        """
    )
    assert space.values == {
        "lr": Range(1e-4, 1e-2, log=True),
        "dropout": Range(0.2, 0.9),
        "hidden_size": Range(8, 128, log=True),
        "filters_1": Range(3, 7),
        "schedule": Choice(("constant", "cosine")),
        "batch_size": Choice((16, 32)),
    }


@given(low=st.integers(1, 1000), more=st.integers(1, 1000), log=st.booleans())
def test_both_bounds_of_a_range_are_searched(low, more, log):
    space = parsed(yaml.dump({"hidden-size": {"int": [low, low + more], "log": log}}))
    domain = space.distributions()["hidden_size"]
    assert (domain.low, domain.high, domain.log) == (low, low + more, log)
    assert space.largest("hidden_size", 0) == low + more


@pytest.mark.parametrize("name", PRESETS)
def test_a_space_is_the_same_after_it_was_written(name):
    space = SearchSpace.load(name)
    assert parsed(yaml.dump(space.to_dict())) == space


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: {loguniform: [0, 1]}", "lr: found 0; it must be greater than 0"),
        ("dropout: {uniform: [0.5, 1.5]}", "dropout: found 1.5; it must be less than 1"),
        ("dropout: {uniform: [0.9, 0.5]}", "dropout: found [0.9, 0.5]; write the smaller number f"),
        (
            "dropout: {loguniform: [0, 0.5]}",
            "dropout: found [0, 0.5]; a logarithmic range needs numbers a",
        ),
        ("hidden-size: {int: [1, 2, 3]}", "hidden-size: found [1, 2, 3]; write two numbers, low a"),
        ("hidden-size: {uniform: [1, 9]}", "hidden-size: found uniform; write int or choice"),
        ("lr: {int: [1, 9]}", "lr: found int; write uniform, loguniform or choice"),
        ("schedule: {int: [1, 9]}", "schedule: found int; write choice"),
        ("schedule: {choice: [cosine, sine]}", "schedule: found 'sine'; it must be 'constant', "),
        ("schedule: {choice: [cosine, cosine]}", "schedule: found a choice twice in ['cosine', 'c"),
        ("schedule: {choice: []}", "schedule: found {'choice': []}; write {choice: [...]}"),
        ("lr: 0.1", "lr: found 0.1; write {choice: [...]}"),
        ("lr: {uniform: [0.1, 0.2], log: true}", "lr: found log next to uniform; remove it"),
        ("task: {choice: [binary]}", "task: cannot be searched, it describes the labels"),
        (
            "members: {int: [1, 5]}",
            "members: cannot be searched, more members are always better but slower; set it in "
            "lstmfcn train",
        ),
        ("calibrate: {choice: [true]}", "calibrate: cannot be searched, it does not change the"),
        ("width: {int: [1, 2]}", "width is not a hyperparameter"),
        ("batch-size: {int: [1, 2]}\nbatch_size: {int: [1, 2]}", "batch-size is there twice"),
        ("", "names no hyperparameter; write {choice: [...]}"),
        ("- lr", "names no hyperparameter; write {choice: [...]}"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_the_field(text, message):
    with pytest.raises(HyperparameterError) as refused:
        parsed(text)
    assert str(refused.value).startswith(f"space.yaml: {message}")
    assert "\n" not in str(refused.value)


def test_what_is_no_yaml_is_told_with_its_line():
    with pytest.raises(HyperparameterError, match=r"^space.yaml, line 2: is not YAML; write"):
        parsed("lr: {uniform: [1, 2]}\n  x: {:\n")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(HyperparameterError) as refused:
        SearchSpace.load(str(tmp_path / "none.yaml"))
    assert str(refused.value) == (
        f"{tmp_path / 'none.yaml'}: cannot be read (No such file or directory); "
        "name a YAML file, or one of the presets: default, paper, published"
    )


def test_what_is_given_is_not_searched():
    space = SearchSpace.load("published")
    assert "lr" not in space.without({"lr"}, "published").values
    with pytest.raises(HyperparameterError, match=r"^lr: is given and also searched in my.yaml"):
        space.without({"lr"}, "my.yaml")
    with pytest.raises(HyperparameterError, match="all of its hyperparameters are given"):
        space.without(set(space.values), "published")


def test_a_model_to_continue_from_allows_lr_batch_size_and_epochs():
    parsed("lr: {uniform: [0.1, 0.2]}\nepochs: {int: [1, 3]}").refuse_for_loaded_model("my.yaml")
    with pytest.raises(HyperparameterError, match=r"^my.yaml: dropout comes from the model"):
        parsed("dropout: {uniform: [0.1, 0.2]}").refuse_for_loaded_model("my.yaml")


def test_the_defaults_lie_in_the_default_space_and_not_in_the_others():
    defaults = Hyperparameters().model_dump()
    assert [SearchSpace.load(name).holds(defaults) for name in PRESETS] == [True, False, False]


@given(st.integers(-5, 20), st.sampled_from([8, 16, "auto", "8", None]))
def test_a_space_holds_what_it_may_suggest(hidden, batch):
    space = parsed("hidden-size: {int: [3, 7]}\nbatch-size: {choice: [8, auto]}")
    found = {"hidden_size": hidden, "batch_size": batch, "lr": 1.0}
    assert space.holds(found) == (3 <= hidden <= 7 and batch in (8, "auto"))
    ranged = parsed("batch-size: {int: [8, 16]}")
    assert ranged.holds(found) == (batch in (8, 16))


def test_the_published_ranges():
    values = SearchSpace.load("published").values
    assert math.isclose(values["lr"].low, 1e-4)
    assert values["epochs"] == Range(10, 50)
    assert values["batch_size"] == Choice((32, 64, 128, 512))


LEVELS = "".join(
    f"a{i}: &a{i} [{', '.join(f'*a{i - 1}' for _ in range(9))}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [0]\n" + LEVELS + "lr: *a8\n",
        "lr: &x {uniform: [*x, 1]}",
        "lr: " + "[" * 5000,
        "{lr: " * 3000,
        "lr: " + "9" * 5000,
        "lr: 0x" + "f" * 20_000,
        "lr: {choice: [0x" + "f" * 20_000 + "]}",
        "hidden-size: {int: [1, 0x" + "f" * 20_000 + "], log: 3}",
        "lr: 2001-99-99",
        "lr: !!python/object/apply:os.system [exit]",
        "lr: {choice: [" + "'x', " * 9000 + "]}",
        "lr: !!binary " + "A" * 40_000,
        "'" + "x" * 50_000 + "': 3",
        "lr: {'" + "x" * 50_000 + "': 3, choice: [1]}",
        "? [1, 2]\n: 3",
        "lr: \x1b[31m",
        "lr: !!timestamp nonsense",
        "lr: !!float nonsense",
        "lr: !!bool nonsense",
        "<<: 3",
    ],
)
def test_a_strangers_yaml_is_refused_in_a_line_of_bounded_length(text):
    began = time.process_time()
    with pytest.raises(HyperparameterError) as refusal:
        SearchSpace.parse(text, "space.yaml")
    assert time.process_time() - began < 5
    message = str(refusal.value)
    assert message.startswith("space.yaml")
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 2500


def test_an_alias_is_told_by_its_line():
    with pytest.raises(HyperparameterError, match=r"^space.yaml, line 2: is not YAML"):
        SearchSpace.parse("lr: &lr {uniform: [0.1, 0.2]}\ndropout: *lr", "space.yaml")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "/proc/self/nothing"])
def test_what_is_no_file_is_refused_at_once(path):
    with pytest.raises(HyperparameterError, match=rf"^{path}: cannot be read \("):
        SearchSpace.load(path)


def test_a_pipe_and_a_large_file_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 40)
    for name in ("pipe", "large"):
        with pytest.raises(HyperparameterError, match=rf"{name}: cannot be read \("):
            SearchSpace.load(str(tmp_path / name))
