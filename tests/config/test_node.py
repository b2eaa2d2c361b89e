"""CfgNode as its users know it."""

# ruff: noqa: RUF009 - option() and section() make dataclass fields
from __future__ import annotations

import copy
import io
import pickle
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.config import CfgNode, load_yaml_with_base, option, section
from drivetrain.errors import ConfigError, UnknownKeyError


@dataclass(frozen=True)
class Sub:
    """Sub."""

    RATE: float = option(0.1, "A rate.", min=0)
    STEPS: tuple[int, ...] = option((3,), "Steps.")
    LENGTH: int | str = option(5, "A length.")


@dataclass(frozen=True)
class Root:
    """Root."""

    NAME: str = option("net", "A name.")
    KIND: Literal["a", "b"] = option("a", "Which kind.")
    DECAY: float | None = option(None, "A decay.")
    SIZES: list[list[float]] = option([], "Sizes.")
    FREE: dict[str, Any] = option({}, "Anything.")
    SUB: Sub = section(Sub)


def make() -> CfgNode:
    return CfgNode.from_schema(Root)


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=15)
names = st.text("abcXYZ_09.- é\n", min_size=1, max_size=8)
finite = st.floats(allow_nan=False)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | text, lambda inner: st.lists(inner, max_size=3), max_leaves=8
)
values = st.fixed_dictionaries(
    {
        "NAME": text,
        "KIND": st.sampled_from(["a", "b"]),
        "DECAY": st.none() | finite,
        "SIZES": st.lists(st.lists(finite, max_size=2), max_size=2),
        "FREE": st.dictionaries(names, st.dictionaries(names, anything, max_size=3) | anything, max_size=3),
        "SUB": st.fixed_dictionaries(
            {
                "RATE": st.floats(min_value=0, allow_nan=False),
                "STEPS": st.lists(st.integers(), max_size=3).map(tuple),
                "LENGTH": st.integers() | text,
            }
        ),
    }
)


@given(values)
def test_a_dump_loads_back_to_the_same_config(data: dict[str, Any]) -> None:
    cfg = make()
    cfg.merge_from_other_cfg(data)
    assert cfg == data
    back = make()
    back.merge_from_other_cfg(CfgNode.load_cfg(cfg.dump()))
    assert back == cfg
    assert type(back.SUB.STEPS) is tuple
    assert back.dump() == cfg.dump()


def test_a_dumped_file_merges(tmp_path: Path) -> None:
    cfg = make()
    cfg.merge_from_list(["NAME", "é 中", "SUB.RATE", "1e-05", "FREE.x", "None"])
    (tmp_path / "config.yaml").write_text(cfg.dump(), encoding="utf-8")
    back = make()
    back.merge_from_file(str(tmp_path / "config.yaml"), allow_unsafe=True)
    assert back == cfg
    assert load_yaml_with_base(tmp_path / "config.yaml")["SUB"]["STEPS"] == [3]
    assert CfgNode.load_yaml_with_base(tmp_path / "config.yaml")["NAME"] == "é 中"


def test_dump_takes_what_has_a_plain_form_and_names_the_key_of_what_has_none() -> None:
    class Mode(IntEnum):
        XYXY = 0

    cfg = make()
    cfg.NAME = Path("a/b")
    cfg.SUB.RATE = np.float32(0.5)
    cfg.FREE = {"mode": Mode.XYXY, "array": np.arange(3), "tuple": (1, (2,)), "ids": {1: "cat"}}
    loaded = CfgNode.load_cfg(cfg.dump())
    assert (loaded.NAME, loaded.SUB.RATE) == ("a/b", 0.5)
    assert loaded.FREE == {"mode": 0, "array": [0, 1, 2], "tuple": [1, [2]], "ids": {1: "cat"}}
    cfg.FREE.bad = [object()]
    with pytest.raises(ConfigError, match=r"FREE.bad.0 holds <object object at .*cannot be written"):
        cfg.dump()
    assert "<object object" in repr(cfg)


def test_the_repr_is_readable_and_the_whole() -> None:
    assert repr(make()) == (
        "NAME: net\nKIND: a\nDECAY: null\nSIZES: []\nFREE: {}\nSUB:\n  RATE: 0.1\n  STEPS: [3]\n  LENGTH: 5"
    )
    assert str(make().SUB.STEPS) == "(3,)"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c)), CfgNode.clone])
