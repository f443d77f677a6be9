"""Small problems, and small models trained on them or not, that the tests of the core share."""

from dataclasses import replace

import numpy as np
import torch

from lstmfcn.data.columns import value_names
from lstmfcn.data.dataset import Dataset
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.layers import BatchNorm
from lstmfcn.model.network import LSTMFCN
from lstmfcn.model.task import Decision, make_task
from lstmfcn.training.batches import RowsTaken
from lstmfcn.training.keeper import Checkpoints, FolderKeeper

torch.set_num_threads(1)

N_TIMEPOINTS = 12

PLAIN = {"schedule": "constant", "weight_decay": 0.0, "label_smoothing": 0.0, "rows_per_epoch": 0}
"""Training whose epochs are all alike, each over all rows once."""

LABELS = {
    "multiclass": ("multiclass", ["y_a", "y_b", "y_c"]),
    "names": ("multiclass", ["y"]),
    "binary": ("binary", ["y"]),
    "one-hot pair": ("binary", ["y_no", "y_yes"]),
    "multilabel": ("multilabel", ["y_1", "y_2", "y_3"]),
}
KINDS = tuple(LABELS)
"""Every way in which a shard can state its labels."""


def tiny_schema(kind="multiclass", n_values=N_TIMEPOINTS, n_channels=1):
    task, labels = LABELS[kind]
    names = [f"x_{i}" for i in range(n_values)]
    if n_channels > 1:
        names = value_names(n_channels, n_values // n_channels)
    header = [*labels, *names]
    schema = SeriesSchema.from_header(header, task)
    return schema.with_classes(["cat", "dog", "emu"]) if kind == "names" else schema


def tiny_hyperparameters(kind="multiclass", **changes):
    sizes = {"hidden_size": 4, "filters_1": 4, "filters_2": 4, "filters_3": 4, "dropout": 0.1}
    training = {"lr": 0.01, "batch_size": 16, "epochs": 3, "precision": "fp32", **PLAIN}
    return Hyperparameters(**{"task": LABELS[kind][0], **sizes, **training, **changes})


def tiny_rows(kind="multiclass", n_rows=48, seed=0):
    """Rows of a problem that is easy to learn: each class, or label, is a wave of its own."""
    rng = np.random.default_rng(seed)
    schema = tiny_schema(kind)
    n_classes = len(schema.classes)
    times = np.arange(N_TIMEPOINTS) / N_TIMEPOINTS
    waves = np.sin(2 * np.pi * np.outer(np.arange(1, n_classes + 1), times))
    if schema.task == "multilabel":
        chosen = rng.integers(0, 2, (n_rows, n_classes))
        labels = chosen.astype(np.float32)
    else:
        classes = np.arange(n_rows) % n_classes
        chosen = np.eye(n_classes)[classes]
        labels = classes.astype(np.int64 if schema.task == "multiclass" else np.float32)
    values = chosen @ waves + 0.1 * rng.standard_normal((n_rows, N_TIMEPOINTS))
    return Dataset(values.astype(np.float32), labels)


def tiny_network(kind="multiclass", seed=0, n_channels=1, **changes):
    torch.manual_seed(seed)
    hyperparameters = tiny_hyperparameters(kind, **changes)
    n_timepoints = N_TIMEPOINTS // n_channels
    return LSTMFCN(hyperparameters, n_timepoints, tiny_task(kind).n_outputs, n_channels)


def tiny_task(kind="multiclass"):
    return make_task(tiny_schema(kind))


def tiny_artifact(kind="multiclass", seed=0, n_channels=1, **changes):
    """A model whose weights are random, with a scaler of the tiny problem's rows.

    Of several channels, the problem's 12 values are shared among them.
    """
    hyperparameters = tiny_hyperparameters(kind, **changes)
    schema = tiny_schema(kind, n_channels=n_channels)
    return Artifact(
        hyperparameters=hyperparameters,
        schema=schema.model_copy(update={"missing": hyperparameters.missing}),
        scaler=Scaler.fit(hyperparameters.scaling, tiny_rows(kind).values, n_channels),
        weights=tiny_network(kind, seed, n_channels, **changes).state_dict(),
        metrics={"epoch": 2, "train_loss": 0.1 + 0.2, "train_accuracy": 1.0},
        training={
            "workers": 1,
            "precision": "fp32",
            "data": ["a.csv", "ü.csv"],
            "began_from": None,
        },
    )


def tiny_calibrated(kind="multiclass", **changes):
    """The same with a temperature and, where the task has them, thresholds that differ from 0.5."""
    thresholds = (0.25, 0.5625, 0.5) if kind == "multilabel" else ()
    decision = Decision(temperature=0.25, thresholds=thresholds)
    return replace(tiny_artifact(kind, **changes), decision=decision)


class CutError(Exception):
    """Training ends here as if it were killed: nothing is written any more."""


def cut_off(batches, at):
    """Batches that cut the training off at one step of one epoch."""

    def until_cut(epoch, taken=RowsTaken()):
        whole = len(list(batches(epoch)))
        left = list(batches(epoch, taken))
        for step, batch in enumerate(left, start=whole - len(left)):
            if (epoch, step) == at:
                raise CutError
            yield batch

    return until_cut


def saving(folder, every_s=30.0):
    """Checkpoints that are saved in a new run of this folder."""
    keeper = FolderKeeper(folder)
    keeper.start(0)
    return Checkpoints(keeper, every_s)


def newest(folder):
    """Position and state of the newest checkpoint of the run in this folder; None without one."""
    return next(Checkpoints(FolderKeeper(folder)).load_all(), None)


def trained_looking(network):
    """Give a fresh network the statistics and weights that training would leave."""
    torch.manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.running_mean.normal_()
                module.running_var.uniform_(0.1, 3)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.3)
    return network.eval()
