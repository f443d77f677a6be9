"""Training time beside tsai's LSTM_FCN: the same network, epochs, batch size and threads.

    python3.11 -m venv TSAI && TSAI/bin/pip install torch==2.13.0 tsai==1.0.1
    python -m benchmarks.training.tsai_comparison --data DATA --tsai-python TSAI/bin/python
        [-- flags of train]

DATA holds ``ucr`` (NAME/TRAIN.tsv, NAME/TEST.tsv). Both train without Ray, in turn, each time in a
process of its own (this file with ``--one``), and both with a one-cycle learning rate up to the
same ``--lr``. Seconds go from arrays in memory to the end of the last epoch, without imports and
without the predictions of the test file. The rest is each one's own: here the flags of train and
their defaults, and the environment of a training worker; at tsai fp32, its Adam and its weight
decay. tsai is called as its tutorials do for the archive: ``TSClassifier`` with each series
standardised, ``fit_one_cycle``. Unlike by its defaults no row is dropped at the end of an epoch,
kernels are the paper's, and there is no validation.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import pandas as pd
import torch

SETS = ("SwedishLeaf", "MedicalImages", "SyntheticControl")


def training_time(arguments: argparse.Namespace) -> None:
    """Seconds and test accuracy of both, set by set."""
    from benchmarks.common import CPUS, hyperparameters_of, print_ratio, print_table

    flags = ["--epochs", str(arguments.epochs), "--batch-size", str(arguments.batch_size)]
    h = hyperparameters_of([*flags, "--schedule", "one-cycle", *arguments.flags])
    pythons = {"lstmfcn": sys.executable, "tsai": arguments.tsai_python}
    rows: list[dict[str, Any]] = []
    for name in arguments.sets:
        runs: dict[str, list[dict[str, float]]] = {peer: [] for peer in pythons}
        for seed in range(arguments.rounds):
            given = h.model_copy(update={"seed": seed}).model_dump_json(exclude={"recipe"})
            for peer, python in pythons.items():
                folder = str(arguments.data / "ucr" / name)
                words = (python, __file__, "--one", peer, folder, given, str(CPUS))
                runs[peer].append(_in_own_process(peer, words))
        row = {"set": name}
        for figure, middle in (("seconds", median), ("accuracy", mean)):
            row |= {f"{peer} {figure}": middle(r[figure] for r in runs[peer]) for peer in pythons}
        rows.append(row | {"ratio": row["lstmfcn seconds"] / row["tsai seconds"]})
    print(f"  {h.epochs} epochs, batch {h.batch_size}, {CPUS} threads, {arguments.rounds} rounds")
    print_table(rows)
    print_ratio("seconds, lstmfcn / tsai, mean of the sets", mean(row["ratio"] for row in rows))


def _in_own_process(peer: str, words: tuple[str, ...]) -> dict[str, float]:
    from benchmarks.common import REPOSITORY
    from lstmfcn.distributed.cluster import TRAINING_ENVIRONMENT

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if peer == "lstmfcn":
        environment |= {"PYTHONPATH": str(REPOSITORY), **TRAINING_ENVIRONMENT}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{peer}:\n{done.stdout}{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def train_once(peer: str, folder: str, given: str, threads: str) -> None:
    """Train one of both in this process, and print its seconds and its test accuracy as JSON."""
    torch.set_num_threads(int(threads))
    tables = [
        pd.read_csv(Path(folder) / f"{split}.tsv", sep="\t", header=None, dtype={0: str})
        for split in ("TRAIN", "TEST")
    ]
    values, names, test_values, test_names = (
        part
        for table in tables
        for part in (table.iloc[:, 1:].to_numpy(np.float32), table[0].to_numpy(str))
    )
    train = {"lstmfcn": _lstmfcn, "tsai": _tsai}[peer]
    seconds, predicted = train(values, names, test_values, test_names, json.loads(given))
    accuracy = float((np.array(predicted) == test_names).mean())
    print(json.dumps({"seconds": seconds, "accuracy": accuracy}))


def _lstmfcn(
    values: Any, names: Any, test_values: Any, _: Any, given: dict[str, Any]
) -> tuple[float, Any]:
    from lstmfcn.hyperparameters import Hyperparameters
    from lstmfcn.inference.predictor import Classifier
    from lstmfcn.training.in_memory import train_arrays

    began = time.perf_counter()
    artifact = train_arrays((values, names), Hyperparameters.model_validate(given))
    seconds = time.perf_counter() - began
    return seconds, Classifier(artifact).predict(test_values)


def _tsai(
    values: Any, names: Any, test_values: Any, test_names: Any, given: dict[str, Any]
) -> tuple[float, Any]:
    _import_torchvision()
    from tsai.basics import TSClassification, TSClassifier, TSStandardize

    network = {
        "hidden_size": given["hidden_size"],
        "rnn_layers": given["num_layers"],
        "rnn_dropout": given["dropout"],
        "conv_layers": [given[f"filters_{i}"] for i in (1, 2, 3)],
        "kss": [given[f"kernel_size_{i}"] for i in (1, 2, 3)],
    }
    began = time.perf_counter()
    learner = TSClassifier(
        values[:, None],
        names,
        arch="LSTM_FCN",
        arch_config=network,
        tfms=[None, TSClassification()],
        batch_tfms=TSStandardize(by_sample=True),
        batch_size=given["batch_size"],
        drop_last=False,
        seed=given["seed"],
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(given["epochs"], given["lr"])
    seconds = time.perf_counter() - began
    return seconds, learner.get_X_preds(test_values[:, None], test_names)[2]


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
    if sys.argv[1:2] == ["--one"]:
        train_once(*sys.argv[2:])
    else:
        from benchmarks.common import main

        main(
            __doc__,
            (training_time,),
            options={
                "--tsai-python": {"required": True},
                "--sets": {"nargs": "+", "default": SETS},
                "--epochs": {"type": int, "default": 200},
                "--batch-size": {"type": int, "default": 16},
                "--rounds": {"type": int, "default": 2},
            },
            train_flags=True,
        )
