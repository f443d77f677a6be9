"""Places that users name: local paths, and URIs of file systems that pyarrow knows.

A local place is a `Path`, a URI stays a text, because a `Path` would make ``s3:/`` of ``s3://``.
This module only looks at the text; `lstmfcn.storage.remote` opens it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from lstmfcn.errors import OutputError, UserError
from lstmfcn.storage.files import local_path

Place = Path | str

_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/?@]*:[^/?]*@")
"""A user and a password; a user alone may be what ``abfs://CONTAINER@ACCOUNT`` names so."""
_SECRET_OPTIONS = re.compile("secret|key|token|password|sig", re.IGNORECASE)


def is_remote(place: Place) -> bool:
    """Whether a place is a URI of another file system than this machine's."""
    return isinstance(place, str) and bool(_REMOTE.match(place)) and not _is_file_uri(place)


def _is_file_uri(place: str) -> bool:
    return place.lower().startswith("file:")


def checked_place(place: Place, raised: type[UserError] = OutputError) -> Place:
    """Make a place of an output or a model as the user wrote it.

    Raises:
        UserError: of the given kind; a URI holds a password, or is none that can be used. Command
            lines are seen by other users of the machine, and the record of a run keeps them.
    """
    if not is_remote(place):
        return local_path(place, raised)
    uri = str(place)
    options = dict(parse_qsl(uri.partition("?")[2], keep_blank_values=True))
    if _CREDENTIALS.search(uri) or any(map(_SECRET_OPTIONS.search, options)):
        raise raised(
            f"{shown_place(uri)}: found a password in the URI; take it out, and set it as the "
            "storage's own variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return uri


def shown_place(place: Place | os.PathLike[str]) -> str:
    """A place as messages show it: a URI without user, password and options."""
    text = os.fspath(place)
    if not is_remote(text):
        return text
    return re.sub("(?<=[^/:])/+$", "", _CREDENTIALS.sub("", text).partition("?")[0])


def without_password(text: str) -> str:
    """A place, or a word of a command line, as records have it: URIs without user and password."""
    return _CREDENTIALS.sub("", text)


def absolute(place: Place) -> Place:
    """The same place, whatever the current folder is."""
    return place if is_remote(place) else Path(place).absolute()


def within(place: Place, name: str) -> Place:
    """The place of a file or folder in a folder."""
    if not is_remote(place):
        return Path(place) / name
    path, mark, options = str(place).partition("?")
    return f"{path.rstrip('/')}/{name}{mark}{options}"


def split_place(place: Place) -> tuple[Place, str]:
    """The folder that a place lies in, and its name there; of a bucket the name is empty."""
    if not is_remote(place):
        return Path(place).parent, Path(place).name
    path, mark, options = str(place).partition("?")
    scheme, _, rest = path.partition("://")
    folder, slash, name = rest.rstrip("/").rpartition("/")
    return (f"{scheme}://{folder}{mark}{options}", name) if slash else (place, "")


def lies_in(place: Place, folder: Place) -> bool:
    """Whether a place is a folder, or lies in it."""
    if is_remote(place) != is_remote(folder):
        return False
    if is_remote(place):
        return f"{_path_of(place)}/".startswith(f"{_path_of(folder)}/")
    return Path(place).resolve().is_relative_to(Path(folder).resolve())


def _path_of(place: Place) -> str:
    scheme, _, path = shown_place(place).partition("://")
    return f"{scheme.lower()}://{unquote(path)}"
