"""Models with random weights, and shards to report on: any task, classes, channels, gaps."""

import numpy as np
import pandas as pd
import torch

from lstmfcn.data.columns import value_names
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.network import LSTMFCN
from lstmfcn.model.task import make_task
from tests.helpers.small_models import tiny_hyperparameters

N_TIMEPOINTS = 16
ODD_NAMES = [
    '<b>&"cat"</b>',
    "$\\alpha_1$",
    "中文",
    "_x",
    "a class of a rather long name, and more",
]

CASES = {
    "names": ("multiclass", ["y"]),
    "one-hot": ("multiclass", ["y_a", "y_b", "y_c"]),
    "binary": ("binary", ["y"]),
    "one-hot pair": ("binary", ["y_no", "y_yes"]),
    "multilabel": ("multilabel", ["y_1", "y_2", "y_3"]),
    "one label": ("multilabel", ["y_1"]),
}


def report_schema(kind="names", classes=("ant", "bee", "cat"), n_channels=1, missing="refuse"):
    task, labels = CASES[kind]
    values = value_names(n_channels, N_TIMEPOINTS)
    schema = SeriesSchema.from_header([*labels, *values], task, missing=missing)
    return schema.with_classes(classes) if schema.holds_names else schema


def report_artifact(schema, temperature=1.0):
    """Random weights, with logits that are spread around 0, so that every class is predicted."""
    hyperparameters = tiny_hyperparameters().model_copy(
        update={"task": schema.task, "missing": schema.missing}
    )
    n_outputs = make_task(schema).n_outputs
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = LSTMFCN(hyperparameters, schema.n_timepoints, n_outputs, schema.n_channels)
    values = torch.tensor(np.nan_to_num(report_table(schema, 100).filter(regex="^x").to_numpy()))
    with torch.no_grad():
        logits = network.eval()(values.float())
        scale = 2 / logits.std(dim=0)
        network.head.weight *= scale[:, None]
        network.head.bias -= logits.mean(dim=0)
        network.head.bias *= scale
    metrics = {"epoch": 2, "train_loss": 0.5, "train_accuracy": 0.75}
    decision = {"temperature": temperature}
    scaler = Scaler(kind="none")
    artifact = Artifact(hyperparameters, schema, scaler, network.state_dict(), metrics)
    return Artifact(**{**vars(artifact), "decision": type(artifact.decision)(**decision)})


def report_table(schema, n_rows, seed=0):
    """Rows of random walks whose level says something of their class."""
    random = np.random.default_rng(seed)
    n_classes = len(schema.classes)
    values = random.standard_normal((n_rows, schema.n_values)).cumsum(axis=1) / 2
    if schema.task == "multilabel":
        labels = random.integers(0, 2, (n_rows, n_classes))
        values += labels[:, :1]
        table = pd.DataFrame(labels, columns=list(schema.label_columns))
    else:
        classes = np.arange(n_rows) % n_classes
        values += classes[:, None]
        if schema.holds_names:
            labels = {"y": np.array(schema.classes)[classes]}
        elif len(schema.label_columns) == 1:
            labels = {"y": classes}
        else:
            one_hot = np.eye(n_classes, dtype=int)[classes]
            labels = dict(zip(schema.label_columns, one_hot.T, strict=True))
        table = pd.DataFrame(labels)
    if schema.missing == "mask":
        series = values.reshape(n_rows, schema.n_channels, schema.n_timepoints)
        for row, length in enumerate(random.integers(8, schema.n_timepoints + 1, n_rows)):
            series[row, :, length:] = np.nan
            series[row, 0, 2:4] = np.nan
    shown = pd.DataFrame(values.round(4), columns=list(schema.value_columns))
    return pd.concat([table, shown], axis=1)


def report_shards(folder, table, n_shards=2):
    folder.mkdir(parents=True)
    for k, rows in enumerate(np.array_split(np.arange(len(table)), n_shards)):
        table.iloc[rows].to_csv(folder / f"part-{k}.csv", index=False)
    return str(folder)


def report_case(folder, kind="names", n_rows=60, n_shards=2, **schema_arguments):
    """A model directory in the folder of a run, and labelled shards; both as a user names them."""
    schema = report_schema(kind, **schema_arguments)
    report_artifact(schema).save(folder / "run" / "model")
    data = report_shards(folder / "data", report_table(schema, n_rows), n_shards)
    return str(folder / "run" / "model"), data
