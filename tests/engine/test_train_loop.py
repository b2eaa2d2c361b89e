"""The loop and the step: order of calls, numbers, state, errors, and what code in the wild does to them."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest
import torch

from drivetrain.engine.hook_base import HookBase
from drivetrain.engine.train_loop import SimpleTrainer, TrainerBase
from drivetrain.errors import NonFiniteLossError, TrainingError
from drivetrain.events import EventStorage, get_event_storage
from drivetrain.testing import tiny_trainer


class Recorder(HookBase):
    """Notes every call with the iteration."""

    def __init__(self, name: str = "", log: list[Any] | None = None) -> None:
        self.name, self.log = name, [] if log is None else log

    def _note(self, point: str) -> None:
        self.log.append((self.name, point, self.trainer.iter) if self.name else (point, self.trainer.iter))

    def before_train(self) -> None:
        self._note("before_train")

    def after_train(self) -> None:
        self._note("after_train")

    def before_step(self) -> None:
        self._note("before_step")

    def after_backward(self) -> None:
        self._note("after_backward")

    def after_step(self) -> None:
        self._note("after_step")


class Counting(TrainerBase):
    """A trainer that assumes only a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def run_step(self) -> None:
        assert self.storage.iter == self.iter
        assert get_event_storage() is self.storage
        self.steps += 1


def test_order_of_calls() -> None:
    log: list[Any] = []
    trainer = Counting()
    trainer.register_hooks([Recorder("a", log), None, Recorder("b", log)])
    trainer.train(3, 5)
    points = [(name, point, i) for i in (3, 4) for point in ("before_step", "after_step") for name in "ab"]
    expected = [("a", "before_train", 3), ("b", "before_train", 3), *points]
    assert log == [*expected, ("a", "after_train", 5), ("b", "after_train", 5)]
    assert (trainer.iter, trainer.start_iter, trainer.max_iter, trainer.steps) == (5, 3, 5, 2)


def test_only_hooks_can_be_registered() -> None:
    with pytest.raises(TrainingError, match="derive its class from HookBase"):
        Counting().register_hooks([object()])  # type: ignore[list-item]


def test_the_trainer_of_a_hook_is_a_weak_proxy() -> None:
    trainer, hook = Counting(), HookBase()
    assert HookBase.trainer is None
    trainer.register_hooks([hook])
    hook.trainer.note = 7
    assert trainer.note == 7  # type: ignore[attr-defined]
    assert isinstance(hook.trainer, weakref.ProxyType)
    reference = weakref.ref(trainer)
    del trainer
    assert reference() is None, "the trainer is freed without the garbage collector"


def test_no_iterations_left_is_said_and_runs_no_step(caplog: pytest.LogCaptureFixture) -> None:
    trainer, hook = Counting(), Recorder()
    trainer.register_hooks([hook])
    with caplog.at_level(logging.WARNING, logger="drivetrain"):
        trainer.train(5, 5)
    assert trainer.steps == 0
    assert [point for point, _ in hook.log] == ["before_train", "after_train"]
    assert "No iteration is left" in caplog.text


class Own(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration("y"), Own("z"), KeyboardInterrupt()])
def test_any_exception_leaves_unchanged_after_every_after_train(error: BaseException) -> None:
    class Stops(HookBase):
        def after_step(self) -> None:
            if self.trainer.iter == 2:
                raise error

    trainer, hook = Counting(), Recorder()
    trainer.register_hooks([Stops(), hook])
    with pytest.raises(type(error)) as caught:
        trainer.train(0, 10)
    assert caught.value is error
    assert hook.log[-1] == ("after_train", 2)
    assert trainer.storage.iter == 2


class FailsAtTheEnd(HookBase):
    def after_train(self) -> None:
        raise RuntimeError("from after_train")


def test_an_error_in_after_train_hides_nothing() -> None:
    class Fails(Counting):
        def run_step(self) -> None:
            raise ValueError("the real one")

    trainer, hook = Fails(), Recorder()
    trainer.register_hooks([FailsAtTheEnd(), hook])
    with pytest.raises(ValueError, match="the real one"):
        trainer.train(0, 1)
    assert hook.log[-1][0] == "after_train"


