"""What all adapted torchvision detectors share: the way from a batch to the network, and from detections to outputs.

torchvision's own ``forward`` resizes and normalises images and checks targets one by one. Here the mapper has resized
already and :class:`~drivetrain.modeling.preprocess.Preprocess` normalises, so an adapter calls the parts instead:
backbone, head, matching, losses and post-processing are torchvision's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList as TorchvisionImageList

from drivetrain.modeling.adapted import AdaptedModel
from drivetrain.modeling.contract import Batch, Losses, Outputs
from drivetrain.modeling.preprocess import Preprocess
from drivetrain.modeling.targets import boxes_within, objects
from drivetrain.structures import Boxes, ImageList, Instances, RoiMasks

from .options import DetectorOptions

__all__ = ["TorchvisionDetector", "as_torchvision"]


class TorchvisionDetector(AdaptedModel):
    """Mixed into a torchvision detector, in front of it, to make it keep the model contract.

    A subclass says whether class 0 is the background (:attr:`background`) and gives :meth:`losses` and
    :meth:`detections`. Parameter names stay torchvision's.

    Attributes:
        num_classes: without background.
        background: 1 where the network numbers classes from 1 and 0 is the background, else 0.
    """

    background: int = 0
    transform: nn.Module

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The parts of torchvision's detectors, which carry no types."""

    def adapt(self, options: DetectorOptions, size_divisibility: int = 32) -> None:
        """Set up the shared parts; called at the end of a subclass's constructor."""
        self.num_classes = options.num_classes
        self.preprocess = Preprocess(options.pixel_mean, options.pixel_std, size_divisibility)
        del self.transform  # torchvision's resizing and normalising, not used here

    def losses(self, images: ImageList, targets: list[dict[str, Any]]) -> Losses:
        """The losses of prepared images.

        Args:
            images: normalised and padded.
            targets: per image ``boxes`` (float, (N, 4), XYXY in pixels of the prepared image), ``labels`` (int64,
                (N,), the network's numbering) and what :meth:`more_targets` adds.
        """
        raise NotImplementedError

    def detections(self, images: ImageList) -> list[dict[str, Tensor]]:
        """Per prepared image ``boxes`` (XYXY in its pixels), ``scores`` and ``labels`` (the network's numbering).

        ``masks`` (N, M, M), each the scores within its box, and ``keypoints`` (N, K, 3), x and y in pixels of the
        prepared image and a score, where the network has them.
        """
        raise NotImplementedError

    def prepare(self, batch: Batch) -> ImageList:
        """The normalised, padded images of a batch."""
        images: ImageList = self.preprocess(batch)
        return images

    def batch_losses(self, batch: Batch) -> Losses:
        """See :meth:`losses`; every entry has ``instances`` with ``gt_boxes`` and ``gt_classes``.

        Raises:
            ModelError: an entry has none, or classes that the model does not have.
        """
        images = self.prepare(batch)
        return self.losses(images, self._targets(batch, images.image_sizes))

    def batch_outputs(self, batch: Batch) -> Outputs:
        """``instances`` per image."""
        images = self.prepare(batch)
        rows = zip(self.detections(images), images.image_sizes, batch, strict=True)
        return [{"instances": self._instances(found, size, entry)} for found, size, entry in rows]

    def _instances(self, found: dict[str, Tensor], size: tuple[int, int], entry: dict[str, Any]) -> Instances:
        """Detections in an image of (height, width) ``size`` as Instances in the original image."""
        height, width = int(entry.get("height", size[0])), int(entry.get("width", size[1]))
        across, down = width / size[1], height / size[0]
        boxes = Boxes(found["boxes"])
        boxes.scale(across, down)
        boxes.clip((height, width))
        instances = Instances(
            (height, width),
            pred_boxes=boxes,
            scores=found["scores"].float(),
            pred_classes=found["labels"] - self.background,
        )
        if "masks" in found:
            instances.pred_masks = RoiMasks(found["masks"].float(), boxes.tensor, (height, width))
        if "keypoints" in found:
            points = found["keypoints"].float()
            instances.pred_keypoints = points * points.new_tensor((across, down, 1))
        return instances[boxes.nonempty()]

    def _targets(self, batch: Batch, sizes: list[tuple[int, int]]) -> list[dict[str, Any]]:
        """The targets of a batch whose prepared images have these (height, width) sizes."""
        return [self._target(entry, size) for entry, size in zip(batch, sizes, strict=True)]

    def _target(self, entry: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        instances = objects(entry, self.num_classes)
        keep = instances.gt_boxes.nonempty()  # a box without area has no finite target
        if not bool(keep.all()):
            instances = instances[keep]
        device = self.preprocess.device
        boxes = boxes_within(size, instances, device)
        classes = instances.gt_classes.to(device, torch.int64, non_blocking=True) + self.background
        return {"boxes": boxes, "labels": classes, **self.more_targets(instances, entry, size)}

    def more_targets(self, instances: Instances, entry: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        """What a network learns from beside boxes; nothing by default.

        Args:
            instances: of one image, those with a box of some area.
            entry: of the batch, theirs.
            size: (height, width) of the prepared image.

        Raises:
            ModelError: the instances do not have it.
        """
        return {}


def as_torchvision(images: ImageList) -> TorchvisionImageList:
    """The same batch as torchvision's class of that name."""
    return TorchvisionImageList(images.tensor, images.image_sizes)
