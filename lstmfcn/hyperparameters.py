"""Declare every hyperparameter once; flags, search spaces and model files derive from this.

Thirteen have the names of the LSTM-FCN SageMaker algorithm, which writes them with hyphens and
passes them as strings; both spellings and both types are accepted. The network's defaults are the
paper's (Karim et al. 2018, "LSTM Fully Convolutional Networks for Time Series Classification",
section IV); the defaults of training were found on training rows (docs/accuracy.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, cast, get_args

from cyclopts import Group, Parameter
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lstmfcn.console import is_number
from lstmfcn.errors import HyperparameterError, shown

TaskName = Literal["binary", "multiclass", "multilabel"]
ScalingName = Literal["global", "series", "timestep", "none"]
PrecisionName = Literal["auto", "fp32", "bf16"]
InferencePrecision = Literal["fp32", "bf16"]
DeviceName = Literal["auto", "cpu", "cuda"]
KeepByName = Literal["loss", "accuracy", "macro_f1", "balanced_accuracy"]
ClassWeightName = Literal["none", "sqrt", "balanced"]
MissingName = Literal["refuse", "mask"]
MissingLabelsName = Literal["refuse", "name"]
NetworkName = Literal["auto", "lstm-fcn", "alstm-fcn", "mlstm-fcn", "malstm-fcn"]
SingleViewName = Literal["series", "differences", "coarse"]
InputViewName = Literal[SingleViewName, "all"]
ScheduleName = Literal["constant", "cosine", "one-cycle", "plateau"]
RecipeName = Literal["default", "paper", "best"]

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    # as in the authors' code (titu1994/LSTM-FCN: generate_lstmfcn's NUM_CELLS, keras_utils.py)
    "paper": {
        "hidden_size": 8,
        "batch_norm_momentum": 0.01,
        "batch_size": 128,
        "epochs": 2000,
        "lr": 1e-3,
        "rows_per_epoch": 0,
        "schedule": "plateau",
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "scaling": "series",
        "precision": "fp32",
    },
    "best": {"members": 6, "view": "all"},
}
"""The defaults that each recipe changes."""

FINE_TUNABLE = ("lr", "batch_size", "epochs")
"""Hyperparameters that apply when training continues from a model; the model sets all others."""

RUN_SETTINGS = ("seed", "precision", "keep_by")
"""Hyperparameters of the run, not of the model; they apply to every run."""

POST_TRAINING = ("calibrate", "fit_thresholds")
"""Steps after training, which fit something to the best epoch's weights on validation rows."""

_NAME_FAULTS = {"extra_forbidden": "is not a hyperparameter", "missing": "is missing"}

DATA = Parameter(group=Group("Data", sort_key=1))
TRAINING = Parameter(group=Group("Training", sort_key=4))
NETWORK = Parameter(group=Group("Network", sort_key=5))
AFTER_TRAINING = Parameter(group=Group("After training", sort_key=6))
"""The groups of these flags on the help pages."""


