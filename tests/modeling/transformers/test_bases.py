"""Where configs start from: every base builds, and the tiny ones are tiny."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from drivetrain.modeling.transformers.bases import BASES
from drivetrain.modeling.transformers.configs import build_config


@pytest.mark.parametrize("name", BASES)
def test_fields_are_the_librarys(name: str) -> None:
    """What a base sets is found in the library's config, and nothing else differs from its defaults."""
    base = BASES[name]
    config, default = build_config(base.model_type, base.fields, 7), build_config(base.model_type, {}, 7)
    assert config.num_labels == 7
    for field, value in base.fields.items():
        got = getattr(config, field)
        assert got == value or list(got) == list(value), field
    names = set(config.to_dict()) - {"backbone_config"}
    derived = {"head_dim", "pooler_output_size"}  # made of others
    changed = {n for n in names if config.to_dict()[n] != default.to_dict()[n]}
    assert changed <= {*base.fields, *derived}


@pytest.mark.parametrize("name", [name for name in BASES if name.endswith("_tiny")])
def test_tiny_models_have_less_than_a_million_parameters(name: str, build: Any) -> None:
    model = build(name)
    assert 100_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_000_000


@pytest.mark.parametrize("name", ["segformer_tiny", "vit_tiny"])
def test_tiny_transformers_pass_on_what_comes_in(name: str, build: Any) -> None:
    """Each layer scales its input by about this; by 0.06 to 0.3 with the library's own spread."""
    layers = [module for module in build(name).net.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    scales = [float(layer.weight.detach().std()) * layer.weight[0].numel() ** 0.5 for layer in layers]
    assert len(scales) > 30 and min(scales) > 0.25
    wide = [scale for scale, layer in zip(scales, layers, strict=True) if isinstance(layer, nn.Linear)]
    assert 0.5 < min(wide) <= max(wide) < 1.7


def test_bases_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        BASES["dfine_tiny"].fields["d_model"] = 32  # type: ignore[index]
