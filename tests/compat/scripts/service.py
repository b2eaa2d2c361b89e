"""A predictor behind a service: class names come from the metadata."""

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.engine.defaults import DefaultPredictor
from detectron2.modeling import build_model
from shapes import get_shapes, register, report, small_cfg


class Detector:
    def __init__(self, cfg):
        self.predictor = DefaultPredictor(cfg)
        self.class_names = MetadataCatalog.get(cfg.DATASETS.TEST[0]).thing_classes

    def detect(self, path, threshold=0.0):
        image = read_image(path, "BGR")
        instances = self.predictor(image)["instances"].to("cpu")
        instances = instances[instances.scores >= threshold]
        found = []
        boxes = instances.pred_boxes.tensor.numpy()
        for i in range(len(instances)):
            x0, y0, x1, y1 = (float(v) for v in boxes[i])
            found.append({"label": self.class_names[int(instances.pred_classes[i])], "box": [x0, y0, x1, y1]})
        return image.shape[:2], found, instances


register()
torch.manual_seed(0)
cfg = small_cfg()
DetectionCheckpointer(build_model(cfg), cfg.OUTPUT_DIR).save("model_final")
cfg.MODEL.WEIGHTS = cfg.OUTPUT_DIR + "/model_final.pth"
cfg.freeze()
import os  # noqa: E402

detector = Detector(cfg)
record = get_shapes(os.environ["SHAPES"], "val")[0]
size, found, instances = detector.detect(record["file_name"])
report(
    found=len(found) > 0,
    labels=sorted({f["label"] for f in found}),
    inside=all(
        0 <= f["box"][0] <= f["box"][2] <= size[1] and 0 <= f["box"][1] <= f["box"][3] <= size[0] for f in found
    ),
    fields=sorted(instances.get_fields()),
    metadata=list(detector.predictor.metadata.thing_classes),
    input_format=detector.predictor.input_format,
)
