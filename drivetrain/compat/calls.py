"""The parts of two-stage detectors, called as detectron2 calls them: with images, and with instances for boxes.

Their own form of call stays: which one is meant is told by the first argument.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from drivetrain.errors import ModelError
from drivetrain.modeling.contract import Losses
from drivetrain.modeling.detectron2 import pooler, roi_heads, rpn
from drivetrain.structures import Boxes, ImageList, Instances

from .config import is_config

__all__ = [
    "RPN",
    "ROIHeads",
    "ROIPooler",
    "as_class",
    "given_boxes",
    "refuse_overrides",
    "with_boxes",
    "without_config",
]

M = TypeVar("M", bound=nn.Module)
F = TypeVar("F", bound=Callable[..., None])

_REMEDY = (
    "derive yours from torch.nn.Module, set it in a class derived from GeneralizedRCNN or RetinaNet whose forward() "
    "calls the parts as detectron2's does, and register that with META_ARCH_REGISTRY"
)


def as_class(module: nn.Module, cls: type[M]) -> M:
    """A module as one of a class that is derived from its own; it shares all that it holds."""
    other = cls.__new__(cls)
    vars(other).update(vars(module))
    return other


def refuse_overrides(cls: type, names: Sequence[str], remedy: str = _REMEDY) -> None:
    """Refuse a class that defines a method which would not be called as detectron2 calls it.

    Args:
        cls: the class, just defined.
        names: of such methods.
        remedy: what to do instead.

    Raises:
        ModelError: it defines one of them.
    """
    if found := [name for name in names if name in vars(cls)]:
        raise ModelError(
            f"{cls.__name__}.{found[0]} would not be called: a model and its parts ask one another for other things "
            f"here than in detectron2; {remedy}"
        )


def without_config(init: F) -> F:
    """A decorator of the ``__init__`` of a part that detectron2 also makes of a config, which is refused here.

    Raises:
        ModelError: in the decorated ``__init__``: it was given a config.
    """

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        if is_config(args[0] if args else kwargs.get("cfg")):
            raise ModelError(
                f"{type(self).__name__} takes no config here, but its arguments by their names, as after LazyCall; "
                "GeneralizedRCNN(cfg) makes all parts of a config, and yours can take the place of one"
            )
        init(self, *args, **kwargs)

    return wrapped  # type: ignore[return-value]


class RPN(rpn.RPN):
    """Proposes boxes that may hold an object."""

    def __init_subclass__(cls) -> None:
        """Refuse what would not be called."""
        super().__init_subclass__()
        refuse_overrides(cls, ("forward", "label_and_sample_anchors", "losses", "predict_proposals"))

    def forward(self, images: Any, features: Any, gt_instances: Any = None) -> Any:  # type: ignore[override]
        """Proposals and losses; as the base class for its arguments.

        Args:
            images: an :class:`ImageList`.
            features: (N, C, H, W) by name.
            gt_instances: of each image, with ``gt_boxes``; in training alone.

        Returns:
            Of each image :class:`Instances` with ``proposal_boxes`` and ``objectness_logits``, falling; and the losses,
            none in evaluation.

        Raises:
            ModelError: there are no ``gt_instances`` in training.
        """
        if not isinstance(images, ImageList):
            return super().forward(images, features, gt_instances)
        truth = [objects.gt_boxes.tensor for objects in _known(gt_instances, "gt_instances")] if self.training else None
        proposals, losses = super().forward(features, images.image_sizes, truth)
        found = [
            Instances(size, proposal_boxes=Boxes(boxes), objectness_logits=scores)
            for size, (boxes, scores) in zip(images.image_sizes, proposals, strict=True)
        ]
        return found, losses


class ROIHeads(roi_heads.ROIHeads):
    """Classifies proposals, moves them to their objects, and adds masks and keypoints where there are branches."""

    def __init_subclass__(cls) -> None:
        """Refuse what would not be called."""
        super().__init_subclass__()
        names = ("_forward_box", "_forward_mask", "_forward_keypoint", "_shared_roi_transform")
        refuse_overrides(cls, ("forward", "label_and_sample_proposals", "forward_with_given_boxes", *names))

    @property
    def box_in_features(self) -> tuple[str, ...]:
        """Names of the feature maps that it looks at."""
        return self.in_features

    def forward(
        self,
        images: ImageList,
        features: Mapping[str, Tensor],
        proposals: Sequence[Instances],
        targets: Sequence[Instances] | None = None,
    ) -> tuple[list[Instances], Losses]:
        """In training the proposals and the losses, in evaluation the detections and no losses.

        Args:
            images: those of the features.
            features: (N, C, H, W) by name.
            proposals: of each image, with ``proposal_boxes``.
            targets: of each image, as training targets are; in training alone.

        Raises:
            ModelError: there are no ``targets`` in training.
        """
        boxes = [instances.proposal_boxes.tensor for instances in proposals]
        if self.training:
            return list(proposals), self.losses(features, boxes, _known(targets, "targets"))
        found = self.boxes(features, boxes, images.image_sizes)
        self.add_branches(features, found)
        return [with_boxes(instances) for instances in found], {}

    def forward_with_given_boxes(
        self, features: Mapping[str, Tensor], instances: Sequence[Instances]
    ) -> list[Instances]:
        """Masks and keypoints of instances that have ``pred_boxes`` and ``pred_classes`` in pixels of the images."""
        found = [given_boxes(one) for one in instances]
        self.add_branches(features, found)
        return [with_boxes(one) for one in found]


class ROIPooler(pooler.ROIPooler):
    """Cuts features of one size out of feature maps."""

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the result."""
        return self.size, self.size

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Boxes | Tensor]) -> Tensor:
        """The features (N, C, size, size) of all boxes of all images; boxes (N_i, 4) for each image."""
        return super().forward(features, [b.tensor if isinstance(b, Boxes) else b for b in boxes])


def _known(objects: Sequence[Instances] | None, name: str) -> Sequence[Instances]:
    if objects is None:
        raise ModelError(f"{name} is None: in training this part is called with the true objects of each image")
    return objects


def given_boxes(instances: Instances) -> Instances:
    """Detections with their boxes as a tensor, as the parts here take them; the given ones stay as they are."""
    fields = {**instances.get_fields(), "pred_boxes": instances.pred_boxes.tensor}
    return Instances(instances.image_size, **fields)


def with_boxes(found: Instances) -> Instances:
    """Detections as detectron2's parts give them: boxes as :class:`Boxes`, and masks (N, 1, M, M)."""
    fields = {**found.get_fields(), "pred_boxes": Boxes(found.pred_boxes)}
    if found.has("pred_masks"):
        fields["pred_masks"] = found.pred_masks[:, None]
    return Instances(found.image_size, **fields)
