"""Communication, in one process and between two."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from drivetrain.runtime import comm


def test_one_process() -> None:
    assert (comm.get_rank(), comm.get_world_size(), comm.get_local_rank(), comm.get_local_size()) == (0, 1, 0, 1)
    assert comm.is_main_process()
    comm.synchronize()
    assert comm.all_gather({"a": 1}) == comm.gather({"a": 1}) == [{"a": 1}]
    assert comm.reduce_dict({"x": torch.tensor(2.0)}) == {"x": torch.tensor(2.0)}
    assert 0 <= comm.shared_random_seed() < 2**31


def two_ranks(rank: int, folder: str) -> None:
    os.environ.update(LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    value: dict[str, Any] = {"rank": rank, "tensor": torch.arange(rank + 1), "text": "é" * (100 * rank), "none": None}
    everything = comm.all_gather(value)
    assert [v["rank"] for v in everything] == [0, 1]
    assert torch.equal(everything[1]["tensor"], torch.tensor([0, 1]))
    assert everything[1]["text"] == "é" * 100
    on_one = comm.gather([rank] * (rank + 1), dst=1)
    assert on_one == ([] if rank == 0 else [[0], [1, 1]])
    reduced = comm.reduce_dict({"b": torch.tensor(float(rank)), "a": torch.tensor(2.0)})
    summed = comm.reduce_dict({"a": torch.tensor(1.0)}, average=False)
    if rank == 0:
        assert (float(reduced["a"]), float(reduced["b"]), float(summed["a"])) == (2.0, 0.5, 2.0)
    seeds = comm.all_gather(comm.shared_random_seed())
    assert seeds[0] == seeds[1]
    comm.create_local_process_group(1)
    assert (comm.get_local_rank(), comm.get_local_size()) == (0, 1)
    with pytest.raises(ValueError, match="machines of 3"):
        comm.create_local_process_group(3)
    comm.synchronize()
    Path(folder, f"done{rank}").touch()
    dist.destroy_process_group()


def test_two_ranks(tmp_path: Path) -> None:
    mp.spawn(two_ranks, args=(str(tmp_path),), nprocs=2)
    assert (tmp_path / "done0").exists() and (tmp_path / "done1").exists()


class Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


def test_objects_that_run_code_are_refused() -> None:
    buffer = io.BytesIO()
    torch.save(Hostile(), buffer)
    with pytest.raises(Exception, match="Weights only load failed"):
        comm._decode(torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8))
