"""Sends signals to trainings that `drivetrain train` runs, resumes them, and compares them with one left alone.

Each life is a fork of this process, which has imported everything, and runs the command in it; with several ranks each
is in a process group of gloo. The signal comes at one of MOMENTS, or with --random N at a random time, N times.
Compared are, bit for bit, weights, average and optimizer state after the last iteration, and the results of all
evaluations. The moment "killed" is a SIGKILL in the last evaluation.

    python tests/faults/signal_loop.py --ranks 1 step evaluation figures precise_bn save startup resume last killed
    python tests/faults/signal_loop.py --ranks 2 step evaluation both
    python tests/faults/signal_loop.py --random 50

Prints a line for each signal; the exit code is 0 if every life ended and went on as it should.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kill_loop import digest, end, wait

ITERATIONS = 9
MOMENTS = ("step", "evaluation", "figures", "precise_bn", "save", "startup", "resume", "last", "killed", "both")
LIMIT = 10.0  # seconds from signal to exit


def write_config(work: Path) -> None:
    """A training of a second with evaluations, precise BN, an average and checkpoints that a thread writes."""
    from drivetrain.data.formats.synthetic import make_synthetic
    from drivetrain.engine.defaults import get_cfg
    from drivetrain.modeling import build_model

    data = make_synthetic(str(work / "data"), train=16, val=12, size=(64, 48), seed=3)
    cfg = get_cfg()
    cfg.DATASETS.REGISTER = {
        "signal_train": {"json": data.train_json, "images": data.train_images},
        "signal_val": {"json": data.val_json, "images": data.val_images},
    }
    cfg.merge_from_list(
        [
            "DATASETS.TRAIN=('signal_train',)",
            "DATASETS.TEST=('signal_val',)",
            "MODEL.NAME=fcos_tiny",
            "MODEL.NUM_CLASSES=3",
            "MODEL.SCORE_THRESH_TEST=0.0",
            "MODEL.DEVICE=cpu",
            "DATALOADER.NUM_WORKERS=1",
            "INPUT.MIN_SIZE_TRAIN=(48,)",
            "INPUT.MIN_SIZE_TEST=48",
            "INPUT.RANDOM_FLIP=both",
            "SOLVER.IMS_PER_BATCH=2",
            f"SOLVER.MAX_ITER={ITERATIONS}",
            "SOLVER.WARMUP_ITERS=3",
            "SOLVER.CHECKPOINT_PERIOD=2",
            "SOLVER.EMA.ENABLED=True",
            "TEST.EVAL_PERIOD=4",
            "TEST.PRECISE_BN.ENABLED=True",
            "TEST.PRECISE_BN.NUM_ITER=3",
            "REHEARSE=False",
            "SEED=11",
        ]
    )
    (work / "config.yaml").write_text(cfg.dump())
    build_model(cfg)  # which imports what it needs, before the forks


def signal_myself(folder: Path, number: signal.Signals = signal.SIGTERM) -> None:
    """Send the signal and note when, once in a training."""
    try:
        (folder.parent / f"{folder.name}.sent").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), number)


def tell_scores() -> None:
    """Add the sum of all scores to an evaluation's results: average precision is 0 for long, whatever is predicted."""
    from drivetrain.evaluation import COCOEvaluator

    reset, process, evaluate = COCOEvaluator.reset, COCOEvaluator.process, COCOEvaluator.evaluate

    def resetting(self: Any) -> None:
        self._scores = 0.0
        reset(self)

    def processing(self: Any, inputs: Any, outputs: Any) -> None:
        self._scores += sum(float(output["instances"].scores.double().sum()) for output in outputs)
        process(self, inputs, outputs)

    def evaluating(self: Any, *arguments: Any) -> Any:
        results = evaluate(self, *arguments)
        if results:
            results["bbox"]["scores"] = self._scores
        return results

    COCOEvaluator.reset = resetting  # type: ignore[method-assign]
    COCOEvaluator.process = processing  # type: ignore[method-assign]
    COCOEvaluator.evaluate = evaluating  # type: ignore[method-assign]


