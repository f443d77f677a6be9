"""Read and write folders at URIs, on `pyarrow.fs`: ``s3://``, ``gs://``, ``abfs://``, ``hdfs://``.

Credentials and addresses come from the environment, as pyarrow has it. A storage that cannot be
reached or does not answer is told within some 20 seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from lstmfcn.errors import OutputError, UserError, one_line
from lstmfcn.storage.places import shown_place

T = TypeVar("T")

_CONNECT_S, _ANSWER_S, _ATTEMPTS = 3.0, 5.0, 3
"""pyarrow's own limits add up to 100 seconds for a server that accepts and never answers."""

_AT_ONCE, _CHUNK_BYTES = 8, 8 << 20
_OBJECT_STORES = ("s3", "gcs", "abfs")
"""There an object appears whole; in other file systems a file is renamed when it is whole."""

_S3_OPTIONS = ("scheme", "region", "endpoint_override", "tls_ca_file_path")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_MAX_REASON = 200

_CREDENTIALS_ADVICE = "check the credentials, such as AWS_ACCESS_KEY_ID, and what they permit"
_ADDRESS_ADVICE = "check the network and the address, such as AWS_ENDPOINT_URL"
_REASONS = (
    (r"NO_SUCH_BUCKET|NoSuchBucket|Bucket '.*' not found", "found no such bucket; check its name"),
    (
        r"ACCESS_DENIED|AccessDenied|PERMISSION_DENIED|HTTP response code 403|Forbidden",
        f"access is denied; {_CREDENTIALS_ADVICE}",
    ),
    (
        r"INVALID_ACCESS_KEY|InvalidAccessKey|SIGNATURE|Signature|INVALID_CLIENT_TOKEN|EXPIRED|"
        r"ExpiredToken|InvalidToken|UNAUTHENTICATED|AuthenticationFailed|UNRECOGNIZED_CLIENT|"
        r"MISSING_AUTH|credentials",
        f"the credentials are not accepted; {_CREDENTIALS_ADVICE}",
    ),
    (r"curlCode: 6\b|[Rr]esolve host", f"the host's name is not known; {_ADDRESS_ADVICE}"),
    (
        r"curlCode: 28\b|[Tt]imed? ?out|DEADLINE_EXCEEDED|REQUEST_TIMEOUT",
        f"the storage does not answer in time; {_ADDRESS_ADVICE}",
    ),
    (
        r"NETWORK_CONNECTION|curlCode|UNAVAILABLE|[Cc]onnect",
        f"the storage cannot be reached; {_ADDRESS_ADVICE}",
    ),
)
"""What messages of the storages' libraries contain, and what to say."""


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


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI, and the path in it.

    Raises:
        OSError, ValueError, ImportError: it cannot be used; `describe_failure` says why.
    """
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower()
    if scheme == "s3":
        return _locate_on_s3(uri)
    if scheme in ("gs", "gcs") and "retry_limit_seconds" not in rest:
        mark = "&" if "?" in rest else "?"
        rest += f"{mark}retry_limit_seconds={_CONNECT_S * _ATTEMPTS:.0f}"
    if scheme == "mock":  # of pyarrow's own tests; what is written there is gone at once
        raise pa.ArrowInvalid("Unrecognized filesystem type")
    filesystem, path = fs.FileSystem.from_uri(f"{scheme}://{rest}")
    return filesystem, path


def _locate_on_s3(uri: str) -> tuple[fs.FileSystem, str]:
    """As `pyarrow.fs.FileSystem.from_uri`, which has no limits for connections and attempts."""
    parts = urlsplit(uri, allow_fragments=False)
    bucket = parts.netloc.rpartition("@")[2]
    if not bucket:
        raise ValueError("found no bucket; write s3://BUCKET/FOLDER")
    options: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := options.keys() - set(_S3_OPTIONS):
        raise ValueError(
            f"found the option {sorted(unknown)[0]}; write one of {', '.join(_S3_OPTIONS)}"
        )
    if "endpoint_override" not in options:
        named = next(filter(None, map(os.environ.get, _ENDPOINTS)), "")
        scheme, has_scheme, host = named.rpartition("://")
        if host:
            options["endpoint_override"] = host.rstrip("/")
            if has_scheme:
                options.setdefault("scheme", scheme)
    if not options.keys() & {"region", "endpoint_override"}:
        options["region"] = fs.resolve_s3_region(bucket)
    if parts.password is not None:
        options["access_key"] = unquote(parts.username or "")
        options["secret_key"] = unquote(parts.password)
    filesystem = fs.S3FileSystem(
        **options,
        connect_timeout=_CONNECT_S,
        request_timeout=_ANSWER_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=True,  # small files are one request
    )
    return filesystem, bucket + unquote(parts.path).rstrip("/")


def describe_failure(error: Exception, uri: str = "") -> str:
    """Say in one line why a storage refuses or fails, and what to check.

    Args:
        uri: as the user wrote it; the reason has it without user, password and options.
    """
    text = str(error).partition("\n")[0]
    if uri:
        text = text.replace(uri, shown_place(uri))
    if "Unrecognized filesystem type" in text:
        return "no file system is known for this URI; write s3://, gs://, abfs:// or hdfs://"
    if isinstance(error, OSError):
        for pattern, reason in _REASONS:
            if re.search(pattern, text):
                return reason
    text = text.partition(" (Request ID")[0][:_MAX_REASON]
    if isinstance(error, OSError):
        return one_line(f"the storage failed ({text}); check the address and try again")
    return one_line(text if "; " in text else f"found a URI that cannot be used ({text}); check it")


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
