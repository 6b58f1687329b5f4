"""Labels of clips as a dataset of YouTube-VIS: one JSON file, with an annotation per object."""

from collections.abc import Iterable
from pathlib import Path

from ..formats.tracks import Track, youtube_vis_tracks
from .export_coco import head
from .export_contents import Contents, NumberedRow, category_of
from .export_json import whole_json


def write_youtube_vis(rows: Iterable[NumberedRow], contents: Contents, path: Path) -> None:
    """Writes a dataset of YouTube-VIS; ids count from 1, those of annotations with gaps.

    An annotation is an object of a clip: `segmentations`, `bboxes` and `areas` have an entry for each frame, null where
    it cannot be seen. `score` is its mean predicted IoU; with `video_id`, `category_id` and `segmentations` it makes a
    result for the evaluation of YouTube-VIS.
    """
    category_ids = {name: idx for idx, name in enumerate(contents.categories, start=1)}
    with whole_json(path, ("annotations", "videos"), head(contents)) as (annotations, videos):
        for numbered in rows:
            row, annotation_id = numbered.row, numbered.first_mask
            common = {"height": row.height, "width": row.width, "length": row.num_frames}
            file_names = [f"{numbered.stem}/{name}" for name in numbered.frame_names]
            videos.append({"id": numbered.number, "name": row.item.name, "file_names": file_names, **common})
            for number, masks in numbered.masks_by_object().items():
                frames = [masks.get(idx) for idx in range(row.num_frames)]
                category_id = category_ids[category_of(next(iter(masks.values())))]
                score = round(sum(mask.score for mask in masks.values()) / len(masks), 4)
                segmentations = [numbered.run_lengths(mask) if mask else None for mask in frames]
                track = Track(number, category_id, score, segmentations)
                annotations.append(
                    {
                        "id": annotation_id,
                        **youtube_vis_tracks(numbered.number, [track])[0],
                        "bboxes": [mask and mask.bbox for mask in frames],
                        "areas": [mask and mask.area for mask in frames],
                        "iscrowd": 0,
                        "object": number,
                        **common,
                    }
                )
                annotation_id += len(masks)
