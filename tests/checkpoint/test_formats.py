from __future__ import annotations

import collections
import io
import os
import pickle
import random
import sys
import zipfile

import numpy as np
import pytest
import torch

from drivetrain.checkpoint import formats
from drivetrain.checkpoint.formats import check_whole, checkpoint_writer, model_state, read_checkpoint, storable
from drivetrain.errors import CheckpointError, CorruptCheckpointError


def save(path, data):
    with open(path, "wb") as handle:
        checkpoint_writer(data)(handle)
    return path


def test_everything_storable_survives_a_weights_only_load(tmp_path):
    state = torch.nn.BatchNorm1d(2).state_dict()
    data = {
        "model": state,
        "plain": [None, True, 3, 1.5, 2j, "text", b"bytes", (1, {2, 3}), {"k": {4: [torch.ones(2)]}}],
        "torch": [torch.Size([1, 2]), torch.float16, torch.device("cpu"), torch.nn.Parameter(torch.ones(1))],
        "numpy": {"a": np.float64(0.5), "b": [np.int64(7)], "c": (np.bool_(True),)},
        "count": collections.Counter(a=2),
    }
    loaded = torch.load(save(tmp_path / "x.pth", data), weights_only=True)
    assert loaded["plain"][:7] == data["plain"][:7]
    assert loaded["numpy"] == {"a": 0.5, "b": [7], "c": (True,)}
    assert [type(v) for v in (loaded["numpy"]["a"], loaded["numpy"]["b"][0])] == [float, int]
    assert loaded["torch"][:3] == data["torch"][:3]
    assert loaded["count"] == {"a": 2}
    assert loaded["model"]._metadata == state._metadata
    assert torch.equal(loaded["plain"][8]["k"][4][0], torch.ones(2))


def test_an_archive_with_a_compressed_record_is_not_read_as_it_lies(tmp_path):
    noise = torch.randint(0, 256, (1000,), dtype=torch.uint8)  # it does not shrink: what does is refused
    path = save(tmp_path / "x.pth", {"model": {"w": noise}})
    with zipfile.ZipFile(path) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content, zipfile.ZIP_DEFLATED if name.endswith("data/0") else None)
    assert torch.equal(read_checkpoint(path)["model"]["w"], noise)
    assert not torch.equal(torch.load(path, weights_only=True, mmap=True)["model"]["w"], noise)


class Own:
    pass


class OwnDict(dict):
    pass


@pytest.mark.parametrize(
    "value",
    [Own(), OwnDict(a=1), np.zeros(2), frozenset({1}), collections.defaultdict(int), range(3), print, Own, object()],
    ids=lambda value: type(value).__name__,
)
def test_what_would_not_load_is_refused_with_its_key(value):
    with pytest.raises(CheckpointError, match=r"hooks\['best'\]\[1\] is a "):
        storable({"best": [0, value]}, "hooks")


@pytest.mark.parametrize(
    ("value", "name"),
    [(np.datetime64("2020-01-01"), "datetime.date"), (np.longdouble(1), r"numpy.\w+"), (np.void(b"ab"), None)],
    ids=["datetime64", "longdouble", "void"],
)
def test_numpy_scalars_without_a_plain_value_are_refused(value, name):
    if name is None:
        assert storable(value, "k") == b"ab"
        return
    with pytest.raises(CheckpointError, match=f"k is a {name}, which a checkpoint cannot hold"):
        storable(value, "k")


def with_attribute(value, attribute):
    value.note = attribute
    return value


@pytest.mark.parametrize("make", [lambda: torch.ones(1), collections.OrderedDict], ids=["tensor", "OrderedDict"])
def test_attributes_that_are_saved_along_are_looked_at_too(tmp_path, make):
    path = save(tmp_path / "x.pth", {"a": with_attribute(make(), {"b": [1]})})
    assert torch.load(path, weights_only=True)["a"].note == {"b": [1]}
    for bad in (Own(), np.float64(1)):
        with pytest.raises(CheckpointError, match=r"k\[0\]\.note is a "):
            storable([with_attribute(make(), bad)], "k")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused():
    with pytest.raises(CheckpointError, match="k is a nested torch.Tensor"):
        storable(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "k")


