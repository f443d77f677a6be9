import asyncio
import threading

import numpy as np
import pytest

from lstmfcn.errors import ModelError
from lstmfcn.inference.predictor import Classifier
from serve_app.errors import RequestError
from serve_app.models import NO_VERSION, Models
from tests.helpers.small_models import N_TIMEPOINTS, tiny_rows

VALUES = tiny_rows(n_rows=3).values


async def probabilities(models, name="default"):
    model = await models.get(name)
    return await model.batcher.predict(VALUES)


def test_the_first_model_is_loaded_at_once_and_others_on_demand(saved):
    directories = {"a": saved("1", seed=1), "b": saved("2", seed=2)}

    async def ask():
        models = Models()
        await models.replace(directories)
        assert models.names == ["a", "b"]
        for name, directory in directories.items():
            expected = Classifier.load(directory).predict_proba(VALUES)
            assert np.array_equal(await probabilities(models, name), expected)
        with pytest.raises(RequestError) as refused:
            await models.get("c")
        assert refused.value.status == 404
        assert "use one of a, b" in str(refused.value)

    asyncio.run(ask())


def test_a_model_is_replaced_in_place(saved):
    first, second = saved("1", seed=1), saved("2", seed=2)

    async def swap():
        models = Models()
        await models.replace({"default": first})
        before = await models.get("default")
        begun = asyncio.create_task(before.batcher.predict(VALUES))
        await models.replace({"default": second})
        after = await models.get("default")
        assert after.version != before.version
        assert np.array_equal(await begun, Classifier.load(first).predict_proba(VALUES))
        expected = Classifier.load(second).predict_proba(VALUES)
        assert np.array_equal(await probabilities(models), expected)
        await models.replace({"default": second})
        assert (await models.get("default")).version == after.version

    asyncio.run(swap())


def damage_weights(saved, tmp_path):
    path = tmp_path / saved("broken") / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    return "broken"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (damage_weights, "its checksum differs"),
        (lambda *_: "nowhere", "found no readable model.json"),
        (lambda saved, _: saved("other", kind="binary"), "found a model with other labels than"),
    ],
    ids=["damaged", "missing", "other labels"],
)
def test_a_broken_model_is_refused_and_the_earlier_one_stays(saved, tmp_path, broken, message):
    first = saved("1")
    second = str(tmp_path / broken(saved, tmp_path))

    async def swap():
        models = Models()
        await models.replace({"default": first})
        version = (await models.get("default")).version
        with pytest.raises(ModelError, match=message):
            await models.replace({"default": second})
        assert (await models.get("default")).version == version

    asyncio.run(swap())


def test_the_model_not_used_for_longest_is_unloaded(saved):
    directories = {name: saved(name) for name in "abc"}

    async def ask():
        models = Models(max_loaded=2)
        await models.replace(directories)
        kept = await models.get("a")
        first_b = await models.get("b")
        assert await models.get("a") is kept
        await models.get("c")  # b leaves
        assert await models.get("a") is kept
        assert await models.get("b") is not first_b

    asyncio.run(ask())


def test_simultaneous_requests_load_a_model_once(saved):
    directories = {"a": saved("a"), "b": saved("b")}

    async def ask():
        models = Models()
        await models.replace(directories)
        found = await asyncio.gather(*(models.get("b") for _ in range(5)))
        assert len({id(model) for model in found}) == 1

    asyncio.run(ask())


def test_an_unloaded_model_keeps_its_columns(saved, caplog):
    a, b = saved("a"), saved("b")

    async def ask():
        models = Models(max_loaded=1)
        await models.replace({"a": a, "b": b})
        await models.get("b")  # a leaves
        saved("a", kind="binary")
        for _ in range(3):
            with pytest.raises(RequestError) as refused:
                await models.get("a")
            assert refused.value.status == 503
            assert int(refused.value.headers["Retry-After"]) >= 1
        (split,) = [state for state in models.states() if state.served != state.wanted]
        assert (split.name, split.served) == ("a", NO_VERSION)
        assert split.wanted == Classifier.load(a).artifact.sha256[:12]
        assert (await models.get("b")).name == "b"
        with pytest.raises(ModelError, match="other labels than the one that is served"):
            await models.replace({"a": a, "b": b})
        await models.replace({"b": b})  # a is served no longer
        await models.replace({"a": a, "b": b})
        assert (await models.get("a")).version == split.wanted
        assert {state.served == state.wanted for state in models.states()} == {True}

    asyncio.run(ask())
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "a: found a model with other labels" in errors[0].getMessage()


