"""The console command `edgetam`: segment what is prompted, or everything, in a picture."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from transformers.utils import logging

from . import EdgeTamImageProcessor, EdgeTamMaskGenerationPipeline, EdgeTamModel, EdgeTamProcessor, nano_checkpoint
from .drawing import index_picture, overlay, save_whole
from .image_processing_edgetam import decode_picture

SAMPLE_PICTURE = Path(__file__).with_name("samples") / "cat.jpg"
SAMPLE_PROMPTS = [("point", (175, 115, 1)), ("box", (296, 105, 352, 165))]  # the eyes of a cat
DESCRIPTION = "EdgeTAM: masks of anything you point at in a picture."
EXAMPLES = """\
examples:
  edgetam segment                                        a sample photograph, with the embedded checkpoint
  edgetam segment dog.jpg --point 320,200                one click on the object
  edgetam segment dog.jpg --point 320,200 --point 50,60,0   ... and one beside it (0: not the object)
  edgetam segment dog.jpg --box 100,80,420,390           a box around the object
  edgetam segment dog.jpg --box 9,9,90,90 --point 40,40 --box 100,80,420,390
                                                         two objects: every --box begins a new one
  edgetam segment dog.jpg --box 9,9,90,90 --model yonigozlan/EdgeTAM-hf
                                                         the published checkpoint (downloads 56 MB)
  edgetam masks dog.jpg                                  masks of everything
"""


def parse_point(text):
    """("point", (x, y, label)) from "X,Y" or "X,Y,LABEL" with label 1 (the object, default) or 0 (not the object)."""
    values = _numbers(text, (2, 3), "X,Y or X,Y,LABEL")
    label = int(values[2]) if len(values) == 3 else 1
    if len(values) == 3 and values[2] not in (0, 1):
        raise argparse.ArgumentTypeError(f"the label of a point is 1 (object) or 0 (not the object), got {text!r}")
    return "point", (values[0], values[1], label)


def parse_box(text):
    """("box", (x_min, y_min, x_max, y_max)) from "X0,Y0,X1,Y1"."""
    x_min, y_min, x_max, y_max = _numbers(text, (4,), "X0,Y0,X1,Y1")
    if x_max <= x_min or y_max <= y_min:
        raise argparse.ArgumentTypeError(f"a box is X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1, got {text!r}")
    return "box", (x_min, y_min, x_max, y_max)


def _numbers(text, counts, layout):
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not np.isfinite(values).all():
        raise argparse.ArgumentTypeError(f"expected {layout} in pixels of the picture, got {text!r}")
    return values


def make_parser():
    """The parser of the whole command line."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("edgetam", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=style)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--model", default=str(nano_checkpoint()), help="folder or Hub id (default: embedded nano)")
    shared.add_argument("--output", type=Path, metavar="PNG", help="where the overlay goes; the mask goes beside it")
    shared.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    shared.add_argument("--json", action="store_true", help="print JSON instead of a table")

    segment = commands.add_parser(
        "segment", parents=[shared], help="segment prompted objects", epilog=EXAMPLES, formatter_class=style
    )
    segment.add_argument("image", nargs="?", type=Path, help="picture file (default: a sample photograph)")
    prompt = {"action": "append", "dest": "prompts"}
    segment.add_argument(
        "--point", type=parse_point, metavar="X,Y[,0|1]", help="click, off the object with 0", **prompt
    )
    segment.add_argument("--box", type=parse_box, metavar="X0,Y0,X1,Y1", help="box; begins a new object", **prompt)
    segment.add_argument("--multimask", action="store_true", help="choose the best of three masks per object")
    segment.set_defaults(run=run_segment)

    masks = commands.add_parser("masks", parents=[shared], help="segment everything", formatter_class=style)
    masks.add_argument("image", type=Path, help="picture file")
    masks.add_argument("--points-per-side", type=int, default=32, metavar="N", help="N x N clicks (default: 32)")
    masks.add_argument("--points-per-batch", type=int, default=64, metavar="N", help="clicks at a time (default: 64)")
    masks.add_argument("--pred-iou-thresh", type=float, default=0.88, metavar="IOU", help="default: %(default)s")
    masks.add_argument("--stability-score-thresh", type=float, default=0.95, metavar="IOU", help="default: %(default)s")
    masks.set_defaults(run=run_masks)
    return parser


