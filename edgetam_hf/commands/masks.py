"""`edgetam masks`: masks of everything in a picture."""

from PIL import Image

from .. import EdgeTamImageProcessor, EdgeTamMaskGenerationPipeline, EdgeTamModel
from ..drawing import overlay
from .support import (
    as_picture_table,
    checkpoint_of,
    device_of,
    load_picture,
    load_quietly,
    measure,
    report_head,
    write_pictures,
)

as_text = as_picture_table


def run(options):
    """Segments everything, writes overlay and masks, and returns the report."""
    picture = load_picture(options.image)
    checkpoint = checkpoint_of(options.model)
    generator = EdgeTamMaskGenerationPipeline(
        model=load_quietly(EdgeTamModel, checkpoint, device_map=device_of(options.device)),
        image_processor=load_quietly(EdgeTamImageProcessor, checkpoint),
    )
    outputs = generator(
        Image.fromarray(picture),
        points_per_crop=options.points_per_side,
        points_per_batch=options.points_per_batch,
        pred_iou_thresh=options.pred_iou_thresh,
        stability_score_thresh=options.stability_score_thresh,
        progress=not options.json,
    )
    found = sorted(zip(outputs["masks"], outputs["scores"].tolist()), key=lambda item: -int(item[0].sum()))
    masks = [mask.numpy() for mask, _ in found]
    if not masks:
        raise ValueError("no mask passed the thresholds; lower --pred-iou-thresh or --stability-score-thresh")
    rows = [{"score": round(score, 3), **measure(mask)} for mask, (_, score) in zip(masks, found)]
    return {**report_head(options, picture), "objects": rows, **write_pictures(options, overlay(picture, masks), masks)}
