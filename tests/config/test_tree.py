"""Nodes as data: attributes, freezing, copies."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest

from drivetrain.config.tree import Tree
from drivetrain.errors import ConfigError, UnknownKeyError


def make() -> Tree:
    return Tree({"A": 1, "S": {"B": [1, 2], "T": {"C": "x"}}})


def test_keys_are_attributes_and_items_of_a_dict() -> None:
    node = make()
    assert isinstance(node, dict)
    assert node.A == node["A"] == 1
    assert node.S.T.C == "x"
    assert type(node.S) is Tree and type(node["S"]["T"]) is Tree
    assert next(iter(node.items())) == ("A", 1)
    assert node == {"A": 1, "S": {"B": [1, 2], "T": {"C": "x"}}}
    assert json.loads(json.dumps(node)) == node


def test_attributes_and_items_never_disagree() -> None:
    node = make()
    node.A = 2
    node["N"] = 3
    node.update({"U": 4}, V=5)
    node |= {"W": 6}
    assert node.setdefault("A", 9) == 2
    assert node.setdefault("X", 7) == 7
    assert node.pop("U") == 4 and node.pop("U", "gone") == "gone"
    del node.V
    del node["W"]
    assert node.popitem() == ("X", 7)
    assert {key: getattr(node, key) for key in node} == dict(node)
    for gone in "UVWX":
        assert not hasattr(node, gone)
    node.clear()
    assert not node and not hasattr(node, "A")


def test_a_key_named_like_a_method_is_an_item_only() -> None:
    node = Tree({"items": 1, "clone": 2})
    assert node["items"] == 1
    assert sorted(dict(node.items())) == ["clone", "items"]
    assert node.clone() == node


def test_reading_attributes_takes_no_python_code() -> None:
    node = make()
    called: list[str] = []
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        value = node.S.T.C
    finally:
        sys.setprofile(None)
    assert value == "x"
    assert called == []


def test_unknown_keys_name_the_full_key_and_close_ones() -> None:
    node = Tree({"SOLVER": {"BASE_LR": 0.1}})
    for read in (lambda: node.SOLVER.BASE_LRR, lambda: node.SOLVER["BASE_LRR"]):
        with pytest.raises(UnknownKeyError) as error:
            read()
        assert str(error.value) == "SOLVER.BASE_LRR is not a key of this config; did you mean 'BASE_LR'?"
    assert not hasattr(node, "FOO")
    assert node.get("FOO") is None
    assert getattr(node, "FOO", 5) == 5


def test_assigned_dicts_become_nodes_and_others_stay() -> None:
    node = make()
    node.NEW = {"K": {"L": 1}}
    assert type(node.NEW.K) is Tree
    node.BY_ID = {1: "cat"}
    assert type(node.BY_ID) is dict
    with pytest.raises(ConfigError, match="keys are text"):
        node[3] = 4  # type: ignore[index]


CHANGES: list[Callable[[Tree], Any]] = [
    lambda n: setattr(n, "A", 2),
    lambda n: n.__setitem__("A", 2),
    lambda n: setattr(n.S.T, "C", 2),
    lambda n: setattr(n, "NEW", 2),
    lambda n: n.update(A=2),
    lambda n: n.__ior__({"A": 2}),
    lambda n: n.setdefault("NEW", 2),
    lambda n: n.pop("A"),
    lambda n: n.popitem(),
    lambda n: n.clear(),
    lambda n: n.__delitem__("A"),
    lambda n: delattr(n, "A"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_frozen_node_refuses_every_change(change: Callable[[Tree], Any]) -> None:
    node = make()
    node.freeze()
    assert node.is_frozen() and node.S.T.is_frozen()
    with pytest.raises(ConfigError, match="frozen; call defrost"):
        change(node)
    assert node == make()
    node.defrost()
    change(node)
    assert node != make()


def test_the_frozen_error_names_the_full_key() -> None:
    node = make()
    node.freeze()
    with pytest.raises(ConfigError) as error:
        node.S.T.C = 5
    assert str(error.value) == "S.T.C cannot be set to 5: the config is frozen; call defrost() on it first"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n)), Tree.clone])
def test_deep_copies_are_equal_independent_and_keep_their_state(duplicate: Callable[[Tree], Tree]) -> None:
    node = make()
    node.set_new_allowed(True)
    node.freeze()
    twin = duplicate(node)
    assert twin == node and type(twin) is Tree and type(twin.S.T) is Tree
    assert twin.is_frozen() and twin.S.is_new_allowed()
    twin.defrost()
    twin.S.T.C = "changed"
    twin.S.B.append(3)
    assert node == make()
    with pytest.raises(UnknownKeyError, match=r"S\.T\.D is not"):
        _ = twin.S.T.D


def test_a_shallow_copy_shares_what_is_below() -> None:
    node = make()
    twin = node.copy()
    twin.A = 5
    assert node.A == 1
    assert twin.S is node.S


def test_new_allowed_is_set_for_all_nodes() -> None:
    node = make()
    assert not node.is_new_allowed()
    node.set_new_allowed(True)
    assert node.S.T.is_new_allowed()
    assert Tree(new_allowed=True).is_new_allowed()


def test_leaves_lists_paths() -> None:
    node = make()
    node.E = {}
    assert list(node.leaves()) == [(("A",), 1), (("S", "B"), [1, 2]), (("S", "T", "C"), "x"), (("E",), {})]
