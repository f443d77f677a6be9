"""A trained model that answers: series in, probabilities and labels out. No Ray, no shards.

Shapes: N rows, C channels of T timepoints, V = C * T values, K outputs, L label columns.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lstmfcn.artifact import Artifact
from lstmfcn.cells import FloatArray, Source
from lstmfcn.column_names import some_of
from lstmfcn.counts import number
from lstmfcn.errors import DataError
from lstmfcn.explanation import Explanation
from lstmfcn.folded import FoldedEnsemble
from lstmfcn.hyperparameters import InferencePrecision
from lstmfcn.model import native_dtype
from lstmfcn.schema import SeriesSchema
from lstmfcn.series_input import as_array, in_named_order, several_lengths
from lstmfcn.task import task_of

_CHUNK_VALUES = 16384
_MOST_ROWS, _FEWEST_ROWS = 128, 8


def chunk_rows(n_values: int) -> int:
    """Rows computed at a time, counted from the first, so that equal input gives equal output.

    128 rows of up to 128 values. More were no faster: their tensors leave the processor's
    caches.
    """
    return max(_FEWEST_ROWS, min(_MOST_ROWS, _CHUNK_VALUES // n_values))


logger = logging.getLogger(__name__)

ESTIMATOR = "estimator"
"""Where an artifact's ``training`` keeps what the schema of an `LSTMFCNClassifier`'s model does not
know: labels and columns."""

_TRANSPOSED = "; the axes are (N, channels, timepoints): X.transpose(0, 2, 1) has them so"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Classifier:
    """A model directory, loaded for prediction on the CPU.

    Args:
        artifact: the model.
        precision: fp32, whose probabilities are within 1e-6 of the network that was trained; or
            bf16, about twice as fast on processors with instructions for it, whose probabilities
            differ by up to 0.01 (docs/benchmarks.md). Where the processor has none, a warning says
            so, and fp32 is computed.
    """

    def __init__(self, artifact: Artifact, precision: InferencePrecision = "fp32") -> None:
        self.artifact = artifact
        self.schema = artifact.schema
        self._precision = precision
        self._task = task_of(artifact.schema, decision=artifact.decision)
        dtype = _DTYPES[precision]
        if native_dtype(dtype) != dtype:
            logger.warning("this processor does not compute in %s; predicting in fp32", precision)
        self._network = FoldedEnsemble.of(artifact.network().eval(), dtype)
        recorded = artifact.training.get(ESTIMATOR, {}).get("columns")
        self._value_names = [artifact.schema.value_columns, *([recorded] if recorded else [])]
        _compute_in_one_thread_after_forking()

    def __repr__(self) -> str:
        """What it takes and gives."""
        schema = self.schema
        channels = f"{schema.n_channels} x " if schema.n_channels > 1 else ""
        return (
            f"<Classifier of {channels}{number(schema.n_timepoints, 'timepoint')}, "
            f"{schema.task}: {some_of(schema.classes)}; {self._precision}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process as the artifact, which is folded anew there."""
        return type(self), (self.artifact, self._precision)

    @classmethod
    def load(cls, directory: Path | str, precision: InferencePrecision = "fp32") -> Classifier:
        """Read and verify a model directory.

        Raises:
            ModelError: it is missing, incomplete or damaged.
        """
        return cls(Artifact.load(directory), precision)

    def predict_proba(self, values: npt.ArrayLike, source: Source = Source()) -> FloatArray:
        """Probabilities, float32 (N, L), of unscaled series, (N, V) or (N, C, T).

        Args:
            values: anything that makes an array of numbers of that shape.
            source: where the rows come from, for messages.

        Raises:
            DataError: another number of values, a value that is not finite, or one so large
                that computing overflows.
        """
        probabilities = self.compute(self.checked(values, source))
        self.refuse_overflow(probabilities, source)
        return probabilities

    @torch.inference_mode()
    def compute(self, x: FloatArray) -> FloatArray:
        """Probabilities (N, L) of series (N, V) that `checked` has passed; nan for overflows."""
        found = np.empty((len(x), len(self.schema.probability_columns)), dtype=np.float32)
        step = chunk_rows(self.schema.n_values)
        for start in range(0, len(x), step):
            scaled = self.artifact.scaler.transform(x[start : start + step])
            logits = self._network.logits(torch.tensor(scaled))
            chunk = found[start : start + step]
            chunk[:] = self._task.probabilities(logits).numpy()
            _mark_overflows(chunk, x[start : start + step], scaled)
        return found

    def explain(self, values: npt.ArrayLike, source: Source = Source()) -> Explanation:
        """What the logits of unscaled series, (N, V) or (N, C, T), are the sum of.

        The logits are those before the temperature: probabilities are
        ``probabilities(explanation.logits)``, and equal what `predict_proba` gives. In fp32 the
        parts add up to the logits but for the last bits, in bf16 to about two digits, as the
        logits are rounded there.

        Args:
            values, source: as for `predict_proba`.

        Raises:
            DataError: what `predict_proba` refuses, or a part that overflows.
        """
        explanation = self.compute_explanation(self.checked(values, source))
        self.refuse_overflow(self.probabilities(explanation.logits), source)
        return explanation

    @torch.inference_mode()
    def compute_explanation(self, x: FloatArray) -> Explanation:
        """Explanation of series (N, V) that `checked` has passed; logits nan for overflows."""
        n_outputs, n_timepoints = self._task.n_outputs, self.schema.n_timepoints
        found = Explanation.empty(len(x), n_outputs, n_timepoints)
        step = chunk_rows(self.schema.n_values)
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            scaled = self.artifact.scaler.transform(x[rows])
            parts = self._network.parts(torch.tensor(scaled))
            found.logits[rows] = parts.logits.numpy()
            found.lstm[rows] = parts.lstm.numpy()
            found.timepoints[rows] = parts.timepoints.numpy()
            _mark_overflows(found.logits[rows], x[rows], scaled)
        found.bias[:] = self._network.bias().numpy()
        finite = np.isfinite(found.timepoints).all(axis=(1, 2)) & np.isfinite(found.lstm).all(1)
        found.logits[~finite] = np.nan
        return found

    @torch.inference_mode()
    def probabilities(self, logits: FloatArray) -> FloatArray:
        """Probabilities, float32 (N, L), of logits (N, K): by the temperature and the task."""
        found: FloatArray = self._task.probabilities(torch.tensor(logits)).numpy()
        return found

    def decide(self, probabilities: FloatArray) -> npt.NDArray[np.int8]:
        """The 0/1 labels (N, L) that follow from probabilities (N, L)."""
        return self._task.decide(probabilities)

    def predict(self, values: npt.ArrayLike) -> npt.NDArray[np.int8] | npt.NDArray[np.str_]:
        """Labels of unscaled series, (N, V) or (N, C, T).

        Returns:
            Class names (N,) for multiclass, else 0/1 (N, L).
        """
        probabilities = self.predict_proba(values)
        if self.schema.task == "multiclass":
            classes = np.array(self.schema.classes)
            names: npt.NDArray[np.str_] = classes[probabilities.argmax(axis=1)]
            return names
        return self.decide(probabilities)

    def checked(self, values: npt.ArrayLike, source: Source = Source()) -> FloatArray:
        """Series, (N, V) or (N, C, T), as float32 (N, V), channel after channel.

        A table is matched by the names of its columns, as shards are: their order is free, and
        columns of other names are passed over (`in_named_order`). Where values may be missing they
        are nan, and shorter series, (N, t) or (N, C, t), or several of several lengths
        (`as_array`), are padded.

        Raises:
            DataError: they are no such array, a table without these columns, or not finite.
        """
        schema, n_values = self.schema, self.schema.n_values
        x = self._as_numbers(values)
        if schema.missing == "mask":
            x = _padded(x, schema)
        if x.shape[1:] == (schema.n_channels, schema.n_timepoints):
            x = x.reshape(len(x), n_values)
        if x.ndim != 2 or x.shape[1] != n_values:
            nested = f" or (N, {schema.n_channels}, {schema.n_timepoints})"
            raise DataError(
                f"an array of shape {x.shape}",
                f"give a list of series of {number(n_values, 'value')}, shape (N, {n_values})"
                + (nested if schema.n_channels > 1 else "")
                + (
                    _TRANSPOSED
                    if x.shape[:0:-1] == (schema.n_channels, schema.n_timepoints)
                    else ""
                ),
            )
        usable = schema.usable(x)
        if not usable.all():
            row, column = (int(i) for i in np.argwhere(~usable)[0])
            raise DataError(
                f"{x[row, column]}, which is no finite 32-bit number",
                "give every series all its values",
                file=source.file,
                row=source.rows_before + row + 1,
                column=self.schema.value_columns[column],
            )
        schema.refuse_empty_rows(x, source)
        return x

    def _as_numbers(self, values: Any) -> FloatArray:
        """Whatever makes an array, as one; series of several lengths filled up, or refused."""
        schema = self.schema
        lengths = several_lengths(values)
        if lengths and schema.missing == "refuse":
            raise DataError(
                f"series of {lengths}",
                f"the model takes {number(schema.n_timepoints, 'timepoint')}, neither more nor "
                "fewer; one trained with missing values masked takes fewer",
            )
        fills_to = schema.n_timepoints if schema.missing == "mask" else 0
        values = in_named_order(as_array(values, fills_to), self._value_names)
        try:
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
                return np.asarray(values, dtype=np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(
                "what is no array of numbers", "give a list of series of numbers, all of one length"
            ) from error

    def refuse_overflow(self, probabilities: FloatArray, source: Source = Source()) -> None:
        """Refuse rows whose computing overflowed.

        Raises:
            DataError: names the first.
        """
        finite = np.isfinite(probabilities).all(axis=1)
        if not finite.all():
            raise DataError(
                "values too large to compute with",
                "give values of the training data's magnitude",
                file=source.file,
                row=source.rows_before + int(np.argmin(finite)) + 1,
            )


@cache
def _compute_in_one_thread_after_forking() -> None:
    """Let processes that are forked from this one, as gunicorn's with ``--preload``, predict.

    OpenMP's threads stay in the parent: the child would wait for them for ever.
    """
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def _mark_overflows(found: FloatArray, x: FloatArray, scaled: FloatArray) -> None:
    """Put nan into rows whose scaling overflowed: an infinite value may vanish in a ReLU."""
    finite = np.isfinite(scaled)
    if not finite.all():
        found[~(finite | np.isnan(x)).all(axis=1)] = np.nan


def _padded(x: FloatArray, schema: SeriesSchema) -> FloatArray:
    """Series of fewer timepoints than the schema's, with missing values after their end."""
    one_channel = schema.n_channels == 1 and x.ndim == 2
    if not one_channel and (x.ndim != 3 or x.shape[1] != schema.n_channels):
        return x
    missing = schema.n_timepoints - x.shape[-1]
    if missing <= 0 or missing == schema.n_timepoints:
        return x
    widths = [(0, 0)] * (x.ndim - 1) + [(0, missing)]
    return np.pad(x, widths, constant_values=np.nan)