@pytest.mark.parametrize("sign", [1, -1])
def test_integers_are_stored_as_long_as_they_can_be_read(tmp_path, sign):
    value = sign * ((1 << 2032) - 1)
    assert read_checkpoint(save(tmp_path / "x.pth", {"i": value})) == {"i": value}
    with pytest.raises(CheckpointError, match="i is an integer of 2033 bits"):
        save(tmp_path / "y.pth", {"i": value + sign})


def test_values_are_stored_as_deep_as_they_can_be_read(tmp_path):
    value = []
    for _ in range(98):
        value = [value]
    assert read_checkpoint(save(tmp_path / "x.pth", {"v": value})) == {"v": value}
    itself = []
    itself.append(itself)
    for bad in ([value], itself):
        with pytest.raises(CheckpointError, match=r"v\[0\].* is nested more than 100 deep, or in itself"):
            save(tmp_path / "y.pth", {"v": bad})
        torch.save({"v": bad}, tmp_path / "y.pth")  # by others
        with pytest.raises(CheckpointError, match="nested more than 100 deep or refer to each other without end"):
            read_checkpoint(tmp_path / "y.pth")


def test_a_large_file_may_have_many_values_and_a_small_one_few(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_MOST_VALUES", 100)
    many = save(tmp_path / "x.pth", {"seen": list(range(20_000))})
    assert read_checkpoint(many)["seen"][-1] == 19_999
    laughs = list(range(10))
    for _ in range(5):
        laughs = [laughs] * 10
    with pytest.raises(CheckpointError, match="refer to each other without end"):
        read_checkpoint(save(tmp_path / "y.pth", {"laughs": laughs}))


def test_a_file_that_cannot_be_mapped_is_read(tmp_path, monkeypatch):
    path = save(tmp_path / "x.pth", {"model": {"w": torch.ones(2)}})

    def no_device(*args, **kwargs):
        raise RuntimeError("unable to mmap 9 bytes from file <x.pth>: No such device (19)")

    monkeypatch.setattr(torch.UntypedStorage, "from_file", no_device)
    assert torch.equal(read_checkpoint(path)["model"]["w"], torch.ones(2))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_a_path_that_is_no_utf8_is_read(tmp_path):
    folder = tmp_path / os.fsdecode(b"Mod\xe8le")
    folder.mkdir()
    path = save(folder / "x.pth", {"model": {"w": torch.ones(2)}})
    assert torch.equal(read_checkpoint(path)["model"]["w"], torch.ones(2))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_the_system_cannot_read_is_not_called_damaged(tmp_path, monkeypatch, suffix):
    import safetensors.torch

    path = save(tmp_path / f"x{suffix}", {"model": {}})
    for module, name in ((torch, "load"), (safetensors.torch, "load_file")):
        monkeypatch.setattr(module, name, lambda *args, **kwargs: os.stat("/nowhere/x"))
    with pytest.raises(CheckpointError, match=r"x\.\w+ cannot be read \(No such file") as error:
        read_checkpoint(path)
    assert not isinstance(error.value, CorruptCheckpointError)


def test_an_unchanged_value_is_not_copied():
    value = {"a": [torch.ones(1)], "b": {"c": 1}}
    assert storable(value, "k") is value


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_hostile_files_are_refused_and_nothing_runs(tmp_path, kind):
    mark, path = tmp_path / "executed", tmp_path / "evil.pth"
    data = {"model": {"w": torch.ones(1)}, "x": Evil(mark)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"x": Evil(mark)}))
    else:
        torch.save(data, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointError, match=r"refused|not a checkpoint"):
        read_checkpoint(path)
    assert not mark.exists()
    with open(path, "rb") as handle:  # the file does carry the code: the control of this test
        torch.load(handle, weights_only=False) if kind != "pickle" else pickle.load(handle)
    assert mark.exists()


