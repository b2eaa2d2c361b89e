"""The names that models have, their targets and values."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from drivetrain.modeling.transformers.bases import BASES
from drivetrain.modeling.transformers.presets import LIBRARY, PRESETS


def test_every_base_has_its_name() -> None:
    assert set(BASES) <= set(PRESETS)
    for name, entry in PRESETS.items():
        base = entry.values.get("TRANSFORMERS.BASE", "")
        assert base in BASES or name == f"transformers_{entry.values['TRANSFORMERS.TASK']}"


@pytest.mark.parametrize(
    ("name", "task", "targets"),
    [
        ("dfine", "detection", ("boxes",)),
        ("mask2former_tiny", "instance", ("masks",)),
        ("mask2former_semantic", "semantic", ("sem_seg",)),
        ("mask2former_panoptic_tiny", "panoptic", ("panoptic",)),
        ("segformer", "semantic", ("sem_seg",)),
        ("vit_tiny", "classification", ("classes",)),
        ("transformers_panoptic", "panoptic", ("panoptic",)),
    ],
)
def test_targets_are_those_of_the_task(name: str, task: str, targets: tuple[str, ...]) -> None:
    entry = PRESETS[name]
    assert entry.values["TRANSFORMERS.TASK"] == task and entry.targets == targets
    assert ("BACKBONE.NAME" in entry.values) == (name.endswith("_tiny") and name not in ("segformer_tiny", "vit_tiny"))


def test_a_model_name_with_the_librarys_prefix_is_a_detector() -> None:
    assert LIBRARY.targets == ("boxes",) and dict(LIBRARY.values) == {"TRANSFORMERS.TASK": "detection"}
    assert LIBRARY.load().__name__ == "build_transformers"


@pytest.mark.parametrize("name", ["rt_detr_v2", "dfine", "detr", "deformable_detr", "rf_detr"])
def test_default_sizes_are_the_librarys(name: str, make_transformers_cfg: Any) -> None:
    """Without a download, and with the very tensors of the library's own default config; only batch norms are live."""
    import torch
    from transformers.models.auto.modeling_auto import AutoModelForObjectDetection

    from drivetrain.modeling.transformers.library import config_class

    with torch.device("meta"):
        expected = AutoModelForObjectDetection.from_config(config_class(BASES[name].model_type)(num_labels=3))
        got = PRESETS[name].load()(make_transformers_cfg(name)).net

    def shapes(net: Any) -> dict[str, Any]:
        return {n: v.shape for n, v in net.state_dict().items() if not n.endswith("num_batches_tracked")}

    assert shapes(got) == shapes(expected)
    frozen = [type(m).__name__ for m in got.modules() if "FrozenBatchNorm" in type(m).__name__]
    assert frozen == [] and got.config.num_labels == 3


def test_the_table_is_light() -> None:
    program = (
        "import sys; from drivetrain.modeling.transformers.presets import PRESETS; import drivetrain; "
        "print([m for m in ('transformers', 'scipy', 'timm', 'torchvision') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
