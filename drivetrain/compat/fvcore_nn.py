"""Small functions of ``fvcore.nn`` that models of one's own call: initial weights, and a loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["c2_msra_fill", "c2_xavier_fill", "smooth_l1_loss"]


def c2_xavier_fill(module: Any) -> None:
    """Draw the weights of a convolution or linear layer evenly, by the number of inputs; the bias becomes 0.

    Caffe2's "XavierFill": the variance is 1 / inputs.
    """
    nn.init.kaiming_uniform_(module.weight, a=1)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def c2_msra_fill(module: Any) -> None:
    """Draw the weights of a layer before a ReLU from a normal distribution; the bias becomes 0.

    He et al., "Delving deep into rectifiers" (2015), by the number of outputs: the variance is 2 / outputs.
    """
    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def smooth_l1_loss(input: Tensor, target: Tensor, beta: float, reduction: str = "none") -> Tensor:
    """The absolute difference, less ``beta / 2``, or below ``beta`` its square over ``2 * beta``; ``beta`` 0 is L1.

    ``reduction`` is ``none``, ``sum`` or ``mean``; the mean of nothing is 0.
    """
    kind = "sum" if reduction == "mean" and not input.numel() else reduction
    return functional.smooth_l1_loss(input, target, reduction=kind, beta=beta if beta >= 1e-5 else 0.0)
