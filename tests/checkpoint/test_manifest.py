from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.checkpoint.manifest import Entry, Manifest
from drivetrain.errors import CheckpointError, CorruptCheckpointError

DIGEST = "ab" * 32


def entry(file: str, *roles: str, **kwargs) -> Entry:
    return Entry(file, 10, DIGEST, roles=roles, **kwargs)


SETTINGS = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
names = st.sampled_from(["a.pth", "model_0000009.pth", "model_best.pth"])
entries = st.builds(
    Entry,
    file=names,
    bytes=st.integers(0, 2**40),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    roles=st.lists(st.sampled_from(["last", "best", "final", "ema"]), unique=True).map(tuple),
    iteration=st.none() | st.integers(-1, 10**9),
    metric=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False), max_size=2),
    time=st.text(max_size=5),
    versions=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    class_names=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    pending=st.booleans(),
    extra=st.dictionaries(st.sampled_from(["x_a", "x_b"]), st.integers(), max_size=2),
)


@SETTINGS
@given(st.lists(entries, max_size=4), st.dictionaries(st.sampled_from(["x_a", "x_b"]), st.none()))
def test_reading_what_was_written_gives_the_same(items, extra):
    manifest = Manifest(tuple(items), extra)
    assert Manifest.parse(manifest.to_text()) == manifest


def test_class_names_that_all_share_are_written_once():
    names = tuple(f"class {i}" for i in range(80))
    manifest = Manifest(tuple(entry(f"{i}.pth", class_names=names if i else ("other",)) for i in range(100)))
    text = manifest.to_text()
    assert text.count("class 79") == 1 and len(text.splitlines()) == 100 + 4
    assert Manifest.parse(text) == manifest
    old = {"checkpoints": [{"file": "a.pth", "bytes": 1, "sha256": DIGEST, "class_names": ["a"]}]}
    assert Manifest.parse(json.dumps(old)).entries[0].class_names == ("a",)


@SETTINGS
@given(st.lists(entries, min_size=1, max_size=6))
def test_after_any_commits_each_role_and_each_file_is_there_once(items):
    manifest = Manifest()
    for item in items:
        manifest = manifest.announce(item)
        manifest = manifest.commit(item)
    roles = [role for e in manifest.entries for role in e.roles]
    assert len(roles) == len(set(roles))
    files = [e.file for e in manifest.entries]
    assert len(files) == len(set(files))
    assert not any(e.pending for e in manifest.entries)
    for role in items[-1].roles:
        assert manifest.role(role).file == items[-1].file


def test_announcing_keeps_the_old_entry_and_its_roles():
    manifest = Manifest((entry("a.pth", "best"),)).announce(entry("a.pth", "best", "last"))
    assert [e.roles for e in manifest.find("a.pth")] == [("best",), ()]
    assert manifest.find("a.pth")[1].pending


def test_a_replaced_file_keeps_roles_that_nobody_claims():
    manifest = Manifest((entry("a.pth", "last"),)).commit(entry("a.pth", "best"))
    assert set(manifest.entries[0].roles) == {"best", "last"}


def test_what_another_process_announces_after_it_stays():
    own, other = (replace(entry("a.pth"), sha256=digit * 64) for digit in "12")
    both = Manifest((entry("a.pth", "best"),)).announce(own).announce(other)
    assert [(e.sha256[0], e.pending, e.roles) for e in both.commit(own).entries] == [
        ("2", True, ()),
        ("1", False, ("best",)),
    ]
    assert [(e.sha256[0], e.pending) for e in both.commit(other).entries] == [("2", False)]
    assert [e.sha256[0] for e in both.commit(other).commit(own).entries] == ["2", "1"]  # either may be in place


def test_a_metric_that_is_not_finite_is_written_as_valid_json():
    text = Manifest((entry("a.pth", metric={"AP": math.nan}),)).to_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert math.isnan(Manifest.parse(text).entries[0].metric["AP"])


def test_without_removes_only_what_is_named():
    manifest = Manifest((entry("a.pth"), entry("b.pth")))
    assert [e.file for e in manifest.without({"a.pth"}).entries] == ["b.pth"]
    assert manifest.role("last") is None


GOOD = {"file": "a.pth", "bytes": 1, "sha256": DIGEST}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"checkpoints": 3}',
        '{"checkpoints": [3]}',
        "[" * 100_000,
        json.dumps({"checkpoints": [{"file": "a.pth"}]}),
        *(
            json.dumps({"checkpoints": [{**GOOD, key: value}]})
            for key, value in [
                ("sha256", "xyz"),
                ("bytes", -1),
                ("bytes", True),
                ("roles", "last"),
                ("iteration", 1.5),
                ("metric", {"a": "b"}),
                ("metric", 3),
                ("class_names", [1]),
                ("versions", []),
                ("pending", 1),
            ]
        ),
    ],
)
def test_what_is_no_manifest_is_corrupt(text):
    with pytest.raises(CorruptCheckpointError, match=r"here\.json"):
        Manifest.parse(text, "here.json")


@pytest.mark.parametrize("name", ["../a.pth", "/etc/passwd", "a/b.pth", "", None, 3])
def test_names_out_of_the_folder_are_refused(name):
    with pytest.raises(CheckpointError, match="not a plain file name"):
        Manifest.parse(json.dumps({"checkpoints": [{**GOOD, "file": name}]}))
