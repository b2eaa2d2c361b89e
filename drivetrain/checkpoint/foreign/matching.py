"""Weights of detectron2, Caffe2 and torchvision for the models that detectron2's configs describe.

A file is read as data alone (:func:`read_weights`), and its tensors are compared with those that a model has
(:func:`match_weights`), the way detectron2 does it: by name, and in files that say so (those of a backbone alone) by
the longest ending of a name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from drivetrain.checkpoint import read_checkpoint
from drivetrain.checkpoint.formats import model_state
from drivetrain.errors import CheckpointError, IncompatibleWeightsError

from .caffe2_names import from_caffe2, from_torchvision, is_caffe2, is_torchvision
from .pickles import read_pickle

__all__ = ["ForeignWeights", "Matching", "Row", "match_weights", "read_weights"]

Status = Literal["matched", "renamed", "reordered", "filled", "missing", "unexpected", "other shape", "not needed"]

_NOT_NEEDED = ("pixel_mean", "pixel_std")  # what a model has from its config
_FROZEN_EPS = 1e-5
_RETINANET_NORMALIZER, _FCOS_NORMALIZER = 100.0, 300.0


@dataclass(frozen=True)
class ForeignWeights:
    """What a file of weights holds.

    Attributes:
        tensors: by the file's names, where they are detectron2's; those of Caffe2 and torchvision are renamed.
        names: the file's own name of each tensor.
        source: the file.
        author: who wrote the file, as it says; "" where it does not.
        by_ending: whether names are to be compared by their endings, as of a backbone alone.
        reordered: names whose rows were brought into detectron2's order of classes.
    """

    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]
    source: str
    author: str = ""
    by_ending: bool = False
    reordered: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """What became of one tensor: its name in the model and in the file ("" where it is not there), and its shapes."""

    status: Status
    name: str
    in_file: str
    shape: tuple[int, ...] | None
    file_shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Matching:
    """A file's tensors and a model's.

    Attributes:
        rows: one for each tensor, the model's in their order, then what only the file has.
        tensors: those that the model takes, by its names.
    """

    rows: tuple[Row, ...]
    tensors: Mapping[str, Tensor] = field(repr=False)

    @property
    def complete(self) -> bool:
        """Whether the model has every tensor from the file."""
        return not any(row.status in ("missing", "other shape") for row in self.rows)

    def summary(self) -> str:
        """How many of each kind, in one line."""
        counts = Counter(row.status for row in self.rows)
        return ", ".join(f"{count} {status}" for status, count in counts.items())

    def listed(self, *kinds: Status, most: int = 8) -> str:
        """The names of rows of some kinds, the first few of them."""
        names = [row.name or row.in_file for row in self.rows if row.status in kinds]
        names = [name if name.isprintable() else repr(name) for name in names]
        return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def read_weights(path: str | Path) -> ForeignWeights:
    """The weights in a file.

    Args:
        path: a ``.pkl`` of detectron2's or Detectron's model zoo, or of a backbone; a ``.pth`` of detectron2's, also
            one in the midst of a training (its optimizer and schedule are left out); ``.safetensors``.

    Raises:
        CheckpointError: the file is missing, damaged, far too large, or holds something else than tensors and plain
            values, which could run code.
    """
    path = Path(path)
    if path.suffix.lower() not in (".pkl", ".pyth"):
        state = dict(model_state(read_checkpoint(path), str(path)))
        return _renamed(state, str(path))
    if not path.is_file():
        raise CheckpointError(f"the weights file {path} does not exist")
    return _of_pickle(read_pickle(path), str(path))


def _of_pickle(data: Any, source: str) -> ForeignWeights:
    if not isinstance(data, dict):
        raise CheckpointError(f"{source} holds a {type(data).__name__}, not weights (a dict of arrays)")
    state: dict[Any, Any] = next((data[key] for key in ("model", "blobs") if isinstance(data.get(key), dict)), data)
    if "model" not in data:  # of Caffe2, with the optimizer's part among the weights
        state = {name: value for name, value in state.items() if not str(name).endswith("_momentum")}
    tensors = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, (np.ndarray, np.generic)):
            raise CheckpointError(f"{source}: {name!r:.60} is a {type(value).__name__}, not an array, as weights are")
        native = np.array(value, dtype=value.dtype.newbyteorder("="))  # a copy, which torch may write to
        tensors[name] = torch.from_numpy(native)
    if not tensors:
        raise CheckpointError(f"{source} holds no weights")
    author = str(data.get("__author__", ""))[:80]
    return _renamed(tensors, source, author, by_ending=bool(data.get("matching_heuristics", False)))


def _renamed(state: dict[str, Tensor], source: str, author: str = "", *, by_ending: bool = False) -> ForeignWeights:
    rule: Callable[[str], str] | None = None
    if is_caffe2(state):
        rule, author = from_caffe2, author or "Caffe2"
    elif is_torchvision(state):
        rule, author = from_torchvision, author or "torchvision"
    if rule is None:
        return ForeignWeights(state, {name: name for name in state}, source, author, by_ending)
    names = {rule(name): name for name in state}
    if len(names) < len(state):
        twice = [new for new, count in Counter(map(rule, state)).items() if count > 1]
        raise CheckpointError(f"{source} has two tensors that mean {twice[0]!r}: this kind of file is not known here")
    tensors = {new: state[old] for new, old in names.items()}
    reordered = _background_last(tensors) if rule is from_caffe2 else frozenset()
    return ForeignWeights(tensors, names, source, author, by_ending=True, reordered=frozenset(reordered))


def _background_last(tensors: dict[str, Tensor]) -> frozenset[str]:
    """Bring the class predictions of Detectron, with the background first, into detectron2's order; in place.

    Scores have the background last there; boxes, where each class has its own, and masks have none for it.
    """
    moved = set()
    scores = tensors.get("box_predictor.cls_score.weight")
    for name, value in list(tensors.items()):
        if name.startswith("box_predictor.cls_score."):
            tensors[name] = torch.cat([value[1:], value[:1]])
        elif name.startswith("box_predictor.bbox_pred.") and scores is not None and len(value) == 4 * len(scores):
            tensors[name] = value[4:]
        elif name.startswith("mask_head.predictor.") and scores is not None and len(value) == len(scores):
            tensors[name] = value[1:]
        else:
            continue
        moved.add(name)
    return frozenset(moved)


def match_weights(expected: Mapping[str, Tensor], weights: ForeignWeights) -> Matching:
    """Which of a file's tensors a model takes.

    Args:
        expected: the model's state dict; only shapes are looked at.
        weights: what the file holds.

    Raises:
        IncompatibleWeightsError: none fits, or one would serve two tensors of the model.
    """
    sources = _sources(expected, weights)
    normalizer = _FCOS_NORMALIZER if "head.ctrness.weight" in expected else _RETINANET_NORMALIZER
    rows: list[Row] = []
    taken: dict[str, Tensor] = {}
    for name, own in expected.items():
        source = sources.get(name)
        if source is None:
            rows.append(_without(name, own, sources if weights.by_ending else {}, taken, normalizer))
            continue
        tensor, in_file = weights.tensors[source], weights.names[source]
        fits = tensor.shape == own.shape
        if fits:
            taken[name] = tensor
        status: Status = "other shape" if not fits else _how(name, source, in_file, weights)
        rows.append(Row(status, name, in_file, tuple(own.shape), tuple(tensor.shape)))
    used = set(sources.values())
    for name, tensor in weights.tensors.items():
        if name not in used:
            status = "not needed" if _is_not_needed(name) else "unexpected"
            rows.append(Row(status, "", weights.names[name], None, tuple(tensor.shape)))
    rows = [row for row in rows if row.status != "missing" or not row.name.endswith("num_batches_tracked")]
    if not any(row.status in ("matched", "renamed", "reordered") for row in rows):
        few = ", ".join(list(weights.names.values())[:4])
        raise IncompatibleWeightsError(f"{weights.source} has no tensor of this model; it has {few}, ...")
    return Matching(tuple(rows), taken)


def _how(name: str, source: str, in_file: str, weights: ForeignWeights) -> Status:
    if source in weights.reordered:
        return "reordered"
    return "matched" if name == in_file else "renamed"


def _sources(expected: Mapping[str, Tensor], weights: ForeignWeights) -> dict[str, str]:
    """The model's names -> those of the file."""
    if not weights.by_ending:
        return {name: name for name in expected if name in weights.tensors}
    found = {name: ending for name in expected if (ending := _longest_ending(name, weights.tensors))}
    twice = [source for source, count in Counter(found.values()).items() if count > 1]
    if twice:
        names = " and ".join(name for name, source in found.items() if source == twice[0])
        raise IncompatibleWeightsError(
            f"the tensor {weights.names[twice[0]]!r} of {weights.source} could be {names} of the model: its names are "
            "too short to tell"
        )
    return found


