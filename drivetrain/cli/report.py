"""What a training shows at its end: figures, pictures of its predictions, a report to send around."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.data import MetadataCatalog, get_detection_dataset_dicts, read_image
from drivetrain.engine.defaults.data import as_names
from drivetrain.engine.defaults.predictor import DefaultPredictor
from drivetrain.evaluation import flatten_results_dict
from drivetrain.runtime.environment import environment_rows
from drivetrain.visualization import draw_output, save_image, side_by_side, write_report

from .drawings import class_names
from .samples import draw_truth

__all__ = ["show_results"]

_MOST_PICTURES = 8


def show_results(trainer: Any, results: Any) -> None:
    """Write pictures and ``report.html`` to ``OUTPUT_DIR`` and print where everything lies.

    Args:
        trainer: a DefaultTrainer that has finished.
        results: what ``train()`` returned; None without evaluation.
    """
    cfg, folder = trainer.cfg, Path(trainer.cfg.OUTPUT_DIR)
    checkpoint = folder / "model_final.pth"
    pictures = list(_pictures(cfg, checkpoint, folder / "predictions")) if as_names(cfg.DATASETS.TEST) else []
    report = write_report(
        folder / "report.html",
        title=f"{cfg.MODEL.NAME} on {', '.join(as_names(cfg.DATASETS.TRAIN)) or 'own data'}",
        facts=_facts(trainer),
        metrics_file=folder / "metrics.json",
        results=results or {},
        per_class=_per_class(results or {}),
        pictures=pictures,
        environment={row.name: row.value for row in environment_rows()},
    )
    _print_results(results)
    shown = {
        "checkpoint": checkpoint,
        "report": report,
        "pictures": folder / "predictions" if pictures else None,
        "log": folder / "log.txt",
        "metrics": folder / "metrics.json",
    }
    for name, path in shown.items():
        if path is not None:
            print(f"  {name:<11} {os.path.relpath(path)}")
    print(f"\nTry it on your own images:\n  drivetrain predict {os.path.relpath(checkpoint)} IMAGE...")


def _print_results(results: Any) -> None:
    flat = flatten_results_dict(results or {})
    for name in [n for n in flat if n.endswith(("/AP", "/AP50", "/mIoU", "/PQ", "/top1"))]:
        print(f"{name.replace('/', ' ')} = {flat[name]:.1f}  ({flat[name] / 100:.3f})")


def _facts(trainer: Any) -> dict[str, object]:
    cfg = trainer.cfg
    parameters = sum(p.numel() for p in trainer.checkpointer.model.parameters())
    return {
        "model": cfg.MODEL.NAME,
        "parameters": f"{parameters:,}",
        "iterations": trainer.iter,
        "images per batch": cfg.SOLVER.IMS_PER_BATCH,
        "optimizer": f"{cfg.SOLVER.OPTIMIZER}, learning rate {cfg.SOLVER.BASE_LR:g}, {cfg.SOLVER.LR_SCHEDULER_NAME}",
        "device": str(next(trainer.checkpointer.model.parameters()).device),
        "output": cfg.OUTPUT_DIR,
    }


def _per_class(results: Any) -> list[dict[str, object]]:
    """One row per class from entries such as ``AP-<class>``."""
    rows: dict[str, dict[str, object]] = {}
    for name, value in flatten_results_dict(results).items():
        task, _, metric = name.rpartition("/")
        figure, dash, label = metric.partition("-")
        if dash:
            rows.setdefault(label, {"class": label})[f"{figure} {task}"] = value
    return list(rows.values())


def _pictures(cfg: Any, checkpoint: Path, folder: Path) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Truth and prediction side by side for images spread over the first test dataset."""
    folder.mkdir(exist_ok=True)
    dataset = as_names(cfg.DATASETS.TEST)[0]
    records = get_detection_dataset_dicts(dataset, filter_empty=False)
    metadata = MetadataCatalog.get(dataset).as_dict()
    predictor = DefaultPredictor.from_checkpoint(checkpoint)
    names = class_names(predictor)
    count = min(_MOST_PICTURES, len(records))
    for index in np.linspace(0, len(records) - 1, count).round().astype(int).tolist():
        record = records[index]
        image = read_image(record["file_name"], "RGB")
        drawn = draw_output(image, predictor(record["file_name"]), names)
        save_image(folder / f"{Path(record['file_name']).stem}.jpg", drawn)
        both = side_by_side(draw_truth(record, names, metadata), drawn, ("annotated", "predicted"))
        yield Path(record["file_name"]).name, both
