"""Backbones from timm: any model that can give its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from drivetrain.errors import ModelError, did_you_mean

from .backbones import Body, pick_levels

__all__ = ["TimmFeatures", "timm_body"]


class TimmFeatures(nn.Module):
    """A timm feature extractor that returns the chosen feature maps, channels first."""

    def __init__(self, net: nn.Module, places: Sequence[int]) -> None:
        """Use ``net`` (made with ``features_only=True``) and return its outputs at ``places``."""
        super().__init__()
        self.net = net
        self._places = tuple(places)
        self._channels_last = str(getattr(net, "output_fmt", "NCHW")).upper().endswith("NHWC")

    def forward(self, images: Tensor) -> list[Tensor]:
        """The chosen feature maps (N, C_i, H_i, W_i) of images (N, 3, H, W), finest first."""
        maps = self.net(images)
        chosen = [maps[place] for place in self._places]
        return [m.permute(0, 3, 1, 2).contiguous() for m in chosen] if self._channels_last else chosen


def timm_body(name: str, strides: Sequence[int]) -> Body:
    """timm's model ``name`` with random weights, cut off after the coarsest wanted feature map.

    Raises:
        ModelError: timm has no such model, it cannot give features, or not of these strides.
    """
    net = _create(name)
    reductions = [int(r) for r in net.feature_info.reduction()]
    places = pick_levels(reductions, strides, f"timm/{name}")
    if places[-1] != len(reductions) - 1:
        # Layers behind the last map in use would be parameters without gradients.
        net = _create(name, out_indices=tuple(net.feature_info.out_indices[: places[-1] + 1]))
    channels = net.feature_info.channels()
    return Body(
        TimmFeatures(net, places),
        tuple(int(channels[place]) for place in places),
        tuple(reductions[place] for place in places),
        _stages(net),
    )


def _create(name: str, **options: Any) -> Any:
    import timm

    if not timm.is_model(name):
        known = timm.list_models()
        hint = did_you_mean(name, known) or ";"
        raise ModelError(
            f"backbone 'timm/{name}' (MODEL.BACKBONE.NAME) is not in timm {timm.__version__}{hint} it has "
            f"{len(known)} models, listed by timm.list_models()"
        )
    try:
        return timm.create_model(name, pretrained=False, features_only=True, **options)
    except (RuntimeError, AttributeError, NotImplementedError, AssertionError, TypeError, KeyError) as err:
        raise ModelError(
            f"backbone 'timm/{name}' (MODEL.BACKBONE.NAME) cannot give its feature maps (timm: {err}): choose one for "
            "which timm.create_model(name, features_only=True) works"
        ) from err


def _stages(net: Any) -> tuple[tuple[int, tuple[nn.Module, ...]], ...]:
    """Strides and modules of the network's parts in order; empty where its parts are not told apart."""
    ends = {info["module"].replace(".", "_"): int(info["reduction"]) for info in net.feature_info.info}
    children = dict(net.named_children())
    if not any(name in ends for name in children):
        return ()
    stages: list[tuple[int, tuple[nn.Module, ...]]] = []
    part: list[nn.Module] = []
    for name, child in children.items():
        part.append(child)
        if name in ends:
            stages.append((ends[name], tuple(part)))
            part = []
    return tuple(stages)
