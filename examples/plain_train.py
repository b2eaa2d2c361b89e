"""A training without a trainer: every part is made and called in plain sight, from the config to the evaluation.

Use it as the start of a loop of your own, where hooks are not what you want. What a trainer does beside the loop is
left out: precision, accumulation, averaged weights, the guard against losses that are not finite, the random generators
of models with dropout. With everything else equal, it gives bit for bit the weights that ``DefaultTrainer`` gives, and
continues to them when it was killed.

    python examples/plain_train.py --max-iter 300
    python examples/plain_train.py --max-iter 300 --resume OUTPUT_DIR=output/plain SOLVER.BASE_LR=0.002

Without ``DATASETS.TRAIN`` (in a ``--config-file``, say) it draws a dataset of its own into ``OUTPUT_DIR/data``.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import torch

from drivetrain import CfgNode, build_model, get_cfg, launch
from drivetrain.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from drivetrain.data import build_detection_test_loader, build_detection_train_loader
from drivetrain.data.formats.synthetic import make_synthetic
from drivetrain.engine import create_ddp_model, default_argument_parser, default_setup, default_writers
from drivetrain.engine.defaults.config import resolve_lengths
from drivetrain.engine.defaults.data import as_names, class_names, resolve_config, samples_of
from drivetrain.engine.defaults.quickstart import quickstart
from drivetrain.evaluation import build_evaluator, inference_on_dataset, results_table
from drivetrain.events import EventStorage
from drivetrain.runtime import comm
from drivetrain.solver import build_lr_scheduler, build_optimizer

logger = logging.getLogger("drivetrain.plain_train")


def train(cfg: CfgNode, model: torch.nn.Module, resume: bool = False) -> None:
    """Train ``model`` in place; metrics and checkpoints go to ``cfg.OUTPUT_DIR``."""
    loader = build_detection_train_loader(cfg)
    cfg = resolve_lengths(cfg, samples_of(loader))  # "12ep" becomes a number of iterations
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    storage = EventStorage()
    checkpointer = DetectionCheckpointer(
        model,
        cfg.OUTPUT_DIR,
        class_names=class_names(cfg),
        channel_order=cfg.INPUT.FORMAT,
        config=cfg.dump(),
        optimizer=optimizer,
        scheduler=scheduler,
        data_loader=loader,
        storage=storage,
    )
    resume = resume and checkpointer.has_checkpoint()
    loaded = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    start, end = loaded["iteration"] + 1 if resume else 0, cfg.SOLVER.MAX_ITER
    storage.iter = storage.start_iter = start
    periodic = PeriodicCheckpointer(checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, end, cfg.SOLVER.CHECKPOINT_KEEP or None)
    writers = default_writers(cfg.OUTPUT_DIR, end) if comm.is_main_process() else []

    parallel = create_ddp_model(model, broadcast_buffers=False).train()
    with storage:
        for iteration, batch in zip(range(start, end), loader, strict=False):  # the loader never ends
            storage.iter = iteration
            losses = parallel(batch)
            loss = sum(losses.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            means = comm.reduce_dict(losses)  # over ranks
            storage.put_scalars(total_loss=sum(means.values()), **means)
            storage.put_scalar("lr", optimizer.param_groups[0]["lr"], smoothing_hint=False)
            scheduler.step()
            periodic.step(iteration)
            if (iteration + 1) % 20 == 0 or iteration + 1 == end:
                for writer in writers:
                    writer.write()
        for writer in writers:
            writer.close()


def evaluate(cfg: CfgNode, model: torch.nn.Module) -> dict[str, Any]:
    """The results on each of ``DATASETS.TEST``, by dataset."""
    results = {}
    for name in as_names(cfg.DATASETS.TEST):
        loader = build_detection_test_loader(cfg, name)
        results[name] = inference_on_dataset(model, loader, build_evaluator(cfg, name))
        if comm.is_main_process():
            logger.info("Results on %s:\n%s", name, results_table(results[name]))
    return results


def setup(args: argparse.Namespace) -> CfgNode:
    """The config that the arguments describe, with its datasets registered."""
    cfg = get_cfg()
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    else:
        quickstart(cfg, "fcos_tiny", args.max_iter)
    if args.max_iter is not None:
        cfg.SOLVER.MAX_ITER = args.max_iter
    cfg.merge_from_list(args.opts)
    if not cfg.DATASETS.TRAIN:
        draw_dataset(cfg, args.images)
    cfg = resolve_config(cfg)  # checks it, registers DATASETS.REGISTER, fills in MODEL.NUM_CLASSES
    cfg.freeze()
    return cfg


def draw_dataset(cfg: CfgNode, images: int) -> None:
    """Draw the small synthetic set, and point the config at it."""
    folder = Path(cfg.OUTPUT_DIR, "data")
    if comm.is_main_process():
        make_synthetic(folder, train=images, val=max(1, images // 10))
    comm.synchronize()
    for split, key in (("train", "TRAIN"), ("val", "TEST")):
        files = {"json": str(folder / f"instances_{split}.json"), "images": str(folder / "images" / split)}
        cfg.DATASETS.REGISTER[f"drawn_{split}"] = files
        cfg.DATASETS[key] = (f"drawn_{split}",)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (128,), 128  # as large as they are drawn


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Train, then evaluate; with ``--eval-only``, evaluate ``MODEL.WEIGHTS``."""
    cfg = setup(args)
    default_setup(cfg, args)
    model = build_model(cfg)
    if args.eval_only:
        DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    else:
        train(cfg, model, args.resume)
    return evaluate(cfg, model)


def parser() -> argparse.ArgumentParser:
    """The arguments of every training script, and two of this one."""
    result = default_argument_parser()
    result.add_argument("--max-iter", type=int, help="SOLVER.MAX_ITER")
    result.add_argument("--images", type=int, default=500, help="how many images to draw where no dataset is given")
    return result


if __name__ == "__main__":
    arguments = parser().parse_args()
    launch(
        main,
        arguments.num_gpus,
        arguments.num_machines,
        arguments.machine_rank,
        arguments.dist_url,
        args=(arguments,),
    )
