"""The transformers library: imported when one of its models is built, its classes found by the model's type."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from torch import nn

from drivetrain.errors import MissingDependencyError, ModelError, did_you_mean

__all__ = [
    "KINDS",
    "UNIVERSAL_TYPES",
    "auto_class",
    "config_class",
    "make_model",
    "model_types",
    "quiet",
    "require_library",
]

KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "detection": ("AutoModelForObjectDetection", "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES"),
        "masks": ("AutoModelForUniversalSegmentation", "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES"),
        "semantic": ("AutoModelForSemanticSegmentation", "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES"),
        "classification": ("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
    }
)
"""Kind of model -> the library's class that makes one, and its table of model types."""
UNIVERSAL_TYPES = ("mask2former", "maskformer")
"""Model types that predict a class and a mask per query, and so serve instance, semantic and panoptic segmentation."""


def require_library(purpose: str) -> None:
    """Import transformers and what its losses need.

    Args:
        purpose: what needs it, the beginning of the error message.

    Raises:
        MissingDependencyError: transformers or scipy is not installed.
    """
    try:
        import transformers  # noqa: F401
    except ImportError as err:
        raise MissingDependencyError.for_extra("transformers", "transformers", purpose) from err
    try:
        import scipy  # noqa: F401
    except ImportError as err:
        raise MissingDependencyError.for_extra("scipy", "transformers", purpose) from err


def config_class(model_type: str) -> Any:
    """The library's config class for a model type such as ``"rt_detr_v2"``.

    Raises:
        ModelError: the installed release has no such type.
    """
    from transformers import __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        hint = did_you_mean(str(model_type), CONFIG_MAPPING) or ""
        raise ModelError(f"transformers {__version__} has no model type {model_type!r}{hint}")
    return CONFIG_MAPPING[model_type]


def auto_class(kind: str) -> Any:
    """The library's class that makes models of a kind from a config or a folder.

    Args:
        kind: ``"detection"``, ``"masks"``, ``"semantic"`` or ``"classification"``.
    """
    return getattr(_auto_module(), KINDS[kind][0])


def make_model(kind: str, config: Any) -> nn.Module:
    """The model of a kind (see :func:`auto_class`) that a config of the library describes, with random weights.

    Raises:
        ModelError: the config's values do not go together.
    """
    config.architectures = config.architectures or []  # where types have several classes, None is not understood
    try:
        with quiet():
            net: nn.Module = auto_class(kind).from_config(config)
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError, AssertionError, ZeroDivisionError) as err:
        reason = " ".join(str(err).split())
        raise ModelError(
            f"transformers cannot build a {config.model_type} from these values (MODEL.TRANSFORMERS.CONFIG): {reason}"
        ) from err
    return net


def model_types(kind: str) -> list[str]:
    """The model types of a kind (see :func:`auto_class`) that the installed release has and Drivetrain can train."""
    types: list[str] = list(getattr(_auto_module(), KINDS[kind][1]))
    if kind == "detection":
        from .families import FAMILIES

        return [name for name in types if name in FAMILIES]
    return [name for name in types if kind != "masks" or name in UNIVERSAL_TYPES]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library from logging warnings and drawing progress bars meanwhile."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _auto_module() -> Any:
    return importlib.import_module("transformers.models.auto.modeling_auto")
