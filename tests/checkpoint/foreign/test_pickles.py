"""Reading pickles without pickle."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.checkpoint.foreign.pickles import read_pickle
from drivetrain.errors import CheckpointError, CorruptCheckpointError

ARRAYS = {
    "f4": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(4, dtype=">f4"),
    "half": np.ones(3, dtype=np.float16),
    "int": np.array([1, -2], dtype=np.int64),
    "flag": np.array([True, False]),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "scalar": np.float32(2.5),
    "none": np.array(7.0),
}
PLAIN = {"model": ARRAYS, "__author__": "somebody ü", "n": [1, -2, 2**70, 1.5, True, None, b"ab", ("x",)], "e": {}}


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in theirs)
    if isinstance(theirs, (np.ndarray, np.generic)):
        return ours.dtype == theirs.dtype and ours.shape == theirs.shape and np.array_equal(ours, theirs)
    return type(ours) is type(theirs) and ours == theirs


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_read_as_pickle_reads_it(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(PLAIN, protocol))
    assert same(read_pickle(path), PLAIN)
    path.write_bytes(pickle.dumps(OrderedDict(PLAIN), protocol))
    assert same(read_pickle(path), PLAIN)


def test_pickles_of_python_2_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    raw = np.array([1.0, 2.0], dtype=np.float32).tobytes()
    path.write_bytes(  # {"w": array}, as Python 2 wrote it: names of old modules, bytes as text
        b"\x80\x02}q\x00U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(raw)]) + raw + b"tbs."
    )
    assert same(read_pickle(path), {"w": np.array([1.0, 2.0], dtype=np.float32)})


class Command:
    """What a hostile pickle has: a call at loading."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> Any:
        return self.parts


def hostile(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}"
    objects = np.array([Command(os.system, command)], dtype=object)
    return {
        "a command": pickle.dumps(Command(os.system, command)),
        "eval": pickle.dumps({"model": Command(eval, f"open({str(marker)!r}, 'w')")}),
        "within the weights": pickle.dumps({"model": {"w": Command(os.system, command)}}),
        "an array of objects": pickle.dumps({"model": {"w": objects}}),
        "an old protocol": f"cos\nsystem\n(S'{command}'\ntR.".encode(),
        "an instance": f"(S'{command}'\nios\nsystem\n.".encode(),
        "names on the stack": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c"
        + bytes([len(command)])
        + command.encode()
        + b"\x85R.",
        "a name within numpy": b"cnumpy.f2py.capi_maps\nload_f2cmap_file\n(S'x'\ntR.",
        "a loader within numpy": pickle.dumps(Command(np.load, str(marker))),
        "torch": pickle.dumps({"model": {"w": torch.ones(2)}}),
        "a call of text": b"S'x'\n(tR.",
        "a state for a name": b"cnumpy\ndtype\n}S'call'\nS'x'\nsb.",
        "an extension": b"\x82\x01.",
        "a persistent id": b"Px\n.",
        "a class": b"\x80\x02cos\nsystem\n)\x81.",
        "a list as a key": b"}]K\x01s.",
    }


@pytest.mark.parametrize("kind", hostile(Path("/nowhere")))
def test_hostile_files_are_refused_and_run_nothing(tmp_path: Path, kind: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / "a.pkl"
    path.write_bytes(hostile(marker)[kind])
    with pytest.raises(CheckpointError, match=r"a\.pkl"):
        read_pickle(path)
    assert not marker.exists()


def test_the_attack_works_on_pickle_itself(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(hostile(marker)["within the weights"])
    assert marker.exists()


def nested(levels: int, pair: bytes) -> bytes:
    """Values that double at each level."""
    out = io.BytesIO()
    out.write(b"\x80\x02K\x01")
    for level in range(levels):
        out.write(b"q" + bytes([level]) + b"h" + bytes([level]) + pair)
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        nested(49, b"\x86") + b".",  # 2^49 values
        b"}" + nested(40, b"\x86")[2:] + b"K\x01s.",  # the same as a key, whose hash never ends
        b"(" * 100_000 + b"l" * 100_000 + b".",  # deep
        b"]q\x00h\x00a.",  # a list in itself
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",  # bytes that are not there
        b"\x80\x02K\x01r\xff\xff\xff\xff.",  # a place far out in the memory
        pickle.dumps({"w": ARRAYS["f4"]}, 2).replace(b"K\x02K\x03K\x04\x87", b"J\xff\xff\xff\x7fK\x03K\x04\x87"),
    ],
    ids=["values", "hash", "deep", "circle", "length", "memory", "shape"],
)
def test_bombs_end_at_once(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    start = time.process_time()
    with contextlib.suppress(CheckpointError):
        found = read_pickle(path)
        assert found is None or isinstance(
            found, (dict, list, tuple, set, frozenset, str, bytes, int, float, np.ndarray)
        )
    assert time.process_time() - start < 3


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    whole = pickle.dumps(PLAIN, 4)
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(CorruptCheckpointError, match=r"a\.pkl is no pickle of weights, or is truncated"):
            read_pickle(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_pickle(tmp_path)


@given(st.binary(max_size=60), st.integers(0, 400))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_values_or_a_checkpoint_error(tmp_path: Path, noise: bytes, at: int) -> None:
    whole = pickle.dumps({"w": ARRAYS["f4"], "x": [1, 2.5, "t"]}, 2)
    path = tmp_path / "a.pkl"
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    with contextlib.suppress(CheckpointError):
        found = read_pickle(path)
        assert found is None or isinstance(
            found, (dict, list, tuple, set, frozenset, str, bytes, int, float, np.ndarray)
        )
