"""The step and its state in two processes. The test starts this file twice as a script; each scenario runs on both."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[2]


def test_all_scenarios(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path), str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in ranks]
    for rank, (process, output) in enumerate(zip(ranks, outputs, strict=True)):
        assert process.returncode == 0, f"rank {rank}:\n{output[-4000:]}"
        for scenario in SCENARIOS:
            assert f"passed {scenario.__name__}\n" in output


# What follows runs in the two processes.


def build(rank: int, *, bad: tuple[int, int, str] | None = None, **options: Any) -> Any:
    """A trainer over DDP; ``bad`` is (rank, batch, what goes wrong there)."""
    from drivetrain.engine.train_loop import SimpleTrainer
    from drivetrain.runtime.seeding import seed_all_rng
    from drivetrain.testing import TinyLoader, TinyModel

    class Loader(TinyLoader):
        def batch(self, index: int) -> Any:
            return [{**item, "image_id": index, "rank": rank} for item in super().batch(index)]

    class Model(TinyModel):
        def forward(self, batch: Any) -> Any:
            losses = super().forward(batch)
            if bad is not None and (rank, batch[0]["image_id"]) == bad[:2]:
                if bad[2] == "loss":
                    losses["loss_box"] = losses["loss_box"] * math.nan
                else:  # 0, with an infinite slope
                    weight = self.head.weight
                    losses["loss_box"] = losses["loss_box"] + (weight - weight.detach()).abs().sqrt().sum()
            return losses

    seed_all_rng(0)
    model = torch.nn.parallel.DistributedDataParallel(Model(), broadcast_buffers=False)
    seed_all_rng(100 + rank)  # dropout draws differently
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9)
    return SimpleTrainer(model, Loader(seed=rank), optimizer, **{"metric_period": 4, **options})


def on_both(value: Any) -> list[Any]:
    values: list[Any] = [None, None]
    dist.all_gather_object(values, value)
    return values


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.module.state_dict().items()}


def parameters(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.module.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def a_bad_step_on_one_rank_changes_no_weight_and_ends_both(rank: int, folder: Path) -> None:
    from drivetrain.engine.bad_batch import BadBatchWriter
    from drivetrain.errors import NonFiniteLossError

    for what in ("loss", "gradient"):
        for accumulate in (1, 2):
            reference = build(rank, accumulate=accumulate)
            reference.train(0, 2)
            files = BadBatchWriter(str(folder / f"{what}{accumulate}"))
            at = 2 * accumulate
            trainer = build(rank, bad=(1, at, what), accumulate=accumulate, bad_batches=files)
            try:
                trainer.train(0, 9)
            except NonFiniteLossError as error:
                assert "at iteration 2" in str(error), error
            else:
                raise AssertionError("it went on")
            assert trainer.iter == 3, trainer.iter  # the metrics are read each fourth iteration
            assert same(parameters(trainer), parameters(reference)), what
            dist.barrier()
            # A bad loss is its own rank's; a bad gradient came from anywhere.
            expected = ["bad_batch_2.rank1.pt"] if what == "loss" else ["bad_batch_2.pt", "bad_batch_2.rank1.pt"]
            assert sorted(os.listdir(folder / f"{what}{accumulate}")) == expected
            saved = torch.load(folder / f"{what}{accumulate}" / "bad_batch_2.rank1.pt", weights_only=True)
            assert [b[0]["image_id"] for b in saved["batches"]] == list(range(at, at + accumulate))
            assert saved["batches"][0][0]["rank"] == 1


def a_gradient_scaler_keeps_it_out_too(rank: int, folder: Path) -> None:
    from drivetrain.errors import NonFiniteLossError

    reference = build(rank, precision="fp16")
    reference.train(0, 2)
    trainer = build(rank, bad=(1, 2, "loss"), precision="fp16")
    try:
        trainer.train(0, 9)
    except NonFiniteLossError:
        pass
    else:
        raise AssertionError("it went on")
    assert same(parameters(trainer), parameters(reference))


def skipping_leaves_the_step_out_on_both(rank: int, folder: Path) -> None:
    trainer = build(rank, bad=(0, 2, "loss"), non_finite="skip")
    trainer.train(0, 6)
    assert trainer.state_dict()["non_finite"] == {"skipped": 1}
    one, two = on_both(parameters(trainer))
    assert same(one, two)
    # The same without that step: buffers too, though the forward had changed them.
    clean = build(rank)

    class Left(type(clean)):  # type: ignore[misc]
        def step(self) -> bool:
            if self.iter == 2:
                self._guard.put_back_buffers()
                return True
            return bool(super().step())

    clean.__class__ = Left
    clean._guard.policy = "skip"
    clean.train(0, 6)
    assert same(weights(trainer), weights(clean))


def both_rewind_together(rank: int, folder: Path) -> None:
    from drivetrain.checkpoint import Checkpointer
    from drivetrain.engine.hooks import CallbackHook, PeriodicCheckpointer
    from drivetrain.engine.state import prepare_if_due

    trainer = build(rank, bad=(1, 5, "gradient"), non_finite="rewind")
    trainer.checkpointer = Checkpointer(trainer.model, str(folder), trainer=trainer)
    steps: list[int] = []
    trainer.register_hooks(
        [
            CallbackHook(before_step=lambda t: steps.append(t.iter)),
            CallbackHook(after_step=lambda t: prepare_if_due(t, 3)),
            PeriodicCheckpointer(trainer.checkpointer, 3) if rank == 0 else None,
        ]
    )
    trainer.train(0, 10)
    # Bad in iteration 5, known before the checkpoint after it is made; back to the one after 2.
    assert on_both(steps) == [[0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8, 9]] * 2, steps
    one, two = on_both(parameters(trainer))
    assert same(one, two)
    assert all(torch.isfinite(value).all() for value in one.values())


def a_resumed_training_is_the_uninterrupted_one(rank: int, folder: Path) -> None:
    """Dropout draws from each rank's own generator, which only a checkpoint with all of them restores."""
    from drivetrain.checkpoint import Checkpointer
    from drivetrain.engine.hooks import CallbackHook, PeriodicCheckpointer
    from drivetrain.engine.state import prepare_if_due

    def run(name: str, gathered: bool, stop: int) -> Any:
        trainer = build(rank)
        checkpointer = Checkpointer(trainer.model, str(folder / name), trainer=trainer)
        gather = CallbackHook(after_step=lambda t: prepare_if_due(t, 2)) if gathered else None
        trainer.register_hooks([gather, PeriodicCheckpointer(checkpointer, 2) if rank == 0 else None])
        if stop:
            trainer.train(0, stop)
            dist.barrier()
            trainer = build(rank)
            torch.manual_seed(7)
            checkpointer = Checkpointer(trainer.model, str(folder / name), trainer=trainer)
            checkpointer.resume_or_load("", resume=True)
            trainer.train(trainer.iter + 1, 5)
        else:
            trainer.train(0, 5)
        return parameters(trainer)

    whole = run("whole", True, 0)
    assert same(run("cut", True, 2), whole)
    assert not same(run("without", False, 2), whole)  # the negative control


