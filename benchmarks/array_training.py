"""Train on a set of the UCR archive without Ray, for benchmarks/tsai_comparison.py.

python benchmarks/array_training.py FOLDER HYPERPARAMETERS THREADS

As tsai_training.py, by `lstmfcn.train_arrays`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tsai_training import read

from lstmfcn.classifier import Classifier
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.train_arrays import train_arrays


def main() -> None:
    """One training in this process."""
    folder, given, threads = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    values, names = read(folder / "TRAIN.tsv")
    began = time.perf_counter()
    artifact = train_arrays((values[:, 0], names), Hyperparameters.model_validate(given))
    seconds = time.perf_counter() - began
    values, names = read(folder / "TEST.tsv")
    predicted = Classifier(artifact).predict(values[:, 0])
    accuracy = float((np.array(predicted) == names).mean())
    print(json.dumps({"seconds": seconds, "accuracy": accuracy}))


if __name__ == "__main__":
    main()
