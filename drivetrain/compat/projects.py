"""Parts of detectron2's projects that training scripts and mappers take from them.

The models themselves (DeepLab, PointRend, ...) are not here.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from drivetrain.config import CfgNode
from drivetrain.errors import ConfigError

from .transforms_base import Array
from .transforms_color import StillTransform

__all__ = ["ColorAugSSDTransform", "add_deeplab_config"]


def add_deeplab_config(cfg: CfgNode) -> None:
    """Add the model's keys of DeepLab's project, with its defaults, so that its configs load.

    ``build_model`` says that its architecture is not here; its schedule is, with the keys ``SOLVER.POLY_LR_*``.
    """
    head, resnets = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.RESNETS
    head.LOSS_TYPE = "hard_pixel_mining"
    head.PROJECT_FEATURES, head.PROJECT_CHANNELS = ["res2"], [48]
    head.ASPP_CHANNELS, head.ASPP_DILATIONS, head.ASPP_DROPOUT = 256, [6, 12, 18], 0.1
    head.USE_DEPTHWISE_SEPARABLE_CONV = False
    resnets.RES4_DILATION, resnets.RES5_MULTI_GRID, resnets.STEM_TYPE = 1, [1, 2, 4], "deeplab"


class ColorAugSSDTransform(StillTransform):
    """SSD's changes of brightness, contrast, saturation and hue, drawn anew for each image.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector" (ECCV 2016), section 2.2. Each change happens with a
    probability of one half; contrast comes before or after the two of colour.
    """

    def __init__(
        self,
        img_format: str,
        brightness_delta: int = 32,
        contrast_low: float = 0.5,
        contrast_high: float = 1.5,
        saturation_low: float = 0.5,
        saturation_high: float = 1.5,
        hue_delta: int = 18,
    ) -> None:
        """Define the changes.

        Args:
            img_format: order of the channels, "RGB" or "BGR".
            brightness_delta: the most that is added to all values, of 255.
            contrast_low: the smallest factor of all values.
            contrast_high: the largest.
            saturation_low: the smallest factor of the saturation.
            saturation_high: the largest.
            hue_delta: the most that the hue is turned, in units of two degrees.

        Raises:
            ConfigError: ``img_format`` is another.
        """
        if img_format not in ("RGB", "BGR"):
            raise ConfigError(f"the img_format of ColorAugSSDTransform must be 'RGB' or 'BGR', not {img_format!r}")
        self.is_rgb = img_format == "RGB"
        self.brightness_delta, self.hue_delta = brightness_delta, hue_delta
        self.contrast, self.saturation = (contrast_low, contrast_high), (saturation_low, saturation_high)

    def apply_image(self, img: Array) -> Array:
        """The changed image, uint8 (H, W, 3); draws by NumPy's global generator."""
        picture = img if self.is_rgb else img[:, :, ::-1]
        if _one_in_two():
            picture = _as_uint8(picture + np.random.uniform(-self.brightness_delta, self.brightness_delta))
        colour_first = _one_in_two()
        picture = self._in_colour(picture) if colour_first else picture
        if _one_in_two():
            picture = _as_uint8(picture * np.random.uniform(*self.contrast))
        picture = picture if colour_first else self._in_colour(picture)
        return np.ascontiguousarray(picture if self.is_rgb else picture[:, :, ::-1])

    def _in_colour(self, picture: Array) -> Array:
        """The image, RGB, with another saturation and hue."""
        hsv = np.array(Image.fromarray(np.ascontiguousarray(picture)).convert("HSV"))
        if _one_in_two():
            hsv[..., 1] = _as_uint8(hsv[..., 1] * np.random.uniform(*self.saturation))
        if _one_in_two():
            turn = round(np.random.randint(-self.hue_delta, self.hue_delta + 1) * 256 / 180)
            hsv[..., 0] = (hsv[..., 0].astype(int) + turn) % 256
        return np.array(Image.fromarray(hsv, "HSV").convert("RGB"))


def _one_in_two() -> bool:
    return bool(np.random.randint(2))


def _as_uint8(values: Array) -> Array:
    return values.clip(0, 255).astype(np.uint8)
