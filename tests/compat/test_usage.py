"""What code written for detectron2 uses of objects, from the top of every list of counts, as lists to be walked.

What these names do is held elsewhere: the trainer, hooks and storage by tests/contract/test_wild_*.py (each contract
by its number), call forms and habits by the scripts of tests/compat/test_scripts.py, imports by test_table.py.
"""

from __future__ import annotations

import argparse
import inspect
from typing import Any

import pytest
import torch

from drivetrain import engine, evaluation, events
from drivetrain.compat import predictor as compat_predictor
from drivetrain.compat.config import CfgNode, get_cfg
from drivetrain.data import DatasetMapper
from drivetrain.engine import hooks
from drivetrain.runtime import comm
from drivetrain.testing import TinyModel, tiny_loader

OVERRIDDEN = (
    "build_evaluator build_train_loader __init__ build_hooks run_step build_test_loader build_optimizer "
    "build_lr_scheduler train test build_writers resume_or_load build_model load_state_dict state_dict after_step"
)
USED = (
    "train resume_or_load model register_hooks build_model test iter cfg optimizer checkpointer _write_metrics "
    "_data_loader_iter max_iter build_train_loader scheduler start_iter build_hooks build_lr_scheduler _trainer "
    "build_evaluator _last_eval_results build_optimizer storage before_train build_writers after_backward after_step "
    "after_train before_step build_test_loader _hooks async_write_metrics concurrent_executor run_step "
    "zero_grad_before_forward data_loader reset_data_loader"
)
OF_AMP = "grad_scaler log_grad_scaler precision"
OF_STORAGE = (
    "put_scalars put_scalar latest histories history latest_with_smoothing_hint step iter __enter__ __exit__ put_image"
)
ARGUMENTS = "num_gpus opts num_machines config_file dist_url machine_rank eval_only resume"
OF_COMM = (
    "is_main_process get_world_size get_rank reduce_dict get_local_rank synchronize all_gather gather get_local_size"
)
OF_CONFIGS = "merge_from_file freeze merge_from_list clone defrost dump items set_new_allowed is_frozen"
KEYS = """
MODEL.WEIGHTS DATASETS.TRAIN DATALOADER.NUM_WORKERS MODEL.ROI_HEADS.NUM_CLASSES DATASETS.TEST SOLVER.IMS_PER_BATCH
SOLVER.BASE_LR SOLVER.MAX_ITER MODEL.ROI_HEADS.SCORE_THRESH_TEST MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE MODEL.DEVICE
SOLVER.STEPS TEST.EVAL_PERIOD OUTPUT_DIR INPUT.MIN_SIZE_TRAIN INPUT.MAX_SIZE_TEST INPUT.MAX_SIZE_TRAIN
INPUT.MIN_SIZE_TEST SOLVER.CHECKPOINT_PERIOD SOLVER.WARMUP_ITERS MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS
MODEL.ANCHOR_GENERATOR.SIZES MODEL.BACKBONE.FREEZE_AT MODEL.MASK_ON SOLVER.GAMMA SOLVER.LR_SCHEDULER_NAME
DATALOADER.FILTER_EMPTY_ANNOTATIONS INPUT.CROP.ENABLED INPUT.MASK_FORMAT INPUT.MIN_SIZE_TRAIN_SAMPLING
INPUT.RANDOM_FLIP MODEL.ROI_HEADS.NMS_THRESH_TEST MODEL.RPN.NMS_THRESH TEST.DETECTIONS_PER_IMAGE
DATALOADER.REPEAT_THRESHOLD DATALOADER.SAMPLER_TRAIN MODEL.ANCHOR_GENERATOR.NAME MODEL.ANCHOR_GENERATOR.OFFSET
MODEL.KEYPOINT_ON MODEL.META_ARCHITECTURE MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH MODEL.PIXEL_MEAN
MODEL.PIXEL_STD MODEL.RETINANET.NUM_CLASSES MODEL.RETINANET.SCORE_THRESH_TEST
MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO
MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS MODEL.RPN.BATCH_SIZE_PER_IMAGE MODEL.RPN.POST_NMS_TOPK_TEST
MODEL.RPN.POST_NMS_TOPK_TRAIN MODEL.RPN.PRE_NMS_TOPK_TEST MODEL.RPN.PRE_NMS_TOPK_TRAIN SOLVER.AMP.ENABLED
TEST.AUG.ENABLED SOLVER.WEIGHT_DECAY INPUT.FORMAT TEST.PRECISE_BN.ENABLED TEST.PRECISE_BN.NUM_ITER SOLVER.MOMENTUM
INPUT.CROP.SIZE INPUT.CROP.TYPE SEED SOLVER.REFERENCE_WORLD_SIZE TEST.EXPECTED_RESULTS TEST.KEYPOINT_OKS_SIGMAS
MODEL.SEM_SEG_HEAD.IGNORE_VALUE VIS_PERIOD CUDNN_BENCHMARK VERSION
"""
OWN_KEYS = (
    "DATASETS.VAL INPUT.MAX_SIZE INPUT.NUM_IN_CHANNELS INPUT.DATASET_MAPPER_NAME MODEL.RECONSTRUCT_HEADS "
    "MODEL.ROI_BOX_HEAD.ZEROSHOT_WEIGHT_PATH MODEL.ROI_HEADS.ONE_CLASS_PER_PROPOSAL IMGMODE MODEL_EMA"
)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> engine.DefaultTrainer:
    cfg = engine.get_cfg()
    cfg.OUTPUT_DIR, cfg.SOLVER.MAX_ITER, cfg.MODEL.DEVICE = str(tmp_path_factory.mktemp("usage")), 1, "cpu"
    made = engine.DefaultTrainer(cfg, model=TinyModel(), train_loader=tiny_loader())
    made.train()
    return made


