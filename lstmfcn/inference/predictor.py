"""Predict series with a trained model, without Ray and without shards.

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

from lstmfcn.console import pluralize
from lstmfcn.data.columns import abbreviate
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.series_input import order_columns, several_lengths, to_array
from lstmfcn.data.table import FloatArray, RowOrigin
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import DeviceName, InferencePrecision
from lstmfcn.inference.device import LogitsOnCPU, LogitsOnGPU, choose_device, chunk_rows
from lstmfcn.inference.explanation import Explanation
from lstmfcn.inference.fused_network import FusedEnsemble
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.network import native_dtype
from lstmfcn.model.task import make_task

logger = logging.getLogger(__name__)

ESTIMATOR = "estimator"
"""The key in an artifact's ``training`` for labels and columns of an `LSTMFCNClassifier`."""

_TRANSPOSED = "; the axes must be (N, channels, timepoints): use X.transpose(0, 2, 1)"

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Classifier:
    """Predicts series with a trained model, on a GPU or the CPU.

    Args:
        artifact: the model.
        precision: fp32, with probabilities within 1e-6 of the trained network's on a CPU and 1e-5
            on a GPU; or bf16, about twice as fast on processors with instructions for it, with
            probabilities within 0.01 (docs/benchmarks.md). Other processors log a warning and
            compute in fp32.
        device: ``cpu``, ``cuda``, or ``auto``, a GPU if this process sees one.

    Attributes:
        chunk_rows: the rows that are computed at a time.

    Raises:
        ResourceError: ``cuda`` without a GPU.
    """

    def __init__(
        self,
        artifact: Artifact,
        precision: InferencePrecision = "fp32",
        device: DeviceName = "auto",
    ) -> None:
        self.artifact = artifact
        self.schema = artifact.schema
        self._precision, self._requested_device = precision, device
        self._device = choose_device(device)
        self._task = make_task(artifact.schema, decision=artifact.decision)
        dtype = _DTYPES[precision]
        if native_dtype(dtype, self._device.type) != dtype:
            logger.warning("this processor has no %s instructions; predicting in fp32", precision)
        self._network = FusedEnsemble.fuse(artifact.build_network().eval(), dtype, self._device)
        n_values, n_outputs = self.schema.n_values, self._task.n_outputs
        self.chunk_rows = chunk_rows(n_values, self._device.type)
        self._logits = (
            LogitsOnCPU(self._network)
            if self._device.type == "cpu"
            else LogitsOnGPU(self._network, self._device, self.chunk_rows, n_values, n_outputs)
        )
        recorded = artifact.training.get(ESTIMATOR, {}).get("columns")
        self._value_names = [artifact.schema.value_columns, *([recorded] if recorded else [])]
        _compute_in_one_thread_after_forking()

    def __repr__(self) -> str:
        """Describe input and classes."""
        schema = self.schema
        channels = f"{schema.n_channels} x " if schema.n_channels > 1 else ""
        return (
            f"<Classifier of {channels}{pluralize(schema.n_timepoints, 'timepoint')}, "
            f"{schema.task}: {abbreviate(schema.classes)}; {self._precision} on {self._device}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the artifact; the other process builds the fused network from it."""
        return type(self), (self.artifact, self._precision, self._requested_device)

    @classmethod
    def load(
        cls,
        directory: Path | str,
        precision: InferencePrecision = "fp32",
        device: DeviceName = "auto",
    ) -> Classifier:
        """Read and verify a model directory.

        Raises:
            ModelError: it is missing, incomplete or damaged.
            ResourceError: ``cuda`` without a GPU.
        """
        return cls(Artifact.load(directory), precision, device)

    def warm_up(self) -> bool:
        """Predict all sizes of chunks once; returns whether the predictions are finite numbers.

        A GPU then has a graph of each, and no request waits for one.
        """
        sizes = {1, self.chunk_rows}
        if self._device.type != "cpu":
            sizes = {1 << power for power in range(self.chunk_rows.bit_length())}
        zeros = np.zeros((self.chunk_rows, self.schema.n_values), dtype=np.float32)
        return all(
            bool(np.isfinite(self.predict_validated(zeros[:n_rows])).all()) for n_rows in sizes
        )

    def predict_proba(self, values: npt.ArrayLike, source: RowOrigin = RowOrigin()) -> FloatArray:
        """Predict the probabilities, float32 (N, L), of unscaled series, (N, V) or (N, C, T).

        Args:
            values: anything that converts to an array of numbers of that shape.
            source: where the rows come from, for error messages.

        Raises:
            DataError: wrong number of values, a value that is not finite, or one so large that the
                computation overflows.
        """
        probabilities = self.predict_validated(self.validate_input(values, source))
        self.refuse_overflow(probabilities, source)
        return probabilities

    @torch.inference_mode()
    def predict_validated(self, x: FloatArray) -> FloatArray:
        """Predict validated series (N, V): probabilities (N, L), nan in rows that overflow."""
        probabilities = np.empty((len(x), len(self.schema.probability_columns)), np.float32)
        starts = range(0, len(x), self.chunk_rows)
        chunks = [slice(start, start + self.chunk_rows) for start in starts]
        all_scaled = (self.artifact.scaler.transform(x[rows]) for rows in chunks)
        results = self._logits.compute(all_scaled)
        for rows, (scaled, logits) in zip(chunks, results, strict=True):
            probabilities[rows] = self._task.probabilities(logits).numpy()
            _mark_overflows(probabilities[rows], x[rows], scaled)
        return probabilities

    def explain(self, values: npt.ArrayLike, source: RowOrigin = RowOrigin()) -> Explanation:
        """Explain predictions of unscaled series, (N, V) or (N, C, T), by the terms of each logit.

        The logits are those before the temperature: ``probabilities(explanation.logits)`` equals
        the result of `predict_proba`. The terms add up to the logits, in fp32 up to the last bits,
        in bf16 to about two digits, because the logits are rounded.

        Args:
            values: as for `predict_proba`.
            source: as for `predict_proba`.

        Raises:
            DataError: as for `predict_proba`, or a term overflows.
        """
        explanation = self.explain_validated(self.validate_input(values, source))
        self.refuse_overflow(self.probabilities(explanation.logits), source)
        return explanation

    @torch.inference_mode()
    def explain_validated(self, x: FloatArray) -> Explanation:
        """Explain validated series (N, V); the logits are nan in rows that overflow."""
        n_outputs, n_timepoints = self._task.n_outputs, self.schema.n_timepoints
        explanation = Explanation.empty(len(x), n_outputs, n_timepoints)
        for start in range(0, len(x), self.chunk_rows):
            rows = slice(start, start + self.chunk_rows)
            scaled = self.artifact.scaler.transform(x[rows])
            terms = self._network.compute_terms(torch.tensor(scaled, device=self._device))
            explanation.logits[rows] = terms.logits.cpu().numpy()
            explanation.lstm[rows] = terms.lstm.cpu().numpy()
            explanation.timepoints[rows] = terms.timepoints.cpu().numpy()
            _mark_overflows(explanation.logits[rows], x[rows], scaled)
        explanation.bias[:] = self._network.bias().cpu().numpy()
        finite = np.isfinite(explanation.timepoints).all(axis=(1, 2)) & np.isfinite(
            explanation.lstm
        ).all(1)
        explanation.logits[~finite] = np.nan
        return explanation

    @torch.inference_mode()
    def probabilities(self, logits: FloatArray) -> FloatArray:
        """Convert logits (N, K) to probabilities, float32 (N, L), with the model's temperature."""
        probabilities: FloatArray = self._task.probabilities(torch.tensor(logits)).numpy()
        return probabilities

    def predict_labels(self, probabilities: FloatArray) -> npt.NDArray[np.int8]:
        """Predict 0/1 labels (N, L) from probabilities (N, L)."""
        return self._task.predict_labels(probabilities)

    def predict(self, values: npt.ArrayLike) -> npt.NDArray[np.int8] | npt.NDArray[np.str_]:
        """Predict the labels of unscaled series, (N, V) or (N, C, T).

        Returns:
            Class names (N,) for multiclass, else 0/1 (N, L).
        """
        probabilities = self.predict_proba(values)
        if self.schema.task == "multiclass":
            classes = np.array(self.schema.classes)
            names: npt.NDArray[np.str_] = classes[probabilities.argmax(axis=1)]
            return names
        return self.predict_labels(probabilities)

    def validate_input(self, values: npt.ArrayLike, source: RowOrigin = RowOrigin()) -> FloatArray:
        """Convert series, (N, V) or (N, C, T), to float32 (N, V), channel after channel.

        A table is matched by column names, as shards are: the order is free, and other columns are
        ignored (`order_columns`). If the model masks missing values (nan), shorter series, (N, t)
        or (N, C, t), and series of different lengths (`to_array`) are padded.

        Raises:
            DataError: wrong shape, missing columns, or a value that is not finite.
        """
        schema, n_values = self.schema, self.schema.n_values
        x = self._as_numbers(values)
        if schema.missing == "mask":
            x = _pad(x, schema)
        if x.shape[1:] == (schema.n_channels, schema.n_timepoints):
            x = x.reshape(len(x), n_values)
        if x.ndim != 2 or x.shape[1] != n_values:
            nested = f" or (N, {schema.n_channels}, {schema.n_timepoints})"
            raise DataError(
                f"an array of shape {x.shape}",
                f"give a list of series of {pluralize(n_values, 'value')}, shape (N, {n_values})"
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
                f"{x[row, column]}, which is not a finite 32-bit number",
                "give every value of every series as a finite number",
                file=source.file,
                row=source.rows_before + row + 1,
                column=self.schema.value_columns[column],
            )
        schema.refuse_empty_rows(x, source)
        return x

    def _as_numbers(self, values: Any) -> FloatArray:
        """Convert to an array of numbers; pad series of different lengths, or refuse them."""
        schema = self.schema
        lengths = several_lengths(values)
        if lengths and schema.missing == "refuse":
            raise DataError(
                f"series of {lengths}",
                f"this model takes exactly {pluralize(schema.n_timepoints, 'timepoint')}; a model "
                "trained with --missing mask also takes fewer",
            )
        fills_to = schema.n_timepoints if schema.missing == "mask" else 0
        values = order_columns(to_array(values, fills_to), self._value_names)
        try:
            with np.errstate(
                over="ignore"
            ):  # values that are too large become infinite, and are refused later
                return np.asarray(values, dtype=np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(
                "values that are not an array of numbers",
                "give a list of series of numbers, all of one length",
            ) from error

    def refuse_overflow(self, probabilities: FloatArray, source: RowOrigin = RowOrigin()) -> None:
        """Check that no row's computation overflowed.

        Args:
            probabilities: (N, L), nan in rows that overflowed.

        Raises:
            DataError: names the first row that did.
        """
        finite = np.isfinite(probabilities).all(axis=1)
        if not finite.all():
            raise DataError(
                "values too large to compute with",
                "give values of the same magnitude as the training data",
                file=source.file,
                row=source.rows_before + int(np.argmin(finite)) + 1,
            )


@cache
def _compute_in_one_thread_after_forking() -> None:
    """Use one thread in processes forked from this one, as by gunicorn with ``--preload``.

    OpenMP's threads stay in the parent; the child would wait for them forever.
    """
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def _mark_overflows(output: FloatArray, x: FloatArray, scaled: FloatArray) -> None:
    """Set rows whose scaling overflowed to nan, as an infinite value may vanish in a ReLU."""
    finite = np.isfinite(scaled)
    if not finite.all():
        output[~(finite | np.isnan(x)).all(axis=1)] = np.nan


def _pad(x: FloatArray, schema: SeriesSchema) -> FloatArray:
    """Pad series that have fewer timepoints than the schema with missing values."""
    one_channel = schema.n_channels == 1 and x.ndim == 2
    if not one_channel and (x.ndim != 3 or x.shape[1] != schema.n_channels):
        return x
    missing = schema.n_timepoints - x.shape[-1]
    if missing <= 0 or missing == schema.n_timepoints:
        return x
    widths = [(0, 0)] * (x.ndim - 1) + [(0, missing)]
    return np.pad(x, widths, constant_values=np.nan)
