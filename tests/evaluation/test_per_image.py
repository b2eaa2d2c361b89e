from __future__ import annotations

import gc
import itertools
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from PIL import Image

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError, EvaluationError, OutputError
from drivetrain.evaluation import (
    ClassificationEvaluator,
    ClassRow,
    COCOEvaluator,
    COCOPanopticEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
    ResultTable,
    SemSegEvaluator,
)
from drivetrain.evaluation.per_image import PerImageEvaluator, check_classes, check_images, known_by, spread

IMAGES = 23
SIZE = (24, 30)


class Sum(PerImageEvaluator):
    """Adds up the numbers that a model gives for each image."""

    _output_key = "numbers"

    def _encode(self, image_id: Any, image: Any, output: Any) -> Any:
        values = np.asarray(output["numbers"], dtype=np.float64)
        return {"value": values} if len(values) else {}

    def _figures(self, store: Any) -> Any:
        first = self._first_of_each(store, ["a", "b", "c"])
        total = float(store.columns()["value"][first[store.image_of_rows()]].sum())
        row = ClassRow("all", {"total": total})
        self.tables["sum"] = ResultTable("sum", "x", int(first.sum()), "plain", {"total": total}, [], row)
        return OrderedDict(sum={"total": total})


@pytest.fixture
def adder(catalog: None) -> Sum:
    return Sum("adder")


def test_rows_of_each_image_once(adder: Sum, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    adder.reset()
    adder.process([{"image_id": "a"}, {"file_name": "b"}], [{"numbers": [1, 2]}, {"numbers": []}])
    adder.process([{"image_id": "a"}], [{"numbers": [50]}])
    assert adder.evaluate() == {"sum": {"total": 3}}
    assert "1 images of adder came more than once" in caplog.text
    assert "1 of 3 images of adder were not given to the model (such as 'c'); what is on them" in caplog.text
    assert "Evaluation results of sum on x, 2 images, plain:" in caplog.text
    assert adder.evaluate() == {"sum": {"total": 3}}  # again
    adder.reset()
    adder.process([{"image_id": "c"}], [{"numbers": [7]}])
    assert adder.evaluate() == {"sum": {"total": 7}}


def test_inputs_and_outputs_that_do_not_fit(adder: Sum) -> None:
    with pytest.raises(EvaluationError, match="the model returned 0 outputs for 1 images"):
        adder.process([{"image_id": 1}], [])
    with pytest.raises(EvaluationError, match="Sum needs 'image_id' in each input and 'numbers' in each output"):
        adder.process([{"image": 1}], [{"numbers": []}])
    with pytest.raises(EvaluationError, match="but the input has image_id and the output scores"):
        adder.process([{"image_id": 1}], [{"scores": []}])
    for wrong, name in (
        (None, "NoneType"),
        (torch.zeros(1, 5), "Tensor"),
        ({"numbers": []}, "dict"),
        ("a", "str"),
        ([[1, 2]], "a list of list"),
        (({"numbers": []}, "x"), "a tuple of str"),
    ):
        with pytest.raises(
            EvaluationError, match=f"the model returned {name} for a batch of 1: .* here with 'numbers'"
        ):
            adder.process([{"image_id": 1}], wrong)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="an image id is an integer or a string"):
        adder.process([{"image_id": 1.5}], [{"numbers": []}])


def test_items_spread_over_a_list() -> None:
    assert spread(range(3), 16) == [0, 1, 2] and spread([], 16) == []
    chosen = spread(range(1000), 16)
    assert len(chosen) == 16 and (chosen[0], chosen[-1]) == (0, 999)
    assert {round(b - a, -1) for a, b in itertools.pairwise(chosen)} == {70}


def test_what_an_image_is_known_by() -> None:
    assert known_by({"image_id": torch.tensor(3), "file_name": "a"}) == known_by({"image_id": np.int64(3)}) == 3
    assert known_by({"file_name": "a"}) == "a" and known_by({}, 7) == 7


def test_the_output_folder(tmp_path: Path, catalog: None) -> None:
    Sum("adder", output_dir=tmp_path / "a" / "b").reset()
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        Sum("adder", output_dir=tmp_path / "file" / "out").check()


def test_checks_name_the_image() -> None:
    check_images([1, "a"], {1: 0, "a": 0}, "here")
    with pytest.raises(EvaluationError, match=r"image '1', which is not in the ground truth \(here\)"):
        check_images([1, "1"], {1}, "here")
    check_classes([7], np.array([0, 0]), np.array([0, 2]), 3, "here")
    with pytest.raises(EvaluationError, match=r"image 9: class 3 was predicted, but here has 3 classes \(0 to 2\)"):
        check_classes([7, 9], np.array([0, 1]), np.array([0, 3]), 3, "here")


