import copy
import math
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from lstmfcn.data.dataset import Dataset
from lstmfcn.errors import TrainingError
from lstmfcn.inference.metrics import compute_metrics
from lstmfcn.model.network import LSTMBranch
from lstmfcn.model.task import Multilabel
from lstmfcn.training.batches import Batch, EvaluationLoader, RowsTaken, WorkerContext, make_loader
from lstmfcn.training.checkpoints import Position
from lstmfcn.training.collective import SingleProcess
from lstmfcn.training.loop import (
    choose_precision,
    evaluate,
    fit,
    make_step,
    train_epoch,
)
from lstmfcn.training.state import TrainState, rank_epoch, set_up
from tests.helpers.small_models import (
    KINDS,
    CutError,
    cut_off,
    newest,
    saving,
    tiny_hyperparameters,
    tiny_network,
    tiny_rows,
    tiny_schema,
    tiny_task,
    trained_looking,
)

CPU = torch.device("cpu")


class Fitted(NamedTuple):
    """A model with its last weights, what the fit left, and every epoch's report."""

    model: nn.Module
    trained: TrainState
    history: list


def fitted(
    kind="multiclass",
    rows=None,
    valid=None,
    seed=0,
    history=None,
    changes=None,
    workers=None,
    start=None,
    checkpoints=None,
):
    """A model fitted to the tiny problem."""
    changes = {"seed": seed, **(changes or {})}
    h = tiny_hyperparameters(kind, **changes)
    model = tiny_network(kind, **changes)
    batches = make_loader(rows or tiny_rows(kind), h.batch_size, seed)
    validation = None if valid is None else EvaluationLoader(valid)
    history = [] if history is None else history
    training = TrainState(model, h.lr, workers)
    if start:
        training.restore(*start)
    fit(training, tiny_task(kind), batches, validation, h, history.append, checkpoints)
    return Fitted(model, training, history)


def with_nan(rows):
    values = rows.values.copy()
    values[5, 3] = np.nan
    return Dataset(values, rows.labels)


def with_random_labels(rows):
    return Dataset(rows.values, np.random.default_rng(9).permutation(rows.labels))


@pytest.mark.parametrize("kind", KINDS)
def test_a_separable_problem_is_learned(kind):
    _, trained, history = fitted(kind, valid=tiny_rows(kind, seed=1), changes={"epochs": 30})
    first, best = history[0], trained.best
    assert best["valid_accuracy"] > 0.95
    assert best["valid_loss"] < 0.5 * first["valid_loss"]
    assert best["train_loss"] < 0.5 * first["train_loss"]


def test_the_best_epoch_has_the_least_validation_loss_and_its_weights_are_kept():
    valid = with_random_labels(tiny_rows(seed=1))
    model, trained, history = fitted(valid=valid, changes={"epochs": 15})
    losses = [metrics["valid_loss"] for metrics in history]
    assert trained.best is history[int(np.argmin(losses))]
    assert trained.best["epoch"] < 15
    last = evaluate(model, tiny_task(), EvaluationLoader(valid))
    assert last.loss / last.rows == pytest.approx(losses[-1])
    model.load_state_dict(trained.best_weights)
    best = evaluate(model, tiny_task(), EvaluationLoader(valid))
    assert best.loss / best.rows == pytest.approx(min(losses))


def test_without_validation_the_best_epoch_has_the_least_training_loss():
    _, trained, history = fitted(changes={"epochs": 12, "lr": 0.5})
    losses = [metrics["train_loss"] for metrics in history]
    assert trained.best is history[int(np.argmin(losses))]


def test_of_equal_losses_the_first_epoch_is_kept_and_later_steps_leave_it_alone():
    model = nn.Linear(1, 1)
    trained, before = TrainState(model, 0.1), model.weight.item()
    first = {"epoch": 1, "train_loss": 0.5, "valid_loss": 1.0}
    second = {"epoch": 2, "train_loss": 0.1, "valid_loss": 1.0}
    trained.finish_epoch(first)
    nn.init.constant_(model.weight, 7.0)
    trained.finish_epoch(second)
    assert trained.best is first
    assert trained.best_weights["weight"].item() == before
    assert rank_epoch(first, "loss") == rank_epoch(second, "loss") == 1.0


