"""Predict shards in parallel: one CSV for each, under its own name."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from lstmfcn.artifact import Artifact
from lstmfcn.distributed.predictors import own_results, predictors
from lstmfcn.distributed.runtime import ray_runtime
from lstmfcn.errors import OutputError
from lstmfcn.prediction import output_name
from lstmfcn.reading import survey
from lstmfcn.shards import Shard

logger = logging.getLogger(__name__)


def predict(model: str, input: str, output: str) -> int:  # noqa: A002 - the flag's name
    """Write one prediction file for each input shard, under its own name, rows in input order.

    Args:
        model: a model directory.
        input: shards: a file, folder, glob or URI. Only the value columns are read.
        output: a folder; each file in it appears whole or not at all.

    Returns:
        Rows predicted.

    Raises:
        UserError: model, shards or output do not allow it.
    """
    artifact = Artifact.load(model)
    shards = survey(input, schema=artifact.schema, labels=False).shards
    outputs = _outputs(shards, Path(output).absolute())
    started = time.perf_counter()
    rows = 0
    with ray_runtime(), predictors(artifact, len(shards)) as pool:
        found = pool.map(_write, list(zip(shards, outputs, strict=True)))
        for shard, path, n_rows in zip(shards, outputs, own_results(found), strict=True):
            logger.info("%s: %d rows to %s", shard.name, n_rows, path)
            rows += n_rows
    seconds = time.perf_counter() - started
    logger.info("predicted %d rows of %d shards in %.1f s", rows, len(shards), seconds)
    return rows


def _write(predictor: Any, job: tuple[Shard, Path]) -> Any:
    return predictor.write.remote(*job)


def _outputs(shards: list[Shard], folder: Path) -> list[Path]:
    """Where each shard's predictions go; never onto a shard, never two to one file."""
    outputs = [folder / output_name(shard) for shard in shards]
    inputs = {Path(shard.path).resolve() for shard in shards}
    for path in outputs:
        if path.resolve() in inputs:
            raise OutputError(f"{path}: is an input shard; name another --output")
        if outputs.count(path) > 1:
            raise OutputError(f"{path}: two shards would be written there; predict them one by one")
    return outputs
