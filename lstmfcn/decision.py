"""How logits become probabilities and labels, where that was fitted on validation rows."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Decision(BaseModel):
    """A temperature and thresholds; the defaults leave probabilities and labels as they are.

    Attributes:
        temperature: what logits are divided by; within wider bounds than
            `lstmfcn.calibration` fits it in.
        thresholds: for multilabel, above which probability each label is decided 1, in the order
            of the label columns; 0.5 for all of them where there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: float = Field(1.0, ge=0.01, le=1000)
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
