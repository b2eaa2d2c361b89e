"""Making a bad step again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.engine.bad_batch import to_plain
from drivetrain.engine.defaults import DefaultTrainer
from drivetrain.engine.defaults.replay import from_plain, replay
from drivetrain.errors import CheckpointError, IncompatibleWeightsError, NonFiniteLossError
from drivetrain.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks
from drivetrain.testing import TinyModel


def test_a_batch_is_made_again_of_what_was_saved() -> None:
    instances = Instances(
        (8, 6),
        gt_boxes=Boxes(torch.rand(2, 4)),
        gt_classes=torch.tensor([1, 0]),
        gt_masks=PolygonMasks([[np.array([0.0, 0, 4, 0, 4, 4])], [np.array([1.0, 1, 3, 1, 3, 3])]]),
        gt_keypoints=Keypoints(torch.rand(2, 3, 3)),
        more=BitMasks(torch.zeros(2, 8, 6)),
    )
    batch = [{"image": torch.zeros(3, 8, 6, dtype=torch.uint8), "instances": instances, "height": 8}]
    made = from_plain(to_plain(batch))
    found = made[0]["instances"]
    assert isinstance(found, Instances) and found.image_size == (8, 6) and made[0]["height"] == 8
    assert isinstance(found.gt_boxes, Boxes) and torch.equal(found.gt_boxes.tensor, instances.gt_boxes.tensor)
    assert np.array_equal(found.gt_masks.polygons[1][0], instances.gt_masks.polygons[1][0])
    assert isinstance(found.gt_keypoints, Keypoints) and isinstance(found.more, BitMasks)
    assert len(found[torch.tensor([True, False])]) == 1


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "drivetrain.structures.rasterize.polygons_to_bitmask"])
def test_nothing_but_structures_is_made(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"holds a {name}"):
        from_plain({"object": name, "state": {}})


def trained_wild(make_cfg: Any) -> Path:
    """A training whose weights explode, and the file that it leaves."""
    cfg = make_cfg("out", "SOLVER.BASE_LR=1e30", "SOLVER.MAX_ITER=9", "DATASETS.TEST=()")
    torch.manual_seed(0)
    with pytest.raises(NonFiniteLossError):
        DefaultTrainer(cfg).train()
    (path,) = Path(cfg.OUTPUT_DIR).glob("bad_batch_*.pt")
    return path


def test_the_step_of_a_training_is_made_again(make_cfg: Any) -> None:
    found = replay(trained_wild(make_cfg))
    assert found.iteration == found.weights_iteration > 0
    assert found.losses.keys() == found.recorded.keys()
    for name, value in found.recorded.items():
        assert math.isnan(value) == math.isnan(found.losses[name])
        assert math.isnan(value) or value == found.losses[name]
    assert found.module and "(" in found.module
    assert float(found.largest.split()[0]) > 1e20  # exploded before it became NaN
    assert len(found.images) == 2 and all(name.endswith(".jpg") for name, _ in found.images)


def test_a_model_of_ones_own_and_the_image_to_blame(tmp_path: Path) -> None:
    class Poisoned(TinyModel):
        def forward(self, batch: Any) -> Any:
            losses = super().forward(batch)
            if any(item["file_name"] == "1.jpg" for item in batch):
                losses["loss_box"] = losses["loss_box"] * math.nan
            return losses

    from drivetrain.testing import tiny_loader

    torch.manual_seed(0)
    model = Poisoned()
    batch = [{**item, "file_name": f"{i}.jpg"} for i, item in enumerate(tiny_loader().batch(0))]
    content = {
        "iteration": 4,
        "weights_iteration": 4,
        "losses": {"loss_box": math.nan},
        "batches": [to_plain(batch)],
        "model": model.state_dict(),
        "config": "",
        "rng": torch.get_rng_state(),
        "precision": "fp32",
    }
    path = tmp_path / "bad_batch_4.pt"
    torch.save(content, path)
    found = replay(path, Poisoned())
    assert math.isnan(found.losses["loss_box"]) and math.isfinite(found.losses["loss_cls"])
    assert found.module == "the model (Poisoned)" and "head.weight" in found.gradients
    assert [name for name, losses in found.images if any(map(math.isnan, losses.values()))] == ["1.jpg"]
    again = replay(path, Poisoned())
    assert again.losses["loss_cls"] == found.losses["loss_cls"]  # dropout included
    with pytest.raises(CheckpointError, match="holds no config"):
        replay(path)
    with pytest.raises(IncompatibleWeightsError):
        replay(path, torch.nn.Linear(1, 1))
    torch.save({**content, "batches": []}, path)
    with pytest.raises(CheckpointError, match=r"holds no batch.*'loss_box': nan"):
        replay(path, Poisoned())
    torch.save({"model": model.state_dict()}, path)
    with pytest.raises(CheckpointError, match="is no saved batch"):
        replay(path)
