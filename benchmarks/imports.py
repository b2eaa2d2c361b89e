"""What importing costs: the training loop's module beyond PyTorch itself, and the command line's help.

Each measurement is a process of its own; rounds are interleaved.

    python benchmarks/imports.py --rounds 7
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from report import Sample, Section, Table, interleave, parser, publish, spread

ROOT = Path(__file__).resolve().parent.parent
WITHIN = """
import time
import torch
cpu, wall = time.process_time(), time.perf_counter()
import {module}
print(time.process_time() - cpu, time.perf_counter() - wall)
"""
OWN = "import sys, {module}; print(len([m for m in sys.modules if m.partition('.')[0] == 'drivetrain']))"
TRAIN_LOOP = "drivetrain.engine.train_loop"
HELP = "drivetrain --help"
TARGETS = {TRAIN_LOOP: 30.0, HELP: 500.0}  # ms


def run(*arguments: str) -> str:
    """What a new interpreter prints."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def after_torch(module: str) -> Sample:
    """The seconds that an import takes where PyTorch is imported already."""
    cpu, wall = run("-c", WITHIN.format(module=module)).split()
    return Sample(float(cpu), float(wall))


def process(*arguments: str) -> Sample:
    """The seconds of a whole process, from start to end."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run(*arguments)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Sample(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    options = parser("The cost of imports.", "python benchmarks/imports.py --rounds 5").parse_args(arguments)
    cases = {
        "python": partial(process, "-c", ""),
        "import torch": partial(process, "-c", "import torch"),
        TRAIN_LOOP: partial(after_torch, TRAIN_LOOP),
        HELP: partial(process, "-m", "drivetrain", "--help"),
    }
    for case in cases.values():
        case()  # files are in memory, bytecode is written
    table = Table(["", "CPU ms", "wall ms", "at most", "reached"])
    for name, samples in interleave(cases, options.rounds).items():
        cpu, wall = ([sample[kind] * 1e3 for sample in samples] for kind in (0, 1))
        target = TARGETS.get(name)
        reached = "" if target is None else "yes" if statistics.median(cpu) <= target else "no"
        label = f"import {name}, after torch" if name == TRAIN_LOOP else name
        table.add(label, spread(cpu), spread(wall), "" if target is None else f"{target:.0f}", reached)
    modules = run("-c", OWN.format(module=TRAIN_LOOP)).strip()
    section = Section(
        "imports",
        "Imports",
        f"{options.rounds} rounds, a process each; median [quartiles]. All but the third line are whole processes.",
        [table, f"{TRAIN_LOOP} loads {modules} modules of the package."],
    )
    publish(section, options.document)


if __name__ == "__main__":
    main()