def arm(moment: str, folder: Path, rank: int, ranks: int) -> None:
    """Make this process send itself the signal when it gets to a moment."""
    from faster_coco_eval import COCOeval_faster

    from drivetrain.checkpoint.files import FileLayer
    from drivetrain.engine import hooks
    from drivetrain.engine.defaults import DefaultTrainer
    from drivetrain.evaluation import COCOEvaluator

    def before(cls: Any, name: str, act: Callable[..., None]) -> None:
        method = getattr(cls, name)

        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            act(self, *args, **kwargs)
            return method(self, *args, **kwargs)

        setattr(cls, name, wrapped)

    sender = rank == ranks - 1 or moment == "both"
    if moment in ("evaluation", "both", "last", "killed"):

        def in_evaluation(evaluator: Any, *batch: Any) -> None:
            done = evaluator.__dict__["_batches"] = evaluator.__dict__.get("_batches", 0) + 1
            if ranks > 1:
                time.sleep(0.3)  # long enough for the other rank to hear of it
            last = (folder / "model_final.pth").exists()
            if sender and done == 2 and last == (moment in ("last", "killed")):
                number = signal.SIGKILL if moment == "killed" else signal.SIGTERM
                signal_myself(folder if ranks == 1 else folder.with_name(f"{folder.name}.{rank}"), number)

        before(COCOEvaluator, "process", in_evaluation)
    elif moment == "figures" and rank == 0:  # which alone computes them
        before(COCOeval_faster, "evaluate", lambda *_: signal_myself(folder))
    elif moment == "precise_bn":
        act = hooks.PreciseBN.act

        def in_layer(*_: Any) -> None:
            if ranks > 1:
                time.sleep(0.3)  # long enough for the other rank to hear of it
            if sender:
                signal_myself(folder)

        def acting(self: Any, iteration: int) -> None:
            layer = next(part for part in self._model.modules() if isinstance(part, torch.nn.BatchNorm2d))
            handle = layer.register_forward_pre_hook(in_layer)
            try:
                act(self, iteration)
            finally:
                handle.remove()

        hooks.PreciseBN.act = acting  # type: ignore[method-assign]
    elif moment == "save":

        def saving(layer: Any, source: Path, target: Path) -> None:
            if target.name == "model_0000003.pth":  # in a thread, while the training goes on
                signal_myself(folder)
                time.sleep(0.5)

        before(FileLayer, "replace", saving)
        if ranks > 1:  # they agree about every two seconds, and the training is not to be over before
            before(DefaultTrainer, "forward", lambda *_: time.sleep(0.7))
    elif moment == "step":

        def in_step(trainer: Any, batch: Any) -> None:
            if ranks > 1:
                time.sleep(0.7)  # they agree about every two seconds, and the training is not to be over before
            if sender and trainer.iter == 5:
                signal_myself(folder)

        before(DefaultTrainer, "forward", in_step)
    elif moment in ("startup", "resume"):
        before(DefaultTrainer, "__init__", lambda *arguments: signal_myself(folder))


