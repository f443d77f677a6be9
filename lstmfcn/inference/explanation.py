"""Explain predictions: each logit is the sum of a bias, an LSTM term and one term per timepoint.

The convolutions end in a mean over time and one linear layer, which makes this exact (class
activation mapping: Zhou et al. 2016, CVPR, section 2). Squeeze-and-excitation gives a filter the
same weight at all timepoints, and an ensemble averages logits, so the sum holds for them too.

A timepoint's term depends on the values around it, as far as the three kernels reach. With the
coarse view (`lstmfcn.model.input_view`), the averaged timepoints share a term equally. A term says
how much a timepoint contributed to the answer, not what the answer would be without it.

Shapes: N rows, K outputs, T timepoints.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.table import FloatArray


class Explanation(NamedTuple):
    """Logits and their terms: ``logits = bias + lstm + timepoints.sum(axis=-1)``; all float32.

    K is the number of classes for multiclass, 1 for binary, the number of labels for multilabel;
    `outputs_to_explain` names them.

    Attributes:
        logits: logits before the temperature, (N, K).
        bias: the term that is the same for all rows, (K,).
        lstm: the LSTM branch's term, (N, K).
        timepoints: each timepoint's term, (N, K, T); 0 where all of its values are missing.
    """

    logits: FloatArray
    bias: FloatArray
    lstm: FloatArray
    timepoints: FloatArray

    @classmethod
    def empty(cls, n_rows: int, n_outputs: int, n_timepoints: int) -> Explanation:
        """Allocate the arrays of an explanation, without values."""
        by_row = (n_rows, n_outputs)
        shapes = (by_row, (n_outputs,), by_row, (*by_row, n_timepoints))
        return cls(*(np.empty(shape, dtype=np.float32) for shape in shapes))


def outputs_to_explain(schema: SeriesSchema) -> tuple[str, ...]:
    """Name each of the K logits: by its class for multiclass, else by its label column.

    The logit of a binary model belongs to its only label column, or to the second of two.
    """
    if schema.task == "multiclass":
        return schema.classes
    return schema.label_columns[-1:] if schema.task == "binary" else schema.label_columns
