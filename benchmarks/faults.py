"""What a training survives: the demonstrations of its reliability in their long forms, and one table of what came out.

Each row starts scripts or tests of ``tests/``, and says what was asked, what was reached, and how long it took. The
long forms together take hours on two cores; ``--scale`` makes them shorter, and ``--only`` chooses some.

    python benchmarks/faults.py --document docs/benchmarks.md
    python benchmarks/faults.py --scale 0.05 --only kills_1 signals
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from report import Section, Table, publish

ROOT = Path(__file__).resolve().parents[1]
FAULTS = "tests/faults"
PARTS = ("rng", "data_loader", "optimizer", "EMA", "buffers")
MOMENTS = ("step", "evaluation", "figures", "precise_bn", "save", "startup", "resume", "last", "killed")
MOMENTS_OF_TWO = ("step", "evaluation", "figures", "precise_bn", "save", "last", "both")  # with two ranks


class Run(NamedTuple):
    """A process that has ended."""

    code: int
    output: str


class Reached(NamedTuple):
    """What a demonstration showed, and whether that is what was asked."""

    figure: str
    enough: bool


@dataclass(frozen=True)
class Demonstration:
    """A row of the table.

    Attributes:
        what: what is done.
        asked: the figure to reach.
        commands: for a scale, the arguments of Python for each process, which run one after the other.
        read: what their outputs say.
    """

    what: str
    asked: str
    commands: Callable[[float], list[list[str]]]
    read: Callable[[Sequence[Run]], Reached]


def scaled(count: int, scale: float) -> str:
    """So many at full scale; two at least."""
    return str(max(2, round(count * scale)))


def tests(*paths: str, slow: str = "") -> Callable[[float], list[list[str]]]:
    """A command that runs test files; at full scale the slow tests in them too, or only those named ``slow``."""

    def commands(scale: float) -> list[list[str]]:
        pytest = ["-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *paths]
        if scale < 1:
            return [pytest]
        return [[*pytest, "-m", "slow" if slow else "slow or not slow", *(["-k", slow] if slow else [])]]

    return commands


def passed(runs: Sequence[Run]) -> Reached:
    """How many tests passed and failed."""
    counts = dict.fromkeys(("passed", "failed", "error"), 0)
    for run in runs:
        summaries = re.findall(r"^.*\d+ (?:passed|failed|error).* in [\d.]+s.*$", run.output, re.MULTILINE)
        for number, word in re.findall(r"(\d+) (passed|failed|error)", summaries[-1] if summaries else ""):
            counts[word] += int(number)
    shown = ", ".join(f"{number} {word}" for word, number in counts.items() if number) or "nothing ran"
    return Reached(f"tests: {shown}", all(run.code == 0 for run in runs) and counts["passed"] > 0)


def killed(runs: Sequence[Run]) -> Reached:
    """Kills, failed resumes and divergent iterations of a kill loop."""
    kills = _sum(r"(\d+) kills", runs)
    failed, divergent = _sum(r"failed resumes (\d+)", runs), _sum(r"divergent (\d+)", runs)
    figure = f"{kills} kills: {failed} failed resumes, {divergent} divergent"
    return Reached(figure, bool(kills) and not failed and not divergent and all(run.code == 0 for run in runs))


def diverged(runs: Sequence[Run]) -> Reached:
    """How many of the loops that left a part of the state out were found out, all of whose resumes went well."""
    found = sum(
        run.code == 1 and "failed resumes 0" in run.output and bool(re.search(r"divergent [1-9]", run.output))
        for run in runs
    )
    return Reached(f"{found} of {len(runs)} found out", found == len(runs))


def saves(runs: Sequence[Run]) -> Reached:
    """What the script that kills within saves counted."""
    (run,) = runs
    if run.code:
        return Reached("a state was lost", False)
    counts = json.loads(run.output.strip().splitlines()[-1])
    figure = f"{counts['kills']} kills, {counts['within_a_save']} within a save: each recovered"
    return Reached(figure, counts["kills"] > 0)


def damaged(runs: Sequence[Run]) -> Reached:
    """How much damage to files was detected or harmless; at smaller scales tests are counted instead."""
    total = _sum(r"damaged, resumed from \d+: (\d+)", runs)
    outcome = passed(runs)
    return Reached(f"{total} of {total}", outcome.enough) if total and outcome.enough else outcome


def signalled(runs: Sequence[Run]) -> Reached:
    """At how many moments signals came, and how long it took to the exit."""
    problems = _sum(r"problems (\d+)", runs)
    moments = sum(len(re.findall(r"^\w+, \d ranks: exit codes", run.output, re.MULTILINE)) for run in runs)
    found = [re.search(r"(\d+) random signals: .* p99 ([\d.]+) s", run.output) for run in runs]
    drawn, p99 = next(((int(m[1]), float(m[2])) for m in found if m), (0, float("inf")))
    figure = f"{moments} moments and {drawn} random times: {problems} problems, p99 {p99:.1f} s to the exit"
    return Reached(figure, not problems and p99 <= 10 and all(run.code == 0 for run in runs))


def _sum(pattern: str, runs: Sequence[Run]) -> int:
    return sum(int(number) for run in runs for number in re.findall(pattern, run.output))


def test_files(folder: str, text: str = "") -> list[str]:
    """The test files below a folder that have this text in them."""
    files = (path for path in sorted((ROOT / folder).rglob("test_*.py")) if text in path.read_text())
    return [str(path.relative_to(ROOT)) for path in files]


def kill_loop(ranks: int) -> Callable[[float], list[list[str]]]:
    """The command of a kill loop."""
    return lambda scale: [[f"{FAULTS}/kill_loop.py", "--kills", scaled(200, scale), "--ranks", str(ranks)]]


DEMONSTRATIONS = {
    "kills_1": Demonstration(
        "SIGKILL at random moments, 1 rank", "200 kills: 0 failed resumes, 0 divergent", kill_loop(1), killed
    ),
    "kills_2": Demonstration(
        "SIGKILL at random moments, 2 ranks", "200 kills: 0 failed resumes, 0 divergent", kill_loop(2), killed
    ),
    "controls": Demonstration(
        f"the same with one part not restored ({', '.join(PARTS)})",
        "5 of 5 found out",
        lambda scale: [[f"{FAULTS}/kill_loop.py", "--kills", "8", "--without", part] for part in PARTS],
        diverged,
    ),
    "saves": Demonstration(
        "SIGKILL while checkpoints are written, the best one too",
        "200 kills: each recovered",
        lambda scale: [[f"{FAULTS}/checkpoint/killed_saves.py", "--kills", scaled(200, scale)]],
        saves,
    ),
    "crash_points": Demonstration(
        "every prefix of a save's writes, with every subset that was not synced",
        "always recoverable",
        tests(f"{FAULTS}/checkpoint/test_crash_points.py"),
        passed,
    ),
    "flips": Demonstration(
        "bit flips and truncations of every file that a resume reads",
        "1000 of 1000 detected or harmless",
        tests(f"{FAULTS}/checkpoint/test_flips.py", slow="thousand"),
        damaged,
    ),
    "disk": Demonstration(
        "ENOSPC and EIO at every write of checkpoints and writers; a dead tracker",
        "0 aborted, 0 partial files",
        tests(f"{FAULTS}/checkpoint/test_disk_errors.py", f"{FAULTS}/test_writers.py"),
        passed,
    ),
    "elastic": Demonstration(
        "1 -> 2 -> 4 -> 1 ranks within an epoch; a resume at iteration 90,000",
        "0 samples lost or repeated, 0 images decoded, under 1 s",
        tests(f"{FAULTS}/test_data_elastic.py", f"{FAULTS}/test_data_resume.py"),
        passed,
    ),
    "data": Demonstration(
        "corrupt images and killed loader processes",
        "the losses of a clean replay, bit for bit",
        tests(
            f"{FAULTS}/test_training_on_faulty_data.py",
            f"{FAULTS}/test_data_workers.py",
            f"{FAULTS}/test_data_images.py",
        ),
        passed,
    ),
    "ranks": Demonstration(
        "NaN on one rank, exceptions, kills and exits of ranks",
        "0 weights changed, all ranks act together and end",
        tests("tests/engine/test_two_ranks.py", "tests/engine/test_launcher.py"),
        passed,
    ),
    "hang": Demonstration(
        "a rank that is stopped (SIGSTOP) or hangs",
        "told with all stacks within 2x the timeout, all ended",
        tests(f"{FAULTS}/test_hang.py"),
        passed,
    ),
    "signals": Demonstration(
        "SIGTERM, SIGUSR1, SIGINT at each moment and at random ones",
        "0 problems, p99 of 10 s to the exit",
        lambda scale: [
            [f"{FAULTS}/signal_loop.py", *MOMENTS],
            [f"{FAULTS}/signal_loop.py", "--ranks", "2", *MOMENTS_OF_TWO],
            [f"{FAULTS}/signal_loop.py", "--random", scaled(200, scale)],
        ],
        signalled,
    ),
    "hostile": Demonstration(
        "files made to do harm, given to every loader",
        "0 code run, 0 files written outside",
        tests(*(f"{FAULTS}/test_{name}.py" for name in ("hostile_checkpoint", "hostile_config", "data_hostile"))),
        passed,
    ),
    "golden": Demonstration(
        "20 steps of a model of each family", "the stored losses", tests(*test_files("tests/golden")), passed
    ),
    "properties": Demonstration(
        "property tests: hook order, order of samples, config, ...",
        "none refuted",
        tests(*test_files("tests", "from hypothesis import")),
        passed,
    ),
}


def demonstrate(case: Demonstration, scale: float) -> tuple[Reached, float, Sequence[Run]]:
    """Run the processes of a row; what was reached, the seconds, and the outputs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    start, runs = time.monotonic(), []
    for arguments in case.commands(scale):
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        runs.append(Run(done.returncode, done.stdout.decode(errors="replace")))
    try:
        reached = case.read(runs)
    except (ValueError, KeyError, IndexError) as error:
        reached = Reached(f"the output says nothing ({error})", False)
    return reached, time.monotonic() - start, runs


