"""Global random number generators: seeding, saving and restoring all of them together."""

from __future__ import annotations

import operator
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from drivetrain.errors import CheckpointError, UserInputError

__all__ = ["capture_rng_state", "preserve_rng", "restore_rng_state", "seed_all_rng"]


def seed_all_rng(seed: int | None = None) -> int:
    """Seed Python's, NumPy's and PyTorch's (CPU and every accelerator) global generators.

    Args:
        seed: any integer below 2**63; ``None`` or a negative one draws a fresh seed from the system.

    Returns:
        The seed that was used; giving it again reproduces the same numbers.

    Raises:
        UserInputError: the seed is not an integer or is too large.
    """
    try:
        value = -1 if seed is None or isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        raise UserInputError(f"the seed must be an integer or None, not {seed!r} (key SEED)") from None
    if isinstance(seed, bool) or value >= 2**63:
        raise UserInputError(f"the seed must be an integer below 2**63, not {seed!r} (key SEED)")
    if value < 0:
        value = int.from_bytes(os.urandom(4), "little")
    random.seed(value)
    np.random.seed(value % 2**32)  # NumPy's legacy global generator takes 32 bits
    torch.manual_seed(value)
    return value


def capture_rng_state() -> dict[str, Any]:
    """The state of every global generator, in tensors, lists and plain values (loads with ``weights_only``).

    Keys: ``python``, ``numpy``, ``torch`` (CPU), ``cuda`` (a list, one per device) where CUDA is in use in
    this process, ``mps`` where it is available. CUDA is not initialised by this.
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": gauss},
        "numpy": {
            "name": str(name),
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
    }
    cuda: Any = torch.cuda
    if cuda.is_available() and cuda.is_initialized():
        state["cuda"] = cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_rng_state(state: dict[str, Any]) -> None:
    """Put back what `capture_rng_state` returned; everything is checked before anything is changed.

    States of CUDA devices that this machine does not have are left out, so that a checkpoint can move to
    another machine.

    Raises:
        CheckpointError: the state is not one that `capture_rng_state` made.
    """
    try:
        python, numpy = state["python"], state["numpy"]
        if not isinstance(python, dict) or not isinstance(numpy, dict):
            raise TypeError("its parts are no dicts")
        python_state = (
            int(python["version"]),
            tuple(int(w) for w in python["words"].tolist()),
            python["gauss"],
        )
        random.Random(0).setstate(python_state)
        keys = numpy["keys"].numpy().astype(np.uint32)
        numpy_state = (numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"])
        np.random.RandomState(0).set_state(numpy_state)
        torch.Generator().set_state(state["torch"].cpu())
        cuda = [s.cpu() for s in state.get("cuda", [])]
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"the saved state of the random number generators cannot be restored ({type(error).__name__}: {error})"
        ) from error
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    torch.set_rng_state(state["torch"].cpu())
    if cuda and torch.cuda.is_available():
        for device, device_state in enumerate(cuda[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(device_state, device)
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"].cpu())


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Leave the global generators, after the block, as they were before it, even if the block raises."""
    state = capture_rng_state()
    try:
        yield
    finally:
        restore_rng_state(state)
