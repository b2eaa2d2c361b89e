"""The hook list: what is called where, and how it follows changes."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.engine.hook_base import POINTS, HookBase, HookList


class Step(HookBase):
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def after_step(self) -> None:
        self.value += 1

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: Any) -> None:
        self.value = state["value"]


class Both(Step):
    def before_step(self) -> None:
        pass


def test_only_overridden_methods_are_listed() -> None:
    plain, step, both = HookBase(), Step(), Both()
    hooks = HookList([plain, step, both])
    assert hooks.after_step == [step.after_step, both.after_step]
    assert hooks.before_step == [both.before_step]
    assert all(getattr(hooks, point) == [] for point in POINTS if point not in ("after_step", "before_step"))


def test_a_method_set_on_the_instance_counts() -> None:
    hook = HookBase()
    hook.after_train = lambda: None  # type: ignore[method-assign]
    assert HookList([hook]).after_train == [hook.after_train]


class Ends(HookBase):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def after_train(self) -> None:
        raise self.error


def test_an_error_at_the_end_is_logged_and_an_orderly_exit_is_not(caplog: pytest.LogCaptureFixture) -> None:
    for error, logged in [(ValueError("x"), ["Exception in after_train of Ends:"]), (SystemExit(75), [])]:
        caplog.clear()
        later = Step()
        later.after_train = later.after_step  # type: ignore[method-assign]
        with pytest.raises(type(error)) as caught:
            HookList([Ends(error), later]).finish()
        assert caught.value is error and later.value == 1
        assert [r.getMessage() for r in caplog.records] == logged


@pytest.mark.parametrize(
    "change",
    [
        lambda hooks, hook: hooks.append(hook),
        lambda hooks, hook: hooks.insert(-1, hook),
        lambda hooks, hook: hooks.extend([hook]),
        lambda hooks, hook: hooks.__setitem__(slice(1, 1), [hook]),
        lambda hooks, hook: hooks.__iadd__([hook]),
    ],
)
def test_every_way_of_adding(change: Any) -> None:
    first, last, new = Step(), Step(), Step()
    hooks = HookList([first, last])
    change(hooks, new)
    assert hooks.after_step == [h.after_step for h in hooks]
    assert new.after_step in hooks.after_step


def test_every_way_of_removing_and_reordering() -> None:
    a, b, c = Step(1), Step(2), Step(3)
    hooks = HookList([a, b, c])
    hooks.reverse()
    assert hooks.after_step == [c.after_step, b.after_step, a.after_step]
    hooks.sort(key=lambda h: h.value)
    assert hooks.after_step[0] == a.after_step
    hooks.remove(b)
    hooks.pop()
    assert hooks.after_step == [a.after_step]
    del hooks[0]
    assert hooks.after_step == []


@given(
    kinds=st.lists(st.sampled_from([HookBase, Step, Both]), max_size=6),
    changes=st.lists(st.tuples(st.sampled_from(["insert", "pop", "swap", "reverse"]), st.integers(0, 7)), max_size=8),
)
def test_whatever_was_done_to_the_list_calls_come_in_its_order(kinds: Any, changes: Any) -> None:
    hooks = HookList([kind() for kind in kinds])
    for change, place in changes:
        if change == "insert":
            hooks.insert(place - 3, Both())
        elif change == "reverse":
            hooks.reverse()
        elif hooks:
            place %= len(hooks)
            if change == "pop":
                hooks.pop(place)
            else:
                hooks[place], hooks[0] = hooks[0], hooks[place]
    assert hooks.after_step == [h.after_step for h in hooks if isinstance(h, Step)]
    assert hooks.before_step == [h.before_step for h in hooks if isinstance(h, Both)]


def test_two_hooks_of_one_class_keep_their_own_state(caplog: pytest.LogCaptureFixture) -> None:
    states = HookList([Step(1), Both(5), Step(2), Step(3)]).state_dict()
    assert states == {"Step": {"value": 1}, "Both": {"value": 5}, "Step#2": {"value": 2}, "Step#3": {"value": 3}}
    restored = HookList([Step(), Step()])
    with caplog.at_level(logging.WARNING, logger="drivetrain"):
        restored.load_state_dict(states)
    assert [h.value for h in restored] == [1, 2]
    assert "Both, which is not registered" in caplog.text
    assert "Step#3, which is not registered" in caplog.text
