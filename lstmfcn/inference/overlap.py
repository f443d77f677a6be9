"""Find out whether a command would write where its data arguments look for shards."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from lstmfcn.data.listing import Data, to_arguments
from lstmfcn.data.shards import count_fixed, locate_data, matches_glob
from lstmfcn.storage.places import Place


def finder(data: Data, folder: Path = Path(), place: Place = "") -> Callable[[Path], str | None]:
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
