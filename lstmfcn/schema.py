"""Which columns of a table are labels and values, and how a table becomes arrays.

The one place that knows the data contract. Training, prediction and serving encode through the same
`SeriesSchema`, and every fault of values or labels is a `DataError` raised here.

Shapes: N rows, V values (of all channels), L label columns.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from lstmfcn import label_cells
from lstmfcn.cells import (
    MISSING_TEXTS,
    Array,
    FloatArray,
    Source,
    cell_faults,
    class_order,
    is_missing,
    match_class,
    matrix_of,
)
from lstmfcn.channels import channels_of, naming_warnings
from lstmfcn.column_names import (
    blank_faults,
    column_faults,
    label_columns,
    label_name_faults,
    lack_fault,
    repeat_faults,
    some_of,
    value_columns,
)
from lstmfcn.dialect import ONE_MARK, looks_like_number
from lstmfcn.errors import DataError, raise_first
from lstmfcn.hyperparameters import MissingLabelsName, MissingName, TaskName

_VALUE_FIX = "write a number there or leave the row out"
_CLASS_FIX = "write the row's class there or leave the row out"
_MASK = ", or train with --missing mask"
_KEEP_NAMES = ", or keep such names as classes with --missing-labels name"


class SeriesSchema(BaseModel):
    """Label columns, value columns and classes, in the order of the first training header.

    A row is one flat vector of its values; with several channels (`lstmfcn.channels`) all of the
    first channel, then all of the second.

    ``classes`` are the label columns' names, or, for a single label column that holds names, those
    names: numbers in numeric order, otherwise in alphabetical order. They are empty until
    `with_classes` has named them. A binary schema has two classes.

    ``missing`` says whether values may be missing, and ``missing_marker`` which text, beside those
    of `MISSING_TEXTS`, marks one in CSV; ``missing_labels``, whether the latter are class names.
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
    ) -> SeriesSchema:
        """Read the columns' roles off a header: ``y*`` are labels, ``x*`` are values.

        Raises:
            DataError: no label or no value column, one name twice, labels that the task does
                not take, channels that do not fit together, or names that differ from the rest.
        """
        labels = tuple(label_columns(header))
        raise_first(blank_faults(header, file))
        raise_first(repeat_faults([*labels, *value_columns(header)], file))
        if not value_columns(header):
            fix = "give the values columns whose names start with x, separated by commas"
            raise lack_fault(header, "value", fix, file)
        if not labels:
            fix = "give the labels columns whose names start with y"
            raise lack_fault(header, "label", fix, file)
        raise_first(label_name_faults(labels, file))
        if task == "binary" and len(labels) > 2:
            raise DataError(
                f"{len(labels)} label columns ({some_of(labels)}) for the task binary",
                "use --task multiclass or multilabel, or keep one or two label columns",
                file=file,
            )
        n_channels, values = channels_of(value_columns(header), file)
        classes = labels
        if task == "binary" and len(labels) == 1:
            classes = ("0", "1")
        elif task == "multiclass" and len(labels) == 1:
            classes = ()
        return cls(
            task=task,
            label_columns=labels,
            value_columns=values,
            classes=classes,
            n_channels=n_channels,
            missing=missing,
            missing_marker=missing_marker,
            missing_labels=missing_labels,
        )

    @property
    def n_values(self) -> int:
        """V, the values of a row: those of all channels."""
        return len(self.value_columns)

    @property
    def n_timepoints(self) -> int:
        """The length of a series, the same for each channel."""
        return self.n_values // self.n_channels

    @property
    def holds_names(self) -> bool:
        """Whether the labels are one column of class names."""
        return self.task == "multiclass" and len(self.label_columns) == 1

    @property
    def probability_columns(self) -> tuple[str, ...]:
        """Names of a prediction's probabilities: the label columns' with p for y."""
        if self.holds_names:
            return tuple(f"p_{name}" for name in self.classes)
        return tuple(f"p{name[1:]}" for name in self.label_columns)

    def with_classes(self, names: Sequence[str], file: str | None = None) -> SeriesSchema:
        """This schema, with the class names that its single label column was found to hold.

        Raises:
            DataError: fewer than two names.
        """
        if len(names) < 2:
            raise DataError(
                f"only the class {some_of(names)}" if names else "no class",
                "training needs rows of at least two classes",
                file=file,
                column=self.label_columns[0],
            )
        return self.model_copy(update={"classes": tuple(sorted(names, key=class_order))})

    def naming_warnings(self) -> list[str]:
        """What names of columns say that may not be meant."""
        return naming_warnings(self.value_columns, self.label_columns)

    def column_types(self, labels: bool) -> dict[str, pa.DataType]:
        """The columns to read and the type of each: labels first, then values, in schema order."""
        types = dict.fromkeys(self.label_columns, pa.string()) if labels else {}
        return types | dict.fromkeys(self.value_columns, pa.float32())

    @property
    def gap_texts(self) -> list[str]:
        """Texts of CSV that stand for a missing value; a blank may stand before one."""
        if self.missing == "refuse":
            return [""]
        texts = sorted(MISSING_TEXTS | {self.missing_marker} - {""})
        return ["", " ", *texts, *(f" {text}" for text in texts)]

    def fix_for(self, cell: str) -> str:
        """What to do about a value's cell that holds this text instead of a number."""
        text = cell.strip()
        if text in MISSING_TEXTS and self.missing == "refuse":
            return _VALUE_FIX + _MASK
        if looks_like_number(text):
            return ONE_MARK
        if text and not any(map(str.isalnum, text)) and not self.missing_marker:
            return f"{_VALUE_FIX}{_MASK} --missing-marker {shlex.quote(text)}"
        return _VALUE_FIX

    def check_header(self, header: Sequence[str], file: str | None, labels: bool) -> None:
        """Refuse a shard whose columns are not this schema's; their order is free.

        Raises:
            DataError: a column missing, left over, or there twice.
        """
        raise_first(self.header_faults(header, file, labels))

    def header_faults(
        self, header: Sequence[str], file: str | None, labels: bool
    ) -> Iterator[DataError]:
        """Why a shard's columns are not this schema's."""
        yield from blank_faults(header, file)
        yield from column_faults("value", header, self.value_columns, file)
        if labels:
            yield from column_faults("label", header, self.label_columns, file)

    def encode_values(self, table: pa.Table, source: Source = Source()) -> FloatArray:
        """The values as float32, shape (N, V), columns matched by name; nan where one is missing.

        Raises:
            DataError: the first value, by row, that is not finite, or missing where that is not
                allowed; or a row without any value.
        """
        matrix = matrix_of(table, self.value_columns)
        raise_first(self.value_faults(~self.usable(matrix), table, source))
        self.refuse_empty_rows(matrix, source)
        return matrix

    def value_faults(
        self, refused: npt.NDArray[np.bool_], table: pa.Table, source: Source
    ) -> Iterator[DataError]:
        """What to say of refused values, (N, V), by row."""
        return cell_faults(refused, table, self.value_columns, source, _VALUE_FIX, _MASK)

    def usable(self, values: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether each value is a finite number, or missing where that is allowed."""
        usable: npt.NDArray[np.bool_] = np.isfinite(values)
        return usable | np.isnan(values) if self.missing == "mask" else usable

    def refuse_empty_rows(self, values: FloatArray, source: Source) -> None:
        """Refuse rows (N, V) in which every value is missing, where values may be.

        Raises:
            DataError: names the first.
        """
        raise_first(self.empty_row_faults(values, source))

    def empty_row_faults(self, values: FloatArray, source: Source) -> Iterator[DataError]:
        """Rows (N, V) in which every value is missing, where values may be."""
        if self.missing == "refuse":
            return
        for row in np.flatnonzero(np.isnan(values).all(axis=1)).tolist():
            yield DataError(
                "no value at all",
                "leave the row out",
                file=source.file,
                row=source.rows_before + row + 1,
            )

    def label_names(self, table: pa.Table, source: Source = Source()) -> list[str]:
        """The class names that the single label column holds, one a row.

        Raises:
            DataError: a row without a name.
        """
        names = self.names_of(table)
        raise_first(self.empty_name_faults(names, source))
        return names

    def names_of(self, table: pa.Table) -> list[str]:
        """The names in the single label column, one a row; "" for an empty cell."""
        labels = table[self.label_columns[0]].to_pylist()
        match = match_class(self.classes)
        name_of = {label: "" if is_missing(label, False) else match(label) for label in set(labels)}
        return [name_of[label] for label in labels]

    def empty_name_faults(self, names: Sequence[str], source: Source) -> Iterator[DataError]:
        """Rows without a class name."""
        fix = _CLASS_FIX + ("" if self.classes else _KEEP_NAMES)
        for row, name in label_cells.rows_of(names, self._lacks):
            yield DataError(
                f"{name!r}, a missing label" if name else "an empty cell",
                fix if name else _CLASS_FIX,
                file=source.file,
                row=source.rows_before + row + 1,
                column=self.label_columns[0],
            )

    def _lacks(self, name: str) -> bool:
        """Whether what `names_of` gives for a row is no class name."""
        refused = self.missing_labels == "refuse" and name in MISSING_TEXTS
        return not name or (refused and name not in self.classes)

    def encode_names(
        self, names: Sequence[str], source: Source = Source()
    ) -> npt.NDArray[np.int64]:
        """Class names as indices into ``classes``, shape (N,).

        Raises:
            DataError: a name that is not among the classes.
        """
        raise_first(self.empty_name_faults(names, source))
        raise_first(self.unknown_name_faults(names, source))
        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([index[name] for name in names], dtype=np.int64)

    def unknown_name_faults(self, names: Sequence[str], source: Source) -> Iterator[DataError]:
        """Rows with a class name that is not among the classes."""
        known = set(self.classes)
        for row, name in label_cells.rows_of(names, lambda name: name not in known):
            if not self._lacks(name):
                yield DataError(
                    f"the class {name!r}",
                    f"the model knows {some_of(self.classes)}; correct the label or train anew",
                    file=source.file,
                    row=source.rows_before + row + 1,
                    column=self.label_columns[0],
                )

    def encode_labels(self, table: pa.Table, source: Source = Source()) -> Array:
        """The labels as the task trains on them.

        Returns:
            multiclass: int64 (N,), indices into ``classes``; binary: float32 (N,), 1 for the
            second class; multilabel: float32 (N, L).

        Raises:
            DataError: the first row whose labels break the contract.
        """
        if self.holds_names:
            return self.encode_names(self.label_names(table, source), source)
        matrix = self.label_matrix(table)
        raise_first(self.label_faults(matrix, table, source))
        if self.task == "multilabel":
            return matrix
        if self.task == "binary" and len(self.label_columns) == 1:
            return matrix[:, 0]
        if self.task == "binary":
            return matrix[:, 1]
        classes: npt.NDArray[np.int64] = matrix.argmax(axis=1).astype(np.int64)
        return classes

    def label_matrix(self, table: pa.Table) -> FloatArray:
        """Labels of 0 and 1 as float32 (N, L); True and False are 1 and 0; nan for no number."""
        return label_cells.label_matrix(table, self.label_columns)

    def class_counts(self, labels: Array) -> dict[str, int]:
        """Rows of each class in encoded labels; of each label's ones for multilabel."""
        if self.task == "multilabel":
            counts = labels.astype(np.int64).sum(axis=0)
        else:
            counts = np.bincount(labels.astype(np.int64), minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    def refuse_absent_classes(self, labels: Array, file: str) -> None:
        """Refuse training labels in which a class has no row: it could not be learned.

        Raises:
            DataError: names the classes.
        """
        raise_first(self.absent_class_faults(self.class_counts(labels), file))

    def absent_class_faults(self, counts: Mapping[str, int], file: str) -> Iterator[DataError]:
        """Classes without a row, given the rows of each."""
        absent = [name for name in self.classes if not counts[name]]
        if absent:
            yield DataError(
                f"no row of the class {some_of(absent)}",
                "add rows of it to the training data"
                + ("" if self.holds_names else " or remove its column"),
                file=file,
            )

    def label_faults(
        self, matrix: FloatArray, table: pa.Table, source: Source
    ) -> Iterator[DataError]:
        """What is wrong with a `label_matrix`, (N, L): first all cells, then all rows."""
        yield from label_cells.cell_faults(matrix, table, self.label_columns, source)
        if self.task != "multilabel" and len(self.label_columns) > 1:
            yield from label_cells.not_one_hot(matrix, self.label_columns, source)
