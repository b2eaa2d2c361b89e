"""What ``drivetrain predict`` writes: drawn pictures and videos, and ``predictions.json`` beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from textwrap import indent
from typing import Any

__all__ = ["Drawn", "draw_all", "drawing_names"]


@dataclass
class Drawn:
    """How much was drawn.

    Attributes:
        objects: with a score that was high enough.
        images: pictures, without the frames of videos.
        videos: videos.
        frames: of all videos.
        has_objects: whether the model looks for objects at all.
    """

    objects: int = 0
    images: int = 0
    videos: int = 0
    frames: int = 0
    has_objects: bool = True

    @property
    def where(self) -> str:
        """What was looked at, in words."""
        images = _count(self.images, "image") if self.images or not self.videos else ""
        videos = f"{_count(self.frames, 'frame')} of {_count(self.videos, 'video')}" if self.videos else ""
        return " and ".join(part for part in (images, videos) if part)


def drawing_names(sources: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """For each source the file that it is drawn into; sources of one name in different folders keep apart."""
    from drivetrain.engine.defaults.video import is_video

    used: set[str] = set()
    targets = {}
    for path in sources:
        name, count = path.stem, 2
        while name in used:
            name, count = f"{path.stem}_{count}", count + 1
        used.add(name)
        targets[path] = folder / f"{name}{'.mp4' if is_video(path) else '.jpg'}"
    return targets


def draw_all(predictor: Any, targets: Mapping[Path, Path], json_file: Path, score: float, batch_size: int) -> Drawn:
    """Predict on images and videos, draw each, and write the predictions to a JSON file as they come.

    Args:
        predictor: a ``DefaultPredictor``.
        targets: source -> what it is drawn into; see :func:`drawing_names`.
        json_file: gets a list with one entry for each image and each frame; it appears at the end.
        score: what scores lower is left out.
        batch_size: images or frames per call of the model.

    Raises:
        DatasetError: a source is missing, damaged or of an unknown format.
        OutputError: something cannot be written.
    """
    from drivetrain.checkpoint.files import atomic_write
    from drivetrain.engine.defaults.video import is_video

    drawn = Drawn()
    images = [path for path in targets if not is_video(path)]
    videos = [path for path in targets if is_video(path)]

    def entries() -> Iterator[dict[str, Any]]:
        yield from _draw_images(predictor, images, targets, score, batch_size)
        drawn.images = len(images)
        for video in videos:
            for entry in _draw_video(predictor, video, targets[video], score, batch_size):
                yield entry
                drawn.frames += 1
            drawn.videos += 1

    def write(file: Any) -> None:
        # One by one: a long video has more predictions than should be in memory at once.
        file.write(b"[")
        before = b"\n"
        for entry in entries():
            file.write(before + indent(json.dumps(entry, indent=1), " ").encode())
            before = b",\n"
            drawn.has_objects = "instances" in entry
            drawn.objects += len(entry.get("instances", ()))
        file.write(b"\n]\n")

    atomic_write(json_file, write)
    return drawn


def _draw_images(
    predictor: Any, images: Sequence[Path], targets: Mapping[Path, Path], score: float, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Write a picture of each image, and yield its entry of the JSON file."""
    from drivetrain.data.images import read_image
    from drivetrain.visualization import draw_output, save_image

    names = class_names(predictor)
    for path, output in zip(images, predictor(iter(images), batch_size=batch_size), strict=True):
        image = read_image(str(path), "RGB")
        save_image(targets[path], draw_output(image, output, names, score_threshold=score))
        found = describe_output(output, names, score, image.shape[:2])
        yield {"file_name": str(path), "picture": str(targets[path]), **found}


def _draw_video(predictor: Any, video: Path, target: Path, score: float, batch_size: int) -> Iterator[dict[str, Any]]:
    """Write a video with what is seen in each frame, and yield the frames' entries of the JSON file."""
    from drivetrain.engine.defaults.video import VideoFrames, VideoWriter
    from drivetrain.visualization import draw_output

    names = class_names(predictor)
    frames = VideoFrames(video, "BGR")
    for_model, for_drawing = tee(frames)  # decoded once; it holds what the model is ahead, a batch
    outputs = predictor(for_model, batch_size=batch_size)
    with VideoWriter(target, frames.rate) as writer:
        for number, (frame, output) in enumerate(zip(for_drawing, outputs, strict=True)):
            writer.add(draw_output(frame[:, :, ::-1], output, names, score_threshold=score))
            found = describe_output(output, names, score, frame.shape[:2])
            yield {"file_name": str(video), "frame": number, "video": str(target), **found}


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def class_names(predictor: Any) -> list[str]:
    """The names of the classes that a predictor's model was trained on."""
    metadata = predictor.metadata
    return list(metadata.get("thing_classes") or metadata.get("stuff_classes") or [])


def describe_output(
    output: Mapping[str, Any], names: Sequence[str], score: float, size: Sequence[int]
) -> dict[str, Any]:
    """One image's output as the JSON file has it; masks as COCO's run lengths.

    Args:
        output: of a model.
        names: of the classes.
        score: objects that score lower are left out.
        size: (height, width) of the image.
    """
    from drivetrain.visualization import top_classes

    described: dict[str, Any] = {"height": int(size[0]), "width": int(size[1])}
    if "instances" in output:
        described["instances"] = _objects(output["instances"].to("cpu"), names, score)
    if output.get("panoptic_seg") is not None:
        described["segments"] = [
            {"category": _name(names, s["category_id"]), "category_id": s["category_id"], "area": area}
            for s, area in _areas(*output["panoptic_seg"])
        ]
    if "sem_seg" in output:
        counts = output["sem_seg"].argmax(dim=0).flatten().bincount().tolist()
        described["pixels"] = {_name(names, c): n for c, n in enumerate(counts) if n}
    if "classes" in output:
        described["classes"] = [{"category": name, "score": s} for name, s in top_classes(output["classes"], names)]
    return described


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)


def _areas(ids: Any, segments: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Segments and their numbers of pixels."""
    for segment in segments:
        yield segment, int((ids == segment["id"]).sum())


def _objects(instances: Any, names: Sequence[str], score: float) -> list[dict[str, Any]]:
    from drivetrain.evaluation.run_lengths import masks_to_run_lengths

    kept = instances[instances.scores >= score]
    columns = (kept.pred_classes.tolist(), kept.scores.tolist(), kept.pred_boxes.tensor.tolist())
    objects = [
        {"category": _name(names, c), "category_id": c, "score": s, "bbox_xyxy": box}
        for c, s, box in zip(*columns, strict=True)
    ]
    if kept.has("pred_keypoints"):
        for entry, points in zip(objects, kept.pred_keypoints.tolist(), strict=True):
            entry["keypoints"] = points
    if kept.has("pred_masks"):
        run_lengths = masks_to_run_lengths(kept.pred_masks, kept.image_size)
        for entry, mask in zip(objects, run_lengths, strict=True):
            entry["segmentation"] = {**mask, "counts": mask["counts"].decode("ascii")}
    return objects