@pytest.mark.parametrize("name", USED.split())
def test_of_trainers(name: str, trainer: engine.DefaultTrainer) -> None:
    assert hasattr(trainer, name)


@pytest.mark.parametrize("name", OF_AMP.split())
def test_of_trainers_of_mixed_precision(name: str) -> None:
    model = TinyModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert hasattr(engine.AMPTrainer(model, tiny_loader(), optimizer, precision=torch.bfloat16), name)


@pytest.mark.parametrize("name", OVERRIDDEN.split())
def test_methods_that_are_overridden_are_called_on_the_trainer(name: str) -> None:
    assert callable(inspect.getattr_static(engine.DefaultTrainer, name).__get__(None, engine.DefaultTrainer))


@pytest.mark.parametrize("name", ["storage", "iter", "model", "max_iter", "cfg", "checkpointer", "build_evaluator"])
def test_of_a_hooks_trainer(name: str, trainer: engine.DefaultTrainer) -> None:
    assert all(hasattr(hook.trainer, name) for hook in trainer._hooks)


@pytest.mark.parametrize("point", ["before_train", "after_train", "before_step", "after_step"])
def test_methods_of_hooks(point: str) -> None:
    assert list(inspect.signature(getattr(engine.HookBase, point)).parameters) == ["self"]


@pytest.mark.parametrize("name", OF_STORAGE.split())
def test_of_the_storage(name: str) -> None:
    assert hasattr(events.EventStorage(0), name)


@pytest.mark.parametrize("name", ARGUMENTS.split())
def test_of_command_lines(name: str) -> None:
    args = engine.default_argument_parser().parse_args(["--num-gpus", "2", "SOLVER.MAX_ITER", "3"])
    assert isinstance(args, argparse.Namespace) and hasattr(args, name)
    assert args.opts == ["SOLVER.MAX_ITER", "3"]


@pytest.mark.parametrize("name", OF_COMM.split())
def test_of_comm(name: str) -> None:
    assert callable(getattr(comm, name))


@pytest.mark.parametrize("name", OF_CONFIGS.split())
def test_of_configs(name: str) -> None:
    assert callable(getattr(CfgNode, name))


def value(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def assign(cfg: CfgNode, key: str, new: Any) -> None:
    section, _, name = key.rpartition(".")
    setattr(value(cfg, section) if section else cfg, name, new)


def test_keys_of_configs() -> None:
    """Each is there, and takes its own value back by assignment and from the command line."""
    cfg, untouched = get_cfg(), get_cfg()
    assert set(KEYS.split()) <= {info.key for info in cfg.describe()}
    for key in KEYS.split():
        assign(cfg, key, value(cfg, key))
        cfg.merge_from_list([key, value(cfg, key)])
    cfg.validate()
    assert cfg == untouched


def test_keys_of_ones_own() -> None:
    cfg = get_cfg()
    for key in OWN_KEYS.split():
        assign(cfg, key, "mine")
    cfg.merge_from_list([text for key in OWN_KEYS.split() for text in (key, "other")])
    cfg.validate()
    assert {value(cfg.clone(), key) for key in OWN_KEYS.split()} == {"other"}
    assert cfg.dump().count(": other\n") == len(OWN_KEYS.split())


BASES: tuple[type, ...] = (
    engine.DefaultTrainer,
    engine.HookBase,
    engine.SimpleTrainer,
    engine.AMPTrainer,
    engine.TrainerBase,
    DatasetMapper,
    events.EventWriter,
    compat_predictor.DefaultPredictor,
    evaluation.COCOEvaluator,
    hooks.EvalHook,
)


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_classes_that_are_derived_from(base: type) -> None:
    assert issubclass(type("Mine", (base,), {}), base)
