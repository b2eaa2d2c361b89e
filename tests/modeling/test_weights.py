"""Loading weights into a model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from drivetrain.errors import IncompatibleWeightsError
from drivetrain.modeling import load_weights


def net(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 1))


def test_strict_load_copies_everything() -> None:
    source, model = net(), net()
    report = load_weights(model, source.state_dict(), source="a.pth")
    assert report.complete
    assert set(report.loaded) == set(model.state_dict())
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_strict_load_lists_what_does_not_fit_and_changes_nothing() -> None:
    model = net()
    weights = net(5).state_dict()
    del weights["2.bias"]
    weights["extra.weight"] = torch.zeros(1)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    with pytest.raises(IncompatibleWeightsError) as error:
        load_weights(model, weights, source="b.pth")
    message = str(error.value)
    assert "b.pth" in message
    assert "2.bias" in message
    assert "extra.weight" in message
    assert "0.weight: [5, 2] in the weights, [3, 2] in the model" in message
    assert "MODEL.NUM_CLASSES" in message
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


def test_partial_load_takes_what_fits_and_reports_the_rest() -> None:
    model, weights = net(), net().state_dict()
    del weights["2.bias"]
    weights["0.bias"] = torch.zeros(9)
    weights["extra"] = torch.zeros(1)
    kept = model[0].bias.clone()
    report = load_weights(model, weights, source="c.pth", partial=True)
    assert (report.missing, report.unexpected) == (("2.bias",), ("extra",))
    assert [m.name for m in report.mismatched] == ["0.bias"]
    assert torch.equal(model[0].weight, weights["0.weight"])
    assert torch.equal(model[0].bias, kept)
    text = report.render()
    assert text.splitlines()[0] == "weights from c.pth:"
    assert [int(line.split()[-1] if "loaded" in line else 0) for line in text.splitlines()[1:2]] == [len(report.loaded)]
    assert "0.bias: [9] in the weights, [3] in the model" in text


def test_long_lists_are_cut() -> None:
    report = load_weights(
        net(), {**net().state_dict(), **{f"x{i}": torch.zeros(1) for i in range(30)}}, source="d", partial=True
    )
    assert "... and 27 more" in report.render(most=3)


def test_nothing_in_common_is_an_error_even_partially() -> None:
    with pytest.raises(IncompatibleWeightsError, match="another model"):
        load_weights(net(), {"a": torch.zeros(1)}, source="e", partial=True)


def test_batch_norm_counters_may_be_absent_on_either_side() -> None:
    weights = {n: v for n, v in net().state_dict().items() if "num_batches" not in n}
    assert load_weights(net(), weights, source="f").complete
    plain = nn.Sequential(nn.Linear(2, 3))
    assert load_weights(plain, {**plain.state_dict(), "1.num_batches_tracked": torch.tensor(4)}, source="g").complete
