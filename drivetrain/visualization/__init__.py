"""Pictures: boxes, masks and keypoints drawn on images, contact sheets, and a report of a run to send around."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .drawing import draw_instances as draw_instances
    from .drawing import mask_outline as mask_outline
    from .image_file import save_image as save_image
    from .outputs import draw_output as draw_output
    from .outputs import top_classes as top_classes
    from .palette import class_color as class_color
    from .palette import text_color as text_color
    from .predictions import draw_predictions as draw_predictions
    from .predictions import draw_record as draw_record
    from .regions import draw_label_map as draw_label_map
    from .regions import draw_regions as draw_regions
    from .report import write_report as write_report
    from .sheet import captioned as captioned
    from .sheet import contact_sheet as contact_sheet
    from .sheet import side_by_side as side_by_side

__all__ = [
    "captioned",
    "class_color",
    "contact_sheet",
    "draw_instances",
    "draw_label_map",
    "draw_output",
    "draw_predictions",
    "draw_record",
    "draw_regions",
    "mask_outline",
    "save_image",
    "side_by_side",
    "text_color",
    "top_classes",
    "write_report",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "captioned": "sheet",
        "class_color": "palette",
        "contact_sheet": "sheet",
        "draw_instances": "drawing",
        "draw_label_map": "regions",
        "draw_output": "outputs",
        "draw_predictions": "predictions",
        "draw_record": "predictions",
        "draw_regions": "regions",
        "mask_outline": "drawing",
        "save_image": "image_file",
        "side_by_side": "sheet",
        "text_color": "palette",
        "top_classes": "outputs",
        "write_report": "report",
    },
)
