"""`edgetam segment`: masks of the objects that are prompted in a picture."""

from pathlib import Path

import torch

from .. import EdgeTamModel, EdgeTamProcessor
from ..drawing import overlay
from .support import (
    as_picture_table,
    checkpoint_of,
    describe,
    device_of,
    load_picture,
    load_quietly,
    measure,
    report_head,
    write_pictures,
)

SAMPLE_PICTURE = Path(__file__).parents[1] / "samples" / "cat.jpg"
SAMPLE_PROMPTS = [("point", (175, 115, 1)), ("box", (296, 105, 352, 165))]  # the eyes of a cat
as_text = as_picture_table


def run(options):
    """Segments the prompted objects, writes overlay and mask, and returns the report."""
    if options.image is None:
        options.image, options.prompts = SAMPLE_PICTURE, options.prompts or SAMPLE_PROMPTS
    if not options.prompts:
        raise ValueError("say what to segment with --point X,Y or --box X0,Y0,X1,Y1, or use `edgetam masks`")
    picture, objects = load_picture(options.image), group_prompts(options.prompts)
    checkpoint = checkpoint_of(options.model)
    model = load_quietly(EdgeTamModel, checkpoint, device_map=device_of(options.device))
    processor = load_quietly(EdgeTamProcessor, checkpoint)
    clicks = [corner_points(o["box"]) + o["points"] for o in objects]
    inputs = processor(
        images=picture,
        input_points=[[[point[:2] for point in points] for points in clicks]],
        input_labels=[[[point[2] for point in points] for points in clicks]],
        return_tensors="pt",
    ).to(model.device)
    with torch.inference_mode():
        outputs = model(**inputs, multimask_output=options.multimask)
    masks = processor.post_process_masks(outputs.pred_masks.cpu(), inputs["original_sizes"])[0].numpy()
    best = outputs.iou_scores[0].argmax(-1).tolist()
    masks = [candidates[idx] for candidates, idx in zip(masks, best)]
    scores = [candidates[idx] for candidates, idx in zip(outputs.iou_scores[0].tolist(), best)]
    rows = [
        {"prompt": describe(o["box"], o["points"]), "score": round(score, 3), "present": logit > 0, **measure(mask)}
        for o, score, logit, mask in zip(objects, scores, outputs.object_score_logits[0, :, 0].tolist(), masks)
    ]
    drawn = overlay(picture, masks, [p for o in objects for p in o["points"]], [o["box"] for o in objects if o["box"]])
    return {**report_head(options, picture), "objects": rows, **write_pictures(options, drawn, masks)}


def group_prompts(prompts):
    """Objects as dictionaries with `box` (or None) and `points`: every box begins one, points join the last one."""
    objects = []
    for kind, values in prompts:
        if kind == "box" or not objects:
            objects.append({"box": None, "points": []})
        if kind == "box":
            objects[-1]["box"] = values
        else:
            objects[-1]["points"].append(values)
    return objects


def corner_points(box):
    """A box as two points with the labels of its corners; no points for None."""
    return [] if box is None else [(*box[:2], 2), (*box[2:], 3)]
