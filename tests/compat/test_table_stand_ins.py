"""The table's part for names that can be imported and not used."""

from __future__ import annotations

from drivetrain.compat import stand_ins
from drivetrain.compat.importer import resolve
from drivetrain.compat.table_stand_ins import STAND_IN_NAMES, STAND_INS


def test_every_one_has_a_reason_and_is_what_stands_for_it() -> None:
    for path, reason in STAND_INS.items():
        module, _, name = path.rpartition(".")
        assert resolve(STAND_IN_NAMES[module][name]) is getattr(stand_ins, name)
        assert reason and not reason.endswith(".") and ". " not in reason
    assert {path.rpartition(".")[2] for path in STAND_INS} == set(stand_ins.__all__)
    assert sum(map(len, STAND_IN_NAMES.values())) == len(STAND_INS)
