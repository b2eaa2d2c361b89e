"""Checkpoints, manifests and saved batches that were made to do harm: nothing runs, and one sentence says why not."""

from __future__ import annotations

import json
import logging
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.checkpoint import Checkpointer, DetectionCheckpointer, Manifest
from drivetrain.checkpoint.files import file_digest
from drivetrain.cli.main import main
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import CheckpointError, CorruptCheckpointError
from drivetrain.testing import TinyModel

RED = "\x1b[31mred\x07\x1b[2J"
CANARY = "canary"


class Runs:
    """Calls ``function`` when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def config_text() -> str:
    """A config of a model that can be built."""
    cfg = get_cfg()
    cfg.MODEL.NAME, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DEVICE = "fcos_tiny", 2, "cpu"
    return str(cfg.dump())


def content(**changed: Any) -> dict[str, Any]:
    metadata = {"config": config_text(), "class_names": ["a", "b"], "channel_order": "RGB"}
    return {"model": {"weight": torch.ones(2)}, "metadata": metadata, **changed}


def metadata(**changed: Any) -> dict[str, Any]:
    good = content()
    good["metadata"] |= changed
    return good


def laughs() -> Any:
    value: Any = []
    for _ in range(60):
        value = [value, value]
    return value


def circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def saved(data: Callable[[], Any], **options: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(data(), path, **options)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"model": Runs(os.system, f"touch {CANARY}")}, protocol=2))


def pickled_newest(path: Path) -> None:
    path.write_bytes(pickle.dumps({"model": Runs(os.system, f"touch {CANARY}")}, protocol=5))


def malicious_record(path: Path) -> None:
    """A good archive whose ``data.pkl`` was exchanged."""
    repacked(path, {"data.pkl": pickle.dumps(Runs(os.system, f"touch {CANARY}"), protocol=2)}, zipfile.ZIP_STORED)


def bomb(path: Path) -> None:
    """An archive of a tensor of 300 MB that takes 300 kB."""
    repacked(path, {"data/0": b"\0" * 300_000_000}, zipfile.ZIP_DEFLATED)


def bomb_in_the_pickle(path: Path) -> None:
    repacked(path, {"data.pkl": b"\x80\x02" + b"N0" * 100_000_000 + b"N."}, zipfile.ZIP_DEFLATED)


def repacked(path: Path, records: dict[str, bytes], compression: int) -> None:
    torch.save(content(), path)
    with zipfile.ZipFile(path) as archive:
        old = {record.filename: archive.read(record) for record in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in old.items():
            archive.writestr(name, records.get(name.partition("/")[2], data))


EVAL = f"open('{CANARY}', 'w')"
# name -> (how the file is made, what the message says)
FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickle": (pickled, "could run code when loaded"),
    "pickle of protocol 5": (pickled_newest, "is not a checkpoint"),
    "zip with os.system": (saved(lambda: content(x=Runs(os.system, f"touch {CANARY}"))), "could run code when loaded"),
    "zip with eval": (saved(lambda: content(x=Runs(eval, EVAL))), "could run code when loaded"),
    "zip with getattr": (saved(lambda: content(x=Runs(getattr, "x", "upper"))), "could run code when loaded"),
    "zip with an exchanged pickle": (malicious_record, "could run code when loaded"),
    "legacy": (
        saved(lambda: content(x=Runs(os.system, f"touch {CANARY}")), _use_new_zipfile_serialization=False),
        "could run code when loaded",
    ),
    "module": (saved(lambda: TinyModel()), "could run code when loaded"),
    "zip bomb": (bomb, "unpacks to more than its own size"),
    "zip bomb in the pickle": (bomb_in_the_pickle, "unpacks to more than its own size"),
    "laughs": (saved(lambda: content(x=laughs())), "refer to each other without end"),
    "deep": (saved(lambda: content(x=[[*"ab"], {"a": _nested(90), "b": [_nested(90)]}, _nested(200)])), "nested more"),
    "circle": (saved(lambda: content(x=circle())), "refer to each other without end"),
    "list": (saved(lambda: [1]), "not a checkpoint (a dict with text keys)"),
    "keys of numbers": (saved(lambda: {1: 2}), "not a checkpoint (a dict with text keys)"),
    "metadata is a list": (saved(lambda: content(metadata=[1])), "has a 'metadata' that no training wrote"),
    "metadata is nothing": (saved(lambda: content(metadata=None)), "has a 'metadata' that no training wrote"),
    "config is a number": (saved(lambda: metadata(config=3)), "has a 'metadata' that no training wrote"),
    "config is bytes": (saved(lambda: metadata(config=b"SEED: 1")), "has a 'metadata' that no training wrote"),
    "names are numbers": (saved(lambda: metadata(class_names=[1])), "has a 'metadata' that no training wrote"),
    "names are one number": (saved(lambda: metadata(class_names=3)), "has a 'metadata' that no training wrote"),
    "config with a tag": (
        saved(lambda: metadata(config=f"SEED: !!python/object/apply:os.system ['touch {CANARY}']")),
        "this is not plain YAML",
    ),
    "config is a list in YAML": (saved(lambda: metadata(config="- 1")), "a config holds keys and values"),
    "config is deep": (saved(lambda: metadata(config="A: " + "[" * 5000)), "nested too deeply"),
    "config is long": (saved(lambda: metadata(config="A: " + "x" * 5_000_000)), "more than 1048576 characters"),
    "config with escapes": (saved(lambda: metadata(config=f"SEED: {RED}")), "this is not plain YAML"),
    "config with escaped escapes": (saved(lambda: metadata(config='SEED: "\\e[31mred"')), "SEED must be int"),
    "nothing": (lambda path: path.write_bytes(b"") and None, "is empty"),
}
SAFETENSORS = {
    "huge header": struct.pack("<Q", 1 << 62) + b"{}",
    "negative header": struct.pack("<q", -5) + b"{}",
    "header longer than the file": struct.pack("<Q", 1000) + b"{}",
    "deep header": struct.pack("<Q", 10_000) + b"[" * 10_000,
    "no JSON": struct.pack("<Q", 2) + b"{{",
    "huge shape": b"",
    "offsets outside": b"",
}


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def header(entry: dict[str, Any]) -> bytes:
    text = json.dumps({RED: entry}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(4)


SAFETENSORS["huge shape"] = header({"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]})
SAFETENSORS["offsets outside"] = header({"dtype": "F32", "shape": [1], "data_offsets": [1 << 40, (1 << 40) + 4]})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with an image."""
    from PIL import Image

    inside = tmp_path / "inside"
    inside.mkdir()
    Image.new("RGB", (32, 32)).save(inside / "image.png")
    monkeypatch.chdir(inside)
    return inside


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    """Run the command: exit code 2, one sentence, nothing new on the disk. Returns the sentence."""
    before = sorted(folder.parent.rglob("*"))
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"drivetrain {arguments[0]}: error: ")
    assert len(message) < 1000
    assert all(c.isprintable() for c in message.rstrip("\n"))
    assert sorted(folder.parent.rglob("*")) == before
    return message


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, part = FILES[name]
    make(folder / "x.pth")
    for arguments in (
        ["predict", "x.pth", "image.png", "--output", "drawn"],
        ["eval", "x.pth"],
        ["finetune", "x.pth", "--output", "tuned"],
    ):
        assert part in refused(arguments, capsys, folder)
    refused(["replay", "x.pth"], capsys, folder)
    if "config" not in name:  # a config that cannot be read is no reason not to take the weights
        with pytest.raises(CheckpointError):
            DetectionCheckpointer(TinyModel()).load(str(folder / "x.pth"))
    assert not (folder / CANARY).exists()


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "x.safetensors").write_bytes(SAFETENSORS[name])
    assert "is not a whole safetensors file" in refused(["eval", "x.safetensors"], capsys, folder)
    with pytest.raises(CorruptCheckpointError):
        DetectionCheckpointer(TinyModel()).load(str(folder / "x.safetensors"))


