"""A hook made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drivetrain.engine.hook_base import HookBase

__all__ = ["CallbackHook"]

Callback = Callable[[Any], object]


class CallbackHook(HookBase):
    """Calls functions at the points of the loop; what is not given costs nothing.

    Args:
        before_train: called with the trainer at this point of the loop; so are the others.
        after_train: see ``before_train``.
        before_step: see ``before_train``.
        after_backward: see ``before_train``.
        after_step: see ``before_train``.
    """

    def __init__(
        self,
        *,
        before_train: Callback | None = None,
        after_train: Callback | None = None,
        before_step: Callback | None = None,
        after_backward: Callback | None = None,
        after_step: Callback | None = None,
    ) -> None:
        given = {
            "before_train": before_train,
            "after_train": after_train,
            "before_step": before_step,
            "after_backward": after_backward,
            "after_step": after_step,
        }
        for point, function in given.items():
            if function is not None:
                # On the instance: the trainer then calls this hook at the given points alone.
                setattr(self, point, self._calling(function))

    def _calling(self, function: Callback) -> Callable[[], None]:
        def call() -> None:
            function(self.trainer)

        return call
