"""The feature pyramid, against torchvision's with the same weights."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool as TorchvisionMaxPool

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from drivetrain.modeling.detectron2.resnet import ResNet, ResNetOptions, make_resnet

STAGES = ["res3", "res4", "res5"]


def small() -> ResNet:
    return make_resnet(ResNetOptions(width_per_group=4, stem_out_channels=8, res2_out_channels=16), STAGES)


@torch.no_grad()
def test_equal_to_torchvision() -> None:
    torch.manual_seed(0)
    net = small()
    pyramid = FPN(net, STAGES, 12, top_block=LastLevelMaxPool())
    reference = FeaturePyramidNetwork(
        [shape.channels for shape in net.output_shape().values()], 12, TorchvisionMaxPool()
    )
    for k in range(3):
        for mine, theirs in ((f"fpn_lateral{k + 3}", "inner_blocks"), (f"fpn_output{k + 3}", "layer_blocks")):
            getattr(reference, theirs)[k][0].load_state_dict(pyramid.get_submodule(mine).state_dict())
    image = torch.randn(1, 3, 64, 96)
    outputs = pyramid(image)
    assert list(outputs) == ["p3", "p4", "p5", "p6"]
    for mine, theirs in zip(outputs.values(), reference(net(image)).values(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_two_more_levels_from_the_resnet_or_the_pyramid() -> None:
    for source in ("res5", "p5"):
        net = small()
        channels = 128 if source == "res5" else 12
        pyramid = FPN(net, STAGES, 12, top_block=LastLevelP6P7(channels, 12, source))
        shapes = {name: tuple(maps.shape[1:]) for name, maps in pyramid(torch.zeros(1, 3, 96, 128)).items()}
        assert shapes == {"p3": (12, 12, 16), "p4": (12, 6, 8), "p5": (12, 3, 4), "p6": (12, 2, 2), "p7": (12, 1, 1)}
        strides = {name: shape.stride for name, shape in pyramid.output_shape().items()}
        assert strides == {"p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128}


@torch.no_grad()
def test_averages_instead_of_sums() -> None:
    torch.manual_seed(0)
    net = small()
    whole, half = (
        FPN(net, STAGES, 12, top_block=LastLevelMaxPool()),
        FPN(net, STAGES, 12, top_block=LastLevelMaxPool(), fuse_type="avg"),
    )
    half.load_state_dict(whole.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(whole(image)["p5"], half(image)["p5"]) and not torch.allclose(
        whole(image)["p4"], half(image)["p4"]
    )


def test_images_are_padded_to_whole_cells_of_the_coarsest_stage() -> None:
    whole = FPN(small(), STAGES, 12)
    assert whole.size_divisibility == 32 and whole.padding_constraints == whole.bottom_up.padding_constraints == {}
    shallow = FPN(small(), STAGES[:2], 12)
    assert shallow.size_divisibility == 16 and list(shallow.output_shape()) == list(shallow(torch.zeros(1, 3, 32, 32)))


@pytest.mark.parametrize(
    ("names", "top", "message"),
    [
        (["res3", "res6"], None, r"IN_FEATURES \['res3', 'res6'\] must be of the backbone's features res3, res4, res5"),
        (["res3", "res5"], None, r"have strides \[8, 32\], but .* twice that of the one before"),
        (["res3", "res4"], LastLevelMaxPool(), r"made from 'p5', which is neither .* nor a level over"),
    ],
)
def test_stages_that_make_no_pyramid(names: list[str], top: LastLevelMaxPool | None, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        FPN(small(), names, 12, top_block=top)
