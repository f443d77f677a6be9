"""The one place where a hyperparameter is declared.

Flags, search spaces and model files all derive from `Hyperparameters`. The first thirteen carry the
names of the LSTM-FCN SageMaker algorithm, which writes them with hyphens and passes them as
strings; both spellings and both types are accepted. Defaults of the net are the paper's
(Karim et al. 2018, "LSTM Fully Convolutional Networks for Time Series Classification", section IV);
those of its training were found on training rows (docs/accuracy.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lstmfcn.counts import is_number
from lstmfcn.errors import HyperparameterError
from lstmfcn.flag_groups import AFTER_TRAINING, DATA, NETWORK, TRAINING
from lstmfcn.quoting import shown

TaskName = Literal["binary", "multiclass", "multilabel"]
ScalingName = Literal["global", "series", "timestep", "none"]
PrecisionName = Literal["auto", "fp32", "bf16"]
InferencePrecision = Literal["fp32", "bf16"]
ClassWeightName = Literal["none", "sqrt", "balanced"]
MissingName = Literal["refuse", "mask"]
MissingLabelsName = Literal["refuse", "name"]
NetworkName = Literal["auto", "lstm-fcn", "alstm-fcn", "mlstm-fcn", "malstm-fcn"]
ViewOfOne = Literal["series", "differences", "coarse"]
ViewName = Literal[ViewOfOne, "all"]
ScheduleName = Literal["constant", "cosine", "one-cycle", "plateau"]

RecipeName = Literal["default", "paper", "best"]

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    # the authors' code (titu1994/LSTM-FCN: generate_lstmfcn's NUM_CELLS, utils/keras_utils.py)
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
"""What each recipe changes of the defaults."""

APPLY_TO_A_LOADED_MODEL = ("lr", "batch_size", "epochs")
"""What still applies when training continues from a model; the rest comes from the model."""

CHOOSE_THE_RUN = ("seed", "precision")
"""What describes a run rather than a model, and so applies to every run."""

FIT_AFTER_TRAINING = ("calibrate", "fit_thresholds")
"""What is fitted to the kept weights, and so is done anew by each run that asks for it, or not."""


class Hyperparameters(BaseModel):
    """All that shapes a model and its training. Frozen, validated at construction.

    Raises:
        pydantic.ValidationError: from the constructor; `parse` raises `HyperparameterError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: Annotated[RecipeName, TRAINING] = Field(
        "default",
        description="What is not given otherwise: the defaults; the paper's training; or best, the "
        "defaults and several members.",
    )
    num_layers: Annotated[int, NETWORK] = Field(
        1, ge=1, description="LSTM layers, one on the other."
    )
    hidden_size: Annotated[int, NETWORK] = Field(8, ge=1, description="Units of each LSTM layer.")
    dropout: Annotated[float, NETWORK] = Field(
        0.8, ge=0, lt=1, description="Dropout after each LSTM layer."
    )
    filters_1: Annotated[int, NETWORK] = Field(
        128, ge=1, description="Filters of the first convolution."
    )
    filters_2: Annotated[int, NETWORK] = Field(
        256, ge=1, description="Filters of the second convolution."
    )
    filters_3: Annotated[int, NETWORK] = Field(
        128, ge=1, description="Filters of the third convolution."
    )
    kernel_size_1: Annotated[int, NETWORK] = Field(
        8, ge=1, description="Kernel of the first convolution, timepoints."
    )
    kernel_size_2: Annotated[int, NETWORK] = Field(
        5, ge=1, description="Kernel of the second convolution, timepoints."
    )
    kernel_size_3: Annotated[int, NETWORK] = Field(
        3, ge=1, description="Kernel of the third convolution, timepoints."
    )
    network: Annotated[NetworkName, NETWORK] = Field(
        "auto",
        description="LSTM-FCN; with attention in the LSTM (alstm), with weights of the filters "
        "(mlstm), or both (malstm). Auto is lstm-fcn for one channel, mlstm-fcn for several.",
    )
    batch_norm_momentum: Annotated[float, TRAINING] = Field(
        0.1,
        gt=0,
        le=1,
        description="What each batch weighs in the mean and variance that batch norm predicts "
        "with; the less, the longer those of weights long changed take part.",
    )
    lr: Annotated[float, TRAINING] = Field(
        3e-3, gt=0, description="Learning rate of Adam, at its highest."
    )
    batch_size: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], TRAINING] = Field(
        "auto",
        description="Rows of one step, over all workers; the same at any number of them. auto: a "
        "32nd of all rows, as a power of two, from 8 to 128.",
    )
    epochs: Annotated[int, TRAINING] = Field(
        200, ge=1, description="Passes over the training rows."
    )
    rows_per_epoch: Annotated[int, TRAINING] = Field(
        200,
        ge=0,
        description="An epoch goes over fewer rows than these several times, for sets of a few "
        "dozen rows need steps; not where rows are streamed.",
    )
    members: Annotated[int, NETWORK] = Field(
        1,
        ge=1,
        le=100,
        description="Networks that answer as one, by the mean of their logits; each is trained on "
        "its own, with seed, seed + 1, and so on.",
    )
    view: Annotated[ViewName, NETWORK] = Field(
        "series",
        description="What the network sees of a series: its values; the difference of each from "
        "the one before; the means of every 4 timepoints, or of fewer where there are fewer than "
        "96; or all of these, the members of an ensemble in turn.",
    )
    task: Annotated[TaskName, DATA] = Field(
        "multiclass",
        description="multiclass: one class a row; binary: yes or no; multilabel: any labels.",
    )
    scaling: Annotated[ScalingName, DATA] = Field(
        "global",
        description="What values are centred and scaled by: all training values, each series, "
        "each timestep, or nothing. Global keeps both level and shape.",
    )
    missing: Annotated[MissingName, DATA] = Field(
        "refuse",
        description="Empty cells, of gaps or after the end of a shorter series: refused; or "
        "masked, so that they take no part. In CSV nan, NA, NULL and the like are empty cells.",
    )
    missing_marker: Annotated[str, DATA] = Field(
        "",
        description="With missing mask, a further text that stands for an empty cell in CSV, such "
        "as ?.",
    )
    missing_labels: Annotated[MissingLabelsName, DATA] = Field(
        "refuse",
        description="What tables write where a label is missing (nan, NA, None, null and the "
        "like): refused; or the name of a class.",
    )
    class_weight: Annotated[ClassWeightName, TRAINING] = Field(
        "none",
        description="What a row weighs in the loss: the same each; balanced, by which every class "
        "has the same say however few rows it has; or the square root of that, which costs the "
        "frequent classes less.",
    )
    schedule: Annotated[ScheduleName, TRAINING] = Field(
        "one-cycle",
        description="The learning rate over epochs: constant; falling along a half cosine from lr "
        "towards nothing, which ends the jumps from epoch to epoch; one-cycle, which rises to lr "
        "first; plateau, lowered whenever train_loss has not improved for 100 epochs.",
    )
    weight_decay: Annotated[float, TRAINING] = Field(
        0.01,
        ge=0,
        le=1,
        description="What a step takes off each weight, times the learning rate (AdamW).",
    )
    label_smoothing: Annotated[float, TRAINING] = Field(
        0.1,
        ge=0,
        lt=1,
        description="The share of a training label that is spread over all classes.",
    )
    calibrate: Annotated[bool, AFTER_TRAINING] = Field(
        False,
        description="After training, divide logits by one temperature, fitted on the validation "
        "rows, so that probabilities are as often right as they say; labels stay.",
    )
    fit_thresholds: Annotated[bool, AFTER_TRAINING] = Field(
        False,
        description="After training, decide each label of a multilabel model above a threshold of "
        "its own, the one of the best F1 on the validation rows, instead of 0.5.",
    )
    precision: Annotated[PrecisionName, TRAINING] = Field(
        "auto",
        description="Arithmetic of convolutions and matrices in training; auto takes bf16 where "
        "the device has instructions for it (about twice as fast), else fp32.",
    )
    seed: Annotated[int, TRAINING] = Field(
        0, ge=0, lt=2**32, description="Seed of initial weights, row order and dropout."
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_hyphens_and_recipes(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = {str(name).replace("-", "_"): value for name, value in values.items()}
        return {**RECIPES.get(str(given.get("recipe")), {}), **given}

    @field_validator("view")
    @classmethod
    def _all_are_for_several(cls, view: ViewName, info: ValidationInfo) -> ViewName:
        if view == "all" and info.data.get("members") == 1:
            raise ValueError("series, differences or coarse where there is one member")
        return view

    @field_validator("missing_marker")
    @classmethod
    def _marks_gaps(cls, marker: str, info: ValidationInfo) -> str:
        if marker and info.data.get("missing") == "refuse":
            raise ValueError("given with --missing mask only")
        if marker and is_number(marker):
            raise ValueError("text that is no number; leave such cells empty")
        return marker.strip()

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Hyperparameters:
        """Build from names and values as a user writes them (hyphens, strings).

        Raises:
            HyperparameterError: an unknown name or an impossible value, in one line.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise HyperparameterError(explain(error)) from error

    def of_members(self) -> list[Hyperparameters]:
        """Those that each member is trained with: a single network's are these.

        What `FIT_AFTER_TRAINING` says is done to the ensemble, not to its members.
        """
        if self.members == 1:
            return [self]
        alone = {"members": 1, **dict.fromkeys(FIT_AFTER_TRAINING, False)}
        views = get_args(ViewOfOne) if self.view == "all" else (self.view,)
        return [
            self.model_copy(
                update={**alone, "seed": (self.seed + k) % 2**32, "view": views[k % len(views)]}
            )
            for k in range(self.members)
        ]

    @property
    def view_of_one(self) -> ViewOfOne:
        """What one network sees; an ensemble's members are told by `of_members`."""
        return cast(ViewOfOne, self.view)

    def network_for(self, n_channels: int) -> NetworkName:
        """The network for series of so many channels."""
        if self.network != "auto":
            return self.network
        return "lstm-fcn" if n_channels == 1 else "mlstm-fcn"

    @property
    def fits_decision(self) -> bool:
        """Whether anything of `FIT_AFTER_TRAINING` is asked for."""
        return any(getattr(self, name) for name in FIT_AFTER_TRAINING)

    def refuse_fitting(self, has_validation: bool) -> None:
        """Refuse `FIT_AFTER_TRAINING` where there is nothing to fit.

        Raises:
            HyperparameterError: there are no validation rows, or the task has no thresholds.
        """
        for name in FIT_AFTER_TRAINING:
            if getattr(self, name) and not has_validation:
                raise HyperparameterError(
                    f"{flag(name)}: is fitted on validation rows, and there are none; "
                    "name them with --validation"
                )
        if self.fit_thresholds and self.task != "multilabel":
            raise HyperparameterError(
                f"fit-thresholds: the task is {self.task}; only multilabel has thresholds"
            )

    def flags(self) -> dict[str, Any]:
        """The values under the names that users write, with hyphens."""
        return {flag(name): value for name, value in self.model_dump().items()}


def flag(field: str) -> str:
    """A field's name as users write it: ``batch_size`` → ``batch-size``."""
    return field.replace("_", "-")


def explain(error: ValidationError, whole: str = "hyperparameters") -> str:
    """One line for what pydantic found wrong, naming each field, the value, and what is allowed.

    Args:
        error: from the validation of a user's values, which may be large or deep.
        whole: what was validated, for faults of no single field.
    """
    faults: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        name = flag(str(problem["loc"][0])) if problem["loc"] else whole
        if problem["type"] == "extra_forbidden":
            faults[f"{name} is not a hyperparameter"] = []
            continue
        if problem["type"] == "missing":
            faults[f"{name} is missing"] = []
            continue
        message = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        message = message.split(", unable")[0]
        found = f"{name}: found {shown(problem['input'])}; it must be "
        faults.setdefault(found, []).append(message)
    return "; ".join(fault + " or ".join(allowed) for fault, allowed in faults.items())


def resume_with(
    model: Hyperparameters, given: Hyperparameters, tell: Callable[..., None]
) -> Hyperparameters:
    """Hyperparameters of a training that continues from a model, each decision told in a line.

    Of what was given, `APPLY_TO_A_LOADED_MODEL` and `CHOOSE_THE_RUN` apply; what was not given, and
    everything else, is the model's, except that what `FIT_AFTER_TRAINING` did to the model belongs
    to its weights, and is left behind with them.
    """
    fitted = {name: getattr(given, name) for name in FIT_AFTER_TRAINING}
    for name, again in fitted.items():
        if getattr(model, name) and not again:
            tell("%s of the model is left behind; give the flag to fit anew", flag(name))
    apply = {*APPLY_TO_A_LOADED_MODEL, *CHOOSE_THE_RUN}
    for name in sorted(given.model_fields_set - fitted.keys()):
        new, old = getattr(given, name), getattr(model, name)
        if name in apply:
            tell("%s %s applies (the model was trained with %s)", flag(name), new, old)
        elif new != old:
            tell("%s %s is overridden by the model's %s", flag(name), new, old)
    kept = {name: getattr(given, name) for name in apply & given.model_fields_set}
    return model.model_copy(update={**kept, **fitted})
