import pytest
from pydantic import ValidationError

from lstmfcn.errors import HyperparameterError
from lstmfcn.hyperparameters import RECIPES, Hyperparameters, fine_tune_with, to_flag

REFERENCE = {
    "num-layers": ("2", 2),
    "hidden-size": ("64", 64),
    "dropout": ("0.5", 0.5),
    "filters-1": ("32", 32),
    "filters-2": ("48", 48),
    "filters-3": ("16", 16),
    "kernel-size-1": ("9", 9),
    "kernel-size-2": ("7", 7),
    "kernel-size-3": ("4", 4),
    "lr": ("1e-4", 1e-4),
    "batch-size": ("256", 256),
    "epochs": ("10", 10),
    "task": ("multilabel", "multilabel"),
}
AT_LEAST_1 = "it must be greater than or equal to 1"
TASKS = "'binary', 'multiclass' or 'multilabel'"
SCALINGS = "'global', 'series', 'timestep' or 'none'"


def test_all_reference_names_are_taken_with_hyphens_and_as_strings():
    parsed = Hyperparameters.parse({name: text for name, (text, _) in REFERENCE.items()})
    assert len(REFERENCE) == 13
    for name, (_, value) in REFERENCE.items():
        assert getattr(parsed, name.replace("-", "_")) == value
        assert parsed.to_flags()[name] == value
        assert type(parsed.to_flags()[name]) is type(value)


def test_names_with_underscores_and_numbers_are_the_same():
    hyphens = Hyperparameters.parse({name: text for name, (text, _) in REFERENCE.items()})
    values = {name.replace("-", "_"): value for name, (_, value) in REFERENCE.items()}
    assert Hyperparameters.parse(values) == hyphens
    assert Hyperparameters(**values) == hyphens


def test_defaults_are_the_papers_net_and_the_default_recipe():
    assert Hyperparameters().to_flags() == {
        "recipe": "default",
        "num-layers": 1,
        "hidden-size": 8,
        "dropout": 0.8,
        "filters-1": 128,
        "filters-2": 256,
        "filters-3": 128,
        "kernel-size-1": 8,
        "kernel-size-2": 5,
        "kernel-size-3": 3,
        "network": "auto",
        "batch-norm-momentum": 0.1,
        "lr": 3e-3,
        "batch-size": "auto",
        "epochs": 200,
        "rows-per-epoch": 200,
        "members": 1,
        "view": "series",
        "task": "multiclass",
        "label-column": "",
        "value-columns": "",
        "scaling": "global",
        "missing": "refuse",
        "missing-marker": "",
        "missing-labels": "refuse",
        "class-weight": "none",
        "schedule": "one-cycle",
        "weight-decay": 0.01,
        "label-smoothing": 0.1,
        "calibrate": False,
        "fit-thresholds": False,
        "precision": "auto",
        "keep-by": "loss",
        "seed": 0,
    }


def test_a_recipe_changes_what_is_not_given():
    paper = Hyperparameters.parse({"recipe": "paper", "epochs": "7"})
    assert (paper.epochs, paper.hidden_size, paper.schedule) == (7, 8, "plateau")
    assert Hyperparameters.parse(paper.model_dump()) == paper
    changed = {name for name, value in paper if value != getattr(Hyperparameters(), name)}
    assert changed - {"recipe"} <= set(RECIPES["paper"])


