"""LSTM-FCN as a scikit-learn classifier: for pipelines, cross-validation and searches.

Its model directory is that of every other part of lstmfcn. Training is `lstmfcn.train_arrays`, or,
with workers, what ``lstmfcn train`` does.

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
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from lstmfcn.artifact import Artifact
from lstmfcn.cells import FloatArray, match_class
from lstmfcn.classifier import ESTIMATOR, Classifier
from lstmfcn.errors import ModelError
from lstmfcn.estimator_input import (
    Recorded,
    checks_of,
    columns_of,
    evened,
    flat,
    names_of,
    refuse_missing,
    refuse_swapped_axes,
    shape_of,
    too_large_is_infinite,
)
from lstmfcn.explanation import Explanation
from lstmfcn.hyperparameters import (
    ClassWeightName,
    Hyperparameters,
    MissingLabelsName,
    MissingName,
    NetworkName,
    PrecisionName,
    RecipeName,
    ScalingName,
    ScheduleName,
    ViewName,
)
from lstmfcn.train_arrays import Labelled, train_arrays


@dataclass(kw_only=True, eq=False, repr=False)
class LSTMFCNClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of time series, with the hyperparameters of `Hyperparameters`.

    A hyperparameter that is None is what ``recipe`` says, else its default; both stand in
    `lstmfcn.hyperparameters` alone.

    Args:
        random_state: the seed. An integer is that of ``lstmfcn train --seed``; an instance of
            RandomState, or None for numpy's own, draws one at each fit. It has scikit-learn's name
            because scikit-learn sets it, in ensembles of estimators for one.
        validation_fraction: the share of the rows, of each class alike, that is not trained on, but
            decides which epoch is kept, and what ``calibrate`` fits. None: all rows are trained on,
            and the training loss decides.
        num_workers: None trains in this process, by PyTorch's threads on the CPU. A number trains
            on Ray by so many workers, with a GPU each where there are any: on the Ray that is
            running, on the cluster that RAY_ADDRESS names, or on one started for each fit. Several
            machines must share the folder for temporary files, which TMPDIR names.

    Attributes:
        classes_: (K,), the labels in ascending order, of the dtype of y.
        n_features_in_: V.
        feature_names_in_: (V,), the columns, where X was a table whose columns have names.
        classifier_: the trained model; ``classifier_.artifact`` tells how it was trained.
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
    view: ViewName | None = None
    scaling: ScalingName | None = None
    missing: MissingName | None = None
    missing_labels: MissingLabelsName | None = None
    class_weight: ClassWeightName | None = None
    schedule: ScheduleName | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    calibrate: bool | None = None
    precision: PrecisionName | None = None
    random_state: int | np.random.RandomState | None = 0
    validation_fraction: float | None = None
    num_workers: int | None = None

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Train anew.

        Args:
            X: series, (N, T) or (N, C, T), unscaled; nan where a value is missing; with
                ``missing="mask"`` also a list of series of several lengths, (t,) or (C, t), or a
                table with a series in each cell, whose ends are filled up with nan. Columns of a
                table that all start with x are named, and made channels, as those of a shard are
                (`lstmfcn.channels`); any other series count as x_1, x_2, ... in the model
                directory, of several channels as x1_1, x1_2, ...
            y: labels (N,): text, integers or bools, of at least two classes. What marks a missing
                label, such as None, nan or "NA", is refused; as text it is a class with
                ``missing_labels="name"``.

        Raises:
            ValueError: X or y are no such arrays; X is (N, T, 1), whose axes are swapped.
            UserError: a hyperparameter is impossible, a row is empty, or Ray has not what is asked
                for.
            TrainingError: the loss is no longer finite.
        """
        hyperparameters = self._hyperparameters()
        self._refuse_impossible(hyperparameters)
        refuse_missing(y, hyperparameters.missing_labels)
        series = evened(X, hyperparameters.missing)
        shape, checks = shape_of(series), checks_of(hyperparameters.missing)
        refuse_swapped_axes(shape)
        with too_large_is_infinite():
            values, labels = validate_data(self, flat(series), y, ensure_min_samples=2, **checks)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has only the class {self.classes_[0]}; training needs two")
        names = names_of(self.classes_)
        train, validation = self._split((values, np.array(names)[codes]), hyperparameters.seed)
        n_channels = shape[1] if len(shape) == 3 else 1
        named = getattr(self, "feature_names_in_", None)
        columns = columns_of(named, n_channels, self.n_features_in_)
        with torch.random.fork_rng(devices=[]):  # the caller's own random numbers stay
            artifact = self._train(train, hyperparameters, validation, columns)
            return self._with(self._recorded(artifact), names)

    def predict_proba(self, X: npt.ArrayLike) -> FloatArray:
        """Probabilities, float32 (N, K), in the order of ``classes_``, of series as `fit` takes.

        Raises:
            NotFittedError: there is no model yet.
            ValueError: X has another shape or other columns than in `fit`, or is not finite.
            DataError: a row is empty, or so large that computing overflows.
        """
        values = self._values(X)
        found = self.classifier_.predict_proba(values)
        if found.shape[1] == 1:  # the task binary, with a single label column
            found = np.hstack([1 - found, found])
        return found[:, self._order]

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """The most probable class of each row, (N,), with the dtype of ``classes_``.

        Raises:
            NotFittedError, ValueError, DataError: as `predict_proba`.
        """
        chosen = self.predict_proba(X).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[chosen]
        return labels

    def explain(self, X: npt.ArrayLike) -> Explanation:
        """What the logits of series are the sum of, outputs in the order of ``classes_``.

        A model that ``lstmfcn train --task binary`` wrote has one output, of the second class.

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
        """Write a model directory, which all of lstmfcn takes, in place of one that stands there.

        Raises:
            NotFittedError: there is no model yet.
            OutputError: it cannot be written.
        """
        check_is_fitted(self)
        self.classifier_.artifact.save(directory)

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """The classifier of a model directory, of `save` or of ``lstmfcn train``.

        Classes of the latter are text, as they stand in its shards; its columns are those of the
        shards.

        Raises:
            ModelError: it is missing, incomplete or damaged, or gives a row several labels.
        """
        artifact = Artifact.load(directory)
        schema, hyperparameters = artifact.schema, artifact.hyperparameters
        if schema.task == "multilabel":
            raise ModelError(
                f"{directory}: found a multilabel model; load it with lstmfcn.classifier.Classifier"
            )
        found = cls(**_given(hyperparameters), random_state=hyperparameters.seed)
        columns: Sequence[str] | None = schema.value_columns
        names = sorted(schema.classes)
        found.classes_ = np.array(names)
        if record := artifact.training.get(ESTIMATOR):
            recorded = Recorded.of(record, schema, directory)
            columns, found.classes_ = recorded.columns, recorded.labels()
            names = names_of(found.classes_)
        found.n_features_in_ = schema.n_values
        if columns is not None:
            found.feature_names_in_ = np.array(columns, dtype=object)
        return found._with(artifact, names)

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn may give: also (N, C, T), and nan where missing values are masked."""
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
        series = evened(X, schema.missing, schema.n_timepoints)
        shape, checks = shape_of(series), checks_of(schema.missing)
        wanted = (schema.n_channels, schema.n_timepoints)
        if len(shape) == 3 and shape[1:] != wanted:
            raise ValueError(
                f"X has the shape {shape}, but {type(self).__name__} is expecting "
                f"(N, {schema.n_channels}, {schema.n_timepoints})"
                + ("; X.transpose(0, 2, 1) has it" if shape[:0:-1] == wanted else "")
            )
        with too_large_is_infinite():
            if len(shape) == 3:
                checked = check_array(flat(series), estimator=self, input_name="X", **checks)
            else:
                checked = validate_data(self, series, reset=False, **checks)
        values: FloatArray = checked
        return values

    def _refuse_impossible(self, hyperparameters: Hyperparameters) -> None:
        if self.validation_fraction is None:
            if hyperparameters.calibrate:
                raise ValueError("calibrate is fitted on validation rows; give validation_fraction")
        elif not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction: found {self.validation_fraction}; it must be between 0 and 1"
            )
        if self.num_workers is not None and self.num_workers < 1:
            raise ValueError(f"num_workers: found {self.num_workers}; it must be at least 1")

    def _split(self, rows: Labelled, seed: int) -> tuple[Labelled, Labelled | None]:
        """Rows to train on, and rows held out; both in the order in which they came."""
        if self.validation_fraction is None:
            return rows, None
        values, names = rows
        parts = train_test_split(
            np.arange(len(names)),
            test_size=self.validation_fraction,
            stratify=names,
            random_state=seed,
        )
        train, validation = (np.sort(part) for part in parts)
        return (values[train], names[train]), (values[validation], names[validation])

    def _train(
        self,
        train: Labelled,
        hyperparameters: Hyperparameters,
        validation: Labelled | None,
        columns: list[str],
    ) -> Artifact:
        if self.num_workers is None:
            return train_arrays(train, hyperparameters, validation, columns=columns)
        from lstmfcn.distributed.arrays import train_arrays_on_ray  # imports Ray

        return train_arrays_on_ray(train, hyperparameters, validation, columns, self.num_workers)

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
        match = match_class(artifact.schema.classes)
        self._order = [artifact.schema.classes.index(match(name)) for name in names]
        return self


def _hyperparameter_names() -> list[str]:
    """The parameters of the estimator that are hyperparameters."""
    known = Hyperparameters.model_fields
    return [field.name for field in dataclasses.fields(LSTMFCNClassifier) if field.name in known]


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
