"""Pictures of what the model predicts while it trains."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from drivetrain.checkpoint.checkpointer import unwrap_model
from drivetrain.runtime import comm

from .schedule import PeriodicHook
from .undisturbed import undisturbed

__all__ = ["SamplePredictions"]

logger = logging.getLogger(__name__)

Draw = Callable[[dict[str, Any], dict[str, Any]], torch.Tensor]


class SamplePredictions(PeriodicHook):
    """Puts pictures with predicted boxes, named ``predictions/0``, ``predictions/1`` ..., always of the same images.

    Writers that take pictures (TensorBoard) show how predictions change. Rank 0 alone does it; training is not changed.

    Args:
        period: iterations between two sets of pictures; 0 for the end alone.
        inputs: what the model is to be shown, as ``model(inputs)`` takes it (default: the first batch of the
            training, as the loader augmented it; of a resumed one too if the loader can make batches by their number).
        max_images: so many of them.
        draw: makes a picture, a uint8 tensor of shape (3, height, width) in RGB, from one input and the model's
            output for it (default: boxes with name and score).
        score_threshold: the default drawing leaves out boxes below it.
        class_names: names for the default drawing.
        input_format: channel order of the inputs' ``image``, ``"RGB"`` or ``"BGR"``.
    """

    def __init__(
        self,
        period: int,
        inputs: Sequence[dict[str, Any]] | None = None,
        *,
        max_images: int = 4,
        draw: Draw | None = None,
        score_threshold: float = 0.5,
        class_names: Sequence[str] = (),
        input_format: str = "RGB",
    ) -> None:
        super().__init__(period)
        self._inputs = None if inputs is None else list(inputs[:max_images])
        self._max_images = max_images
        self._draw = self._draw_boxes if draw is None else draw
        self._score_threshold = score_threshold
        self._class_names = class_names
        self._swap_channels = input_format == "BGR"
        self._capture: Any = None

    def before_train(self) -> None:
        """Make the first batch again, or wait for it, if no inputs were given."""
        if self._inputs is None and comm.is_main_process():
            first = self._first_batch_again()
            if _has_images(first):
                self._take(first)
            else:
                self._capture = self.trainer.model.register_forward_pre_hook(self._keep)
        super().before_train()

    def after_train(self) -> None:
        """As the base class; and stop looking for a batch that never came."""
        super().after_train()
        if self._capture is not None:
            self._capture.remove()
            self._capture = None

    def act(self, iteration: int) -> None:
        """Predict and put the pictures."""
        if not self._inputs or not comm.is_main_process():
            return
        model = unwrap_model(self.trainer.model)
        with undisturbed(model), torch.no_grad():
            model.eval()
            outputs = model(self._inputs)
        for index, (item, output) in enumerate(zip(self._inputs, outputs, strict=True)):
            self.trainer.storage.put_image(f"predictions/{index}", self._draw(item, output))

    def _first_batch_again(self) -> Any:
        """The first batch of a resumed training, if its loader can make it; else None."""
        make = getattr(getattr(self.trainer, "data_loader", None), "batch", None)
        if self.trainer.start_iter == 0 or not callable(make):
            return None
        try:
            with undisturbed(None):
                return make(0)
        except Exception as error:  # the method may be another one of that name
            logger.warning("SamplePredictions shows other images than before the resume: %s", error)
            return None

    def _keep(self, model: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        """Take the first batch that comes."""
        self._capture.remove()
        self._capture = None
        batch = inputs[0] if inputs else None
        if _has_images(batch):
            self._take(batch)
        else:
            logger.warning(
                "SamplePredictions shows nothing: batches are no lists of dicts with an image; give `inputs`"
            )

    def _take(self, batch: Any) -> None:
        """Copy the images of a batch: the loader may use their memory again."""
        self._inputs = [
            {key: _copied(value) for key, value in item.items() if key != "instances"}
            for item in batch[: self._max_images]
        ]

    def _draw_boxes(self, item: dict[str, Any], output: dict[str, Any]) -> torch.Tensor:
        """The input image with the predicted boxes on it."""
        from torchvision.utils import draw_bounding_boxes  # takes seconds to import

        image = item["image"].to("cpu", torch.uint8)
        image = image.flip(0) if self._swap_channels else image
        instances = output["instances"].to("cpu")
        keep = instances.scores >= self._score_threshold
        if not bool(keep.any()):
            return torch.as_tensor(image)
        # Predictions are in the original image's pixels, the input may be a resized one.
        height, width = instances.image_size
        scale = torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2)
        labels = [
            f"{self._class_names[c] if c < len(self._class_names) else c} {score:.2f}"
            for c, score in zip(instances.pred_classes[keep].tolist(), instances.scores[keep].tolist(), strict=True)
        ]
        boxes = instances.pred_boxes.tensor[keep] * scale
        return torch.as_tensor(draw_bounding_boxes(image, boxes, labels, width=2))


def _has_images(batch: Any) -> bool:
    return isinstance(batch, Sequence) and len(batch) > 0 and isinstance(batch[0], dict) and "image" in batch[0]


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value