def inputs_and_outputs(rng: np.random.Generator, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records with the truth of four tasks at once, and outputs for all of them."""
    records, outputs = [], []
    for number in range(IMAGES):
        ids = np.repeat(rng.integers(0, 4, SIZE[0] // 6), 6)[:, None].repeat(SIZE[1], axis=1).astype(np.uint8)
        path = folder / f"{number}.png"
        Image.fromarray(np.stack([ids, ids * 0, ids * 0], axis=2)).save(path)
        info = [{"id": i, "category_id": i - 1, "isthing": i < 3} for i in sorted({*ids.ravel().tolist()} - {0})]
        records.append(
            {
                "image_id": f"{number}",
                "class_id": int(rng.integers(0, 3)),
                "pan_seg_file_name": str(path),
                "segments_info": info,
                "sem_seg": torch.from_numpy(rng.integers(0, 3, SIZE)),
            }
        )
        found = np.roll(ids, 2, axis=0).astype(np.int64)
        outputs.append(
            {
                "classes": torch.from_numpy(rng.normal(size=3)),
                "sem_seg": torch.from_numpy(rng.normal(size=(3, *SIZE))),
                "panoptic_seg": (torch.from_numpy(found), info),
            }
        )
    return records, outputs


def all_of_them(data: Any, folder: Path) -> dict[str, tuple[Callable[[], Any], Any, Any]]:
    """By name, how to make each evaluator, and what it is fed."""
    records, outputs = inputs_and_outputs(np.random.default_rng(0), folder)
    DatasetCatalog.register("every task", lambda: records)
    names = ["a", "b", "c"]
    MetadataCatalog.get("every task").set(thing_classes=names, stuff_classes=list(names))
    boxes = [
        {"image_id": i["image_id"], "annotations": [{"bbox": [20.0, 30, 60, 80], "category_id": k % 3}]}
        for k, i in enumerate(data.inputs)
    ]
    DatasetCatalog.register("boxes", lambda: boxes)
    MetadataCatalog.get("boxes").set(thing_classes=names, year=2012)
    content = json.loads(data.json_file.read_text())
    for category, frequency in zip(content["categories"], "rcf", strict=True):
        category["frequency"] = frequency
    (folder / "lvis.json").write_text(json.dumps(content))
    MetadataCatalog.get("lvis").set(json_file=str(folder / "lvis.json"))
    found, given = data.outputs, data.inputs
    return {
        "coco": (lambda: COCOEvaluator(data.name, output_dir=folder / "coco", memory_limit=3000), given, found),
        "lvis": (lambda: LVISEvaluator("lvis", memory_limit=3000), given, found),
        "pascal_voc": (lambda: PascalVOCDetectionEvaluator("boxes", memory_limit=3000), given, found),
        "sem_seg": (lambda: SemSegEvaluator("every task", memory_limit=300), records, outputs),
        "coco_panoptic_seg": (lambda: COCOPanopticEvaluator("every task"), records, outputs),
        "classification": (lambda: ClassificationEvaluator("every task"), records, outputs),
    }


def _rank(rank: int, folder: str, cases: dict[str, tuple[Callable[[], Any], Any, Any]]) -> None:
    """One of two processes: an uneven share of the images each, and one image in both."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = {}
    for name, (make, inputs, outputs) in cases.items():
        evaluator = make()
        evaluator.reset()
        share = slice(0, 7) if rank == 0 else slice(6, None)
        evaluator.process(inputs[share], outputs[share])
        results[name] = [evaluator.evaluate(), {task: str(table) for task, table in evaluator.tables.items()}]
    Path(folder, f"rank{rank}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


def test_two_ranks_equal_one(sample: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sample(15, images=IMAGES)
    cases = all_of_them(data, tmp_path)
    expected = {}
    for name, (make, inputs, outputs) in cases.items():
        evaluator = make()
        evaluator.reset()
        evaluator.process(inputs, outputs)
        expected[name] = [evaluator.evaluate(), {task: str(table) for task, table in evaluator.tables.items()}]
        assert expected[name][0], name
    file = tmp_path / "coco" / "coco_instances_results.json"
    entries = sorted(map(json.dumps, json.loads(file.read_text())))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    mp.start_processes(_rank, (str(tmp_path), cases), nprocs=2, start_method="fork")
    assert (tmp_path / "rank0.json").read_text() == json.dumps(expected)  # the same text: the same bits
    other = json.loads((tmp_path / "rank1.json").read_text())
    assert all(of_one == [{}, {}] for of_one in other.values()) and len(other) == 6
    assert sorted(map(json.dumps, json.loads(file.read_text()))) == entries


def test_memory_does_not_grow(sample: Any) -> None:
    from faster_coco_eval import COCOeval_faster

    data = sample(14, images=6)
    evaluator = COCOEvaluator(data.name)

    def once() -> None:
        evaluator.reset()
        evaluator.process(data.inputs, data.outputs)
        evaluator.evaluate()

    once()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(5):
        once()
    gc.collect()
    assert not [o for o in gc.get_objects() if type(o) is COCOeval_faster]
    assert len(gc.get_objects()) - before < 200
