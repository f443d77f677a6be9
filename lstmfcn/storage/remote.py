"""Read and write folders at URIs, on `pyarrow.fs`."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, TypeVar

from pyarrow import fs

from lstmfcn.errors import OutputError, UserError
from lstmfcn.storage.filesystems import describe_failure, locate
from lstmfcn.storage.places import shown_place

T = TypeVar("T")

_AT_ONCE, _CHUNK_BYTES = 8, 8 << 20
_OBJECT_STORES = ("s3", "gcs", "abfs")
"""There an object appears whole; in other file systems a file is renamed when it is whole."""


class RemoteFile(NamedTuple):
    """A file below a remote folder."""

    name: str
    size: int


class RemoteFolder:
    """A folder at a URI.

    Args:
        raised: the kind of error that all methods raise if the storage refuses or fails.

    Raises:
        UserError: no file system is known for the URI.
    """

    def __init__(self, uri: str, raised: type[UserError] = OutputError) -> None:
        self.shown, self._raised = shown_place(uri), raised
        with self._reporting(uri):
            self._filesystem, path = locate(uri)
        self._path = path.rstrip("/")

    def files(self, *, below: bool = True) -> list[RemoteFile]:
        """List its visible files by name; with all sub-folders, unless ``below`` is False."""
        selector = fs.FileSelector(self._path, recursive=below)
        infos: list[fs.FileInfo] = []
        with self._reporting():
            with suppress(FileNotFoundError):  # not so if the bucket is not there
                infos = self._filesystem.get_file_info(selector)
            is_file = not infos and self._info("").type == fs.FileType.File
        if is_file:
            raise self._raised(f"{self.shown}: is a file; name a folder")
        names = [info.path.removeprefix(self._path).removeprefix("/") for info in infos]
        return sorted(
            RemoteFile(name, info.size)
            for name, info in zip(names, infos, strict=True)
            if info.type == fs.FileType.File and _is_visible(name)
        )

    def find(self, names: Iterable[str]) -> list[RemoteFile]:
        """Those of these files that are there."""
        names = list(names)
        with self._reporting():
            infos = self._filesystem.get_file_info(list(map(self._at, names)))
        found = [
            RemoteFile(name, info.size)
            for name, info in zip(names, infos, strict=True)
            if info.type == fs.FileType.File
        ]
        if not found:
            self.files(below=False)  # raises if there is no such bucket, or no permission
        return found

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return bool(self.find([name]))

    def modified(self, name: str) -> datetime | None:
        """When a file was last written, by the storage's clock; None if it does not say."""
        with self._reporting():
            when: datetime | None = self._info(name).mtime
        return when

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None if there is none."""
        with self._reporting():
            try:
                with self._filesystem.open_input_stream(self._at(name)) as stream:
                    content: bytes = stream.read()
            except FileNotFoundError:
                return None
        return content

    def download(self, files: Iterable[RemoteFile], folder: Path) -> None:
        """Copy files into a local folder, several at a time; each is as long as it was listed."""

        def copy(file: RemoteFile) -> None:
            path = folder / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with (
                self._filesystem.open_input_stream(self._at(file.name)) as stream,
                path.open("wb") as copy,
            ):
                shutil.copyfileobj(stream, copy, _CHUNK_BYTES)
            if path.stat().st_size != file.size:
                raise self._raised(
                    f"{self.shown}: {file.name} changed while it was being read; try again"
                )

        with self._reporting():
            _in_parallel(copy, files)

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, whole."""
        with (
            self._reporting(),
            self._replacing(name) as target,
            self._filesystem.open_output_stream(target) as stream,
        ):
            stream.write(content)

    def upload(self, folder: Path, names: Iterable[str]) -> set[str]:
        """Copy files of a local folder, several at a time; each appears whole or not at all.

        Returns:
            The names of files that have disappeared from the local folder meanwhile.
        """
        gone = set()

        def copy(name: str) -> None:
            try:
                with (folder / name).open("rb") as file, self._replacing(name) as target:
                    self._send(file, target)
            except FileNotFoundError:
                if (folder / name).exists():
                    raise
                gone.add(name)

        with self._reporting():
            _in_parallel(copy, names)
        return gone

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, if they exist."""

        def remove(name: str) -> None:
            with suppress(FileNotFoundError):
                self._filesystem.delete_file(self._at(name))

        with self._reporting():
            _in_parallel(remove, names)

    def remove_folder(self, name: str) -> None:
        """Remove a folder without files; object stores keep an empty object for it."""
        with self._reporting():
            selector = fs.FileSelector(self._at(name), allow_not_found=True, recursive=True)
            infos = self._filesystem.get_file_info(selector)
            if all(info.type == fs.FileType.Directory for info in infos):
                with suppress(FileNotFoundError):
                    self._filesystem.delete_dir(self._at(name))

    def refuse_unwritable(self) -> None:
        """Refuse a folder that cannot be written to, before there is anything to write."""
        name = f".lstmfcn-{uuid.uuid4().hex[:8]}"
        self.write(name, b"")
        self.remove([name])

    def _send(self, file: BinaryIO, target: str) -> None:
        """Copy a file, in a thread, which Ctrl-C does not reach: what is closed appears.

        `pyarrow.fs.copy_files` does not tell of errors that come when the copy is closed.
        """
        stream = self._filesystem.open_output_stream(target)
        try:
            shutil.copyfileobj(file, stream, _CHUNK_BYTES)
        except BaseException:
            with suppress(OSError):  # there is no way to give it up
                stream.close()
                self._filesystem.delete_file(target)
            raise
        stream.close()

    @contextmanager
    def _replacing(self, name: str) -> Iterator[str]:
        target = self._at(name)
        if self._filesystem.type_name in _OBJECT_STORES:
            yield target
            return
        parent, _, last = target.rpartition("/")
        self._filesystem.create_dir(parent, recursive=True)
        unfinished = f"{parent}/.{last}.{uuid.uuid4().hex[:8]}"
        try:
            yield unfinished
            self._filesystem.move(unfinished, target)
        except BaseException:
            with suppress(OSError):
                self._filesystem.delete_file(unfinished)
            raise

    def _info(self, name: str) -> fs.FileInfo:
        return self._filesystem.get_file_info(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    @contextmanager
    def _reporting(self, uri: str = "") -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, NotImplementedError, ImportError) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # of this machine's own files
            reason = describe_failure(error, uri)
            raise self._raised(f"{self.shown}: {reason}") from error


def _is_visible(name: str) -> bool:
    """Whether a file is one that commands write; keys of objects may be any text, as ``../x``."""
    parts = name.split("/")
    return not any(part in ("", "..") or part.startswith(".") for part in parts) and (
        PurePosixPath(name).as_posix() == name
    )


def _in_parallel(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Do the work for all items, in threads; after a failure or Ctrl-C none is begun any more."""
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        for future in [pool.submit(work, item) for item in items]:
            future.result()
    except Exception:
        pool.shutdown(cancel_futures=True)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