def test_an_error_in_after_train_alone_is_raised_after_the_others_ran() -> None:
    trainer, hook = Counting(), Recorder()
    trainer.register_hooks([FailsAtTheEnd(), hook])
    with pytest.raises(RuntimeError, match="from after_train"):
        trainer.train(0, 1)
    assert hook.log[-1] == ("after_train", 1)


@pytest.mark.parametrize(("at", "new_max", "steps"), [(3, 5, 5), (3, 2, 4), (3, 20, 20)])
def test_max_iter_assigned_by_a_hook_counts_from_the_next_iteration(at: int, new_max: int, steps: int) -> None:
    class Moves(HookBase):
        def after_step(self) -> None:
            if self.trainer.iter == at:
                self.trainer.max_iter = new_max

    trainer = Counting()
    trainer.register_hooks([Moves()])
    trainer.train(0, 10)
    assert trainer.steps == steps
    assert trainer.iter == trainer.max_iter == trainer.storage.iter == steps


def test_iter_assigned_by_a_hook_ends_the_loop() -> None:
    class Jumps(HookBase):
        def after_step(self) -> None:
            self.trainer.iter = self.trainer.max_iter

    trainer, hook = Counting(), Recorder()
    trainer.register_hooks([Jumps(), hook])
    trainer.train(0, 10)
    assert trainer.steps == 1
    assert hook.log[-1] == ("after_train", 10)


def test_request_stop_ends_after_the_current_step() -> None:
    class Asks(HookBase):
        def after_step(self) -> None:
            if self.trainer.iter == 4:
                self.trainer.request_stop("enough")

    trainer, hook = Counting(), Recorder()
    trainer.register_hooks([Asks(), hook])
    trainer.train(0, 10)
    assert trainer.steps == 5
    assert hook.log[-1] == ("after_train", 5)
    assert trainer.iter == trainer.max_iter == 5


def test_request_stop_never_lengthens_a_training() -> None:
    class AsksAtTheEnd(HookBase):
        def after_train(self) -> None:
            self.trainer.request_stop("too late")

    class LowersAndAsks(HookBase):
        def after_step(self) -> None:
            if self.trainer.iter == 4:
                self.trainer.max_iter = 2
                self.trainer.request_stop("enough", collective=True)

    for hook, steps in ((AsksAtTheEnd(), 10), (LowersAndAsks(), 5)):
        trainer = Counting()
        trainer.register_hooks([hook])
        trainer.train(0, 10)
        assert trainer.steps == trainer.iter == trainer.max_iter == steps


def test_training_again_starts_its_count_anew() -> None:
    trainer, states = Counting(), []
    trainer.register_hooks([CallsBefore(lambda: states.append(trainer.state_dict()["iteration"]))])
    trainer.train(0, 5)
    trainer.train(2, 3)
    assert states == [-1, 1]


class CallsBefore(HookBase):
    def __init__(self, call: Any) -> None:
        self.call = call

    def before_train(self) -> None:
        self.call()


def test_an_interrupt_in_after_train_lets_the_other_hooks_end() -> None:
    class Interrupted(HookBase):
        def after_train(self) -> None:
            raise KeyboardInterrupt

    trainer, hook = Counting(), Recorder()
    trainer.register_hooks([Interrupted(), hook])
    with pytest.raises(KeyboardInterrupt):
        trainer.train(0, 1)
    assert hook.log[-1] == ("after_train", 1)


def test_hooks_put_into_the_list_by_hand_are_bound_and_called() -> None:
    trainer, first, last, new = Counting(), Recorder(), Recorder(), Recorder()
    trainer.register_hooks([first, last])
    trainer._hooks.insert(-1, new)
    trainer._hooks = [*trainer._hooks[1:]]
    trainer.train(0, 1)
    assert first.log == []
    assert new.log == last.log != []


def test_a_trainer_that_never_called_init() -> None:
    class Bare(TrainerBase):
        def __init__(self) -> None:
            pass

        def run_step(self) -> None:
            pass

    trainer, hook = Bare(), Recorder()
    trainer.register_hooks([hook])
    trainer.train(0, 2)
    assert len(hook.log) == 6


