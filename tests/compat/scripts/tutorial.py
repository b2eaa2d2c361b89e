"""Train on a small set of one's own, evaluate, and draw: the way most people begin."""

import os
import random

import numpy as np
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor, DefaultTrainer
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.utils.logger import setup_logger
from detectron2.utils.visualizer import ColorMode, Visualizer
from shapes import register, report, shrink

setup_logger()
register()
metadata = MetadataCatalog.get("shapes_train")
dataset_dicts = DatasetCatalog.get("shapes_train")
for d in random.sample(dataset_dicts, 1):
    img = read_image(d["file_name"], format="BGR")
    out = Visualizer(img[:, :, ::-1], metadata=metadata, scale=0.5).draw_dataset_dict(d)
    drawn = out.get_image()[:, :, ::-1]

cfg = get_cfg()
cfg.merge_from_file(model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"))
url = model_zoo.get_checkpoint_url("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")
shrink(cfg)
trainer = DefaultTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()

cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
predictor = DefaultPredictor(cfg)
im = read_image(DatasetCatalog.get("shapes_val")[0]["file_name"], format="BGR")
outputs = predictor(im)
v = Visualizer(im[:, :, ::-1], metadata=metadata, scale=0.5, instance_mode=ColorMode.IMAGE_BW)
picture = v.draw_instance_predictions(outputs["instances"].to("cpu")).get_image()[:, :, ::-1]

evaluator = COCOEvaluator("shapes_val", ("bbox", "segm"), False, output_dir=cfg.OUTPUT_DIR)
val_loader = build_detection_test_loader(cfg, "shapes_val")
results = inference_on_dataset(predictor.model, val_loader, evaluator)
report(
    tasks=sorted(results),
    zip_url=url.endswith(".pkl"),
    drawn=[int(n) for n in drawn.shape],
    picture=str(np.asarray(picture).dtype),
    masks=list(outputs["instances"].pred_masks.shape[1:]),
    image=list(im.shape[:2]),
    last=sorted(f for f in os.listdir(cfg.OUTPUT_DIR) if f.endswith(".pth")),
)
