"""EventStorage: everything that a training wants to tell, kept until somebody reads it.

Putting a scalar does not read it: a tensor on an accelerator stays there, and what is pending comes over in one
copy when somebody reads or a writer writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from types import TracebackType
from typing import Any

import torch

from .history import ScalarHistory

__all__ = ["EventStorage", "get_event_storage", "has_event_storage"]

# Immutable, per thread and per context: nested storages push a longer tuple and put the old one back.
_open_storages: ContextVar[tuple[EventStorage, ...]] = ContextVar("drivetrain_open_storages", default=())

_MAX_PENDING = 8192  # without a reader, pending scalars are brought over this often
_MAX_LOG = 200_000  # scalars kept for writers that read with `scalars_since`
_MAX_PICTURES = 200  # images, and histograms, kept for a writer that takes them


def get_event_storage() -> EventStorage:
    """The innermost open storage.

    Raises:
        AssertionError: outside any ``with EventStorage()``; code written for detectron2 catches exactly that.
    """
    storages = _open_storages.get()
    if not storages:
        raise AssertionError("get_event_storage() has to be called inside a 'with EventStorage(...)' context")
    return storages[-1]


def has_event_storage() -> bool:
    """Whether code runs inside a ``with EventStorage()``."""
    return bool(_open_storages.get())


def _as_scalar(value: Any) -> float | torch.Tensor:
    """A float, or, for a tensor on an accelerator, a copy of it that nobody else will change."""
    if not isinstance(value, torch.Tensor):
        return float(value)
    if value.device.type == "cpu":
        return float(value.item())
    return value.detach().reshape(()).clone()


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
        self._latest: dict[str, tuple[float, int]] = {}
        self._hints: dict[str, bool] = {}
        self._prefix = ""
        self._pending: list[tuple[str, float | torch.Tensor, int]] = []
        self._log: deque[tuple[str, float, int]] = deque(maxlen=_MAX_LOG)
        self._logged = 0
        self._vis_data: list[tuple[str, torch.Tensor, int]] = []
        self._histograms: list[dict[str, Any]] = []
        self._provisional: list[str] = []
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
            value = _as_scalar(value)
        if self._hints.setdefault(name, smoothing_hint) != smoothing_hint:
            raise ValueError(
                f"scalar {name!r} was put with smoothing_hint={self._hints[name]} before and with "
                f"smoothing_hint={smoothing_hint} now: use one hint, or another name"
            )
        pending = self._pending
        pending.append((name, value, self.iter if cur_iter is None else cur_iter))
        if len(pending) >= _MAX_PENDING:
            self._settle()

    def put_scalars(self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **scalars: Any) -> None:
        """Add several scalars given by keyword; see :meth:`put_scalar`."""
        for name, value in scalars.items():
            self.put_scalar(name, value, smoothing_hint=smoothing_hint, cur_iter=cur_iter)

    def put_provisional(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Show this rank's own values until :meth:`drop_provisional`; they are smoothed and not written by writers."""
        for name, value in scalars.items():
            self._hints.setdefault(name, True)
            self._history(name).update_provisional(value, iteration)
            self._latest[name] = (value, iteration)
            self._provisional.append(name)

    def drop_provisional(self) -> None:
        """Take back what :meth:`put_provisional` showed; the final values follow."""
        for name in self._provisional:
            self._histories[name].drop_provisional()
        self._provisional.clear()

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
        """Add a histogram of all values of ``hist_tensor`` in ``bins`` bins of equal width; kept as images are."""
        values = hist_tensor.detach().float().cpu().reshape(-1)
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
        self._settle()
        if name not in self._histories:
            raise KeyError(f"no scalar named {name!r} was put so far")
        return self._histories[name]

    def histories(self) -> dict[str, ScalarHistory]:
        """Name -> history of every scalar."""
        self._settle()
        return self._histories

    def latest(self) -> dict[str, tuple[float, int]]:
        """Name -> (newest value, its iteration)."""
        self._settle()
        return self._latest

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Like :meth:`latest`, but for scalars with the hint the median over the last ``window_size`` iterations."""
        self._settle()
        return {
            name: (
                self._histories[name].median(self.count_samples(name, window_size)) if self._hints[name] else value,
                iteration,
            )
            for name, (value, iteration) in self._latest.items()
        }

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Number of values of ``name`` within the last ``window_size`` iterations that it was put in."""
        history = self.history(name)
        return history.count_since(self._latest[name][1] - window_size)

    def smoothing_hints(self) -> dict[str, bool]:
        """Name -> whether writers should smooth it."""
        return self._hints

    def scalars_since(self, cursor: int) -> tuple[list[tuple[str, float, int]], int]:
        """Final scalars put since ``cursor`` (0 at first) as (name, value, iteration), and the next cursor.

        A reader that falls more than 200,000 scalars behind gets only the newest of them.
        """
        self._settle()
        new = min(self._logged - cursor, len(self._log))
        return list(islice(reversed(self._log), new))[::-1], self._logged

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
        self._settle()
        storages = _open_storages.get()
        _open_storages.set(tuple(s for s in storages if s is not self))

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """The newest values, with which smoothing goes on after a resume as if nothing had happened."""
        self._settle()
        states = ((name, history.state_dict(most=100)) for name, history in self._histories.items())
        # A history may have provisional values alone, which are not saved.
        return {name: {**state, "smoothing_hint": self._hints[name]} for name, state in states if state["values"]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave; writers do not get these values a second time."""
        for name, entry in state.items():
            history = self._histories[name] = ScalarHistory.from_state_dict(entry)
            self._latest[name] = history.values()[-1]
            self._hints[name] = bool(entry["smoothing_hint"])

    # Pending scalars

    def _history(self, name: str) -> ScalarHistory:
        history = self._histories.get(name)
        if history is None:
            history = self._histories[name] = ScalarHistory()
        return history

    def _settle(self) -> None:
        """Bring what is pending over in one copy per device and append it to the histories."""
        if self.before_read is not None:
            self.before_read()
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        for name, value, iteration in _read_tensors(pending):
            self._history(name).update(value, iteration)
            self._latest[name] = (value, iteration)
            self._log.append((name, value, iteration))
        self._logged += len(pending)


def _read_tensors(
    entries: Sequence[tuple[str, float | torch.Tensor, int]],
) -> Sequence[tuple[str, float, int]]:
    """The entries with every tensor read, all tensors of one device in one copy."""
    by_device: dict[torch.device, list[int]] = {}
    for index, (_, value, _) in enumerate(entries):
        if isinstance(value, torch.Tensor):
            by_device.setdefault(value.device, []).append(index)
    if not by_device:
        return entries  # type: ignore[return-value]  # no tensor among them
    result: list[Any] = list(entries)
    for indices in by_device.values():
        values = torch.stack([result[i][1].float() for i in indices]).tolist()
        for i, value in zip(indices, values, strict=True):
            result[i] = (result[i][0], value, result[i][2])
    return result
