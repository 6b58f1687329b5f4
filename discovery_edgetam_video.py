"""Objects that nobody has prompted: a frame is searched for masks, and what no object covers yet becomes new ones.

    masks of everything -> minus what objects cover, best score first -> mask prompts on the frame

Shapes: (height, width) the frames of the video, (H, W) the model input.
"""

import itertools
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from .device_edgetam import send
from .everything_edgetam_video import EverythingOptions, Known, likeness, look_at, looks_of, middles, recognized
from .mask_generation_edgetam import (
    CandidateSearch,
    Crop,
    GridModel,
    MaskGenerationOptions,
    best_masks,
    find_candidates,
)
from .masks_edgetam import resize_mask
from .memory_bank_edgetam import PackedMask, Prompt
from .session_edgetam import EdgeTamVideoInferenceSession
from .stages_edgetam_video import TrackingModel
from .tracking_edgetam import EdgeTamVideoSegmentationOutput, embeddings_of_frame


class DiscoveringModel(GridModel, TrackingModel, Protocol):
    """A model that can track, and be prompted by a grid of points."""

    def get_image_embeddings(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Maps of pictures (B, 3, H, W) that see no memory."""
        ...


def discover(
    model: DiscoveringModel,
    session: EdgeTamVideoInferenceSession,
    frame_idx: int,
    options: EverythingOptions,
    known: dict[int, Known],
) -> dict[int, Known]:
    """Objects that are found, best score first, by their ids; the session has mask prompts of them now.

    What looks like a missed object and is not far from it is that object, which begins anew; the others are new. The
    frame is there, and so is the size of frames. What was found of an object on the frame is what it covers.

    Args:
        known: objects that may be missed, see `let_go`.
    """
    assert session.video_height is not None and session.video_width is not None
    size = session.video_height, session.video_width
    num_free = options.max_objects - len(session.objects)
    if num_free <= 0:
        return {}

    with torch.no_grad():
        features = embeddings_of_frame(model, session, frame_idx)[0]
        missed = let_go(session, frame_idx, features, known, options.other_look)
        candidates = find_candidates(search_of_frame(model, session, frame_idx, options.search))
        _, masks = best_masks(candidates, size, options.search)
        prompts = uncovered_masks(masks, covered_on(session, frame_idx, size), model.image_size, options, num_free)
        if not prompts:
            return {}
        unpacked = torch.stack([mask.unpack() for mask in prompts])
        looks, places = looks_of(features, list(unpacked)), middles(unpacked).tolist()
    found = [Known(look, (x, y)) for look, (x, y) in zip(looks, places)]
    new_ids = itertools.count(session.everything.next_id)
    known_ids = recognized(found, missed, options)
    obj_ids = [next(new_ids) if known_id is None else known_id for known_id in known_ids]
    for obj_id in {*obj_ids} & {*session.objects}:
        session.remove_object(obj_id)
    session.add_prompts(frame_idx, {i: Prompt(packed_mask=mask) for i, mask in zip(obj_ids, prompts)}, size)
    return dict(zip(obj_ids, found))


def search_of_frame(
    model: DiscoveringModel, session: EdgeTamVideoInferenceSession, frame_idx: int, options: MaskGenerationOptions
) -> CandidateSearch:
    """The search of a frame that is there, whose image embeddings are those of tracking; the session keeps them."""
    assert session.video_height is not None and session.video_width is not None

    def embeddings_of(crop: Crop) -> list[torch.Tensor]:
        if crop.layer == 0:
            *high_resolution, frame_embedding = embeddings_of_frame(model, session, frame_idx)
            forgotten = model.forget_memory(frame_embedding)
            return [*high_resolution, forgotten.to(frame_embedding.dtype)]  # under autocast it would be float32
        assert session.frames is not None and session.frame_processor is not None
        pixels = session.frames[frame_idx][:, crop.top : crop.bottom, crop.left : crop.right]
        pixel_values = session.frame_processor(pixels)[None]
        return model.get_image_embeddings(send(pixel_values, model.device).to(session.dtype))

    return CandidateSearch(model, embeddings_of, (session.video_height, session.video_width), options)


def let_go(
    session: EdgeTamVideoInferenceSession,
    frame_idx: int,
    features: torch.Tensor,
    known: dict[int, Known],
    other_look: float,
) -> dict[int, Known]:
    """Known objects that are missed on a frame, by id: there is no mask of them, or it looks too unlike them.

    Such a mask is of something else, and the session no longer follows it.
    """
    found = {obj_id: session.objects[obj_id].result_at(frame_idx) for obj_id in known if obj_id in session.objects}
    masks = {obj_id: result.mask > 0 for obj_id, result in found.items() if result and result.mask is not None}
    seen = dict(zip(masks, looks_of(features, [*masks.values()])))
    missed = {i: one for i, one in known.items() if i not in seen or likeness(one.look, seen[i]) < other_look}
    for obj_id in missed:
        if any(seen.get(obj_id, ())):
            session.remove_object(obj_id)
    return missed


def covered_on(session: EdgeTamVideoInferenceSession, frame_idx: int, size: tuple[int, int]) -> torch.Tensor:
    """Bool (height, width) on the CPU: where masks of objects are that were found on a frame."""
    results = (tracked_object.result_at(frame_idx) for tracked_object in session.objects.values())
    logits = [result.mask for result in results if result is not None and result.mask is not None]
    if not logits:
        return torch.zeros(size, dtype=torch.bool)
    highest = reduce(torch.maximum, logits)[None, None].float()
    return (F.interpolate(highest, size, mode="bilinear", align_corners=False)[0, 0] > 0).cpu()


def uncovered_masks(
    masks: Iterable[torch.Tensor],
    covered: torch.Tensor,
    image_size: tuple[int, int],
    options: EverythingOptions,
    limit: int,
) -> list[PackedMask]:
    """The parts (H, W) of masks (height, width) that neither what is covered nor an earlier mask has, at most `limit`.

    Masks stay whose covered share is at most `max_covered`, if they and what is left of them can show an object. That
    needs a pixel at (H, W), too, where lines vanish: an empty prompt would say that the object is absent.
    """
    taken, found = covered.clone(), []
    for mask in masks:
        rest = mask & ~taken
        area, num_left = int(mask.sum()), int(rest.sum())
        is_free = area - num_left <= options.max_covered * area
        if not (is_free and all(options.is_seen(num / mask.numel()) for num in (area, num_left))):
            continue
        resized = resize_mask(rest, image_size)
        if resized.any():
            found.append(PackedMask.pack(resized))
            taken |= rest
            if len(found) == limit:
                break
    return found


def follow(
    model: DiscoveringModel,
    find_objects: Callable[..., EdgeTamVideoSegmentationOutput],
    session: EdgeTamVideoInferenceSession,
    size: tuple[int, int],
    options: EverythingOptions,
    **frame: Any,
) -> EdgeTamVideoSegmentationOutput:
    """Masks of all objects on a frame, once those were dropped that have to go, and new ones discovered if it is time.

    The session changes at the very end.

    Args:
        find_objects: the function of that name, with the stages of a model.
        size: (height, width) of the frames.
        frame: its index, or the next frame of a stream, as `find_objects` takes it.
    """
    with session.lock:
        draft = session.draft()
        draft.set_size(size)
        output = find_objects(draft, **frame)
        seen = look_at(output.object_ids, output.pred_masks[:, 0], options.merge_iou)
        state, dropped = draft.everything.after(output.frame_idx, seen, options)
        for obj_id in {*dropped} & {*draft.objects}:
            draft.remove_object(obj_id)
        draft.set_everything(state)
        output = without(output, dropped)
        if draft.everything.is_due(seen, options) and len(draft.objects) < options.max_objects:
            found = discover(model, draft, output.frame_idx, options, state.known)
            if found:
                output = find_objects(draft, frame_idx=output.frame_idx, answers_prompts=True)
            output = without(output, [obj_id for obj_id in output.object_ids if obj_id not in draft.objects])
            seen = look_at(output.object_ids, output.pred_masks[:, 0], options.merge_iou)
            draft.set_everything(state.discovered(found, seen.uncovered))
        session.adopt(draft)
    return output


def without(output: EdgeTamVideoSegmentationOutput, obj_ids: list[int]) -> EdgeTamVideoSegmentationOutput:
    """The output without some of its objects."""
    if not obj_ids:
        return output
    rows = [row for row, obj_id in enumerate(output.object_ids) if obj_id not in obj_ids]
    places = send(torch.tensor(rows, dtype=torch.long), output.pred_masks.device)
    return EdgeTamVideoSegmentationOutput(
        object_ids=[output.object_ids[row] for row in rows],
        pred_masks=output.pred_masks[places],
        object_score_logits=output.object_score_logits[places],
        iou_scores=output.iou_scores[places],
        frame_idx=output.frame_idx,
    )