@pytest.mark.parametrize("keep_by", ["loss", "accuracy", "macro_f1", "balanced_accuracy"])
def test_the_kept_epoch_is_the_best_by_what_is_asked_also_after_a_resume(tmp_path, keep_by):
    """Rare classes and a high rate, so that the scores are best in different epochs."""
    rows, valid = tiny_rows(n_rows=60), tiny_rows(n_rows=40, seed=1)
    kept = np.flatnonzero((valid.labels != 2) | (np.arange(40) % 5 == 0))
    valid = Dataset(valid.values[kept], valid.labels[kept])
    changes = {"epochs": 10, "lr": 0.1, "keep_by": keep_by}
    h = tiny_hyperparameters(**changes)
    whole = set_up(rows, tiny_schema(), h)
    history = []
    fit(*whole, EvaluationLoader(valid), h, history.append, saving(tmp_path, 0))
    sign = 1 if keep_by == "loss" else -1
    best = min(history, key=lambda metrics: sign * metrics[f"valid_{keep_by}"])
    assert whole.training.best == best
    position, state = next(
        (position, state) for position, state in saving(tmp_path).load_all() if position.epoch < 10
    )
    again = set_up(rows, tiny_schema(), h)
    again.training.restore(position, state)
    fit(*again, EvaluationLoader(valid), h, lambda _: None)
    assert again.training.best["epoch"] == best["epoch"]
    for name, tensor in whole.training.best_weights.items():
        assert torch.equal(again.training.best_weights[name], tensor), name


@pytest.mark.parametrize("with_validation", [False, True])
def test_an_epoch_is_reported_once_with_the_documented_keys(with_validation):
    valid = tiny_rows(n_rows=9, seed=1) if with_validation else None
    _, _, history = fitted(valid=valid, changes={"epochs": 4})
    keys = {"epoch", "train_loss", "train_accuracy", "lr", "rows", "rows_per_second"}
    keys |= {"seconds", "time"}
    if with_validation:
        keys |= {"valid_loss", "valid_accuracy", "valid_macro_f1", "valid_balanced_accuracy"}
    assert [metrics["epoch"] for metrics in history] == [1, 2, 3, 4]
    for metrics in history:
        assert set(metrics) == keys
        assert {type(value) for value in metrics.values()} <= {int, float}
        assert (metrics["lr"], metrics["rows"]) == (0.01, 48)


def test_multilabel_metrics_have_the_exact_match_beside():
    found = fitted("multilabel", valid=tiny_rows("multilabel", seed=1), changes={"epochs": 1})
    assert {"train_exact_match", "valid_exact_match"} <= set(found.trained.best)


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    first, second, other = (fitted(seed=seed).trained.best_weights for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("where", ["train", "valid"])
def test_a_loss_that_is_not_finite_ends_training(where):
    broken, history = with_nan(tiny_rows()), []
    rows = broken if where == "train" else tiny_rows()
    with pytest.raises(TrainingError) as refusal:
        fitted(rows=rows, valid=broken if where == "valid" else None, history=history)
    assert str(refusal.value) == (
        f"{where}_loss became nan in epoch 1; try a smaller --lr, "
        "or look for values that are far larger than the others"
    )
    assert not history


@pytest.mark.parametrize("kind", ["multiclass", "binary", "multilabel"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_gradients_averaged_over_workers_are_those_of_the_whole_batch(kind, world_size):
    torch.manual_seed(0)
    task = tiny_task(kind)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 12)), LSTMBranch(12, 5, 1, 0.0), nn.Linear(5, task.n_outputs)
    )

    def step(share):
        """The gradients and sums of a single step over 13 rows."""
        training = TrainState(copy.deepcopy(model), 0.0, Workers(share))
        (batch,) = make_loader(tiny_rows(kind, 13), 13, 0, share)(1)
        make_step(training, task)(batch)
        return [parameter.grad for parameter in training.model.parameters()], training.sums

    whole, whole_sums = step(WorkerContext())
    parts = [step(WorkerContext(rank, world_size)) for rank in range(world_size)]
    for i, expected in enumerate(whole):
        total = torch.stack([gradients[i] for gradients, _ in parts]).sum(dim=0)
        torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(sum(sums for _, sums in parts), whole_sums)
    assert whole_sums[3] == 13


