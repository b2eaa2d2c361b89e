"""HookBase, and the list of a trainer's hooks that knows what has to be called at which point of the loop."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from drivetrain.errors import TrainingError

__all__ = ["POINTS", "HookBase", "HookList"]

logger = logging.getLogger(__name__)

POINTS = (
    "before_train",
    "after_train",
    "before_step",
    "after_backward",
    "after_step",
    "after_evaluation",
)


class HookBase:
    """Something that happens around training steps. Every method does nothing unless it is overridden.

    ``before_step`` should take no time worth mentioning: what is slow belongs into ``after_step``, so that hooks
    that tell the two apart (timers) measure the step.

    Attributes:
        trainer: a weak proxy of the trainer, set when the hook is registered.
    """

    trainer: Any = None

    def before_train(self) -> None:
        """Called before the first iteration."""

    def after_train(self) -> None:
        """Called after the last iteration, also when training failed.

        ``trainer.iter`` is ``trainer.max_iter`` when training finished, else the iteration that failed.
        """

    def before_step(self) -> None:
        """Called before each iteration."""

    def after_backward(self) -> None:
        """Called when gradients are there, before the optimizer uses them."""

    def after_step(self) -> None:
        """Called after each iteration."""

    def after_evaluation(self, results: Mapping[str, float]) -> None:
        """Called with each evaluation's own result: flat names such as ``bbox/AP`` to numbers; empty off rank 0."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs of this hook: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""


class HookList(list[Any]):
    """A list whose attribute for each point (``hooks.after_step``) holds the bound methods to call there.

    Only methods that a hook overrides are in it, so that hooks cost nothing where they do nothing. Every change of
    the list renews the attributes; a running pass over one of them is not disturbed.

    Args:
        hooks: the hooks to begin with.
    """

    before_train: list[Callable[[], None]]
    after_train: list[Callable[[], None]]
    before_step: list[Callable[[], None]]
    after_backward: list[Callable[[], None]]
    after_step: list[Callable[[], None]]
    after_evaluation: list[Callable[[dict[str, float]], None]]

    def __init__(self, hooks: Iterable[Any] = ()) -> None:
        super().__init__(hooks)
        self.refresh()

    def refresh(self) -> None:
        """Look again at which methods the hooks override; needed only after a method itself was replaced."""
        for point in POINTS:
            setattr(self, point, [getattr(h, point) for h in self if _overrides(h, point)])

    def register(self, hooks: Iterable[Any], trainer: Any) -> None:
        """Append hooks and give them their trainer; None is left out.

        Raises:
            TrainingError: something in it is no hook.
        """
        given = [hook for hook in hooks if hook is not None]
        for hook in given:
            if not isinstance(hook, HookBase):
                raise TrainingError(f"{hook!r} is no hook: derive its class from HookBase")
            # A weak reference, for the trainer holds its hooks and would else live until garbage is collected.
            hook.trainer = weakref.proxy(trainer)
        self.extend(given)

    def bind(self, trainer: Any) -> None:
        """Give hooks that were put into the list by hand their trainer, and see methods that were replaced since."""
        for hook in self:
            if hook.trainer is None:
                hook.trainer = weakref.proxy(trainer)
        self.refresh()

    def finish(self) -> None:
        """Call every ``after_train``; errors are logged, and the first one, or exit, is raised after the last call."""
        first: BaseException | None = None
        for call in self.after_train:
            try:
                call()
            except BaseException as error:  # noqa: PERF203 - the other hooks have to run, after Ctrl-C too
                if isinstance(error, Exception):  # an exit, as after a signal, is in order
                    logger.exception("Exception in after_train of %s:", type(getattr(call, "__self__", call)).__name__)
                first = first or error
        if first is not None:
            raise first

    def state_dict(self) -> dict[str, Any]:
        """The states of those hooks that have one, by key."""
        return {key: state for key, hook in self._keyed() if (state := hook.state_dict())}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Give each hook its state; a state without a hook is said."""
        left = dict(states)
        for key, hook in self._keyed():
            if key in left:
                hook.load_state_dict(left.pop(key))
        for key in left:
            logger.warning("The checkpoint holds the state of hook %s, which is not registered: left out", key)

    def _keyed(self) -> Iterator[tuple[str, HookBase]]:
        """Each hook with its key: the class's name; from the second of one class on with ``#2``, ``#3`` ..."""
        counts: dict[str, int] = {}
        for hook in self:
            name = type(hook).__qualname__
            counts[name] = counts.get(name, 0) + 1
            yield (name if counts[name] == 1 else f"{name}#{counts[name]}"), hook


def _overrides(hook: Any, point: str) -> bool:
    method = getattr(type(hook), point, None)
    return point in vars(hook) or (method is not None and method is not getattr(HookBase, point))


def _renewing(name: str) -> Callable[..., Any]:
    """A list method that changes the list, then renews the attributes."""
    change = getattr(list, name)

    def method(self: HookList, *args: Any, **kwargs: Any) -> Any:
        result = change(self, *args, **kwargs)
        self.refresh()
        return result

    method.__name__, method.__doc__ = name, change.__doc__
    return method


for _name in ("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"):
    setattr(HookList, _name, _renewing(_name))
for _name in ("__setitem__", "__delitem__", "__iadd__", "__imul__"):
    setattr(HookList, _name, _renewing(_name))
