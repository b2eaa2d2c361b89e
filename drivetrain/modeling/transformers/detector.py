"""The library's object detectors under the model contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drivetrain.errors import ModelError
from drivetrain.modeling.contract import Batch, Losses, Outputs
from drivetrain.modeling.targets import boxes_within, objects
from drivetrain.structures import ImageList

from .adapter import IMAGENET_MEAN, IMAGENET_STD, TransformersModel
from .detections import fractions_of, pick_detections, pixels_of
from .families import family_of
from .losses import Float32, detection_weights, loss_terms

__all__ = ["TransformersDetector"]


class TransformersDetector(TransformersModel):
    """A detector of the library: RT-DETR, D-FINE, DETR, Deformable DETR, RF-DETR and their kin.

    Losses keep the library's names, weighted, summed over layers as :func:`~.losses.loss_terms` says.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        pixel_mean: Sequence[float] = IMAGENET_MEAN,
        pixel_std: Sequence[float] = IMAGENET_STD,
        bgr: bool = False,
        score_thresh: float = 0.05,
        detections_per_image: int = 100,
    ) -> None:
        """Adapt ``net``.

        Args:
            net: a model of one of the library's ``...ForObjectDetection`` classes.
            pixel_mean: per channel in the batch's order, 0..255 scale.
            pixel_std: as ``pixel_mean``.
            bgr: whether the batch's images are BGR.
            score_thresh: only detections scored higher are given.
            detections_per_image: at most so many are given.

        Raises:
            ModelError: it is not known how to train such a detector.
        """
        config: Any = net.config
        family = family_of(config.model_type)
        super().__init__(
            net,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            bgr=bgr,
            size_divisibility=family.step(config),
            square=family.square,
        )
        self._family = family
        self._score_thresh = score_thresh
        self._most = detections_per_image
        self._weights = detection_weights(self.net.loss_type, config)
        self.net.loss_function = Float32(self.net.loss_function)

    def batch_losses(self, batch: Batch) -> Losses:
        """See the class; every entry has ``instances`` with ``gt_boxes`` and ``gt_classes``.

        Raises:
            ModelError: an entry has none, or classes that the model does not have.
        """
        images = self.prepare(batch)
        labels = [self._label(entry, size, images) for entry, size in zip(batch, images.image_sizes, strict=True)]
        output = self._run(images, labels=labels)
        return self._with_denoising(loss_terms(output.loss_dict, self._weights))

    def batch_outputs(self, batch: Batch) -> Outputs:
        """``instances`` per image."""
        images = self.prepare(batch)
        output = self._run(images)
        outputs: Outputs = []
        rows = zip(self.frames(batch, images), output.logits.float(), output.pred_boxes.float(), strict=True)
        for frame, logits, fractions in rows:
            boxes = pixels_of(fractions, self._reference(frame.image, images))
            (height, width), (image_height, image_width) = frame.original, frame.image
            boxes = boxes * boxes.new_tensor((width / image_width, height / image_height) * 2)
            found = pick_detections(
                logits,
                boxes,
                frame.original,
                scores=self._family.scores,
                most=self._most,
                threshold=self._score_thresh,
            )
            outputs.append({"instances": found})
        return outputs

    def _run(self, images: ImageList, **kwargs: Any) -> Any:
        """The network's output for prepared images."""
        if self._family.frame == "image":
            kwargs["pixel_mask"] = _pixel_mask(images)
        try:
            return self.net(pixel_values=images.tensor, **kwargs)
        except RuntimeError as err:
            if "selected index k out of range" not in str(err):
                raise
            height, width = images.tensor.shape[-2:]
            raise ModelError(
                f"images of {height} x {width} pixels have fewer places than {type(self.net).__name__} has queries: "
                "give larger images (INPUT.MIN_SIZE_TRAIN, INPUT.MIN_SIZE_TEST) or set num_queries lower in "
                "MODEL.TRANSFORMERS.CONFIG"
            ) from err

    def _reference(self, size: tuple[int, int], images: ImageList) -> tuple[int, int]:
        """(height, width) that normalised boxes of an image of ``size`` are fractions of, in pixels as prepared."""
        return size if self._family.frame == "image" else (images.tensor.shape[-2], images.tensor.shape[-1])

    def _label(self, entry: dict[str, Any], size: tuple[int, int], images: ImageList) -> dict[str, Tensor]:
        """``class_labels`` and ``boxes`` of one image prepared to ``size``."""
        instances = objects(entry, self.num_classes)
        instances = instances[instances.gt_boxes.nonempty()]  # a box without area has no finite target
        boxes = boxes_within(size, instances, images.device)
        return {
            "class_labels": instances.gt_classes.to(images.device, torch.int64, non_blocking=True),
            "boxes": fractions_of(boxes, self._reference(size, images)),
        }

    def _with_denoising(self, terms: Losses) -> Losses:
        """The same terms whether or not there was a box to add noise to.

        Without one the library leaves out the denoising losses, and with them a parameter, which distributed training
        would wait for.
        """
        embedding = getattr(getattr(self.net, "model", None), "denoising_class_embed", None)
        if embedding is None or any(name.endswith("_dn") for name in terms):
            return terms
        nothing = embedding.weight.sum() * 0
        return terms | {f"{name[:-4]}_dn": nothing for name in terms if name.endswith("_aux")}


def _pixel_mask(images: ImageList) -> Tensor:
    """1 where the padded images (N, H, W) hold an image and 0 in the padding, int64."""
    height, width = images.tensor.shape[-2:]
    sizes = torch.tensor(images.image_sizes).to(images.device, non_blocking=True)
    rows = torch.arange(height, device=images.device) < sizes[:, :1]
    columns = torch.arange(width, device=images.device) < sizes[:, 1:]
    return (rows[:, :, None] & columns[:, None, :]).long()
