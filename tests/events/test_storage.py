"""EventStorage: putting, reading, nesting, scopes, bounded memory, resume."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from drivetrain.events import EventStorage, get_event_storage, has_event_storage


def test_outside_any_storage() -> None:
    assert not has_event_storage()
    with pytest.raises(AssertionError, match="inside a 'with EventStorage"):
        get_event_storage()


def test_nested_storages() -> None:
    with EventStorage() as outer:
        with EventStorage(7) as inner:
            assert get_event_storage() is inner
            assert inner.iter == inner.start_iter == 7
        assert get_event_storage() is outer
    assert not has_event_storage()


def test_another_thread_does_not_see_it() -> None:
    seen = []
    with EventStorage():
        thread = threading.Thread(target=lambda: seen.append(has_event_storage()))
        thread.start()
        thread.join()
    assert seen == [False]


def test_reads_give_what_was_put_in_this_step() -> None:
    storage = EventStorage(3)
    storage.put_scalar("loss", torch.tensor(2.5, requires_grad=True))
    storage.put_scalars(a=1, b=np.float32(0.5), cur_iter=9)
    assert storage.latest() == {"loss": (2.5, 3), "a": (1.0, 9), "b": (0.5, 9)}
    assert storage.history("loss").values() == [(2.5, 3)]
    assert set(storage.histories()) == {"loss", "a", "b"}
    with pytest.raises(KeyError, match="nothing"):
        storage.history("nothing")


def test_a_tensor_changed_later_does_not_change_what_was_put() -> None:
    storage = EventStorage()
    value = torch.tensor(1.0)
    storage.put_scalar("x", value)
    value.add_(1)
    assert storage.latest()["x"] == (1.0, 0)


def test_smoothing_hints() -> None:
    storage = EventStorage()
    for storage.iter in range(30):
        storage.put_scalar("smooth", float(storage.iter))
        storage.put_scalar("raw", float(storage.iter), smoothing_hint=False)
    shown = storage.latest_with_smoothing_hint(20)
    assert shown["smooth"] == (19.5, 29)  # median of 10..29
    assert shown["raw"] == (29.0, 29)
    assert storage.smoothing_hints() == {"smooth": True, "raw": False}
    assert storage.count_samples("smooth", 20) == 20
    with pytest.raises(ValueError, match="smoothing_hint=True before"):
        storage.put_scalar("smooth", 1.0, smoothing_hint=False)


def test_count_samples_counts_iterations_not_values() -> None:
    storage = EventStorage()
    for storage.iter in range(0, 100, 10):
        storage.put_scalar("sparse", 1.0)
    assert storage.count_samples("sparse", 20) == 2


def test_name_scope() -> None:
    storage = EventStorage()
    with storage.name_scope("val"):
        storage.put_scalar("loss", 1.0)
        storage.put_image("picture", torch.zeros(3, 2, 2))
    storage.put_scalar("loss", 2.0)
    assert storage.latest() == {"val/loss": (1.0, 0), "loss": (2.0, 0)}
    assert storage._vis_data[0][0] == "val/picture"


def test_step_and_iteration() -> None:
    storage = EventStorage(4)
    storage.step()
    assert storage.iter == storage.iteration == 5


def test_histograms() -> None:
    storage = EventStorage(2)
    storage.put_histogram("w", torch.tensor([0.0, 1.0, 1.0, 4.0]), bins=4)
    entry = storage._histograms[0]
    assert entry["bucket_counts"] == [1.0, 2.0, 0.0, 1.0]
    assert (entry["min"], entry["max"], entry["num"], entry["sum"], entry["sum_squares"]) == (0, 4, 4, 6, 18)
    assert entry["bucket_limits"] == [1.0, 2.0, 3.0, 4.0]
    assert entry["global_step"] == 2
    storage.clear_histograms()
    storage.clear_images()
    assert storage._histograms == storage._vis_data == []
    storage.put_histogram("w", torch.tensor([float("nan"), 3.0, float("inf"), 1.0]), bins=2)
    assert storage._histograms[0]["bucket_counts"] == [1.0, 1.0] and storage._histograms[0]["max"] == 3
    storage.put_histogram("w", torch.tensor([float("nan")]))
    storage.put_histogram("w", torch.zeros(0))
    assert len(storage._histograms) == 1


def test_a_million_scalars_stay_bounded() -> None:
    storage = EventStorage()
    for storage.iter in range(100_000):
        for name in ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j"):
            storage.put_scalar(name, 1.0)
    assert len(storage._pending) < 10_000
    assert len(storage.history("a")) <= 10_000
    assert storage.history("a").global_avg() == 1.0
    assert storage.history("a").count == 100_000


def test_several_at_once_are_as_one_by_one() -> None:
    one, other = EventStorage(), EventStorage()
    for one.iter in range(3):
        one.put_scalars(a=1.0 * one.iter, b=torch.tensor(2.0), smoothing_hint=False)
        other.put_scalar("a", 1.0 * one.iter, smoothing_hint=False, cur_iter=one.iter)
        other.put_scalar("b", 2, smoothing_hint=False, cur_iter=one.iter)
    assert one.latest() == other.latest() == {"a": (2.0, 2), "b": (2.0, 2)}
    assert one.history("a").values() == other.history("a").values()
    with pytest.raises(ValueError, match="smoothing_hint=False before"):
        one.put_scalars(c=1.0, a=5.0)
    assert "c" not in one.histories() and one.latest()["a"] == (2.0, 2), "all or nothing"


@pytest.mark.parametrize("value", ["x", torch.zeros(2), None])
def test_what_is_no_number_leaves_no_name_behind(value: object) -> None:
    storage = EventStorage()
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        storage.put_scalar("a", value)
    assert storage.histories() == storage.latest() == storage.smoothing_hints() == {}


def test_tensors_of_an_accelerator_are_read_when_somebody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subclass stands in for one: it says that it is not on the CPU, and counts how often it is read."""
    copies = []

    class Remote(torch.Tensor):
        is_cpu = False  # type: ignore[assignment]

    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda tensors: (copies.append(len(tensors)), stack(tensors))[1])
    storage = EventStorage()
    value = torch.zeros(1).as_subclass(Remote)
    for storage.iter in range(3):
        storage.put_scalar("a", value)
        storage.put_scalar("b", 7.0)
        value += 1  # what was put does not change
    assert copies == []
    assert storage.history("a").values() == [(0.0, 0), (1.0, 1), (2.0, 2)]
    assert storage.history("b").latest() == 7.0
    assert copies == [3]


