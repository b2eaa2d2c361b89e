from __future__ import annotations

import gc
import io
import json
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from drivetrain.errors import EvaluationError, OutputError
from drivetrain.evaluation.store import ByteRows, PredictionStore, gather_store


def random_rows(rng: np.random.Generator, count: int) -> dict[str, Any]:
    if not count:
        return {}
    return {
        "box": rng.normal(size=(count, 4)),
        "class": rng.integers(0, 9, count),
        "mask": [rng.bytes(int(n)) for n in rng.integers(0, 30, count)],
    }


def images(seed: int = 0, number: int = 40) -> list[tuple[int | str, dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    ids = [f"img-{i}" if i % 3 else i for i in range(number)]
    return [(image_id, random_rows(rng, int(rng.integers(0, 6)))) for image_id in ids]


def filled(content: Any, **options: Any) -> PredictionStore:
    store = PredictionStore(**options)
    for image_id, rows in content:
        store.append(image_id, rows)
    return store


def assert_holds(store: PredictionStore, content: Any) -> None:
    assert store.image_ids == [image_id for image_id, _ in content]
    rows = [rows for _, rows in content if rows]
    columns = store.columns()
    assert len(store) == sum(len(r["class"]) for r in rows)
    np.testing.assert_array_equal(columns["box"], np.concatenate([r["box"] for r in rows]))
    np.testing.assert_array_equal(columns["class"], np.concatenate([r["class"] for r in rows]))
    assert columns["mask"][:] == [mask for r in rows for mask in r["mask"]]
    counts = [len(r.get("class", ())) for _, r in content]
    assert store.image_of_rows().tolist() == np.repeat(np.arange(len(content)), counts).tolist()


@pytest.mark.parametrize("limit", [1 << 30, 2000, 0])
def test_what_goes_in_comes_out(limit: int, tmp_path: Path) -> None:
    content = images()
    store = filled(content, memory_limit=limit, folder=tmp_path)
    assert_holds(store, content)
    assert isinstance(store.columns()["box"], np.memmap) == (limit < 1 << 30)
    more = images(1)
    for image_id, rows in more:  # reading does not stop the writing
        store.append(image_id, rows)
    assert_holds(store, [*content, *more])


def test_rows_are_looked_up_by_slice_and_place() -> None:
    mask = ByteRows(np.frombuffer(b"abbccc", dtype=np.uint8), np.array([1, 3, 6]))
    assert mask[:] == [b"a", b"bb", b"ccc"]
    assert mask[1:3] == [b"bb", b"ccc"]
    assert mask[np.array([2, 0])] == [b"ccc", b"a"]
    assert len(mask) == 3


def test_the_first_of_each_image() -> None:
    store = filled([(1, {}), ("1", {}), (2, {}), (1, {}), (1, {})])
    first, repeated = store.first_of_each()
    assert first.tolist() == [True, True, True, False, False] and repeated == 2


def test_nothing() -> None:
    store = PredictionStore()
    assert store.columns() == {} and len(store) == 0 and store.pieces() == []
    store.append(3, {})
    assert store.columns() == {} and store.image_ids == [3] and store.image_of_rows().tolist() == []


@pytest.mark.parametrize("size", [1, 700, 1 << 30])
@pytest.mark.parametrize("limit", [1 << 30, 500])
def test_pieces_make_the_same_store(size: int, limit: int) -> None:
    content = images(2)
    store, copy = filled(content, memory_limit=limit), PredictionStore()
    pieces = store.pieces(size)
    assert (len(pieces) == 1) == (size == 1 << 30)
    for piece in pieces:
        packed = store.pack(piece)
        torch.save(packed, buffer := io.BytesIO())  # as it travels between processes
        copy.extend(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    assert_holds(copy, content)


def in_child(work: Callable[[], Any]) -> int:
    """The exit status of a forked process: 0 where ``work`` returned, a negative signal where it was killed."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")
def test_bytes_in_memory_are_bounded() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def fill() -> None:
        store, row = PredictionStore(memory_limit=4 << 20), np.ones((1000, 4))
        before = resident()
        for i in range(3000):  # 96 MB
            store.append(i, {"box": row + i})
        assert resident() - before < 30 << 20
        assert float(store.columns()["box"][-1, 0]) == 3000.0 and len(store) == 3_000_000

    assert in_child(fill) == 0


def open_files(folder: Path) -> int:
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).startswith(str(folder)) for link in links if os.path.islink(link))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")
def test_nothing_is_left_on_disk(tmp_path: Path) -> None:
    store = filled(images(), memory_limit=0, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []  # the files have no name
    assert open_files(tmp_path) == 4
    store.close()
    assert open_files(tmp_path) == 0 and len(store) == 0
    store = filled(images(), memory_limit=0, folder=tmp_path)
    del store  # as when an error ends the evaluation
    gc.collect()
    assert open_files(tmp_path) == 0


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    def die() -> None:
        store = PredictionStore(0, tmp_path)
        store.append(1, {"box": np.ones((100000, 4))})
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_other_columns_or_shapes() -> None:
    store = filled([(1, {"a": np.ones((2, 3))})])
    with pytest.raises(EvaluationError, match="image 2: there are b, but the images before had a"):
        store.append(2, {"b": np.ones(2)})
    with pytest.raises(EvaluationError, match=r"image 'x': a has the shape \(4,\) for each row, but \(3,\)"):
        store.append("x", {"a": np.ones((2, 4))})


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be kept in .*nowhere"):
        filled(images(), memory_limit=0, folder=tmp_path / "nowhere")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_disk_that_fills_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "r+b"))  # noqa: SIM115
    store = filled([(1, {"box": np.ones((2, 4))})], memory_limit=0, folder="there")  # which is still in a buffer
    with pytest.raises(OutputError, match="cannot be kept in there: No space left on device"):
        store.columns()
    store.close()  # so that the next evaluation can begin
    assert len(store) == 0 and store.columns() == {}


def _rank(rank: int, folder: str, few: int) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    content = images(3)
    share = content[:few] if rank == 0 else content[few:]  # rank 1 has many more pieces than rank 0
    own, into = filled(share, memory_limit=400), PredictionStore(0)
    gather_store(own, into, piece_size=300)
    if rank == 0:
        order = {image_id: number for number, (image_id, _) in enumerate(content)}
        assert sorted(map(order.get, into.image_ids)) == list(range(len(content)))  # type: ignore[type-var]
        columns, ends = into.columns(), np.cumsum(into.counts)
        for image_id, count, end in zip(into.image_ids, into.counts, ends.tolist(), strict=True):
            rows = content[order[image_id]][1]
            np.testing.assert_array_equal(columns["box"][end - count : end], rows.get("box", np.zeros((0, 4))))
            assert columns["mask"][end - count : end] == rows.get("mask", [])
    else:
        assert into.image_ids == []
    Path(folder, f"rank{rank}.json").write_text(json.dumps(len(own.pieces(300))))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("few", [3, 0])
def test_gathering_from_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    mp.start_processes(_rank, (str(tmp_path), few), nprocs=2, start_method="fork")
    pieces = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert pieces[1] > pieces[0] and (pieces[0] > 0) == (few > 0)
