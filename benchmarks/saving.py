"""What saving costs a training: how much longer its steps take for a checkpoint.

A ResNet-101 without its classifier (42.5 M parameters, with AdamW's state 487 MiB) is trained on a small batch. A round
makes a few steps without a save and, in each of these ways, the same number of steps behind a save:

- periodic: what PeriodicCheckpointer does: weights and optimizer state are copied beside the next forward and backward
  pass, then written, synced and verified by a thread;
- save_in_background: everything is copied before the call returns, then written by a thread;
- host copy: a copy of every tensor into memory that was used before, and nothing is written;
- torch.save: to a file, neither synced nor verified, as most loops do it;
- save: the file is synced, verified and named before the call returns.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from report import Section, Table, interleave, parser, publish, spread

from drivetrain.checkpoint import Checkpointer
from drivetrain.checkpoint.snapshot import HostCopy

STEPS = 3  # behind each save: enough for the file to be written meanwhile
TARGET = 0.1  # of torch.save


class Times(NamedTuple):
    """Seconds of a save and the steps behind it.

    Attributes:
        call: until the save returns.
        cpu: CPU time of the training's thread until the next step is done.
        blocked: how long that step waits for the copy.
        step: until it is done.
        steps: until all steps are done.
    """

    call: float
    cpu: float
    blocked: float
    step: float
    steps: float

    def held_up(self) -> float:
        """How long the training's thread is kept from its steps."""
        return self.call + self.blocked


