"""The predictor for configs of detectron2: classes are counted by the config, weights may be detectron2's own files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from drivetrain.checkpoint.foreign.checkpointer import load_foreign
from drivetrain.checkpoint.foreign.published import find_weights
from drivetrain.config import CfgNode
from drivetrain.data.catalog import Metadata, MetadataCatalog
from drivetrain.engine import defaults
from drivetrain.engine.defaults.data import as_names
from drivetrain.engine.defaults.weights import config_of_checkpoint, load_for_inference
from drivetrain.errors import IncompatibleWeightsError
from drivetrain.modeling.build import has_meta_architecture

from .config import get_cfg
from .modeling import in_their_form

__all__ = ["DefaultPredictor"]


class DefaultPredictor(defaults.DefaultPredictor):
    """:class:`drivetrain.engine.DefaultPredictor` for a config of detectron2.

    ``MODEL.WEIGHTS`` may be a checkpoint of detectron2's (``.pth``, ``.pkl``) too. The class names of the registered
    test dataset are used, else those in the checkpoint, if it has any.

    Raises:
        CheckpointError: the weights are missing, damaged, or not all that the model needs.
    """

    def __init__(self, cfg: CfgNode) -> None:
        without_weights = cfg.clone()
        without_weights.defrost()
        without_weights.MODEL.WEIGHTS = ""
        super().__init__(without_weights)
        self.cfg = cfg.clone()
        self.model = in_their_form(self.model)
        if cfg.MODEL.WEIGHTS:
            saved = _load(self.model, str(cfg.MODEL.WEIGHTS))
            self.metadata = self._known_of(self._class_names(), list(saved.get("class_names", [])))

    @classmethod
    def from_checkpoint(cls, path: str | Path, overrides: Iterable[str] = ()) -> DefaultPredictor:
        """A predictor from a checkpoint alone, see :meth:`drivetrain.engine.DefaultPredictor.from_checkpoint`."""
        cfg, _ = config_of_checkpoint(str(path), get_cfg())
        cfg.DATASETS.TEST = ()
        cfg.MODEL.WEIGHTS = str(path)
        cfg.MODEL.DEVICE = "auto"
        cfg.merge_from_list(list(overrides))
        return cls(cfg)

    def _known_of(self, names: list[str], saved: list[str]) -> Metadata:
        """What is known of the test dataset; class names are the checkpoint's own where it has more or fewer of them.

        A config of the model zoo has COCO as its test dataset, whatever the model was trained for later.
        """
        if names and saved and len(names) != len(saved):
            return Metadata("predictor", thing_classes=saved)
        return self._metadata(names or saved)

    def _class_names(self) -> list[str]:
        if not has_meta_architecture(self.cfg):
            return super()._class_names()
        for name in as_names(self.cfg.DATASETS.TEST):
            if names := MetadataCatalog.get(name).get("thing_classes"):
                return list(names)
        return []  # those of the checkpoint follow when it is loaded


def _load(model: Any, weights: str) -> dict[str, Any]:
    """Load weights of either package, all that the model needs; the file's metadata.

    Raises:
        CheckpointError: they are missing, damaged, or not all that the model needs.
    """
    file = find_weights(weights)
    if file.suffix.lower() not in (".pkl", ".pyth"):
        try:
            return dict(load_for_inference(model, str(file)))
        except IncompatibleWeightsError:
            pass  # it may be one of detectron2's, with tensors that this model computes by itself
    matching = load_foreign(model, file)
    if lacking := [names for names in (matching.listed("missing"), matching.listed("other shape")) if names]:
        raise IncompatibleWeightsError(
            f"{weights} does not have all weights of this model: {'; '.join(lacking)}; give those of the config's "
            "model, trained for its classes"
        )
    return {}