def test_members_take_the_views_in_turn():
    views = ["series", "differences", "coarse"]
    best = Hyperparameters.parse({"recipe": "best", "members": 5, "seed": 2**32 - 1})
    each = best.split_into_members()
    assert [member.view for member in each] == [*views, *views[:2]]
    assert [member.seed for member in each] == [2**32 - 1, 0, 1, 2, 3]
    assert {member.members for member in each} == {1}
    alike = best.model_copy(update={"view": "differences"}).split_into_members()
    assert {member.view for member in alike} == {"differences"}
    assert Hyperparameters(view="differences").split_into_members()[0].view == "differences"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num-layers", 0, f"num-layers: found 0; {AT_LEAST_1}"),
        ("hidden-size", "0", f"hidden-size: found '0'; {AT_LEAST_1}"),
        ("filters-1", 0, f"filters-1: found 0; {AT_LEAST_1}"),
        ("filters-2", -1, f"filters-2: found -1; {AT_LEAST_1}"),
        ("filters-3", 0, f"filters-3: found 0; {AT_LEAST_1}"),
        ("kernel-size-1", 0, f"kernel-size-1: found 0; {AT_LEAST_1}"),
        ("kernel_size_2", 0, f"kernel-size-2: found 0; {AT_LEAST_1}"),
        ("kernel-size-3", 0, f"kernel-size-3: found 0; {AT_LEAST_1}"),
        ("batch-size", 0, f"batch-size: found 0; {AT_LEAST_1} or 'auto'"),
        ("epochs", 0, f"epochs: found 0; {AT_LEAST_1}"),
        ("dropout", -0.1, "dropout: found -0.1; it must be greater than or equal to 0"),
        ("dropout", "1", "dropout: found '1'; it must be less than 1"),
        ("lr", 0, "lr: found 0; it must be greater than 0"),
        ("lr", "-1e-3", "lr: found '-1e-3'; it must be greater than 0"),
        ("lr", "nan", "lr: found 'nan'; it must be a finite number"),
        ("lr", "inf", "lr: found 'inf'; it must be a finite number"),
        ("lr", "fast", "lr: found 'fast'; it must be a valid number"),
        ("batch-size", "many", "batch-size: found 'many'; it must be a valid integer or 'auto'"),
        ("batch-size", "1.5", "batch-size: found '1.5'; it must be a valid integer or 'auto'"),
        (
            "missing-marker",
            "?",
            "missing-marker: found '?'; it must be used together with --missing mask",
        ),
        ("task", "regression", f"task: found 'regression'; it must be {TASKS}"),
        ("scaling", "minmax", f"scaling: found 'minmax'; it must be {SCALINGS}"),
        (
            "view",
            "all",
            "view: found 'all'; it must be series, differences or coarse, "
            "as all needs several members",
        ),
        ("recipe", "worst", "recipe: found 'worst'; it must be 'default', 'paper' or 'best'"),
        ("precision", "fp16", "precision: found 'fp16'; it must be 'auto', 'fp32' or 'bf16'"),
        ("seed", -1, "seed: found -1; it must be greater than or equal to 0"),
        ("seed", 2**32, "seed: found 4294967296; it must be less than 4294967296"),
        ("kernel-size-4", 3, "kernel-size-4 is not a hyperparameter"),
        ("learning_rate", 0.1, "learning-rate is not a hyperparameter"),
    ],
)
def test_an_impossible_value_or_name_is_refused_in_one_line(name, value, message):
    with pytest.raises(HyperparameterError) as refusal:
        Hyperparameters.parse({name: value})
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("dropout", (0, 0.999)),
        ("lr", (1e-12, 10)),
        ("seed", (0, 2**32 - 1)),
        ("num-layers", (1, 5)),
        ("epochs", (1, 100_000)),
    ],
)
def test_values_just_within_the_bounds_are_taken(name, values):
    for value in values:
        assert Hyperparameters.parse({name: value}).to_flags()[name] == value


def test_all_faults_are_told_in_one_line():
    with pytest.raises(HyperparameterError) as refusal:
        Hyperparameters.parse({"lr": -1, "epochs": 0, "foo": 1})
    assert str(refusal.value) == (
        f"lr: found -1; it must be greater than 0; epochs: found 0; {AT_LEAST_1}; "
        "foo is not a hyperparameter"
    )


def test_hyperparameters_are_frozen():
    parsed = Hyperparameters()
    with pytest.raises(ValidationError, match="frozen"):
        parsed.lr = 1.0
    assert parsed.lr == 3e-3


def test_hyperparameters_round_trip_through_flags_and_json():
    parsed = Hyperparameters.parse({name: text for name, (text, _) in REFERENCE.items()})
    assert Hyperparameters.parse(parsed.to_flags()) == parsed
    assert Hyperparameters.model_validate_json(parsed.model_dump_json()) == parsed


