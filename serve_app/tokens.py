"""The token that clients send."""

from __future__ import annotations

from pathlib import Path

from lstmfcn.errors import ResourceError


def read_token(file: Path | str) -> str:
    """The content of a file, without blanks around it.

    Raises:
        ResourceError: it cannot be read, or holds no token.
    """
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise ResourceError(
            f"--token-file {file}: found no file; write a token into one"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ResourceError(
            f"--token-file {file}: cannot be read ({error}); write a token of letters and digits "
            "into a file"
        ) from error
    if not token or not token.isascii() or not token.isprintable():
        raise ResourceError(
            f"--token-file {file}: found no token; write one line of letters and digits into it"
        )
    return token
