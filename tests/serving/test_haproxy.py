import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from serve_app.haproxy import adapted

CONFIG = """global
    stats socket /tmp/x/admin.sock mode 666 level admin expose-fd listeners
defaults
    mode http
    balance leastconn
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind *:8000
listen stats
  bind *:8404
  stats enable
"""


def test_only_the_endpoint_listens_on_what_the_user_named():
    found = adapted(CONFIG)
    assert "bind 127.0.0.1:9101" in found
    assert "bind 127.0.0.1:8404" in found
    assert "bind *:8000" in found
    assert "mode 600 level admin" in found


def test_a_connection_goes_to_one_replica():
    found = adapted(CONFIG)
    assert "leastconn" not in found
    assert found.count("balance hash src_port") == 1


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_haproxy_ends_with_its_parent(tmp_path):
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        f"global\n    stats socket {tmp_path}/admin.sock mode 666 level admin\n"
        "defaults\n    mode http\n    timeout client 5s\n    timeout server 5s\n"
        f"    timeout connect 5s\nfrontend http_frontend\n    bind 127.0.0.1:{free_port()}\n"
    )
    parent = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([{str(Path(sys.prefix) / 'bin' / 'lstmfcn-haproxy')!r}, '-db', "
        f"'-f', {str(config)!r}])\n"
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
