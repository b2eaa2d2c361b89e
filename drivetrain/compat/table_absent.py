"""What detectron2 has and is not here: why, and what to use instead."""

from __future__ import annotations

from types import MappingProxyType

from .entries import Names

__all__ = ["ABSENT"]

_ROTATED = "rotated boxes are not supported; use boxes along the axes, or masks"
_PARTS = (
    "parts of a detector are not found by a name in the config here (backbones and anchor generators are); derive a "
    "class from GeneralizedRCNN, set your part, a torch.nn.Module, in its __init__(cfg), such as self.roi_heads = "
    "MyROIHeads(cfg), call the parts in its forward(batched_inputs) as detectron2's does, and register the class with "
    "META_ARCH_REGISTRY"
)
_PIECES = (
    "the parts here are put together differently; write this piece into your own architecture (META_ARCH_REGISTRY), "
    "with torchvision.ops"
)
_BACKBONES = (
    "of detectron2's backbones there is ResNet here; register a network of your own, such as one of timm's, with "
    "BACKBONE_REGISTRY, or set MODEL.NAME to a model of this package"
)
_PANOPTIC = "panoptic models are those of transformers (MODEL.NAME mask2former...)"
_SEGMENTATION = "segmentation models are those of torchvision and transformers, chosen by MODEL.NAME"
_PROPOSALS = "precomputed proposals are not read"
_LOADER = (
    "build_detection_train_loader(dataset, mapper=..., sampler=..., total_batch_size=...) makes batches, and groups "
    "images by their shape, itself"
)
_COLORS = "colours are drivetrain.visualization.class_color"
_REGISTERED_PARTS = (
    "PROPOSAL_GENERATOR_REGISTRY RPN_HEAD_REGISTRY ROI_HEADS_REGISTRY ROI_BOX_HEAD_REGISTRY ROI_MASK_HEAD_REGISTRY "
    "ROI_KEYPOINT_HEAD_REGISTRY SEM_SEG_HEADS_REGISTRY ROIHeads BaseMaskRCNNHead BaseKeypointRCNNHead "
    "build_proposal_generator build_roi_heads proposal_generator.PROPOSAL_GENERATOR_REGISTRY "
    "proposal_generator.RPN_HEAD_REGISTRY proposal_generator.build_proposal_generator "
    "proposal_generator.build_rpn_head proposal_generator.build proposal_generator.rpn.RPN_HEAD_REGISTRY "
    "proposal_generator.rpn.build_rpn_head roi_heads.ROI_HEADS_REGISTRY roi_heads.ROI_BOX_HEAD_REGISTRY "
    "roi_heads.ROI_MASK_HEAD_REGISTRY roi_heads.ROI_KEYPOINT_HEAD_REGISTRY roi_heads.ROIHeads "
    "roi_heads.BaseMaskRCNNHead roi_heads.BaseKeypointRCNNHead roi_heads.build_roi_heads roi_heads.build_box_head "
    "roi_heads.build_mask_head roi_heads.build_keypoint_head roi_heads.select_foreground_proposals "
    "roi_heads.roi_heads.ROI_HEADS_REGISTRY roi_heads.roi_heads.ROIHeads roi_heads.roi_heads.build_roi_heads "
    "roi_heads.roi_heads.select_foreground_proposals roi_heads.box_head.ROI_BOX_HEAD_REGISTRY "
    "roi_heads.box_head.build_box_head roi_heads.mask_head.ROI_MASK_HEAD_REGISTRY "
    "roi_heads.mask_head.BaseMaskRCNNHead roi_heads.mask_head.build_mask_head "
    "roi_heads.keypoint_head.ROI_KEYPOINT_HEAD_REGISTRY roi_heads.keypoint_head.BaseKeypointRCNNHead "
    "roi_heads.keypoint_head.build_keypoint_head"
)
_PIECES_OF_PARTS = (
    "roi_heads.fast_rcnn.FastRCNNOutputs roi_heads.fast_rcnn.fast_rcnn_inference "
    "roi_heads.fast_rcnn.fast_rcnn_inference_single_image roi_heads.mask_head.mask_rcnn_inference "
    "roi_heads.mask_head.mask_rcnn_loss roi_heads.keypoint_head.keypoint_rcnn_inference "
    "roi_heads.keypoint_head.keypoint_rcnn_loss poolers.assign_boxes_to_levels poolers.convert_boxes_to_pooler_format "
    "box_regression.Box2BoxTransformLinear box_regression._dense_box_regression_loss "
    "meta_arch.retinanet.permute_to_N_HWA_K meta_arch.dense_detector meta_arch.DenseDetector"
)
_OTHER_BACKBONES = (
    "ViT SimpleFeaturePyramid get_vit_lr_decay_rate MViT SwinTransformer backbone.ViT backbone.SimpleFeaturePyramid "
    "backbone.get_vit_lr_decay_rate backbone.MViT backbone.SwinTransformer backbone.RegNet backbone.vit backbone.mvit "
    "backbone.swin backbone.regnet backbone.utils"
)
_CASCADE = "Cascade R-CNN is not here; take StandardROIHeads"
_RATES = (
    "set SOLVER.LR_SCHEDULER_NAME and SOLVER.WARMUP_..., of which build_lr_scheduler(cfg, optimizer) makes it; from "
    "numbers, LRMultiplier(optimizer, WarmupParamScheduler(...), max_iter) does"
)
_LVIS = "register the LVIS file with register_coco_instances and set MetadataCatalog.get(name).evaluator_type = 'lvis'"
_EVALUATED = (
    "COCOEvaluator makes it itself of registered records; for a file use 'drivetrain data convert ... --to coco'"
)
_VERSION = "configs of VERSION 2 are what there is"
_GLOBAL = "hand the config on as an argument"
_NOTHING = "there is nothing to set up or to log: drop the call"
_ANALYSIS = "use torch.utils.flop_counter, or install fvcore, whose fvcore.nn then stays in use"
_PROJECT = "detectron2's projects are not part of this package; give DefaultTrainer(cfg, model=...) your model"
_EXPORT = "use torch.export on classifiers and segmentation models, and on the network inside of a detector"

