"""The checkpointer for models of detectron2's configs: it also takes detectron2's files, and addresses of its zoo."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from drivetrain import checkpoint
from drivetrain.checkpoint.restore import restore
from drivetrain.errors import IncompatibleWeightsError

from .matching import Matching, match_weights, read_weights
from .published import find_weights

__all__ = ["DetectionCheckpointer", "load_foreign"]

_logger = logging.getLogger(__name__)


class DetectionCheckpointer(checkpoint.DetectionCheckpointer):
    """:class:`drivetrain.checkpoint.DetectionCheckpointer` whose :meth:`load` takes detectron2's files too."""

    def load(self, path: str, checkpointables: Iterable[str] | None = None) -> dict[str, Any]:
        """As :meth:`drivetrain.checkpoint.Checkpointer.load`, and as detectron2 does for what is only to start from.

        Without objects to restore (``checkpointables=[]``, or none in the checkpointer), weights need not fit wholly:
        what fits in name and shape is taken, and the rest is named in a warning, as when a model of 80 classes is
        trained on for 3. A checkpoint to go on from is restored as it is, all of it or nothing.

        Args:
            path: also a ``.pkl`` of NumPy arrays, or an address of a file that is on this machine; see
                :func:`drivetrain.checkpoint.foreign.published.find_weights`.
            checkpointables: the keys to restore beside the model.

        Raises:
            IncompatibleWeightsError: nothing in the file is for this model.
            CheckpointError: the file is not on this machine, damaged, or could run code.
        """
        if not path:
            return super().load(path, checkpointables)
        file = find_weights(str(path))
        wanted = list(self.checkpointables if checkpointables is None else checkpointables)
        if file.suffix.lower() not in (".pkl", ".pyth"):
            try:
                return super().load(str(file), wanted)
            except IncompatibleWeightsError:
                if wanted:
                    return self._restore_completed(file, wanted)
        load_foreign(self.model, file)
        return {}

    def _restore_completed(self, file: Path, wanted: Iterable[str]) -> dict[str, Any]:
        """Restore a checkpoint of detectron2's, which lacks, or has, what only one of the two saves.

        Raises:
            IncompatibleWeightsError: it differs in more than that.
        """
        expected = self.model.state_dict()
        matching = match_weights(expected, read_weights(file))
        if other := matching.listed("missing", "other shape", "unexpected"):
            raise IncompatibleWeightsError(
                f"{file} is no checkpoint of this model from which to go on: {matching.summary()} ({other}); "
                "give it as MODEL.WEIGHTS of a new training to start from what fits"
            )
        data = {**checkpoint.read_checkpoint(file), "model": {**expected, **matching.tensors}}
        return restore(self.model, {key: self.checkpointables[key] for key in wanted}, data, str(file))


def load_foreign(model: nn.Module, path: str | Path) -> Matching:
    """Load what fits of a file of detectron2's, Caffe2's or torchvision's; say in the log what did not.

    Args:
        model: changed in place, on an error not at all.
        path: the file.

    Raises:
        IncompatibleWeightsError, CheckpointError: as :func:`drivetrain.checkpoint.foreign.matching.match_weights` and
            :func:`drivetrain.checkpoint.foreign.matching.read_weights`.
    """
    expected = model.state_dict()
    matching = match_weights(expected, read_weights(path))
    _logger.info("%s: %s", path, matching.summary())
    for kind, meaning in (
        ("missing", "not in the file; they keep their values"),
        ("other shape", "of another shape in the file; they keep their values"),
        ("unexpected", "in the file only, and left out"),
    ):
        if names := matching.listed(kind):  # type: ignore[arg-type]
            _logger.warning("Tensors %s: %s", meaning, names)
    restore(model, {}, {"model": {**expected, **matching.tensors}}, str(path))
    return matching
