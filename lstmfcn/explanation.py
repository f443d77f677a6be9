"""Why a model answers as it does: what its logits are the sum of.

A mean over time and one linear layer end the network's convolutions, so each logit is the sum of a
bias, a term of the LSTM branch, and a term of each timepoint (class activation mapping: Zhou et al.
2016, CVPR, section 2). Squeeze-and-excitation weighs a row's filters alike at all timepoints, so it
changes nothing of that; members of an ensemble average their logits, so their parts too.

A timepoint's term is what the filters found around it, as far as the three kernels reach; of a
network that sees means of timepoints (`lstmfcn.view`), a mean's term is shared equally by them. It
says which timepoints count for an answer, and not what the answer would be without them.

Shapes: N rows, K outputs, T timepoints.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lstmfcn.cells import FloatArray
from lstmfcn.schema import SeriesSchema


class Explanation(NamedTuple):
    """Logits and their parts: ``logits = bias + lstm + timepoints.sum(axis=-1)``; all float32.

    K is the number of classes of multiclass, 1 of binary, the number of labels of multilabel:
    `explained_outputs` names them.

    Attributes:
        logits: before the temperature, (N, K); over it, they give the probabilities.
        bias: what all rows share, (K,).
        lstm: the LSTM branch's term, (N, K).
        timepoints: each timepoint's term, (N, K, T); 0 where all of its values are missing.
    """

    logits: FloatArray
    bias: FloatArray
    lstm: FloatArray
    timepoints: FloatArray

    @classmethod
    def empty(cls, n_rows: int, n_outputs: int, n_timepoints: int) -> Explanation:
        """Room for one."""
        by_row = (n_rows, n_outputs)
        shapes = (by_row, (n_outputs,), by_row, (*by_row, n_timepoints))
        return cls(*(np.empty(shape, dtype=np.float32) for shape in shapes))


def explained_outputs(schema: SeriesSchema) -> tuple[str, ...]:
    """What each of the K logits speaks for: a class of multiclass, else a label column.

    The one logit of binary speaks for its only label column, or for the second of two.
    """
    if schema.task == "multiclass":
        return schema.classes
    return schema.label_columns[-1:] if schema.task == "binary" else schema.label_columns
