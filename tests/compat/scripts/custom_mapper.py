"""Two ways to change the images of a training: a mapper function, and augmentations for the mapper."""

import copy

import numpy as np
import torch
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.engine import DefaultTrainer
from shapes import register, report, small_cfg

SEEN = []


def custom_mapper(dataset_dict):
    dataset_dict = copy.deepcopy(dataset_dict)
    image = utils.read_image(dataset_dict["file_name"], format="BGR")
    transform_list = [
        T.Resize((64, 80)),
        T.RandomBrightness(0.8, 1.2),
        T.RandomContrast(0.8, 1.2),
        T.RandomFlip(prob=0.5, horizontal=True, vertical=False),
    ]
    image, transforms = T.apply_transform_gens(transform_list, image)
    dataset_dict["image"] = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
    annos = [
        utils.transform_instance_annotations(obj, transforms, image.shape[:2])
        for obj in dataset_dict.pop("annotations")
        if obj.get("iscrowd", 0) == 0
    ]
    instances = utils.annotations_to_instances(annos, image.shape[:2])
    dataset_dict["instances"] = utils.filter_empty_instances(instances)
    SEEN.append(tuple(dataset_dict["image"].shape))
    return dataset_dict


class Darken(T.Augmentation):
    def get_transform(self, image):
        return T.BlendTransform(src_image=0, src_weight=0.5, dst_weight=0.5)


class FunctionTrainer(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        return build_detection_train_loader(cfg, mapper=custom_mapper)


class AugmentedTrainer(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        augmentations = [T.ResizeShortestEdge([48], 96, "choice"), Darken(), T.RandomFlip()]
        mapper = DatasetMapper(cfg, is_train=True, augmentations=augmentations)
        return build_detection_train_loader(cfg, mapper=mapper)


register()
finished = []
for cls in (FunctionTrainer, AugmentedTrainer):
    cfg = small_cfg()
    cfg.DATASETS.TEST = ()
    trainer = cls(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    finished.append(trainer.iter)
report(finished=finished, shapes=sorted(set(SEEN)))