def _shortened(text: str, most: int = 4000) -> str:
    """A text without its middle."""
    return text if len(text) <= most else f"{text[: most // 2]}\n...\n{text[-most // 2 :]}"


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = "\n".join(f"  {name:<13} {case.what}" for name, case in DEMONSTRATIONS.items())
    made = argparse.ArgumentParser(
        description=f"Show what a training survives.\n\ndemonstrations:\n{names}",
        epilog="example: python benchmarks/faults.py --scale 0.05 --only kills_1 signals",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--only", nargs="+", choices=DEMONSTRATIONS, metavar="NAME", help="these demonstrations alone")
    made.add_argument(
        "--scale", type=float, default=1.0, help="1: all kills and slow tests (default); 0.05: a twentieth of the kills"
    )
    made.add_argument(
        "--document", type=Path, metavar="FILE", help="put the result into this Markdown file, in place of the last one"
    )
    chosen = made.parse_args(arguments)
    if not 0 < chosen.scale <= 1:
        made.error(f"--scale must be above 0 and at most 1, not {chosen.scale}")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was chosen and print the table; 1 if something that was asked was not reached."""
    chosen = options(arguments)
    table, short = Table(["name", "what", "asked", "reached", "holds", "seconds"]), []
    for name in chosen.only or DEMONSTRATIONS:
        case = DEMONSTRATIONS[name]
        reached, seconds, runs = demonstrate(case, chosen.scale)
        table.add(name, case.what, case.asked, reached.figure, "yes" if reached.enough else "NO", f"{seconds:.0f}")
        print(f"{name}: {reached.figure} ({seconds:.0f} s)", file=sys.stderr, flush=True)
        if not reached.enough:
            short.append(name)
            print("\n".join(_shortened(run.output) for run in runs if run.code), file=sys.stderr)
    verdict = f"Not reached: {', '.join(short)}." if short else "All that was asked was reached."
    if chosen.scale < 1:
        verdict += f" Counts are scaled by {chosen.scale:g}, and slow tests are left out."
    method = "Scripts and tests of tests/, each row one after the other on one machine; seconds are those of the wall."
    publish(Section("faults", "What a training survives", method, [table, verdict]), chosen.document)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
