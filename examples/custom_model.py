"""A detector of one's own in the engine: any ``nn.Module`` that keeps the contract of ``drivetrain.modeling.contract``.

    python examples/custom_model.py --output output/custom_model
    python examples/custom_model.py --output output/as_object --as-object

It is given to the engine in either of two ways. Registered under a name, it is what ``MODEL.NAME`` says, and
everything that works from a config alone (``DefaultPredictor.from_checkpoint`` for one) can build it once this module
is imported. Given as an object, it needs no name.

The detector itself is small: each object belongs to the cell of an 8-pixel grid that its centre lies in, and that cell
learns its class and the distances from the cell's centre to the four sides (FCOS on one level: Tian et al. 2019).
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, generalized_box_iou_loss, sigmoid_focal_loss

from drivetrain import CfgNode, DefaultTrainer, get_cfg
from drivetrain.data.formats.shapes import SHAPE_NAMES
from drivetrain.data.formats.synthetic import make_synthetic
from drivetrain.engine import default_setup
from drivetrain.engine.defaults.quickstart import quickstart
from drivetrain.modeling import MODELS, Batch, Losses, Outputs, Preprocess
from drivetrain.runtime.device import resolve_device
from drivetrain.structures import Boxes, Instances

STRIDE = 8


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class GridDetector(nn.Module):
    """One prediction per cell of a grid.

    Args:
        num_classes: number of classes.
        mean: of each channel on the 0..255 scale; so is ``std``.
        score_threshold: predictions scored lower are dropped.
        most: predictions kept per image.
    """

    def __init__(
        self,
        num_classes: int,
        mean: list[float],
        std: list[float],
        score_threshold: float = 0.05,
        most: int = 100,
    ) -> None:
        super().__init__()
        self.num_classes, self.score_threshold, self.most = num_classes, score_threshold, most
        self.preprocess = Preprocess(mean, std, size_divisibility=STRIDE)
        self.features = nn.Sequential(
            *(_convolution(3, 16, 2), _convolution(16, 32, 2), _convolution(32, 64, 2)),
            *(_convolution(64, 64) for _ in range(4)),
        )
        self.head = nn.Conv2d(64, num_classes + 4, 1)
        bias = self.head.get_parameter("bias")
        nn.init.constant_(bias[:num_classes], -4.6)  # scores start at 0.01 (focal loss, Lin et al. 2017)

    def forward(self, batch: Batch) -> Losses | Outputs:
        """Losses in training mode, predictions in evaluation mode; see the contract."""
        images = self.preprocess(batch)
        logits, boxes = self._predict(images.tensor)
        if self.training:
            return self._losses(batch, logits, boxes, columns=images.tensor.shape[-1] // STRIDE)
        sizes = images.image_sizes
        return [self._output(*parts) for parts in zip(batch, sizes, logits.sigmoid(), boxes, strict=True)]

    def _predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, cells, classes) and boxes (N, cells, 4), XYXY in pixels of ``images``; cells row by row."""
        raw = self.head(self.features(images))
        rows, columns = raw.shape[-2:]
        flat = raw.flatten(2).transpose(1, 2)
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        centres = ((torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * STRIDE).to(raw)
        sides = F.softplus(flat[..., self.num_classes :]) * STRIDE * 2
        boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], dim=-1)
        return flat[..., : self.num_classes], boxes

    def _losses(self, batch: Batch, logits: Tensor, boxes: Tensor, columns: int) -> Losses:
        targets = torch.zeros_like(logits)
        box_loss, count = boxes.sum() * 0, 0
        for i, entry in enumerate(batch):
            instances = entry["instances"].to(logits.device)
            truth, classes = instances.gt_boxes.tensor, instances.gt_classes
            cell_xy = (instances.gt_boxes.get_centers() / STRIDE).long()
            cell = (cell_xy[:, 1] * columns + cell_xy[:, 0]).clamp(0, logits.shape[1] - 1)
            targets[i, cell, classes] = 1
            box_loss = box_loss + generalized_box_iou_loss(boxes[i, cell], truth, reduction="sum")
            count += len(instances)
        class_loss = sigmoid_focal_loss(logits, targets, reduction="sum")
        return {"loss_cls": class_loss / max(count, 1), "loss_box": box_loss / max(count, 1)}

    def _output(self, entry: dict[str, Any], size: tuple[int, int], scores: Tensor, boxes: Tensor) -> dict[str, Any]:
        """The predictions of one image, in pixels of the original image."""
        best, classes = scores.max(dim=-1)
        kept = best > self.score_threshold
        best, classes, found = best[kept], classes[kept], Boxes(boxes[kept])
        height, width = entry["height"], entry["width"]
        found.scale(width / size[1], height / size[0])
        found.clip((height, width))
        order = batched_nms(found.tensor, best, classes, 0.6)[: self.most]  # sorts by score as well
        fields = {"pred_boxes": found[order], "scores": best[order], "pred_classes": classes[order]}
        return {"instances": Instances((height, width), **fields)}


@MODELS.register("grid_detector")
def build_grid_detector(cfg: CfgNode) -> GridDetector:
    """The detector that a config describes."""
    model, test = cfg.MODEL, cfg.TEST
    return GridDetector(
        model.NUM_CLASSES, model.PIXEL_MEAN, model.PIXEL_STD, model.SCORE_THRESH_TEST, test.DETECTIONS_PER_IMAGE
    )


def config(output: str, images: int, max_iter: int) -> CfgNode:
    """A config for a drawn dataset in ``output``."""
    data = make_synthetic(f"{output}/data", train=images, val=max(1, images // 10))
    cfg = get_cfg()
    quickstart(cfg, "grid_detector", max_iter)
    cfg.OUTPUT_DIR = output
    cfg.DATASETS.REGISTER = {
        "grid_train": {"json": data.train_json, "images": data.train_images},
        "grid_val": {"json": data.val_json, "images": data.val_images},
    }
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("grid_train",), ("grid_val",)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (128,), 128
    cfg.SOLVER.BASE_LR = 0.002
    cfg.SEED = 0
    return cfg


def main(args: argparse.Namespace) -> DefaultTrainer:
    """Train it, by name or as an object."""
    cfg = config(args.output, args.images, args.max_iter)
    default_setup(cfg, args)
    if args.as_object:
        model = GridDetector(len(SHAPE_NAMES), cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
        trainer = DefaultTrainer(cfg, model=model.to(resolve_device(cfg.MODEL.DEVICE)))
    else:
        trainer = DefaultTrainer(cfg)  # MODEL.NAME is "grid_detector"
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    result = argparse.ArgumentParser(description="Train a detector of one's own.")
    result.add_argument("--as-object", action="store_true", help="give the model itself rather than its name")
    result.add_argument("--max-iter", type=int, default=1000, help="iterations (%(default)s)")
    result.add_argument("--images", type=int, default=500, help="images to draw (%(default)s)")
    result.add_argument("--output", default="output/custom_model", help="where everything goes (%(default)s)")
    return result


if __name__ == "__main__":
    main(parser().parse_args())
