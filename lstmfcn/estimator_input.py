"""Input of the scikit-learn classifier, as the arrays and names that lstmfcn trains on.

Shapes: N rows, C channels of T timepoints, V = C * T values, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)
from sklearn.model_selection import train_test_split

from lstmfcn.data.columns import parse_channels, value_names
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.series_input import several_lengths, swapped_axes, to_array
from lstmfcn.data.table import class_name, is_missing, match_class
from lstmfcn.errors import ModelError, RunInterruptedError
from lstmfcn.hyperparameters import (
    Hyperparameters,
    MissingLabelsName,
    MissingName,
    format_validation_error,
)
from lstmfcn.model.artifact import Artifact
from lstmfcn.storage.scratch import scratch_folder
from lstmfcn.training.in_memory import Labelled
from lstmfcn.training.run_directory import MODEL


def input_checks(missing: MissingName) -> dict[str, Any]:
    """How scikit-learn is to convert and check values."""
    finite = "allow-nan" if missing == "mask" else True
    return {"dtype": np.float32, "order": "C", "ensure_all_finite": finite}


def even_lengths(values: Any, missing: MissingName, n_timepoints: int = 0) -> Any:
    """Pad series of several lengths with nan (`to_array`); `ValueError` if nan is refused."""
    if missing == "refuse" and (lengths := several_lengths(values)):
        raise ValueError(
            f"X has series of {lengths}; missing='mask' pads the shorter ones with nan"
        )
    return to_array(values, n_timepoints if missing == "mask" else 0)


def refuse_swapped_axes(shape: tuple[int, ...]) -> None:
    """Refuse (`ValueError`) arrays (N, T, 1); warn if there are more channels than timepoints."""
    swapped = swapped_axes(*shape[1:]) if len(shape) == 3 else None
    if swapped and shape[2] == 1:
        raise ValueError(f"X has {swapped}")
    if swapped:
        warnings.warn(f"X has {swapped}", stacklevel=3)


def find_shape(values: Any) -> tuple[int, ...]:
    """The shape of an array, of a table, or of the array that nested lists make."""
    return tuple(values.shape if hasattr(values, "shape") else np.asarray(values).shape)


def flatten(values: npt.ArrayLike) -> npt.ArrayLike:
    """Series (N, C, T) as (N, V), one channel after the other; another shape stays as it is."""
    shape = find_shape(values)
    return np.asarray(values).reshape(shape[0], shape[1] * shape[2]) if len(shape) == 3 else values


def column_names(classes: npt.NDArray[Any]) -> list[str]:
    """Labels as class names of a shard; `ValueError` for one that cannot be such a name."""
    labels = classes.tolist()
    names = [class_name(label) for label in labels]
    known: dict[str, object] = {}
    for label, name in zip(labels, names, strict=True):
        if not isinstance(label, str | int | float):
            raise ValueError(f"y has the label {label}; give text, integers or bools")
        if not name:
            raise ValueError(f"y has the label {label!r}, which is empty")
        if name in known:
            raise ValueError(
                f"y has the labels {known[name]!r} and {label!r}, which are one class to lstmfcn; "
                "write it in one way"
            )
        known[name] = label
    return names


def refuse_missing(y: Any, missing_labels: MissingLabelsName) -> None:
    """Refuse (`ValueError`) labels, text or Python objects, if one of them is missing."""
    labels = np.asarray(y)
    if labels.dtype.kind not in "OUT" or labels.ndim != 1:
        return
    for row, label in enumerate(labels.tolist()):
        if is_missing(label, texts=missing_labels == "refuse"):
            is_name = not is_missing(label, texts=False)
            keep = '; missing_labels="name" keeps such names' if is_name else ""
            raise ValueError(
                f"y has the label {label!r} at index {row}, which is missing; "
                f"give the row's class or remove the row{keep}"
            )


def make_columns(
    named: npt.NDArray[np.object_] | None, n_channels: int, n_values: int
) -> list[str]:
    """Names of the values in the model directory; they tell the channels.

    Args:
        named: the table's column names, (V,), if it has any; kept if all of them start with x.
        n_channels: channels of values without such names.

    Raises:
        ValueError: columns of several channels are mixed.
        DataError: the names of channels do not fit together.
    """
    names = [] if named is None else [str(name) for name in named]
    if not names or not all(name.startswith("x") for name in names):
        return value_names(n_channels, n_values // n_channels)
    if list(parse_channels(names).columns) != names:
        raise ValueError(
            "X mixes columns of several channels; order them x1_1, x1_2, ..., x2_1, x2_2, ..."
        )
    return names


class InputRecord(BaseModel):
    """What a saved classifier keeps beside its model: the labels of y, and the columns of X."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: list[StrictBool | StrictInt | StrictFloat | StrictStr]
    dtype: str = Field(pattern=r"^[<>|=]([biuf]\d|f16|O|U\d{1,4})$")
    columns: list[str] | None

    @classmethod
    def of(cls, written: object, schema: SeriesSchema, directory: object) -> Self:
        """The record in a model of this schema; `ModelError` if it does not fit the model."""
        try:
            found = cls.model_validate(written)
            names = column_names(found.labels())
        except ValidationError as error:
            raise ModelError(
                f"{directory}: {format_validation_error(error, 'estimator')}"
            ) from error
        except (ValueError, TypeError, OverflowError) as error:
            raise ModelError(f"{directory}: found invalid labels ({error})") from error
        n_columns = schema.n_values if found.columns is None else len(found.columns)
        named = map(match_class(schema.classes), names)
        if sorted(named) != sorted(schema.classes) or n_columns != schema.n_values:
            raise ModelError(f"{directory}: found other labels or columns than the model has")
        return found

    def labels(self) -> npt.NDArray[Any]:
        """The labels, of their own type."""
        return np.array(self.classes, dtype=self.dtype)


