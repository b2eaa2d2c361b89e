"""The mask branch (He et al., ICCV 2017), and masks laid into an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, grid_sample, relu

from drivetrain.structures import BitMasks, PolygonMasks

from .layers import NormConv2d

__all__ = ["MaskHead", "paste_masks"]


class MaskHead(nn.Module):
    """Convolutions and one upsampling to a mask for each class, or to one for all classes."""

    def __init__(self, channels: int, num_classes: int, conv_dims: Sequence[int], norm: str = "") -> None:
        """Layers over features (N, channels, S, S).

        Args:
            channels: of the features.
            num_classes: 1 is one mask for all classes.
            conv_dims: channels of the convolutions, and last of the upsampling.
            norm: after each convolution.
        """
        super().__init__()
        *convs, last = conv_dims
        self._names = tuple(f"mask_fcn{k + 1}" for k in range(len(convs)))
        for name, width in zip(self._names, convs, strict=True):
            self.add_module(name, NormConv2d(channels, width, 3, padding=1, norm=norm, activation=relu))
            channels = width
        self.deconv = nn.ConvTranspose2d(channels, last, 2, stride=2)
        self.predictor = nn.Conv2d(last, num_classes, 1)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.predictor.weight, std=0.001)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, K, 2 S, 2 S)."""
        for name in self._names:
            features = self.get_submodule(name)(features)
        return self.predictor(relu(self.deconv(features)))  # type: ignore[no-any-return]

    def loss(
        self,
        logits: Tensor,
        classes: Tensor,
        boxes: Sequence[Tensor],
        masks: Sequence[BitMasks | PolygonMasks],
    ) -> Tensor:
        """Binary cross entropy between the masks of the true classes and the truth within the boxes.

        Args:
            logits: (N, K, S, S) for the boxes of all images.
            classes: (N,) int64.
            boxes: (N_i, 4) of each image.
            masks: N_i of each image, each for its box.
        """
        if not len(logits):
            return logits.sum() * 0
        side = logits.shape[-1]
        wanted = torch.cat(
            [m.crop_and_resize(b, side).to(b.device) for m, b in zip(masks, boxes, strict=True) if len(b)]
        )
        return binary_cross_entropy_with_logits(_of_class(logits, classes), wanted.to(logits.dtype))

    def probabilities(self, logits: Tensor, classes: Tensor) -> Tensor:
        """The masks (N, S, S) of the predicted classes, each from 0 to 1."""
        return _of_class(logits, classes).sigmoid()


def _of_class(logits: Tensor, classes: Tensor) -> Tensor:
    rows = torch.arange(len(logits), device=logits.device)
    return logits[rows, classes if logits.shape[1] > 1 else torch.zeros_like(classes)]


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Masks of boxes as bitmaps of an image, bool (N, height, width).

    Each pixel looks up its centre in the mask, bilinearly. One mask after the other is laid into its own part of the
    image, so that memory beyond the result is that of one.

    Args:
        masks: (N, S, S), from 0 to 1.
        boxes: (N, 4) XYXY in pixels of the image.
        size: (height, width) of the image.
        threshold: from this value on a pixel belongs to the object.
    """
    height, width = size
    out = torch.zeros((len(masks), height, width), dtype=torch.bool, device=masks.device)
    limits = torch.stack(
        (
            (boxes[:, 0].floor() - 1).clamp(0, width),
            (boxes[:, 1].floor() - 1).clamp(0, height),
            (boxes[:, 2].ceil() + 1).clamp(0, width),
            (boxes[:, 3].ceil() + 1).clamp(0, height),
        ),
        dim=1,
    ).to(torch.int64)
    for mask, box, (left, top, right, bottom), target in zip(masks, boxes, limits.tolist(), out, strict=True):
        if right <= left or bottom <= top:
            continue
        x = (torch.arange(left, right, device=masks.device, dtype=torch.float32) + 0.5 - box[0]) / (box[2] - box[0])
        y = (torch.arange(top, bottom, device=masks.device, dtype=torch.float32) + 0.5 - box[1]) / (box[3] - box[1])
        rows, columns = torch.meshgrid(y * 2 - 1, x * 2 - 1, indexing="ij")
        grid = torch.stack((columns, rows), dim=-1)[None]
        values = grid_sample(mask[None, None].float(), grid, align_corners=False)[0, 0]
        target[top:bottom, left:right] = values >= threshold
    return out