def good_bytes():
    buffer = io.BytesIO()
    torch.save({"model": torch.nn.Linear(30, 30).state_dict(), "iteration": 5}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_flip_and_truncation_is_detected_by_the_digest(tmp_path, count):
    import hashlib

    good, rng, path = good_bytes(), random.Random(7), tmp_path / "x.pth"
    digest = hashlib.sha256(good).hexdigest()
    path.write_bytes(good)
    check_whole(path, [digest])
    for i in range(count):
        bad = bytearray(good)
        if i % 4 == 3:
            bad = bad[: rng.randrange(len(bad))]
        else:
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        with pytest.raises(CorruptCheckpointError):
            check_whole(path, [digest])


def test_without_a_digest_a_flip_in_a_tensor_is_detected_by_the_archive(tmp_path):
    good, path = good_bytes(), tmp_path / "x.pth"
    at = good.index(torch.load(io.BytesIO(good), weights_only=True)["model"]["weight"].numpy().tobytes())
    for offset in range(0, 3000, 100):
        bad = bytearray(good)
        bad[at + offset] ^= 4
        path.write_bytes(bad)
        torch.load(path, weights_only=True)  # PyTorch does not notice: the control
        with pytest.raises(CorruptCheckpointError, match="checksum"):
            read_checkpoint(path)


def test_files_without_checksums_are_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": {"w": torch.ones(2)}}, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_checkpoint(tmp_path / "x.pth")["model"]["w"], torch.ones(2))


@pytest.mark.parametrize(
    "content",
    [b"hello world" * 20, b"PK\x03\x04 garbage" * 10, good_bytes()[:700], pickle.dumps([1])[:4], b"\x80\x02.", b"\x00"],
)
def test_garbage_is_one_sentence(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 400
    assert "weights_only" not in message  # no advice to switch safety off


def test_an_archive_without_tensors_is_corrupt(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("readme", "text")
    with pytest.raises(CorruptCheckpointError):
        read_checkpoint(tmp_path / "x.pth")


def test_what_is_not_there_or_not_read(tmp_path):
    (tmp_path / "empty.pth").touch()
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "model.pkl").write_bytes(b"x")
    cases = [
        (tmp_path / "none.pth", r"does not exist; the folder has empty\.pth, list\.pth"),
        (tmp_path / "no" / "none.pth", r"nor does the folder"),
        (tmp_path, "is a folder"),
        (tmp_path / "empty.pth", r"is empty"),
        (tmp_path / "list.pth", "holds a list"),
        (tmp_path / "model.pkl", "pickle"),
        ("https://example.org/model.pth", "nothing is downloaded"),
    ]
    for path, text in cases:
        with pytest.raises(CheckpointError, match=text) as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.arange(3.0)}, tmp_path / "x.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "x.safetensors")["model"]["w"], torch.arange(3.0))
    content = (tmp_path / "x.safetensors").read_bytes()
    for bad in (content[:-2], content[:5], b"junk" * 10):
        (tmp_path / "y.safetensors").write_bytes(bad)
        with pytest.raises(CorruptCheckpointError, match="safetensors"):
            read_checkpoint(tmp_path / "y.safetensors")


def test_model_state_is_found_in_all_layouts():
    w = {"a.w": torch.ones(1), "a.b": torch.ones(1)}
    wrapped = {f"module._orig_mod.{k}": v for k, v in w.items()}
    inner = {"a._orig_mod.w": w["a.w"], "a.b": w["a.b"]}
    for data in ({"model": w, "iteration": 3}, {"state_dict": w}, w, {"model": wrapped}, wrapped, inner):
        assert dict(model_state(data, "x")) == w
    kept = model_state({"module.a": torch.ones(1), "b": torch.ones(1)}, "x")
    assert list(kept) == ["module.a", "b"]  # a part that is called module, not a wrapper


def test_the_versions_of_modules_are_kept():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2))
    assert model_state({"model": model.state_dict()}, "x")._metadata == model.state_dict()._metadata
    wrapped = torch.nn.DataParallel(model).state_dict()
    assert model_state({"model": wrapped}, "x")._metadata["0"] == {"version": 2}


@pytest.mark.parametrize("data", [{}, {"iteration": 3}, {"model": {}}, {"model": 3}, {"a": torch.ones(1), "b": 2}])
def test_no_weights_is_an_error(data):
    with pytest.raises(CheckpointError, match=r"x\.pth holds no model weights"):
        model_state(data, "x.pth")
