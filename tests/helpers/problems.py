"""Small data sets for the cluster tests, in any number of shards."""

import numpy as np
import pandas as pd

from lstmfcn.hyperparameters import Hyperparameters, to_flag

TINY = Hyperparameters(
    hidden_size=4,
    filters_1=4,
    filters_2=4,
    filters_3=4,
    kernel_size_1=3,
    kernel_size_2=3,
    kernel_size_3=3,
    batch_size=16,
    epochs=2,
    lr=0.01,
    rows_per_epoch=0,
    schedule="constant",
    weight_decay=0.0,
    label_smoothing=0.0,
    precision="fp32",
)

UNSURE = TINY.model_copy(update={"epochs": 8, "label_smoothing": 0.3})
"""Smoothed labels teach a network that it is wrong more often than it is."""


def as_flags(values):
    """Names and values as words of a command line; what is off is left out."""
    given = {name: value for name, value in values.items() if value is not False}
    return [
        part
        for name, value in given.items()
        for part in (
            [f"--{to_flag(name)}"] if value is True else [f"--{to_flag(name)}", str(value)]
        )
    ]


def flags_of(hyperparameters, **changes):
    """What a user types for hyperparameters."""
    return as_flags(hyperparameters.model_copy(update=changes).model_dump())


TINY_FLAGS = flags_of(TINY)


def waves(n_rows, seed=0):
    """Rising, falling and flat series of 12 values with one-hot labels, as a table."""
    random = np.random.default_rng(seed)
    kind = random.permutation(np.arange(n_rows) % 3)
    slopes = np.array([1.0, -1.0, 0.0])[kind][:, None]
    values = slopes * np.linspace(-1, 1, 12) + 0.3 * random.standard_normal((n_rows, 12))
    table = pd.DataFrame(values.astype(np.float32), columns=[f"x_{i}" for i in range(1, 13)])
    for i in range(3):
        table.insert(i, f"y_{i + 1}", (kind == i).astype(int))
    return table


def write(folder, table, n_shards=1):
    """The table's rows, in order, as CSV shards of nearly equal size."""
    folder.mkdir(parents=True)
    for i, rows in enumerate(np.array_split(np.arange(len(table)), n_shards)):
        table.iloc[rows].to_csv(folder / f"part-{i:03d}.csv", index=False)
    return folder


def write_noisy(folder):
    """Training and validation rows that are not entirely told apart, 150 each."""
    for seed, name in enumerate(("train", "valid")):
        table = waves(150, seed)
        noise = 1.2 * np.random.default_rng(seed).standard_normal((150, 12))
        table.loc[:, "x_1":] += noise.astype(np.float32)
        write(folder / name, table)
    return folder
