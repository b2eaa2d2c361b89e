"""FCOS (Tian et al., ICCV 2019 and, revised, arXiv 2006.09214) as detectron2 has it.

The numbers are those of detectron2's config ``fcos_R_50_FPN_1x``: a moving average of the number of objects' points
normalises the losses, boxes are trained by their generalised overlap, there is no learned scale of levels. torchvision
gives the box coder and the losses; its own FCOS, which divides by each batch's own number, is built by ``MODEL.NAME``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, relu
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.ops import generalized_box_iou_loss

from drivetrain.modeling.contract import Losses
from drivetrain.modeling.preprocess import Preprocess
from drivetrain.structures import ImageList, Instances

from .anchors import AnchorGenerator
from .dense import DenseDetector, DenseHead, DenseOptions, by_place, detections_of_image, focal_loss

__all__ = ["FCOS", "FCOSHead", "FCOSOptions", "centerness", "decode", "match_points"]

_CODER = BoxLinearCoder(normalize_by_size=True)


@dataclass(frozen=True)
class FCOSOptions(DenseOptions):
    """The numbers of ``MODEL.FCOS``."""

    score_thresh: float = 0.2
    nms_thresh: float = 0.6
    center_sampling_radius: float = 1.5


class FCOSHead(DenseHead):
    """Class scores, distances to the four sides and centerness of every place, the latter from the boxes' tower."""

    def __init__(
        self,
        channels: int,
        num_levels: int,
        num_classes: int,
        *,
        conv_dims: Sequence[int],
        norm: str = "GN",
        prior_prob: float = 0.01,
    ) -> None:
        """Layers over feature maps; see :class:`DenseHead`."""
        super().__init__(channels, num_levels, 1, num_classes, conv_dims=conv_dims, norm=norm, prior_prob=prior_prob)
        self.ctrness = nn.Conv2d(self.bbox_pred.in_channels, 1, 3, padding=1)
        nn.init.normal_(self.ctrness.weight, std=0.01)
        nn.init.zeros_(self.ctrness.bias)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
        """By level: logits (N, H * W, K), distances in strides (N, H * W, 4), logits of centerness (N, H * W, 1)."""
        logits, deltas, centers = [], [], []
        for level, maps in enumerate(features):
            logits.append(by_place(self.cls_score(self.cls_subnet(maps, level)), self._num_classes))
            tower = self.bbox_subnet(maps, level)
            deltas.append(by_place(self.bbox_pred(tower), 4))
            centers.append(by_place(self.ctrness(tower), 1))
        return logits, deltas, centers


class FCOS(DenseDetector):
    """A one-stage detector of points: each within an object predicts the distances to the object's sides.

    A point is the centre of a square as large as its level's stride, which is what the anchors are.
    """

    section = "FCOS"

    def __init__(
        self,
        backbone: nn.Module,
        head: FCOSHead,
        strides: Sequence[int],
        preprocess: Preprocess,
        features: Sequence[str],
        options: FCOSOptions,
    ) -> None:
        """Assemble the parts.

        Args:
            backbone: images to feature maps by name.
            head: feature maps to predictions.
            strides: of the features, in pixels.
            preprocess: normalises and pads.
            features: names of the backbone's outputs, finest first.
            options: the numbers.
        """
        points = AnchorGenerator([[stride] for stride in strides], [[1.0]], strides, offset=0.5)
        super().__init__(backbone, head, points, preprocess, features, options, loss_normalizer=300.0)
        self._options = options

    def losses(self, images: ImageList, truth: Sequence[Instances]) -> Losses:
        """``loss_fcos_cls``, ``loss_fcos_loc`` and ``loss_fcos_ctr``."""
        options = self._options
        maps = self.maps(images)
        levels = self.anchor_generator(maps)
        points = torch.cat(levels)
        logits, deltas, centers = (torch.cat(parts, dim=1) for parts in self.head(maps))
        classes, boxes, places, count = logits.sum() * 0, deltas.sum() * 0, centers.sum() * 0, 0
        for row, objects in enumerate(truth):
            matches = match_points(objects.gt_boxes.tensor, levels, options.center_sampling_radius)
            found = (matches >= 0).nonzero().flatten()
            kinds = torch.full_like(matches, options.num_classes)
            kinds[found] = objects.gt_classes[matches[found]]
            classes = classes + focal_loss(logits[row], kinds, options)
            if len(found):
                wanted = objects.gt_boxes.tensor[matches[found]]
                predicted = decode(deltas[row, found], points[found])
                boxes = boxes + generalized_box_iou_loss(predicted, wanted, reduction="sum")
                places = places + binary_cross_entropy_with_logits(
                    centers[row, found, 0], centerness(points[found], wanted), reduction="sum"
                )
            count += len(found)
        normalizer = self.update_normalizer(count)
        return {
            "loss_fcos_cls": classes / normalizer,
            "loss_fcos_loc": boxes / normalizer,
            "loss_fcos_ctr": places / normalizer,
        }

    def detections(self, images: ImageList) -> list[Instances]:
        """Of each image ``pred_boxes`` (N, 4), ``scores`` and ``pred_classes``, best first.

        A score is the geometric mean of those of the class and of centerness.
        """
        maps = self.maps(images)
        points = self.anchor_generator(maps)
        logits, deltas, centers = self.head(maps)
        return [
            detections_of_image(
                [(c[row].sigmoid() * p[row].sigmoid()).sqrt() for c, p in zip(logits, centers, strict=True)],
                [level[row] for level in deltas],
                points,
                decode,
                size,
                self._options,
            )
            for row, size in enumerate(images.image_sizes)
        ]


