"""The Cylinder-Bell-Funnel problem, a standard synthetic one with three classes.

Saito, N. (1994), "Local feature extraction and its applications using a library of bases", PhD
thesis, Yale University, section 5.6.1:

    cylinder  c(t) = (6 + eta) * X(t) + epsilon(t)
    bell      b(t) = (6 + eta) * X(t) * (t - a) / (b - a) + epsilon(t)
    funnel    f(t) = (6 + eta) * X(t) * (b - t) / (b - a) + epsilon(t)

for t = 1..128, where X is 1 on [a, b] and 0 elsewhere, a is a whole number drawn uniformly from
[16, 32], b - a one from [32, 96], and eta and epsilon(t) are standard normal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

N_TIMEPOINTS = 128
CLASSES = ("cylinder", "bell", "funnel")


def cylinder_bell_funnel(
    n_rows: int, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.str_]]:
    """Draw series (n_rows, 128) and their class names (n_rows,), about as many of each class."""
    random = np.random.default_rng(seed)
    kind = random.permutation(np.arange(n_rows) % len(CLASSES))
    t = np.arange(1, N_TIMEPOINTS + 1)
    a = random.integers(16, 33, size=(n_rows, 1))
    b = a + random.integers(32, 97, size=(n_rows, 1))
    shapes = np.stack([np.ones((n_rows, N_TIMEPOINTS)), (t - a) / (b - a), (b - t) / (b - a)])
    inside = (t >= a) & (t <= b)
    height = 6 + random.standard_normal((n_rows, 1))
    noise = random.standard_normal((n_rows, N_TIMEPOINTS))
    return height * inside * shapes[kind, np.arange(n_rows)] + noise, np.array(CLASSES)[kind]