def test_copies_keep_the_schema(duplicate: Any) -> None:
    twin = duplicate(make())
    assert twin == make()
    assert type(twin) is CfgNode and type(twin.SUB) is CfgNode
    with pytest.raises(ConfigError, match=r"SUB.RATE must be at least 0"):
        twin.merge_from_list(["SUB.RATE", "-1"])
    assert list(twin.describe()) == list(make().describe())


def test_describe_lists_every_declared_key() -> None:
    described = {info.key: info for info in make().describe()}
    assert list(described) == ["NAME", "KIND", "DECAY", "SIZES", "FREE", "SUB.RATE", "SUB.STEPS", "SUB.LENGTH"]
    assert described["SUB.LENGTH"] == ("SUB.LENGTH", "int or str", 5, "A length.")
    assert described["KIND"].type_text == "one of 'a', 'b'"
    assert [info.key for info in make().SUB.describe()] == ["SUB.RATE", "SUB.STEPS", "SUB.LENGTH"]
    assert list(CfgNode({"A": 1}).describe()) == []


def test_assignment_is_permissive_and_validate_is_not() -> None:
    cfg = make()
    cfg.SUB.STEPS = 7
    cfg.SUB.RATE = 1
    cfg.NEW = CfgNode()
    cfg.NEW.ANY = object
    cfg.SUB.VAL = "mine"
    cfg.validate()
    assert cfg.SUB.STEPS == 7
    tidy = cfg.normalized()
    assert tidy.SUB.STEPS == (7,) and type(tidy.SUB.RATE) is float
    assert tidy.SUB.VAL == "mine"
    cfg.SUB.RATE = "fast"
    cfg.KIND = "c"
    cfg.SUB.LENGTH = 1.5
    del cfg.NAME
    with pytest.raises(ConfigError) as error:
        cfg.validate()
    assert str(error.value).splitlines()[1:] == [
        "  NAME was removed from the config; set it again or leave it at its default",
        "  KIND must be one of 'a', 'b', received 'c'",
        "  SUB.RATE must be float, received 'fast'",
        "  SUB.LENGTH must be int or str, received 1.5",
    ]


def test_a_section_that_was_replaced_is_still_checked() -> None:
    cfg = make()
    cfg.SUB = CfgNode({"RATE": "x", "STEPS": (), "LENGTH": 1})
    with pytest.raises(ConfigError, match=r"^SUB.RATE must be float, received 'x'$"):
        cfg.validate()
    cfg.SUB = {"RATE": 0.5, "STEPS": (), "LENGTH": 1}
    cfg.merge_from_list(["SUB.STEPS", "9"])
    assert cfg.SUB.STEPS == (9,)
    cfg.SUB = 3
    with pytest.raises(ConfigError, match="SUB must be a section with keys of its own, received 3"):
        cfg.validate()


def test_a_frozen_config_validates_and_normalizes_frozen() -> None:
    cfg = make()
    cfg.SUB.STEPS = [1, 2]
    cfg.freeze()
    cfg.validate()
    tidy = cfg.normalized()
    assert tidy.SUB.STEPS == (1, 2)
    assert tidy.is_frozen() and tidy.SUB.is_frozen()
    assert cfg.SUB.STEPS == [1, 2]


def test_a_free_dict_may_be_assigned_whole() -> None:
    cfg = make()
    cfg.FREE = CfgNode({"a": {"b": 1}})
    cfg.merge_from_list(["FREE.a.c", "2", "FREE.d", "3"])
    assert cfg.FREE == {"a": {"b": 1, "c": 2}, "d": 3}
    cfg.validate()
    assert make().FREE == {}


def test_load_cfg_from_text_and_file() -> None:
    assert CfgNode.load_cfg("A: {B: 1e-3}\nC: (1, 2)").A.B == 1e-3
    assert CfgNode.load_cfg(io.StringIO("A: 1")) == {"A": 1}
    with pytest.raises(UnknownKeyError):
        CfgNode.load_cfg("A: 1").merge_from_list(["B", "1"])
    with pytest.raises(ConfigError, match="text:2: A is given twice"):
        CfgNode.load_cfg("A: 1\nA: 2")
    with pytest.raises(ConfigError, match="holds keys and values"):
        CfgNode.load_cfg("[1]")


def test_subclasses_stay_themselves() -> None:
    class Mine(CfgNode):
        pass

    cfg = Mine.from_schema(Root)
    assert type(cfg.SUB) is Mine
    assert type(cfg.clone().SUB) is Mine
