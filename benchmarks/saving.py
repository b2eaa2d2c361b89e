"""What saving costs a training: how long the step waits, for a model of 40 M parameters with its AdamW state (480 MiB).

Each round saves the same state in each of these ways, one after the other, and times how long the call takes, which is
what the step waits for:

- ``host copy``: a copy of every tensor into memory that was used before, and nothing else: the least that a writer in
  the background can cost;
- ``save_in_background``: what PeriodicCheckpointer does; the file is on the disk, synced and verified, some time later,
  which is the last column; the first call, which has to get the memory, stands apart;
- ``torch.save``: to a file, neither synced nor verified, as most loops do it;
- ``save``: the file is synced, verified and named before the call returns.

Then matrix products are timed beside a save in flight, and beside the same save by another process, which shares no
interpreter lock with them: what the writer takes from the steps that follow. Ratios are taken within a round, on one
disk.

    python benchmarks/saving.py --rounds 7
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from drivetrain.checkpoint import Checkpointer

MIB = 1 << 20


def build(millions: float) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model of that many million parameters, in layers of a million, with an AdamW that has stepped once."""
    model = nn.ModuleList(nn.Linear(1023, 1024) for _ in range(max(1, round(millions * 1e6 / MIB))))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Everything that is saved."""
    states = [value for state in optimizer.state.values() for value in state.values()]
    return [*model.state_dict().values(), *(value for value in states if isinstance(value, torch.Tensor))]


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def work(seconds: float = 0.5) -> float:
    """Matrix products per second, as a step would do them."""
    matrix = torch.full((256, 256), 1e-3)
    start = time.perf_counter()
    count = 0
    while time.perf_counter() - start < seconds:
        matrix @ matrix
        count += 1
    return count / (time.perf_counter() - start)


def pace(checkpointer: Checkpointer) -> tuple[float, float]:
    """The pace of work beside a save by a thread, and beside the same save by another process, as a part of its own."""
    alone = work()
    checkpointer.save_in_background("model_0000000")
    beside_thread = work()
    checkpointer.wait()
    if (child := os.fork()) == 0:
        checkpointer.save("model_0000000")
        os._exit(0)
    beside_process = work()
    os.waitpid(child, 0)
    return beside_thread / alone, beside_process / alone


def measure(folder: Path, rounds: int, millions: float) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each way in each round; and once: MiB, seconds of the first background save, paces of the steps."""
    model, optimizer = build(millions)
    state = tensors(model, optimizer)
    once = {"MiB": sum(t.nbytes for t in state) / MIB}
    host = [torch.zeros_like(t) for t in state]  # zeros: written to, so that the memory is there
    checkpointer = Checkpointer(model, str(folder), optimizer=optimizer)
    once["first"] = timed(lambda: checkpointer.save_in_background("model_0000000"))
    checkpointer.wait()

    def host_copy() -> None:
        for target, source in zip(host, state, strict=True):
            target.copy_(source)

    def torch_save() -> None:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "plain.pt")

    ways: dict[str, Callable[[], object]] = {
        "host copy": host_copy,
        "save_in_background": lambda: checkpointer.save_in_background("model_0000000"),
        "torch.save": torch_save,
        "save": lambda: checkpointer.save("model_0000000"),
    }
    times: dict[str, list[float]] = {name: [] for name in (*ways, "written")}
    for _ in range(rounds):
        for name, call in ways.items():
            start = time.perf_counter()
            times[name].append(timed(call))
            checkpointer.wait()
            if name == "save_in_background":
                times["written"].append(time.perf_counter() - start)
    paces = [pace(checkpointer) for _ in range(rounds)]
    once["thread"], once["process"] = (statistics.median(values) for values in zip(*paces, strict=True))
    return times, once


def table(times: dict[str, list[float]], first: float) -> str:
    """The figures as aligned text: milliseconds, and the ratio to the host copy and to ``torch.save``."""
    lines = [["", "the step waits, ms", "x host copy", "x torch.save", "on the disk after, ms"]]
    written = {"save_in_background": times["written"], "save": times["save"]}
    for name in [name for name in times if name != "written"]:
        row = [name, spread([t * 1e3 for t in times[name]], 0)]
        ratios = (
            [t / b for t, b in zip(times[name], times[base], strict=True)] for base in ("host copy", "torch.save")
        )
        row += [spread(ratio, 2) for ratio in ratios]
        row.append(spread([t * 1e3 for t in written[name]], 0) if name in written else "")
        lines.append(row)
    lines.append(["save_in_background, the first", f"{first * 1e3:.0f}", "", "", ""])
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def spread(values: list[float], digits: int) -> str:
    """Median, and in brackets the quartiles."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{quartiles[1]:.{digits}f} [{quartiles[0]:.{digits}f}, {quartiles[2]:.{digits}f}]"


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description="How long a step waits for a checkpoint.",
        epilog="example: python benchmarks/saving.py --rounds 3 --millions 10",
    )
    parser.add_argument("--rounds", type=int, default=7, help="times that each way saves (default: 7)")
    parser.add_argument(
        "--millions", type=float, default=42.0, help="parameters of the model, in millions (default: 42)"
    )
    parser.add_argument("--folder", default=None, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default: 1)")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.threads < 1 or options.millions <= 0:
        parser.error("--rounds, --threads and --millions must be more than 0")
    torch.set_num_threads(options.threads)
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        times, once = measure(Path(folder), options.rounds, options.millions)
    print(
        f"{once['MiB']:.0f} MiB of tensors, {options.rounds} rounds, {options.threads} thread(s), "
        f"torch {torch.__version__}; median [quartiles]\n"
    )
    print(table(times, once["first"]))
    print(
        f"\npace of matrix products beside a save: {once['thread']:.2f} by a thread, {once['process']:.2f} by another "
        "process (1.00: alone)"
    )


if __name__ == "__main__":
    main()
