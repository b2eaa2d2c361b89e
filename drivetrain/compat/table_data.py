"""The table's part for data, structures, evaluation and drawing."""

from __future__ import annotations

from types import MappingProxyType

from .entries import Names, same

__all__ = ["DATA", "DATA_MODULES"]

_CATALOG = same("drivetrain.compat.builtin_datasets", "DatasetCatalog MetadataCatalog Metadata")
_BUILD = same("drivetrain.data", "build_detection_test_loader build_detection_train_loader get_detection_dataset_dicts")
_COMMON = same("drivetrain.compat.data", "DatasetFromList MapDataset")
_SAMPLERS = same("drivetrain.data.samplers", "InferenceSampler RepeatFactorTrainingSampler TrainingSampler")
_UTILITIES = same(
    "drivetrain.compat.detection_utils",
    "SizeMismatchError read_image convert_PIL_to_numpy convert_image_to_rgb check_image_size "
    "transform_instance_annotations transform_keypoint_annotations annotations_to_instances filter_empty_instances "
    "create_keypoint_hflip_indices gen_crop_transform_with_instance build_augmentation build_transform_gen",
)
_TRANSFORMS = same(
    "drivetrain.compat.transforms",
    "AugInput Augmentation AugmentationList BlendTransform ColorTransform CropTransform ExtentTransform FixedSizeCrop "
    "HFlipTransform MinIoURandomCrop NoOpTransform PILColorTransform PadTransform RandomApply RandomBrightness "
    "RandomContrast RandomCrop RandomCrop_CategoryAreaConstraint RandomExtent RandomFlip RandomLighting RandomRotation "
    "RandomSaturation Resize ResizeScale ResizeShortestEdge ResizeTransform RotationTransform StandardAugInput "
    "Transform TransformList VFlipTransform apply_augmentations",
)
_DETERMINISTIC = {name: target for name, target in _TRANSFORMS.items() if name.endswith("Transform")}
_DRAWN = {
    name: target
    for name, target in _TRANSFORMS.items()
    if name.startswith(("Random", "Resize", "Fixed", "MinIoU")) and name not in _DETERMINISTIC
}
_OLDER_NAMES = {
    "TransformGen": "drivetrain.compat.transforms:Augmentation",
    "apply_transform_gens": "drivetrain.compat.transforms:apply_augmentations",
}
_BOXES = {
    **same("drivetrain.structures", "Boxes BoxMode matched_pairwise_iou"),
    **same("drivetrain.structures", "pairwise_intersection pairwise_ioa pairwise_iou"),
    "matched_boxlist_iou": "drivetrain.structures:matched_pairwise_iou",
}
_MASKS = same("drivetrain.structures", "BitMasks PolygonMasks polygons_to_bitmask")
_COCO = same("drivetrain.evaluation", "COCOEvaluator instances_to_coco_json")
_EVALUATOR = same("drivetrain.evaluation", "DatasetEvaluator DatasetEvaluators inference_context inference_on_dataset")
_TESTING = same("drivetrain.evaluation", "flatten_results_dict print_csv_format verify_results")
_KINDS = same(
    "drivetrain.evaluation", "COCOPanopticEvaluator LVISEvaluator PascalVOCDetectionEvaluator SemSegEvaluator"
)

