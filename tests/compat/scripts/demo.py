"""A published model on one image, by the names of its classes: no dataset of one's own is registered."""

import os

import torch
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.utils.analysis import FlopCountAnalysis, parameter_count_table
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import ColorMode, Visualizer, _create_text_labels
from shapes import report, shrink

cfg = get_cfg()
cfg.merge_from_file(model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"))
train = cfg.DATASETS.TRAIN
shrink(cfg)
cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = train, ("coco_2017_val",)
cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
torch.manual_seed(0)
model = build_model(cfg)
DetectionCheckpointer(model, cfg.OUTPUT_DIR).save("model_final")  # in place of the published weights
cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")

folder = os.path.join(os.environ["SHAPES"], "images", "val")
im = read_image(os.path.join(folder, sorted(os.listdir(folder))[0]), "BGR")
predictor = DefaultPredictor(cfg)
instances = predictor(im)["instances"].to("cpu")
metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
labels = _create_text_labels(instances.pred_classes, instances.scores, metadata.get("thing_classes", None))
v = Visualizer(im[:, :, ::-1], metadata, scale=1.2, instance_mode=ColorMode.IMAGE)
out = v.draw_instance_predictions(instances)
out.save(os.path.join(cfg.OUTPUT_DIR, "out.png"))
video = VideoVisualizer(metadata, ColorMode.IMAGE)
frame = video.draw_instance_predictions(im[:, :, ::-1], instances).get_image()
height, width = im.shape[:2]
inputs = [{"image": torch.as_tensor(im.transpose(2, 0, 1).copy()), "height": height, "width": width}]
report(
    train=list(cfg.DATASETS.TRAIN),
    classes=[metadata.thing_classes[0], len(metadata.thing_classes)],
    same=metadata.thing_classes == predictor.metadata.thing_classes,
    known={label.rsplit(" ", 1)[0] for label in labels} <= set(metadata.thing_classes),
    found=len(labels) > 0,
    picture=list(out.get_image().shape),
    frame=list(frame.shape),
    saved=os.path.getsize(os.path.join(cfg.OUTPUT_DIR, "out.png")) > 0,
    flops=FlopCountAnalysis(predictor.model, inputs).total("backbone") > 10**6,
    parameters="roi_heads" in parameter_count_table(model),
)
