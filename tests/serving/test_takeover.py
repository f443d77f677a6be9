import asyncio

import pytest

from lstmfcn.errors import ModelError
from lstmfcn.inference.predictor import Classifier
from serve_app.models import NO_VERSION, Models
from serve_app.takeover import Takeover, can_load_in_new_process

pytestmark = pytest.mark.slow

AGAIN_S = 0.02


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(AGAIN_S)


def version(directory):
    return Classifier.load(directory).artifact.sha256[:12]


def split(models):
    return [state[1:] for state in models.states() if state.served != state.wanted]


def test_a_refused_model_is_served_once_it_can_be_read(saved, tmp_path, caplog):
    first, second = saved("first"), str(tmp_path / "second")

    async def take():
        models = Models()
        takeover = Takeover(models, AGAIN_S)
        await takeover.switch_to({"default": first})
        await takeover.switch_to({"default": second})
        before = await models.get("default")
        await asyncio.sleep(10 * AGAIN_S)
        assert split(models) == [(before.version, NO_VERSION)]
        assert await models.get("default") is before
        saved("second", seed=2)
        await until(lambda: not split(models))
        assert (await models.get("default")).version == version(second)

    asyncio.run(take())
    messages = [record.getMessage() for record in caplog.records]
    assert sum("found no readable model.json" in line for line in messages) == 1
    assert sum("still serving the earlier models" in line for line in messages) == 1
    assert sum("now serving the new models" in line for line in messages) == 1


def test_a_model_with_other_labels_is_never_served(saved):
    first, second = saved("first"), saved("second", kind="binary")

    async def take():
        models = Models()
        takeover = Takeover(models, AGAIN_S)
        await takeover.switch_to({"default": first})
        await takeover.switch_to({"default": second})
        await asyncio.sleep(10 * AGAIN_S)
        assert split(models) == [(version(first), version(second))]
        third = saved("third", seed=3)
        await takeover.switch_to({"default": third})  # what is asked for last counts
        await asyncio.sleep(10 * AGAIN_S)
        assert (await models.get("default")).version == version(third)

    asyncio.run(take())


@pytest.mark.parametrize("fault", [MemoryError, OSError])
def test_a_temporary_fault_of_the_machine_is_survived(saved, monkeypatch, fault):
    first, second = saved("first"), saved("second", seed=2)

    def fail(*_):
        raise fault

    async def take():
        models = Models()
        takeover = Takeover(models, AGAIN_S)
        await takeover.switch_to({"default": first})
        with monkeypatch.context() as patched:
            patched.setattr(Classifier, "load", fail)
            await takeover.switch_to({"default": second})
            await asyncio.sleep(3 * AGAIN_S)
            assert split(models) == [(version_first, NO_VERSION)]
            assert (await models.get("default")).version == version_first
        await until(lambda: models.states()[0].served == version_second)

    version_first, version_second = version(first), version(second)
    asyncio.run(take())


def test_a_replica_is_unhealthy_if_only_it_cannot_load_a_model(saved, tmp_path, monkeypatch):
    first, second = saved("first"), saved("second", seed=2)
    asked = []

    def loads(directories):
        asked.append(dict(directories))
        return can_load_in_new_process(directories)

    def fail(*_):
        raise MemoryError

    async def take():
        models = Models()
        takeover = Takeover(models, AGAIN_S, 5 * AGAIN_S, loads)
        await takeover.switch_to({"default": first})
        await takeover.switch_to({"default": str(tmp_path / "nowhere")})
        await until(lambda: len(asked) == 1)
        await asyncio.sleep(3 * AGAIN_S)
        takeover.refuse_unhealthy()  # nobody can load that
        with monkeypatch.context() as patched:
            patched.setattr(Classifier, "load", fail)
            await takeover.switch_to({"default": second})
            takeover.refuse_unhealthy()
            with pytest.raises(RuntimeError, match="a new process can load the models"):
                await until(takeover.refuse_unhealthy)
            assert (await models.get("default")).version == version_first
        await until(lambda: not split(models))
        takeover.refuse_unhealthy()

    version_first = version(first)
    asyncio.run(take())


def test_a_model_with_other_labels_makes_no_replica_unhealthy(saved):
    first, second = saved("first"), saved("second", kind="binary")

    async def take():
        takeover = Takeover(Models(), AGAIN_S, 2 * AGAIN_S, lambda _: True)
        await takeover.switch_to({"default": first})
        await takeover.switch_to({"default": second})
        await asyncio.sleep(10 * AGAIN_S)
        takeover.refuse_unhealthy()

    asyncio.run(take())


def test_a_replica_without_a_model_does_not_start(tmp_path):
    async def take():
        with pytest.raises(ModelError, match="found no readable"):
            await Takeover(Models()).switch_to({"default": str(tmp_path / "nowhere")})

    asyncio.run(take())
