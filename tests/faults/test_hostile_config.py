"""Config files that want to run code, read elsewhere, or use up time and memory: one sentence and exit code 2 each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetrain.cli.main import main
from drivetrain.config import CfgNode
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import ConfigError

TOUCH = "touch canary"
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(12)
)
MERGES = "a: &a {k0: 1, k1: 2}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{','.join([f'*{chr(97 + i)}'] * 10)}]}}\n" for i in range(12)
)

# name -> (content of c.yaml, what the message says)
FILES: dict[str, tuple[str | bytes, str]] = {
    "object": (f"SEED: !!python/object/apply:os.system ['{TOUCH}']", "c.yaml:1: this is not plain YAML"),
    "object new": ("SEED: !!python/object/new:os.system [touch canary]", "c.yaml:1: this is not plain YAML"),
    "name": ("\nSEED: !!python/name:os.system", "c.yaml:2: this is not plain YAML"),
    "module": ("SEED: !!python/module:os", "c.yaml:1: this is not plain YAML"),
    "tuple tag": ("SEED: !!python/tuple [1]", "c.yaml:1: this is not plain YAML"),
    "own tag": ("%TAG ! tag:x,2000:\n---\nSEED: !foo 1", "c.yaml:3: this is not plain YAML"),
    "binary": ("OUTPUT_DIR: !!binary aGVsbG8=", "c.yaml:1: this is not plain YAML"),
    "timestamp": ("OUTPUT_DIR: !!timestamp xx", "c.yaml:1: this is not plain YAML"),
    "wrong int": ("SEED: !!int ''", "c.yaml:1: this is not plain YAML: '' cannot be read as int"),
    "wrong bool": ("SEED: !!bool xx", "c.yaml:1: this is not plain YAML: 'xx' cannot be read as bool"),
    "wrong map": ("SEED: !!map [1]", "c.yaml:1: this is not plain YAML"),
    "wrong literal": ("SEED: !!python-literal [1]", "c.yaml:1: this is not plain YAML"),
    "code in parentheses": (f"SEED: (__import__('os').system('{TOUCH}'))", "c.yaml:1: SEED must be int"),
    "laughs": (LAUGHS, "c.yaml: this YAML expands to more than"),
    "laughs by merging": (MERGES, "c.yaml: this YAML expands to more than"),
    "long text repeated": (f'A: &a "{"x" * 300_000}"\nB: [{"*a," * 50_000}]', "expands to more than"),
    "holds itself": ("DATASETS: &a {REGISTER: *a}", "c.yaml: this YAML expands to more than"),
    "flow of 10,000": ("A: " + "[" * 10_000, "c.yaml: this YAML is nested too deeply"),
    "maps of 200": ("DATASETS: {REGISTER: " + "{a: " * 200 + "1" + "}" * 201, "c.yaml: this YAML is nested too deeply"),
    "blocks of 300": (
        "DATASETS:\n REGISTER:\n" + "".join(" " * (i + 2) + "a:\n" for i in range(300)),
        "c.yaml: this YAML is nested too deeply",
    ),
    "dashes of 10,000": ("A:\n  " + "- " * 10_000, "c.yaml: this YAML is nested too deeply"),
    "long number": ("SEED: " + "9" * 6000, "c.yaml:1: this is not plain YAML"),
    "long hexadecimal number": ("SOLVER:\n  MAX_ITER: 0x" + "f" * 6000, "c.yaml:2: this is not plain YAML"),
    "long key": ("? " + "A" * 100_000 + "\n: 1", "AAAA... (= 1) is not a config key"),
    "long dotted key": ("? " + "A." * 50_000 + "BASE_LR\n: 1", "A.A.... (= 1) is not a config key"),
    "many unknown keys": ("".join(f"SOLVER_{i}: 1\n" for i in range(3000)), "and 2970 more"),
    "many duplicates": ("SEED: 1\n" * 3000, "c.yaml:2: SEED is given twice (first in line 1)"),
    "duplicate": ("SEED: 1\nSEED: 2", "c.yaml:2: SEED is given twice (first in line 1); keep one"),
    "key of numbers": ("1: 2", "c.yaml:1: 1 (= 2) is not a config key"),
    "key of nothing": ("null: 2", "c.yaml:1: None (= 2) is not a config key"),
    "key of a list": ("? [a, b]\n: 1", "c.yaml:1: this is not plain YAML: a key must be a plain word"),
    "merge of a number": ("<<: 1", "c.yaml:1: this is not plain YAML"),
    "undefined alias": ("SEED: *a", "c.yaml:1: this is not plain YAML: found undefined alias"),
    "dunder": ("__class__: 1\n__init__: 2", "c.yaml:1: __class__ (= 1) is not a config key"),
    "dunder inside": ("SOLVER: {__class__: {__init__: 1}}", "c.yaml:1: SOLVER.__class__ (="),
    "list": ("- 1", "c.yaml: a config file holds keys and values (SOLVER: ...), not [1]"),
    "word": ("hello", "c.yaml: a config file holds keys and values (SOLVER: ...), not 'hello'"),
    "number": ("3", "c.yaml: a config file holds keys and values (SOLVER: ...), not 3"),
    "two documents": ("SEED: 1\n---\nSEED: 2", "c.yaml:2: this is not plain YAML"),
    "NUL": (b"SEED: \x00", "c.yaml: this is not plain YAML"),
    "escaped NUL": ('\nOUTPUT_DIR: "a\\0b"', "c.yaml:2: this text holds '\\x00'"),
    "half a character": ('OUTPUT_DIR: "\\ud800"', "c.yaml:1: this text holds '\\ud800'"),
    "no UTF-8": (b"SEED: \xff\xfe", "config file c.yaml is not UTF-8 text (byte 6)"),
    "UTF-16": ("SEED: 1".encode("utf-16"), "config file c.yaml is not UTF-8 text (byte 0)"),
    "escapes": ('"\\e[31mK\\e[2J": "\\e]0;t\\a"', "c.yaml:1: '\\x1b[31mK\\x1b[2J' (= '\\x1b]0;t\\x07') is not"),
    "base by address": ("_BASE_: https://example.com/c.yaml", "c.yaml:1: _BASE_ must be a local file"),
    "base by file address": ("_BASE_: file:///etc/passwd", "c.yaml:1: _BASE_ must be a local file"),
    "base elsewhere": ("_BASE_: /etc/passwd", "/etc/passwd"),
    "base of parents": ("_BASE_: ../../../../../../../../etc/passwd", "etc/passwd"),
    "base without end": ("_BASE_: /dev/zero", "/dev/zero has more than"),
    "base of itself": ("_BASE_: c.yaml", "_BASE_ goes in a circle (c.yaml -> c.yaml)"),
    "bases in a circle": ("_BASE_: circle.yaml", "_BASE_ goes in a circle (c.yaml -> circle.yaml -> c.yaml)"),
    "links in a circle": ("_BASE_: link.yaml", "c.yaml:1: _BASE_: config file link.yaml cannot be read"),
    "missing base": ("SEED: 1\n_BASE_: no.yaml", "c.yaml:2: _BASE_: config file no.yaml does not exist"),
    "folder as base": ("_BASE_: folder", "c.yaml:1: _BASE_: config file folder is a folder"),
    "long base": ("_BASE_: " + "a" * 5000, "c.yaml:1: _BASE_ must be a file name, received 'aaaa"),
    "escapes in a base": ('_BASE_: "\\e[31m"', "c.yaml:1: _BASE_ must be a file name, received '\\x1b[31m'"),
    "number as base": ("_BASE_: 3", "c.yaml:1: _BASE_ must be a file name or a list of them, received 3"),
    "bases without end": ("_BASE_: [fan0.yaml, fan0.yaml, fan0.yaml]", "_BASE_ leads to more than 100 files"),
    "deep bases": ("_BASE_: deep0.yaml", "_BASE_ leads to more than 100 files"),
}

OVERRIDES: dict[str, tuple[str, str]] = {
    "code": (f"SOLVER.BASE_LR=__import__('os').system('{TOUCH}')", "SOLVER.BASE_LR must be float"),
    "tag": (f"SEED=!!python/object/apply:os.system ['{TOUCH}']", "SEED must be int"),
    "dunder": ("__class__.__init__=1", "__class__.__init__ (= '1') is not a config key"),
    "dunder of a section": ("SOLVER.__class__=1", "SOLVER.__class__ (= '1') is not a config key"),
    "dunder in a free section": ("DATASETS.REGISTER.__init__.__globals__=1", "__init__"),
    "method": ("SOLVER.merge_from_file=/etc/passwd", "SOLVER.merge_from_file (= '/etc/passwd') is not a config key"),
    "deep key": ("DATASETS.REGISTER." + "a." * 10_000 + "b=1", "has more than 40 parts"),
    "deep value": ("SOLVER=" + "{a: " * 100 + "1" + "}" * 100, "SOLVER must be a section"),
    "signs": ("SOLVER.BASE_LR=" + "-" * 100_000 + "1", "SOLVER.BASE_LR must be float"),
    "sums": ("SOLVER.BASE_LR=" + "1+" * 100_000 + "1", "SOLVER.BASE_LR must be float"),
    "long number": ("SEED=0x" + "f" * 6000, "SEED must be int"),
    "power": ("SEED=9**9**9**9", "SEED must be int"),
    "laughs": ("SEED={" + LAUGHS.replace("\n", ", ") + "}", "SEED must be int"),
    "escapes": ("SEED\x1b[31m=1", "'SEED\\x1b[31m' (= '1') is not a config key"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with other config files beside it."""
    inside = tmp_path / "inside"
    (inside / "folder").mkdir(parents=True)
    (inside / "circle.yaml").write_text("_BASE_: c.yaml")
    (inside / "link.yaml").symlink_to("link.yaml")
    for i in range(12):
        (inside / f"fan{i}.yaml").write_text(
            f"_BASE_: [{', '.join([f'fan{i + 1}.yaml'] * 3)}]" if i < 11 else "SEED: 1"
        )
    for i in range(150):
        (inside / f"deep{i}.yaml").write_text(f"_BASE_: deep{i + 1}.yaml" if i < 149 else "SEED: 1")
    monkeypatch.chdir(inside)
    return inside


