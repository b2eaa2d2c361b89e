"""What reading a checkpoint costs: weights and optimizer state, from the file to a training that can go on.

A model of 42 M parameters in layers of a million, with AdamW's state, was saved (480 MiB). Each measurement is a
process of its own, as a resumed training is: memory that was used before would hide half of the work. The file is in
the system's cache. Measured are:

- torch.load: to the CPU, with ``weights_only=True``, and nothing done with it;
- torch.load, applied: and given to the model and the optimizer;
- torch.load, mapped: the same with ``mmap=True``. The optimizer's state stays in the file then, and whoever cuts that
  file short ends the training with SIGBUS, even days later; so Drivetrain copies it;
- torch.load, mapped and copied: the same with that copy, the least that a safe way does;
- new memory: as many bytes as the optimizer's state has, written once, without any file;
- digest check: the SHA-256 of the file, compared with the manifest;
- read and restore: what Checkpointer does beside that check; it also keeps what the model held, in case of failure;
- Checkpointer.load: all of it; resume_or_load: in a folder, where the newest whole file is looked for.

The optimizer step behind it is measured too: it pays for memory that was not brought in before.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from report import Section, Table, interleave, parser, publish, spread
from torch import nn

from drivetrain.checkpoint import Checkpointer
from drivetrain.checkpoint.formats import check_whole, map_checkpoint
from drivetrain.checkpoint.restore import restore

NAME = "model_0000000"
BASE = "torch.load, applied"
TARGET = 1 / 3  # of it, for reading and restoring


class Times(NamedTuple):
    """Seconds: of CPU and of the clock for the loading, of CPU for the step behind it."""

    cpu: float
    wall: float
    step: float


def build(millions: float) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A new model of so many million parameters, in layers of a million, and its optimizer."""
    torch.manual_seed(0)
    model = nn.ModuleList(nn.Linear(1023, 1024) for _ in range(max(1, round(millions * 1e6 / 2**20))))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-4)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """CPU seconds of an optimizer step with gradients of ones."""
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    start = time.process_time()
    optimizer.step()
    return time.process_time() - start


def apply(model: nn.Module, optimizer: torch.optim.Optimizer, data: dict) -> None:
    """Give a file's content to the model and the optimizer."""
    model.load_state_dict(data["model"])
    optimizer.load_state_dict(data["optimizer"])


def copied(data: dict) -> dict:
    """A file's content with the optimizer's state in memory of its own."""
    return {**data, "optimizer": copy.deepcopy(data["optimizer"])}


def ways(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    path = folder / f"{NAME}.pth"
    checkpointer = Checkpointer(model, str(folder), optimizer=optimizer)
    digests = checkpointer.folder.digests(path.name)
    load = partial(torch.load, path, map_location="cpu", weights_only=True)
    return {
        "torch.load": load,
        BASE: lambda: apply(model, optimizer, load()),
        "torch.load, mapped": lambda: apply(model, optimizer, load(mmap=True)),
        "torch.load, mapped and copied": lambda: apply(model, optimizer, copied(load(mmap=True))),
        "new memory": lambda: torch.ones(2 * sum(parameter.numel() for parameter in model.parameters())),
        "read and restore": lambda: restore(model, {"optimizer": optimizer}, map_checkpoint(path), str(path)),
        "digest check": lambda: check_whole(path, digests),
        "Checkpointer.load": lambda: checkpointer.load(str(path)),
        "resume_or_load": lambda: checkpointer.resume_or_load(""),
    }


def sample(options: argparse.Namespace) -> Times:
    """Measure one way, in this process."""
    model, optimizer = build(options.millions)
    call = ways(Path(options.folder), model, optimizer)[options.sample]
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Times(cpu, wall, step(model, optimizer))


def in_own_process(name: str, folder: str, options: argparse.Namespace) -> Times:
    """Measure one way, in a process of its own."""
    command = [sys.executable, __file__, "--sample", name, "--folder", folder, "--millions", str(options.millions)]
    command += ["--threads", str(options.threads)]
    return Times(*json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def table(times: dict[str, list[Times]]) -> Table:
    """Milliseconds, and the ratio to ``torch.load`` with its content applied."""
    made = Table(["", "CPU ms", f"x {BASE}", "wall ms", "the step behind it, CPU ms"])
    for name, values in times.items():
        ratios = [v.cpu / b.cpu for v, b in zip(values, times[BASE], strict=True)]
        columns = [[v[i] * 1e3 for v in values] for i in range(3)]
        made.add(name, spread(columns[0], 0), spread(ratios, 2), spread(columns[1], 0), spread(columns[2], 0))
    return made


def verdict(times: dict[str, list[Times]]) -> str:
    """Whether the target is reached."""
    pairs = list(zip(times["read and restore"], times[BASE], strict=True))
    ratio = statistics.median(a.cpu / b.cpu for a, b in pairs)
    told = f"Target: reading and restoring takes at most {TARGET:.2f} of `{BASE}`: {ratio:.2f}"
    if ratio <= TARGET:
        return f"{told}, reached."
    medians = {name: statistics.median(value.cpu for value in values) for name, values in times.items()}
    least, memory = (medians[name] / medians[BASE] for name in ("torch.load, mapped and copied", "new memory"))
    return (
        f"{told}, not reached. The optimizer's state has to leave the mapped file, for a file that is cut short or "
        f"written over would end the training; the memory that it moves to takes {memory:.2f} by itself, and mapping, "
        f"copying and applying {least:.2f}. Beside that, what the model held is kept in case of failure."
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    made = parser("How long reading a checkpoint takes.", "python benchmarks/loading.py --rounds 3 --millions 10")
    made.set_defaults(rounds=7)
    made.add_argument("--millions", type=float, default=42.0, help="parameters of the model (default: 42)")
    made.add_argument("--folder", default=None, help="where the file is written (default: the temporary folder)")
    made.add_argument("--sample", help=argparse.SUPPRESS)
    options = made.parse_args(arguments)
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    if options.sample:
        print(json.dumps(sample(options)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        model, optimizer = build(options.millions)
        step(model, optimizer)
        Checkpointer(model, folder, optimizer=optimizer).save(NAME, iteration=0)
        size = (Path(folder) / f"{NAME}.pth").stat().st_size / 2**20
        names = ways(Path(folder), model, optimizer)
        del model, optimizer
        times = interleave({name: partial(in_own_process, name, folder, options) for name in names}, options.rounds)
    section = Section(
        key="loading",
        title="How long does reading a checkpoint take?",
        method=(
            f"{size:.0f} MiB of weights and AdamW's state, in the system's cache; each measurement in a process of its "
            f"own, {options.threads} thread(s), {options.rounds} rounds, median [quartiles]."
        ),
        parts=[table(times), verdict(times)],
    )
    publish(section, options.document)


if __name__ == "__main__":
    main()
