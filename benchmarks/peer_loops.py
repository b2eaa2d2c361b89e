"""The training loops of other libraries around the tiny model of ``loop.py``, each as its documentation writes it."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from loop import Feed
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

__all__ = ["PEERS"]

Loop = Callable[[Feed, nn.Module, torch.optim.Optimizer], None]


class _Batches(IterableDataset[torch.Tensor]):
    """The feed, for libraries that ask for a dataset."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self._feed)

    def __len__(self) -> int:
        return self._feed.total


class _Loader(DataLoader[Any]):
    """The feed, each batch in a list, for a library that asks for a DataLoader; what one costs is left out."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(_Batches(feed), batch_size=1)
        self.__dict__["_feed"] = feed

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return ([batch] for batch in self.__dict__["_feed"])


# Lightning


def _lightning_module(model: nn.Module, optimizer: torch.optim.Optimizer, log: bool) -> Any:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: torch.Tensor) -> torch.Tensor:
            loss: torch.Tensor = self.model(batch)["loss"]
            if log:
                self.log("loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer

    return Module()


def lightning_lean(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Trainer with everything switched off that can be."""
    import lightning

    lightning.Trainer(
        accelerator="cpu",
        max_steps=feed.total,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        barebones=False,
    ).fit(_lightning_module(model, optimizer, log=False), feed)


def lightning_usual(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Trainer with a logger, the progress bar and checkpoints, and the loss logged."""
    import lightning
    from lightning.pytorch.loggers import CSVLogger

    with tempfile.TemporaryDirectory() as folder:
        lightning.Trainer(
            accelerator="cpu",
            max_steps=feed.total,
            logger=CSVLogger(folder),
            default_root_dir=folder,
            log_every_n_steps=20,
            enable_model_summary=False,
        ).fit(_lightning_module(model, optimizer, log=True), feed)


def fabric(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Lightning Fabric: a loop of one's own."""
    from lightning.fabric import Fabric

    helper = Fabric(accelerator="cpu", devices=1)
    helper.launch()
    wrapped, wrapped_optimizer = helper.setup(model, optimizer)
    for batch in feed:
        loss = wrapped(batch)["loss"]
        wrapped_optimizer.zero_grad()
        helper.backward(loss)
        wrapped_optimizer.step()


# The others


def mmengine(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Runner with its default hooks."""
    from mmengine.model import BaseModel
    from mmengine.optim import OptimWrapper
    from mmengine.runner import Runner

    class Wrapped(BaseModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *batch: torch.Tensor, mode: str = "tensor") -> Any:
            return self.inner(batch[0])

    with tempfile.TemporaryDirectory() as folder:
        Runner(
            Wrapped(),
            work_dir=folder,
            train_dataloader=_Loader(feed),
            train_cfg={"by_epoch": False, "max_iters": feed.total},
            optim_wrapper=OptimWrapper(optimizer),
            default_hooks={"logger": {"type": "LoggerHook", "interval": 20}},
            log_level="ERROR",
        ).train()


def _ignite_engine(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    from ignite.engine import Engine

    def step(engine: Any, batch: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = model(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Engine(step)


def ignite_bare(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Engine without handlers."""
    _ignite_engine(model, optimizer).run(feed, max_epochs=1, epoch_length=feed.total)


def ignite_handlers(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Engine with a running average, a schedule, checkpoints and a TensorBoard logger."""
    from ignite.engine import Events
    from ignite.handlers import Checkpoint, DiskSaver, LRScheduler
    from ignite.handlers.tensorboard_logger import TensorboardLogger
    from ignite.metrics import RunningAverage

    engine = _ignite_engine(model, optimizer)
    RunningAverage(output_transform=lambda loss: loss).attach(engine, "loss")
    schedule = LRScheduler(torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0))
    engine.add_event_handler(Events.ITERATION_COMPLETED, schedule)
    with tempfile.TemporaryDirectory() as folder:
        saver = Checkpoint({"model": model}, DiskSaver(folder, require_empty=False))
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=10 * feed.total), saver)
        logger = TensorboardLogger(log_dir=folder)
        logger.attach_output_handler(
            engine, Events.ITERATION_COMPLETED(every=20), tag="training", metric_names=["loss"]
        )
        engine.run(feed, max_epochs=1, epoch_length=feed.total)
        logger.close()


def transformers(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Trainer, logging every 20 steps."""
    from transformers import Trainer, TrainingArguments

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
            return self.inner(batch)  # type: ignore[no-any-return]

    class Batches(_Batches):
        def __iter__(self) -> Iterator[Any]:
            return ({"batch": batch} for batch in self._feed)

    class Fed(Trainer):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            return Batches(feed)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=feed.total,
            logging_steps=20,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=False,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        Fed(Wrapped(), arguments, train_dataset=Batches(feed), optimizers=(optimizer, schedule)).train()


def accelerate(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """A loop of one's own around Accelerator."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    wrapped, wrapped_optimizer = accelerator.prepare(model, optimizer)
    for batch in feed:
        with accelerator.accumulate(wrapped):
            loss = wrapped(batch)["loss"]
            wrapped_optimizer.zero_grad()
            accelerator.backward(loss)
            wrapped_optimizer.step()


def torchtnt(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """AutoUnit under train(), without callbacks."""
    from torchtnt.framework.auto_unit import AutoUnit
    from torchtnt.framework.train import train

    class Unit(AutoUnit):  # type: ignore[misc]
        def compute_loss(self, state: Any, data: torch.Tensor) -> tuple[torch.Tensor, None]:
            return self.module(data)["loss"], None

        def configure_optimizers_and_lr_scheduler(self, module: nn.Module) -> tuple[torch.optim.Optimizer, None]:
            return optimizer, None

    train(Unit(module=model, device=torch.device("cpu")), feed, max_epochs=1)


def detectron2_simple(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """detectron2's SimpleTrainer without hooks."""
    from detectron2.engine import SimpleTrainer

    SimpleTrainer(model, feed, optimizer).train(0, feed.total)


PEERS: dict[str, tuple[str, Loop]] = {
    "Lightning, lean": ("lightning", lightning_lean),
    "Lightning, logger, bar, checkpoints": ("lightning", lightning_usual),
    "Lightning Fabric": ("lightning", fabric),
    "mmengine, default hooks": ("mmengine", mmengine),
    "ignite, bare": ("ignite", ignite_bare),
    "ignite, handlers": ("ignite", ignite_handlers),
    "transformers' Trainer": ("transformers", transformers),
    "accelerate": ("accelerate", accelerate),
    "torchtnt": ("torchtnt", torchtnt),
    "detectron2's SimpleTrainer": ("detectron2", detectron2_simple),
}
"""Name -> (the package it needs, the loop)."""


def quiet() -> None:
    """Keep the libraries' reports out of the tables."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "mmengine", "ignite", "accelerate", "torchtnt"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.suppress(ImportError):
        import transformers as library

        library.logging.set_verbosity_error()
