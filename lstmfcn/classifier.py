"""A trained model that answers: series in, probabilities and labels out. No Ray, no shards.

Shapes: N rows, T timepoints, L label columns.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lstmfcn.artifact import Artifact
from lstmfcn.errors import DataError
from lstmfcn.schema import FloatArray, Source
from lstmfcn.task import task_of

CHUNK_ROWS = 512
"""Rows computed at a time. Counted from the first row, so that equal input gives equal output."""


class Classifier:
    """A model directory, loaded for prediction on the CPU in fp32."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.schema = artifact.schema
        self._task = task_of(artifact.schema)
        self._network = artifact.network().eval()

    @classmethod
    def load(cls, directory: Path | str) -> Classifier:
        """Read and verify a model directory.

        Raises:
            ModelError: it is missing, incomplete or damaged.
        """
        return cls(Artifact.load(directory))

    @torch.inference_mode()
    def predict_proba(self, values: npt.ArrayLike, source: Source = Source()) -> FloatArray:
        """Probabilities, float32 (N, L), of unscaled series (N, T).

        Args:
            values: anything that makes an array of numbers of that shape.
            source: where the rows come from, for messages.

        Raises:
            DataError: another number of timepoints, a value that is not finite, or one so large
                that computing overflows.
        """
        x = self._checked(values, source)
        found = np.empty((len(x), len(self.schema.probability_columns)), dtype=np.float32)
        for start in range(0, len(x), CHUNK_ROWS):
            scaled = self.artifact.scaler.transform(x[start : start + CHUNK_ROWS])
            self._refuse_overflow(scaled, source, start)
            logits = self._network(torch.tensor(scaled))
            found[start : start + CHUNK_ROWS] = self._task.probabilities(logits).numpy()
        self._refuse_overflow(found, source)
        return found

    def decide(self, probabilities: FloatArray) -> npt.NDArray[np.int8]:
        """The 0/1 labels (N, L) that follow from probabilities (N, L)."""
        return self._task.decide(probabilities)

    def predict(self, values: npt.ArrayLike) -> npt.NDArray[np.int8] | npt.NDArray[np.str_]:
        """Labels of unscaled series (N, T): class names (N,) for multiclass, else 0/1 (N, L)."""
        probabilities = self.predict_proba(values)
        if self.schema.task == "multiclass":
            classes = np.array(self.schema.classes)
            names: npt.NDArray[np.str_] = classes[probabilities.argmax(axis=1)]
            return names
        return self.decide(probabilities)

    def _checked(self, values: npt.ArrayLike, source: Source) -> FloatArray:
        try:
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
                x = np.asarray(values, dtype=np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(
                "what is no array of numbers", "give a list of series of numbers, all of one length"
            ) from error
        n_timepoints = self.schema.n_timepoints
        if x.ndim != 2 or x.shape[1] != n_timepoints:
            raise DataError(
                f"an array of shape {x.shape}",
                f"give a list of series of {n_timepoints} values, shape (N, {n_timepoints})",
            )
        finite = np.isfinite(x)
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            raise DataError(
                f"{x[row, column]}, which is no finite 32-bit number",
                "give every series all its values",
                file=source.file,
                row=source.rows_before + row + 1,
                column=self.schema.value_columns[column],
            )
        return x

    def _refuse_overflow(self, computed: FloatArray, source: Source, start: int = 0) -> None:
        finite = np.isfinite(computed).all(axis=1)
        if not finite.all():
            raise DataError(
                "values too large to compute with",
                "give values of the training data's magnitude",
                file=source.file,
                row=source.rows_before + start + int(np.argmin(finite)) + 1,
            )
