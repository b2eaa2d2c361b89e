"""The table's part for engine, config, checkpoints, solver, events, logging and the environment."""

from __future__ import annotations

from types import MappingProxyType

from .entries import Names, same

__all__ = ["ENGINE", "ENGINE_MODULES"]

_DEFAULTS = {
    **same("drivetrain.engine", "DefaultTrainer create_ddp_model default_argument_parser default_writers"),
    **same("drivetrain.compat.predictor", "DefaultPredictor"),
    **same("drivetrain.compat.setup", "default_setup"),
}
_LOOP = same("drivetrain.engine", "HookBase TrainerBase SimpleTrainer AMPTrainer")
_HOOKS = same("drivetrain.engine", "HookBase") | same(
    "drivetrain.engine.hooks",
    "CallbackHook IterationTimer PeriodicWriter PeriodicCheckpointer BestCheckpointer LRScheduler "
    "AutogradProfiler TorchProfiler EvalHook PreciseBN TorchMemoryStats",
)
_LAUNCH = {
    **same("drivetrain.engine", "launch DEFAULT_TIMEOUT"),
    "_find_free_port": "drivetrain.compat.environment:find_free_port",
}
_CONFIG_FILE = {
    **same("drivetrain.config", "CfgNode"),
    **same("drivetrain.compat.config", "get_cfg configurable"),
}
_CONFIG = {**_CONFIG_FILE, **same("drivetrain.compat.lazy", "LazyConfig LazyCall instantiate")}
_DETECTION = same("drivetrain.checkpoint.foreign.checkpointer", "DetectionCheckpointer")
_CHECKPOINT = {**same("drivetrain.checkpoint", "Checkpointer PeriodicCheckpointer"), **_DETECTION}
_PARAMETERS = same(
    "drivetrain.solver", "build_lr_scheduler build_optimizer get_default_optimizer_params maybe_add_gradient_clipping"
)
_RATES = same("drivetrain.solver", "LRMultiplier") | same("drivetrain.compat.param_scheduler", "WarmupParamScheduler")
_EVENTS = same(
    "drivetrain.events",
    "CommonMetricPrinter EventStorage EventWriter JSONWriter TensorboardXWriter get_event_storage has_event_storage",
)
_LOGGER = same("drivetrain.compat.logs", "setup_logger") | same(
    "drivetrain.runtime", "log_every_n log_every_n_seconds log_first_n"
)
_ENV = same("drivetrain.runtime", "seed_all_rng") | same("drivetrain.compat.environment", "TORCH_VERSION")
_COMM = same(
    "drivetrain.runtime.comm",
    "all_gather gather get_local_rank get_local_size get_rank get_world_size is_main_process reduce_dict "
    "shared_random_seed synchronize create_local_process_group",
)
_ZOO = same("drivetrain.compat.model_zoo", "get get_checkpoint_url get_config get_config_file")

ENGINE: MappingProxyType[str, Names] = MappingProxyType(
    {
        "detectron2": same("drivetrain.compat.environment", "__version__"),
        "detectron2.engine": {
            **_DEFAULTS,
            **_HOOKS,
            **_LOOP,
            **same("drivetrain.engine", "launch DEFAULT_TIMEOUT"),
            "hooks": "drivetrain.engine.hooks",
            "defaults": "drivetrain.engine.defaults",
        },
        "detectron2.engine.defaults": {**_DEFAULTS, "hooks": "drivetrain.engine.hooks"},
        "detectron2.engine.train_loop": _LOOP,
        "detectron2.engine.hooks": _HOOKS,
        "detectron2.engine.launch": _LAUNCH,
        "detectron2.config": _CONFIG,
        "detectron2.config.config": _CONFIG_FILE,
        "detectron2.config.lazy": same("drivetrain.compat.lazy", "LazyConfig LazyCall"),
        "detectron2.config.instantiate": same("drivetrain.compat.lazy", "instantiate"),
        "detectron2.checkpoint": _CHECKPOINT,
        "detectron2.checkpoint.detection_checkpoint": _DETECTION,
        "detectron2.solver": {**_PARAMETERS, **_RATES},
        "detectron2.solver.build": _PARAMETERS,
        "detectron2.solver.lr_scheduler": _RATES,
        "detectron2.utils.comm": _COMM,
        "detectron2.utils.events": _EVENTS,
        "detectron2.utils.logger": _LOGGER,
        "detectron2.utils.env": _ENV,
        "detectron2.utils.collect_env": same("drivetrain.runtime", "collect_env_info"),
        "detectron2.utils.registry": same("drivetrain.compat.registry", "Registry"),
        "detectron2.utils.file_io": same("drivetrain.compat.file_io", "PathManager"),
        "detectron2.utils.analysis": same(
            "drivetrain.compat.analysis",
            "FlopCountAnalysis activation_count_operators flop_count_operators parameter_count parameter_count_table",
        ),
        "detectron2.projects.deeplab": {
            **same("drivetrain.compat.projects", "add_deeplab_config"),
            **same("drivetrain.solver", "build_lr_scheduler"),
        },
        "detectron2.model_zoo": _ZOO,
        "detectron2.model_zoo.model_zoo": _ZOO,
    }
)

ENGINE_MODULES: Names = MappingProxyType(
    {
        "detectron2.engine.hooks": "drivetrain.engine.hooks",
        "detectron2.utils.comm": "drivetrain.runtime.comm",
        "detectron2.utils.events": "drivetrain.events",
        "detectron2.model_zoo": "drivetrain.compat.model_zoo",
        "detectron2.model_zoo.model_zoo": "drivetrain.compat.model_zoo",
    }
)
