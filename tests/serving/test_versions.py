"""The version of a deployment, for which Ray has no public call: this Ray grants it."""

import logging

from ray import serve

from serve_app.app import name_version


@serve.deployment
class Replica:
    """Nothing."""


def test_this_ray_takes_a_version_and_keeps_the_replicas_of_one_that_is_the_same(caplog):
    deployment = name_version(Replica, {"num_replicas": 2}, "one")
    assert deployment.num_replicas == 2
    assert deployment.version == "one"
    assert not caplog.messages


def test_another_ray_that_takes_none_is_told_in_a_line(caplog):
    class Public:
        def options(self, num_replicas):
            return num_replicas

    with caplog.at_level(logging.WARNING):
        assert name_version(Public(), {"num_replicas": 2}, "one") == 2
    (line,) = caplog.messages
    assert line.endswith("takes no version of a deployment: new models start new replicas")
