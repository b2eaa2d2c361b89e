"""detectron2's ``utils.analysis`` and fvcore's counts: multiplications, activations and parameters of a model.

The counts are those of PyTorch's own ``torch.utils.flop_counter``: convolutions, products of matrices, and attention.
As in fvcore, a multiplication with its addition is one "flop". Norms and resizing, which fvcore counts too, are not.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.utils import flop_counter

__all__ = [
    "ActivationCountAnalysis",
    "FlopCountAnalysis",
    "activation_count_operators",
    "flop_count_operators",
    "flop_count_table",
    "parameter_count",
    "parameter_count_table",
]

_OPERATORS = MappingProxyType({"addmm": "linear", "mm": "linear", "bmm": "matmul", "baddbmm": "matmul"})
_SUFFIXES = ((10**9, "G"), (10**6, "M"), (10**3, "K"))


class _Analysis:
    """Counts of one run of a model, for all of it and for each of its modules; it runs when first asked.

    Modules are named as in ``model.named_modules()``, ``""`` is the whole model; those that did not run are not there.
    """

    _formulas: Mapping[Any, Any] = MappingProxyType({})  # those of torch's counter
    _counted_twice = 1  # what torch counts for each

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        """Count for a model, in the mode that it is in.

        Args:
            model: the model.
            inputs: what it is called with: a tuple of arguments, or the only one, such as a list of dicts.
        """
        self._model, self._inputs = model, inputs if isinstance(inputs, tuple) else (inputs,)
        self._found: dict[str, Counter[str]] | None = None

    def total(self, module_name: str = "") -> int:
        """The count of a module with all that is in it."""
        return self.by_operator(module_name).total()

    def by_operator(self, module_name: str = "") -> Counter[str]:
        """The counts of a module: ``conv``, ``linear``, ``matmul``..."""
        return Counter(self._counts().get(module_name, {}))

    def by_module(self) -> Counter[str]:
        """The count of each module with all that is in it."""
        return Counter({name: counts.total() for name, counts in self._counts().items()})

    def by_module_and_operator(self) -> dict[str, Counter[str]]:
        """The counts of each module with all that is in it."""
        return {name: Counter(counts) for name, counts in self._counts().items()}

    def unsupported_ops_warnings(self, enabled: bool) -> _Analysis:
        """Accepted: there are no such warnings."""
        return self

    uncalled_modules_warnings = tracer_warnings = unsupported_ops_warnings

    def _counts(self) -> dict[str, Counter[str]]:
        if self._found is None:
            formulas = dict(self._formulas)
            with torch.no_grad(), flop_counter.FlopCounterMode(display=False, custom_mapping=formulas) as counter:
                self._model(*self._inputs)
            self._found = dict(self._named(counter.get_flop_counts()))
        return self._found

    def _named(self, found: Mapping[str, Mapping[Any, int]]) -> Iterator[tuple[str, Counter[str]]]:
        root = type(self._model).__name__  # which torch's names begin with
        for module, counts in found.items():
            if module != root:
                by_name: Counter[str] = Counter()
                for operator, count in counts.items():
                    by_name[_operator_name(operator)] += count // self._counted_twice
                yield "" if module == "Global" else module.removeprefix(f"{root}."), by_name


class FlopCountAnalysis(_Analysis):
    """Multiplications (each with its addition) of a model for one input: fvcore's "flops"."""

    _counted_twice = 2  # the addition too


def _numbers_made(*_args: Any, out_val: Any, **_options: Any) -> int:
    return math.prod((out_val[0] if isinstance(out_val, tuple) else out_val).shape)


_numbers_made._get_raw = True  # type: ignore[attr-defined]  # torch is to give the tensors, not their shapes


class ActivationCountAnalysis(_Analysis):
    """Numbers that the convolutions and matrix products of a model put out for one input: fvcore's "activations"."""

    _formulas = MappingProxyType(dict.fromkeys(flop_counter.flop_registry, _numbers_made))


def flop_count_operators(model: nn.Module, inputs: Any) -> defaultdict[str, float]:
    """Multiplications in thousands of millions, by operator; ``inputs`` as for :class:`FlopCountAnalysis`."""
    counts = FlopCountAnalysis(model, inputs).by_operator()
    return defaultdict(float, {name: count / 1e9 for name, count in counts.items()})


def activation_count_operators(model: nn.Module, inputs: Any, **options: Any) -> defaultdict[str, float]:
    """Activations in millions, by operator; ``inputs`` as for :class:`FlopCountAnalysis`, ``options`` are accepted."""
    counts = ActivationCountAnalysis(model, inputs).by_operator()
    return defaultdict(float, {name: count / 1e6 for name, count in counts.items()})


def parameter_count(model: nn.Module) -> defaultdict[str, int]:
    """How many numbers the parameters have, by the name of each module and parameter; ``""`` is the whole model."""
    found: defaultdict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        for end in range(len(parts) + 1):
            found[".".join(parts[:end])] += parameter.numel()
    return found


def parameter_count_table(model: nn.Module, max_depth: int = 3) -> str:
    """Parameters as a table, down to names of ``max_depth`` parts; single parameters have their shape."""
    shapes = {name: str(tuple(parameter.shape)) for name, parameter in model.named_parameters()}
    counts = parameter_count(model)
    rows = [(_indented(name), shapes.get(name) or _short(counts[name])) for name in counts if _depth(name) <= max_depth]
    return _table([("name", "#elements or shape"), *rows])


def flop_count_table(flops: _Analysis, max_depth: int = 3, **options: Any) -> str:
    """Parameters and counts of each module as a table, down to names of ``max_depth`` parts; options are accepted."""
    parameters, counts = parameter_count(flops._model), flops.by_module()
    names = [name for name, _ in flops._model.named_modules() if name in counts and _depth(name) <= max_depth]
    rows = [(_indented(name), _short(parameters.get(name, 0)), _short(counts[name])) for name in names]
    return _table([("module", "#parameters", "#count"), *rows])


def _operator_name(operator: Any) -> str:
    name = str(operator).rpartition(".")[2]
    if "convolution" in name or "conv2d" in name:
        return "conv"
    return "attention" if "attention" in name else _OPERATORS.get(name, name)


def _depth(name: str) -> int:
    return len(name.split(".")) if name else 0


def _indented(name: str) -> str:
    return " " * _depth(name) + (name or "model")


def _short(count: int) -> str:
    size, suffix = next(((size, suffix) for size, suffix in _SUFFIXES if count >= size), (1, ""))
    return f"{count / size:.3f}{suffix}" if suffix else str(count)


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *body = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return "\n".join([head, "|" + "|".join("-" * (width + 2) for width in widths) + "|", *body])
