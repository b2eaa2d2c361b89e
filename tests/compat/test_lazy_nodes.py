"""Nodes of lazy configs."""

from __future__ import annotations

import copy
import pickle

import pytest

from drivetrain.compat.lazy_nodes import LazyList, LazyNode, as_node
from drivetrain.errors import ConfigError, UnknownKeyError


def test_keys_are_attributes_and_dicts_become_nodes() -> None:
    cfg = LazyNode({"a": {"b": 1}}, c=[{"d": 2}])
    cfg.a.b = 3
    cfg.e = {"f": (1, 2)}
    assert cfg == {"a": {"b": 3}, "c": [{"d": 2}], "e": {"f": (1, 2)}}
    assert isinstance(cfg.e, LazyNode) and isinstance(cfg.c, LazyList) and cfg.c[0].d == 2 and type(cfg.e.f) is tuple
    del cfg.a
    assert "a" not in cfg and cfg.get("a", 7) == 7 and cfg.pop("c")[0].d == 2 and cfg.pop("c", 4) == 4
    with pytest.raises(UnknownKeyError, match="'ee' is not a key"):
        cfg.ee  # noqa: B018
    with pytest.raises(ConfigError, match="keys are text"):
        cfg[1] = 2  # type: ignore[index]


def test_references_are_followed_when_they_are_read() -> None:
    cfg = LazyNode(n=5, m={"n": "${n}", "k": {"up": "${..n}", "beside": "${.up}", "rows": [{"n": "${....n}"}]}})
    assert (cfg.m.n, cfg.m.k.up, cfg.m.k.beside, cfg.m.k.rows[0].n) == (5, 5, 5, 5)
    cfg.n = 6
    assert cfg.m.k.beside == 6 and dict(cfg.m.k.items())["up"] == 6
    assert dict(cfg.m.raw_items())["n"] == "${n}"
    cfg.m.loop = "${.loop}"
    for text, message in (("${.loop}", "itself"), ("${a.b}", "nothing"), ("${.......n}", "nothing")):
        cfg.m.loop = text
        with pytest.raises(ConfigError, match=message):
            cfg.m.loop  # noqa: B018
    assert LazyNode(a="cost: ${x}").a == "cost: ${x}"


def test_copies_stand_alone() -> None:
    cfg = as_node({"a": {"b": [1, {"c": 2}]}})
    for other in (copy.deepcopy(cfg), pickle.loads(pickle.dumps(cfg)), cfg.copy()):
        assert other == cfg and isinstance(other.a.b, LazyList)
        other.a.b[1].c = 9
        assert cfg.a.b[1].c == 2
    part = cfg.a
    two = LazyNode(first=part)  # has a place already
    two.first.b = 0
    assert cfg.a.b[0] == 1


def test_lists() -> None:
    values = LazyList([1])
    values.append({"a": 1})
    values.extend([2])
    values.insert(0, {"b": 2})
    values[1] = {"c": 3}
    assert values == [{"b": 2}, {"c": 3}, {"a": 1}, 2]
    assert all(isinstance(value, LazyNode) for value in values[:3])
