"""A detector of torchvision's own, trained without a config: loaders, hooks, checkpoints and evaluation as objects.

    python examples/without_config.py output/without_config

Started again with more iterations, as in ``... output/without_config 600``, it goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS

from drivetrain import DatasetCatalog, SimpleTrainer, register_coco_instances
from drivetrain.checkpoint import DetectionCheckpointer
from drivetrain.data import DatasetMapper, build_detection_test_loader, build_detection_train_loader
from drivetrain.data.formats.synthetic import make_synthetic
from drivetrain.data.transforms import RandomFlip
from drivetrain.engine import default_writers
from drivetrain.engine.hooks import EvalHook, IterationTimer, LRScheduler, PeriodicCheckpointer, PeriodicWriter
from drivetrain.evaluation import COCOEvaluator, inference_on_dataset
from drivetrain.modeling import Batch, Losses, Outputs
from drivetrain.runtime.device import resolve_device
from drivetrain.runtime.logging import setup_logger
from drivetrain.structures import Boxes, Instances


class Detector(nn.Module):
    """torchvision's FCOS over a small network of one level, stride 8, in the model contract."""

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        stages = [(3, 16, 2), (16, 32, 2), (32, 64, 2), (64, 64, 1), (64, 64, 1)]
        layers = [(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b, stride in stages]
        backbone = nn.Sequential(*(layer for stage in layers for layer in stage))
        backbone.out_channels = stages[-1][1]  # type: ignore[assignment] # where FCOS looks for it
        anchors = AnchorGenerator(sizes=((8,),), aspect_ratios=((1.0,),))
        self.net = FCOS(backbone, num_classes, min_size=size, max_size=2 * size, anchor_generator=anchors)

    def forward(self, batch: Batch) -> Losses | Outputs:
        """Losses in training mode, predictions in evaluation mode."""
        device = next(self.parameters()).device
        images = [entry["image"].to(device).float() / 255 for entry in batch]
        if not self.training:
            return [self._output(*pair) for pair in zip(batch, self.net(images), strict=True)]
        truth = [entry["instances"].to(device) for entry in batch]
        targets = [{"boxes": objects.gt_boxes.tensor, "labels": objects.gt_classes} for objects in truth]
        return {f"loss_{name}": value for name, value in self.net(images, targets).items()}

    def _output(self, entry: dict[str, Any], found: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The predictions of one image; the loaders here do not resize, so that its pixels are those of the file."""
        fields = {"scores": found["scores"], "pred_classes": found["labels"]}
        size = (entry["height"], entry["width"])
        return {"instances": Instances(size, pred_boxes=Boxes(found["boxes"]), **fields)}


def loaders(folder: str, images: int) -> tuple[Iterable[Batch], Iterable[Batch]]:
    """Draw images, register them, and make the loaders of the training and of the evaluation."""
    data = make_synthetic(f"{folder}/data", train=images, val=max(1, images // 10))
    register_coco_instances("objects_train", {}, data.train_json, data.train_images)
    register_coco_instances("objects_val", {}, data.val_json, data.val_images)
    mapper = DatasetMapper(True, augmentations=[RandomFlip()], image_format="RGB")
    train = build_detection_train_loader(DatasetCatalog.get("objects_train"), mapper, total_batch_size=4, seed=0)
    mapper = DatasetMapper(False, augmentations=[], image_format="RGB")
    return train, build_detection_test_loader(DatasetCatalog.get("objects_val"), mapper=mapper)


def main(folder: str, iterations: int = 300, images: int = 500) -> SimpleTrainer:
    """Train in ``folder`` up to so many iterations."""
    setup_logger(folder)
    train, test = loaders(folder, images)
    model = Detector(num_classes=3, size=128).to(resolve_device("auto"))
    trainer = SimpleTrainer(model, train, torch.optim.AdamW(model.parameters(), lr=2e-3))
    checkpointer = DetectionCheckpointer(model, folder, trainer=trainer)
    trainer.register_hooks(
        [
            IterationTimer(),
            LRScheduler(scheduler=lambda progress: min(1, 20 * progress) * (1 - progress)),
            PeriodicCheckpointer(checkpointer, 100),
            EvalHook(100, lambda: inference_on_dataset(model, test, COCOEvaluator("objects_val"))),
            PeriodicWriter(default_writers(folder, max_iter=iterations)),
        ]
    )
    checkpointer.resume_or_load("")
    trainer.train(trainer.iter + 1 if checkpointer.has_checkpoint() else 0, iterations)
    return trainer


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