def test_iteration_in_the_state_is_the_last_finished_one() -> None:
    states: dict[str, int] = {}

    class Saves(HookBase):
        def before_step(self) -> None:
            states[f"before {self.trainer.iter}"] = self.trainer.state_dict()["iteration"]

        def after_step(self) -> None:
            states[f"after {self.trainer.iter}"] = self.trainer.state_dict()["iteration"]

        def after_train(self) -> None:
            states["end"] = self.trainer.state_dict()["iteration"]

    trainer = Counting()
    trainer.register_hooks([Saves()])
    trainer.train(0, 2)
    assert states == {"before 0": -1, "after 0": 0, "before 1": 0, "after 1": 1, "end": 1}
    other = Counting()
    other.load_state_dict(trainer.state_dict())
    assert other.iter == 1


# SimpleTrainer


def test_the_step_is_that_of_a_plain_loop(make_trainer: Any, batches: Any) -> None:
    trainer = make_trainer()
    trainer.train(0, 5)
    plain = make_trainer()
    data = iter(batches())
    for _ in range(5):
        loss = sum(plain.model(next(data)).values())
        plain.optimizer.zero_grad()
        loss.backward()
        plain.optimizer.step()
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[name])


def test_scalars_of_each_iteration(make_trainer: Any, batches: Any) -> None:
    trainer = make_trainer(lr=0.0)
    trainer.train(0, 3)
    data = iter(batches())
    losses = [{k: v.item() for k, v in trainer.model(next(data)).items()} for _ in range(3)]
    histories = trainer.storage.histories()
    assert set(histories) == {"loss_a", "loss_b", "total_loss", "data_time", "rank_data_time"}
    assert histories["loss_a"].values() == [(pytest.approx(v["loss_a"]), i) for i, v in enumerate(losses)]
    assert histories["total_loss"].values() == [(pytest.approx(sum(v.values())), i) for i, v in enumerate(losses)]
    assert all(v > 0 for v, _ in histories["data_time"].values())


def test_reading_inside_a_step_gives_this_steps_scalars(make_trainer: Any) -> None:
    seen = []

    class Reads(HookBase):
        def after_step(self) -> None:
            seen.append(self.trainer.storage.latest()["total_loss"][1])

    trainer = make_trainer()
    trainer.register_hooks([Reads()])
    trainer.train(0, 3)
    assert seen == [0, 1, 2]


def test_one_scalar_loss_is_the_total_loss(make_trainer: Any) -> None:
    trainer = make_trainer()
    losses = trainer.model.forward
    trainer.model.forward = lambda batch: losses(batch)["loss_a"]
    trainer.train(0, 2)
    assert len(trainer.storage.history("total_loss").values()) == 2
    assert set(trainer.storage.histories()) == {"total_loss", "data_time", "rank_data_time"}


@pytest.mark.parametrize(("iterations", "expected"), [(7, [2, 5, 6]), (6, [2, 5])])
def test_the_device_is_read_at_the_end_of_a_period_and_of_the_training(
    make_trainer: Any, iterations: int, expected: list[int]
) -> None:
    """What a last, shorter period brought on devices and other ranks is learned too."""
    trainer, read = make_trainer(metric_period=3), []

    class Pending:
        pending = True

        def write(self, *arguments: Any) -> None:
            pass

        def read_device(self, storage: Any, iteration: int, stop: bool) -> tuple[bool, None]:
            read.append(iteration)
            return stop, None

    trainer._recorder = Pending()
    trainer.train(0, iterations)
    assert read == expected


def test_gather_metric_period(make_trainer: Any) -> None:
    trainer = make_trainer(gather_metric_period=3)
    trainer.train(0, 7)
    assert [i for _, i in trainer.storage.history("loss_a").values()] == [2, 5]


def test_a_model_in_evaluation_mode_is_an_error(make_trainer: Any) -> None:
    trainer = make_trainer()
    trainer.model.eval()
    with pytest.raises(TrainingError, match=r"call model.train\(\)"):
        trainer.train(0, 1)


def test_losses_that_are_no_tensors_are_an_error(make_trainer: Any) -> None:
    trainer = make_trainer()
    trainer.model.forward = lambda batch: {"a": 1.0, "b": 2.0}
    with pytest.raises(TrainingError, match="dict of scalar loss tensors"):
        trainer.train(0, 1)


