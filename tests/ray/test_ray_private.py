"""The two wishes for which Ray has no public call: this Ray grants them, and another need not."""

import logging

import pytest
import ray
from ray import serve

from lstmfcn.distributed import ray_private
from lstmfcn.distributed.ray_private import find_autoscaler_limits, name_version


@serve.deployment
class Replica:
    """Nothing."""


@pytest.mark.usefixtures("cluster")
def test_this_ray_tells_that_it_has_no_autoscaler(caplog):
    assert find_autoscaler_limits() is None
    assert not caplog.messages


def test_this_ray_takes_a_version_and_keeps_the_replicas_of_one_that_is_the_same(caplog):
    deployment = name_version(Replica, {"num_replicas": 2}, "one")
    assert deployment.num_replicas == 2
    assert deployment.version == "one"
    assert not caplog.messages


def test_another_ray_without_them_is_told_in_a_line(monkeypatch, caplog):
    monkeypatch.setattr(ray_private, "ray", type(ray)("ray"))
    ray_private.ray.__version__ = "3.1"

    class Public:
        def options(self, num_replicas):
            return num_replicas

    with caplog.at_level(logging.WARNING):
        assert find_autoscaler_limits() is None
        assert name_version(Public(), {"num_replicas": 2}, "one") == 2
    assert caplog.messages == [
        "Ray 3.1 does not tell what its autoscaler may start: only machines that are up count",
        "Ray 3.1 takes no version of a deployment: new models start new replicas",
    ]
