"""Imports of detectron2."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from drivetrain.compat.importer import FORCE_VARIABLE, Finder, install, installed, resolve, sentence, uninstall


def test_names_are_the_objects_themselves(finder: None) -> None:
    from detectron2.engine import DefaultTrainer, hooks  # type: ignore[import-not-found]
    from detectron2.utils import comm  # type: ignore[import-not-found]

    import drivetrain.engine
    import drivetrain.runtime.comm

    assert DefaultTrainer is drivetrain.engine.DefaultTrainer
    assert hooks is drivetrain.engine.hooks
    assert comm.get_rank is drivetrain.runtime.comm.get_rank
    assert comm is importlib.import_module("detectron2.utils.comm")
    assert pickle.loads(pickle.dumps(DefaultTrainer)) is DefaultTrainer


def test_importing_the_package_alone_reaches_everything_below(finder: None) -> None:
    detectron2: Any = importlib.import_module("detectron2")
    assert detectron2.__version__ == "0.6"
    assert detectron2.utils.events.EventStorage(3).iter == 3
    assert "utils" in dir(detectron2) and "DefaultTrainer" in dir(detectron2.engine)


def test_a_function_is_not_hidden_by_the_module_of_its_name(finder: None) -> None:
    importlib.import_module("detectron2.engine.launch")
    engine: Any = importlib.import_module("detectron2.engine")
    assert engine.launch is resolve("drivetrain.engine:launch")
    port = importlib.import_module("detectron2.engine.launch")._find_free_port()
    assert 1024 <= port < 65536


def test_star_brings_the_names_of_the_table(finder: None) -> None:
    names: dict[str, Any] = {}
    exec("from detectron2.utils.comm import *", names)
    assert names["get_world_size"]() == 1


ABSENT = {
    "from detectron2.structures import RotatedBoxes": r"structures\.RotatedBoxes .*boxes along the axes",
    "import detectron2.projects.densepose": r"detectron2\.projects\.densepose .*model=",
    "from detectron2.projects.deeplab import ASPP": r"deeplab\.ASPP .*deeplabv3",
    "from detectron2.projects.point_rend import PointRendROIHeads": r"point_rend.*INPUT\.COLOR",
    "from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY": r"roi_heads .*META_ARCH_REGISTRY",
    "from detectron2.engine import DefaultTrainr": r"detectron2\.engine\.DefaultTrainr .*did you mean 'DefaultTrainer'",
    "import detectron2.nothing": r"detectron2\.nothing .*from-detectron2\.md",
    "from fvcore.nn import flop_count": r"flop_count .*flop_counter",
}


def test_scripts_that_can_do_without_catch_the_usual_error(finder: None) -> None:
    for statement in ("import detectron2.nothing", "from detectron2.structures import RotatedBoxes"):
        with pytest.raises(ModuleNotFoundError, match="has no counterpart"):
            exec(statement)


@pytest.mark.parametrize("statement", ABSENT)
def test_what_is_not_there_is_said_at_once_in_one_sentence(statement: str, finder: None) -> None:
    with pytest.raises(ImportError, match=ABSENT[statement]) as caught:
        exec(statement)
    assert "\n" not in str(caught.value) and ". " not in str(caught.value)


def test_asking_for_a_name_does_not_raise(finder: None) -> None:
    engine: Any = importlib.import_module("detectron2.engine")
    assert not hasattr(engine, "NothingOfTheKind") and not hasattr(engine, "__wrapped__")


def test_without_it_nothing_resolves() -> None:
    assert not installed()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("detectron2")


def test_installing_twice_is_once_and_can_be_taken_back() -> None:
    install()
    install()
    assert sum(isinstance(f, Finder) for f in sys.meta_path) == 1
    importlib.import_module("detectron2.engine")
    uninstall()
    assert not installed() and not [name for name in sys.modules if name.startswith("detectron2")]


def test_an_installed_detectron2_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").write_text("real = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=rf"detectron2 itself is there .*{tmp_path.name}.*{FORCE_VARIABLE}=1"):
        install()
    assert not installed() and importlib.import_module("detectron2").real
    monkeypatch.setenv(FORCE_VARIABLE, "1")
    install()
    assert importlib.import_module("detectron2").__version__ == "0.6"
    uninstall()


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "detectron2" / "docs").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    install()
    try:
        assert importlib.import_module("detectron2").__version__ == "0.6"
    finally:
        uninstall()


def test_an_installed_fvcore_stays_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fvcore").mkdir()
    (tmp_path / "fvcore" / "__init__.py").write_text("real = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    install()
    try:
        assert importlib.import_module("fvcore").real and importlib.import_module("detectron2")
    finally:
        uninstall()
        sys.modules.pop("fvcore", None)


def test_sentences_name_the_path() -> None:
    assert sentence("detectron2.structures.RotatedBoxes").startswith("detectron2.structures.RotatedBoxes has no ")
