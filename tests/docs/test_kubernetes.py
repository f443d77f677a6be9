"""kubernetes/ is true to KubeRay's published fields, to this package and to the guide."""

import copy
import fnmatch
import json
import re
import shlex
import tomllib
from importlib.metadata import requires

import pytest
import yaml
from packaging.requirements import Requirement
from ray.serve.schema import ServeDeploySchema

from lstmfcn.cli.main import app
from serve_app.app import Arguments
from tests.helpers.checkout import REPOSITORY
from tests.helpers.kubernetes_schemas import validator_of

FOLDER = REPOSITORY / "kubernetes"
TEXTS = {path.name: path.read_text() for path in sorted(FOLDER.iterdir())}
MANIFESTS = {name: yaml.safe_load(text) for name, text in TEXTS.items() if name.endswith(".yaml")}
JOBS = ("train.yaml", "tune.yaml")
CLUSTERS = (*JOBS, "serve.yaml")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
REQUIRED = {r.name: r for r in map(Requirement, PROJECT["dependencies"])}


def cluster_of(name):
    spec = MANIFESTS[name]["spec"]
    return spec.get("rayClusterSpec") or spec["rayClusterConfig"]


def groups_of(name):
    cluster = cluster_of(name)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pods_of(name):
    return [group["template"]["spec"] for group in groups_of(name)]


def entrypoint_of(name):
    """The command of a job and its words, which its command line takes."""
    program, command, *words = shlex.split(MANIFESTS[name]["spec"]["entrypoint"])
    assert program in PROJECT["scripts"]
    app[command].parse_args(words, exit_on_error=False, print_error=False)
    return command, words


def flag(words, name):
    return words[words.index(name) + 1]


def errors_of(manifest):
    found = validator_of(manifest["kind"]).iter_errors(manifest)
    return [f"{error.json_path}: {error.message}" for error in found]


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_valid(name):
    assert errors_of(MANIFESTS[name]) == []


@pytest.mark.parametrize("kind", ["RayJob", "RayService", "PersistentVolumeClaim"])
def test_the_schemas_refer_to_what_is_there_and_know_all_fields(kind):
    """A misspelt name of a type in kuberay.yaml would only be found where a manifest uses it."""
    definitions = validator_of(kind).schema["$defs"]
    text = json.dumps(definitions)
    assert set(re.findall(r'"#/\$defs/([^"]+)"', text)) <= definitions.keys()
    objects = [d for d in definitions.values() if "properties" in d]
    assert len(objects) > 100
    assert all(d["additionalProperties"] is False for d in objects)


WORKER = "spec.rayClusterSpec.workerGroupSpecs.0"
CONTAINER = f"{WORKER}.template.spec.containers.0"
WRONG = {
    "spec.shutdownAfterJobFinish": (True, "'shutdownAfterJobFinish' was unexpected"),
    "spec.rayClusterSpec.authOptions.mod": ("token", "'mod' was unexpected"),
    f"{WORKER}.maxReplica": (2, "'maxReplica' was unexpected"),
    f"{CONTAINER}.volumeMount": ([], "'volumeMount' was unexpected"),
    "metadata.label": ({}, "'label' was unexpected"),
    "apiVersion": ("ray.io/v1alpha1", "'ray.io/v1' was expected"),
    "spec.backoffLimit": ("2", "'2' is not of type 'integer'"),
    "spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus": (0, "0 is not of type 'string'"),
    "spec.rayClusterSpec.authOptions.mode": ("tokens", "'tokens' is not one of"),
    "spec.submissionMode": ("HttpMode", "'HttpMode' is not one of"),
    "spec.rayClusterSpec.rayVersion": (2.6, "2.6 is not of type 'string'"),
    f"{CONTAINER}.securityContext.runAsNonRoot": ("yes", "'yes' is not of type 'boolean'"),
    f"{CONTAINER}.resources.limits.memory": ("16 GB", "is not valid under any"),
    "spec.rayClusterSpec.headGroupSpec.template": (None, "'template' is a required property"),
    f"{WORKER}.groupName": (None, "'groupName' is a required property"),
    f"{CONTAINER}.name": (None, "'name' is a required property"),
    f"{CONTAINER}.volumeMounts.0.mountPath": (None, "'mountPath' is a required property"),
}


@pytest.mark.parametrize("place", WRONG)
def test_what_kuberay_does_not_know_is_refused(place):
    """A value of None removes the field."""
    value, message = WRONG[place]
    wrong = copy.deepcopy(MANIFESTS["train.yaml"])  # aliases are the same object: one error or two
    *path, last = place.split(".")
    part = wrong
    for word in path:
        part = part[int(word) if word.isdigit() else word]
    if value is None:
        del part[last]
    else:
        part[last] = value
    errors = errors_of(wrong)
    assert errors
    assert all(message in error for error in errors), errors


