"""Keypoint R-CNN (He et al. 2017, arXiv:1703.06870, section 5) with a feature pyramid, torchvision's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints, keypointrcnn_loss
from torchvision.ops import MultiScaleRoIAlign

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling.contract import Losses
from drivetrain.structures import ImageList, Instances, Keypoints

from .faster_rcnn import FasterRCNNDetector
from .options import DetectorOptions

__all__ = ["KeypointRCNNDetector", "build_keypoint_rcnn"]


class KeypointRCNNDetector(FasterRCNNDetector):
    """torchvision's Keypoint R-CNN under the model contract: Faster R-CNN with a heat map per keypoint and box.

    A keypoint's score is the probability of its place, by the softmax over the heat map's 56 x 56 cells (torchvision
    gives the logit).

    Attributes:
        num_keypoints: per object.
    """

    def __init__(self, options: DetectorOptions, num_keypoints: int, channels: Sequence[int]) -> None:
        """Build it with random weights.

        Args:
            options: those of the detector.
            num_keypoints: per object.
            channels: of each convolution of the keypoint branch.

        Raises:
            ModelError: an option does not fit.
        """
        super().__init__(options)
        self.num_keypoints = num_keypoints
        heads = self.roi_heads
        heads.keypoint_roi_pool = MultiScaleRoIAlign(heads.box_roi_pool.featmap_names, 14, 2)
        heads.keypoint_head = KeypointRCNNHeads(options.channels, tuple(channels))
        heads.keypoint_predictor = KeypointRCNNPredictor(channels[-1], num_keypoints)

    def losses(self, images: ImageList, targets: list[dict[str, Any]]) -> Losses:
        """Those of Faster R-CNN and ``loss_keypoint``, the cross entropy over the cells of each heat map."""
        losses, samples = self.box_losses(images, targets)
        objects = samples.foreground()
        logits = self._heat_maps(objects.features, objects.boxes, images)
        keypoints = [target["keypoints"] for target in targets]
        losses["loss_keypoint"] = keypointrcnn_loss(logits, objects.boxes, keypoints, objects.matched)
        return losses

    def detections(self, images: ImageList) -> list[dict[str, Tensor]]:
        """See the base class; ``keypoints`` as it says."""
        found, features = self.box_detections(images)
        logits = self._heat_maps(features, [one["boxes"] for one in found], images)
        for one, maps in zip(found, torch.split(logits, [len(one["boxes"]) for one in found]), strict=True):
            points, peaks = heatmaps_to_keypoints(maps, one["boxes"])
            # Between the cells the interpolated peak may be higher than any of them.
            scores = (peaks - maps.flatten(2).logsumexp(dim=2)).exp().clamp(max=1)
            one["keypoints"] = torch.cat((points[..., :2], scores[..., None]), dim=2)
        return found

    def _heat_maps(self, features: dict[str, Tensor], boxes: list[Tensor], images: ImageList) -> Tensor:
        """For each box and keypoint the logits of its place, shape (boxes of all images, keypoints, 56, 56)."""
        heads = self.roi_heads
        pooled = heads.keypoint_roi_pool(features, boxes, images.image_sizes)
        logits: Tensor = heads.keypoint_predictor(heads.keypoint_head(pooled))
        return logits.float()

    def more_targets(self, instances: Instances, entry: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        """``keypoints``, float, shape (N, K, 3), in pixels of the prepared image."""
        keypoints = instances.get_fields().get("gt_keypoints")
        name = entry.get("file_name", "an image")
        if not isinstance(keypoints, Keypoints):
            raise ModelError(
                f"this model learns keypoints, but the instances of {name} have {keypoints!r} as gt_keypoints: "
                "annotate the dataset with keypoints and have MODEL.TARGETS name them, or choose a model without"
            )
        points = keypoints.tensor.to(self.preprocess.device, non_blocking=True)
        if len(points) and points.shape[1] != self.num_keypoints:
            raise ModelError(
                f"the instances of {name} have {points.shape[1]} keypoints each, but the model has "
                f"{self.num_keypoints}: set MODEL.NUM_KEYPOINTS to the dataset's number of keypoints"
            )
        height, width = instances.image_size
        scale = points.new_tensor((size[1] / width, size[0] / height, 1))
        return {"keypoints": points * scale if (height, width) != size else points}


def build_keypoint_rcnn(cfg: CfgNode) -> KeypointRCNNDetector:
    """Keypoint R-CNN from a config: convolutions of ``MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS`` channels.

    Raises:
        ModelError: ``MODEL.NUM_KEYPOINTS`` is missing, or an option does not fit.
    """
    count = cfg.MODEL.get("NUM_KEYPOINTS", 0)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ModelError(
            f"MODEL.NUM_KEYPOINTS is {count!r}, but {cfg.MODEL.NAME!r} needs at least one keypoint: set it, or give a "
            "training dataset with keypoint_names (DATASETS.TRAIN), from which DefaultTrainer takes it"
        )
    channels = cfg.MODEL.get("ROI_KEYPOINT_HEAD", {}).get("CONV_DIMS", []) or [512] * 8
    return KeypointRCNNDetector(DetectorOptions.from_cfg(cfg), count, channels)
