"""`serve deploy serve_app/config.yaml` on a Ray that runs: changes under load, scaling, metrics."""

import json
import urllib.request
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lstmfcn.inference.predictor import Classifier
from tests.helpers.endpoints import (
    LINES,
    Deployed,
    alone_by_version,
    clients,
    cpu_seconds,
    is_near,
    needs_haproxy,
    steady_load,
)
from tests.helpers.killing import wait_until
from tests.helpers.small_models import tiny_artifact

pytestmark = needs_haproxy


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Three models, by their versions."""
    found = {}
    for seed in (1, 2, 3):
        folder = tmp_path_factory.mktemp("model")
        tiny_artifact(seed=seed).save(folder)
        found[Classifier.load(folder).artifact.sha256[:12]] = folder
    return found


@pytest.fixture(scope="module")
def deployed(models, tmp_path_factory):
    """The first model, from one to three replicas."""
    endpoint = Deployed(tmp_path_factory.mktemp("deploy"), cpus=4)
    try:
        endpoint.deploy(next(iter(models.values())))
        yield endpoint
    finally:
        endpoint.stop()


def test_what_changes_takes_over_without_a_lost_answer(deployed, models):
    expected = alone_by_version(models.values())
    first, second, _ = models
    before = deployed.replicas()
    with steady_load(deployed, LINES, retries=0) as answers:
        wait_until(lambda: len(answers) > 100, "answers")
        deployed.deploy(models[second])
        wait_until(lambda: deployed.described()["version"] == second, "the second model")
        assert deployed.replicas() == before
        deployed.deploy(models[second], max_rows=99)
        wait_until(lambda: deployed.described()["max_rows"] == 99, "the other limit")
        wait_until(lambda: not set(before) & set(deployed.replicas()), "the end of those before")
        begun = len(answers)
        wait_until(lambda: len(answers) > begun + 200, "answers")
    assert [answer for answer in answers if answer[1] is None] == []
    assert {version for _, version, _ in answers[:50]} == {first}
    assert {version for _, version, _ in answers[-50:]} == {second}
    for index, version, answer in answers:
        assert is_near(answer, expected[version][index])


def test_replicas_are_added_under_load(deployed):
    assert len(deployed.replicas()) == 1
    with clients([lambda: deployed.ask("\n".join(LINES * 2))] * 48):
        wait_until(lambda: len(deployed.replicas()) > 1, "another replica", 60)


def test_prometheus_finds_requests_rows_and_refusals(deployed, models):
    version = list(models)[2]
    deployed.deploy(models[version], max_rows=99)
    wait_until(lambda: deployed.described()["version"] == version, "the third model")
    assert deployed.ask("\n".join(LINES[:7]))[1]["x-model-version"] == version
    assert deployed.ask("5,1")[0] == 400

    def counted():
        found = Counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{deployed.metrics_port}/metrics") as answer:
            for family in text_string_to_metric_families(answer.read().decode()):
                for sample in family.samples:
                    if sample.labels.get("version") in (None, version):
                        found[sample.name, sample.labels.get("status")] += sample.value
        return {
            name: found[f"ray_lstmfcn_{name}", status]
            for name, status in (
                ("requests_total", None),
                ("rows_total", None),
                ("request_seconds_count", None),
                ("refused_total", "400"),
            )
        }

    right = {"requests_total": 1, "rows_total": 7, "request_seconds_count": 1, "refused_total": 1}
    wait_until(lambda: counted() == right, "all of it", 60, 1)


def test_the_surplus_is_refused_and_told_when_to_come_again(deployed, models):
    version = list(models)[2]
    (expected,) = alone_by_version([models[version]]).values()
    deployed.deploy(models[version], replicas=1, max_queued_rows=40)
    answers = []
    with clients([lambda: answers.append(deployed.ask("\n".join(LINES[:10])))] * 24):
        wait_until(lambda: {status for status, _, _ in answers} >= {200, 503}, "a refusal", 60)
    assert {status for status, _, _ in answers} == {200, 503}
    for status, headers, answer in answers:
        if status == 200:
            header, row, *_ = answer.splitlines(keepends=True)
            assert is_near(header + row, expected[0])
        else:
            assert int(headers["retry-after"]) >= 1
            assert "too many rows are waiting" in json.loads(answer)["message"]
    assert [deployed.ask(line)[0] for line in LINES] == [200] * len(LINES)


def test_replicas_on_two_machines_answer_and_the_loss_of_one_loses_no_answer(deployed, models):
    version = list(models)[1]
    (expected,) = alone_by_version([models[version]]).values()
    with deployed.joined("127.0.0.2") as second:
        deployed.deploy(models[version], replicas=2, replicas_per_node=1)
        wait_until(lambda: deployed.described()["version"] == version, "the second model")
        nodes = (None, second)
        wait_until(lambda: [len(deployed.replicas(node)) for node in nodes] == [1, 1], "both", 120)
        idle = {pid: cpu_seconds(pid) for node in nodes for pid in deployed.replicas(node)}
        with steady_load(deployed, LINES) as answers:
            wait_until(
                lambda: all(cpu_seconds(pid) > idle[pid] + 0.2 for pid in idle), "work for both"
            )
            second.kill()
            begun = len(answers)
            wait_until(lambda: len(answers) > begun + 200, "answers")
    assert [answer for answer in answers if answer[1] is None] == []
    for index, _, answer in answers:
        assert is_near(answer, expected[index])