def main(arguments=None):
    """Exit code of the command; errors of the user's making are one line on stderr."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        report = options.run(options)
    except (ValueError, TypeError, OSError) as error:
        print(f"edgetam: error: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return 1
    print(json.dumps(report) if options.json else as_table(report))
    return 0


def load_model(options):
    """The model that the options name, loaded without a progress bar."""
    logging.disable_progress_bar()
    try:
        return EdgeTamModel.from_pretrained(options.model, device_map=options.device)
    finally:
        logging.enable_progress_bar()


def load_picture(path):
    """uint8 array (H, W, 3) of a picture file, turned upright as its EXIF data say."""
    try:
        with Image.open(path) as image:
            return decode_picture(ImageOps.exif_transpose(image), str(path))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture in a format that Pillow knows") from error


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


def run_segment(options):
    """Segments the prompted objects, writes overlay and mask, and returns the report."""
    if options.image is None:
        options.image, options.prompts = SAMPLE_PICTURE, options.prompts or SAMPLE_PROMPTS
    if not options.prompts:
        raise ValueError("say what to segment with --point X,Y or --box X0,Y0,X1,Y1, or use `edgetam masks`")
    picture, objects = load_picture(options.image), group_prompts(options.prompts)
    model = load_model(options)
    processor = EdgeTamProcessor.from_pretrained(options.model)
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
        {"prompt": describe(o), "score": round(score, 3), "present": logit > 0, **measure(mask)}
        for o, score, logit, mask in zip(objects, scores, outputs.object_score_logits[0, :, 0].tolist(), masks)
    ]
    drawn = overlay(picture, masks, [p for o in objects for p in o["points"]], [o["box"] for o in objects if o["box"]])
    return {**report_head(options, picture), "objects": rows, **write_pictures(options, drawn, masks)}


def corner_points(box):
    """A box as two points with the labels of its corners; no points for None."""
    return [] if box is None else [(*box[:2], 2), (*box[2:], 3)]


def describe(prompted):
    """Short text of the prompts of an object."""
    parts = [] if prompted["box"] is None else ["box " + ",".join(f"{value:g}" for value in prompted["box"])]
    parts += [f"{'+' if label else '-'}{x:g},{y:g}" for x, y, label in prompted["points"]]
    return " ".join(parts)


def measure(mask):
    """Area in pixels and bounding box [x_min, y_min, x_max, y_max] (last pixel included) of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1], rows[-1]] if len(rows) else [0, 0, 0, 0]
    return {"area": int(mask.sum()), "box": [int(side) for side in box]}


def run_masks(options):
    """Segments everything, writes overlay and masks, and returns the report."""
    picture = load_picture(options.image)
    generator = EdgeTamMaskGenerationPipeline(
        model=load_model(options),
        image_processor=EdgeTamImageProcessor.from_pretrained(options.model),
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


def report_head(options, picture):
    """What the report says of the call itself."""
    return {"image": str(options.image), "height": picture.shape[0], "width": picture.shape[1], "model": options.model}


def write_pictures(options, drawn, masks):
    """Writes the overlay and the index picture of the masks; returns their paths."""
    path = options.output or Path(f"{options.image.stem}_{options.command}.png")
    mask_path = path.with_name(f"{path.stem}_mask.png")
    save_whole(drawn, path)
    save_whole(index_picture(masks[:255]), mask_path)
    return {"overlay": str(path), "mask": str(mask_path)}


def as_table(report):
    """The report as text: a line per object, then where the pictures are."""
    rows = [{"object": str(number), **row} for number, row in enumerate(report["objects"], start=1)]
    for row in rows:
        row["area"] = f"{100 * row['area'] / (report['height'] * report['width']):.1f} %"
        row["box"] = ",".join(map(str, row["box"]))
        if "present" in row:
            row["present"] = "yes" if row["present"] else "no"
    names = list(rows[0])
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in names}
    lines = ["  ".join(name.ljust(widths[name]) for name in names).rstrip()]
    lines += ["  ".join(str(row[name]).ljust(widths[name]) for name in names).rstrip() for row in rows]
    return "\n".join([*lines, "", f"overlay: {report['overlay']}", f"mask:    {report['mask']}"])


if __name__ == "__main__":
    sys.exit(main())
