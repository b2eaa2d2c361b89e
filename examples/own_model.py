"""A model of one's own in forty lines: named in a config, trained, evaluated. ``python examples/own_model.py DIR``"""

import sys

from torch import int64, nn

from drivetrain import CfgNode, DefaultTrainer, get_cfg
from drivetrain.data.formats.synthetic import make_synthetic_classification
from drivetrain.modeling import MODELS, Batch, Losses, Outputs, Preprocess


@MODELS.register("own_classifier", targets=("classes",))
class OwnClassifier(nn.Module):
    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.preprocess = Preprocess(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
        stages = [(3, 16), (16, 32), (32, 64), (64, 64)]
        layers = [(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in stages]
        self.features = nn.Sequential(*(layer for stage in layers for layer in stage), nn.AdaptiveMaxPool2d(1))
        self.scores = nn.Linear(64, cfg.MODEL.NUM_CLASSES)

    def forward(self, batch: Batch) -> Losses | Outputs:
        logits = self.scores(self.features(self.preprocess(batch).tensor).flatten(1))
        if not self.training:
            return [{"classes": row} for row in logits.softmax(dim=1)]
        truth = logits.new_tensor([entry["class_id"] for entry in batch], dtype=int64)
        return {"loss_cls": nn.functional.cross_entropy(logits, truth)}


def main(folder: str, *changes: str, images: int = 1000) -> object:
    data, cfg = make_synthetic_classification(f"{folder}/data", train=images, val=images // 10), get_cfg()
    cfg.DATASETS.REGISTER = {name: {"format": "folder", "images": getattr(data, name)} for name in ("train", "val")}
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.MODEL.NAME, cfg.OUTPUT_DIR = "train", "val", "own_classifier", folder
    cfg.merge_from_list(["INPUT.MIN_SIZE_TRAIN=(128,)", "INPUT.MIN_SIZE_TEST=128", "SOLVER.OPTIMIZER=AdamW"])
    cfg.merge_from_list(["SOLVER.MAX_ITER=300", "SOLVER.IMS_PER_BATCH=32", "SOLVER.BASE_LR=0.003", *changes])
    return DefaultTrainer(cfg).train()


if __name__ == "__main__":
    main(*sys.argv[1:])