ABSENT: Names = MappingProxyType(
    {
        "detectron2.evaluation.cityscapes_evaluation": "evaluate the data as COCO (COCOEvaluator) or as label maps "
        "(SemSegEvaluator)",
        "detectron2.evaluation.fast_eval_api": "COCOEvaluator uses the fast implementation of faster-coco-eval itself",
        "detectron2.evaluation.rotated_coco_evaluation": _ROTATED,
        "detectron2.structures.RotatedBoxes": _ROTATED,
        "detectron2.structures.rotated_boxes": _ROTATED,
        "detectron2.structures.pairwise_point_box_distance": "write it with torch.cdist over box centres",
        "detectron2.projects": _PROJECT,
        "detectron2.projects.deeplab": "DeepLab is here as MODEL.NAME deeplabv3_mobilenet_v3_large and others of "
        "drivetrain.modeling; its learning rate is SOLVER.LR_SCHEDULER_NAME WarmupCosineLR",
        "detectron2.projects.point_rend": "PointRend is not part of this package; colour changes are those under "
        "INPUT.COLOR",
        "detectron2.projects.panoptic_deeplab": "Panoptic-DeepLab is not part of this package; panoptic models are "
        "those of transformers (MODEL.NAME mask2former...)",
        **{f"detectron2.modeling.{name}": _PARTS for name in _REGISTERED_PARTS.split()},
        **{f"detectron2.modeling.{name}": _PIECES for name in _PIECES_OF_PARTS.split()},
        **{f"detectron2.modeling.{name}": _BACKBONES for name in _OTHER_BACKBONES.split()},
        "detectron2.modeling.backbone.resnet.DeformBottleneckBlock": "write a block with torchvision.ops.DeformConv2d",
        "detectron2.modeling.roi_heads.CascadeROIHeads": _CASCADE,
        "detectron2.modeling.roi_heads.cascade_rcnn": _CASCADE,
        "detectron2.modeling.roi_heads.rotated_fast_rcnn": _ROTATED,
        "detectron2.modeling.proposal_generator.rrpn": _ROTATED,
        "detectron2.modeling.proposal_generator.RRPN": _ROTATED,
        "detectron2.modeling.anchor_generator.RotatedAnchorGenerator": _ROTATED,
        "detectron2.modeling.PanopticFPN": _PANOPTIC,
        "detectron2.modeling.meta_arch.PanopticFPN": _PANOPTIC,
        "detectron2.modeling.meta_arch.panoptic_fpn": _PANOPTIC,
        "detectron2.modeling.SemanticSegmentor": _SEGMENTATION,
        "detectron2.modeling.build_sem_seg_head": _SEGMENTATION,
        "detectron2.modeling.meta_arch.SemanticSegmentor": _SEGMENTATION,
        "detectron2.modeling.meta_arch.semantic_seg": _SEGMENTATION,
        "detectron2.modeling.mmdet_wrapper": "mmdetection's models are not wrapped; give DefaultTrainer a model",
        "detectron2.layers.DeformConv": "use torchvision.ops.DeformConv2d",
        "detectron2.layers.ModulatedDeformConv": "use torchvision.ops.DeformConv2d",
        "detectron2.layers.ROIAlign": "use torchvision.ops.RoIAlign(..., aligned=True)",
        "detectron2.layers.ROIAlignRotated": _ROTATED,
        "detectron2.layers.ASPP": "torchvision.models.segmentation.deeplabv3 has one",
        "detectron2.layers.CycleBatchNormList": "use a torch.nn.ModuleList of batch norms, one for each level",
        "detectron2.layers.DepthwiseSeparableConv2d": "use torch.nn.Conv2d with groups, then one of size 1",
        "detectron2.layers.NaiveSyncBatchNorm": "use torch.nn.SyncBatchNorm",
        "detectron2.layers.batched_nms_rotated": _ROTATED,
        "detectron2.layers.nms_rotated": _ROTATED,
        "detectron2.layers.move_device_like": "use x.to(y.device)",
        "detectron2.layers.shapes_to_tensor": "use torch.tensor",
        "detectron2.layers.paste_masks_in_image": "drivetrain.modeling.detectron2.mask_head.paste_masks does it",
        "detectron2.utils.analysis": _ANALYSIS,
        "detectron2.utils.visualizer.GenericMask": "drivetrain.data.formats.contours.mask_polygons makes polygons of "
        "a bool mask, drivetrain.structures.polygons_to_bitmask a mask of polygons",
        "detectron2.utils.visualizer.random_color": _COLORS,
        "detectron2.utils.colormap": _COLORS,
        "detectron2.utils.memory.retry_if_cuda_oom": "set SOLVER.OOM_RETRY",
        "detectron2.utils.memory": "set SOLVER.OOM_RETRY",
        "detectron2.utils.testing": "drivetrain.testing has a tiny model and loader",
        "detectron2.utils.serialize": "functions of a module need no wrapper here",
        "detectron2.utils.tracing": _EXPORT,
        "detectron2.export": _EXPORT,
        "detectron2.tracking": "use a tracker of your own on the predictions",
        "detectron2.data.benchmark": "time the loader that build_detection_train_loader returns: it is an iterable",
        "detectron2.data.datasets.register_coco_panoptic_separated": "use "
        "drivetrain.data.formats.register_coco_panoptic",
        "detectron2.data.datasets.convert_to_coco_json": "use 'drivetrain data convert ... --to coco'",
        "detectron2.data.datasets.register_lvis_instances": _LVIS,
        "detectron2.data.datasets.cityscapes": "use 'drivetrain data convert' to COCO first",
        "detectron2.data.datasets.coco.convert_to_coco_dict": _EVALUATED,
        "detectron2.data.datasets.coco.convert_to_coco_json": _EVALUATED,
        "detectron2.data.datasets.builtin._PREDEFINED_SPLITS_COCO": "register_all_coco registers them",
        "detectron2.data.datasets.lvis": _LVIS,
        "detectron2.data.build_batch_data_loader": _LOADER,
        "detectron2.data.build.build_batch_data_loader": _LOADER,
        "detectron2.data.build.trivial_batch_collator": _LOADER,
        "detectron2.data.build.worker_init_reset_seed": "workers need no seed: what augmentations draw follows "
        "from SEED and the sample's place",
        "detectron2.data.build.filter_images_with_only_crowd_annotations": "get_detection_dataset_dicts(names, "
        "filter_empty=True) does it",
        "detectron2.data.build.print_instances_class_histogram": "use 'drivetrain data inspect'",
        "detectron2.data.build.load_proposals_into_dataset": _PROPOSALS,
        "detectron2.data.common.AspectRatioGroupedDataset": _LOADER,
        "detectron2.data.common.ToIterableDataset": _LOADER,
        "detectron2.data.load_proposals_into_dataset": _PROPOSALS,
        "detectron2.data.detection_utils.annotations_to_instances_rotated": _ROTATED,
        "detectron2.data.detection_utils.get_fed_loss_cls_weights": "there is no federated loss",
        "detectron2.data.detection_utils.transform_proposals": _PROPOSALS,
        "detectron2.data.transforms.RandomResize": "use ResizeScale, or ResizeShortestEdge with several sizes",
        "detectron2.data.print_instances_class_histogram": "use 'drivetrain data inspect'",
        "detectron2.checkpoint.c2_model_loading": "DetectionCheckpointer loads .pkl files itself",
        "detectron2.config.defaults": "get_cfg() has the defaults",
        "detectron2.config.downgrade_config": _VERSION,
        "detectron2.config.upgrade_config": _VERSION,
        "detectron2.config.global_cfg": _GLOBAL,
        "detectron2.config.set_global_cfg": _GLOBAL,
        "detectron2.evaluation.coco_evaluation.COCOeval_opt": "COCOEvaluator uses the fast implementation of "
        "faster-coco-eval itself",
        "detectron2.evaluation.coco_evaluation._evaluate_predictions_on_coco": "use COCOEvaluator",
        "detectron2.solver.WarmupCosineLR": _RATES,
        "detectron2.solver.WarmupMultiStepLR": _RATES,
        "detectron2.solver.lr_scheduler.WarmupCosineLR": _RATES,
        "detectron2.solver.lr_scheduler.WarmupMultiStepLR": _RATES,
        "detectron2.structures.heatmaps_to_keypoints": "use "
        "drivetrain.modeling.detectron2.keypoint_head.keypoints_of_heatmaps",
        "detectron2.structures.pairwise_iou_rotated": _ROTATED,
        "detectron2.utils.env.setup_custom_environment": _NOTHING,
        "detectron2.utils.env.setup_environment": _NOTHING,
        "detectron2.utils.logger._log_api_usage": _NOTHING,
        "detectron2.utils.logger.create_small_table": "rich.table makes tables",
        "detectron2.utils.registry.locate": "use importlib.import_module",
        "detectron2.solver.build_optimizer.GradientClipType": "use SOLVER.CLIP_GRADIENTS",
        "detectron2._C": "there is no compiled extension here",
        "fvcore.nn": _ANALYSIS,
        "fvcore.nn.flop_count": _ANALYSIS,
        "fvcore.nn.precise_bn": "use drivetrain.engine.hooks.PreciseBN",
        "fvcore.common.benchmark": "use timeit",
        "fvcore.common.download": "nothing is downloaded",
    }
)
