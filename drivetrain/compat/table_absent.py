"""What detectron2 has and is not here: why, and what to use instead."""

from __future__ import annotations

from types import MappingProxyType

from .entries import Names

__all__ = ["ABSENT"]

_ROTATED = "rotated boxes are not supported; use boxes along the axes, or masks"
_PARTS = (
    "parts such as proposal generators and roi_heads are not exchanged by name here (backbones and anchor "
    "generators are); register a whole architecture with META_ARCH_REGISTRY, or give DefaultTrainer(cfg, model=...) "
    "your model"
)
_REGISTERED_PARTS = (
    "PROPOSAL_GENERATOR_REGISTRY RPN_HEAD_REGISTRY ROI_HEADS_REGISTRY ROI_BOX_HEAD_REGISTRY ROI_MASK_HEAD_REGISTRY "
    "ROI_KEYPOINT_HEAD_REGISTRY SEM_SEG_HEADS_REGISTRY ROIHeads BaseMaskRCNNHead BaseKeypointRCNNHead "
    "build_proposal_generator build_roi_heads postprocessing sampling proposal_generator.PROPOSAL_GENERATOR_REGISTRY "
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
    "roi_heads.keypoint_head.build_keypoint_head roi_heads.fast_rcnn.fast_rcnn_inference"
)
_CASCADE = "Cascade R-CNN is not here; take StandardROIHeads"
_ANALYSIS = "use torch.utils.flop_counter, or install fvcore, whose fvcore.nn then stays in use"
_PROJECT = "detectron2's projects are not part of this package; give DefaultTrainer(cfg, model=...) your model"
_EXPORT = "use torch.export on the model"

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
        "detectron2.modeling.roi_heads.CascadeROIHeads": _CASCADE,
        "detectron2.modeling.roi_heads.cascade_rcnn": _CASCADE,
        "detectron2.modeling.roi_heads.rotated_fast_rcnn": _ROTATED,
        "detectron2.modeling.proposal_generator.rrpn": _ROTATED,
        "detectron2.modeling.proposal_generator.RRPN": _ROTATED,
        "detectron2.modeling.anchor_generator.RotatedAnchorGenerator": _ROTATED,
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
        "detectron2.data.datasets.register_coco_panoptic_separated": "use "
        "drivetrain.data.formats.register_coco_panoptic",
        "detectron2.data.datasets.convert_to_coco_json": "use 'drivetrain data convert ... --to coco'",
        "detectron2.data.datasets.register_lvis_instances": "register the LVIS file with register_coco_instances and "
        "set MetadataCatalog.get(name).evaluator_type = 'lvis'",
        "detectron2.data.datasets.cityscapes": "use 'drivetrain data convert' to COCO first",
        "detectron2.data.print_instances_class_histogram": "use 'drivetrain data inspect'",
        "detectron2.solver.build_optimizer.GradientClipType": "use SOLVER.CLIP_GRADIENTS",
        "detectron2._C": "there is no compiled extension here",
        "fvcore.nn": _ANALYSIS,
        "fvcore.nn.flop_count": _ANALYSIS,
        "fvcore.nn.precise_bn": "use drivetrain.engine.hooks.PreciseBN",
        "fvcore.common.benchmark": "use timeit",
        "fvcore.common.download": "nothing is downloaded",
    }
)