def test_a_step_returns_the_sums_of_loss_right_exact_and_rows():
    model = nn.Linear(2, 2, bias=False)
    nn.init.eye_(model.weight)
    logits = torch.tensor([[2.0, -1.0], [3.0, 1.0], [-1.0, 2.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    training = TrainState(model, 0.0)
    make_step(training, Multilabel(2))(Batch(logits, targets, 3))
    sums = training.sums
    losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    assert sums.dtype == torch.float64
    assert sums.tolist() == pytest.approx([losses.mean(dim=1).sum().item(), 3, 1, 3])


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_a_worker_without_rows_takes_part_with_a_gradient_of_zero(kind):
    model = tiny_network(kind).train()
    before = copy.deepcopy(model.state_dict())
    workers = Workers(WorkerContext(1, 2))
    training = TrainState(model, 0.0, workers)
    step = make_step(training, tiny_task(kind))
    step(Batch(torch.empty(0, 12), torch.empty(0), 2))
    n_numbers = sum(parameter.numel() for parameter in model.parameters())
    (exchanged,) = workers.exchanged
    assert torch.equal(exchanged, torch.zeros(n_numbers))
    assert training.sums.tolist() == [0, 0, 0, 0]
    assert all(not parameter.grad.any() for parameter in model.parameters())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_a_checkpoint_tells_what_of_its_epoch_was_trained_on(tmp_path):
    """Also one of before, which counted the rows among its sums alone."""
    training = TrainState(tiny_network(), 0.01, TwoWorkers(0))
    training.position, training.taken = Position(1, 2), RowsTaken(24, 2)
    training.sums[3] = 12.0  # of each of the two workers
    training.save(saving(tmp_path))
    position, state = newest(tmp_path)
    older = {name: value for name, value in state.items() if name != "taken"}
    for found in (state, older):
        again = TrainState(tiny_network(), 0.01, SingleProcess())
        again.restore(position, found)
        assert again.taken == RowsTaken(24, 2)
    again.restore(Position(2), older | {"sums": torch.zeros(4)})
    assert again.taken == RowsTaken()


def test_an_epoch_totals_what_was_trained_on_and_takes_a_step_a_batch():
    model, batches = tiny_network(dropout=0.0).eval(), make_loader(tiny_rows(), 16, 0)
    training = TrainState(model, 0.01, SingleProcess())
    step = make_step(training, tiny_task())
    totals = train_epoch(training, step, batches, seed=0)
    assert model.training
    assert totals.rows == 48
    assert model.fcn.blocks[0].batch_norm.num_batches_tracked == 3


def test_evaluation_weighs_a_short_last_batch_by_its_rows():
    rows, model, task = tiny_rows(n_rows=13), tiny_network(), tiny_task()
    x, targets = torch.tensor(rows.values), torch.tensor(rows.labels)
    whole = evaluate(model, task, [Batch(x, targets, 13)])
    bounds = [(0, 6), (6, 12), (12, 13)]
    parts = evaluate(model, task, [Batch(x[a:b], targets[a:b], b - a) for a, b in bounds])
    assert parts.by_class == whole.by_class
    assert parts[:4] == pytest.approx(whole[:4])
    logits = model.eval()(x)
    loss = nn.functional.cross_entropy(logits, targets).item()
    accuracy = (logits.argmax(dim=1) == targets).float().mean().item()
    found = parts.metrics("valid", task)
    assert (found["valid_loss"], found["valid_accuracy"]) == pytest.approx((loss, accuracy))


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_have_the_scores_by_class_that_evaluate_gives(kind):
    rows, schema = tiny_rows(kind, 90, seed=1), tiny_schema(kind)
    task, model = tiny_task(kind), trained_looking(tiny_network(kind))
    found = evaluate(model, task, EvaluationLoader(rows)).metrics("valid", task)
    with torch.inference_mode():
        probabilities = task.probabilities(model.eval()(torch.tensor(rows.values))).numpy()
    decided = task.predict_labels(probabilities)
    expected = compute_metrics(schema, rows.labels, probabilities, decided)
    assert found["valid_macro_f1"] == pytest.approx(expected["macro_f1"])
    assert found.get("valid_balanced_accuracy") == pytest.approx(expected.get("balanced_accuracy"))
    assert found["valid_accuracy"] == pytest.approx(expected["accuracy"])


def test_scores_by_class_are_zero_where_no_class_occurs():
    task = Multilabel(2)
    assert task.class_metrics((0.0,) * 6) == {"macro_f1": 0.0}


def test_evaluation_changes_no_weight_and_no_statistic():
    model, task = tiny_network().train(), tiny_task()
    before = copy.deepcopy(model.state_dict())
    first = evaluate(model, task, EvaluationLoader(tiny_rows()))
    assert evaluate(model, task, EvaluationLoader(tiny_rows())) == first
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_multilabel_accuracy_is_the_mean_over_labels_beside_the_exact_match():
    model = nn.Linear(3, 3, bias=False)
    nn.init.eye_(model.weight)
    logits = np.array([[1, 1, 1], [1, 1, -1], [-1, -1, -1], [1, -1, 1]], dtype=np.float32)
    labels = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 0, 1]], dtype=np.float32)
    totals = evaluate(model, Multilabel(3), EvaluationLoader(Dataset(logits, labels)))
    found = totals.metrics("valid", Multilabel(3))
    assert found["valid_accuracy"] == pytest.approx((3 + 2 + 0 + 3) / 12)
    assert found["valid_exact_match"] == 0.5


