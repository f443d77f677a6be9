"""cluster.yaml, its on-premise variant in the guide, and .rayignore, by Ray's own rules."""

import re
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler._private.util import prepare_config, validate_config

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "how-to" / "clusters.md").read_text()


def on_premise_yaml():
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if "provider:" in block)
    return block


TEXTS = {"aws": (REPOSITORY / "cluster.yaml").read_text(), "on premise": on_premise_yaml()}


@pytest.fixture(params=TEXTS)
def text(request):
    return TEXTS[request.param]


@pytest.fixture
def config(text):
    return prepare_config(yaml.safe_load(text))


def start_commands(config):
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    return [command for command in commands if "ray start" in command]


def test_ray_accepts_the_configuration(config):
    validate_config(config)
    assert (
        sum(kind["min_workers"] for kind in config["available_node_types"].values())
        <= (config["max_workers"])
    )


def test_every_ray_starts_with_token_authentication(config):
    head, worker = start_commands(config)
    assert "--head" in head
    assert "--head" not in worker
    for command in (head, worker):
        assert re.search(r"export RAY_AUTH_MODE=token\b.*; .*ray start", command)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


def test_the_dashboard_is_on_loopback_and_nothing_on_every_interface(text, config):
    head, _ = start_commands(config)
    assert re.findall(r"--dashboard-host=(\S+)", head) == ["127.0.0.1"]
    assert "0.0.0.0" not in text
    assert "0.0.0.0" not in str(config)  # Ray's defaults, which it fills in


def test_what_is_copied_to_the_machines_is_there_and_enough_to_install(config):
    mounted = {path for path in config["file_mounts"].values() if not path.startswith("~")}
    assert mounted == {"pyproject.toml", "README.md", "lstmfcn", "serve_app"}
    assert all((REPOSITORY / path).exists() for path in mounted)


def test_workers_on_aws_have_gpus_and_none_stays_idle():
    config = prepare_config(yaml.safe_load(TEXTS["aws"]))
    workers = dict(config["available_node_types"])
    head = workers.pop(config["head_node_type"])
    assert "GPU" not in head["resources"]
    assert [worker["resources"]["GPU"] for worker in workers.values()] == [1]
    assert [worker["min_workers"] for worker in workers.values()] == [0]
    assert "IpPermissions" not in config["provider"]["security_group"]  # SSH only


def uploaded(folder, tmp_path):
    """The names and the size of what `ray job submit --working-dir FOLDER` uploads."""
    package = tmp_path / "package.zip"
    excludes = get_runtime_env_default_excludes()
    create_package(str(folder), package, include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(package) as archive:
        return set(archive.namelist()), package.stat().st_size


def test_a_job_uploads_the_package_and_the_jobs_only(tmp_path):
    names, size = uploaded(REPOSITORY, tmp_path)
    assert {name.split("/")[0] for name in names} == {"lstmfcn", "jobs"}
    sources = {
        str(path.relative_to(REPOSITORY))
        for folder in ("lstmfcn", "jobs")
        for path in (REPOSITORY / folder).rglob("*.py")
    }
    assert sources <= names
    assert not any("__pycache__" in name for name in names)
    assert size < 2**20


def test_what_users_put_into_the_checkout_stays_there(tmp_path):
    checkout = tmp_path / "checkout"
    kept = {"jobs/train.py", "lstmfcn/cli/main.py", "lstmfcn/distributed/train.py"}
    others = {"a", "train.csv", "data/part-000.csv", "runs/first/model/model.json", "tests/jobs/x"}
    hidden = {".env", ".git/HEAD", ".venv/bin/python", "lstmfcn/__pycache__/cli.pyc"}
    for name in kept | others | hidden:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(name)
    shutil.copy(REPOSITORY / ".rayignore", checkout)
    assert uploaded(checkout, tmp_path)[0] == kept


def test_the_share_is_mounted_so_that_each_machine_sees_new_files_at_once():
    """Else the wish to stop is not seen for up to a minute (nfs(5), lookupcache)."""
    commands = yaml.safe_load(TEXTS["aws"])["initialization_commands"]
    (mount,) = [line for line in commands if "mount -t nfs4" in line]
    options = mount.split("-o ")[1].split()[0].split(",")
    assert "lookupcache=pos" in options
