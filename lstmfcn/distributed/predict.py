"""Predict shards in parallel: one CSV for each, under its own name."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lstmfcn.artifact import Artifact
from lstmfcn.distributed.predictors import own_results, predictors
from lstmfcn.distributed.runtime import ray_runtime
from lstmfcn.errors import OutputError
from lstmfcn.predicted import PredictedShards
from lstmfcn.prediction import output_name, refuse_kept_twice
from lstmfcn.reading import survey
from lstmfcn.shards import Shard

logger = logging.getLogger(__name__)


def predict(
    model: str,
    input: str,  # noqa: A002 - the flag's name
    output: str,
    keep_columns: Sequence[str] = (),
) -> int:
    """Write one prediction file for each input shard, under its own name, rows in input order.

    Files that an earlier run has finished, with the same model and of the same shards, stay.

    Args:
        model: a model directory.
        input: shards: a file, folder, glob or URI. Only the value columns are read.
        output: a folder; each file in it appears whole or not at all.
        keep_columns: other columns of the shards, to stand first in the prediction files.

    Returns:
        Rows predicted, by this run and by earlier ones.

    Raises:
        UserError: model, shards or output do not allow it.
    """
    artifact = Artifact.load(model)
    refuse_kept_twice(artifact.schema, keep_columns)
    shards = survey(input, schema=artifact.schema, labels=False).shards
    folder = Path(output).absolute()
    done = PredictedShards(folder, artifact.sha256, keep_columns)
    rows, left = 0, []
    for shard, path in zip(shards, _outputs(shards, folder), strict=True):
        known = done.rows(shard, path)
        rows += known or 0
        if known is None:
            left.append((shard, path))
    if rows:
        logger.info("%d rows of %d shards were predicted before", rows, len(shards) - len(left))
    return rows + _predict(artifact, left, keep_columns, done) if left else rows


def _predict(
    artifact: Artifact,
    left: list[tuple[Shard, Path]],
    keep_columns: Sequence[str],
    done: PredictedShards,
) -> int:
    """Predict these shards; returns their rows."""

    def write(predictor: Any, job: tuple[Shard, Path]) -> Any:
        return predictor.write.remote(*job, keep_columns)

    rows = 0
    with ray_runtime(), predictors(artifact, len(left)) as pool:
        started = time.perf_counter()
        found = pool.map(write, left)
        for (shard, path), n_rows in zip(left, own_results(found), strict=True):
            done.add(shard, path, n_rows)
            logger.info("%s: %d rows to %s", shard.name, n_rows, path)
            rows += n_rows
    seconds = time.perf_counter() - started
    logger.info(
        "predicted %d rows of %d shards in %.1f s, %.0f rows/s",
        rows, len(left), seconds, rows / seconds,
    )  # fmt: skip
    return rows


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