def test_bf16_stays_near_fp32():
    losses = {}
    for precision in ("fp32", "bf16"):
        changes = {"precision": precision, "dropout": 0, "epochs": 10}
        model, trained, history = fitted(valid=tiny_rows(seed=1), changes=changes)
        losses[precision] = [metrics["train_loss"] for metrics in history]
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert trained.best["valid_accuracy"] > 0.9
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1, abs=0.02)


def test_autocast_computes_in_bf16_only_where_asked():
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    for precision, dtype in [("fp32", torch.float32), ("bf16", torch.bfloat16)]:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            assert layer(x).dtype == dtype


def test_precision_is_the_one_asked_for_or_follows_the_device():
    assert choose_precision("fp32", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"
    assert choose_precision("auto", torch.device("meta")) == "fp32"
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    assert choose_precision("auto", CPU) == ("bf16" if native else "fp32")


def test_the_learning_rate_applies():
    slow, fast = (fitted(changes={"epochs": 1, "lr": lr}).model.head.weight for lr in (1e-5, 1e-2))
    start = tiny_network().head.weight
    steps = math.ceil(48 / 16)
    assert 0 < (slow - start).abs().max() <= 1e-5 * steps * 1.1
    assert (fast - start).abs().max() > 1e-3


def fit_until_cut(folder, at, kind, rows, valid, changes):
    """Train with a checkpoint at every look until the cut, in ``history``."""
    history, h = [], tiny_hyperparameters(kind, **changes)
    batches = cut_off(make_loader(rows, h.batch_size, h.seed), at)
    with pytest.raises(CutError):
        fit(
            TrainState(tiny_network(kind, **changes), h.lr),
            tiny_task(kind),
            batches,
            EvaluationLoader(valid),
            h,
            history.append,
            saving(folder, every_s=0),
        )
    return history


def of_24_steps(kind):
    """Training and validation rows, and hyperparameters with which an epoch has 24 steps."""
    changes = {"batch_size": 2, "epochs": 4, "dropout": 0.5}
    return tiny_rows(kind, 48), tiny_rows(kind, 20, seed=1), changes


@cache
def trained_whole(kind):
    """The training that nothing cut off."""
    rows, valid, changes = of_24_steps(kind)
    return fitted(kind, rows=rows, valid=valid, changes=changes)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
@pytest.mark.parametrize("at", [(1, 0), (1, 7), (1, 9), (2, 0), (2, 17), (4, 1), (4, 23)])
def test_a_training_that_was_cut_off_ends_as_if_it_never_was(tmp_path, monkeypatch, kind, at):
    """Cut at any step, it goes on from the last checkpoint, in mid-epoch too, to equal weights."""
    monkeypatch.setattr("lstmfcn.training.loop._STEPS_BETWEEN_CHECKS", 4)
    rows, valid, changes = of_24_steps(kind)
    whole = trained_whole(kind)
    before = fit_until_cut(tmp_path, at, kind, rows, valid, changes)
    start = newest(tmp_path)
    went_on = fitted(kind, rows=rows, valid=valid, changes=changes, start=start)
    done = start[0].epoch if start else 0
    assert (start is None) == (at <= (1, 4))
    assert start is None or tuple(start[0]) == (at[0] - 1, at[1] - at[1] % 4)
    assert_same_weights(went_on, whole)
    losses = [metrics["train_loss"] for metrics in before[:done] + went_on.history]
    assert losses == [metrics["train_loss"] for metrics in whole.history]
    assert went_on.trained.best["epoch"] == whole.trained.best["epoch"]


def assert_same_weights(one, other):
    """The last and the kept weights are equal, bit for bit."""
    for first, second in [
        (one.model.state_dict(), other.model.state_dict()),
        (one.trained.best_weights, other.trained.best_weights),
    ]:
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_end_is_a_checkpoint_from_which_more_epochs_can_be_trained(tmp_path):
    whole = fitted(changes={"epochs": 5})
    fitted(changes={"epochs": 3}, checkpoints=saving(tmp_path, every_s=1e9))
    start = newest(tmp_path)
    assert start[0] == (3, 0)
    assert_same_weights(fitted(changes={"epochs": 5}, start=start), whole)


def test_a_checkpoint_tells_the_precision_to_those_who_are_on_another_machine(tmp_path):
    fitted(changes={"epochs": 1, "precision": "bf16"}, checkpoints=saving(tmp_path))
    assert newest(tmp_path)[1]["precision"] == "bf16"


class Workers(SingleProcess):
    """One of several workers, the others of which have gradients of zero."""

    def __init__(self, share):
        self.rank, self.world_size = share.rank, share.world_size
        self.exchanged = []

    def all_reduce(self, sums):
        self.exchanged.append(sums.clone())
        return sums


class TwoWorkers(SingleProcess):
    """One of two workers, whose buffers and totals the other one has as well."""

    world_size = 2

    def __init__(self, rank):
        self.rank = rank

    def all_reduce(self, totals):
        return 2 * totals

    def all_gather(self, numbers):
        return torch.stack([numbers, 3 * numbers])


def test_batch_norm_statistics_stay_each_workers_own_or_are_averaged_for_other_numbers(tmp_path):
    model = tiny_network()
    training = TrainState(model, 0.01, TwoWorkers(0))
    statistics = model.fcn.blocks[0].batch_norm.running_var
    statistics.fill_(2.0)
    training.save(saving(tmp_path))
    start = newest(tmp_path)
    for workers, expected in [(TwoWorkers(0), 2.0), (TwoWorkers(1), 6.0), (SingleProcess(), 4.0)]:
        TrainState(model, 0.01, workers).restore(*start)
        assert statistics.unique().tolist() == [expected]


def changed(state, path, value):
    """A state with another value at a path; without what stands there, for None."""
    *above, last = path
    inside = copy.deepcopy(state)
    place = inside
    for name in above:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return inside


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(((name,), None) for name in ("model", "optimizer", "buffers", "sums", "seconds")),
        *(((name,), None) for name in ("losses", "best", "best_weights")),
        *(((name,), 3) for name in ("model", "optimizer", "buffers", "sums", "losses", "best")),
        (("model", "head.bias"), None),
        (("model", "head.bias"), torch.zeros(4)),
        (("model", "head.bias"), torch.zeros(3, dtype=torch.int64)),
        (("model", "other"), torch.zeros(3)),
        (("best_weights",), {"head.bias": torch.zeros(3)}),
        (("optimizer", "means"), []),
        (("optimizer", "means", 0), torch.zeros(1)),
        (("optimizer", "steps"), 3),
        (("buffers",), torch.zeros(1, 2)),
        (("buffers",), torch.zeros(0, 2)),
        (("sums",), torch.zeros(7)),
        (("seconds",), "long"),
    ],
)
def test_a_checkpoint_of_another_training_falls_back_to_the_one_before(
    tmp_path, caplog, path, value
):
    checkpoints = saving(tmp_path)
    whole = TrainState(tiny_network(), 0.01)
    whole.save(checkpoints)
    (before, state), position = newest(tmp_path), Position(2)
    checkpoints.save(position, changed(state, path, value))
    training = TrainState(tiny_network(), 0.01)
    training.restore_newest(checkpoints)
    assert training.position == before
    assert "falling back to the one before it" in caplog.text
    checkpoints.save(before, changed(state, path, value))  # now there is none to fall back to
    fresh = TrainState(tiny_network(), 0.01)
    weights = copy.deepcopy(fresh.model.state_dict())
    fresh.restore_newest(checkpoints)
    assert fresh.position == (0, 0)
    assert all(torch.equal(weights[name], own) for name, own in fresh.model.state_dict().items())