def test_a_service_is_checked_as_a_service():
    wrong = copy.deepcopy(MANIFESTS["serve.yaml"])
    wrong["spec"] |= {"serveConfigV2": {}, "entrypoint": "serve run"}
    wrong_type, unexpected = sorted(errors_of(wrong), key=len)
    assert "'entrypoint' was unexpected" in unexpected
    assert "{} is not of type 'string'" in wrong_type


@pytest.mark.parametrize("name", JOBS)
def test_the_command_of_a_job_exists_and_its_folders_are_on_the_volume(name):
    command, words = entrypoint_of(name)
    assert command == name.removesuffix(".yaml")
    paths = [words[0], flag(words, "--validation"), flag(words, "--output")]
    (mount,) = cluster_of(name)["workerGroupSpecs"][0]["template"]["spec"]["containers"][0][
        "volumeMounts"
    ]
    assert all(path.startswith(f"{mount['mountPath']}/") for path in paths)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_removes_its_cluster_and_resumes_when_it_is_tried_again(name):
    spec = MANIFESTS[name]["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["backoffLimit"] == 0 or "--resume" in entrypoint_of(name)[1]


def test_the_workers_of_a_training_are_up_when_it_starts_and_have_room():
    """Ray does not tell what KubeRay's autoscaler may start, so only those that are up count."""
    _, words = entrypoint_of("train.yaml")
    (group,) = cluster_of("train.yaml")["workerGroupSpecs"]
    cpus = group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]
    each = int(flag(words, "--cpus-per-worker"))
    assert group["minReplicas"] * (cpus // each) >= int(flag(words, "--num-workers"))


def test_a_sweep_and_the_endpoint_have_room_at_the_most_and_begin_with_a_worker():
    _, words = entrypoint_of("tune.yaml")
    config = yaml.safe_load(MANIFESTS["serve.yaml"]["spec"]["serveConfigV2"])
    (deployment,) = config["applications"][0]["deployments"]
    at_most = {
        "tune.yaml": int(flag(words, "--max-concurrent")),
        "serve.yaml": deployment["autoscaling_config"]["max_replicas"]
        * deployment["ray_actor_options"]["num_cpus"],
    }
    for name, needed in at_most.items():
        (group,) = cluster_of(name)["workerGroupSpecs"]
        cpus = group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]
        assert cluster_of(name)["enableInTreeAutoscaling"] is True
        assert 1 <= group["minReplicas"] <= group["replicas"] < group["maxReplicas"]
        assert group["maxReplicas"] * cpus == needed


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_takes_its_token_from_a_secret_and_is_not_public(name):
    cluster = cluster_of(name)
    assert cluster["authOptions"] == {"mode": "token", "secretName": "lstmfcn-ray"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert "serveService" not in MANIFESTS[name]["spec"]  # it would be of the type of the head's
    assert not re.search(r"hostPath|hostNetwork|hostPort|NodePort|LoadBalancer", TEXTS[name])


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_pod_is_not_root_and_has_what_it_asks_for(name):
    for pod in pods_of(name):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == image_user()
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"] == container["resources"]["limits"]
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        assert {mount["name"] for mount in container.get("volumeMounts", ())} == set(volumes)
        if "shared" in volumes:
            claim = volumes["shared"]["persistentVolumeClaim"]["claimName"]
            assert claim == MANIFESTS["volume.yaml"]["metadata"]["name"]


def test_the_volume_can_be_mounted_by_several_machines():
    assert MANIFESTS["volume.yaml"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_endpoint_is_that_of_serve_app():
    config = yaml.safe_load(MANIFESTS["serve.yaml"]["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(config)
    expected = yaml.safe_load((REPOSITORY / "serve_app" / "config.yaml").read_text())
    assert config["http_options"].pop("host") == "0.0.0.0"
    assert expected["http_options"].pop("host") == "127.0.0.1"
    (application,), (other,) = config["applications"], expected["applications"]
    Arguments.model_validate(application["args"])
    (worker,) = pods_of("serve.yaml")[1:]
    (container,) = worker["containers"]
    token, name = application["args"].pop("token_file").rsplit("/", 1)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert name == "auth_token"
    assert mounts[token]["name"] == "token"
    service = f"{MANIFESTS['serve.yaml']['metadata']['name']}-serve-svc"
    assert application["args"].pop("allow_hosts") == [service]
    models, others = (
        each["deployments"][0]["user_config"].pop("models") for each in (application, other)
    )
    assert models.keys() == others.keys()
    trained = flag(entrypoint_of("train.yaml")[1], "--output")
    assert models["default"] == f"{trained}/model"
    assert "/shared" in mounts
    assert config == expected


def test_a_worker_of_the_endpoint_is_ready_when_its_proxy_answers():
    config = yaml.safe_load(MANIFESTS["serve.yaml"]["spec"]["serveConfigV2"])
    port = config["http_options"]["port"]
    (container,) = pods_of("serve.yaml")[1]["containers"]
    assert container["ports"] == [{"name": "serve", "containerPort": port}]
    assert container["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": port}


def instructions():
    """The Dockerfile's instructions, each a word and the rest of its line."""
    lines = re.sub(r"^#.*\n", "", TEXTS["Dockerfile"], flags=re.MULTILINE).replace("\\\n", "")
    return [line.split(maxsplit=1) for line in lines.splitlines() if line.strip()]


def image_user():
    (user,) = (rest for word, rest in instructions() if word == "USER")
    assert re.search(rf"useradd .*--uid {user} ", TEXTS["Dockerfile"])
    return int(user)  # a name does not tell Kubernetes that it is not root


def copied():
    return [name for word, rest in instructions() if word == "COPY" for name in rest.split()[:-1]]


def test_what_the_image_copies_is_there_and_not_ignored_and_enough_to_install():
    assert all((REPOSITORY / name).exists() for name in copied())
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert [rule[1:] for rule in rules[1:] if rule.startswith("!")] == copied()
    needed = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml"}
    setuptools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert needed | {name.split(".")[0] for name in setuptools["packages"]} <= set(copied())
    assert not any(fnmatch.fnmatch(name, "*token*") for name in copied())


def test_the_image_has_the_versions_that_the_package_requires():
    runs = " ".join(rest for word, rest in instructions() if word == "RUN")
    (torch,) = re.findall(r'"(torch[^"]*)"', runs)
    assert Requirement(torch) == Requirement(f"torch{REQUIRED['torch'].specifier}")
    ((_, base),) = [(word, rest) for word, rest in instructions() if word == "FROM"]
    python = re.fullmatch(r"python:(\d+\.\d+)-slim", base)[1]
    assert python in PROJECT["requires-python"]
    constraints = (REPOSITORY / "constraints.txt").read_text()
    (ray,) = re.findall(r"^ray==(.*)$", constraints, re.MULTILINE)
    assert "--constraint constraints.txt ." in runs
    assert REQUIRED["ray"].specifier.contains(ray)
    assert {cluster_of(name)["rayVersion"] for name in CLUSTERS} == {ray}


def test_the_image_has_what_the_dashboard_needs():
    """KubeRay submits jobs and applications through it; pyproject.toml asks for ray[serve]."""
    of_extra = {
        extra: {
            requirement.name
            for requirement in map(Requirement, requires("ray"))
            if requirement.marker and requirement.marker.evaluate({"extra": extra})
        }
        for extra in ("default", "serve")
    }
    assert "serve" in REQUIRED["ray"].extras
    assert of_extra["default"] <= of_extra["serve"]


def test_all_manifests_have_one_image_and_no_secret():
    images = {c["image"] for name in CLUSTERS for pod in pods_of(name) for c in pod["containers"]}
    (image,) = images
    page = (REPOSITORY / "docs" / "how-to" / "clusters.md").read_text()
    assert f"--tag {image} " in page
    assert f"docker push {image} " in page
    assert f"--tag {image} " in TEXTS["Dockerfile"]
    for name, text in TEXTS.items():
        assert not re.search(r"kind: Secret|stringData|AWS_|PASSWORD|[0-9a-f]{24}", text), name


def commands_of_the_guide():
    page = (REPOSITORY / "docs" / "how-to" / "clusters.md").read_text()
    (section,) = re.findall(r"^## Kubernetes\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    five, asking = re.findall(r"^```text\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return five.replace("\\\n", "").splitlines(), asking


def test_the_guide_has_five_commands_that_name_what_is_there():
    commands, asking = commands_of_the_guide()
    assert [line.rpartition("# ")[2] for line in commands] == list("12345")
    named = re.findall(r"--file(?:name)? (\S+)", " ".join(commands))
    assert named == [f"kubernetes/{name}" for name in ("Dockerfile", "volume.yaml", *CLUSTERS[::2])]
    secrets = re.findall(r"for name in (.*?);", commands[1])[0].split()
    assert secrets == [
        cluster_of("train.yaml")["authOptions"]["secretName"],
        pods_of("serve.yaml")[1]["volumes"][1]["secret"]["secretName"],
    ]
    assert "--from-file=auth_token=" in commands[1]  # the key that KubeRay and token_file name
    train, serve = (MANIFESTS[name]["metadata"]["name"] for name in ("train.yaml", "serve.yaml"))
    assert f"rayjob/{train} " in commands[3]
    assert f"job/{train} " in commands[3]
    assert f"rayservice/{serve} " in commands[4]
    assert f"service/{serve}-serve-svc 8000:8000" in asking
    assert f"secret {secrets[1]} " in asking
