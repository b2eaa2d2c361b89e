"""Eight drawn images, a finished training on them, and a way to run the command in an empty folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.cli.main import main
from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.synthetic import SyntheticDataset, make_synthetic

SMALL = (
    "MODEL.DEVICE=cpu",
    "MODEL.SCORE_THRESH_TEST=0.0",
    "INPUT.MIN_SIZE_TRAIN=(64,)",
    "INPUT.MIN_SIZE_TEST=64",
    "DATALOADER.NUM_WORKERS=0",
    "SOLVER.IMS_PER_BATCH=2",
    "SOLVER.WARMUP_ITERS=0",
    "SOLVER.EMA.ENABLED=True",
    "SEED=5",
)


def forget() -> None:
    """Leave the catalogs empty and the log closed, as at the start of a process."""
    DatasetCatalog.clear()
    MetadataCatalog.clear()
    logger = logging.getLogger("drivetrain")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True


@dataclass
class Command:
    """Runs the command and looks at what it left."""

    data: SyntheticDataset
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def train_args(self, *more: str, **files: Any) -> list[str]:
        """Arguments of a training of two iterations; files by the name of their option."""
        options = {
            "train_json": self.data.train_json,
            "train_images": self.data.train_images,
            "val_json": self.data.val_json,
            "val_images": self.data.val_images,
            "max_iter": 2,
            "output": "out",
        } | files
        given = [f"--{k.replace('_', '-')}={v}" for k, v in options.items() if v is not None]
        return ["train", *given, *SMALL, *more]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        forget()
        self.capsys.readouterr()
        code = main(list(arguments))
        out, err = self.capsys.readouterr()
        return code, out, err

    def refused(self, *arguments: str) -> str:
        """The sentence of a command that has to fail with code 2 and leave every file as it was."""
        before = self.content()
        code, _, err = self(*arguments)
        assert code == 2, err
        assert self.content() == before
        lines = err.strip().splitlines()
        assert lines[0].startswith("drivetrain") and ": error: " in lines[0]
        assert "Traceback" not in err
        return err.split(": error: ", 1)[1].strip()

    def content(self) -> dict[str, bytes | None]:
        """Every file and folder; log files without what was appended."""
        return {
            str(p.relative_to(self.folder)): p.read_bytes() if p.is_file() and p.name != "log.txt" else None
            for p in self.folder.rglob("*")
        }

    def changed_json(self, name: str, change: Callable[[Any], Any], split: str = "train") -> Path:
        """A copy of an annotation file with a change made to it."""
        content = json.loads(Path(getattr(self.data, f"{split}_json")).read_text())
        change(content)
        path = self.folder / name
        path.write_text(json.dumps(content))
        return path


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> SyntheticDataset:
    """The images."""
    return make_synthetic(tmp_path_factory.mktemp("shapes"), train=8, val=4, size=(80, 64), seed=3)


@pytest.fixture
def command(
    shapes: SyntheticDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """The command, in an empty folder."""
    rng = torch.get_rng_state()
    monkeypatch.chdir(tmp_path)
    yield Command(shapes, tmp_path, capsys)
    forget()
    torch.set_rng_state(rng)


@pytest.fixture(scope="session")
def trained(shapes: SyntheticDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a finished training of four iterations, evaluated every two."""
    folder = tmp_path_factory.mktemp("trained") / "out"
    rng = torch.get_rng_state()
    forget()
    arguments = [
        f"--train-json={shapes.train_json}",
        f"--train-images={shapes.train_images}",
        f"--val-json={shapes.val_json}",
        f"--val-images={shapes.val_images}",
        "--max-iter=4",
        f"--output={folder}",
        *SMALL,
        "TEST.EVAL_PERIOD=2",
    ]
    assert main(["train", *arguments]) == 0
    forget()
    torch.set_rng_state(rng)
    return folder
