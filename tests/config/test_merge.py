"""Merging: all mistakes at once, and all or nothing."""

# ruff: noqa: RUF009 - option() and section() make dataclass fields
from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.config import CfgNode, option, section
from drivetrain.config.merge import Merge
from drivetrain.errors import ConfigError, UnknownKeyError


@dataclass(frozen=True)
class Inner:
    """Inner."""

    FLAG: bool = option(False, "A flag.")
    NAMES: tuple[str, ...] = option((), "Names.")


@dataclass(frozen=True)
class Root:
    """Root."""

    RATE: float = option(0.1, "A rate.", min=0)
    COUNT: int = option(1, "A count.", min=1)
    TEXT: str = option("", "Text.")
    FREE: dict[str, Any] = option({}, "Anything.")
    INNER: Inner = section(Inner)


def make() -> CfgNode:
    return CfgNode.from_schema(Root)


def test_pairs_and_equations_mix_and_values_may_be_typed_already() -> None:
    cfg = make()
    cfg.merge_from_list(["RATE", "-0e-4", "COUNT=3", "TEXT", "a=b", "INNER.NAMES", ["x"], "INNER.FLAG=True", "RATE", 2])
    assert (cfg.RATE, cfg.COUNT, cfg.TEXT, cfg.INNER.NAMES, cfg.INNER.FLAG) == (2.0, 3, "a=b", ("x",), True)
    assert type(cfg.RATE) is float


def test_a_key_of_very_many_parts_is_refused() -> None:
    cfg = make()
    cfg.merge_from_list([".".join(["FREE", *"a" * 39]), "1"])
    with pytest.raises(ConfigError, match="has more than 40 parts, which no key has"):
        cfg.merge_from_list([".".join(["FREE", *"b" * 40]), "1"])
    assert "b" not in cfg.FREE


def test_no_overrides_change_nothing() -> None:
    cfg = make()
    for nothing in ([], (), None):
        cfg.merge_from_list(nothing)
    assert cfg == make()


def test_free_dicts_take_any_key_and_merge_deeply() -> None:
    cfg = make()
    cfg.merge_from_list(["FREE.a.json", "x.json", "FREE.a.images=dir"])
    cfg.merge_from_other_cfg({"FREE": {"a": {"json": "y.json"}, "b": 1}})
    cfg.merge_from_list(["FREE", "{c: {d: 2}}"])
    assert cfg.FREE == {"a": {"json": "y.json", "images": "dir"}, "b": 1, "c": {"d": 2}}


def test_every_mistake_of_a_list_is_reported_and_nothing_changes() -> None:
    cfg = make()
    with pytest.raises(ConfigError) as error:
        cfg.merge_from_list(
            ["COUNT", "5", "COUNT=0", "RATE", "fast", "INNER=3", "FLAG", "1", 3, "INNER.FLAG.X", "1", "RATE.=2", "TEXT"]
        )
    assert str(error.value).splitlines() == [
        "8 mistakes in the config:",
        "  override COUNT must be at least 1, received 0",
        "  override RATE must be float, received 'fast'",
        "  override INNER must be a section with keys of its own, received 3",
        "  override FLAG (= '1') is not a config key; did you mean 'INNER.FLAG'?",
        "  override 3 is not a key; write KEY VALUE or KEY=VALUE",
        "  override INNER.FLAG.X (= '1') is not a config key; did you mean 'INNER.FLAG'?",
        "  override RATE.'' (= '2') is not a config key",
        "  override TEXT has no value after it",
    ]
    assert cfg == make()


def test_every_mistake_of_a_chain_of_files_has_its_place(tmp_path: Any) -> None:
    (tmp_path / "base.yaml").write_text("COUNT: 5\nRATE: fast\n")
    (tmp_path / "top.yaml").write_text(
        "_BASE_: base.yaml\nINNER:\n  FLAG: 3\n  NAME: [a]\nTEXT: 12\nFREE: {a: 1}\n7: x\nTEXT: ok\nINNER.FLAG: true\n"
    )
    cfg = make()
    with pytest.raises(ConfigError) as error:
        cfg.merge_from_file(tmp_path / "top.yaml")
    message = str(error.value)
    for part in (
        "base.yaml:2: RATE must be float, received 'fast'",
        "top.yaml:8: TEXT is given twice (first in line 5); keep one",
        "top.yaml:3: INNER.FLAG must be bool, received 3",
        "top.yaml:4: INNER.NAME (= ['a']) is not a config key; did you mean 'INNER.NAMES'?",
        "top.yaml:7: 7 (= 'x') is not a config key",
        "top.yaml:9: INNER.FLAG (= True) is not a config key",
    ):
        assert part in message
    assert message.startswith("6 mistakes")
    assert cfg == make()


