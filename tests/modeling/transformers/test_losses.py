"""Names, weights and precision of loss terms."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
import torch

from drivetrain.errors import ModelError
from drivetrain.modeling.transformers.losses import Float32, detection_weights, loss_terms


def test_terms_are_summed_by_kind_and_stage() -> None:
    values = {
        "loss_vfl": 1.0,
        "loss_vfl_aux_0": 2.0,
        "loss_vfl_aux_11": 4.0,
        "loss_vfl_dn_0": 8.0,
        "loss_vfl_dn_1": 16.0,
        "loss_fgl_aux_0": 32.0,
    }
    terms = loss_terms({name: torch.tensor(value) for name, value in values.items()})
    assert {name: term.item() for name, term in terms.items()} == {
        "loss_vfl": 1.0,
        "loss_vfl_aux": 6.0,
        "loss_vfl_dn": 24.0,
        "loss_fgl_aux": 32.0,
    }


def test_weights_apply_to_each_layer_and_what_has_none_is_no_loss() -> None:
    names = (
        "loss_ce",
        "loss_ce_0",
        "loss_ce_1",
        "loss_ce_enc",
        "loss_bbox",
        "cardinality_error",
        "cardinality_error_0",
    )
    terms = loss_terms({name: torch.ones(()) for name in names}, {"loss_ce": 2.0, "loss_bbox": 5.0})
    assert {name: term.item() for name, term in terms.items()} == {
        "loss_ce": 2.0,
        "loss_ce_aux": 6.0,
        "loss_bbox": 5.0,
    }


def test_kinds_of_several_words() -> None:
    names = ("loss_cross_entropy", "loss_cross_entropy_0", "loss_mask", "loss_mask_3")
    assert list(loss_terms({name: torch.ones(()) for name in names})) == [
        "loss_cross_entropy",
        "loss_cross_entropy_aux",
        "loss_mask",
        "loss_mask_aux",
    ]


def test_weights_of_the_librarys_losses() -> None:
    config = SimpleNamespace(bbox_loss_coefficient=5, giou_loss_coefficient=2)
    assert detection_weights("DFineForObjectDetection", config) is None
    assert detection_weights("ForObjectDetection", config) == {"loss_ce": 1, "loss_bbox": 5, "loss_giou": 2}
    config.class_loss_coefficient = 3
    assert detection_weights("RfDetrForObjectDetection", config) == {"loss_ce": 3, "loss_bbox": 5, "loss_giou": 2}
    with pytest.raises(ModelError, match="'GroundingDinoForObjectDetection' weights its terms"):
        detection_weights("GroundingDinoForObjectDetection", config)


def _describe(*args: object, **kwargs: object) -> tuple[object, object, bool]:
    return args, kwargs, torch.is_autocast_enabled("cpu")


def test_a_loss_in_float32() -> None:
    """Tensors of floats within lists, tuples and dicts; nothing else changes."""
    half, whole, other = torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.int64), object()
    wrapped = pickle.loads(pickle.dumps(Float32(_describe)))
    with torch.autocast("cpu", torch.bfloat16):
        args, kwargs, autocast = wrapped(half, [{"boxes": half, "labels": whole}], (half, None), config=other, aux=half)
    assert args[0].dtype == args[1][0]["boxes"].dtype == args[2][0].dtype == kwargs["aux"].dtype == torch.float32
    assert args[1][0]["labels"] is whole and args[2][1] is None and kwargs["config"] is other
    assert not autocast
