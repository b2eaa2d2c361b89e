from __future__ import annotations

from collections import OrderedDict

import pytest
import torch

from drivetrain.checkpoint.restore import restore
from drivetrain.errors import CheckpointError, IncompatibleWeightsError


def model(value, features=3):
    net = torch.nn.Sequential(torch.nn.Linear(features, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.fill_(value)
    return net


def same(net, value):
    return all(bool((t == value).all()) for t in net.state_dict().values())


def test_everything_is_put_in_and_the_rest_is_returned(counter):
    net, count = model(0), counter(0)
    data = {"model": model(4).state_dict(), "count": {"value": 4}, "iteration": 7, "other": {"a": 1}}
    assert restore(net, {"count": count}, data, "x") == {"iteration": 7, "other": {"a": 1}}
    assert same(net, 4)
    assert count.value == 4


def test_bare_weights_leave_nothing_over():
    net = model(0)
    assert restore(net, {}, dict(model(2).state_dict()), "x") == {}
    assert same(net, 2)


def test_other_weights_change_nothing(counter):
    net, count = model(0), counter(0)
    with pytest.raises(IncompatibleWeightsError, match=r"0\.weight: \[2, 5\] in the file, \[2, 3\] in the model"):
        restore(net, {"count": count}, {"model": model(4, 5).state_dict(), "count": {"value": 4}}, "x")
    assert same(net, 0)
    assert count.value == 0


def test_an_object_that_cannot_take_its_state_undoes_all(counter):
    net, first, second = model(0), counter(0), counter(0)
    data = {"model": model(4).state_dict(), "first": {"value": 4}, "second": {"wrong": 4}}
    with pytest.raises(CheckpointError, match=r"x\.pth cannot be restored .*KeyError"):
        restore(net, {"first": first, "second": second}, data, "x.pth")
    assert same(net, 0)
    assert (first.value, second.value) == (0, 0)


def test_an_optimizer_gets_its_former_state_back(counter):
    net = model(1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    net(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    before = {k: v["momentum_buffer"].clone() for k, v in optimizer.state_dict()["state"].items()}
    other = torch.optim.SGD(model(2).parameters(), lr=0.1, momentum=0.9).state_dict()
    data = {"model": model(4).state_dict(), "optimizer": other, "count": {}}
    with pytest.raises(CheckpointError):
        restore(net, {"optimizer": optimizer, "count": counter()}, data, "x")
    after = optimizer.state_dict()
    assert after["param_groups"][0]["lr"] == 0.5
    assert all(torch.equal(after["state"][k]["momentum_buffer"], v) for k, v in before.items())


def test_a_missing_state_is_said_and_left(counter, caplog):
    net, count = model(0), counter(5)
    restore(net, {"count": count}, {"model": model(4).state_dict()}, "x.pth")
    assert count.value == 5
    assert "no state of 'count'" in caplog.text


def test_a_model_with_compiled_parts_takes_clean_names():
    net = model(0)
    compiled = torch.nn.Module()  # names its inner module as torch.compile does, without loading the compiler
    compiled._orig_mod = net[0]
    net[0] = compiled
    assert "0._orig_mod.weight" in net.state_dict()
    restore(net, {}, {"model": model(3).state_dict()}, "x")
    assert same(net, 3)


def test_weights_from_before_batch_counts_load():
    old = OrderedDict((k, v) for k, v in model(4).state_dict().items() if "num_batches" not in k)
    net = model(0)
    restore(net, {}, {"model": old}, "x")
    assert bool((net[0].weight == 4).all())


def test_a_module_learns_the_version_of_its_saved_state():
    seen = []

    class Versioned(torch.nn.Linear):
        _version = 7

        def _load_from_state_dict(self, state, prefix, metadata, *rest):
            seen.append(metadata.get("version"))
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    restore(Versioned(1, 1), {}, {"model": Versioned(1, 1).state_dict()}, "x")
    assert seen == [7]
