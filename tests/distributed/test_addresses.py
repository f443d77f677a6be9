"""Addresses at which no cluster answers."""

import http.server
import threading
import time

import pytest

from lstmfcn.distributed.cluster import ray_runtime
from lstmfcn.errors import ResourceError


def refusal(address):
    """What a command that wants this cluster ends with, within seconds."""
    started = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ResourceError) as refused, ray_runtime():
            pass
    assert time.monotonic() - started < 10
    return str(refused.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers (Connection refused); correct RAY_ADDRESS or "
                        "unset it"),
        ("ray://127.0.0.1:10001", "Ray Client is not supported; use the cluster's own address, "
                                  "or run the command there with ray job submit"),
    ],
)  # fmt: skip
def test_an_address_without_a_cluster_is_refused_at_once(address, message):
    assert refusal(address) == f"RAY_ADDRESS={address}: {message}"


def test_what_listens_but_is_no_ray_is_refused_at_once():
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    answering = threading.Thread(target=server.serve_forever)
    answering.start()
    try:
        said = refusal(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        answering.join()
        server.server_close()
    assert "no Ray cluster answers (the port is not that of a Ray head node)" in said
