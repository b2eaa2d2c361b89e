"""The losses of several ranks: kept on the device for a period, then averaged by one collective."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from drivetrain.errors import TrainingError

from .storage import EventStorage

__all__ = ["RankMetrics"]


@dataclass(frozen=True)
class _Step:
    iteration: int
    values: torch.Tensor  # one per name, on the device
    data_time: float


class RankMetrics:
    """Collects each iteration's losses on this rank; :meth:`reduce` turns them into means over ranks.

    Until then a read of the storage shows this rank's own values.
    """

    def __init__(self, storage: EventStorage) -> None:
        self.storage = storage
        self._steps: list[_Step] = []
        self._names: tuple[str, ...] = ()
        self._shown = 0
        storage.before_read = self._show

    def add(self, iteration: int, losses: Mapping[str, torch.Tensor], data_time: float) -> None:
        """Keep one iteration's scalar losses and the seconds this rank waited for data."""
        names = tuple(losses)
        if self._steps and names != self._names:
            raise TrainingError(
                f"the model returned losses {sorted(names)} at iteration {iteration} and {sorted(self._names)} before: "
                "with several ranks every iteration needs the same losses; return a zero for a loss that does not apply"
            )
        self._names = names
        values = torch.stack([v.detach().float().reshape(()) for v in losses.values()])
        self._steps.append(_Step(iteration, values, data_time))

    def _show(self) -> None:
        """Show own values of the iterations added since the last read."""
        for step in self._steps[self._shown :]:
            losses = dict(zip(self._names, step.values.tolist(), strict=True))
            shown = {"data_time": step.data_time, "total_loss": sum(losses.values()), **losses}
            self.storage.put_provisional(shown, step.iteration)
        self._shown = len(self._steps)

    def reduce(self, flags: Sequence[float]) -> list[float]:
        """Average over ranks and put the results into the storage; every rank calls this at the same iteration.

        Args:
            flags: numbers that ride along and are summed over ranks.

        Returns:
            The sums of ``flags``.

        Raises:
            TrainingError: the ranks' losses have different names.
        """
        steps, self._steps, self._shown = self._steps, [], 0
        self.storage.drop_provisional()
        world, rank = dist.get_world_size(), dist.get_rank()
        fingerprint = float(zlib.crc32(repr((self._names, len(steps))).encode()) % 10_000)
        waits = torch.zeros(len(steps), world)
        waits[:, rank] = torch.tensor([s.data_time for s in steps])
        head = torch.cat([torch.tensor([fingerprint, *flags]), waits.reshape(-1)])
        device = steps[0].values.device if steps else _collective_device()
        message = torch.cat([head.to(device), *(s.values for s in steps)])
        dist.all_reduce(message)
        total = message.cpu()
        if round(float(total[0])) != round(fingerprint * world):
            raise TrainingError(
                f"rank {rank} returned losses {sorted(self._names)}, other ranks returned others: every rank needs the "
                "same losses in each iteration; return a zero for a loss that does not apply"
            )
        if steps:
            waited = total[1 + len(flags) : head.numel()].reshape(len(steps), world).amax(dim=1)
            self._put(steps, total[head.numel() :].reshape(len(steps), -1) / world, waited)
        return [float(v) for v in total[1 : 1 + len(flags)]]

    def _put(self, steps: list[_Step], means: torch.Tensor, waited: torch.Tensor) -> None:
        for step, row, wait in zip(steps, means.tolist(), waited.tolist(), strict=True):
            put = self.storage.put_scalar
            put("data_time", wait, cur_iter=step.iteration)
            put("total_loss", sum(row), cur_iter=step.iteration)
            for name, value in zip(self._names, row, strict=True):
                if len(self._names) > 1 or name != "total_loss":
                    put(name, value, cur_iter=step.iteration)


def _collective_device() -> torch.device:
    nccl = dist.get_backend() == dist.Backend.NCCL
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")
