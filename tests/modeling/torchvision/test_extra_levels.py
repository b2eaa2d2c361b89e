"""Further pyramid levels."""

from __future__ import annotations

import torch
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from drivetrain.modeling.torchvision.extra_levels import ExtraLevels


def test_two_levels_are_torchvisions_p6_p7() -> None:
    theirs, ours = LastLevelP6P7(8, 8), ExtraLevels(8, 2)
    ours.load_state_dict(theirs.state_dict())
    level = torch.randn(1, 8, 9, 7)
    expected = theirs([level], [level], ["p5"])
    got = ours([level], [level], ["p5"])
    assert got[1] == expected[1] == ["p5", "p6", "p7"]
    assert all(torch.equal(a, b) for a, b in zip(got[0], expected[0], strict=True))


def test_any_number_of_levels() -> None:
    results, names = ExtraLevels(4, 3)([torch.randn(1, 4, 16, 16)], [], ["0"])
    assert names == ["0", "p6", "p7", "p8"]
    assert [r.shape[-1] for r in results] == [16, 8, 4, 2]