def decode(deltas: Tensor, points: Tensor) -> Tensor:
    """The boxes (N, 4) XYXY of distances (N, 4) to left, top, right and bottom, in strides; negative ones count as 0.

    Args:
        deltas: the distances.
        points: (N, 4) the squares around the points.
    """
    boxes: Tensor = _CODER.decode(relu(deltas), points)
    return boxes


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """How near each point is to the centre of its box, (N,) from 0 at the side to 1.

    Args:
        points: (N, 4) the squares around the points, which lie within their boxes.
        boxes: (N, 4) XYXY.
    """
    distances: Tensor = _CODER.encode(points, boxes)
    across, along = distances[:, [0, 2]], distances[:, [1, 3]]
    ratio = (across.amin(dim=1) / across.amax(dim=1)) * (along.amin(dim=1) / along.amax(dim=1))
    return ratio.sqrt()


@torch.no_grad()
def match_points(truth: Tensor, levels: Sequence[Tensor], radius: float) -> Tensor:
    """The index of the true box that each point belongs to, int64 (N,); -1 for background.

    A point belongs to a box in which it lies, if it is within ``radius`` strides of its centre along both axes, and if
    the farthest side is 4 to 8 strides away (from 0 on at the first level, without limit at the last). Of several boxes
    it belongs to the smallest.

    Args:
        truth: (M, 4) XYXY.
        levels: the squares (N_i, 4) around the points of each level, as large as its stride, finest first.
        radius: in strides.
    """
    squares = torch.cat(list(levels))
    if not len(truth):
        return torch.full((len(squares),), -1, dtype=torch.int64, device=squares.device)
    points, strides = (squares[:, :2] + squares[:, 2:]) / 2, squares[:, 2] - squares[:, 0]
    nearest, farthest = strides * 4, strides * 8
    nearest[: len(levels[0])], farthest[len(squares) - len(levels[-1]) :] = 0, torch.inf
    centers = (truth[:, :2] + truth[:, 2:]) / 2
    central = (points[None] - centers[:, None]).abs().amax(dim=2) < radius * strides
    sides = torch.cat((points[None] - truth[:, None, :2], truth[:, None, 2:] - points[None]), dim=2)
    reach = sides.amax(dim=2)
    fits = central & (sides.amin(dim=2) > 0) & (reach > nearest) & (reach < farthest)
    # As detectron2 prefers smaller boxes: in 32 bits, in which areas within 8 pixels of one another are the same.
    areas = (truth[:, 2] - truth[:, 0]) * (truth[:, 3] - truth[:, 1])
    quality, matches = (fits.to(torch.float32) * (1e8 - areas[:, None])).max(dim=0)
    return torch.where(quality < 1e-5, -1, matches)