def begin(arguments: list[str], folder: Path, moment: str = "", rank: int = 0, ranks: int = 1) -> int:
    """Fork a life that runs the command; its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        output = os.open(f"{folder}.output{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if ranks > 1:
            import torch.distributed as dist

            dist.init_process_group("gloo", init_method=f"file://{folder}.store", world_size=ranks, rank=rank)
        tell_scores()
        if moment:
            arm(moment, folder, rank, ranks)
        from drivetrain.cli.main import main as command

        code = command(arguments)
        sys.stdout.flush()
        from drivetrain.checkpoint.background import wait_for_saves

        wait_for_saves()  # as the interpreter does, which the next line leaves out
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def life(arguments: list[str], folder: Path, moment: str, ranks: int, until: float = 120.0) -> tuple[list[int], float]:
    """Run the command on all ranks; their exit codes, and the seconds since the signal."""
    Path(f"{folder}.store").unlink(missing_ok=True)
    processes = [begin(arguments, folder, moment, rank, ranks) for rank in range(ranks)]
    codes = end(processes, wait(processes, time.monotonic() + until))
    sent = [p.stat().st_mtime for p in folder.parent.glob(f"{folder.name}*.sent")]
    return [codes[process] for process in processes], time.time() - min(sent, default=time.time())


def go_on(work: Path, folder: Path, ranks: int) -> list[int]:
    """Continue as a person would: resume where there is a checkpoint, else start again."""
    if is_over(folder):
        return [0]
    if (folder / "last_checkpoint").exists():
        return life(["resume", str(folder)], folder, "", ranks)[0]
    return life(train_arguments(work, folder), folder, "", ranks)[0]


def is_over(folder: Path) -> bool:
    """Whether nothing is left to do, the report included."""
    return (folder / "finished.json").exists() and (folder / "report.html").exists()


def outcome(folder: Path) -> dict[str, Any]:
    """What is compared: digests of the final state, and the evaluations on the way there, as they were written."""
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    # A training that ends just after an evaluation writes its last losses into the same line.
    results = [{k: v for k, v in line.items() if "/" in k or k == "iteration"} for line in lines if "bbox/AP" in line]
    return {**digest(folder), "evaluations": results}


def difference(folder: Path, expected: dict[str, Any]) -> str:
    """What is not as in the training that was left alone."""
    found = outcome(folder)
    wrong = [name for name, value in found.items() if value != expected[name]]
    return f"other than without a signal: {', '.join(wrong)}" if wrong else ""


def train_arguments(work: Path, folder: Path) -> list[str]:
    return ["train", "--config-file", str(work / "config.yaml"), "--output", str(folder)]


def check(work: Path, moment: str, ranks: int, expected: Any) -> str:
    """One signal at a moment; what is wrong."""
    folder = work / moment
    arguments = train_arguments(work, folder)
    if moment == "resume":  # a training that was ended before, and gets the signal while it starts again
        life([*arguments, "--time-limit", "0.001"], folder, "", ranks)
        arguments = ["resume", str(folder)]
    codes, seconds = life(arguments, folder, moment, ranks)
    wanted = [-signal.SIGKILL] if moment == "killed" else [75]
    print(f"{moment}, {ranks} ranks: exit codes {codes}, {seconds:.1f} s", flush=True)
    problems = [] if set(codes) <= set(wanted) else [f"exit codes {codes}"]
    if seconds > LIMIT:
        problems.append(f"{seconds:.1f} s from the signal to the end")
    if moment == "save" and not (folder / "model_0000003.pth").exists():
        problems.append("the save in flight was lost")
    said = Path(f"{folder}.output0").read_text()
    if moment in ("startup", "resume") and "SIGTERM before the first step: there is nothing new to save" not in said:
        problems.append("it does not say that there is nothing to resume")
    if not problems and moment in ("evaluation", "figures", "precise_bn", "both"):
        saved = torch.load(folder / "model_preempted.pth", weights_only=True)
        if saved["iteration"] != 3 or saved["trainer"]["hooks"]["EvalHook"]["evaluated"] is not None:
            problems.append(f"{moment} was not left: saved after iteration {saved['iteration']}")
    if any(again := go_on(work, folder, ranks)):
        problems.append(f"the exit codes of its continuation are {again}")
    elif wrong := difference(folder, expected):
        problems.append(wrong)
    elif not is_over(folder):
        problems.append("its continuation leaves something to do")
    output = Path(f"{folder}.output0").read_text()[-4000:] if problems else ""
    return "; ".join(problems) + output


def check_random(work: Path, number: int, draw: random.Random, duration: float, expected: Any) -> tuple[str, float]:
    """One signal at a random time; what is wrong, and the seconds until the process had ended."""
    folder = work / f"random{number}"
    process = begin(train_arguments(work, folder), folder)
    name = draw.choice([signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
    codes = wait([process], time.monotonic() + draw.uniform(0.0, 1.0) * duration)
    if not codes:
        os.kill(process, name)
    start = time.monotonic()
    code = end([process], codes or wait([process], start + 60))[process]
    seconds = time.monotonic() - start
    done = "saved" if code == 75 else "ended" if code else "finished"
    print(f"{name.name}: exit code {code} ({done}) after {seconds:.2f} s", flush=True)
    output = Path(f"{folder}.output0").read_text()[-3000:]
    if code not in (0, 75, -name, 130):
        return f"exit code {code}\n{output}", seconds
    unsaid = not any(
        text in output for text in ("Continue this training with", "before the first step", "after the la")
    )
    if code == 75 and unsaid:
        return f"exit code 75 without the command that goes on\n{output}", seconds
    if code and any(again := go_on(work, folder, 1)):
        return f"{again} continuing\n" + Path(f"{folder}.output0").read_text()[-3000:], seconds
    return difference(folder, expected), seconds


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moments", nargs="*", choices=[*MOMENTS, []])
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in ("faster_coco_eval", "torch.utils.tensorboard", "drivetrain.cli.train", "drivetrain.evaluation.coco"):
        importlib.import_module(name)  # once, before the forks

    problems = []
    with tempfile.TemporaryDirectory(prefix="signal-loop-") as name:
        work = Path(name)
        write_config(work)
        start = time.monotonic()
        codes, _ = life(train_arguments(work, work / "whole"), work / "whole", "", args.ranks)
        duration = time.monotonic() - start
        if any(codes):
            print(f"the training fails when left alone:\n{(work / 'whole.output0').read_text()[-3000:]}")
            return 1
        expected = outcome(work / "whole")
        found = {moment: check(work, moment, args.ranks, expected) for moment in args.moments}
        problems += [f"{moment}: {problem}" for moment, problem in found.items() if problem]
        draw, times = random.Random(args.seed), []
        for number in range(args.random):
            problem, seconds = check_random(work, number, draw, duration, expected)
            times.append(seconds)
            if problem:
                problems.append(f"signal {number}: {problem}")
    if times:
        times.sort()
        print(f"{len(times)} random signals: median {times[len(times) // 2]:.2f} s, ", end="")
        print(f"p99 {times[int(0.99 * (len(times) - 1) + 0.5)]:.2f} s, longest {times[-1]:.2f} s from signal to exit")
    print(f"problems {len(problems)}", *problems[:5], sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
