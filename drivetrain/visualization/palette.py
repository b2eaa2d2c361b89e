"""One stable colour per class.

Colours are made in OKLCH (https://bottosson.github.io/posts/oklab/), where equal steps look equally
different: the hue goes on by the golden angle from class to class, so that neighbours in the list are far
apart on the colour circle and no two classes share a hue, and lightness changes in a cycle of three.
"""

from __future__ import annotations

import math
from functools import lru_cache

__all__ = ["class_color", "text_color"]

_GOLDEN_ANGLE = 180 * (3 - math.sqrt(5))
_FIRST_HUE = 25.0  # degrees; a red
_LIGHTNESS = (0.70, 0.80, 0.62)
_CHROMA = 0.21  # more than the screen shows for some hues, there it is reduced


@lru_cache(maxsize=4096)
def class_color(index: int) -> tuple[int, int, int]:
    """The colour (R, G, B in 0..255) of the class with this index; always the same for the same index.

    Args:
        index: contiguous class index; a negative one stands for "no class" and gives a grey.
    """
    if index < 0:
        return (160, 160, 160)
    hue = math.radians((_FIRST_HUE + index * _GOLDEN_ANGLE) % 360)
    lightness = _LIGHTNESS[index % len(_LIGHTNESS)]
    chroma = _CHROMA
    while True:
        linear = _oklab_to_linear(lightness, chroma * math.cos(hue), chroma * math.sin(hue))
        if all(0 <= channel <= 1 for channel in linear):
            red, green, blue = (round(255 * _gamma(channel)) for channel in linear)
            return (red, green, blue)
        chroma -= 0.005  # a grey of this lightness is always inside, so this ends


def text_color(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever has the higher contrast (WCAG 2 relative luminance) on ``background``."""
    red, green, blue = (_linear(channel / 255) for channel in background)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    on_black, on_white = (luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05)
    return (0, 0, 0) if on_black >= on_white else (255, 255, 255)


def _oklab_to_linear(lightness: float, a: float, b: float) -> tuple[float, float, float]:
    """Linear sRGB of a colour in OKLab, outside [0, 1] when a screen cannot show it."""
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )


def _gamma(linear: float) -> float:
    """sRGB transfer function, from linear light."""
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def _linear(encoded: float) -> float:
    """The inverse of :func:`_gamma`."""
    return encoded / 12.92 if encoded <= 0.04045 else ((encoded + 0.055) / 1.055) ** 2.4
