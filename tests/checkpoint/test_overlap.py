from __future__ import annotations

import copy
import pickle
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from drivetrain.checkpoint import Checkpointer, PeriodicCheckpointer, overlap, snapshot, wait_for_copies
from drivetrain.checkpoint.overlap import StepCopies, check_unchanged, optimizers_of
from drivetrain.errors import CheckpointError

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=False),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
}


class Run:
    """A small training that keeps what each of its checkpoints has to hold."""

    def __init__(self, folder, optimizer="adamw"):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.average = [p.detach().clone() for p in self.model.parameters()]
        self.checkpointer = Checkpointer(self.model, str(folder), optimizer=self.optimizer, trainer=self)
        self.periodic = PeriodicCheckpointer(self.checkpointer, 1)
        self.expected = []
        self.errors = []
        self.periodic._saved = lambda iteration, error: self.errors.append(error)

    def state_dict(self):
        return {"average": self.average, "rng": torch.get_rng_state()}

    def load_state_dict(self, state):
        pass

    def forward_backward(self):
        self.optimizer.zero_grad()
        self.model(torch.randn(4, 6)).square().sum().backward()

    def save(self):
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        self.expected.append(copy.deepcopy({**state, "trainer": self.state_dict()}))
        self.periodic.step(len(self.expected) - 1)

    def iterate(self, count, before_step=lambda: None):
        for _ in range(count):
            self.forward_backward()
            before_step()
            self.optimizer.step()
            torch._foreach_lerp_(self.average, [p.detach() for p in self.model.parameters()], 0.5)
            self.save()

    def check_files(self, lost=()):
        """Each file holds the state of its call, bit for bit, except for those that were not saved."""
        self.checkpointer.wait()
        assert [i for i, error in enumerate(self.errors) if error] == list(lost)
        for number, expected in enumerate(self.expected):
            path = self.checkpointer.folder.path / f"model_{number:07d}.pth"
            assert path.exists() == (number not in lost)
            if path.exists():
                saved = torch.load(path, weights_only=True)
                assert_same(expected, {key: saved[key] for key in expected})


def assert_same(a, b, place=""):
    assert type(a) is type(b), place
    if isinstance(a, dict):
        assert list(a) == list(b), place
        for key in a:
            assert_same(a[key], b[key], f"{place}.{key}")
    elif isinstance(a, (list, tuple)):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{place}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), place
    else:
        assert a == b, place


class Gate:
    """Stands for NumPy's copy: slow, and closed on request."""

    def __init__(self):
        self.open = threading.Event()
        self.open.set()
        self.copies = 0

    def copyto(self, target, source):
        assert self.open.wait(30)
        time.sleep(0.002)
        np.copyto(target, source)
        self.copies += 1


@pytest.fixture(autouse=True)
def gate(monkeypatch):
    """Copies beside the training are slow, and made however little there is to copy."""
    gate = Gate()
    monkeypatch.setattr(snapshot, "np", gate)
    monkeypatch.setattr(overlap, "_SMALL", 1)
    monkeypatch.setattr(overlap, "_WORTH_IT", 1)
    return gate


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_file_holds_the_state_of_its_call_bit_for_bit(tmp_path, gate, optimizer):
    run = Run(tmp_path, optimizer)
    run.iterate(5)
    run.check_files()
    tensors = {"a": 4, "s": 2}[optimizer[0]] * 6
    assert gate.copies == 4 * tensors  # the first copy is made at once


@pytest.mark.parametrize("optimizer", ["adamw fused", "sgd fused"])
def test_without_the_hook_the_files_would_be_mixtures(tmp_path, monkeypatch, optimizer):
    """The negative control; fused steps are not even counted by PyTorch."""
    run = Run(tmp_path, optimizer)
    run.iterate(2)
    assert run.checkpointer._copies.quiet
    run.checkpointer._copies._step_hooks[0].remove()
    run.forward_backward()
    run.optimizer.step()
    with pytest.raises(AssertionError):
        run.check_files()


def test_the_next_step_waits_and_the_forward_pass_before_it_does_not(tmp_path, gate):
    run = Run(tmp_path)
    run.iterate(2)
    run.checkpointer.wait()
    gate.open.clear()
    run.forward_backward()
    run.optimizer.step()
    run.save()  # returns though nothing can be copied
    run.forward_backward()
    assert gate.copies == 24  # of the save before: 6 parameters, each with its moments and count of steps
    threading.Timer(0.1, gate.open.set).start()
    run.optimizer.step()
    assert gate.copies == 48
    run.check_files()


def test_the_first_copy_is_made_at_once(tmp_path, gate):
    gate.open.clear()
    run = Run(tmp_path)
    run.iterate(1)
    run.optimizer.step()
    run.check_files()
    assert gate.copies == 0 and run.checkpointer._copies.quiet is True


