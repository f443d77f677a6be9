"""Train tsai's LSTM_FCN on a set of the UCR archive, for benchmarks/tsai_comparison.py.

python benchmarks/tsai_training.py FOLDER HYPERPARAMETERS THREADS, in an environment that has tsai.

FOLDER holds TRAIN.tsv and TEST.tsv; HYPERPARAMETERS is JSON with the names of
``lstmfcn.Hyperparameters``. Prints one line of JSON: seconds from arrays in memory to the end of
the last epoch, and accuracy on the test file. As tsai's tutorials train on the archive:
``TSClassifier`` with each series standardised, ``fit_one_cycle``. Unlike by its defaults no row is
dropped at the end of an epoch, kernels are the paper's, and there is no validation.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch


def main() -> None:
    """One training in this process."""
    folder, given, threads = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    _import_torchvision()
    from tsai.basics import TSClassification, TSClassifier, TSStandardize

    values, names = read(folder / "TRAIN.tsv")
    began = time.perf_counter()
    learner = TSClassifier(
        values,
        names,
        arch="LSTM_FCN",
        arch_config=_net(given),
        tfms=[None, TSClassification()],
        batch_tfms=TSStandardize(by_sample=True),
        batch_size=given["batch_size"],
        drop_last=False,
        seed=given["seed"],
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(given["epochs"], given["lr"])
    seconds = time.perf_counter() - began
    values, names = read(folder / "TEST.tsv")
    _, _, found = learner.get_X_preds(values, names)
    accuracy = float((np.array(found) == names).mean())
    print(json.dumps({"seconds": seconds, "accuracy": accuracy}))


def read(path: Path) -> tuple[Any, Any]:
    """Series (N, 1, T), float32, and class names (N,) of an archive file."""
    table = pd.read_csv(path, sep="\t", header=None, dtype={0: str})
    return table.iloc[:, 1:].to_numpy(np.float32)[:, None], table[0].to_numpy(str)


def _net(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_size": given["hidden_size"],
        "rnn_layers": given["num_layers"],
        "rnn_dropout": given["dropout"],
        "conv_layers": [given[f"filters_{i}"] for i in (1, 2, 3)],
        "kss": [given[f"kernel_size_{i}"] for i in (1, 2, 3)],
    }


def _import_torchvision() -> None:
    """Import what tsai needs of it, its Python code.

    With a PyTorch for CPUs, PyPI's build for CUDA does not find its operators, and fails unless the
    two that it describes in Python are declared.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in ("nms", "qnms"):
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", signature)


if __name__ == "__main__":
    main()
