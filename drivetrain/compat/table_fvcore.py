"""The table's part for the packages that come with detectron2: fvcore, iopath and yacs."""

from __future__ import annotations

from types import MappingProxyType

from .entries import Names, same

__all__ = ["FVCORE", "FVCORE_MODULES"]

FVCORE: MappingProxyType[str, Names] = MappingProxyType(
    {
        "fvcore.common.checkpoint": same("drivetrain.checkpoint", "Checkpointer PeriodicCheckpointer"),
        "fvcore.common.config": same("drivetrain.config", "CfgNode"),
        "fvcore.common.file_io": same("drivetrain.compat.file_io", "PathManager"),
        "fvcore.common.history_buffer": {"HistoryBuffer": "drivetrain.events:ScalarHistory"},
        "fvcore.common.param_scheduler": same(
            "drivetrain.compat.param_scheduler",
            "ConstantParamScheduler CosineParamScheduler ExponentialParamScheduler LinearParamScheduler "
            "MultiStepParamScheduler ParamScheduler PolynomialDecayParamScheduler",
        ),
        "fvcore.common.registry": same("drivetrain.compat.registry", "Registry"),
        "fvcore.common.timer": same("drivetrain.compat.environment", "Timer"),
        "fvcore.nn": {
            **same(
                "drivetrain.compat.analysis",
                "ActivationCountAnalysis FlopCountAnalysis flop_count_table parameter_count parameter_count_table",
            ),
            **same("drivetrain.compat.fvcore_nn", "smooth_l1_loss"),
            "giou_loss": "torchvision.ops:generalized_box_iou_loss",
            "sigmoid_focal_loss": "torchvision.ops:sigmoid_focal_loss",
            "sigmoid_focal_loss_jit": "torchvision.ops:sigmoid_focal_loss",
            "weight_init": "drivetrain.compat.fvcore_nn",
        },
        "fvcore.nn.weight_init": same("drivetrain.compat.fvcore_nn", "c2_msra_fill c2_xavier_fill"),
        "fvcore.transforms.transform": same(
            "drivetrain.compat.transforms",
            "BlendTransform CropTransform HFlipTransform NoOpTransform PadTransform Transform TransformList "
            "VFlipTransform",
        ),
        "iopath.common.file_io": {
            "PathManager": "drivetrain.compat.file_io:LocalPathManager",
            "g_pathmgr": "drivetrain.compat.file_io:PathManager",
        },
        "yacs.config": same("drivetrain.config", "CfgNode"),
    }
)

FVCORE_MODULES: Names = MappingProxyType({"fvcore.nn.weight_init": "drivetrain.compat.fvcore_nn"})
