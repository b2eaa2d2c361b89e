"""Loaders of the drawn shapes."""

from detectron2.model_zoo import get_config

dataloader = get_config("common/data/coco.py").dataloader
dataloader.train.dataset.names = "shapes_train"
dataloader.test.dataset.names = "shapes_val"
dataloader.train.total_batch_size = 2
dataloader.train.num_workers = dataloader.test.num_workers = 0
dataloader.train.mapper.augmentations[0].short_edge_length = (64,)
dataloader.test.mapper.augmentations[0].short_edge_length = 64
