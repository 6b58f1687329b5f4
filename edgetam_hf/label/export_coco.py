"""Labels as a COCO dataset: one JSON file for all pictures, or for the frames of all clips."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..files.reading import parse_json
from .export_contents import Contents, NumberedRow, category_of
from .export_json import whole_json
from .items import CLIP
from .rows import MaskRow


def write_coco(rows: Iterable[NumberedRow], contents: Contents, path: Path) -> None:
    """Writes a COCO dataset; ids count from 1, in the order of names.

    A frame of a clip is an image with `video_id` and `frame_id` (from 0), and its masks have the object's number as
    `track_id`. An annotation has what COCO asks for, and `score` and what else `describe` says.
    """
    category_ids = {name: idx for idx, name in enumerate(contents.categories, start=1)}
    lists = ("annotations", "images", "videos")
    with whole_json(path, lists, head(contents)) as (annotations, images, videos):
        for numbered in rows:
            row = numbered.row
            of_frames = _images(numbered)
            for image in of_frames:
                images.append(image)
            if row.item.kind == CLIP:
                sides = {"height": row.height, "width": row.width}
                videos.append({"id": numbered.number, "name": row.item.name, "length": row.num_frames, **sides})
            for annotation_id, mask in enumerate(row.masks, start=numbered.first_mask):
                image = of_frames[mask.frame]
                of_clip = {"video_id": image["video_id"], "track_id": mask.object} if "video_id" in image else {}
                annotations.append(
                    {
                        "id": annotation_id,
                        "image_id": image["id"],
                        **of_clip,
                        "category_id": category_ids[category_of(mask)],
                        "iscrowd": 0,
                        "score": round(mask.score, 4),
                        "object": mask.object,
                        **describe(numbered, mask),
                    }
                )


def head(contents: Contents) -> dict[str, Any]:
    """What COCO and YouTube-VIS have beside their lists: where the masks come from, and the categories."""
    info = {
        "description": "masks by EdgeTAM, edgetam label",
        "checkpoint": contents.checkpoint,
        "settings": parse_json(contents.settings, "the settings in the rows"),
    }
    categories = [{"id": idx, "name": name} for idx, name in enumerate(contents.categories, start=1)]
    return {"info": info, "categories": categories}


def describe(numbered: NumberedRow, mask: MaskRow) -> dict[str, Any]:
    """What COCO and SA-1B say of a mask.

    `segmentation` (run lengths), `bbox` [x, y, width, height] and `area` in pixels, `predicted_iou`, `stability_score`
    if it is known, and `point_coords`, the points [x, y] on the object that led to it.
    """
    stability = {} if mask.stability_score is None else {"stability_score": round(mask.stability_score, 4)}
    return {
        "segmentation": numbered.run_lengths(mask),
        "bbox": mask.bbox,
        "area": mask.area,
        "predicted_iou": round(mask.score, 4),
        **stability,
        "point_coords": _points(numbered, mask),
    }


def _images(numbered: NumberedRow) -> list[dict[str, Any]]:
    """Image of each frame; a picture is one."""
    row = numbered.row
    sides = {"height": row.height, "width": row.width}
    if row.item.kind != CLIP:
        return [{"id": numbered.first_image, "file_name": row.item.name, **sides}]
    return [
        {
            "id": numbered.first_image + idx,
            "video_id": numbered.number,
            "frame_id": idx,
            "file_name": f"{numbered.stem}/{name}",
            **sides,
        }
        for idx, name in enumerate(numbered.frame_names)
    ]


def _points(numbered: NumberedRow, mask: MaskRow) -> list[list[float]]:
    if mask.point is not None:
        return [list(mask.point)]
    prompts = (p for p in numbered.row.item.prompts if (p.object, p.frame) == (mask.object, mask.frame))
    return [[x, y] for prompt in prompts for x, y, label in prompt.points or () if label == 1]