def test_what_tells_that_it_changes_weights_waits(tmp_path, gate):
    """An average is put into the model for an evaluation, and taken out again."""
    run = Run(tmp_path)

    def evaluate():
        wait_for_copies()
        own = [p.detach().clone() for p in run.model.parameters()]
        weights = [p.detach() for p in run.model.parameters()]
        torch._foreach_copy_(weights, run.average)
        torch._foreach_copy_(weights, own)

    run.iterate(5, before_step=evaluate)
    run.check_files()
    assert gate.copies >= 3 * 24


def test_loading_a_state_into_the_model_waits(tmp_path, gate):
    run = Run(tmp_path)
    zeros = {name: torch.zeros_like(value) for name, value in run.model.state_dict().items()}
    run.iterate(3)
    run.model.load_state_dict(zeros)
    run.iterate(2)
    torch.nn.DataParallel(run.model).load_state_dict({f"module.{name}": value for name, value in zeros.items()})
    run.check_files()
    assert gate.copies >= 3 * 24


def test_what_changes_weights_unannounced_costs_one_checkpoint_and_is_told(tmp_path, gate, caplog):
    run = Run(tmp_path)
    run.iterate(2)
    run.checkpointer.wait()
    gate.open.clear()
    run.iterate(1)
    with torch.no_grad():
        run.model[2].weight.clamp_(-0.01, 0.01)
    gate.open.set()
    run.checkpointer.wait()
    assert isinstance(run.errors[2], CheckpointError) and "wait_for_copies" in str(run.errors[2])
    copies = gate.copies
    run.iterate(3)
    run.check_files(lost=[2])
    assert gate.copies == copies  # from then on all is copied at once
    assert run.checkpointer._copies.quiet is False


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.data.clamp_(-0.01, 0.01),
        lambda p: p.detach().numpy().fill(1),
        lambda p: torch.nn.init.zeros_(p),
    ],
    ids=["through .data", "through NumPy", "in place"],
)
def test_a_training_that_always_changes_weights_elsewhere_is_copied_at_once(tmp_path, gate, change):
    """A hook after the checkpointer, such as one that clips weights; PyTorch does not count the first two changes."""
    run = Run(tmp_path)
    run.iterate(4, before_step=lambda: change(run.model[0].weight))
    run.check_files()
    assert gate.copies == 0 and run.checkpointer._copies.quiet is False


def test_a_step_that_passes_by_the_hooks_is_copied_at_once(tmp_path, gate):
    """A graph that is replayed, or an optimizer that is called by another name."""
    run = Run(tmp_path)
    run.optimizer.step = lambda: type(run.optimizer).step.__wrapped__(run.optimizer)
    run.iterate(4)
    run.check_files()
    assert gate.copies == 0 and run.checkpointer._copies.quiet is None


def test_without_another_step_the_file_is_written(tmp_path, gate):
    run = Run(tmp_path)
    run.iterate(3)
    run.check_files()
    run.save()
    run.save()  # no step in between
    run.check_files()


def test_a_failed_save_does_not_hold_up_the_training(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.iterate(2)
    run.checkpointer.wait()

    def fail(target, source):
        raise RuntimeError("device lost")

    monkeypatch.setattr(snapshot.np, "copyto", fail)
    run.iterate(1)
    run.forward_backward()
    run.optimizer.step()
    run.checkpointer.wait()
    assert "device lost" in str(run.errors[2])


def test_a_model_can_be_copied_and_pickled_at_any_time(tmp_path):
    run = Run(tmp_path)
    run.iterate(3)
    for _ in range(2):  # while a copy is under way, and after the step
        assert pickle.loads(pickle.dumps(run.model)).state_dict().keys() == run.model.state_dict().keys()
        copy.deepcopy(run.model), copy.deepcopy(run.optimizer), pickle.dumps(run.optimizer)
        run.optimizer.step()
    assert not run.model._load_state_dict_pre_hooks


def test_little_state_is_copied_at_once(tmp_path, gate, monkeypatch):
    monkeypatch.setattr(overlap, "_WORTH_IT", 1 << 20)
    run = Run(tmp_path)
    run.iterate(3)
    run.check_files()
    assert gate.copies == 0 and not run.optimizer._optimizer_step_pre_hooks


def test_only_what_optimizers_change_is_left_for_later():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1, momentum=0.9)
    copies = StepCopies()
    copies.quiet = True
    taken = copies.copy(model.state_dict(), model, [optimizer])
    assert taken.pending
    assert torch.equal(taken.value["1.running_var"], torch.ones(2))
    taken.finish()
    assert torch.equal(taken.value["0.weight"], model[0].weight)
    assert taken.intact()
    check_unchanged(taken)
    with torch.no_grad():
        model[0].weight.zero_()
    check_unchanged(taken)  # afterwards


def test_where_optimizers_are_found():
    weight = torch.nn.Parameter(torch.ones(1))
    first, second = torch.optim.SGD([weight], lr=1), torch.optim.Adam([weight])
    schedule = torch.optim.lr_scheduler.StepLR(first, 1)
    trainer = SimpleNamespace(optimizer=second)
    assert optimizers_of([first, schedule, trainer, object(), SimpleNamespace(optimizer=3)]) == [first, second]
