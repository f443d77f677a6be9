"""LSTM-FCN as a scikit-learn classifier: for pipelines, cross-validation and searches.

It saves and loads the model directories that the commands read and write. It trains in this
process (`lstmfcn.training.in_memory`), or, with ``num_workers``, as ``lstmfcn train`` does.

Shapes: N rows, C channels of T timepoints, V = C * T values, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from lstmfcn.data.table import FloatArray, match_class
from lstmfcn.errors import ModelError
from lstmfcn.estimator_input import (
    InputRecord,
    column_names,
    even_lengths,
    find_shape,
    flatten,
    input_checks,
    make_columns,
    refuse_missing,
    refuse_swapped_axes,
    split_rows,
    too_large_is_infinite,
    train_arrays_on_ray,
)
from lstmfcn.hyperparameters import (
    ClassWeightName,
    Hyperparameters,
    InputViewName,
    KeepByName,
    MissingLabelsName,
    MissingName,
    NetworkName,
    PrecisionName,
    RecipeName,
    ScalingName,
    ScheduleName,
)
from lstmfcn.inference.explanation import Explanation
from lstmfcn.inference.predictor import ESTIMATOR, Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.in_memory import train_arrays


@dataclass(kw_only=True, eq=False, repr=False)
class LSTMFCNClassifier(ClassifierMixin, BaseEstimator):
    """Classify time series with an LSTM-FCN, as a scikit-learn estimator.

    Most parameters are hyperparameters, listed below. One that is None has the value of ``recipe``,
    else its default.

    Args:
        random_state: the random seed. An integer is the seed of ``lstmfcn train --seed``; a
            RandomState, or None for numpy's global one, draws a seed at each fit.
        validation_fraction: the fraction of the rows to hold out, stratified by class. They are not
            trained on; they decide which epoch is the best, and ``calibrate`` is fitted on them.
            None trains on all rows, and the training loss decides.
        num_workers: None trains in this process, on the CPU. A number trains on Ray with this many
            workers, each with a GPU if there are GPUs: on the Ray that is running, on the cluster
            in RAY_ADDRESS, or on one started for each fit. Several machines must share the
            temporary folder (TMPDIR).

    Attributes:
        classes_: (K,), the labels in ascending order, of the dtype of y.
        n_features_in_: V, the number of values per series.
        feature_names_in_: (V,), the column names, if X was a table whose columns have names.
        metrics_: the best epoch's metrics, such as ``epoch``, ``train_loss`` and ``valid_loss``.
        classifier_: the trained model; ``classifier_.artifact`` has its weights and how it was
            trained.
    """

    recipe: RecipeName | None = None
    num_layers: int | None = None
    hidden_size: int | None = None
    dropout: float | None = None
    filters_1: int | None = None
    filters_2: int | None = None
    filters_3: int | None = None
    kernel_size_1: int | None = None
    kernel_size_2: int | None = None
    kernel_size_3: int | None = None
    network: NetworkName | None = None
    batch_norm_momentum: float | None = None
    lr: float | None = None
    batch_size: int | Literal["auto"] | None = None
    epochs: int | None = None
    rows_per_epoch: int | None = None
    members: int | None = None
    view: InputViewName | None = None
    scaling: ScalingName | None = None
    missing: MissingName | None = None
    missing_labels: MissingLabelsName | None = None
    class_weight: ClassWeightName | None = None
    schedule: ScheduleName | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    calibrate: bool | None = None
    precision: PrecisionName | None = None
    keep_by: KeepByName | None = None
    random_state: int | np.random.RandomState | None = 0
    validation_fraction: float | None = None
    num_workers: int | None = None

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Train a new model.

        Args:
            X: series, (N, T) or (N, C, T), unscaled, with nan for missing values. With
                ``missing="mask"`` also a list of series of several lengths, (t,) or (C, t), or a
                table with one series per cell; shorter series are padded with nan. If all columns
                of a table start with x, the model keeps their names and channels, as with shards
                (`lstmfcn.data.columns`). Otherwise the model directory names the values x_1, x_2,
                ..., or x1_1, x1_2, ... if there are several channels.
            y: labels, (N,): text, integers or bools, of at least two classes. Missing labels, such
                as None, nan or "NA", are refused; with ``missing_labels="name"`` such text is a
                class.

        Raises:
            ValueError: X or y are not such arrays, or X is (N, T, 1), with swapped axes.
            UserError: a hyperparameter is invalid, a row is empty, or Ray does not have the
                requested resources.
            TrainingError: the loss became infinite or nan.
        """
        hyperparameters = self._hyperparameters()
        self._refuse_impossible(hyperparameters)
        refuse_missing(y, hyperparameters.missing_labels)
        series = even_lengths(X, hyperparameters.missing)
        shape, checks = find_shape(series), input_checks(hyperparameters.missing)
        refuse_swapped_axes(shape)
        with too_large_is_infinite():
            values, labels = validate_data(self, flatten(series), y, ensure_min_samples=2, **checks)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has only the class {self.classes_[0]}; training needs two")
        names = column_names(self.classes_)
        rows, seed = (values, np.array(names)[codes]), hyperparameters.seed
        train, validation = split_rows(rows, self.validation_fraction, seed)
        n_channels = shape[1] if len(shape) == 3 else 1
        named = getattr(self, "feature_names_in_", None)
        columns = make_columns(named, n_channels, self.n_features_in_)
        with torch.random.fork_rng(devices=[]):  # the caller's own random numbers stay
            arguments = (train, hyperparameters, validation)
            if self.num_workers is None:
                artifact = train_arrays(*arguments, columns=columns)
            else:
                artifact = train_arrays_on_ray(*arguments, columns, self.num_workers)
            return self._with(self._recorded(artifact), names)

    def predict_proba(self, X: npt.ArrayLike) -> FloatArray:
        """Predict class probabilities, float32 (N, K), in the order of ``classes_``.

        Args:
            X: series, as for `fit`.

        Raises:
            NotFittedError: there is no model yet.
            ValueError: X has another shape or other columns than in `fit`, or is not finite.
            DataError: a row is empty, or its values are too large to compute with.
        """
        values = self._values(X)
        found = self.classifier_.predict_proba(values)
        if found.shape[1] == 1:  # the task binary, with a single label column
            found = np.hstack([1 - found, found])
        return found[:, self._order]

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Predict the most probable class of each row, (N,), with the dtype of ``classes_``.

        Raises:
            NotFittedError, ValueError, DataError: as `predict_proba`.
        """
        chosen = self.predict_proba(X).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[chosen]
        return labels

    def explain(self, X: npt.ArrayLike) -> Explanation:
        """Explain predictions: each logit as a sum of bias, LSTM branch and timepoints.

        Outputs are in the order of ``classes_``. A model of ``lstmfcn train --task binary`` has one
        output, that of the second class.

        Raises:
            NotFittedError, ValueError, DataError: as `predict_proba`.
        """
        values = self._values(X)
        found = self.classifier_.explain(values)
        order = self._order if found.logits.shape[1] > 1 else [0]
        return Explanation(
            found.logits[:, order],
            found.bias[order],
            found.lstm[:, order],
            found.timepoints[:, order],
        )

    def save(self, directory: Path | str) -> None:
        """Write a model directory for ``load`` and the commands; an existing one is replaced.

        Raises:
            NotFittedError: there is no model yet.
            OutputError: it cannot be written.
        """
        check_is_fitted(self)
        self.classifier_.artifact.save(directory)

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Load a model directory, of `save` or of ``lstmfcn train``, or the folder of a run.

        The classes of a model of ``lstmfcn train`` are text, as in its shards; its columns are
        those of the shards.

        Raises:
            ModelError: the model is missing, incomplete or damaged, or is a multilabel model.
        """
        artifact = Artifact.load(directory)
        schema, hyperparameters = artifact.schema, artifact.hyperparameters
        if schema.task == "multilabel":
            raise ModelError(
                f"{directory}: found a multilabel model; load it with lstmfcn.Classifier"
            )
        found = cls(**_given(hyperparameters), random_state=hyperparameters.seed)
        columns: Sequence[str] | None = schema.value_columns
        names = sorted(schema.classes)
        found.classes_ = np.array(names)
        if record := artifact.training.get(ESTIMATOR):
            recorded = InputRecord.of(record, schema, directory)
            columns, found.classes_ = recorded.columns, recorded.labels()
            names = column_names(found.classes_)
        found.n_features_in_ = schema.n_values
        if columns is not None:
            found.feature_names_in_ = np.array(columns, dtype=object)
        return found._with(artifact, names)

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn what X may be: also (N, C, T), and nan if missing values are masked."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.missing == "mask"
        return tags

    def _hyperparameters(self) -> Hyperparameters:
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**32, dtype=np.uint32)
        given = {name: _plain(getattr(self, name)) for name in _hyperparameter_names()}
        given = {name: value for name, value in given.items() if value is not None}
        return Hyperparameters.parse({**given, "seed": int(seed)})

    def _values(self, X: npt.ArrayLike) -> FloatArray:
        """Series to predict, as float32 (N, V)."""
        check_is_fitted(self)
        schema = self.classifier_.schema
        series = even_lengths(X, schema.missing, schema.n_timepoints)
        shape, checks = find_shape(series), input_checks(schema.missing)
        wanted = (schema.n_channels, schema.n_timepoints)
        if len(shape) == 3 and shape[1:] != wanted:
            raise ValueError(
                f"X has the shape {shape}, but {type(self).__name__} is expecting "
                f"(N, {schema.n_channels}, {schema.n_timepoints})"
                + ("; X.transpose(0, 2, 1) has it" if shape[:0:-1] == wanted else "")
            )
        with too_large_is_infinite():
            if len(shape) == 3:
                checked = check_array(flatten(series), estimator=self, input_name="X", **checks)
            else:
                checked = validate_data(self, series, reset=False, **checks)
        values: FloatArray = checked
        return values

    def _refuse_impossible(self, hyperparameters: Hyperparameters) -> None:
        if self.validation_fraction is None:
            if hyperparameters.calibrate:
                raise ValueError("calibrate is fitted on validation rows; give validation_fraction")
            if hyperparameters.keep_by in ("macro_f1", "balanced_accuracy"):
                raise ValueError(
                    f"keep_by {hyperparameters.keep_by} is measured on validation rows; give "
                    "validation_fraction"
                )
        elif not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction: found {self.validation_fraction}; it must be between 0 and 1"
            )
        if self.num_workers is not None and self.num_workers < 1:
            raise ValueError(f"num_workers: found {self.num_workers}; it must be at least 1")

    def _recorded(self, artifact: Artifact) -> Artifact:
        columns = getattr(self, "feature_names_in_", None)
        record = {
            "classes": self.classes_.tolist(),
            "dtype": self.classes_.dtype.str,
            "columns": None if columns is None else columns.tolist(),
        }
        return replace(artifact, training={**artifact.training, ESTIMATOR: record})

    def _with(self, artifact: Artifact, names: Sequence[str]) -> Self:
        """This estimator with a model, whose classes have these names in the order of classes_."""
        self.classifier_ = Classifier(artifact)
        self.metrics_ = dict(artifact.metrics)
        match = match_class(artifact.schema.classes)
        self._order = [artifact.schema.classes.index(match(name)) for name in names]
        return self


