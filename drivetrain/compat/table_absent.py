"""What detectron2 has and is not here: why, and what to use instead."""

from __future__ import annotations

from types import MappingProxyType

from .entries import Names

__all__ = ["ABSENT"]

_CITYSCAPES = (
    "the Cityscapes server's own evaluation is not rebuilt here; remove it from the import, and evaluate the data as "
    "COCO (COCOEvaluator) or as label maps (SemSegEvaluator)"
)
_ROTATED = "rotated boxes are not supported; use boxes along the axes, or masks"
_PARTS = (
    "a model's parts are not exchanged by name here; register a whole architecture with META_ARCH_REGISTRY, or give "
    "DefaultTrainer(cfg, model=...) a model of your own"
)
_ANALYSIS = "use torch.utils.flop_counter, or install fvcore, whose fvcore.nn then stays in use"
_PROJECT = "detectron2's projects are not part of this package; give DefaultTrainer(cfg, model=...) your model"
_EXPORT = "use torch.export on the model"

ABSENT: Names = MappingProxyType(
    {
        "detectron2.evaluation.CityscapesEvaluator": _CITYSCAPES,
        "detectron2.evaluation.CityscapesInstanceEvaluator": _CITYSCAPES,
        "detectron2.evaluation.CityscapesSemSegEvaluator": _CITYSCAPES,
        "detectron2.evaluation.cityscapes_evaluation": _CITYSCAPES,
        "detectron2.evaluation.RotatedCOCOEvaluator": _ROTATED,
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
        "detectron2.modeling.BACKBONE_REGISTRY": _PARTS,
        "detectron2.modeling.ANCHOR_GENERATOR_REGISTRY": _PARTS,
        "detectron2.modeling.PROPOSAL_GENERATOR_REGISTRY": _PARTS,
        "detectron2.modeling.RPN_HEAD_REGISTRY": _PARTS,
        "detectron2.modeling.ROI_HEADS_REGISTRY": _PARTS,
        "detectron2.modeling.ROI_BOX_HEAD_REGISTRY": _PARTS,
        "detectron2.modeling.ROI_MASK_HEAD_REGISTRY": _PARTS,
        "detectron2.modeling.ROI_KEYPOINT_HEAD_REGISTRY": _PARTS,
        "detectron2.modeling.SEM_SEG_HEADS_REGISTRY": _PARTS,
        "detectron2.modeling.anchor_generator": _PARTS,
        "detectron2.modeling.backbone": _PARTS,
        "detectron2.modeling.box_regression": _PARTS,
        "detectron2.modeling.matcher": _PARTS,
        "detectron2.modeling.poolers": _PARTS,
        "detectron2.modeling.postprocessing": _PARTS,
        "detectron2.modeling.proposal_generator": _PARTS,
        "detectron2.modeling.roi_heads": _PARTS,
        "detectron2.modeling.sampling": _PARTS,
        "detectron2.modeling.build_backbone": _PARTS,
        "detectron2.modeling.build_proposal_generator": _PARTS,
        "detectron2.modeling.build_roi_heads": _PARTS,
        "detectron2.modeling.PanopticFPN": "panoptic models are those of transformers (MODEL.NAME mask2former...)",
        "detectron2.modeling.SemanticSegmentor": "segmentation models are those of torchvision and transformers, "
        "chosen by MODEL.NAME",
        "detectron2.modeling.mmdet_wrapper": "mmdetection's models are not wrapped; give DefaultTrainer a model",
        "detectron2.layers.DeformConv": "use torchvision.ops.DeformConv2d",
        "detectron2.layers.ModulatedDeformConv": "use torchvision.ops.DeformConv2d",
        "detectron2.layers.ROIAlign": "use torchvision.ops.RoIAlign(..., aligned=True)",
        "detectron2.layers.ROIAlignRotated": _ROTATED,
        "detectron2.layers.CNNBlockBase": "use torch.nn.Module",
        "detectron2.layers.paste_masks_in_image": "drivetrain.modeling.detectron2.mask_head.paste_masks does it",
        "detectron2.utils.analysis": _ANALYSIS,
        "detectron2.utils.visualizer._create_text_labels": "it is private to detectron2; pass labels= to "
        "Visualizer.overlay_instances",
        "detectron2.utils.visualizer.GenericMask": "it is private to detectron2; drivetrain.structures has BitMasks "
        "and PolygonMasks",
        "detectron2.utils.colormap": "colours are drivetrain.visualization.class_color",
        "detectron2.utils.memory.retry_if_cuda_oom": "set SOLVER.OOM_RETRY",
        "detectron2.utils.memory": "set SOLVER.OOM_RETRY",
        "detectron2.utils.testing": "drivetrain.testing has a tiny model and loader",
        "detectron2.utils.serialize": "functions of a module need no wrapper here",
        "detectron2.utils.tracing": _EXPORT,
        "detectron2.export": _EXPORT,
        "detectron2.tracking": "use a tracker of your own on the predictions",
        "detectron2.data.benchmark": "time the loader that build_detection_train_loader returns: it is an iterable",
        "detectron2.data.datasets.builtin": "no dataset is registered beforehand; call register_coco_instances",
        "detectron2.data.datasets.builtin_meta": "class names come from the annotation file; see "
        "MetadataCatalog.get(name).thing_classes after register_coco_instances",
        "detectron2.data.datasets.register_coco_panoptic": "use drivetrain.data.formats.register_coco_panoptic",
        "detectron2.data.datasets.register_coco_panoptic_separated": "use "
        "drivetrain.data.formats.register_coco_panoptic",
        "detectron2.data.datasets.load_sem_seg": "use drivetrain.data.formats.load_sem_seg",
        "detectron2.data.datasets.convert_to_coco_json": "use 'drivetrain data convert ... --to coco'",
        "detectron2.data.datasets.register_lvis_instances": "register the LVIS file with register_coco_instances and "
        "set MetadataCatalog.get(name).evaluator_type = 'lvis'",
        "detectron2.data.datasets.load_voc_instances": "use drivetrain.data.formats.load_voc_instances",
        "detectron2.data.datasets.register_pascal_voc": "use drivetrain.data.formats.register_pascal_voc",
        "detectron2.data.datasets.cityscapes": "use 'drivetrain data convert' to COCO first",
        "detectron2.data.print_instances_class_histogram": "use 'drivetrain data inspect'",
        "detectron2.solver.build_optimizer.GradientClipType": "use SOLVER.CLIP_GRADIENTS",
        "detectron2._C": "there is no compiled extension here",
        "fvcore.nn": _ANALYSIS,
        "fvcore.nn.FlopCountAnalysis": _ANALYSIS,
        "fvcore.nn.flop_count": _ANALYSIS,
        "fvcore.nn.parameter_count": _ANALYSIS,
        "fvcore.nn.parameter_count_table": _ANALYSIS,
        "fvcore.nn.smooth_l1_loss": "use torch.nn.functional.smooth_l1_loss",
        "fvcore.nn.weight_init": "use torch.nn.init: kaiming_normal_ for c2_msra_fill, kaiming_uniform_ for "
        "c2_xavier_fill",
        "fvcore.nn.precise_bn": "use drivetrain.engine.hooks.PreciseBN",
        "fvcore.common.benchmark": "use timeit",
        "fvcore.common.download": "nothing is downloaded",
    }
)
