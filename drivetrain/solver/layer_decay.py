"""Layer-wise learning rates: the earlier a layer, the lower its rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from drivetrain.errors import ModelError, did_you_mean

from .parameter_groups import NORMS

__all__ = ["backbone_layers", "layerwise_lr_decay"]

_WITHIN_BACKBONES = ("body", "bottom_up")  # torchvision's and detectron2's names of what is below a feature pyramid


def layerwise_lr_decay(model: nn.Module, decay: float, layers: Sequence[str] = ()) -> Callable[[str], float]:
    """A ``lr_factor_func`` that lowers the rate of early layers (Clark et al., ELECTRA, 2020).

    Args:
        model: the model.
        decay: factor between one layer and the one before it, above 0 and at most 1.
        layers: names of modules from input to output, e.g. ``["backbone.stem", "backbone.blocks"]``; a Sequential
            or ModuleList stands for its children in order. Empty: those of :func:`backbone_layers`.

    Returns:
        Full parameter name -> factor. Of ``n`` layers the last has ``decay``, the first ``decay ** n``; what is in
        none of them has 1.

    Raises:
        ModelError: ``layers`` names a module that the model does not have, or is empty and the model does not show
            its layers.
        ValueError: ``decay`` is out of range.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be above 0 and at most 1, received {decay}")
    found = [(name,) for name in _expanded(model, layers)] if layers else backbone_layers(model)
    factors = {name: decay ** (len(found) - index) for index, names in enumerate(found) for name in names}

    def factor(parameter: str) -> float:
        parts = parameter.split(".")
        # The longest layer name that contains the parameter, so that layers may nest.
        for end in range(len(parts), 0, -1):
            if (prefix := ".".join(parts[:end])) in factors:
                return factors[prefix]
        return 1.0

    return factor


def backbone_layers(model: nn.Module) -> list[tuple[str, ...]]:
    """The layers of a model's backbone from input to output, read off how it is put together.

    The backbone is the module of that name (without the feature pyramid on top of it), or else the whole model but for
    its last part, taken to be the head. Its parts are the layers: the stages of a convolutional network, the blocks of
    a transformer. A norm belongs to the layer before it, and parameters that are in no part (position embeddings) to
    the first.

    Returns:
        For each layer the names of its modules and parameters.

    Raises:
        ModelError: fewer than two layers are found.
    """
    name, module = _backbone(model)
    loose = _own_parameters(name, module)
    parts = _flattened(_parts(name, module), loose)
    if module is model:
        parts = _flattened(parts[:-1], loose)
    layers: list[tuple[str, ...]] = []
    for part_name, part in _unpacked(parts):
        if layers and isinstance(part, NORMS):
            layers[-1] += (part_name,)
        else:
            layers.append((part_name,))
    if len(layers) < 2:
        raise ModelError(
            f"{type(model).__name__} does not show its layers: name its modules from input to output, as in "
            "SOLVER.LAYER_DECAY.LAYERS=['stem', 'blocks']"
        )
    return [(*loose, *layers[0]), *layers[1:]]


def _backbone(model: nn.Module) -> tuple[str, nn.Module]:
    """Name and module of the outermost backbone; ``""`` and the model itself where there is none."""
    names = [name for name, _ in model.named_modules() if name.rpartition(".")[2] == "backbone"]
    if not names:
        return "", model
    name = min(names, key=lambda n: n.count("."))
    module = model.get_submodule(name)
    for inner in _WITHIN_BACKBONES:
        if isinstance(child := getattr(module, inner, None), nn.Module):
            return f"{name}.{inner}", child
    return name, module


def _parts(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Full names and modules of the children that have parameters."""
    prefix = f"{name}." if name else ""
    return [(prefix + key, child) for key, child in module.named_children() if any(True for _ in child.parameters())]


def _own_parameters(name: str, module: nn.Module) -> list[str]:
    return [f"{name}.{key}" if name else key for key, _ in module.named_parameters(recurse=False)]


def _flattened(parts: list[tuple[str, nn.Module]], loose: list[str]) -> list[tuple[str, nn.Module]]:
    """Parts without wrappers: as long as a single one has parts of its own, these replace it.

    The names of parameters that lie in a wrapper itself are appended to ``loose``.
    """
    while len(composed := [place for place, part in enumerate(parts) if _parts(*part)]) == 1:
        place = composed[0]
        loose += _own_parameters(*parts[place])
        parts = [*parts[:place], *_parts(*parts[place]), *parts[place + 1 :]]
    return parts


def _unpacked(parts: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """Parts, with those that are lists of layers replaced by what is in them."""
    # A ResNet's stages are lists of blocks side by side, each a layer; a single list of blocks holds the layers.
    alone = sum(_is_list(module) and all(_parts(*part) for part in _parts(name, module)) for name, module in parts) == 1
    unpacked: list[tuple[str, nn.Module]] = []
    for name, module in parts:
        inside = _parts(name, module)
        of_lists = all(_is_list(part) for _, part in inside)
        of_blocks = all(_parts(*part) for part in inside)
        if _is_list(module) and (of_lists or (of_blocks and alone)):
            unpacked += inside
        else:
            unpacked.append((name, module))
    return unpacked


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, (nn.Sequential, nn.ModuleList))


def _expanded(model: nn.Module, layers: Sequence[str]) -> list[str]:
    modules = dict(model.named_modules())
    names: list[str] = []
    for layer in layers:
        if layer not in modules:
            raise ModelError(f"the model has no module {layer!r}{did_you_mean(layer, modules)}")
        module = modules[layer]
        if _is_list(module):
            names += [f"{layer}.{child}" for child, _ in module.named_children()]
        else:
            names.append(layer)
    return names