def test_after_backward_sees_gradients_and_old_weights(make_trainer: Any) -> None:
    trainer = make_trainer()
    before = trainer.model.layer.weight.detach().clone()
    seen = []

    class Looks(HookBase):
        def after_backward(self) -> None:
            seen.append(torch.equal(self.trainer.model.layer.weight, before))
            seen.append(bool(self.trainer.model.layer.weight.grad.abs().sum() > 0))

    trainer.register_hooks([Looks()])
    trainer.train(0, 1)
    assert seen == [True, True]
    assert not torch.equal(trainer.model.layer.weight, before)


@pytest.mark.parametrize("zero_grad_before_forward", [False, True])
def test_accumulation_equals_the_larger_batch(make_trainer: Any, batches: Any, zero_grad_before_forward: bool) -> None:
    class Joined:
        def __iter__(self) -> Any:
            parts = iter(batches(size=4))
            while True:
                yield torch.cat([next(parts) for _ in range(3)])

    small = make_trainer(loader=batches(size=4), accumulate=3, zero_grad_before_forward=zero_grad_before_forward)
    large = make_trainer(loader=Joined())
    small.train(0, 4)
    large.train(0, 4)
    for name, value in large.model.state_dict().items():
        torch.testing.assert_close(small.model.state_dict()[name], value)
    assert small.storage.history("loss_a").values()[-1] == (
        pytest.approx(large.storage.history("loss_a").latest(), rel=1e-5),
        3,
    )
    with pytest.raises(TrainingError, match="accumulate=0"):
        make_trainer(accumulate=0)


@pytest.mark.parametrize("options", [{"compile": "eager"}, {"compile": "aot_eager"}, {"channels_last": True}])
def test_how_the_model_computes_changes_no_result_beyond_rounding(options: Any) -> None:
    """Without dropout, whose random numbers come in the order of memory."""
    ends = []
    for given in ({}, options):
        trainer = tiny_trainer(**given)
        trainer.model.dropout.p = 0.0
        trainer.train(0, 4)
        ends.append(trainer.model.state_dict())
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-4, atol=1e-6)


def test_clipping_sees_the_gradients_before_the_step(make_trainer: Any) -> None:
    trainer = make_trainer(
        clip_gradients=lambda optimizer: torch.nn.utils.clip_grad_value_(optimizer.param_groups[0]["params"], 1e-4)
    )
    trainer.train(0, 1)
    assert float(trainer.model.layer.weight.grad.abs().max()) == pytest.approx(1e-4)


def test_a_bad_loss_raises_and_touches_nothing(make_trainer: Any, batches: Any) -> None:
    trainer = make_trainer(loader=batches(bad=(3,)))
    reference = make_trainer()
    reference.train(0, 3)
    with pytest.raises(NonFiniteLossError, match=r"iteration 3 \(loss_a=nan, loss_b=nan\)"):
        trainer.train(0, 10)
    for name, value in reference.model.state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[name])
    momentum = [s["momentum_buffer"] for s in trainer.optimizer.state.values()]
    expected = [s["momentum_buffer"] for s in reference.optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(momentum, expected, strict=True))


