"""``lstmfcn evaluate``."""

from __future__ import annotations

import json
from pathlib import Path

from lstmfcn.files import whole_file


def evaluate(*, model: str, data: str, output: str | None = None) -> None:
    """Compare a model with labelled shards; the last line is one JSON object.

    Parameters
    ----------
    model
        Model directory.
    data
        Labelled shards: a file, folder, glob or URI.
    output
        Folder that evaluation.json is also written to.
    """
    from lstmfcn.distributed.evaluate import evaluate as evaluate_on_ray

    found = json.dumps(evaluate_on_ray(model, data), allow_nan=False)
    print(found, flush=True)
    if output:
        with whole_file(Path(output) / "evaluation.json") as path:
            path.write_text(found + "\n", encoding="utf-8")
