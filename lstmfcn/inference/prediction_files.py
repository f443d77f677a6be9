"""Choose the files to write: one for each shard, and none where data arguments look for shards."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lstmfcn.data.listing import Data, to_arguments
from lstmfcn.data.shards import Shard, count_fixed, locate_data, matches_glob
from lstmfcn.errors import OutputError
from lstmfcn.storage.outputs import Output
from lstmfcn.storage.places import Place, absolute, is_remote, shown_place, within

EXPLANATIONS = "explanations"
"""The folder of the explanations, inside that of the predictions."""

_OTHER_SUFFIX = re.compile(
    r"(.+)\.(?:parquet|parq|pq|tsv(?:(\.gz)|\.bz2|\.xz|\.zst)?|csv\.(?:bz2|xz|zst))",
    re.IGNORECASE,
)
"""Suffixes of shards other than .csv and .csv.gz."""


class PredictionFile(NamedTuple):
    """A file to write for a shard: its predictions, or explanations of them.

    Attributes:
        path: the local path, or the one that stands for that at a URI.
        place: where it is written.
    """

    shard: Shard
    path: Path
    place: Place
    explains: bool


def list_files(shards: list[Shard], output: Output, explain: bool) -> list[PredictionFile]:
    """The files to write for the shards.

    Raises:
        OutputError: two shards would be written to one file.
    """
    names = output_names(shards)
    if explain:
        names += [f"{EXPLANATIONS}/{name}" for name in names]
    files = [
        PredictionFile(
            shard, output.folder / name, absolute(within(output.place, name)), k >= len(shards)
        )
        for k, (shard, name) in enumerate(zip(cycle(shards), names, strict=False))
    ]
    shard_of: dict[Path, Shard] = {}
    for file in files:
        other = shard_of.setdefault(file.path, file.shard)
        if other is not file.shard:
            raise OutputError(
                f"{file.path}: the predictions of {other.path} and {file.shard.path} would both "
                "be written there; predict them into two folders"
            )
    return files


def refuse_data_places(data: Data, files: list[PredictionFile], output: Output) -> None:
    """Refuse to write onto a shard, or where the next run would look for shards.

    Raises:
        OutputError: names the file.
    """
    shards = {Path(file.shard.path).resolve() for file in files}
    find_argument = make_finder(data, output.folder, output.place)
    for file in files:
        if not is_remote(file.place) and file.path.resolve() in shards:
            raise OutputError(f"{file.path}: is an input shard; name another --output")
        if argument := find_argument(file.path):
            raise OutputError(
                f"{file.path}: lies in the input {shown_place(argument)}, and the next run would "
                "read it as a shard; name another --output"
            )


def _output_name(shard: Shard) -> str:
    """Name a shard's prediction file: as the shard, with .csv for .parquet, .tsv, .csv.xz, ..."""
    match = _OTHER_SUFFIX.fullmatch(shard.name)
    return f"{match[1]}.csv{match[2] or ''}" if match else shard.name


def output_names(shards: Sequence[Shard]) -> list[str]:
    """Name each shard's prediction file; if there is also a.csv, a.parquet gets a.parquet.csv."""
    names = [_output_name(shard) for shard in shards]
    counts = Counter(names)
    return [
        f"{shard.name}.csv" if counts[name] > 1 and name != shard.name else name
        for name, shard in zip(names, shards, strict=True)
    ]


def make_finder(
    data: Data, folder: Path = Path(), place: Place = ""
) -> Callable[[Path], str | None]:
    """Make a function that says which data argument would find a file to be written, or None.

    Args:
        folder: the local folder to write to.
        place: where it is, or the URI that it stands for.
    """
    located = [(argument, *locate_data(argument)) for argument in to_arguments(data)]
    filesystem, root = locate_data(os.fspath(place))
    kind = filesystem.type_name
    paths = [(argument, path) for argument, fs, path in located if fs.type_name == kind]

    def find_argument(file: Path) -> str | None:
        if kind == "local":
            return next((name for name, path in paths if _would_find(Path(path), file)), None)
        written = PurePosixPath(root, file.relative_to(folder))
        return next((name for name, path in paths if _would_find_there(path, written)), None)

    return find_argument


def _would_find_there(searched: str, file: PurePosixPath) -> bool:
    """Whether a search in a remote file system would find a file with this path."""
    parts = PurePosixPath(searched).parts
    fixed = count_fixed(parts)
    if file.parts[:fixed] != parts[:fixed]:
        return False
    below = file.parts[fixed:]
    if any(part.startswith(("_", ".")) for part in below):
        return False
    return matches_glob(below, parts[fixed:]) if parts[fixed:] else True


def _would_find(searched: Path, file: Path) -> bool:
    """Whether a search of a folder or a glob would find a file with this path."""
    folder = searched
    if not searched.is_dir():
        folder = Path(*searched.parts[: count_fixed(searched.parts)])
    try:
        parts = file.resolve().relative_to(folder.resolve()).parts
    except ValueError:
        return False
    if any(part.startswith(("_", ".")) for part in parts):
        return False
    wildcards = searched.parts[len(folder.parts) :]
    return matches_glob(parts, wildcards) if wildcards else searched.is_dir()
