"""Predict shards in parallel, and explain them: one CSV for each, under its own name."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lstmfcn.artifact import Artifact
from lstmfcn.counts import number
from lstmfcn.data_arguments import Data
from lstmfcn.distributed.predictors import own_results, predictors
from lstmfcn.distributed.runtime import ray_runtime
from lstmfcn.errors import OutputError, StoppedError
from lstmfcn.files import local_path, refuse_unwritable
from lstmfcn.predicted import PredictedShards
from lstmfcn.prediction import output_names, refuse_kept_twice
from lstmfcn.reading import refuse_absent, survey
from lstmfcn.shard_progress import ShardProgress
from lstmfcn.shards import Shard, finder

logger = logging.getLogger(__name__)

EXPLANATIONS = "explanations"
"""The folder, in that of the predictions, of what explains them."""


_AGAIN = "run the same command again: files that are finished stay"


class _File(NamedTuple):
    """What is to be made of a shard: predictions, or what explains them."""

    shard: Shard
    path: Path
    explains: bool


def predict(
    model: str,
    input: Data,  # noqa: A002 - the flag's name
    output: str,
    keep_columns: Sequence[str] = (),
    explain: bool = False,
) -> int:
    """Write one prediction file for each input shard, under its own name, rows in input order.

    Files that an earlier run has finished, with the same model and of the same shards, stay.

    Args:
        model: a model directory.
        input: shards: a file, folder, glob or URI, or several. Only the value columns are read.
        output: a folder, not one that is searched for input; each file in it appears whole or not
            at all.
        keep_columns: other columns of the shards, to stand first in the prediction files; of the
            model's label columns as ``y_true`` for ``y``.
        explain: also write what explains each prediction (`lstmfcn.prediction.explain_shard`),
            into files of the same names in the folder ``explanations`` of the output.

    Returns:
        Rows predicted, by this run and by earlier ones.

    Raises:
        UserError: model, shards or output do not allow it.
    """
    folder = local_path(output).absolute()
    artifact = Artifact.load(model)
    refuse_kept_twice(artifact.schema, keep_columns, explain)
    found = survey(input, schema=artifact.schema, labels=False)
    for shard, header in zip(found.shards, found.headers, strict=True):
        refuse_absent(keep_columns, header, shard)
    files = _files(found.shards, folder, explain)
    refuse_unwritable(files[0].path)
    _refuse_input(input, files)
    done = PredictedShards(folder, artifact.sha256, keep_columns)
    rows, n_known, left = 0, 0, []
    for file in files:
        known = done.rows(file.shard, file.path)
        if known is None:
            left.append(file)
        elif not file.explains:
            rows, n_known = rows + known, n_known + 1
    if rows:
        known_rows, known_shards = number(rows, "row"), number(n_known, "shard")
        logger.info("%s of %s were predicted before", known_rows, known_shards)
    return rows + _predict(artifact, left, keep_columns, done) if left else rows


def _predict(
    artifact: Artifact,
    left: list[_File],
    keep_columns: Sequence[str],
    done: PredictedShards,
) -> int:
    """Make these files; returns the rows predicted."""
    rows, ended = {True: 0, False: 0}, 0
    try:
        with ray_runtime(), predictors(artifact, len(left)) as (pool, model):

            def write(actor: Any, file: _File) -> Any:
                method = actor.explain if file.explains else actor.write
                return method.remote(model, file.shard, file.path, keep_columns)

            started = time.perf_counter()
            explains = sum(file.explains for file in left)
            with ShardProgress("predicting", len(left) - explains, explains) as progress:
                found = own_results(pool.map(write, left), [file.shard for file in left], _AGAIN)
                for (shard, path, is_explained), n_rows in zip(left, found, strict=True):
                    done.add(shard, path, n_rows)
                    ended += 1
                    logger.info("%s: %s to %s", shard.name, number(n_rows, "row"), path)
                    progress.ended(n_rows)
                    rows[is_explained] += n_rows
    except KeyboardInterrupt as stop:
        raise StoppedError(
            f"stopped after {ended} of {number(len(left), 'file')}, which stay", goes_on=True
        ) from stop
    seconds = time.perf_counter() - started
    for is_explained, did in ((False, "predicted"), (True, "explained")):
        if n_files := sum(file.explains == is_explained for file in left):
            logger.info(
                "%s %s of %s in %.1f s, %s rows/s",
                did,
                number(rows[is_explained], "row"),
                number(n_files, "shard"),
                seconds,
                f"{rows[is_explained] / seconds:,.0f}",
            )
    return rows[False]


def _files(shards: list[Shard], folder: Path, explain: bool) -> list[_File]:
    """What is to be made of the shards; never two to one file."""
    names = output_names(shards)
    files = [_File(s, folder / name, False) for s, name in zip(shards, names, strict=True)]
    if explain:
        files += [
            _File(file.shard, folder / EXPLANATIONS / name, True)
            for file, name in zip(files, names, strict=True)
        ]
    made_of: dict[Path, Shard] = {}
    for file in files:
        other = made_of.setdefault(file.path, file.shard)
        if other is not file.shard:
            raise OutputError(
                f"{file.path}: {other.path} and {file.shard.path} would both be written there; "
                "predict them into two folders"
            )
    return files


def _refuse_input(input: Data, files: list[_File]) -> None:  # noqa: A002 - the flag's name
    """Refuse to write onto a shard, or where the next run would look for one."""
    shards = {Path(file.shard.path).resolve() for file in files}
    finds = finder(input)
    for file in files:
        if file.path.resolve() in shards:
            raise OutputError(f"{file.path}: is an input shard; name another --output")
        if argument := finds(file.path):
            raise OutputError(
                f"{file.path}: lies in the input {argument}, and would be read as a shard by the "
                "next run; name another --output"
            )
