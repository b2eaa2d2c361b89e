"""DefaultPredictor: images and videos in, predictions out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from drivetrain.config import CfgNode
from drivetrain.data.catalog import Metadata, MetadataCatalog
from drivetrain.data.images import ImageFile, convert_PIL_to_numpy
from drivetrain.data.pixels import as_image, reversed_channels
from drivetrain.data.transforms import build_augmentation
from drivetrain.errors import UserInputError
from drivetrain.modeling import build_model

from .config import get_cfg
from .data import as_names
from .video import VideoFrames, is_video
from .weights import config_of_checkpoint, load_for_inference

__all__ = ["DefaultPredictor"]


class DefaultPredictor:
    """A model with its weights, ready to predict.

    Args:
        cfg: the config; ``MODEL.WEIGHTS`` names the checkpoint, whose class names are used when no dataset in
            ``DATASETS.TEST`` is registered.

    Attributes:
        cfg: a copy of the config.
        metadata: the test dataset's metadata; ``thing_classes`` holds the class names.
        model: the model, in evaluation mode.
        aug: the resizing before the model; it may be changed, or another one be set.
        input_format: the model's channel order, ``"RGB"`` or ``"BGR"``.

    Raises:
        CheckpointError: the weights are missing, damaged or of another model.

    Example::

        predictor = DefaultPredictor.from_checkpoint("output/model_final.pth")
        instances = predictor("image.jpg")["instances"]
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.clone()
        names: list[str] = []
        if self.cfg.MODEL.NUM_CLASSES == 0:
            names = self._class_names()
            frozen = self.cfg.is_frozen()
            self.cfg.defrost()
            self.cfg.MODEL.NUM_CLASSES = len(names)
            if frozen:
                self.cfg.freeze()
        self.model = build_model(self.cfg).eval()
        metadata = load_for_inference(self.model, self.cfg.MODEL.WEIGHTS)
        self.metadata = self._metadata(names or list(metadata.get("class_names", [])))  # type: ignore[call-overload]
        self.input_format: str = self.cfg.INPUT.FORMAT
        if self.input_format not in ("RGB", "BGR"):
            raise UserInputError(f"INPUT.FORMAT={self.input_format!r} cannot be made from an image: use 'RGB' or 'BGR'")
        (self.aug,) = build_augmentation(self.cfg, is_train=False)

    @classmethod
    def from_checkpoint(cls, path: str | Path, overrides: Iterable[str] = ()) -> DefaultPredictor:
        """A predictor from a checkpoint alone: model, sizes and class names travel in it.

        Args:
            path: a checkpoint saved by a training.
            overrides: config keys to change, as ``KEY=VALUE``.
        """
        cfg, names = config_of_checkpoint(str(path), get_cfg())
        cfg.DATASETS.TEST = ()  # the names are those of the checkpoint, whatever is registered here
        cfg.MODEL.WEIGHTS = str(path)
        cfg.MODEL.DEVICE = "auto"
        cfg.MODEL.COMPILE = False  # it takes longer than many a prediction; the overrides may ask for it
        cfg.MODEL.NUM_CLASSES = cfg.MODEL.NUM_CLASSES or len(names)
        cfg.merge_from_list(list(overrides))
        return cls(cfg)

    def __call__(self, original_image: Any, batch_size: int = 1) -> Any:
        """Predict.

        Args:
            original_image: an array of shape (H, W, 3), uint8, in BGR order; a path; a PIL image; or a list or
                iterator of such. A path with a video's suffix stands for the video's frames; see :meth:`video`.
            batch_size: images per call of the model, for lists, iterators and videos. Images of different size after
                resizing do not share a batch, so that results are those of one by one: the same bits for 1, and for
                more up to what a convolution rounds differently in a batch (about 1e-6 of a score).

        Returns:
            One output dict, ``{"instances": Instances}`` with boxes (XYXY) in the image's own pixels; a list of them
            for a list; an iterator, which reads as it goes, for an iterator or a video.

        Raises:
            UserInputError: something is no image.
        """
        if isinstance(original_image, (str, Path)) and is_video(original_image):
            return self.video(original_image, batch_size)
        if isinstance(original_image, (np.ndarray, str, Path, Image.Image)):
            return self._run([self._prepare(original_image)])[0]
        if isinstance(original_image, (list, tuple)):
            return list(self._predict(original_image, batch_size))
        if isinstance(original_image, Iterable) and not isinstance(original_image, (torch.Tensor, bytes, dict)):
            return self._predict(original_image, batch_size)
        raise UserInputError(_not_an_image(original_image))

    def video(self, path: str | Path, batch_size: int = 1) -> Iterator[dict[str, Any]]:
        """Predict on each frame of a video file or an animated GIF, turned upright, in their order.

        Args:
            path: the file.
            batch_size: frames per call of the model.

        Returns:
            An iterator over the frames' output dicts. It decodes as it goes: memory holds a batch of frames, however
            long the video is.

        Raises:
            DatasetError: the file is missing, no video or damaged; at once where its header tells.
            MissingDependencyError: PyAV (``pip install 'drivetrain[video]'``) is not installed; a GIF needs none.
        """
        return self._predict(VideoFrames(path, "BGR"), batch_size)

    def _predict(self, images: Iterable[Any], batch_size: int) -> Iterator[dict[str, Any]]:
        if batch_size < 1:
            raise UserInputError(f"batch_size={batch_size} must be at least 1")
        return self._batches(iter(images), batch_size)

    def _batches(self, images: Iterator[Any], batch_size: int) -> Iterator[dict[str, Any]]:
        for _, same_size in groupby(map(self._prepare, images), key=lambda item: item["image"].shape):
            while batch := list(islice(same_size, batch_size)):
                yield from self._run(batch)

    @torch.no_grad()  # inference_mode would give tensors that users cannot change in place
    def _run(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        outputs: list[dict[str, Any]] = self.model(batch)
        return outputs

    def _prepare(self, source: Any) -> dict[str, Any]:
        """One image as the model takes it: resized, (3, H, W), in the model's channel order, in memory of its own."""
        image, reverse = self._read(source)
        height, width = image.shape[1:]
        resized = self.aug.draw(np.random.default_rng(0), height, width).apply_image(image)
        if reverse:
            resized = reversed_channels(resized)
        elif resized is image:  # whose memory may be the caller's
            resized = resized.clone()
        return {"image": resized, "height": height, "width": width}

    def _read(self, source: Any) -> tuple[torch.Tensor, bool]:
        """A uint8 tensor (3, H, W), and whether its channels are in the other order than the model's."""
        if isinstance(source, (str, Path)):
            return ImageFile(source, self.input_format).tensor(), False
        if isinstance(source, Image.Image):
            return as_image(convert_PIL_to_numpy(source, self.input_format)), False
        if not isinstance(source, np.ndarray) or source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8:
            raise UserInputError(_not_an_image(source))
        reverse = self.input_format == "RGB"
        if source.strides[2] < 0:  # the view of an RGB array as BGR
            source, reverse = source[:, :, ::-1], not reverse
        return as_image(source if source.flags.writeable else source.copy()), reverse

    def _class_names(self) -> list[str]:
        """Class names of the registered test dataset, or of the checkpoint."""
        for name in as_names(self.cfg.DATASETS.TEST):
            if names := MetadataCatalog.get(name).get("thing_classes"):
                return list(names)
        if self.cfg.MODEL.WEIGHTS:
            return config_of_checkpoint(self.cfg.MODEL.WEIGHTS, get_cfg())[1]
        return []

    def _metadata(self, names: list[str]) -> Metadata:
        for dataset in as_names(self.cfg.DATASETS.TEST):
            metadata = MetadataCatalog.get(dataset)
            if metadata.get("thing_classes") is None and names:
                return Metadata(**{**metadata.as_dict(), "thing_classes": names})  # the catalog's stays as it is
            return metadata
        return Metadata("predictor", **({"thing_classes": names} if names else {}))


def _not_an_image(value: Any) -> str:
    kind = {np.ndarray: "an array", torch.Tensor: "a tensor"}.get(type(value), "")
    shown = f"{kind} of shape {tuple(value.shape)} and type {value.dtype}" if kind else f"{value!r:.80}"
    return f"{shown} is no image: give an array of shape (H, W, 3) and type uint8 in BGR order, a path or a PIL image"
