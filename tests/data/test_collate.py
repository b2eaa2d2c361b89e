"""How samples become a batch."""

from __future__ import annotations

from drivetrain.data.collate import trivial_batch_collator


def test_the_list_itself() -> None:
    batch = [{"image": 1}, {"image": 2}]
    assert trivial_batch_collator(batch) is batch