def test_the_canary_would_have_been_seen(folder: Path) -> None:
    """The negative control: loaded as other tools do it, the same files run what they hold."""
    for name in ("pickle", "pickle of protocol 5"):
        FILES[name][0](folder / "x.pth")
        pickle.loads((folder / "x.pth").read_bytes())
        (folder / CANARY).unlink()
    for name in ("zip with os.system", "zip with eval", "zip with an exchanged pickle", "legacy"):
        FILES[name][0](folder / "x.pth")
        torch.load(folder / "x.pth", weights_only=False)
        (folder / CANARY).unlink()


def test_names_of_tensors_and_classes_do_not_reach_the_terminal_raw(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({**metadata(class_names=[RED, "b"]), "model": {RED: torch.ones(1)}}, folder / "x.pth")
    message = refused(["predict", "x.pth", "image.png", "--output", "drawn"], capsys, folder)
    assert "\\x1b[31mred\\x07\\x1b[2J" in message


def test_an_evaluation_writes_beside_the_checkpoint_wherever_its_config_points(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder.parent / "elsewhere"
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(elsewhere)
    torch.save(metadata(config=cfg.dump()), folder / "x.pth")
    used: list[str] = []
    monkeypatch.setattr("drivetrain.cli.eval.evaluate", lambda cfg: used.append(cfg.OUTPUT_DIR))
    assert main(["eval", str(folder / "x.pth")]) == 0
    assert main(["eval", "x.pth", "OUTPUT_DIR=own"]) == 0
    assert used == [str(folder), "own"]
    assert not elsewhere.exists()


# ---- folders

DIGEST = "0" * 64


def entry(**changed: Any) -> dict[str, Any]:
    return {"file": "model_0000001.pth", "bytes": 1, "sha256": DIGEST, **changed}


def listing(*entries: Any) -> str:
    return json.dumps({"checkpoints": list(entries)})


MANIFESTS = {
    "parents": listing(entry(file="../../outside.pth")),
    "absolute": listing(entry(file="/etc/passwd")),
    "escapes": listing(entry(file=f"{RED}.pth")),
    "NUL": listing(entry(file="a\0.pth")),
    "half a character": '{"checkpoints": [{"file": "\\ud800.pth", "bytes": 1, "sha256": "' + DIGEST + '"}]}',
    "no list": json.dumps({"checkpoints": {"a": 1}}),
    "numbers": listing(1, 2),
    "deep": '{"checkpoints":' + "[" * 100_000,
    "many": '{"checkpoints":[' + ",".join(["{}"] * 100_000) + "]}",
    "long": " " * (33 << 20),
    "text for a size": listing(entry(bytes="1")),
    "negative size": listing(entry(bytes=-1)),
    "huge size": listing(entry(bytes=10**30)),
    "huge iteration": listing(entry(iteration=10**400)),
    "huge metric": listing(entry(metric={"AP": 10**400})),
    "metric of text": listing(entry(metric={"AP": "1"})),
    "longer than any number": '{"checkpoints":[{"file": "a.pth", "bytes": ' + "9" * 10_000 + "}]}",
    "names of numbers": listing(entry(class_names=[1])),
    "shared names of numbers": json.dumps({"checkpoints": [entry()], "class_names": [1]}),
}


@pytest.fixture
def run_folder(folder: Path) -> Path:
    """A training's folder with one good checkpoint."""
    model = TinyModel()
    Checkpointer(model, str(folder / "run")).save("model_0000001", iteration=1)
    return folder / "run"


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_is_none_is_told_and_the_files_themselves_are_taken(
    name: str, run_folder: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_folder.parent.parent / "outside.pth").write_bytes(b"not to be touched")
    (run_folder / "checkpoints.json").write_text(MANIFESTS[name])
    with pytest.raises(CorruptCheckpointError):
        Manifest.parse(MANIFESTS[name])
    assert main(["runs", "run"]) == 0
    out = capsys.readouterr().out
    assert "model_0000001.pth" in out and "whole" in out
    assert all(c.isprintable() or c == "\n" for c in out)
    checkpointer = Checkpointer(TinyModel(), str(run_folder))
    assert checkpointer.resume_or_load("")["iteration"] == 1
    checkpointer.save("model_0000002", iteration=2)  # sets it aside
    assert "going by the files themselves" in caplog.text
    assert (run_folder.parent.parent / "outside.pth").read_bytes() == b"not to be touched"
    assert Checkpointer(TinyModel(), str(run_folder)).resume_or_load("")["iteration"] == 2


def test_what_a_manifest_says_does_not_reach_the_terminal_raw(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = json.loads((run_folder / "checkpoints.json").read_text())["checkpoints"][0]
    said = {"roles": [RED], "time": RED, "class_names": [RED], "versions": {RED: RED}}
    text = listing({**good, **said, "metric": {RED: float("nan"), "b": float("inf")}})
    (run_folder / "checkpoints.json").write_text(text)
    for arguments in (["runs", "run"], ["runs", "run", "--json"]):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert "red" in out
        assert all(c.isprintable() or c == "\n" for c in out)


@pytest.mark.parametrize("text", ["../../../../etc/passwd", "/etc/passwd", RED, "a\0b", "x" * 100_000, "\n"])
def test_a_pointer_elsewhere_is_passed_over(text: str, run_folder: Path) -> None:
    (run_folder / "last_checkpoint").write_text(text)
    assert Checkpointer(TinyModel(), str(run_folder)).resume_or_load("")["iteration"] == 1


@pytest.mark.parametrize("name", [name for name in FILES if "config" not in name])
def test_a_resume_passes_over_the_newest_file_even_if_the_manifest_vouches_for_it(
    name: str, run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever can write into the folder can forge the digest too; the training goes on from the file before."""
    FILES[name][0](run_folder / "model_0000005.pth")
    good = json.loads((run_folder / "checkpoints.json").read_text())["checkpoints"][0]
    digest = file_digest(run_folder / "model_0000005.pth")
    forged = {**good, "file": "model_0000005.pth", "sha256": digest, "iteration": 5}
    (run_folder / "checkpoints.json").write_text(listing(good, forged))
    (run_folder / "last_checkpoint").write_text("model_0000005.pth")
    assert Checkpointer(TinyModel(), str(run_folder)).resume_or_load("")["iteration"] == 1
    assert "to model_0000001.pth: 4 iterations are lost; model_0000005.pth set aside" in caplog.text
    assert (run_folder / "model_0000005.pth.corrupt").exists() and not (run_folder / "model_0000005.pth").exists()
    assert not (run_folder.parent / CANARY).exists()
    caplog.clear()
    assert Checkpointer(TinyModel(), str(run_folder)).resume_or_load("")["iteration"] == 1
    assert "Passed over" not in caplog.text


def test_many_listed_files_are_listed_in_bounded_time(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_folder / "checkpoints.json").write_text(listing(*(entry(file=f"m_{i}.pth") for i in range(5000))))
    parse, parsed = Manifest.parse, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Manifest, "parse", lambda *args: parsed.append(1) or parse(*args))
        assert main(["runs", "run", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 5001
    assert len(parsed) < 10


# ---- saved batches


def batch(**changed: Any) -> dict[str, Any]:
    return {
        "iteration": 1,
        "losses": {"total_loss": 1.0},
        "batches": [],
        "model": {},
        "config": config_text(),
        "rng": None,
        "precision": "fp32",
        "weights_iteration": 1,
        **changed,
    }


@pytest.mark.parametrize("kind", ["os.system", "builtins.eval", "torch.nn.Module", "drivetrain.structures.Boxes", RED])
def test_a_batch_of_other_classes_is_refused(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = {"object": kind, "state": {"__class__": "x", "cmd": f"touch {CANARY}"}}
    torch.save(batch(batches=[[{"instances": value}]]), folder / "x.pt")
    message = refused(["replay", "x.pt"], capsys, folder)
    assert "which is none of drivetrain.structures: refused" in message


@pytest.mark.parametrize(
    "changed",
    [
        {"batches": laughs()},
        {"batches": 3},
        {"batches": [{"object": "drivetrain.structures.boxes.Boxes", "state": 3}]},
        {"batches": [{"object": "numpy", "state": 3}]},
        {"config": "- 1"},
        {"config": "A: !!python/name:os.system"},
        {"config": 3},
        {"losses": {RED: RED}},
        {"losses": 3},
        {"iteration": RED},
        {"rng": 3},
        {"rng": torch.zeros(3)},
        {"precision": ["a"]},
    ],
    ids=[
        "laughs",
        "batches are a number",
        "state is a number",
        "array is a number",
        "config is a list",
        "config with a tag",
        "config is a number",
        "escapes",
        "losses are a number",
        "iteration is text",
        "generator is a number",
        "generator is too short",
        "precision is a list",
    ],
)
def test_other_saved_batches(changed: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(
        batch(**{"batches": [[{"image": torch.zeros(3, 8, 8)}]] if "config" in changed else [], **changed}), "x.pt"
    )
    refused(["replay", "x.pt"], capsys, folder)


def test_log_lines_hold_no_raw_escapes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from drivetrain.runtime.logging import setup_logger

    setup_logger(folder / "log.txt")
    (folder / "run").mkdir()
    (folder / "run" / "last_checkpoint").write_text(RED)
    (folder / "run" / f"{RED}.pth").write_bytes(b"")
    with pytest.raises(CheckpointError):
        Checkpointer(TinyModel(), str(folder / "run")).resume_or_load("")
    logging.getLogger("drivetrain").warning("class %s", RED)
    for text in (capsys.readouterr().out, (folder / "log.txt").read_text()):
        assert "\\x1b[31mred" in text
        assert all(c.isprintable() or c == "\n" for c in text)