def _longest_ending(name: str, known: Mapping[str, Tensor]) -> str:
    """The longest part of ``name`` up to its end, cut at a dot, that is known."""
    while name not in known:
        _, dot, name = name.partition(".")
        if not dot:
            return ""
    return name


def _without(name: str, own: Tensor, sources: Mapping[str, str], taken: dict[str, Tensor], normalizer: float) -> Row:
    """The row of a tensor that the file lacks.

    ResNets of Caffe2 have the statistics of their norms multiplied into scale and shift, which leaves a mean of 0 and
    a variance of 1; the small number that norms add to the variance is taken off. One-stage detectors of detectron2
    forget the normaliser of their losses, and start anew where ``normalizer`` says.
    """
    if name == "loss_normalizer":
        taken[name] = torch.full_like(own, normalizer, device="cpu")
        return Row("filled", name, "", tuple(own.shape), None)
    stem, _, kind = name.rpartition(".")
    folded = f"{stem}.weight" in sources and not {f"{stem}.running_mean", f"{stem}.running_var"} & set(sources)
    if kind in ("running_mean", "running_var") and folded:
        value = 0.0 if kind == "running_mean" else 1.0 - _FROZEN_EPS
        taken[name] = torch.full_like(own, value, device="cpu")
        return Row("filled", name, "", tuple(own.shape), None)
    return Row("missing", name, "", tuple(own.shape), None)


def _is_not_needed(name: str) -> bool:
    return name in _NOT_NEEDED or "anchor_generator.cell_anchors" in name or name.endswith("num_batches_tracked")