def test_a_checkpoint_that_does_not_name_its_precision_is_whole(tmp_path):
    """As those of before precision was kept; nothing that is restored is missing."""
    TrainState(tiny_network(), 0.01).save(saving(tmp_path / "newer"))
    _, state = newest(tmp_path / "newer")
    del state["precision"]
    saving(tmp_path).save(Position(2), state)
    training = TrainState(tiny_network(), 0.01)
    training.restore_newest(saving(tmp_path))
    assert training.position == Position(2)


def test_only_the_first_worker_reports_and_asks_for_checkpoints(tmp_path):
    class Follower(SingleProcess):
        rank = 1

        def broadcast(self, decision):
            assert not decision  # it does not even look
            return False

    stop_file = tmp_path / ".stop"
    stop_file.touch()
    trained = fitted(workers=Follower(), checkpoints=saving(tmp_path, every_s=0))
    assert trained.history == []
    assert newest(tmp_path) is None
    assert trained.trained.best


def test_the_cosine_schedule_falls_from_lr_and_survives_a_cut(tmp_path):
    changes = {"epochs": 4, "schedule": "cosine"}
    whole = fitted(changes=changes)
    rates = [metrics["lr"] for metrics in whole.history]
    assert rates == pytest.approx(
        [0.01, 0.01 * (1 + 0.5**0.5) / 2, 0.005, 0.01 * (1 - 0.5**0.5) / 2]
    )
    fit_until_cut(tmp_path, (3, 1), "multiclass", tiny_rows(), tiny_rows(seed=1), changes)
    start = newest(tmp_path)
    assert_same_weights(
        fitted(changes=changes, start=start, valid=tiny_rows(seed=1)),
        fitted(changes=changes, valid=tiny_rows(seed=1)),
    )