class Training:
    """A step and what is saved of it."""

    def __init__(self, folder: Path, device: str, size: int) -> None:
        self.device = torch.device(device)
        self.model = torchvision.models.resnet101(num_classes=10).to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.images = torch.randn(2, 3, size, size, device=self.device)
        self.checkpointer = Checkpointer(self.model, str(folder), optimizer=self.optimizer)
        self.path = folder / "plain.pt"
        self.blocked = 0.0
        self.step()
        state = self.optimizer.state_dict()["state"].values()
        self.tensors = [*self.model.state_dict().values(), *(t for values in state for t in values.values())]
        self.host = [torch.zeros_like(t, device="cpu", pin_memory=device != "cpu") for t in self.tensors]

    def step(self) -> None:
        """Forward, backward, update."""
        self.optimizer.zero_grad()
        self.model(self.images).square().sum().backward()
        self.optimizer.step()

    def now(self) -> float:
        """The time when the device has done what it was asked to."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def measure(self, save: Callable[[], object]) -> Times:
        """A save and the steps behind it."""
        self.checkpointer.wait()
        self.blocked = 0.0
        start, cpu = self.now(), time.thread_time()
        save()
        called = time.perf_counter()
        self.step()
        stepped, cpu, blocked = self.now(), time.thread_time() - cpu, self.blocked
        for _ in range(STEPS - 1):
            self.step()
        return Times(called - start, cpu, blocked, stepped - start, self.now() - start)

    def watch_waiting(self) -> None:
        """Note how long steps wait for a copy."""
        wait = HostCopy.wait

        def timed(copy: HostCopy) -> bool:
            start = time.perf_counter()
            intact = wait(copy)
            self.blocked += time.perf_counter() - start
            return intact

        HostCopy.wait = timed  # type: ignore[method-assign]

    def background(self, overlap: bool) -> None:
        """Save beside the training."""
        self.checkpointer.save_in_background("model_0000000", overlap=overlap)

    def host_copy(self) -> None:
        """The least that a copy at once can cost."""
        for target, source in zip(self.host, self.tensors, strict=True):
            target.copy_(source)

    def torch_save(self) -> None:
        """As most loops do it."""
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, self.path)


def measure(training: Training, rounds: int) -> tuple[dict[str, list[Times]], Times]:
    """The times of each way in each round, and those of the first periodic save."""
    plain = training.measure(lambda: None)
    first = training.measure(partial(training.background, overlap=True))
    ways: dict[str, Callable[[], object]] = {
        "no save": lambda: None,
        "periodic": partial(training.background, overlap=True),
        "save_in_background": partial(training.background, overlap=False),
        "host copy": training.host_copy,
        "torch.save": training.torch_save,
        "save": lambda: training.checkpointer.save("model_0000000"),
    }
    times = interleave({name: partial(training.measure, save) for name, save in ways.items()}, rounds)
    return times, Times(*(a - b for a, b in zip(first, plain, strict=True)))


def stalls(times: dict[str, list[Times]]) -> dict[str, list[Times]]:
    """How much more everything took than without a save, in the same round."""
    plain = times["no save"]
    return {
        name: [Times(*(a - b for a, b in zip(t, p, strict=True))) for t, p in zip(values, plain, strict=True)]
        for name, values in times.items()
        if name != "no save"
    }


def ratios(found: dict[str, list[Times]], name: str) -> list[float]:
    """How long a way of saving holds up the training, as a part of ``torch.save``."""
    return [a.held_up() / b.held_up() for a, b in zip(found[name], found["torch.save"], strict=True)]


def table(found: dict[str, list[Times]], first: Times) -> Table:
    """Milliseconds, and the ratio to ``torch.save``."""
    made = Table(
        ["", "call", "waiting", "x torch.save", "CPU, call and step", "wall, call and step", f"wall, {STEPS} steps"]
    )
    for name, values in found.items():
        call, cpu, blocked, step, steps = ([v[i] * 1e3 for v in values] for i in range(5))
        slower = (spread(values, 0) for values in (cpu, step, steps))
        made.add(name, spread(call), spread(blocked), spread(ratios(found, name), 3), *slower)
    call, cpu, blocked, step, steps = (f"{t * 1e3:.0f}" for t in first)
    made.add("periodic, the first", call, blocked, "", cpu, step, steps)
    return made


def verdict(found: dict[str, list[Times]]) -> str:
    """Whether the target is reached."""
    ratio = statistics.median(ratios(found, "periodic"))
    reached = "reached" if ratio <= TARGET else "not reached"
    return (
        f"Target: a periodic save holds up the training for at most {TARGET:g} of `torch.save`: {ratio:.3f}, {reached}."
        " The first periodic save is copied at once, into fresh memory, and the next step compares all of it with the "
        "weights: only a training that changes them nowhere else is copied beside its steps."
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    made = parser("How long a training waits for a checkpoint.", "python benchmarks/saving.py --rounds 3 --size 64")
    made.set_defaults(rounds=7)
    made.add_argument("--size", type=int, default=128, help="height and width of the two images (default: 128)")
    made.add_argument("--folder", default=None, help="where to write (default: the system's temporary folder)")
    made.add_argument("--device", default="cpu", help="where to train (default: cpu)")
    options = made.parse_args(arguments)
    torch.set_num_threads(options.threads)
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        training = Training(Path(folder), options.device, options.size)
        training.watch_waiting()
        times, first = measure(training, options.rounds)
        training.checkpointer.wait()
    found = stalls(times)
    step = statistics.median(t.steps / STEPS for t in times["no save"]) * 1e3
    size = sum(t.nbytes for t in training.tensors) / 2**20
    section = Section(
        key="saving",
        title="How long does a training wait for a checkpoint?",
        method=(
            f"A ResNet-101 without classifier with AdamW's state, {size:.0f} MiB, two images of {options.size} px on "
            f"{options.device}, {options.threads} thread(s); a step takes {step:.0f} ms. Milliseconds of a save and "
            "the steps behind it, more than of the same steps without one in the same round: until the call returns, "
            "and the next step's waiting for the copy, whose sum is compared with `torch.save`; CPU time of the "
            "training's thread until that step is done, which a copy beside it may slow down; wall time, which counts "
            f"what else the machine does, the writing of the file among it. {options.rounds} rounds, one disk, median "
            "[quartiles]."
        ),
        parts=[table(found, first), verdict(found)],
        libraries=("torch", "torchvision"),
    )
    publish(section, options.document)


if __name__ == "__main__":
    main()