DATA: MappingProxyType[str, Names] = MappingProxyType(
    {
        "detectron2.data": {
            **_CATALOG,
            **_BUILD,
            **_COMMON,
            **same("drivetrain.data", "DatasetMapper"),
            "transforms": "drivetrain.compat.transforms",
            "detection_utils": "drivetrain.compat.detection_utils",
        },
        "detectron2.data.catalog": _CATALOG,
        "detectron2.data.build": _BUILD,
        "detectron2.data.common": _COMMON,
        "detectron2.data.dataset_mapper": same("drivetrain.data", "DatasetMapper"),
        "detectron2.data.datasets": {
            **same("drivetrain.data", "register_coco_instances load_coco_json"),
            **same(
                "drivetrain.data.formats",
                "load_sem_seg load_voc_instances register_coco_panoptic register_pascal_voc",
            ),
        },
        "detectron2.data.datasets.builtin": {
            "register_all_coco": "drivetrain.compat.builtin_datasets:register_builtin"
        },
        "detectron2.data.datasets.builtin_meta": {
            **same(
                "drivetrain.compat.coco_categories",
                "COCO_CATEGORIES COCO_PERSON_KEYPOINT_FLIP_MAP COCO_PERSON_KEYPOINT_NAMES KEYPOINT_CONNECTION_RULES",
            ),
            "_get_builtin_metadata": "drivetrain.compat.coco_categories:builtin_metadata",
            "_get_coco_instances_meta": "drivetrain.compat.coco_categories:instances_metadata",
        },
        "detectron2.data.datasets.coco": {
            **same("drivetrain.data", "register_coco_instances load_coco_json"),
            **same("drivetrain.data.formats", "load_sem_seg"),
        },
        "detectron2.data.datasets.coco_panoptic": same("drivetrain.data.formats", "register_coco_panoptic"),
        "detectron2.data.datasets.pascal_voc": {
            **same("drivetrain.data.formats", "load_voc_instances register_pascal_voc"),
            "CLASS_NAMES": "drivetrain.data.formats.voc:VOC_CLASSES",
        },
        "detectron2.data.datasets.register_coco": same("drivetrain.data", "register_coco_instances"),
        "detectron2.data.samplers": _SAMPLERS,
        "detectron2.data.samplers.distributed_sampler": _SAMPLERS,
        "detectron2.data.detection_utils": _UTILITIES,
        "detectron2.data.transforms": {**_TRANSFORMS, **_OLDER_NAMES},
        "detectron2.data.transforms.augmentation": {
            **same("drivetrain.compat.transforms", "AugInput Augmentation AugmentationList apply_augmentations"),
            **_OLDER_NAMES,
        },
        "detectron2.data.transforms.augmentation_impl": _DRAWN,
        "detectron2.data.transforms.transform": _DETERMINISTIC,
        "detectron2.structures": {
            **_BOXES,
            **_MASKS,
            **same("drivetrain.structures", "ImageList Instances Keypoints"),
            **same("drivetrain.compat.roi_masks", "ROIMasks"),
        },
        "detectron2.structures.boxes": _BOXES,
        "detectron2.structures.masks": {**_MASKS, **same("drivetrain.compat.roi_masks", "ROIMasks")},
        "detectron2.structures.instances": same("drivetrain.structures", "Instances"),
        "detectron2.structures.image_list": same("drivetrain.structures", "ImageList"),
        "detectron2.structures.keypoints": same("drivetrain.structures", "Keypoints"),
        "detectron2.evaluation": {**_COCO, **_EVALUATOR, **_TESTING, **_KINDS},
        "detectron2.evaluation.evaluator": _EVALUATOR,
        "detectron2.evaluation.coco_evaluation": _COCO,
        "detectron2.evaluation.testing": _TESTING,
        "detectron2.evaluation.lvis_evaluation": same("drivetrain.evaluation", "LVISEvaluator"),
        "detectron2.evaluation.panoptic_evaluation": same("drivetrain.evaluation", "COCOPanopticEvaluator"),
        "detectron2.evaluation.pascal_voc_evaluation": same("drivetrain.evaluation", "PascalVOCDetectionEvaluator"),
        "detectron2.evaluation.sem_seg_evaluation": same("drivetrain.evaluation", "SemSegEvaluator"),
        "detectron2.projects.point_rend": same("drivetrain.compat.projects", "ColorAugSSDTransform"),
        "detectron2.utils.visualizer": {
            **same("drivetrain.compat.visualizer", "ColorMode VisImage Visualizer"),
            "_create_text_labels": "drivetrain.compat.visualizer_texts:text_labels",
        },
        "detectron2.utils.video_visualizer": same("drivetrain.compat.video_visualizer", "VideoVisualizer"),
    }
)

DATA_MODULES: Names = MappingProxyType(
    {
        "detectron2.data.transforms": "drivetrain.compat.transforms",
        "detectron2.data.detection_utils": "drivetrain.compat.detection_utils",
        "detectron2.data.catalog": "drivetrain.compat.builtin_datasets",
        "detectron2.utils.video_visualizer": "drivetrain.compat.video_visualizer",
    }
)