def test_a_refused_model_is_read_again_later(saved, monkeypatch):
    monkeypatch.setattr("serve_app.models._RETRY_AFTER_S", 0.0)
    a, b = saved("a"), saved("b")

    async def ask():
        models = Models(max_loaded=1)
        await models.replace({"a": a, "b": b})
        await models.get("b")  # a leaves
        saved("a", kind="binary")
        with pytest.raises(RequestError):
            await models.get("a")
        saved("a", seed=5)
        version = (await models.get("a")).version
        assert [state for state in models.states() if state.wanted != state.served] == []
        assert version == Classifier.load(a).artifact.sha256[:12]

    asyncio.run(ask())


@pytest.mark.parametrize("fault", [ValueError("7 means"), KeyError("metrics"), RuntimeError("x")])
def test_any_loading_error_becomes_a_model_error(saved, monkeypatch, fault):
    first, second = saved("1"), saved("2", seed=2)

    def compute(*_):
        raise fault

    async def swap():
        models = Models()
        await models.replace({"default": first})
        before = await models.get("default")
        with monkeypatch.context() as patched:
            patched.setattr(Classifier, "predict_validated", compute)
            with pytest.raises(ModelError, match=f"{second}: found a model that cannot predict"):
                await models.replace({"default": second})
        assert await models.get("default") is before

    asyncio.run(swap())


def test_a_vanished_model_is_unavailable(saved, tmp_path):
    async def ask():
        models = Models()
        await models.replace({"a": saved("a"), "b": str(tmp_path / "gone")})
        with pytest.raises(RequestError) as refused:
            await models.get("b")
        assert refused.value.status == 503
        assert str(tmp_path) not in str(refused.value)

    asyncio.run(ask())


def test_steps_are_observed(saved):
    seen = []

    async def ask():
        models = Models(observe=lambda name, rows: seen.append((name, rows)))
        await models.replace({"a": saved("a")})
        model = await models.get("a")
        await model.batcher.predict(np.zeros((200, N_TIMEPOINTS), dtype=np.float32))

    asyncio.run(ask())
    assert seen == [("a", 128), ("a", 72)]


def test_a_model_loaded_before_a_replacement_is_not_kept(saved, monkeypatch):
    directories = {name: saved(name) for name in ("first", "second")}
    load, begun, go_on = Classifier.load, threading.Event(), threading.Event()

    def slow(directory, precision, device):
        found = load(directory, precision, device)
        if directory.name == "second":
            begun.set()
            assert go_on.wait(20)
        return found

    async def overtake():
        models = Models()
        await models.replace(directories)
        monkeypatch.setattr(Classifier, "load", slow)
        loading = asyncio.create_task(models.get("second"))
        await asyncio.to_thread(begun.wait, 20)
        await models.replace(directories)  # the second model's directory may hold another by now
        go_on.set()
        assert (await loading).name == "second"
        assert [state.name for state in models.states()] == ["first"]
        assert await models.get("second") is not await loading

    asyncio.run(overtake())


def test_a_model_that_cannot_be_read_is_unavailable(saved, monkeypatch):
    directories = {name: saved(name) for name in ("first", "second")}

    def fail(*_):
        raise OSError("gone")

    async def ask():
        models = Models()
        await models.replace(directories)
        monkeypatch.setattr(Classifier, "load", fail)
        with pytest.raises(RequestError) as refused:
            await models.get("second")
        assert refused.value.status == 503

    asyncio.run(ask())
