"""EventStorage: everything that a training wants to tell, kept until somebody reads it.

Putting a scalar does not read it: a tensor on an accelerator stays there, and what is pending comes over in one
copy when somebody reads or a writer writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

import torch

from .history import ScalarHistory

__all__ = ["EventStorage", "get_event_storage", "has_event_storage", "innermost_storage"]

# Immutable, per thread and per context: nested storages push a longer tuple and put the old one back.
_open_storages: ContextVar[tuple[EventStorage, ...]] = ContextVar("drivetrain_open_storages", default=())

_MOST_PENDING = 1024  # without a reader, what was put is sorted into the histories this often
_MAX_PICTURES = 200  # images, and histograms, kept for a writer that takes them


def get_event_storage() -> EventStorage:
    """The innermost open storage.

    Raises:
        AssertionError: outside any ``with EventStorage()``; code written for detectron2 catches exactly that.
    """
    storage = innermost_storage()
    if storage is None:
        raise AssertionError("get_event_storage() has to be called inside a 'with EventStorage(...)' context")
    return storage


def has_event_storage() -> bool:
    """Whether code runs inside a ``with EventStorage()``."""
    return bool(_open_storages.get())


def innermost_storage() -> EventStorage | None:
    """The innermost open storage; None where none is open."""
    storages = _open_storages.get()
    return storages[-1] if storages else None


class EventStorage:
    """Scalars with their histories, images and histograms of one training.

    Use it as a context manager; inside, :func:`get_event_storage` returns it. Storages nest.

    Args:
        start_iter: the iteration to begin with.

    Attributes:
        iter: the current iteration; the trainer sets it before each step.
        start_iter: as given.
        before_read: called before every read, when set; it may put what was held back so far.
    """

    def __init__(self, start_iter: int = 0) -> None:
        self.iter = start_iter
        self.start_iter = start_iter
        self._histories: dict[str, ScalarHistory] = {}
        self._hints: dict[str, bool] = {}
        self._prefix = ""
        self._pending: list[tuple[int, dict[str, Any]]] = []  # iteration and scalars, not in the histories yet
        self._has_tensors = False  # among those
        self._restored: dict[str, int] = {}  # how many values of each name came with a checkpoint
        self._vis_data: list[tuple[str, torch.Tensor, int]] = []
        self._histograms: list[dict[str, Any]] = []
        self.before_read: Callable[[], None] | None = None

    # Putting

    def put_scalar(self, name: str, value: Any, smoothing_hint: bool = True, cur_iter: int | None = None) -> None:
        """Add one scalar.

        Args:
            name: its name; one name belongs to one smoothing hint.
            value: a number or a one-element tensor, on any device; it is not read here unless that is free.
            smoothing_hint: whether writers show a median over recent iterations instead of the value itself.
            cur_iter: the iteration it belongs to (default: the current one).

        Raises:
            ValueError: the name was used with the other smoothing hint before.
        """
        if self._prefix:
            name = self._prefix + name
        if type(value) is not float:
            value = self._as_scalar(value)
        if self._hints.get(name) is not smoothing_hint:
            self._check_hint(name, smoothing_hint)
        self._note({name: value}, cur_iter)

    def put_scalars(self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **scalars: Any) -> None:
        """Add several scalars given by keyword, all or none of them; see :meth:`put_scalar`."""
        self.record(scalars, smoothing_hint, cur_iter)

    def record(self, scalars: dict[str, Any], smoothing_hint: bool = True, cur_iter: int | None = None) -> None:
        """As :meth:`put_scalars`, for a dict that nobody changes any more."""
        if self._prefix:
            scalars = {self._prefix + name: value for name, value in scalars.items()}
        for name, value in scalars.items():
            if type(value) is not float:
                scalars[name] = self._as_scalar(value)
            if self._hints.get(name) is not smoothing_hint:
                self._check_hint(name, smoothing_hint)
        self._note(scalars, cur_iter)

    def _as_scalar(self, value: Any) -> float | torch.Tensor:
        """A float, or, for a tensor on an accelerator, a copy of it that nobody else will change."""
        if not isinstance(value, torch.Tensor):
            return float(value)
        if value.is_cpu:
            return float(value.item())
        self._has_tensors = True
        return value.detach().reshape(()).clone()

    def _note(self, scalars: dict[str, Any], cur_iter: int | None) -> None:
        self._pending.append((self.iter if cur_iter is None else int(cur_iter), scalars))
        if len(self._pending) >= _MOST_PENDING:
            self._settle()

    def _check_hint(self, name: str, smoothing_hint: bool) -> None:
        known = self._hints.setdefault(name, bool(smoothing_hint))
        if known != smoothing_hint:
            raise ValueError(
                f"scalar {name!r} was put with smoothing_hint={known} before and with "
                f"smoothing_hint={smoothing_hint} now: use one hint, or another name"
            )

    def put_provisional(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Show this rank's own values until :meth:`drop_provisional`; they are smoothed and not written by writers."""
        for name, value in scalars.items():
            self._hints.setdefault(name, True)
            self._history(name).update_provisional(value, iteration)

    def drop_provisional(self) -> None:
        """Take back what :meth:`put_provisional` showed; the final values follow."""
        for history in self._histories.values():
            history.drop_provisional()

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Add an image; of those that no writer takes, the newest 200 are kept.

        Args:
            img_name: its name.
            img_tensor: tensor or array of shape (channel, height, width), channels RGB, uint8 in [0, 255] or
                float in [0, 1].
        """
        self._vis_data.append((self._prefix + img_name, torch.as_tensor(img_tensor), self.iter))
        del self._vis_data[:-_MAX_PICTURES]

    def put_histogram(self, hist_name: str, hist_tensor: torch.Tensor, bins: int = 1000) -> None:
        """Add a histogram of the finite values of ``hist_tensor``, if any, in ``bins`` bins of equal width.

        Kept as images are.
        """
        values = hist_tensor.detach().float().cpu().reshape(-1)
        values = values[values.isfinite()]
        if not len(values):
            return
        low, high = float(values.min()), float(values.max())
        edges = torch.linspace(low, high, steps=bins + 1)
        self._histograms.append(
            {
                "tag": self._prefix + hist_name,
                "min": low,
                "max": high,
                "num": values.numel(),
                "sum": float(values.sum()),
                "sum_squares": float((values**2).sum()),
                "bucket_limits": edges[1:].tolist(),
                "bucket_counts": torch.histc(values, bins=bins, min=low, max=high).tolist(),
                "global_step": self.iter,
            }
        )
        del self._histograms[:-_MAX_PICTURES]

    # Reading

    def history(self, name: str) -> ScalarHistory:
        """The history of one scalar; KeyError for a name that was never put."""
        histories = self.histories()
        if name not in histories:
            raise KeyError(f"no scalar named {name!r} was put so far")
        return histories[name]

    def histories(self) -> dict[str, ScalarHistory]:
        """Name -> history of every scalar."""
        if self.before_read is not None:
            self.before_read()
        self._settle()
        return self._histories

    def latest(self) -> dict[str, tuple[float, int]]:
        """Name -> (newest value, its iteration)."""
        return {name: (h.latest(), h.latest_iteration()) for name, h in self.histories().items() if len(h)}

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Like :meth:`latest`, but for scalars with the hint the median over the last ``window_size`` iterations."""
        return {
            name: (h.smoothed(window_size) if self._hints[name] else h.latest(), h.latest_iteration())
            for name, h in self.histories().items()
            if len(h)
        }

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Number of values of ``name`` within the last ``window_size`` iterations that it was put in."""
        history = self.history(name)
        return history.count_since(history.latest_iteration() - window_size)

    def smoothing_hints(self) -> dict[str, bool]:
        """Name -> whether writers should smooth it."""
        return self._hints

    def new_since(
        self, seen: Mapping[str, int], names: Iterable[str] | None = None
    ) -> tuple[dict[str, int], dict[str, int]]:
        """How many final values a reader has not seen.

        Args:
            seen: how many values of each name were seen (empty at first).
            names: the names to look at (default: all).

        Returns:
            The numbers, without names that have no new value, and what is ``seen`` now. A history may keep fewer.
        """
        histories = self.histories()
        now = dict(seen)
        new: dict[str, int] = {}
        for name in histories if names is None else names:
            before = now.get(name, self._restored.get(name, 0))
            count = now[name] = histories[name].count
            if count > before:
                new[name] = count - before
        return new, now

    # The current iteration

    def step(self) -> None:
        """Go to the next iteration; only for loops without a trainer."""
        self.iter += 1

    @property
    def iteration(self) -> int:
        """The current iteration, under its older name."""
        return self.iter

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Within the context, names are prefixed by ``name/``; scopes do not nest, the inner one replaces."""
        before = self._prefix
        self._prefix = name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._prefix = before

    def clear_images(self) -> None:
        """Forget the images; a writer calls it once they are written."""
        self._vis_data = []

    def clear_histograms(self) -> None:
        """Forget the histograms; a writer calls it once they are written."""
        self._histograms = []

    def __enter__(self) -> EventStorage:
        _open_storages.set((*_open_storages.get(), self))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.histories()  # nothing is pending after the training
        storages = _open_storages.get()
        _open_storages.set(tuple(s for s in storages if s is not self))

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """The newest values, with which smoothing goes on after a resume as if nothing had happened."""
        # A history may have provisional values alone, which are not saved.
        return {
            name: {**history.state_dict(most=100), "smoothing_hint": self._hints[name]}
            for name, history in self.histories().items()
            if history.count
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave; writers do not get these values a second time."""
        for name, entry in state.items():
            self._histories[name] = ScalarHistory.from_state_dict(entry)
            self._hints[name] = bool(entry["smoothing_hint"])
            self._restored[name] = self._histories[name].count

    # Pending scalars

    def _history(self, name: str) -> ScalarHistory:
        history = self._histories.get(name)
        if history is None:
            history = self._histories[name] = ScalarHistory()
        return history

    def _settle(self) -> None:
        """Append what is pending to the histories; tensors come over in one copy per device."""
        pending, self._pending = self._pending, []
        new: dict[str, tuple[list[Any], list[int]]] = {}
        for iteration, scalars in pending:
            for name, value in scalars.items():
                values, iterations = new.get(name) or new.setdefault(name, ([], []))
                values.append(value)
                iterations.append(iteration)
        if self._has_tensors:
            self._has_tensors = False
            _read_tensors([values for values, _ in new.values()])
        for name, (values, iterations) in new.items():
            self._history(name).extend(values, iterations)


def _read_tensors(columns: Sequence[list[Any]]) -> None:
    """Replace tensors by their values, all of one device with one copy."""
    places: dict[torch.device, list[tuple[list[Any], int]]] = {}
    for values in columns:
        for index, value in enumerate(values):
            if isinstance(value, torch.Tensor):
                places.setdefault(value.device, []).append((values, index))
    for own in places.values():
        read = torch.stack([values[index].float() for values, index in own]).tolist()
        for (values, index), value in zip(own, read, strict=True):
            values[index] = value