def test_only_unknown_keys_raise_their_own_error() -> None:
    with pytest.raises(UnknownKeyError, match="override RAT"):
        make().merge_from_list(["RAT", "1"])
    with pytest.raises(UnknownKeyError, match=r"other config: INNER.X \(= 1\)"):
        make().merge_from_other_cfg({"INNER": {"X": 1}})


def test_keys_of_a_part_of_a_config_are_named_in_full() -> None:
    with pytest.raises(ConfigError, match=r"override INNER.FLAG must be bool, received 'x'"):
        make().INNER.merge_from_list(["FLAG", "x"])


def test_open_nodes_take_new_keys_and_references_to_nodes_stay_good() -> None:
    cfg = make()
    inner = cfg.INNER
    cfg.set_new_allowed(True)
    cfg.merge_from_list(["NEW.A.B", "(1, 2)", "INNER.FLAG", "true"])
    assert cfg.NEW.A.B == (1, 2)
    assert inner.FLAG is True
    assert type(cfg.NEW) is CfgNode


def test_undeclared_values_are_taken_as_they_come_but_sections_stay_sections() -> None:
    cfg = CfgNode({"STEPS": (1, 2), "RATE": 0.5, "NAME": "x", "SUB": {"A": None}})
    cfg.merge_from_list(["STEPS", "[3]", "RATE", "2", "NAME", "123", "SUB.A", "[1]"])
    assert cfg == {"STEPS": (3,), "RATE": 2.0, "NAME": "123", "SUB": {"A": [1]}}
    with pytest.raises(ConfigError, match="SUB must be a section with keys of its own, received 3"):
        cfg.merge_from_list(["SUB", "3"])


def test_a_section_with_nothing_under_it_changes_nothing(tmp_path: Any) -> None:
    (tmp_path / "f.yaml").write_text("INNER:\nFREE:\nCOUNT: 2\n")
    cfg = make()
    cfg.merge_from_file(tmp_path / "f.yaml")
    assert cfg.COUNT == 2 and cfg.INNER == make().INNER


def test_a_frozen_config_takes_no_merge() -> None:
    cfg = make()
    cfg.freeze()
    with pytest.raises(ConfigError, match="frozen config; call defrost"):
        cfg.merge_from_list(["COUNT", "2"])


def test_merged_values_are_not_shared_with_their_source() -> None:
    source = {"FREE": {"list": [1], "deep": {"x": [2]}}}
    cfg = make()
    cfg.merge_from_other_cfg(source)
    source["FREE"]["list"].append(9)  # type: ignore[attr-defined]
    cfg.FREE.deep.x.append(8)
    assert cfg.FREE.list == [1]
    assert source["FREE"]["deep"] == {"x": [2]}


def test_several_sources_are_one_merge() -> None:
    cfg = make()
    merge = Merge(cfg)
    merge.add_mapping({"COUNT": 2}, "first:")
    merge.add_mapping({"COUNT": 3}, "second:")
    assert cfg.COUNT == 1
    merge.commit()
    assert cfg.COUNT == 3


def _refuses(cfg: CfgNode, key: str, value: str) -> bool:
    try:
        cfg.merge_from_list([key, value])
    except ConfigError:
        return True
    return False


keys = st.sampled_from(
    ["RATE", "COUNT", "TEXT", "INNER.FLAG", "INNER.NAMES", "FREE.a", "FREE.b.c", "INNER", "NOPE", "A.B"]
)
texts = st.sampled_from(["1", "0", "-1", "x", "", "[1]", "(a", "None", "{a: 1}", "1e-3", "('a',)", "true"]) | st.text()


@given(st.lists(st.tuples(keys, texts), max_size=6))
def test_a_list_is_merged_whole_or_not_at_all(pairs: list[tuple[str, str]]) -> None:
    """Merging token by token finds the same end state, or the whole list is refused and nothing moves."""
    cfg, one_by_one, failed = make(), make(), False
    for key, value in pairs:
        failed = _refuses(one_by_one, key, value) or failed
    before = copy.deepcopy(cfg)
    tokens = [part for pair in pairs for part in pair]
    if failed:
        with pytest.raises(ConfigError):
            cfg.merge_from_list(tokens)
        assert cfg == before
    else:
        cfg.merge_from_list(tokens)
        assert cfg == one_by_one
    cfg.validate()
