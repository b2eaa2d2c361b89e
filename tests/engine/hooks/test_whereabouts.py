from __future__ import annotations

import os
import threading
from typing import Any

import pytest
import torch
import torch.distributed as dist

from drivetrain.engine.hooks import CallbackHook, agreement
from drivetrain.engine.hooks.schedule import PeriodicHook
from drivetrain.engine.hooks.whereabouts import Place, PlaceFinder, all_stacks, batch_at_hand
from drivetrain.engine.train_loop import TrainerBase
from drivetrain.testing import tiny_trainer


class Act(PeriodicHook):
    """Its after_step is that of its base class, which other hooks share."""

    def __init__(self, call: Any) -> None:
        super().__init__(1)
        self.call = call

    def act(self, iteration: int) -> None:
        self.call()


def test_every_part_of_the_loop_is_known_by_name() -> None:
    trainer = tiny_trainer()
    finder = PlaceFinder(trainer)
    seen: list[str] = []

    def look(*_: Any) -> None:
        seen.append(str(finder.place(threading.get_ident())))

    class Other(CallbackHook):
        def after_evaluation(self, results: Any) -> None:
            look()

    trainer.model.conv.register_forward_pre_hook(look)  # type: ignore[union-attr]
    trainer.model.conv.register_full_backward_hook(look)  # type: ignore[union-attr]
    trainer.optimizer.register_step_pre_hook(look)
    act = Act(lambda: (look(), trainer.after_evaluation({})))
    trainer.register_hooks(
        [CallbackHook(before_train=look, before_step=look, after_backward=look, after_train=look), act, Other()]
    )
    trainer.train(0, 1)
    assert seen == [
        "before_train of hook CallbackHook",
        "before_step of hook CallbackHook",
        "forward",
        "backward",
        "after_backward of hook CallbackHook",
        "step",
        "after_step of hook Act",
        "after_evaluation of hook Other",
        "after_train of hook CallbackHook",
    ]


def test_a_backward_may_wait_for_the_gradients_of_other_ranks_and_a_forward_does_not() -> None:
    trainer = tiny_trainer()
    finder = PlaceFinder(trainer)
    seen: list[tuple[str, bool]] = []

    def look(*_: Any) -> None:
        place = finder.place(threading.get_ident())
        seen.append((place.phase, place.waits))

    trainer.model.conv.register_forward_pre_hook(look)  # type: ignore[union-attr]
    trainer.model.conv.register_full_backward_hook(look)  # type: ignore[union-attr]
    trainer.train(0, 1)
    assert seen == [("forward", False), ("backward", True)]


def test_an_overridden_and_decorated_step_is_known_and_what_is_no_training_is_not() -> None:
    seen: list[Place] = []

    class Loop(TrainerBase):
        @torch.no_grad()
        def run_step(self) -> None:
            seen.append(finder.place(threading.get_ident()))

    finder = PlaceFinder(trainer := Loop())
    trainer.train(0, 1)
    assert seen == [Place("run_step")]
    assert finder.place(threading.get_ident()) == Place() and Place().progress == -1
    assert finder.place(-1) == Place()  # a thread that is gone


def test_progress_follows_the_order_of_the_loop() -> None:
    phases = ["before_train", "before_step", "fetch", "forward", "backward", "after_backward", "step", "after_step"]
    progress = [Place(phase).progress for phase in phases]
    assert progress == sorted(set(progress))


def test_waiting_for_other_ranks(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    class Loop(TrainerBase):
        def run_step(self) -> None:
            dist.barrier()
            seen.append(finder.place(threading.get_ident()).waits)

    finder = PlaceFinder(trainer := Loop())
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", world_size=1, rank=0)
    try:
        wait = dist.ProcessGroup.barrier

        def barrier(*args: Any, **options: Any) -> Any:
            seen.append(finder.place(threading.get_ident()).waits)
            return wait(*args, **options)

        monkeypatch.setattr(dist.ProcessGroup, "barrier", barrier)
        trainer.train(0, 1)
    finally:
        dist.destroy_process_group()
    assert seen == [True, False]
    assert Place("backward").waits is False


def test_waiting_for_the_figures_of_another_rank_is_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bool]] = []

    class Loop(TrainerBase):
        def run_step(self) -> None:
            pass

    def sleep(seconds: float) -> None:
        place = finder.place(threading.get_ident())
        seen.append((place.hook, place.waits))
        departure._store.add("meeting/1", 1)  # the other one comes

    store = dist.HashStore()
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(agreement.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(agreement, "sleep", sleep)
    departure, trainer = agreement.Departure(), Loop()
    trainer.register_hooks([CallbackHook(after_step=lambda _: departure.meet())])
    finder = PlaceFinder(trainer)
    trainer.train(0, 1)
    assert seen == [("CallbackHook", True)]


def test_the_innermost_batch_is_named_without_control_characters() -> None:
    def inner(sample: Any) -> str:
        return batch_at_hand(threading.get_ident())

    def outer() -> str:
        batch = [{"image_id": 1, "file_name": "a\x1b.jpg"}, {"image_id": 2}, {"file_name": "c.jpg"}]
        return inner(batch)

    assert outer() == r"image_id 1 ('a\x1b.jpg'), image_id 2, 'c.jpg'"
    assert inner([{"image_id": i} for i in range(20)]).endswith("image_id 15, ... (20 in all)")
    assert inner([{"width": 3}]) == inner([]) == inner("text") == ""


def test_the_stacks_of_all_threads_but_the_asking_one() -> None:
    go, ready = threading.Event(), threading.Event()

    def waits_in_a_function_of_this_name() -> None:
        ready.set()
        go.wait(30)

    other = threading.Thread(target=waits_in_a_function_of_this_name, name="other")
    other.start()
    assert ready.wait(30)
    text = all_stacks(other.ident or 0)
    go.set()
    other.join()
    assert text.startswith("Thread other:\n") and "waits_in_a_function_of_this_name" in text
    assert "test_the_stacks_of_all_threads" not in text and os.path.basename(__file__) in text
