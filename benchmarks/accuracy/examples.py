"""Accuracy on public data through the commands that users type, beside the published figures.

    python -m benchmarks.accuracy.examples --data DATA [--only seed_sample ...]

DATA holds ``seed_sample`` (train.csv, valid.csv, test_data.csv, test_labels.csv of the LSTM-FCN
SageMaker algorithm's example), ``mitbih`` (train/, test/, train_balanced.csv.gz) and ``ucr``
(NAME/TRAIN.tsv, NAME/TEST.tsv). Test rows are never seen by training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.common import (
    CPUS,
    PLAIN,
    TINY_NET,
    PlainLSTMFCN,
    command,
    local_ray,
    main,
    plain_flags,
    print_ratio,
    print_table,
    read_archive_file,
    train,
)
from lstmfcn.data.dataset import Dataset
from lstmfcn.data.scaler import Scaler
from lstmfcn.model.network import LSTMFCN
from lstmfcn.model.task import Multiclass
from lstmfcn.training.batches import EvaluationLoader, make_loader
from lstmfcn.training.loop import evaluate, fit
from lstmfcn.training.state import TrainState

TINY = f"{TINY_NET} --dropout 0.8 --lr 0.001 --batch-size 64 --epochs 60"
SEEDS, PRECISION_SEEDS = 5, 3


def seed_sample(arguments: argparse.Namespace) -> None:
    """The SageMaker algorithm's example files, unchanged: its tiny network and the paper's."""
    data, rows = arguments.data / "seed_sample", []
    truth = pd.read_csv(data / "test_labels.csv").to_numpy().argmax(axis=1)
    with local_ray():
        for name, flags in (("tiny", TINY), ("paper", "--epochs 30")):
            for seed in range(SEEDS):
                run = arguments.folder / f"{name}-{seed}"
                files = ["--train", data / "train.csv", "--validation", data / "valid.csv"]
                done = train(*files, "--output", run, "--seed", seed, *plain_flags(flags))
                command("predict", "--model", run / "model", "--input", data / "test_data.csv",
                        "--output", run / "predictions")  # fmt: skip
                predicted = pd.read_csv(run / "predictions" / "test_data.csv").filter(like="y_")
                right = float((predicted.to_numpy().argmax(axis=1) == truth).mean())
                rows.append({"network": name, "seed": seed, "accuracy": right,
                             "epochs s": done.epochs_s, "command s": done.total_s})  # fmt: skip
    print_table(rows)
    for name, target in (("tiny", 0.98), ("paper", 0.99)):
        accuracies = [float(row["accuracy"]) for row in rows if row["network"] == name]
        print_ratio(f"accuracy, {name} network, mean of the seeds", mean(accuracies), least=target)


def heartbeats(arguments: argparse.Namespace) -> None:
    """MIT-BIH heartbeats: the example's balanced cut, and the full set with class weights."""
    data, rows = arguments.data / "mitbih", []
    for name, source, flags in (
        ("balanced cut", "train_balanced.csv.gz", "--epochs 60 --batch-size 32"),
        ("full set", "train", "--epochs 4 --class-weight sqrt"),
    ):
        run = arguments.folder / name.replace(" ", "-")
        flags = f"{flags} --schedule cosine"
        done = train("--train", data / source, "--output", run, *plain_flags(flags))
        text = command("evaluate", "--model", run / "model", "--data", data / "test").stdout
        metrics = json.loads(text.splitlines()[-1])
        rows.append({"rows": name, "flags": flags, "s": done.total_s,
                     "accuracy": metrics["accuracy"], "macro F1": metrics["macro_f1"]})  # fmt: skip
    print_table([*rows, {"rows": "the SageMaker algorithm", "s": 536, "accuracy": 0.928,
                         "macro F1": 0.742}])  # fmt: skip
    print_ratio("seconds of the full set / of the SageMaker algorithm", rows[1]["s"] / 536, most=1)


def precision(arguments: argparse.Namespace) -> None:
    """Test accuracy in bf16 and in fp32, and of the plain fp32 Conv1d network."""
    torch.set_num_threads(CPUS)
    kinds = ("plain", "fp32", "bf16")
    rows = []
    for name in ("ItalyPowerDemand", "GunPoint", "Coffee", "TwoLeadECG", "ECG200"):
        folder, row = arguments.data / "ucr" / name, {}
        for kind in kinds:
            seeds = range(PRECISION_SEEDS)
            found = [accuracy_on(folder, kind, seed, epochs=300) for seed in seeds]
            row |= {kind: mean(found), f"{kind} range": f"{min(found):.4f} to {max(found):.4f}"}
        rows.append({"set": name, **row})
    print_table(rows)
    plain, _, bf16 = (mean(float(str(row[kind])) for row in rows) for kind in kinds)
    print_ratio("accuracy, bf16 / plain fp32, mean of the sets", bf16 / plain)


def accuracy_on(folder: Path, kind: str, seed: int, epochs: int) -> float:
    """Test accuracy of the epoch with the least training loss, on a set of the UCR archive.

    Args:
        folder: holds TRAIN.tsv and TEST.tsv.
        kind: ``plain``, the network as usually written in fp32; else the package's precision.
    """
    (values, names), (test_values, test_names) = (
        read_archive_file(folder / f"{split}.tsv") for split in ("TRAIN", "TEST")
    )
    classes, codes = np.unique(names, return_inverse=True)
    scaler = Scaler.fit("global", values)
    h = PLAIN.model_copy(
        update={"epochs": epochs, "seed": seed, "precision": "fp32" if kind == "plain" else kind}
    )
    torch.manual_seed(seed)
    net: nn.Module = LSTMFCN(h, values.shape[1], len(classes))
    if kind == "plain":
        net = PlainLSTMFCN(h, values.shape[1], len(classes)).start_as(net)
    task = Multiclass(len(classes))
    trained = TrainState(net, h.lr)
    batches = make_loader(Dataset(scaler.transform(values), codes), h.batch_size, seed)
    fit(trained, task, batches, None, h, lambda _: None)
    net.load_state_dict(trained.best_weights)
    test = Dataset(scaler.transform(test_values), np.searchsorted(classes, test_names))
    totals = evaluate(net, task, EvaluationLoader(test))
    return totals.correct / totals.rows


if __name__ == "__main__":
    main(__doc__, (seed_sample, heartbeats, precision))