class Hyperparameters(BaseModel):
    """Everything that determines a model and its training. Frozen, validated at construction.

    Raises:
        pydantic.ValidationError: from the constructor; `parse` raises `HyperparameterError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: Annotated[RecipeName, TRAINING] = Field(
        "default",
        description="Preset for every flag that you do not set: default; paper (Karim et al. 2018)"
        "; or best (an ensemble of six).",
    )
    num_layers: Annotated[int, NETWORK] = Field(1, ge=1, description="Stacked LSTM layers.")
    hidden_size: Annotated[int, NETWORK] = Field(8, ge=1, description="Units in each LSTM layer.")
    dropout: Annotated[float, NETWORK] = Field(
        0.8, ge=0, lt=1, description="Dropout after each LSTM layer."
    )
    filters_1: Annotated[int, NETWORK] = Field(
        128, ge=1, description="Filters in the first convolution."
    )
    filters_2: Annotated[int, NETWORK] = Field(
        256, ge=1, description="Filters in the second convolution."
    )
    filters_3: Annotated[int, NETWORK] = Field(
        128, ge=1, description="Filters in the third convolution."
    )
    kernel_size_1: Annotated[int, NETWORK] = Field(
        8, ge=1, description="Kernel size of the first convolution, in timepoints."
    )
    kernel_size_2: Annotated[int, NETWORK] = Field(
        5, ge=1, description="Kernel size of the second convolution, in timepoints."
    )
    kernel_size_3: Annotated[int, NETWORK] = Field(
        3, ge=1, description="Kernel size of the third convolution, in timepoints."
    )
    network: Annotated[NetworkName, NETWORK] = Field(
        "auto",
        description="alstm adds attention to the LSTM, mlstm squeeze-and-excitation to the "
        "filters, malstm both. auto: lstm-fcn for one channel, mlstm-fcn for several.",
    )
    batch_norm_momentum: Annotated[float, TRAINING] = Field(
        0.1,
        gt=0,
        le=1,
        description="Weight of each new batch in batch norm's running statistics, as in PyTorch.",
    )
    lr: Annotated[float, TRAINING] = Field(3e-3, gt=0, description="Highest learning rate of Adam.")
    batch_size: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], TRAINING] = Field(
        "auto",
        description="Rows per training step, over all workers together. auto: a 32nd of all rows, "
        "rounded to a power of two from 8 to 128.",
    )
    epochs: Annotated[int, TRAINING] = Field(200, ge=1, description="Number of training epochs.")
    rows_per_epoch: Annotated[int, TRAINING] = Field(
        200,
        ge=0,
        description="Minimum rows per epoch: smaller data sets are repeated to reach it. Ignored "
        "for streamed data.",
    )
    members: Annotated[int, NETWORK] = Field(
        1,
        ge=1,
        le=100,
        description="Ensemble size. The networks are trained separately, with seed, seed + 1 and "
        "so on; their logits are averaged.",
    )
    view: Annotated[InputViewName, NETWORK] = Field(
        "series",
        description="Input of the network: series (the values), differences (of neighbouring "
        "values), coarse (means of up to 4 timepoints), or all (members take the three in turn).",
    )
    task: Annotated[TaskName, DATA] = Field(
        "multiclass",
        description="multiclass: one class per row; binary: yes or no; multilabel: any number of "
        "labels per row.",
    )
    label_column: Annotated[str, DATA] = Field(
        "",
        description="Label column, or several: names or patterns such as 'is_*', separated by "
        "commas. By default the columns whose names start with y.",
    )
    value_columns: Annotated[str, DATA] = Field(
        "",
        description="Value columns: names or patterns such as 't*', separated by commas. By "
        "default the columns whose names start with x.",
    )
    scaling: Annotated[ScalingName, DATA] = Field(
        "global",
        description="Standardise by mean and deviation of all training values (global), of each "
        "series, of each timestep, or not at all (none). global keeps level and shape.",
    )
    missing: Annotated[MissingName, DATA] = Field(
        "refuse",
        description="Empty cells (gaps, or after the end of a short series): refuse reports an "
        "error, mask ignores them. In CSV, nan, NA, NULL and the like count as empty.",
    )
    missing_marker: Annotated[str, DATA] = Field(
        "",
        description="Another text for empty cells in CSV, such as ?. Needs --missing mask.",
    )
    missing_labels: Annotated[MissingLabelsName, DATA] = Field(
        "refuse",
        description="Labels such as nan, NA, None and null: refuse reports an error, name takes "
        "them as class names.",
    )
    class_weight: Annotated[ClassWeightName, TRAINING] = Field(
        "none",
        description="Class weights in the loss: none, balanced (inverse class frequency, as "
        "scikit-learn), or sqrt (square root of balanced, which favours rare classes less).",
    )
    schedule: Annotated[ScheduleName, TRAINING] = Field(
        "one-cycle",
        description="Learning rate over epochs: constant; cosine (lr to 0); one-cycle (up to lr, "
        "then to 0); plateau (lowered after 100 epochs in which train_loss did not improve).",
    )
    weight_decay: Annotated[float, TRAINING] = Field(
        0.01, ge=0, le=1, description="Decoupled weight decay (AdamW)."
    )
    label_smoothing: Annotated[float, TRAINING] = Field(
        0.1, ge=0, lt=1, description="Share of each training label that is spread over all classes."
    )
    calibrate: Annotated[bool, AFTER_TRAINING] = Field(
        False,
        description="After training, fit a temperature on the validation rows, so that 90 % means "
        "right 9 times in 10. Predicted labels do not change.",
    )
    fit_thresholds: Annotated[bool, AFTER_TRAINING] = Field(
        False,
        description="After training, fit a threshold for each label of a multilabel model: the one "
        "with the best F1 on the validation rows, instead of 0.5.",
    )
    precision: Annotated[PrecisionName, TRAINING] = Field(
        "auto",
        description="Number format of training. auto: bf16 where the device has instructions for "
        "it (about twice as fast), else fp32.",
    )
    keep_by: Annotated[KeepByName, TRAINING] = Field(
        "loss",
        description="The epoch whose weights are kept: that of the lowest loss, or of the highest "
        "accuracy, macro F1 or balanced accuracy, of the validation rows if there are any.",
    )
    seed: Annotated[int, TRAINING] = Field(
        0, ge=0, lt=2**32, description="Seed of initial weights, row order and dropout."
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_hyphens_and_recipes(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        fields = {str(name).replace("-", "_"): value for name, value in values.items()}
        return {**RECIPES.get(str(fields.get("recipe")), {}), **fields}

    @field_validator("view")
    @classmethod
    def _refuse_all_views_for_one(cls, view: InputViewName, info: ValidationInfo) -> InputViewName:
        if view == "all" and info.data.get("members") == 1:
            raise ValueError("series, differences or coarse, as all needs several members")
        return view

    @field_validator("missing_marker")
    @classmethod
    def _validate_marker(cls, marker: str, info: ValidationInfo) -> str:
        if marker and info.data.get("missing") == "refuse":
            raise ValueError("used together with --missing mask")
        if marker and is_number(marker):
            raise ValueError("a text that is not a number; leave such cells empty")
        return marker.strip()

    @field_validator("label_column", "value_columns")
    @classmethod
    def _validate_names(cls, names: str) -> str:
        if names and not all(part.strip() for part in names.split(",")):
            raise ValueError("names or patterns, separated by single commas")
        return names.strip()

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Hyperparameters:
        """Parse names and values as a user writes them (hyphens, strings).

        Raises:
            HyperparameterError: an unknown name or an invalid value, in one line.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise HyperparameterError(format_validation_error(error)) from error

    def split_into_members(self) -> list[Hyperparameters]:
        """Return the hyperparameters of each ensemble member; for one member, ``[self]``.

        `POST_TRAINING` applies to the ensemble, not to its members.
        """
        if self.members == 1:
            return [self]
        single = {"members": 1, **dict.fromkeys(POST_TRAINING, False)}
        views = get_args(SingleViewName) if self.view == "all" else (self.view,)
        return [
            self.model_copy(
                update={**single, "seed": (self.seed + k) % 2**32, "view": views[k % len(views)]}
            )
            for k in range(self.members)
        ]

    @property
    def single_view(self) -> SingleViewName:
        """The input view of one network; only an ensemble has the view ``all``."""
        return cast(SingleViewName, self.view)

    def resolve_network(self, n_channels: int) -> NetworkName:
        """Return the network's name for series of ``n_channels``; never ``auto``."""
        if self.network != "auto":
            return self.network
        return "lstm-fcn" if n_channels == 1 else "mlstm-fcn"

    @property
    def has_post_training(self) -> bool:
        """Whether any step of `POST_TRAINING` is requested."""
        return any(getattr(self, name) for name in POST_TRAINING)

    def validate_post_training(self, has_validation: bool) -> None:
        """Refuse (`HyperparameterError`) what needs validation rows, or another task."""
        for name in POST_TRAINING:
            if getattr(self, name) and not has_validation:
                raise HyperparameterError(
                    f"{to_flag(name)}: needs validation rows; give them with --validation"
                )
        if self.keep_by in ("macro_f1", "balanced_accuracy"):
            if not has_validation:
                raise HyperparameterError(
                    f"keep-by {self.keep_by}: needs validation rows; give them with --validation"
                )
            if self.keep_by == "balanced_accuracy" and self.task == "multilabel":
                raise HyperparameterError(
                    "keep-by balanced_accuracy: a row of multilabel has no single class; use "
                    "macro_f1"
                )
        if self.fit_thresholds and self.task != "multilabel":
            raise HyperparameterError(
                f"fit-thresholds: the task is {self.task}; only multilabel has thresholds"
            )

    def to_flags(self) -> dict[str, Any]:
        """Return all values by the names that users write, with hyphens."""
        return {to_flag(name): value for name, value in self.model_dump().items()}


