"""Image classification with any network of timm or torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError

from .adapted import AdaptedModel
from .backbones import freeze_batch_norm
from .contract import Batch, Losses, Outputs
from .preprocess import Preprocess
from .targets import class_ids

__all__ = ["Classifier", "build_classifier"]

_WEIGHTS = frozenset(("pretrained", "weights", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"))
_AUXILIARY_WEIGHT = 0.3  # of GoogLeNet's further classifiers (Szegedy et al. 2014, section 5)


class Classifier(AdaptedModel):
    """A network from images (N, 3, H, W) to logits (N, K), under the model contract.

    Target: ``class_id``; the losses are ``loss_cls`` and, of auxiliary classifiers, ``loss_aux``. Output: ``classes``,
    float (K,). In training images of different sizes are padded at the right and bottom to the largest: let the mapper
    give images of one size (INPUT.RESIZE). In evaluation only images of one size run together, none padded. A network
    that takes one image size alone is told so in ``image_size``.

    Attributes:
        net: the library's network; weights saved by the library fit it.
        num_classes: K.
        image_size: (height, width) that images have to have, or None.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        *,
        label_smoothing: float = 0.0,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        """Adapt ``net``.

        Args:
            net: gives logits, or a tuple of them and those of auxiliary classifiers in training.
            num_classes: of the logits.
            pixel_mean: per channel, 0..255 scale.
            pixel_std: per channel, 0..255 scale.
            label_smoothing: the share of the target that is spread evenly over all classes, 0 to 1.
            image_size: see the attribute.
        """
        super().__init__()
        self.net = net
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.image_size = image_size
        self.preprocess = Preprocess(pixel_mean, pixel_std, size_divisibility=1)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the network, without the reading of batches around it."""
        self.net.compile(*args, **kwargs)

    def batch_losses(self, batch: Batch) -> Losses:
        """See the class.

        Raises:
            ModelError: an entry has no ``class_id``, or one that the model does not have; or an image does not fit.
        """
        classes = class_ids(batch, self.num_classes).to(self.preprocess.device, non_blocking=True)
        outputs = self._run(batch)
        logits, *others = outputs if isinstance(outputs, tuple) else (outputs,)
        losses = {"loss_cls": self._loss(logits, classes)}
        further = [self._loss(other, classes) for other in others if other is not None]
        if further:
            losses["loss_aux"] = _AUXILIARY_WEIGHT * torch.stack(further).sum()
        return losses

    def batch_outputs(self, batch: Batch) -> Outputs:
        """``classes`` per image.

        Raises:
            ModelError: the images do not have the size that the network takes.
        """
        outputs = self._run(batch)
        logits: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
        return [{"classes": classes} for classes in logits.float().softmax(dim=1)]

    def _loss(self, logits: Tensor, classes: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), classes, label_smoothing=self.label_smoothing)

    def _run(self, batch: Batch) -> Any:
        """What the network makes of a batch's images."""
        images = self.preprocess(batch).tensor
        size = tuple(images.shape[-2:])
        if self.image_size is not None and size != self.image_size:
            raise ModelError(
                f"this network takes images of height x width {self.image_size[0]} x {self.image_size[1]} alone, but "
                f"{size[0]} x {size[1]} were received: set INPUT.RESIZE to 'fixed' and INPUT.SIZE to "
                f"{list(self.image_size)}, or choose a network for any size"
            )
        return self.net(images)


def build_classifier(cfg: CfgNode) -> Classifier:
    """The classifier that ``MODEL.BACKBONE.NAME`` names: ``timm/NAME``, or torchvision's ``NAME``.

    As ``MODEL.NAME``, ``timm/NAME`` and ``torchvision/NAME`` stand for this model with that backbone.

    Raises:
        ModelError: there is no such network, or an option does not fit.
    """
    model = cfg.MODEL
    name = model.BACKBONE.NAME
    if "/" in model.NAME and name != model.NAME:
        raise ModelError(f"MODEL.NAME {model.NAME!r} is a network already: leave MODEL.BACKBONE.NAME {name!r} at ''")
    if model.BACKBONE.FREEZE_AT:
        raise ModelError(
            f"MODEL.BACKBONE.FREEZE_AT is {model.BACKBONE.FREEZE_AT}, but a classifier's stages are not told apart: "
            "set it to 0"
        )
    section = model.get("CLASSIFIER", {})
    net, size = _network(name, model.NUM_CLASSES, dict(section.get("OPTIONS", {})))
    if model.BACKBONE.NORM == "FrozenBN":
        freeze_batch_norm(net)
    smoothing = section.get("LABEL_SMOOTHING", 0.0)
    return Classifier(
        net, model.NUM_CLASSES, model.PIXEL_MEAN, model.PIXEL_STD, label_smoothing=smoothing, image_size=size
    )


def _network(name: str, num_classes: int, options: dict[str, Any]) -> tuple[nn.Module, tuple[int, int] | None]:
    """The library's network of that name, and the (height, width) of image it takes, None for any."""
    if weights := sorted(_WEIGHTS & options.keys()):
        raise ModelError(
            f"MODEL.CLASSIFIER.OPTIONS has {weights[0]!r}, but weights are never downloaded: give a file in "
            "MODEL.WEIGHTS"
        )
    if name.startswith("timm/"):
        from .timm import timm_classifier

        return timm_classifier(name.removeprefix("timm/"), num_classes, options)
    from .torchvision.classifiers import torchvision_classifier

    return torchvision_classifier(name.removeprefix("torchvision/"), num_classes, options)
