"""The keypoint branch (He et al., ICCV 2017, section 5): a heatmap for each keypoint of a box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, relu

from drivetrain.structures import Keypoints

__all__ = ["KeypointHead", "keypoints_of_heatmaps"]


class KeypointHead(nn.Module):
    """Convolutions, one upsampling by layers and one by interpolation."""

    def __init__(
        self,
        channels: int,
        num_keypoints: int,
        conv_dims: Sequence[int],
        *,
        loss_weight: float = 1.0,
        normalizer: float | None = None,
    ) -> None:
        """Layers over features (N, channels, S, S).

        Args:
            channels: of the features.
            num_keypoints: of an object.
            conv_dims: channels of the convolutions.
            loss_weight: a factor on the loss.
            normalizer: what the loss is divided by for each image; None is the number of keypoints learned from.
        """
        super().__init__()
        self._loss_weight, self._normalizer = loss_weight, normalizer
        self._names = tuple(f"conv_fcn{k + 1}" for k in range(len(conv_dims)))
        for name, width in zip(self._names, conv_dims, strict=True):
            self.add_module(name, nn.Conv2d(channels, width, 3, padding=1))
            channels = width
        self.score_lowres = nn.ConvTranspose2d(channels, num_keypoints, 4, stride=2, padding=1)
        for parameter in self.parameters():
            if parameter.ndim == 1:
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, K, 4 S, 4 S)."""
        for name in self._names:
            features = relu(self.get_submodule(name)(features))
        return interpolate(self.score_lowres(features), scale_factor=2, mode="bilinear", align_corners=False)

    def loss(self, logits: Tensor, boxes: Tensor, keypoints: Tensor, num_images: int) -> Tensor:
        """Cross entropy over the places of each heatmap, of the keypoints that are visible within their box.

        Args:
            logits: (N, K, S, S).
            boxes: (N, 4) XYXY.
            keypoints: (N, K, 3), x, y in pixels and visibility.
            num_images: from which they are.
        """
        places, valid = Keypoints(keypoints).to_heatmap(boxes, logits.shape[-1])
        chosen = valid.flatten().nonzero().flatten()
        if not len(chosen):
            return logits.sum() * 0
        rows = logits.flatten(0, 1).flatten(1)[chosen]
        total = cross_entropy(rows, places.flatten()[chosen], reduction="sum")
        divisor = len(chosen) if self._normalizer is None else self._normalizer * num_images
        return total * (self._loss_weight / divisor)


def keypoints_of_heatmaps(maps: Tensor, boxes: Tensor) -> Tensor:
    """The keypoints (N, K, 4): x, y in pixels, the logit at the best place, and its probability.

    Each map is enlarged (bicubic) to whole pixels of its box, and the best place found there; its probability is
    relative to the sum over the map before that.

    Args:
        maps: logits (N, K, S, S).
        boxes: (N, 4) XYXY.
    """
    out = maps.new_zeros((*maps.shape[:2], 4))
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    whole = sides.ceil()
    for row, (logits, box, side, size) in enumerate(zip(maps, boxes, sides, whole, strict=True)):
        width, height = (int(edge) for edge in size)
        large = interpolate(logits[None], size=(height, width), mode="bicubic", align_corners=False)[0]
        flat = large.flatten(1)
        best = flat.argmax(dim=1)
        x, y = best % width, torch.div(best, width, rounding_mode="floor")
        scale = side / size
        # The sum over the map as it was, as detectron2 has it; the highest value only keeps the exponential finite.
        highest = flat.amax(dim=1, keepdim=True)
        total = (logits.flatten(1) - highest).exp().sum(dim=1)
        places = torch.arange(len(flat), device=maps.device)
        out[row, :, 0] = (x + 0.5) * scale[0] + box[0]
        out[row, :, 1] = (y + 0.5) * scale[1] + box[1]
        out[row, :, 2] = flat[places, best]
        out[row, :, 3] = (flat[places, best] - highest[:, 0]).exp() / total
    return out
