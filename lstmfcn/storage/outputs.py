"""Where commands read and write: local folders, which stand for those at URIs.

For a local place each function here gives the path itself, and does nothing else. For a URI it
gives a path in a temporary folder, fetches what is read, and sends what is written
(`lstmfcn.storage.mirror`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lstmfcn.errors import LstmfcnError, OutputError, UserError, shown_as
from lstmfcn.storage.files import refuse_existing, refuse_unwritable
from lstmfcn.storage.mirror import Mirror, following
from lstmfcn.storage.places import Place, checked_place, is_remote, shown_place, split_place
from lstmfcn.storage.remote_lock import RemoteLock
from lstmfcn.storage.scratch import scratch_folder


class Output:
    """A local folder that a command writes to; `send` sends it to the URI that it stands for."""

    def __init__(self, place: Place, folder: Path, mirror: Mirror | None = None) -> None:
        self.place, self.folder, self._mirror = place, folder, mirror

    def send(self) -> None:
        """Send now what the folder has; nothing for a local place."""
        if self._mirror:
            self._mirror.send()


@contextmanager
def output_folder(place: Place) -> Iterator[Path]:
    """The local folder to write to for a place; at the end of this block it is sent to a URI.

    After an error nothing is sent.

    Raises:
        OutputError: the place cannot be used.
    """
    place = checked_place(place)
    if not is_remote(place):
        yield Path(place)
        return
    with _sketched(str(place)) as mirror:
        yield mirror.folder
        mirror.send()


@contextmanager
def followed_folder(place: Place, reads: Callable[[str], bool]) -> Iterator[Output]:
    """Like `output_folder`, but files are sent while the block runs, and also after an error.

    Args:
        reads: whether the command reads a file of this name that is there already.
    """
    place = checked_place(place)
    if not is_remote(place):
        yield Output(place, Path(place).absolute())
        return
    with _sketched(str(place), reads) as mirror, following(mirror, shown_place(place)):
        yield Output(place, mirror.folder, mirror)


@contextmanager
def run_folder(place: Place, names: Collection[str], *, resume: bool) -> Iterator[Path]:
    """The local folder of a run; what changes in it is sent to a URI, which is locked meanwhile.

    Args:
        names: the files and folders that runs consist of; others at the URI are not touched.
        resume: whether an earlier run there is read; else there is only a sketch of it.

    Raises:
        OutputError: the place cannot be used, or another run is there.
    """
    place = checked_place(place)
    if not is_remote(place):
        yield Path(place).absolute()
        return
    from lstmfcn.storage.remote import RemoteFolder

    remote = RemoteFolder(str(place))
    lock = RemoteLock(remote)
    lock.take()
    try:
        with local_double(str(place)) as folder:
            mirror = Mirror(
                remote, folder, lambda name: name.split("/")[0] in names, lock.refuse_lost
            )
            mirror.sketch(lambda _: resume)
            with following(mirror, remote.shown):
                yield folder
    except (KeyboardInterrupt, SystemExit, LstmfcnError) as error:
        if lock.lost:
            raise lock.lost from error
        raise
    finally:
        lock.release()


@contextmanager
def output_file(place: Place, *, overwrite: bool) -> Iterator[Path]:
    """The local path of a file to write; at the end of this block it is sent to a URI.

    Raises:
        OutputError: the file exists already and is not to be replaced, or cannot be written.
    """
    place = checked_place(place)
    if not is_remote(place):
        path = Path(place)
        refuse_unwritable(path)
        if not overwrite:
            refuse_existing(path)
        yield path
        return
    from lstmfcn.storage.remote import RemoteFolder

    folder, name = split_place(place)
    if not name:
        raise OutputError(f"{shown_place(place)}: is a bucket; name a file in it")
    remote = RemoteFolder(str(folder))
    if not overwrite and remote.exists(name):
        raise OutputError(
            f"{shown_place(place)}: exists already; add --overwrite or choose another --output"
        )
    remote.refuse_unwritable()
    with whole_file(place) as path:
        yield path


@contextmanager
def whole_file(place: Place) -> Iterator[Path]:
    """The local path to write a file to; at the end of this block it replaces the one at a URI."""
    if not is_remote(place):
        yield Path(place)
        return
    from lstmfcn.storage.remote import RemoteFolder

    folder, name = split_place(place)
    with scratch_folder() as scratch, shown_as(scratch / name, shown_place(place)):
        yield scratch / name
        RemoteFolder(str(folder)).upload(scratch, [name])


def existing(
    place: Place, names: tuple[str, ...], raised: type[UserError] = OutputError
) -> set[str]:
    """Which of these files are at a place.

    Raises:
        UserError: of the given kind; the storage fails or refuses.
    """
    if not is_remote(place):
        return {name for name in names if (Path(place) / name).exists()}
    from lstmfcn.storage.remote import RemoteFolder

    return {file.name for file in RemoteFolder(str(place), raised).find(names)}


@contextmanager
def fetched(
    place: Place, names: tuple[str, ...], raised: type[UserError] = OutputError
) -> Iterator[Path]:
    """A local folder with these files of a place, as far as they are there.

    Raises:
        UserError: of the given kind; the storage fails or refuses.
    """
    if not is_remote(place):
        yield Path(place)
        return
    from lstmfcn.storage.remote import RemoteFolder

    remote = RemoteFolder(str(place), raised)
    with local_double(str(place)) as folder:
        folder.mkdir()
        remote.download(remote.find(names), folder)
        yield folder


@contextmanager
def _sketched(uri: str, reads: Callable[[str], bool] = lambda _: False) -> Iterator[Mirror]:
    """A mirror with a sketch of what is at the URI, which can be written to."""
    from lstmfcn.storage.remote import RemoteFolder

    remote = RemoteFolder(uri)
    with local_double(uri) as folder:
        mirror = Mirror(remote, folder)
        mirror.sketch(reads)
        remote.refuse_unwritable()
        yield mirror


@contextmanager
def local_double(uri: str) -> Iterator[Path]:
    """A path of the same name for a local folder, which lines show as the URI."""
    with scratch_folder() as scratch:
        folder = scratch / (split_place(uri)[1] or "bucket")
        with shown_as(folder, shown_place(uri)):
            yield folder
