"""Shards with empty cells, trained on, predicted and served through the commands."""

import json

import numpy as np
import pandas as pd

from tests.helpers.problems import TINY, flags_of, waves, write


def with_gaps(table, seed=0):
    """Empty cells: a gap a row, and the end of every second series."""
    random = np.random.default_rng(seed)
    columns = [name for name in table if name.startswith("x")]
    values = table[columns].to_numpy(copy=True)
    values[np.arange(len(values)), random.integers(0, 6, len(values))] = np.nan
    values[::2, 9:] = np.nan
    table = table.copy()
    table[columns] = values
    return table


def test_gaps_are_trained_on_and_predicted_as_shorter_series_are(tmp_path, job):
    write(tmp_path / "train", with_gaps(waves(120)), 2)
    write(tmp_path / "test", with_gaps(waves(60, seed=1), seed=1))
    run = tmp_path / "run"
    asked = ["--train", tmp_path / "train", "--output", run, "--cpus-per-worker", "1"]
    refused = job("train", *asked, *flags_of(TINY, epochs=8))
    assert refused.returncode == 2
    assert "found an empty cell; write a number or remove the row, or train" in (refused.stderr)
    assert not run.exists()
    done = job("train", *asked, *flags_of(TINY, epochs=8, missing="mask"))
    assert done.returncode == 0, done.stderr
    described = json.loads((run / "model" / "model.json").read_text())
    assert described["schema"]["missing"] == "mask"
    found = job("evaluate", "--model", run / "model", "--data", tmp_path / "test")
    assert json.loads(found.stdout.splitlines()[-1])["accuracy"] > 0.7
    assert job(
        "predict", "--model", run / "model", "--input", tmp_path / "test",
        "--output", tmp_path / "predictions",
    ).returncode == 0  # fmt: skip
    (predicted,) = (tmp_path / "predictions").glob("*.csv")
    assert len(pd.read_csv(predicted)) == 60
