"""Networks from timm: classifiers, and backbones of any model that can give its features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from drivetrain.errors import MissingDependencyError, ModelError, did_you_mean

from .backbones import Body, pick_levels

__all__ = ["TimmFeatures", "timm_body", "timm_classifier", "timm_features"]


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
    net = timm_features(name)
    reductions = [int(r) for r in net.feature_info.reduction()]
    places = pick_levels(reductions, strides, f"timm/{name}")
    if places[-1] != len(reductions) - 1:
        # Layers behind the last map in use would be parameters without gradients.
        net = timm_features(name, out_indices=tuple(net.feature_info.out_indices[: places[-1] + 1]))
    channels = net.feature_info.channels()
    return Body(
        TimmFeatures(net, places),
        tuple(int(channels[place]) for place in places),
        tuple(reductions[place] for place in places),
        _stages(net),
    )


def timm_classifier(
    name: str, num_classes: int, options: Mapping[str, Any] = MappingProxyType({})
) -> tuple[nn.Module, tuple[int, int] | None]:
    """timm's model ``name`` with random weights, and the (height, width) of image it takes, None for any.

    Args:
        name: timm's name.
        num_classes: of its logits.
        options: further arguments of ``timm.create_model`` (``{"img_size": 160, "drop_path_rate": 0.1}``).

    Raises:
        ModelError: timm has no such model, or it does not take the options.
    """
    timm = _checked(name, "network", "MODEL.NAME or MODEL.BACKBONE.NAME")
    try:
        net = timm.create_model(name, pretrained=False, **{**options, "num_classes": num_classes})
    except (TypeError, ValueError, AssertionError, RuntimeError) as err:
        raise ModelError(
            f"timm's {name!r} cannot be made with MODEL.CLASSIFIER.OPTIONS {dict(options)!r}: {err}"
        ) from err
    return net, _fixed_size(net, options)


def _fixed_size(net: Any, options: Mapping[str, Any]) -> tuple[int, int] | None:
    patches = getattr(net, "patch_embed", None)
    about = net.pretrained_cfg
    if not about.get("fixed_input_size") or not getattr(patches, "strict_img_size", True):
        return None
    size = getattr(patches, "img_size", None) or options.get("img_size") or about["input_size"][1:]
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _checked(name: str, what: str, key: str) -> Any:
    """The library, if it is there and has a model of that name; otherwise an error, with close names."""
    try:
        import timm
    except ImportError as err:
        raise MissingDependencyError(
            f"{what} 'timm/{name}' ({key}) needs timm, which comes with drivetrain but is not here: pip install timm"
        ) from err
    if not timm.is_model(name):
        known = timm.list_models()
        hint = did_you_mean(name, known) or ";"
        raise ModelError(
            f"{what} 'timm/{name}' ({key}) is not in timm {timm.__version__}{hint} it has {len(known)} models, listed "
            "by timm.list_models()"
        )
    return timm


def timm_features(name: str, **options: Any) -> Any:
    """timm's model ``name`` with random weights, made to give its feature maps.

    Args:
        name: timm's name.
        options: further arguments of ``timm.create_model``.

    Raises:
        ModelError: timm has no such model, or it cannot give them.
        MissingDependencyError: timm is not installed.
    """
    timm = _checked(name, "backbone", "MODEL.BACKBONE.NAME")
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