@contextmanager
def too_large_is_infinite() -> Iterator[None]:
    """Convert values too large for 32 bits to infinity without a warning; checks refuse them."""
    with np.errstate(over="ignore", invalid="ignore"):
        yield


def split_rows(
    rows: Labelled, fraction: float | None, seed: int
) -> tuple[Labelled, Labelled | None]:
    """Rows to train on, and rows held out, both in their order; each has the same share of a class.

    Args:
        fraction: of the rows to hold out; None for none.
    """
    if fraction is None:
        return rows, None
    values, names = rows
    parts = train_test_split(
        np.arange(len(names)), test_size=fraction, stratify=names, random_state=seed
    )
    train, validation = (np.sort(part) for part in parts)
    return (values[train], names[train]), (values[validation], names[validation])


def train_arrays_on_ray(
    training: Labelled,
    hyperparameters: Hyperparameters,
    validation: Labelled | None,
    columns: list[str],
    num_workers: int,
) -> Artifact:
    """Train on Ray, as ``lstmfcn train`` does on shards with these rows.

    Args:
        hyperparameters: of the model and its training; the task must be multiclass.
        validation: rows that decide which epoch is the best.

    Raises:
        UserError: rows or cluster are not suited, or the machines do not share the temporary
            folder.
        TrainingError: the loss became infinite or nan.
        KeyboardInterrupt: the user stopped it.
    """
    from lstmfcn.distributed.requests import Resources  # imports Ray
    from lstmfcn.distributed.train import train

    with scratch_folder() as folder:
        held_out = (
            _shard(folder / "validation.parquet", validation, columns) if validation else None
        )
        try:
            train(
                _shard(folder / "training.parquet", training, columns),
                str(folder / "run"),
                validation=held_out,
                hyperparameters=hyperparameters,
                resources=Resources(num_workers),
            )
        except RunInterruptedError as stopped:  # which cannot be resumed, as its folder goes
            raise KeyboardInterrupt from stopped
        return Artifact.load(folder / "run" / MODEL)


def _shard(path: Path, rows: Labelled, columns: list[str]) -> str:
    values, names = rows
    series = {name: values[:, i] for i, name in enumerate(columns)}
    table = pa.table({"y": names, **series})
    pa.parquet.write_table(table, path, compression="none", use_dictionary=["y"])
    return str(path)