def test_every_hyperparameter_has_a_description():
    assert all(field.description for field in Hyperparameters.model_fields.values())


def test_a_flag_is_written_with_hyphens():
    assert to_flag("kernel_size_1") == "kernel-size-1"


def resumed(model, given):
    lines = []
    result = fine_tune_with(model, given, lambda text, *args: lines.append(text % args))
    return result, lines


def test_resuming_applies_the_run_and_keeps_the_model():
    model = Hyperparameters(hidden_size=16, lr=0.01, epochs=5, seed=3, task="binary")
    given = Hyperparameters(hidden_size=32, lr=0.1, epochs=7, seed=4, precision="fp32", dropout=0.1)
    result, lines = resumed(model, given)
    assert result == model.model_copy(
        update={"lr": 0.1, "epochs": 7, "seed": 4, "precision": "fp32"}
    )
    assert (result.hidden_size, result.dropout, result.task) == (16, 0.8, "binary")
    assert lines == [
        "dropout 0.1 is overridden by the model's 0.8",
        "epochs 7 applies (the model was trained with 5)",
        "hidden-size 32 is overridden by the model's 16",
        "lr 0.1 applies (the model was trained with 0.01)",
        "precision fp32 applies (the model was trained with auto)",
        "seed 4 applies (the model was trained with 3)",
    ]


def test_resuming_without_anything_given_is_the_model_and_tells_nothing():
    model = Hyperparameters(hidden_size=16, lr=0.01, batch_size=7, epochs=5)
    assert resumed(model, Hyperparameters()) == (model, [])


def test_resuming_tells_nothing_of_an_override_that_changes_nothing():
    model = Hyperparameters(hidden_size=16)
    assert resumed(model, Hyperparameters(hidden_size=16)) == (model, [])


def test_resuming_applies_a_batch_size_given_as_the_default():
    result, lines = resumed(Hyperparameters(batch_size=7), Hyperparameters(batch_size=128))
    assert result.batch_size == 128
    assert lines == ["batch-size 128 applies (the model was trained with 7)"]


@pytest.mark.parametrize(
    ("network", "n_channels", "expected"),
    [
        ("auto", 1, "lstm-fcn"),
        ("auto", 2, "mlstm-fcn"),
        ("malstm-fcn", 1, "malstm-fcn"),
        ("lstm-fcn", 5, "lstm-fcn"),
    ],
)
def test_the_network_follows_the_channels_unless_named(network, n_channels, expected):
    assert Hyperparameters(network=network).resolve_network(n_channels) == expected


def test_what_was_fitted_to_a_model_is_left_behind_unless_asked_for_again():
    model = Hyperparameters(task="multilabel", calibrate=True, fit_thresholds=True)
    result, lines = resumed(model, Hyperparameters(calibrate=True))
    assert (result.calibrate, result.fit_thresholds) == (True, False)
    assert lines == ["fit-thresholds of the model is dropped; give the flag to fit it again"]


def test_fitting_needs_validation_rows_and_thresholds_need_labels():
    Hyperparameters().validate_post_training(has_validation=False)
    both = Hyperparameters(task="multilabel", calibrate=True, fit_thresholds=True)
    both.validate_post_training(has_validation=True)
    with pytest.raises(HyperparameterError, match=r"^calibrate: needs validation rows; .*"):
        both.validate_post_training(has_validation=False)
    with pytest.raises(HyperparameterError, match=r"^fit-thresholds: the task is binary; only"):
        Hyperparameters(task="binary", fit_thresholds=True).validate_post_training(
            has_validation=True
        )


@pytest.mark.parametrize(("marker", "kept"), [("?", "?"), (" - ", "-"), ("", "")])
def test_a_marker_of_missing_values_is_text(marker, kept):
    assert Hyperparameters(missing="mask", missing_marker=marker).missing_marker == kept


@pytest.mark.parametrize("marker", ["-999", "1e3", "inf"])
def test_a_number_marks_no_missing_value(marker):
    with pytest.raises(HyperparameterError, match="it must be a text that is not a number; leave"):
        Hyperparameters.parse({"missing": "mask", "missing-marker": marker})
