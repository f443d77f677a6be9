"""The data contract: which columns are labels and values, and how a table becomes arrays.

Training, prediction and serving use the same `SeriesSchema`. Each ``..._faults`` method reports
every fault, for `lstmfcn check`; the methods that encode raise the first one.

Shapes: N rows, V values (of all channels), L label columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from lstmfcn.data.columns import (
    BY_FIRST_LETTER,
    DataWarning,
    Roles,
    abbreviate,
    blank_faults,
    column_faults,
    label_name_faults,
    naming_warnings,
    no_columns_fault,
    parse_channels,
    repeat_faults,
)
from lstmfcn.data.table import (
    MISSING_TEXTS,
    Array,
    FloatArray,
    RowOrigin,
    cell_faults,
    class_order,
    find_rows,
    is_missing,
    label_faults,
    label_matrix,
    match_class,
    not_one_hot,
    to_matrix,
)
from lstmfcn.errors import DataError, raise_first
from lstmfcn.hyperparameters import MissingLabelsName, MissingName, TaskName

VALUE_FIX = "write a number or remove the row"
_CLASS_FIX = "write the row's class or remove the row"
OR_MASK = ", or train with --missing mask"
_KEEP_NAME = ", or use --missing-labels name if it is a class"


class SeriesSchema(BaseModel):
    """Label columns, value columns and classes, in the order of the first training header.

    A row is one flat vector: all values of the first channel, then all of the second, and so on.

    Attributes:
        value_columns: names of the value columns, one channel after the other.
        classes: the names of the label columns; for one column of class names these names, numbers
            by value, then text alphabetically, and empty until `with_classes` has set them. A
            binary schema has two classes.
        missing_marker: a text, besides `MISSING_TEXTS`, that marks a missing value in CSV.
        label_pattern, value_pattern: how labels and values were named; see `Roles`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: TaskName
    label_columns: tuple[str, ...]
    value_columns: tuple[str, ...]
    classes: tuple[str, ...] = ()
    n_channels: int = Field(1, ge=1)
    missing: MissingName = "refuse"
    missing_marker: str = ""
    missing_labels: MissingLabelsName = "refuse"
    label_pattern: str = ""
    value_pattern: str = ""

    @classmethod
    def from_header(
        cls,
        header: Sequence[str],
        task: TaskName,
        file: str | None = None,
        missing: MissingName = "refuse",
        *,
        missing_marker: str = "",
        missing_labels: MissingLabelsName = "refuse",
        roles: Roles = BY_FIRST_LETTER,
    ) -> SeriesSchema:
        """Make the schema of a header, whose labels and values the roles tell.

        Raises:
            DataError: no label or no value column, a repeated name, labels that do not suit the
                task, channels with different timepoints, or names that do not fit the others.
        """
        labels, values = tuple(roles.labels(header)), roles.values(header)
        raise_first(blank_faults(header, file))
        raise_first(repeat_faults([*labels, *values], file))
        if not values:
            raise no_columns_fault(header, "value", file, roles=roles)
        if not labels:
            raise no_columns_fault(header, "label", file, roles=roles)
        if not roles.label_column:
            raise_first(label_name_faults(labels, file))
        if task == "binary" and len(labels) > 2:
            raise DataError(
                f"{len(labels)} label columns ({abbreviate(labels)}) for the task binary",
                "use --task multiclass or multilabel, or keep one or two label columns",
                file=file,
            )
        n_channels, ordered = parse_channels(values, file)
        classes = labels
        if task == "binary" and len(labels) == 1:
            classes = ("0", "1")
        elif task == "multiclass" and len(labels) == 1:
            classes = ()
        return cls(
            task=task,
            label_columns=labels,
            value_columns=ordered,
            classes=classes,
            n_channels=n_channels,
            missing=missing,
            missing_marker=missing_marker,
            missing_labels=missing_labels,
            label_pattern=roles.label_column,
            value_pattern=roles.value_columns,
        )

    @property
    def roles(self) -> Roles:
        """Which columns of a shard are labels and values."""
        return Roles(self.label_pattern, self.value_pattern)

    @property
    def n_values(self) -> int:
        """V, the number of values in a row, of all channels."""
        return len(self.value_columns)

    @property
    def n_timepoints(self) -> int:
        """T, the length of a series, the same in all channels."""
        return self.n_values // self.n_channels

    @property
    def holds_names(self) -> bool:
        """Whether the only label column has class names."""
        return self.task == "multiclass" and len(self.label_columns) == 1

    @property
    def probability_columns(self) -> tuple[str, ...]:
        """Names of the probability columns of a prediction: p instead of y, or ``p_NAME``."""
        if self.holds_names:
            return tuple(f"p_{name}" for name in self.classes)
        return tuple(
            f"p{name[1:]}" if name.startswith("y") else f"p_{name}" for name in self.label_columns
        )

    def with_classes(self, names: Sequence[str], file: str | None = None) -> SeriesSchema:
        """Return this schema with the names of its classes; fewer than two raise `DataError`."""
        if len(names) < 2:
            raise DataError(
                f"only the class {abbreviate(names)}" if names else "no class",
                "training needs rows of at least two classes",
                file=file,
                column=self.label_columns[0],
            )
        return self.model_copy(update={"classes": tuple(sorted(names, key=class_order))})

    def naming_warnings(self) -> Iterator[DataWarning]:
        """Warn of column names that may not mean what they are read as."""
        labels = () if self.label_pattern else self.label_columns
        return naming_warnings(self.value_columns, labels)

    def column_types(self, labels: bool) -> dict[str, pa.DataType]:
        """The columns to read and their types: labels first, then values, in schema order."""
        types = dict.fromkeys(self.label_columns, pa.string()) if labels else {}
        return types | dict.fromkeys(self.value_columns, pa.float32())

    @property
    def gap_texts(self) -> list[str]:
        """Texts that mark a missing value in CSV; a space may come before each."""
        if self.missing == "refuse":
            return [""]
        texts = sorted(MISSING_TEXTS | {self.missing_marker} - {""})
        return ["", " ", *texts, *(f" {text}" for text in texts)]

    def check_header(self, header: Sequence[str], file: str | None, labels: bool) -> None:
        """Refuse (`DataError`) a shard with other columns than this schema; their order is free."""
        raise_first(self.header_faults(header, file, labels))

    def header_faults(
        self, header: Sequence[str], file: str | None, labels: bool
    ) -> Iterator[DataError]:
        """Report how the columns of a shard differ from this schema."""
        yield from blank_faults(header, file)
        yield from column_faults("value", header, self.value_columns, file, self.roles)
        if labels:
            yield from column_faults("label", header, self.label_columns, file, self.roles)

    def encode_values(self, table: pa.Table, source: RowOrigin = RowOrigin()) -> FloatArray:
        """Return the values as float32 (N, V), columns matched by name; nan for missing values.

        Raises:
            DataError: for the first value that is not finite, or missing where that is not
                allowed; or for a row without any value.
        """
        matrix = to_matrix(table, self.value_columns)
        raise_first(self.value_faults(~self.usable(matrix), table, source))
        self.refuse_empty_rows(matrix, source)
        return matrix

    def value_faults(
        self, refused: npt.NDArray[np.bool_], table: pa.Table, source: RowOrigin
    ) -> Iterator[DataError]:
        """Report refused values, (N, V), row by row."""
        return cell_faults(refused, table, self.value_columns, source, VALUE_FIX, OR_MASK)

    def usable(self, values: FloatArray) -> npt.NDArray[np.bool_]:
        """Say whether each value is finite, or missing where that is allowed."""
        usable: npt.NDArray[np.bool_] = np.isfinite(values)
        return usable | np.isnan(values) if self.missing == "mask" else usable

    def refuse_empty_rows(self, values: FloatArray, source: RowOrigin) -> None:
        """Refuse (`DataError`) values (N, V) if a whole row is missing."""
        raise_first(self.empty_row_faults(values, source))

    def empty_row_faults(self, values: FloatArray, source: RowOrigin) -> Iterator[DataError]:
        """Report rows of (N, V) in which all values are missing, where values may be missing."""
        if self.missing == "refuse":
            return
        for row in np.flatnonzero(np.isnan(values).all(axis=1)).tolist():
            yield source.fault(row, "a row without any value", "remove the row")

    def label_names(self, table: pa.Table, source: RowOrigin = RowOrigin()) -> list[str]:
        """Return the class name of each row; a row without one raises `DataError`."""
        names = self.names_of(table)
        raise_first(self.empty_name_faults(names, source))
        return names

    def names_of(self, table: pa.Table) -> list[str]:
        """Like `label_names`, but with "" for rows without a name."""
        labels = table[self.label_columns[0]].to_pylist()
        match = match_class(self.classes)
        names = {label: "" if is_missing(label, False) else match(label) for label in set(labels)}
        return [names[label] for label in labels]

    def empty_name_faults(self, names: Sequence[str], source: RowOrigin) -> Iterator[DataError]:
        """Report rows without a class name."""
        fix = _CLASS_FIX + ("" if self.classes else _KEEP_NAME)
        for row, name in find_rows(names, self._is_missing_name):
            found = f"{name!r}, which stands for a missing label" if name else "an empty cell"
            yield source.fault(row, found, fix if name else _CLASS_FIX, self.label_columns[0])

    def _is_missing_name(self, name: str) -> bool:
        refused = self.missing_labels == "refuse" and name in MISSING_TEXTS
        return not name or (refused and name not in self.classes)

    def encode_names(
        self, names: Sequence[str], source: RowOrigin = RowOrigin()
    ) -> npt.NDArray[np.int64]:
        """Return the indices of class names, int64 (N,); other names raise `DataError`."""
        raise_first(self.empty_name_faults(names, source))
        raise_first(self.unknown_name_faults(names, source))
        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([index[name] for name in names], dtype=np.int64)

    def unknown_name_faults(self, names: Sequence[str], source: RowOrigin) -> Iterator[DataError]:
        """Report rows with a class name that is not one of the classes."""
        classes = set(self.classes)
        for row, name in find_rows(names, lambda name: name not in classes):
            if not self._is_missing_name(name):
                yield source.fault(
                    row,
                    f"the class {name!r}",
                    f"the model's classes are {abbreviate(self.classes)}; correct the label or "
                    "train a new model",
                    self.label_columns[0],
                )

    def encode_labels(self, table: pa.Table, source: RowOrigin = RowOrigin()) -> Array:
        """Return the labels in the form that the task trains on.

        Returns:
            multiclass: int64 (N,), indices into ``classes``; binary: float32 (N,), 1 for the
            second class; multilabel: float32 (N, L).

        Raises:
            DataError: for the first row whose labels break the contract.
        """
        if self.holds_names:
            return self.encode_names(self.label_names(table, source), source)
        matrix = label_matrix(table, self.label_columns)
        raise_first(self.label_faults(matrix, table, source))
        if self.task == "multilabel":
            return matrix
        if self.task == "binary":
            return matrix[:, -1]
        classes: npt.NDArray[np.int64] = matrix.argmax(axis=1).astype(np.int64)
        return classes

    def class_counts(self, labels: Array) -> dict[str, int]:
        """Count the rows of each class in encoded labels; for multilabel, each label's ones."""
        if self.task == "multilabel":
            counts = labels.astype(np.int64).sum(axis=0)
        else:
            counts = np.bincount(labels.astype(np.int64), minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    def refuse_absent_classes(self, labels: Array, file: str) -> None:
        """Refuse (`DataError`) training labels if a class has no row; it could not be learned."""
        raise_first(self.absent_class_faults(self.class_counts(labels), file))

    def absent_class_faults(self, counts: Mapping[str, int], file: str) -> Iterator[DataError]:
        """Report classes without a row, given the number of rows of each."""
        absent = [name for name in self.classes if not counts[name]]
        if absent:
            yield DataError(
                f"no row of the class {abbreviate(absent)}",
                "add training rows of this class"
                + ("" if self.holds_names else " or remove its column"),
                file=file,
            )

    def label_faults(
        self, matrix: FloatArray, table: pa.Table, source: RowOrigin
    ) -> Iterator[DataError]:
        """Report faults of a `label_matrix`, (N, L): first of cells, then of rows."""
        yield from label_faults(matrix, table, self.label_columns, source)
        if self.task != "multilabel" and len(self.label_columns) > 1:
            yield from not_one_hot(matrix, self.label_columns, source)