def _hyperparameter_names() -> list[str]:
    """The parameters of the estimator that are hyperparameters."""
    known = Hyperparameters.model_fields
    return [field.name for field in dataclasses.fields(LSTMFCNClassifier) if field.name in known]


def _hyperparameter_lines() -> str:
    """A line for each hyperparameter, for the docstring: each is described in one place alone."""
    lines = ["Hyperparameters, with their defaults:"]
    for name in _hyperparameter_names():
        field = Hyperparameters.model_fields[name]
        lines.append(f"    {name} ({field.default!r}): {field.description}")
    return "\n    ".join(lines)


if LSTMFCNClassifier.__doc__:  # None with python -OO
    LSTMFCNClassifier.__doc__ = f"{LSTMFCNClassifier.__doc__}\n    {_hyperparameter_lines()}\n    "


def _given(hyperparameters: Hyperparameters) -> dict[str, Any]:
    """The parameters that a user gives to have these hyperparameters."""
    values = {name: getattr(hyperparameters, name) for name in _hyperparameter_names()}
    recipe = values.pop("recipe")
    otherwise = Hyperparameters(recipe=recipe)
    changes = {name: v for name, v in values.items() if v != getattr(otherwise, name)}
    return changes if recipe == Hyperparameters().recipe else {"recipe": recipe, **changes}


def _plain(value: Any) -> Any:
    """A number of numpy, such as a search draws, as Python's."""
    return value.item() if isinstance(value, np.generic) else value
