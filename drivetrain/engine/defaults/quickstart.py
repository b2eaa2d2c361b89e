"""Settings that train a model from scratch on a set of a few hundred to some thousand images, without a config file."""

from __future__ import annotations

from drivetrain.config import CfgNode

__all__ = ["quickstart"]


def quickstart(cfg: CfgNode, model: str, max_iter: int | None = None) -> None:
    """Set model, sizes, optimizer, schedule and periods in place.

    AdamW with a short warm-up and a cosine to zero reaches good results without tuning for every model here. Models
    named ``*_tiny`` see images with a shortest edge of 320 pixels, so that they learn on a CPU; the others 800.

    Args:
        cfg: a config that is not frozen.
        model: ``MODEL.NAME``.
        max_iter: iterations (default: 3000 for tiny models, else 20000).
    """
    tiny = model.endswith("_tiny")
    length = max_iter if max_iter is not None else 3000 if tiny else 20_000
    shortest, longest = (320, 544) if tiny else (800, 1333)
    cfg.merge_from_other_cfg(
        {
            "MODEL": {"NAME": model},
            "INPUT": {
                "MIN_SIZE_TRAIN": [shortest],
                "MAX_SIZE_TRAIN": longest,
                "MIN_SIZE_TEST": shortest,
                "MAX_SIZE_TEST": longest,
            },
            "SOLVER": {
                "OPTIMIZER": "AdamW",
                "BASE_LR": 1e-3 if tiny else 1e-4,
                "WEIGHT_DECAY": 0.05,
                "LR_SCHEDULER_NAME": "WarmupCosineLR",
                "WARMUP_ITERS": max(1, min(500, length // 20)),
                "IMS_PER_BATCH": 8,
                "MAX_ITER": length,
                "CHECKPOINT_PERIOD": max(1, length // 4),
                "CHECKPOINT_KEEP": 2,
                "CLIP_GRADIENTS": {"ENABLED": True, "CLIP_TYPE": "full_model", "CLIP_VALUE": 10.0},
                "BEST_METRIC": "bbox/AP",
            },
            "TEST": {"EVAL_PERIOD": max(1, length // 4), "IMS_PER_BATCH": 1},
            "DATALOADER": {"NUM_WORKERS": 2},
        }
    )