def refused(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """Run the command: exit code 2, a short message without a raw control character, and nothing new on the disk."""
    before = sorted(folder.parent.rglob("*"))
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert part in message
    assert message.startswith(f"drivetrain {arguments[0]}: error: ")
    assert len(message) < 4000
    assert all(c.isprintable() or c == "\n" for c in message)
    assert "Traceback" not in message
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, part = FILES[name]
    (folder / "c.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    refused(["config", "--config-file", "c.yaml"], part, capsys, folder)


@pytest.mark.parametrize("name", ["object", "laughs", "maps of 200", "dunder", "base by address", "no UTF-8", "list"])
def test_files_given_to_a_training(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, part = FILES[name]
    (folder / "c.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    refused(["train", "--config-file", "c.yaml", "OUTPUT_DIR=out"], part, capsys, folder)


@pytest.mark.parametrize("name", OVERRIDES)
def test_overrides(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    override, part = OVERRIDES[name]
    if name == "dunder in a free section":  # where any key may be: it is data, and nothing else
        assert main(["config", override]) == 0
        assert part in capsys.readouterr().out
    else:
        refused(["config", override], part, capsys, folder)


@pytest.mark.parametrize("key", ["__class__", "__dict__", "__getattr__", "_frozen", "_schema", "freeze", "items"])
def test_a_key_named_like_a_part_of_the_node_is_an_item_and_nothing_else(key: str) -> None:
    cfg = get_cfg()
    setattr(cfg, key, 3)
    cfg.DATASETS.REGISTER[key] = 4
    assert type(cfg) is type(get_cfg()) and cfg[key] == 3
    cfg.freeze()
    assert cfg.is_frozen() and dict(cfg.DATASETS.REGISTER.items()) == {key: 4}
    with pytest.raises(ConfigError, match="frozen"):
        cfg.SEED = 1
    assert CfgNode.load_cfg(cfg.dump())[key] == 3


def test_anchors_and_merge_keys_are_no_mistake() -> None:
    text = "X: &x {BASE_LR: 0.5, MOMENTUM: 0.25}\nSOLVER: {<<: *x, MOMENTUM: 0.75}\n"
    cfg = CfgNode.load_cfg(text)
    assert cfg.SOLVER == {"BASE_LR": 0.5, "MOMENTUM": 0.75}


_BOUNDED = """
import resource, sys
from drivetrain.cli.main import main
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
codes = [main(["config", "--config-file", name]) for name in sys.argv[1:]]
assert codes == [2] * len(codes), codes
print("grew by MiB:", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in the units of Linux")
def test_time_and_memory_are_bounded(folder: Path) -> None:
    many = "".join(f"SOLVER{i}: 1\n" for i in range(25_000))
    big: dict[str, Callable[[], Any]] = {
        "hundred.yaml": lambda: _sparse(folder / "hundred.yaml", 100 << 20),
        "text.yaml": lambda: (folder / "text.yaml").write_text("A: " + "x" * (2 << 20)),
        "many.yaml": lambda: (folder / "many.yaml").write_text(many),
        "laughs.yaml": lambda: (folder / "laughs.yaml").write_text(LAUGHS),
        "brackets.yaml": lambda: (folder / "brackets.yaml").write_text("[" * 1_000_000),
    }
    for make in big.values():
        make()
    command = [sys.executable, "-c", _BOUNDED, *big, "/dev/zero"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) < 500


def _sparse(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)