def test_images_and_histograms_that_nobody_takes_stay_bounded() -> None:
    storage = EventStorage()
    for storage.iter in range(1_000):
        storage.put_image("picture", torch.zeros(3, 2, 2))
        storage.put_histogram("weights", torch.arange(3), bins=2)
    assert len(storage._vis_data) == len(storage._histograms) == 200
    assert storage._vis_data[-1][2] == storage._histograms[-1]["global_step"] == 999  # the newest


def test_new_since() -> None:
    storage = EventStorage()
    storage.put_scalar("a", 1.0)
    first, seen = storage.new_since({})
    storage.put_scalar("b", 2.0, cur_iter=5)
    storage.put_scalar("b", 3.0, cur_iter=6)
    only, _ = storage.new_since(seen, ["a"])
    second, seen = storage.new_since(seen)
    assert (first, only, second) == ({"a": 1}, {}, {"b": 2})
    assert storage.new_since(seen) == ({}, {"a": 1, "b": 2})


def test_provisional_values_are_shown_and_not_written() -> None:
    storage = EventStorage()
    storage.put_provisional({"loss": 4.0}, 0)
    assert storage.latest()["loss"] == (4.0, 0)
    assert storage.new_since({})[0] == {}
    storage.drop_provisional()
    storage.put_scalar("loss", 3.0)
    assert storage.history("loss").values() == [(3.0, 0)]


def test_provisional_values_are_not_saved() -> None:
    with EventStorage() as storage:
        storage.put_scalar("kept", 1.0)
        storage.put_provisional({"shown": 2.0, "kept": 3.0}, 0)
        state = storage.state_dict()
    assert set(state) == {"kept"} and state["kept"]["values"] == [(1.0, 0)]
    other = EventStorage()
    other.load_state_dict(state)
    assert other.latest() == {"kept": (1.0, 0)}


def test_state_round_trip() -> None:
    storage = EventStorage()
    for storage.iter in range(250):
        storage.put_scalar("loss", float(storage.iter))
    storage.put_scalar("lr", 0.1, smoothing_hint=False)
    other = EventStorage(250)
    other.load_state_dict(storage.state_dict())
    assert other.latest() == storage.latest()
    assert other.latest_with_smoothing_hint(20) == storage.latest_with_smoothing_hint(20)
    assert other.history("loss").global_avg() == storage.history("loss").global_avg()
    assert other.new_since({})[0] == {}
