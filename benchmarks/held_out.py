"""Training rows of which some are held out to judge by; no row of a test file is read.

Large sets are cut to a few rows a class, as small sets are; of others a half or more trains.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from archive_runs import read

if TYPE_CHECKING:
    from lstmfcn.artifact import Artifact
    from lstmfcn.hyperparameters import Hyperparameters
    from lstmfcn.scaling import Scaler
    from lstmfcn.schema import SeriesSchema
    from lstmfcn.training_start import Start

SETS: dict[str, float | int] = {
    "Adiac": 0.6,
    "MedicalImages": 0.5,
    "ElectricDevices": 20,
    "MelbournePedestrian": 20,
    "mitbih": 20,
}
"""The share of the training rows that trains, or the rows of each class that do."""

SMALL: dict[str, float | int] = dict.fromkeys(
    (
        "Beef", "BeetleFly", "CBF", "Coffee", "ECGFiveDays", "FaceFour", "GunPoint",
        "ItalyPowerDemand", "Lightning7", "MoteStrain", "OliveOil", "SonyAIBORobotSurface1",
        "TwoLeadECG",
    ),
    0.5,
)  # fmt: skip
"""The same, of the archive's sets with fewer than 100 training rows and published figures."""

MOST_HELD_OUT = 1000


class HeldOut(NamedTuple):
    """Series, class names, and the indices of the rows that train and of those that judge."""

    values: Any
    names: Any
    trains: Any
    judges: Any

    @classmethod
    def of(cls, data: Path, name: str, share: float | int, seed: int) -> HeldOut:
        """The rows of a set's training file, each class shared alike.

        Args:
            share: of the rows that train, or how many rows of each class.
            seed: decides which.
        """
        values, names = _training_rows(data, name)
        random = np.random.default_rng(seed)
        trains, others = [], []
        for each in np.unique(names):
            rows = random.permutation(np.flatnonzero(names == each))
            count = share if isinstance(share, int) else max(1, round(len(rows) * share))
            trains.append(rows[:count])
            others.append(rows[count:])
        judges = random.permutation(np.concatenate(others))[:MOST_HELD_OUT]
        return cls(values, names, np.concatenate(trains), judges)

    @property
    def training(self) -> tuple[Any, Any]:
        """Series and class names of the rows that train."""
        return self.values[self.trains], self.names[self.trains]

    def start(self, hyperparameters: Hyperparameters) -> tuple[Start, SeriesSchema, Scaler]:
        """What a training of these rows starts with; its columns and classes; its scaling."""
        from lstmfcn.channels import value_names
        from lstmfcn.rows import Rows
        from lstmfcn.scaling import Scaler
        from lstmfcn.schema import SeriesSchema
        from lstmfcn.training_start import start_of

        values, names = self.training
        header = ["y", *value_names(1, values.shape[1])]
        schema = SeriesSchema.from_header(header, "multiclass")
        schema = schema.with_classes(sorted(set(names.tolist())))
        scaler = Scaler.fit(hyperparameters.scaling, values)
        rows = Rows(scaler.transform(values), schema.encode_names(names.tolist()))
        return start_of(rows, schema, hyperparameters), schema, scaler

    def right(self, schema: SeriesSchema) -> Any:
        """The classes of the rows that judge, as indices."""
        return schema.encode_names(self.names[self.judges].tolist())

    def judge(self, model: Artifact) -> tuple[float, float]:
        """Accuracy and cross-entropy of a model on the rows that judge."""
        from lstmfcn.classifier import Classifier

        probabilities = Classifier(model).predict_proba(self.values[self.judges])
        right = self.right(model.schema)
        likelihood = np.maximum(probabilities[np.arange(len(right)), right], 1e-12)
        accuracy = float((probabilities.argmax(axis=1) == right).mean())
        return round(accuracy, 6), round(float(-np.log(likelihood).mean()), 6)


@cache
def _training_rows(data: Path, name: str) -> tuple[Any, Any]:
    if name != "mitbih":
        return read(data / "ucr" / name / "TRAIN.tsv")
    table = pd.read_csv(data / "mitbih" / "train_balanced.csv.gz")
    names = table.filter(regex="^y").to_numpy().argmax(axis=1).astype(str)
    return table.filter(regex="^x").to_numpy(np.float32), names
