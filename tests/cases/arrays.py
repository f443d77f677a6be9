"""Cases of the Python classes: arrays with other axes, tables, series of unequal length."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lstmfcn import LSTMFCNClassifier
from lstmfcn.errors import LstmfcnError
from lstmfcn.inference.predictor import Classifier
from tests.cases.case import Case
from tests.cases.inputs import BASE, NAMES, VALUES, N, T, X

Act = Callable[[Path, Path], None]
TINY: dict[str, Any] = {
    "hidden_size": 4,
    "filters_1": 4,
    "filters_2": 4,
    "filters_3": 4,
    "epochs": 2,
    "rows_per_epoch": 0,
}


@cache
def trained() -> Classifier:
    """Train a classifier on the base table."""
    return LSTMFCNClassifier(**TINY).fit(VALUES, NAMES).classifier_


def cases() -> Iterator[Case]:
    """All cases of this module."""
    yield from _axes()
    yield from _tables()
    yield from _unequal()
    yield Case("processes", "a classifier in forked workers", _forked)


def _axes() -> Iterator[Case]:
    for name, values in {
        "(N, T, 1)": X[:, :, None],
        "(N, T, 1) as float32 of other strides": np.asfortranarray(X.astype(np.float32))[
            :, :, None
        ],
        "(N, T, 1) as nested lists": X[:, :, None].tolist(),
        "(N, T, 3)": np.stack([X, -X, X], axis=2)[:, :, None, :][:, :, 0],
    }.items():
        yield Case(
            "axes",
            f"{name} in fit",
            raises(lambda v=values: _fit(v), "transpose|axes|n_timepoints"),
        )
    yield Case("axes", "(N, 1, T) is one channel", lambda *_: _one_channel())


def _fit(values: Any) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LSTMFCNClassifier(**TINY).fit(values, NAMES)


def _one_channel() -> None:
    fitted = LSTMFCNClassifier(**TINY).fit(X[:, None, :], NAMES)
    assert fitted.classifier_.schema.n_channels == 1
    assert fitted.classifier_.schema.n_timepoints == T


def _tables() -> Iterator[Case]:
    expected = lambda: trained().predict_proba(X)  # noqa: E731 - trained when it is asked for
    backwards = VALUES[list(VALUES)[::-1]]
    for name, table in {
        "columns backwards": backwards,
        "with id and label": BASE.assign(id=range(N)),
        "pyarrow": pa.Table.from_pandas(BASE.assign(id=range(N)), preserve_index=False),
        "pyarrow backwards": pa.Table.from_pandas(backwards, preserve_index=False),
    }.items():

        def same(_: Path, __: Path, table: Any = table) -> None:
            assert np.array_equal(trained().predict_proba(table), expected())

        yield Case("tables", name, same)
    for name, table in {
        "without x_20, with id": VALUES.drop(columns="x_20").assign(id=range(N)),
        "other names": VALUES.rename(columns=lambda name: name.replace("x_", "t")),
        "x20 to x1": VALUES.rename(columns=lambda name: f"x{T + 1 - int(name[2:])}"),
        "one name off": VALUES.rename(columns={"x_3": "x_33"}),
    }.items():
        yield Case("tables", name, raises(lambda t=table: trained().predict_proba(t), "x_|column"))

    def by_position(_: Path, __: Path) -> None:
        nameless = pd.DataFrame(X)
        assert np.array_equal(trained().predict_proba(nameless), expected())

    yield Case("tables", "columns 0, 1, 2 by position", by_position)


def _unequal() -> Iterator[Case]:
    shorter = [row[: T - i % 3] for i, row in enumerate(X)]
    nested = pd.DataFrame({"dim_0": [pd.Series(row) for row in shorter]})
    by_channel = [np.stack([row, -row]) for row in shorter]
    for name, values in {
        "a list of arrays": shorter,
        "a list of (C, t)": by_channel,
        "a nested table": nested,
    }.items():
        yield Case("unequal series", name, fits_masked(values))
        refusal = raises(
            lambda v=values: LSTMFCNClassifier(**TINY).fit(v, NAMES), "mask|missing|length"
        )
        yield Case("unequal series", f"{name}, without mask", refusal)


def fits_masked(values: Any) -> Act:
    """Training with missing="mask" accepts the values, and the model predicts them."""

    def act(_: Path, __: Path) -> None:
        fitted = LSTMFCNClassifier(**TINY, missing="mask").fit(values, NAMES)
        assert fitted.classifier_.schema.n_timepoints == T
        assert fitted.predict_proba(values).shape == (N, 2)

    return act


def raises(act: Callable[[], Any], pattern: str) -> Act:
    """Expect a ValueError, a warning or an error of lstmfcn that matches the pattern."""

    def refuse(_: Path, __: Path) -> None:
        refusals = (ValueError, TypeError, LstmfcnError, UserWarning)
        with pytest.raises(refusals, match=f"(?i){pattern}") as refused:
            act()
        assert "inhomogeneous" not in str(refused.value)

    return refuse


def _forked(_: Path, __: Path) -> None:
    expected = trained().predict_proba(X[:8])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        answers = pool.map_async(trained().predict_proba, [X[:8]] * 4)
        for answer in answers.get(timeout=60):
            assert np.array_equal(answer, expected)
