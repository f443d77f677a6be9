"""The file system of a URI, on `pyarrow.fs`: ``s3://``, ``gs://``, ``abfs://``, ``hdfs://``.

Credentials and addresses come from the environment, as pyarrow has it. A storage that cannot be
reached or does not answer is told within some 20 seconds.
"""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from lstmfcn.errors import one_line
from lstmfcn.storage.places import shown_place

_CONNECT_S, _ANSWER_S, _ATTEMPTS = 3.0, 5.0, 3
"""pyarrow's own limits add up to 100 seconds for a server that accepts and never answers."""

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