def to_flag(field: str) -> str:
    """Write a field's name as users do: ``batch_size`` → ``batch-size``."""
    return field.replace("_", "-")


def format_validation_error(error: ValidationError, whole: str = "hyperparameters") -> str:
    """Write pydantic's error as one line: each field, the value found, and what is allowed.

    Args:
        error: from the validation of a user's values, which may be large or deep.
        whole: names what was validated, for errors that belong to no single field.
    """
    faults: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        name = to_flag(str(problem["loc"][0])) if problem["loc"] else whole
        if problem["type"] in _NAME_FAULTS:
            faults[f"{name} {_NAME_FAULTS[problem['type']]}"] = []
            continue
        message = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        message = message.split(", unable")[0]
        fault = f"{name}: found {shown(problem['input'])}; it must be "
        faults.setdefault(fault, []).append(message)
    return "; ".join(fault + " or ".join(allowed) for fault, allowed in faults.items())


def fine_tune_with(
    model: Hyperparameters, requested: Hyperparameters, log: Callable[..., None]
) -> Hyperparameters:
    """Return the hyperparameters of a training that continues from a model.

    The user sets `FINE_TUNABLE`, `RUN_SETTINGS` and `POST_TRAINING`, the model everything else.

    Args:
        log: called once for each value that changes or is overridden.
    """
    post_training = {name: getattr(requested, name) for name in POST_TRAINING}
    for name, is_requested in post_training.items():
        if getattr(model, name) and not is_requested:
            log("%s of the model is dropped; give the flag to fit it again", to_flag(name))
    applicable = {*FINE_TUNABLE, *RUN_SETTINGS}
    for name in sorted(requested.model_fields_set - post_training.keys()):
        new, old = getattr(requested, name), getattr(model, name)
        if name in applicable:
            log("%s %s applies (the model was trained with %s)", to_flag(name), new, old)
        elif new != old:
            log("%s %s is overridden by the model's %s", to_flag(name), new, old)
    changed = {name: getattr(requested, name) for name in applicable & requested.model_fields_set}
    return model.model_copy(update={**changed, **post_training})
