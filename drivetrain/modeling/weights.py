"""Loading weights into a model, all of them or those that fit, and saying what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from drivetrain.errors import IncompatibleWeightsError

__all__ = ["ShapeMismatch", "WeightsReport", "load_weights"]


@dataclass(frozen=True)
class ShapeMismatch:
    """A tensor that model and weights both have, in different shapes."""

    name: str
    in_weights: tuple[int, ...]
    in_model: tuple[int, ...]

    def __str__(self) -> str:
        """Name and both shapes."""
        return f"{self.name}: {list(self.in_weights)} in the weights, {list(self.in_model)} in the model"


@dataclass(frozen=True)
class WeightsReport:
    """What loading weights did, or would do.

    Attributes:
        source: where the weights came from.
        loaded: names of the tensors taken.
        missing: names that the model has and the weights have not; they keep their values.
        unexpected: names that the weights have and the model has not.
        mismatched: names that both have in different shapes; they keep their values.
    """

    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[ShapeMismatch, ...]

    @property
    def complete(self) -> bool:
        """Whether weights and model fit exactly."""
        return not (self.missing or self.unexpected or self.mismatched)

    def render(self, most: int = 10) -> str:
        """A table in plain text: how many of each kind, and the first ``most`` names of those that did not fit."""
        rows: list[tuple[str, Sequence[object], str]] = [
            ("loaded", self.loaded, ""),
            ("missing", self.missing, "in the model only, kept as they were"),
            ("unexpected", self.unexpected, "in the weights only, left out"),
            ("other shape", self.mismatched, "left out"),
        ]
        lines = [f"weights from {self.source}:"]
        for kind, names, meaning in rows:
            lines.append(f"  {kind:<12}{len(names):>6}  {meaning if names else ''}".rstrip())
            if kind != "loaded":
                lines += [f"      {name}" for name in names[:most]]
                lines += [f"      ... and {len(names) - most} more"] if len(names) > most else []
        return "\n".join(lines)


def load_weights(
    model: nn.Module, state_dict: Mapping[str, Tensor], *, source: str, partial: bool = False
) -> WeightsReport:
    """Copy tensors into a model's parameters and buffers by name.

    A batch norm's step counter (``num_batches_tracked``) may be absent on either side, as in PyTorch.

    Args:
        model: changed in place; not at all when an error is raised.
        state_dict: names and tensors.
        source: what messages call the weights, usually a file.
        partial: load what fits in name and shape and report the rest, instead of insisting that all fits.

    Raises:
        IncompatibleWeightsError: something does not fit, or, with ``partial``, nothing does.
    """
    report = _compare(model.state_dict(), state_dict, source)
    if not report.loaded or (not partial and not report.complete):
        raise IncompatibleWeightsError(
            f"{report.render()}\nThese weights are of another model: check MODEL.NAME and MODEL.NUM_CLASSES"
            + ("" if partial else ", or load only what fits (partial)")
        )
    model.load_state_dict({name: state_dict[name] for name in report.loaded}, strict=False)
    return report


def _compare(own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str) -> WeightsReport:
    """What of ``given`` fits ``own``."""
    mismatched = tuple(
        ShapeMismatch(name, tuple(given[name].shape), tuple(tensor.shape))
        for name, tensor in own.items()
        if name in given and _shapes_differ(tensor, given[name])
    )
    bad = {mismatch.name for mismatch in mismatched}
    return WeightsReport(
        source,
        tuple(name for name in own if name in given and name not in bad),
        tuple(name for name in own if name not in given and not name.endswith("num_batches_tracked")),
        tuple(name for name in given if name not in own and not name.endswith("num_batches_tracked")),
        mismatched,
    )


def _shapes_differ(own: object, given: object) -> bool:
    """Whether both are tensors of settled, different shapes."""
    return isinstance(own, Tensor) and isinstance(given, Tensor) and not is_lazy(own) and own.shape != given.shape
