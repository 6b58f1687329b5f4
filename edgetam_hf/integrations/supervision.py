"""EdgeTAM's results as `supervision.Detections`, for its annotators, filters, zones and metrics.

Shapes: N objects, (H, W) the picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..device_edgetam import fetch
from ..found_objects import CutMask, masks_of_logits
from ..image_processing_edgetam import check_original_sizes

try:
    import supervision as sv
except ImportError as error:
    raise ImportError("EdgeTAM's results in supervision need supervision: pip install supervision") from error


FRAME_FIELDS = {"pred_masks", "iou_scores", "object_score_logits", "object_ids"}
PICTURE_FIELDS = {"pred_masks", "iou_scores", "object_score_logits"}


class Found(NamedTuple):
    """All objects of some outputs, one entry for each in every list; size is (H, W), None without masks."""

    masks: list[CutMask]
    scores: list[float]
    is_present: list[bool]
    ids: list[int] | None
    size: tuple[int, int] | None


def to_detections(
    outputs: Any,
    session: Any = None,
    *,
    original_sizes: Any = None,
    class_id: Mapping[int, int] | Sequence[int] | None = None,
    compact_masks: bool = False,
) -> sv.Detections:
    """`sv.Detections` of the objects that were found; those that are absent or have no pixel are left out.

    `xyxy` (N, 4) float32 are the boxes of the masks in pixels of the picture, last pixel included, as in supervision's
    `mask_to_xyxy`. `mask` is bool (N, H, W), `confidence` (N,) the predicted IoU, `tracker_id` (N,) in videos the ids
    of the objects.

    Args:
        outputs: one of

            * of `EdgeTamVideoModel` or `propagate_in_video_iterator`, with its `session`;
            * of `EdgeTamModel` for one picture, with `original_sizes`; of several masks of an object the best counts;
            * of the mask-generation pipeline for one picture, or a dict like it: `masks`, a list or stack of N masks
              (H, W) or of the M masks (M, H, W) of each object, as `post_process_masks` returns them; `scores` (N,) or
              (N, M); and of tracked objects also `object_ids`, N integers.
        session: of which a video's outputs are.
        original_sizes: (height, width) of the picture in a list or tensor of its own, as the processor returns it.
        class_id: class of each object, in the order of `outputs`, or in videos by the id of the object.
        compact_masks: whether `mask` is a `sv.CompactMask`, which takes little memory however large the picture is.

    Raises:
        TypeError: for outputs of any other kind.
        ValueError: where a session, a size or a class is missing, or given with outputs that do not need it; for
            outputs of several pictures; and for compact masks where supervision is too old for them.
    """
    found = _read(outputs, session, original_sizes)
    classes = _read_classes(class_id, found)
    kept = [idx for idx, mask in enumerate(found.masks) if mask.box is not None and found.is_present[idx]]
    masks = [found.masks[idx] for idx in kept]
    boxes = np.array([mask.box for mask in masks], np.float32).reshape(-1, 4)
    return sv.Detections(
        xyxy=boxes,
        mask=_stack(masks, boxes, found.size, compact_masks),
        confidence=np.array([found.scores[idx] for idx in kept], np.float32),
        class_id=None if classes is None else np.array([classes[idx] for idx in kept], int),
        tracker_id=None if found.ids is None else np.array([found.ids[idx] for idx in kept], int),
    )


def _read(outputs: Any, session: Any, original_sizes: Any) -> Found:
    fields = set(outputs) if isinstance(outputs, Mapping) else set()
    is_frame, is_picture = fields >= FRAME_FIELDS, fields >= PICTURE_FIELDS
    if not is_frame and session is not None:
        raise ValueError("session is for the outputs of a video model, which these are not: leave it out")
    if (is_frame or not is_picture) and original_sizes is not None:
        raise ValueError("original_sizes is for the outputs of EdgeTamModel, which these are not: leave it out")
    if is_frame:
        return _read_frame(outputs, session)
    if is_picture:
        return _read_picture(outputs, original_sizes)
    if fields >= {"masks", "scores"}:
        return _read_masks(outputs)
    found = f"a dict of {sorted(map(str, fields))}" if fields else type(outputs).__name__
    raise TypeError(
        "outputs must be those of EdgeTamVideoModel, of EdgeTamModel, of the mask-generation pipeline for one picture, "
        f"or a dict with masks and scores, got {found}"
    )


def _read_frame(outputs: Any, session: Any) -> Found:
    height, width = (getattr(session, name, None) for name in ("video_height", "video_width"))
    if height is None or width is None:
        raise ValueError(
            "outputs of a video model need their session, which knows the size of the frames: to_detections(outputs, "
            f"session), got session={type(session).__name__}"
        )
    scores, object_scores = fetch(
        [part.flatten().float() for part in (outputs.iou_scores, outputs.object_score_logits)]
    )
    masks = masks_of_logits(outputs.pred_masks[:, 0], (height, width))
    return Found(masks, scores.tolist(), (object_scores > 0).tolist(), list(outputs.object_ids), (height, width))


def _read_picture(outputs: Any, original_sizes: Any) -> Found:
    if original_sizes is None:
        raise ValueError(
            "outputs of EdgeTamModel need the size of the picture: to_detections(outputs, "
            'original_sizes=inputs["original_sizes"])'
        )
    sizes, num_pictures = check_original_sizes(original_sizes), outputs.pred_masks.shape[0]
    if len(sizes) != 1 or num_pictures != 1:
        raise ValueError(
            f"to_detections takes one picture at a time, got {num_pictures} with {len(sizes)} original_sizes: "
            'give {"masks": processor.post_process_masks(outputs.pred_masks, sizes)[i], "scores": '
            "outputs.iou_scores[i]} for picture i"
        )
    scores, best = outputs.iou_scores[0].float().max(dim=-1)
    logits = outputs.pred_masks[0, torch.arange(len(best), device=best.device), best]
    scores, object_scores = fetch([scores, outputs.object_score_logits[0].flatten().float()])
    return Found(masks_of_logits(logits, sizes[0]), scores.tolist(), (object_scores > 0).tolist(), None, sizes[0])


def _read_masks(outputs: Mapping[str, Any]) -> Found:
    scores = torch.as_tensor(outputs["scores"]).float().cpu()
    if len(outputs["masks"]) != len(scores):
        raise ValueError(f"masks and scores must be of as many objects, got {len(outputs['masks'])} and {len(scores)}")
    masks, best_scores = [], []
    for idx, (given, of_object) in enumerate(zip(outputs["masks"], scores)):
        mask = np.asarray(given.cpu() if isinstance(given, torch.Tensor) else given)
        if mask.dtype != bool or mask.shape[:-2] != tuple(of_object.shape) or mask.ndim > 3:
            raise ValueError(
                "masks must be boolean and (H, W) each with a score, or (M, H, W) with M scores, but masks"
                f"[{idx}] is {mask.dtype} {mask.shape} with scores of shape {tuple(of_object.shape)}"
            )
        best = int(of_object.argmax())
        masks.append(CutMask.of(mask.reshape(-1, *mask.shape[-2:])[best]))
        best_scores.append(float(of_object.flatten()[best]))
    ids = outputs.get("object_ids")
    if ids is not None and len(ids) != len(masks):
        raise ValueError(f"object_ids must have one id per mask, got {len(ids)} for {len(masks)} masks")
    sizes = {(mask.height, mask.width) for mask in masks}
    if len(sizes) > 1:
        raise ValueError(f"masks must all have the size of the picture, got {sorted(sizes)}")
    return Found(masks, best_scores, [True] * len(masks), ids and list(ids), sizes.pop() if sizes else None)


def _read_classes(class_id: Mapping[int, int] | Sequence[int] | None, found: Found) -> Sequence[int] | None:
    """The class of each object, in order."""
    if isinstance(class_id, Mapping):
        missing = [obj_id for obj_id in found.ids or () if obj_id not in class_id]
        if found.ids is None or missing:
            what = f"has no class for objects {missing}" if missing else "is a dict, but the objects have no ids"
            raise ValueError(f"class_id {what}: give a class for each object, or a list in their order")
        return [class_id[obj_id] for obj_id in found.ids]
    if class_id is not None and len(class_id) != len(found.masks):
        raise ValueError(f"class_id must have one class per object, got {len(class_id)} for {len(found.masks)} objects")
    return class_id


def _stack(masks: list[CutMask], boxes: np.ndarray, size: tuple[int, int] | None, is_compact: bool) -> Any:
    """All masks as `sv.Detections` takes them; None where no picture is known."""
    if is_compact and not hasattr(sv, "CompactMask"):
        raise ValueError(f"supervision {sv.__version__} has no compact masks: pip install -U supervision")
    if size is None:
        return None
    if is_compact:
        return sv.CompactMask.from_coco_rle([mask.run_lengths() for mask in masks], boxes, size)
    return np.stack([mask.full() for mask in masks]) if masks else np.zeros((0, *size), bool)