def a_rank_that_runs_out_of_memory_makes_its_batch_in_parts(rank: int, folder: Path) -> None:
    """The other one does not notice: gradients are exchanged once all the same."""
    ends = []
    for limit in (9, 2):
        trainer = build(rank, oom_retry=True)
        inner = trainer.model.module
        inner.norm, inner.dropout.p = torch.nn.Identity(), 0.0  # nothing over the batch, no random numbers

        def check(module: Any, inputs: Any, most: int = limit) -> None:
            if rank == 1 and len(inputs[0]) > most:
                raise torch.OutOfMemoryError("Tried to allocate 20.00 GiB")

        inner.register_forward_pre_hook(check)
        trainer.model = torch.nn.parallel.DistributedDataParallel(inner, broadcast_buffers=False)
        trainer.optimizer = torch.optim.SGD(inner.parameters(), 0.05, 0.9)
        trainer.train(0, 4)
        ends.append(parameters(trainer))
        one, two = on_both(ends[-1])
        assert same(one, two)
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-5, atol=1e-7)


SCENARIOS: list[Callable[[int, Path], None]] = [
    a_bad_step_on_one_rank_changes_no_weight_and_ends_both,
    a_gradient_scaler_keeps_it_out_too,
    skipping_leaves_the_step_out_on_both,
    both_rewind_together,
    a_resumed_training_is_the_uninterrupted_one,
    a_rank_that_runs_out_of_memory_makes_its_batch_in_parts,
]


def main(folder: Path, rank: int) -> None:
    method, limit = f"file://{folder / 'rendezvous'}", timedelta(seconds=90)
    dist.init_process_group("gloo", init_method=method, world_size=2, rank=rank, timeout=limit)
    for scenario in SCENARIOS:
        scenario(rank, folder / scenario.__name__)
        dist.barrier()
        print(f"passed {scenario.__name__}", flush=True)
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # threads of PyTorch may abort at the end of the interpreter, which is no concern of these scenarios


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
