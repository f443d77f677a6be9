"""What the scikit-learn classifier is given, as arrays and names that lstmfcn trains on.

Shapes: N rows, C channels of T timepoints, V = C * T values, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt
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

from lstmfcn.cells import class_name, is_missing, match_class
from lstmfcn.channels import channels_of, value_names
from lstmfcn.errors import ModelError
from lstmfcn.hyperparameters import MissingLabelsName, MissingName, explain
from lstmfcn.schema import SeriesSchema
from lstmfcn.series_input import as_array, several_lengths, swapped_axes


def checks_of(missing: MissingName) -> dict[str, Any]:
    """What scikit-learn makes of values, and what it refuses."""
    finite = "allow-nan" if missing == "mask" else True
    return {"dtype": np.float32, "order": "C", "ensure_all_finite": finite}


def evened(values: Any, missing: MissingName, n_timepoints: int = 0) -> Any:
    """Series of several lengths, filled up with nan where values may be missing (`as_array`).

    Raises:
        ValueError: they may not.
    """
    if missing == "refuse" and (lengths := several_lengths(values)):
        raise ValueError(
            f"X has series of {lengths}; missing='mask' fills the shorter ones up with nan"
        )
    return as_array(values, n_timepoints if missing == "mask" else 0)


def refuse_swapped_axes(shape: tuple[int, ...]) -> None:
    """Refuse arrays (N, T, 1); warn of others of more channels than timepoints.

    Raises:
        ValueError: each series has one timepoint of several channels.
    """
    swapped = swapped_axes(*shape[1:]) if len(shape) == 3 else None
    if swapped and shape[2] == 1:
        raise ValueError(f"X has {swapped}")
    if swapped:
        warnings.warn(f"X has {swapped}", stacklevel=3)


def shape_of(values: Any) -> tuple[int, ...]:
    """The shape of an array, of a table, or of the array that nested lists make."""
    return tuple(values.shape if hasattr(values, "shape") else np.asarray(values).shape)


def flat(values: npt.ArrayLike) -> npt.ArrayLike:
    """Series (N, C, T) as (N, V), one channel after the other; what has another shape as it is."""
    shape = shape_of(values)
    return np.asarray(values).reshape(shape[0], shape[1] * shape[2]) if len(shape) == 3 else values


def names_of(classes: npt.NDArray[Any]) -> list[str]:
    """Labels as class names of a shard.

    Raises:
        ValueError: a label is no name, or two are one.
    """
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
    """Refuse labels of text or of Python's objects among which one is missing.

    Raises:
        ValueError: names the first.
    """
    labels = np.asarray(y)
    if labels.dtype.kind not in "OUT" or labels.ndim != 1:
        return
    for row, label in enumerate(labels.tolist()):
        if is_missing(label, texts=missing_labels == "refuse"):
            is_name = not is_missing(label, texts=False)
            keep = '; missing_labels="name" keeps such names' if is_name else ""
            raise ValueError(
                f"y has the label {label!r} at index {row}, which is missing; "
                f"give the row's class or leave the row out{keep}"
            )


def columns_of(named: npt.NDArray[np.object_] | None, n_channels: int, n_values: int) -> list[str]:
    """Names of the values in the model directory, of which channels are read off.

    Args:
        named: those of the table's columns, (V,), where it has any; kept where all start with x.
        n_channels: of values without such names.
        n_values: V.

    Raises:
        ValueError: names of several channels, one among the other.
        DataError: names of channels that do not fit together.
    """
    names = [] if named is None else [str(name) for name in named]
    if not names or not all(name.startswith("x") for name in names):
        return value_names(n_channels, n_values // n_channels)
    if list(channels_of(names).columns) != names:
        raise ValueError(
            "X has columns of several channels, one among the other; "
            "order them x1_1, x1_2, ..., x2_1, x2_2, ..."
        )
    return names


class Recorded(BaseModel):
    """What a saved classifier keeps beside its model: labels as they were given, and columns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: list[StrictBool | StrictInt | StrictFloat | StrictStr]
    dtype: str = Field(pattern=r"^[<>|=]([biuf]\d|f16|O|U\d{1,4})$")
    columns: list[str] | None

    @classmethod
    def of(cls, written: object, schema: SeriesSchema, directory: object) -> Self:
        """The record in a model of this schema.

        Raises:
            ModelError: it is none.
        """
        try:
            found = cls.model_validate(written)
            names = names_of(found.labels())
        except ValidationError as error:
            raise ModelError(f"{directory}: {explain(error, 'estimator')}") from error
        except (ValueError, TypeError, OverflowError) as error:
            raise ModelError(f"{directory}: found labels that are none ({error})") from error
        n_columns = schema.n_values if found.columns is None else len(found.columns)
        named = map(match_class(schema.classes), names)
        if sorted(named) != sorted(schema.classes) or n_columns != schema.n_values:
            raise ModelError(f"{directory}: found labels or columns that are not the model's")
        return found

    def labels(self) -> npt.NDArray[Any]:
        """The labels, of their own type."""
        return np.array(self.classes, dtype=self.dtype)


@contextmanager
def too_large_is_infinite() -> Iterator[None]:
    """Let what is too large for 32 bits become infinite without a warning; it is refused then."""
    with np.errstate(over="ignore", invalid="ignore"):
        yield
