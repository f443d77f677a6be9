"""Small tables as shards, and an untrained classifier for each kind of labels."""

import numpy as np
import pandas as pd
import torch

from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.shards import find_shards
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.network import LSTMFCN
from lstmfcn.model.task import make_task

torch.set_num_threads(1)

VALUE_COLUMNS = tuple(f"x_{i}" for i in range(1, 9))
KINDS = {
    "one-hot": ("multiclass", ("y_1", "y_2", "y_3")),
    "names": ("multiclass", ("y",)),
    "binary": ("binary", ("y_1",)),
    "binary pair": ("binary", ("y_1", "y_2")),
    "multilabel": ("multilabel", ("y_a", "y_b")),
    "one label": ("multilabel", ("y_1",)),
}


def schema_of(kind, names=("ant", "bee", "cat")):
    """The schema of a kind of labels."""
    task, labels = KINDS[kind]
    schema = SeriesSchema.from_header([*labels, *VALUE_COLUMNS], task)
    return schema.with_classes(names) if schema.holds_names else schema


def classifier_of(kind, **schema_arguments):
    """A classifier with random weights, centred and strong so that rows differ in their class."""
    schema = schema_of(kind, **schema_arguments)
    hyperparameters = Hyperparameters(
        hidden_size=4, filters_1=4, filters_2=4, filters_3=4, task=schema.task
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = LSTMFCN(hyperparameters, len(VALUE_COLUMNS), make_task(schema).n_outputs)
    scaler = Scaler(kind="global", mean=(0.5,), std=(2.0,))
    with torch.no_grad():
        usual = network.eval()(torch.tensor(scaler.transform(values_of(100).to_numpy())))
        network.head.bias -= usual.mean(dim=0)
        network.head.weight *= 4
        network.head.bias *= 4
    return Classifier(Artifact(hyperparameters, schema, scaler, network.state_dict()))


def values_of(rows, seed=0):
    """Random series as a table."""
    series = np.random.default_rng(seed).normal(0.5, 2.0, (rows, len(VALUE_COLUMNS)))
    return pd.DataFrame(series.astype(np.float32), columns=list(VALUE_COLUMNS))


def shard_of(table, path):
    """The table as a shard, in the format that the path's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, index=False)
    (shard,) = find_shards(str(path))
    return shard
