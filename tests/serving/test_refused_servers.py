"""Servers that are refused before anything starts."""

import socket

import pytest

from lstmfcn.cli.main import main
from serve_app.server import share_of_gpu
from tests.helpers.no_cluster import no_cluster
from tests.helpers.small_models import tiny_artifact

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    tiny_artifact().save(folder / "model")
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "nowhere"], "found no readable model.json"),
        (["--model", "MODEL", "--model", "MODEL"], "found two models named 'default'; name each"),
        (["--model", "MODEL", "--port", "PORT"], "cannot listen there (Address already in use)"),
        (["--model", "MODEL", "--token-file", "nowhere"], "--token-file nowhere: found no file"),
        (["--model", "MODEL", "--token-file", "EMPTY"], "found no token"),
        (["--model", "MODEL", "--host", "no.host.invalid"], "found no address of this machine"),
        (["--model", "MODEL", "--host", "192.0.2.1"], "an address of this machine as --host"),
        (["--model", "MODEL", "--port", "80000"], "Must be <= 65535"),
        (["--model", "MODEL", "--port", "0"], "Must be >= 1"),
        (["--model", "MODEL", "--num-replicas", "0"], "Must be >= 1"),
        (["--model", "MODEL", "--allow-origin", "app"], "--allow-origin app: is not an origin"),
        (["--model", "MODEL", "--use-gpu"], "has no GPU that PyTorch can use; leave the GPU out"),
    ],
)
def test_what_cannot_be_served_is_one_line(folder, capsys, flags, message):
    with no_cluster(), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (folder / "empty").write_text("\n")
        places = {
            "MODEL": str(folder / "model"),
            "EMPTY": str(folder / "empty"),
            "PORT": str(taken.getsockname()[1]),
        }
        assert main(["serve", *(places.get(flag, flag) for flag in flags)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lstmfcn: ")
    assert message in line


@pytest.mark.parametrize(("replicas", "gpus"), [(1, 1), (4, 1), (3, 2), (8, 3), (7, 1), (2, 2)])
def test_replicas_that_share_gpus_fit_them_all(replicas, gpus):
    share = share_of_gpu(replicas, gpus)
    per_gpu = int(1 / share + 1e-9)
    assert 0 < share <= 1
    assert per_gpu * gpus >= replicas
    assert (per_gpu - 1) * gpus < replicas  # no smaller part than needed