class Cliff(torch.nn.Module):
    """A finite loss whose gradient is infinite at one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
        self.norm = torch.nn.BatchNorm1d(2)
        self.calls = 0

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        self.calls += 1
        weight = self.layer.weight
        slope = (weight - weight.detach()).abs().sqrt().sum() if self.calls == 3 else weight.sum() * 0
        return {"loss": self.norm(self.layer(batch)).abs().mean() + slope}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("clip", [None, lambda o: torch.nn.utils.clip_grad_value_(o.param_groups[0]["params"], 1.0)])
def test_an_infinite_gradient_of_a_finite_loss_touches_nothing(batches: Any, accumulate: int, clip: Any) -> None:
    """Clipping by value would make a large but finite step of it."""

    def trainer(**options: Any) -> SimpleTrainer:
        torch.manual_seed(0)
        model = Cliff()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
        return SimpleTrainer(model, batches(), optimizer, accumulate=accumulate, clip_gradients=clip, **options)

    good = 2 // accumulate  # the third batch is the bad one
    expected = trainer()
    expected.train(0, good)
    raising = trainer()
    with pytest.raises(NonFiniteLossError, match=rf"iteration {good} \(loss="):
        raising.train(0, 6)
    parameters = dict(expected.model.named_parameters())
    assert all(torch.equal(value, parameters[name]) for name, value in raising.model.named_parameters())
    skipping = trainer(non_finite="skip")
    skipping.train(0, good + 1)
    state = expected.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in skipping.model.state_dict().items())
    assert skipping.state_dict()["non_finite"] == {"skipped": 1}


def test_a_bad_loss_can_be_skipped(make_trainer: Any, batches: Any) -> None:
    class Good:
        def __iter__(self) -> Any:
            return (b for b in iter(batches(bad=(3,))) if not b.isnan().any())

    skipping = make_trainer(loader=batches(bad=(3,)), non_finite="skip")
    skipping.train(0, 6)
    clean = make_trainer(loader=Good())
    clean.train(0, 5)
    for name, value in clean.model.state_dict().items():
        assert torch.equal(value, skipping.model.state_dict()[name])
    assert skipping.state_dict()["non_finite"] == {"skipped": 1}


def test_the_loader_is_iterated_lazily_and_can_be_replaced(make_trainer: Any, batches: Any) -> None:
    made = []

    class Loader(batches):  # type: ignore[misc]
        def __iter__(self) -> Any:
            made.append(self)
            return super().__iter__()

    trainer = make_trainer(loader=Loader())
    assert made == []
    assert torch.equal(next(trainer._data_loader_iter), next(iter(batches())))
    assert len(made) == 1
    trainer.reset_data_loader(lambda: Loader(start=5))
    assert torch.equal(next(trainer._data_loader_iter), next(iter(batches(start=5))))
    trainer._data_loader_iter = iter(["mine"])
    assert next(trainer._data_loader_iter) == "mine"


def test_an_own_run_step_as_code_in_the_wild_writes_it(make_trainer: Any) -> None:
    class Own(SimpleTrainer):
        def run_step(self) -> None:
            batch = next(self._data_loader_iter)
            losses = self.model(batch)
            total = sum(losses.values())
            if not self.zero_grad_before_forward:
                self.optimizer.zero_grad()
            total.backward()  # type: ignore[union-attr]
            self.after_backward()
            if self.async_write_metrics:
                self.concurrent_executor.submit(self._write_metrics, losses, 0.5, iter=self.iter).result()
            else:
                self._write_metrics(losses, 0.5)
            self.optimizer.step()

    plain = make_trainer()
    plain.train(0, 3)
    for async_write in (False, True):
        own = make_trainer(Own, async_write_metrics=async_write)
        own.train(0, 3)
        assert torch.equal(own.model.layer.weight, plain.model.layer.weight)
        assert own.storage.history("data_time").values() == [(0.5, 0), (0.5, 1), (0.5, 2)]
        assert own.storage.history("total_loss").latest() == plain.storage.history("total_loss").latest()


def test_write_metrics_in_a_loop_without_train(make_trainer: Any) -> None:
    trainer = make_trainer()
    with EventStorage() as storage:
        trainer.iter = 4
        trainer._write_metrics({"loss": torch.tensor(2.0)}, 0.1, prefix="teacher_")
    assert storage.latest()["teacher_loss"] == (2.0, 4)


def test_resume_is_bit_for_bit(make_trainer: Any, batches: Any) -> None:
    whole = make_trainer()
    whole.train(0, 8)
    first = make_trainer()
    first.train(0, 5)
    state, weights = first.state_dict(), first.model.state_dict()
    second = make_trainer(loader=batches(start=5))
    second.model.load_state_dict(weights)
    second.load_state_dict(state)
    second.train(second.iter + 1, 8)
    assert torch.equal(second.model.layer.weight, whole.model.layer.weight)
    assert second.storage.history("loss_a").values() == whole.storage.history("loss_a").values()
    assert set(state) == {"iteration", "optimizer", "non_finite", "rng", "events"}


def test_a_replaced_model_is_the_one_that_trains(make_trainer: Any) -> None:
    trainer, other = make_trainer(), make_trainer()
    trainer.model = other.model
    trainer.optimizer = other.optimizer
    before = other.model.layer.weight.detach().clone()
    trainer.train(0, 1)
    assert not torch.equal(other.model.layer.weight, before)


def test_twenty_trainers_leave_nothing_behind(make_trainer: Any) -> None:
    references = []
    for _ in range(20):
        trainer = make_trainer()
        trainer.register_hooks([Recorder()])
        trainer.train(0, 2)
        references.append(weakref.ref(trainer))
        del trainer
    gc.collect()
    assert not any(r() for r in references)
