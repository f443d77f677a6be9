"""A real S3 protocol on this machine: moto's server, and a proxy that hinders requests."""

import http.client
import os
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3

from tests.helpers.heads import free_ports
from tests.helpers.killing import wait_until

KEYS = {
    "AWS_ACCESS_KEY_ID": "someone",
    "AWS_SECRET_ACCESS_KEY": "a-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def moto_server():
    """Yields the address of an S3 server, which is a process of its own."""
    (port,) = free_ports(1)
    words = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    process = subprocess.Popen(
        list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers():
        assert process.poll() is None
        try:
            _forward(f"127.0.0.1:{port}", "GET", "/", {}, None)
        except OSError:
            return False
        return True

    try:
        wait_until(answers, "an S3 server", every_s=0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


_OF_CONNECTION = ("expect", "connection", "transfer-encoding")


class Bucket:
    """A new bucket of a server, which the environment of this process names inside `in_use`."""

    def __init__(self, address):
        self.address, self.name = address, f"bucket-{uuid.uuid4().hex[:8]}"
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://{address}",
            region_name=KEYS["AWS_DEFAULT_REGION"],
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
        self.client.create_bucket(Bucket=self.name)

    def uri(self, path=""):
        """The URI of a path in the bucket."""
        return f"s3://{self.name}/{path}" if path else f"s3://{self.name}"

    def names(self, prefix=""):
        """The names of its files below a prefix, without the empty objects of folders."""
        pages = self.client.get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.name, Prefix=prefix)
        keys = [item["Key"] for page in found for item in page.get("Contents", [])]
        return [key.removeprefix(prefix) for key in keys if not key.endswith("/")]

    def read(self, name):
        """The content of a file."""
        return self.client.get_object(Bucket=self.name, Key=name)["Body"].read()

    def put(self, name, content=b""):
        """Write a file."""
        self.client.put_object(Bucket=self.name, Key=name, Body=content)

    def put_folder(self, folder, name):
        """Copy a local folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def fetch(self, prefix, folder):
        """Copy all files below a prefix into a local folder; returns it."""
        for name in self.names(f"{prefix}/"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(f"{prefix}/{name}"))
        return folder

    @contextmanager
    def in_use(self, address=None):
        """Inside this block, commands find the server, or a proxy, by the environment."""
        former = dict(os.environ)
        os.environ.update(KEYS, AWS_ENDPOINT_URL=f"http://{address or self.address}")
        try:
            yield self
        finally:
            os.environ.clear()
            os.environ.update(former)


class Proxy:
    """Passes requests on to a server, and hinders those that a test chooses.

    Attributes:
        requests: what came, as (method, path).
        hinder: called with method and path before a request is passed on. It may take its time;
            a number that it returns is the answer's status.
    """

    def __init__(self, address):
        self.requests, self.hinder = [], lambda _method, _path: None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy, self._server.behind = self, address
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that was killed does not wait for its answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self):
        body, proxy = self._body(), self.server.proxy
        proxy.requests.append((self.command, self.path))
        status, headers, content = proxy.hinder(self.command, self.path), {}, b""
        if status is None:
            sent = {k: v for k, v in self.headers.items() if k.lower() not in _OF_CONNECTION}
            behind = self.server.behind
            status, headers, content = _forward(behind, self.command, self.path, sent, body)
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in (*_OF_CONNECTION, "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_):
        """Print nothing."""


def _forward(address, method, path, headers, body):
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@contextmanager
def within_seconds(limit):
    """Inside this block no more time may pass; machines that are busy get a bit more."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit
