from __future__ import annotations

import io
import threading
from collections import Counter

import pytest
import torch

from drivetrain.checkpoint.snapshot import HostCopies, HostCopy


def state():
    """One of everything that a checkpoint may hold."""
    torch.manual_seed(0)
    base = torch.randn(6, 4)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    return {
        "model": module.state_dict(),
        "views": [base, base.t(), base[1:3], base[:, 2], base.view(-1)],
        "types": [torch.arange(3), torch.tensor([True]), torch.randn(2).bfloat16(), torch.tensor(1.5), torch.empty(0)],
        "odd": (torch.randn(2, dtype=torch.complex64).conj(), torch.eye(3).to_sparse()),
        "parameter": torch.nn.Parameter(torch.randn(3), requires_grad=False),
        "leaf": torch.randn(2, requires_grad=True),
        "counts": Counter({"a": 2}),
        "plain": {"x": [1, 2.5, "text", None, {3}], 4: torch.Size([2])},
    }


def dump(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def load(value):
    return torch.load(io.BytesIO(dump(value)), weights_only=True)


def leaves(value, prefix=""):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{prefix}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from leaves(item, f"{prefix}[{index}]")
    else:
        yield prefix, value


def assert_equal(a, b):
    for (place, x), (other, y) in zip(leaves(a), leaves(b), strict=True):
        assert place == other and type(x) is type(y), place
        if isinstance(x, torch.Tensor):
            assert x.dtype == y.dtype and x.requires_grad == y.requires_grad and x.layout == y.layout, place
            assert x.layout != torch.strided or x.stride() == y.stride(), place
            assert torch.equal(x.to_dense(), y.to_dense()), place
        else:
            assert x == y, place


def change_everything(value):
    """Change each tensor and container in place."""
    if isinstance(value, torch.Tensor):
        with torch.no_grad():
            value.zero_()
    elif isinstance(value, dict):
        for item in list(value.values()):
            change_everything(item)
        value["new"] = 1
    elif isinstance(value, (list, tuple)):
        for item in value:
            change_everything(item)
        if isinstance(value, list):
            value.append(1)
    elif isinstance(value, set):
        value.add(1)


def test_the_copy_is_equal_and_stays_when_all_of_the_original_changes():
    original = state()
    copied = HostCopies().copy(original)
    assert_equal(copied, state())
    before = dump(copied)
    change_everything(original)
    assert_equal(copied, state())
    assert dump(copied) == before


def test_a_file_of_the_copy_holds_what_a_file_of_the_original_holds():
    original = state()
    copied = HostCopies().copy(original)
    assert_equal(load(copied), load(original))
    assert abs(len(dump(copied)) - len(dump(original))) < 500
    versions = load(copied)["model"]._metadata
    assert versions["1"] == {"version": 2}  # by which modules convert old states


def test_shared_memory_stays_shared():
    base = torch.zeros(1000)
    tied = {"a": base, "b": base.detach(), "c": base[10:20]}
    copied = HostCopies().copy(tied)
    copied["a"][10] = 5
    assert copied["b"][10] == copied["c"][0] == 5 and base[10] == 0
    assert len(dump(copied)) < 2 * len(dump({"a": base}))


def test_memory_is_used_again_and_what_is_not_needed_is_let_go():
    copies = HostCopies()
    data = {"a": torch.zeros(5), "b": torch.ones(5), "c": torch.ones(7)}
    first = {name: copied.data_ptr() for name, copied in copies.copy(data).items()}
    second = copies.copy(data)
    assert {c.data_ptr() for c in second.values()} == set(first.values())
    assert len({c.data_ptr() for c in second.values()}) == 3
    assert_equal(second, data)
    kept = copies.copy({"a": data["a"]})
    assert sum(len(found) for found in copies._memory.values()) == 1
    assert_equal(kept, {"a": data["a"]})


def test_tensors_without_content_pass():
    copied = HostCopies().copy([torch.empty(3, device="meta")])
    assert copied[0].is_meta


def test_what_is_left_for_later_is_copied_by_finish():
    now, later = torch.zeros(1000), torch.zeros(1001)
    copy = HostCopies().begin({"now": now, "later": [later, later[3:5]]}, {later.untyped_storage()._cdata})
    now.fill_(1)
    later.fill_(1)
    assert copy.pending
    copy.finish()
    assert torch.equal(copy.value["now"], torch.zeros(1000))
    assert torch.equal(copy.value["later"][0], torch.ones(1001)) and copy.value["later"][1].tolist() == [1, 1]
    assert not copy.wait()  # it was changed meanwhile


def test_who_waits_goes_on_when_the_copy_is_made():
    later = torch.zeros(1000)
    copy = HostCopies().begin(later, {later.untyped_storage()._cdata})
    timer = threading.Timer(0.1, copy.finish)
    timer.start()
    assert copy.wait()
    later.fill_(1)  # afterwards
    assert copy.intact() and torch.equal(copy.value, torch.zeros(1000))
    timer.join()


def test_the_verdict_on_a_copy_is_the_same_for_all_who_ask():
    asked, answer = threading.Event(), threading.Event()

    class Changed:
        @property
        def _version(self):
            first = not asked.is_set()
            asked.set()
            return 7 if not first or answer.wait(30) else None

    copy = HostCopy({}, [], [(Changed(), 6)], pending=False)
    verdicts = []
    threads = [threading.Thread(target=lambda: verdicts.append(copy.intact())) for _ in range(2)]
    threads[0].start()
    assert asked.wait(30)
    threads[1].start()
    threads[1].join(0.1)
    assert threads[1].is_alive(), "the second waits for the verdict of the first"
    answer.set()
    for thread in threads:
        thread.join(30)
    assert verdicts == [False, False]


@pytest.mark.parametrize("size", [1000, 1001, 3])
def test_what_is_copied_at_once_can_be_compared(size):
    weight = torch.full((size,), float("nan"), dtype=torch.float16)
    copy = HostCopies().begin(weight, {weight.untyped_storage()._cdata}, at_once=True)
    assert not copy.pending and copy.wait() and copy.is_current()
    weight.data[-1] = 1
    assert not copy.is_current()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_memory_of_accelerators_is_copied_to_pinned_memory_of_the_host():
    copies = HostCopies()
    weights = torch.randn(1 << 20, device="cuda")
    expected = weights.cpu()
    for _ in range(2):
        copied = copies.copy({"w": weights, "part": weights[3:7]})
        weights.add_(1)  # queued behind the copy
        assert copied["w"].device.type == "cpu" and copied["w"].is_pinned()
        assert torch.equal(copied["w"], expected) and torch.equal(copied["part"], expected[3:7])
        expected = weights.cpu()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_copies_beside_its_work_and_the_next_change_waits_on_it():
    copies = HostCopies()
    weights = torch.randn(1 << 26, device="cuda")
    for _ in range(3):
        expected = weights.cpu()
        copy = copies.begin({"w": weights}, {weights.untyped_storage()._cdata})
        assert copy.pending and copy.wait()
        weights.add_(1)  # enqueued while the copy is being made
        copy.finish()
        assert torch.equal(copy.value["w"], expected)
