"""Heads of one's own in a two-stage detector, which calls its parts as detectron2 does; then the parts one by one."""

import torch
from detectron2.engine import DefaultPredictor, DefaultTrainer
from detectron2.layers import cat
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, build_model, detector_postprocess
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from shapes import register, report, small_cfg
from torch import nn


class MyHeads(nn.Module):
    def __init__(self, cfg, input_shape):
        super().__init__()
        self.num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        self.in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        scales = [1.0 / input_shape[f].stride for f in self.in_features]
        self.pooler = ROIPooler(output_size=5, scales=scales, sampling_ratio=2, pooler_type="ROIAlignV2")
        self.cls_score = nn.Linear(input_shape["p2"].channels * 25, self.num_classes + 1)
        self.bbox_pred = nn.Linear(input_shape["p2"].channels * 25, 4)
        nn.init.normal_(self.bbox_pred.weight, std=1e-5)
        self.proposal_matcher = Matcher(cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS, cfg.MODEL.ROI_HEADS.IOU_LABELS)
        self.box2box_transform = Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))

    @torch.no_grad()
    def label_and_sample(self, proposals, targets):
        sampled = []
        for proposed, target in zip(proposals, targets, strict=True):
            boxes = Boxes.cat([proposed.proposal_boxes, target.gt_boxes])
            idxs, labels = self.proposal_matcher(pairwise_iou(target.gt_boxes, boxes))
            classes = target.gt_classes[idxs]
            classes[labels == 0] = self.num_classes
            fg, bg = subsample_labels(classes, 16, 0.5, self.num_classes)
            keep = torch.cat([fg, bg])
            get_event_storage().put_scalar("num_fg", len(fg))
            kept = Instances(proposed.image_size, proposal_boxes=boxes[keep], gt_classes=classes[keep])
            kept.gt_boxes = target.gt_boxes[idxs[keep]]
            sampled.append(kept)
        return sampled

    def forward(self, images, features, proposals, targets=None):
        if self.training:
            proposals = self.label_and_sample(proposals, targets)
        pooled = self.pooler([features[f] for f in self.in_features], [p.proposal_boxes for p in proposals])
        scores, deltas = self.cls_score(pooled.flatten(1)), self.bbox_pred(pooled.flatten(1))
        boxes = cat([p.proposal_boxes.tensor for p in proposals])
        if self.training:
            classes = cat([p.gt_classes for p in proposals])
            fg = classes < self.num_classes
            wanted = self.box2box_transform.get_deltas(boxes[fg], cat([p.gt_boxes.tensor for p in proposals])[fg])
            losses = {"loss_cls": nn.functional.cross_entropy(scores, classes)}
            losses["loss_box_reg"] = nn.functional.smooth_l1_loss(deltas[fg], wanted, reduction="sum") / len(classes)
            return proposals, losses
        moved = self.box2box_transform.apply_deltas(deltas, boxes).split([len(p) for p in proposals])
        found = []
        scored = scores.softmax(-1).split([len(p) for p in proposals])
        for p, b, s in zip(proposals, moved, scored, strict=True):
            best, classes = s[:, :-1].max(1)
            found.append(Instances(p.image_size, pred_boxes=Boxes(b), scores=best, pred_classes=classes))
        return found, {}


@META_ARCH_REGISTRY.register()
class MyRCNN(GeneralizedRCNN):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.roi_heads = MyHeads(cfg, self.backbone.output_shape())

    def forward(self, batched_inputs):
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
        features = self.backbone(images.tensor)
        proposals, proposal_losses = self.proposal_generator(images, features, gt_instances)
        _, detector_losses = self.roi_heads(images, features, proposals, gt_instances)
        return {**detector_losses, **proposal_losses}

    def inference(self, batched_inputs):
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        proposals, _ = self.proposal_generator(images, features, None)
        results, _ = self.roi_heads(images, features, proposals)
        return [
            {"instances": detector_postprocess(r, x.get("height", size[0]), x.get("width", size[1]))}
            for r, x, size in zip(results, batched_inputs, images.image_sizes, strict=True)
        ]


register()
cfg = small_cfg()
cfg.MODEL.META_ARCHITECTURE = "MyRCNN"
cfg.DATASETS.TEST = ()
cfg.SOLVER.BASE_LR = 1e-6
trainer = DefaultTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()
cfg.MODEL.WEIGHTS = cfg.OUTPUT_DIR + "/model_final.pth"
image = torch.zeros(80, 96, 3, dtype=torch.uint8).numpy()
own = DefaultPredictor(cfg)(image)["instances"]

cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
cfg.MODEL.MASK_ON = True
model = build_model(cfg).eval()
with torch.no_grad():
    batch = [{"image": torch.zeros(3, 80, 96)}]
    images = model.preprocess_image(batch)
    features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features)
    instances, _ = model.roi_heads(images, features, proposals)
    maps = [features[f] for f in model.roi_heads.in_features]
    mask_features = model.roi_heads.mask_pooler(maps, [x.pred_boxes for x in instances])
report(
    losses=sorted(n for n in trainer.storage.latest() if n.startswith("loss_")),
    sampled="num_fg" in trainer.storage.latest(),
    size=list(own.image_size),
    found=len(own) > 0,
    is_one=isinstance(model, GeneralizedRCNN),
    mask_features=list(mask_features.shape[1:]),
    same=len(mask_features) == len(instances[0]) > 0,
)
