"""A model from a local folder as the library saves it: ``config.json`` and weights in ``.safetensors`` files.

Nothing is downloaded, no code of the folder runs, and pickle files are not read.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from drivetrain.errors import CorruptCheckpointError, IncompatibleWeightsError, ModelError
from drivetrain.modeling.weights import load_weights

from .configs import build_config, config_from
from .library import auto_class, config_class, make_model, quiet

__all__ = ["load_folder", "read_config", "warn_of_normalisation"]

logger = logging.getLogger(__name__)

# The library's other way to name a backbone; some of its configs look such a name up on the hub.
_TIMM_BY_NAME = ("detr", "conditional_detr", "dab-detr", "deformable_detr", "table-transformer")


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a folder's ``config.json``.

    Raises:
        ModelError: there is no such folder or file, or it is not a config of the library.
    """
    file = folder / "config.json"
    if not file.is_file():
        what = "there is no config.json in it" if folder.is_dir() else "there is no such folder"
        raise ModelError(
            f"{str(folder)!r} (MODEL.TRANSFORMERS.BASE) is no saved model: {what}; nothing is downloaded, so give a "
            "folder that the library's save_pretrained wrote"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise ModelError(f"{file} cannot be read: {err}") from err
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise ModelError(f"{file} is not a config of the transformers library: it has no model_type")
    named = isinstance(content.get("backbone"), str) and not content.get("backbone_config")
    if named and content["model_type"] not in _TIMM_BY_NAME:
        raise ModelError(
            f"{file} takes its backbone by the name {content['backbone']!r}, which the library looks up on the hub: "
            "save it with a release that writes backbone_config"
        )
    return content


def load_folder(
    folder: Path, content: Mapping[str, Any], kind: str, fields: Mapping[str, Any], num_classes: int
) -> nn.Module:
    """The model of a folder with its weights, as many of them as fit; what does not fit is logged as a table.

    Args:
        folder: with the weights.
        content: of its ``config.json``.
        kind: see :func:`~drivetrain.modeling.transformers.library.auto_class`.
        fields: config fields to be changed.
        num_classes: of the new model; where the saved one had others, the layers that depend on it start anew.

    Raises:
        ModelError: a field is wrong.
        CorruptCheckpointError: the weights cannot be read.
        IncompatibleWeightsError: none of the weights fits.
    """
    as_saved, missing, unexpected = _as_saved(folder, content, kind)
    config = build_config(content["model_type"], fields, num_classes, saved=content)
    net = make_model(kind, config)
    state = {name: tensor for name, tensor in as_saved.state_dict().items() if name not in missing}
    report = load_weights(net, state, source=str(folder), partial=True)
    report = dataclasses.replace(report, unexpected=(*report.unexpected, *unexpected))
    if not report.complete:
        logger.warning(report.render())
    return net


def warn_of_normalisation(folder: Path, mean: Sequence[float], std: Sequence[float], *, bgr: bool) -> None:
    """Log a warning where a folder's weights were trained on images normalised otherwise.

    Args:
        folder: whose ``preprocessor_config.json`` says so, if it has one.
        mean: MODEL.PIXEL_MEAN.
        std: MODEL.PIXEL_STD.
        bgr: whether these are in the order blue, green, red.
    """
    file = folder / "preprocessor_config.json"
    try:
        wanted = _normalisation(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError):
        return  # it says nothing, or nothing that can be understood
    order = -1 if bgr else 1
    given = [list(mean)[::order], list(std)[::order]]
    pairs = zip((*wanted[0], *wanted[1]), (*given[0], *given[1]), strict=False)
    if any(abs(theirs - ours) > 0.5 for theirs, ours in pairs):
        logger.warning(
            f"{file} says that the weights expect images of MODEL.PIXEL_MEAN {wanted[0]} and MODEL.PIXEL_STD "
            f"{wanted[1]} (RGB), but the config has {given[0]} and {given[1]}"
        )


def _normalisation(content: Mapping[str, Any]) -> list[list[float]]:
    """Mean and standard deviation per channel, 0..255 scale, of a ``preprocessor_config.json``."""
    scale = 1 / content.get("rescale_factor", 1 / 255)
    if not content.get("do_normalize", True):
        return [[0.0] * 3, [scale] * 3]
    return [[round(float(value) * scale, 3) for value in content[key]] for key in ("image_mean", "image_std")]


def _as_saved(folder: Path, content: Mapping[str, Any], kind: str) -> tuple[nn.Module, set[str], list[str]]:
    """The folder's model with its own config, the tensors it lacks, and those in its files that the model lacks."""
    config = config_from(config_class(content["model_type"]), content, str(folder / "config.json"))
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{str(folder)!r} (MODEL.TRANSFORMERS.BASE) holds no .safetensors file, and pickle files are not read: "
            "save the model again with save_pretrained"
        )
    try:
        with quiet():
            net, info = auto_class(kind).from_pretrained(
                str(folder),
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
    except RuntimeError as err:
        raise IncompatibleWeightsError(f"the weights in {str(folder)!r} do not fit its config.json: {err}") from err
    except (OSError, ValueError, SafetensorError) as err:
        raise CorruptCheckpointError(f"the weights in {str(folder)!r} cannot be read: {err}") from err
    return net, set(info["missing_keys"]), sorted(info["unexpected_keys"])
