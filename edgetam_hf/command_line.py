"""The console command `edgetam`: segment what is prompted, or everything, track it in a video, convert checkpoints."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import EdgeTamImageProcessor, EdgeTamMaskGenerationPipeline, EdgeTamModel, EdgeTamProcessor, nano_checkpoint
from .command_support import as_columns, describe, load_picture, load_quietly, measure, quieten_hub_client
from .convert_command import as_convert_table, run_convert
from .drawing import index_picture, overlay, save_whole
from .evaluate_command import FIRST_MASK, PROTOCOLS, as_evaluate_text, run_evaluate
from .evaluation.video_datasets import LAYOUTS
from .track_command import VIDEO_CHECKPOINT, as_track_table, run_track
from .train_command import add_train_parser

SAMPLE_PICTURE = Path(__file__).with_name("samples") / "cat.jpg"
SAMPLE_PROMPTS = [("point", (175, 115, 1)), ("box", (296, 105, 352, 165))]  # the eyes of a cat
DESCRIPTION = "EdgeTAM: masks of anything you point at in a picture or a video."
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
  edgetam track dog.mp4 --point 320,200                  the object through a video; more: edgetam track --help
  edgetam convert edgetam.pt folder                      the original checkpoint for Transformers, or back
"""
TRACK_EXAMPLES = """\
examples:
  edgetam track dog.mp4 --point 320,200                  one click on the first frame, with the published checkpoint
                                                         (downloads 56 MB)
  edgetam track frames/ --frame 30 --box 9,9,90,90       a folder of pictures, and a box on frame 30
  edgetam track dog.mp4 --box 9,9,90,90 --box 100,80,420,390
                                                         two objects: another --box on a frame begins a new one
  edgetam track dog.mp4 --box 9,9,90,90 --frame 30 --point 50,60,0 --object 2 --point 200,80
                                                         --frame and --object are for the prompts after them: the
                                                         first object is corrected on frame 30, a second begins there
  edgetam track dog.mp4 --frame 99 --point 320,200 --reverse
                                                         back to the beginning
  edgetam track dog.mp4 --resume                         goes on after it was stopped or killed

written to dog_track/:
  masks/00000.png …   palette pictures whose value is the object's number, the later one where objects overlap
  overlay.mp4         the video with its masks, to look at; it can be watched while it grows
  frames.jsonl        a line per frame: score, visibility, area, box and run lengths of each object
  tracks.json, annotations.json
                      the same in the formats of YouTube-VIS and of COCO, in the end (needs pycocotools)
"""
CONVERT_EXAMPLES = """\
examples:
  edgetam convert edgetam.pt EdgeTAM                     a checkpoint of the original release (or of its training code)
                                                         into a folder for Transformers, with code and processor
  edgetam convert yonigozlan/EdgeTAM-hf edgetam.pt       a folder or Hub id of Transformers (downloads 56 MB) into a
                                                         file that the original release loads
  edgetam convert edgetam.pt EdgeTAM-half --dtype float16
                                                         half the size

Numbers stay as they are, bit by bit, unless --dtype is given. A checkpoint is converted whole or not at all: keys that
are unknown, missing or of another shape are all listed. Checkpoints with code in them are refused. Where a checkpoint
came from, and the SHA-256 of its files, is kept: in provenance.json, or as "provenance" beside "model" in a .pt file.
"""
EVALUATE_EXAMPLES = """\
examples:
  edgetam evaluate davis DAVIS                           J&F of the published checkpoint (downloads 56 MB)
  edgetam evaluate davis DAVIS --results pictures        ... of pictures/SEQUENCE/FRAME.png, whoever made them
  edgetam evaluate davis DAVIS --preprocessing release   frames resized as by the original release
  torchrun --nproc-per-node 2 -m edgetam_hf.command_line evaluate davis DAVIS
                                                         the sequences shared out, with equal results
  edgetam evaluate sa-v sav_val                          JPEGImages_24fps and Annotations_6fps
  edgetam evaluate clicks pictures                       IoU after 1 and 5 clicks on pictures/images/NAME.jpg, whose
                                                         objects are in pictures/masks/NAME.png
  edgetam evaluate mose MOSE/valid --submission mose.zip     what the server of the benchmark takes
  edgetam evaluate youtube-vos split --train-meta train/meta.json
                                                         G: J and F of seen and of unseen categories
  edgetam evaluate davis DAVIS --protocol offline        J&F after clicks on 1 to 8 frames of each object, as in SAM 2
  edgetam evaluate davis DAVIS --protocol online         ... in a single pass that pauses where IoU is below 0.75

The same command again goes on where it was stopped. Each object is given by its first mask; its first frame and the
last annotated one do not count, as in davis2017-evaluation (in YouTube-VOS the last one does). With clicks, offline
and online, all frames with ground truth count.

written to ROOT_DATASET/, with clicks to ROOT_DATASET_PROTOCOL/:
  masks/SEQUENCE/FRAME.png    index pictures, the lowest id where objects overlap; for SA-V SEQUENCE/OBJECT/FRAME.png
  scores.json, plot.png, worst/
                      J and F of all objects and frames; J&F over frames (needs matplotlib); the worst objects
  objects/, clicks/   with clicks: where each object was clicked and what it led to; a look at it for the worst objects
"""


def parse_point(text):
    """("point", (x, y, label)) from "X,Y" or "X,Y,LABEL" with label 1 (the object, default) or 0 (not the object)."""
    values = _numbers(text, (2, 3), "X,Y or X,Y,LABEL in pixels of the picture")
    label = int(values[2]) if len(values) == 3 else 1
    if len(values) == 3 and values[2] not in (0, 1):
        raise argparse.ArgumentTypeError(f"the label of a point is 1 (object) or 0 (not the object), got {text!r}")
    return "point", (values[0], values[1], label)


def parse_box(text):
    """("box", (x_min, y_min, x_max, y_max)) from "X0,Y0,X1,Y1"."""
    x_min, y_min, x_max, y_max = _numbers(text, (4,), "X0,Y0,X1,Y1 in pixels of the picture")
    if x_max <= x_min or y_max <= y_min:
        raise argparse.ArgumentTypeError(f"a box is X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1, got {text!r}")
    return "box", (x_min, y_min, x_max, y_max)


def _numbers(text, counts, layout):
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not np.isfinite(values).all():
        raise argparse.ArgumentTypeError(f"expected {layout}, got {text!r}")
    return values


def parse_object(text):
    """("object", number) from a number that fits the 8 bits of a mask file."""
    return "object", _integer(text, 1, 255)


def parse_frame(text):
    """("frame", index) from an index counted from 0."""
    return "frame", _integer(text, 0)


def parse_count(text):
    """A positive integer."""
    return _integer(text, 1)


def _integer(text, low, high=None):
    if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
        limits = f"from {low} on" if high is None else f"in {low}..{high}"
        raise argparse.ArgumentTypeError(f"expected an integer {limits}, got {text!r}")
    return int(text)


def parse_rate(text):
    """A positive number."""
    (rate,) = _numbers(text, (1,), "a number")
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return rate


def parse_mask(text):
    """("mask", absolute path)."""
    return "mask", str(Path(text).absolute())


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
    segment.set_defaults(run=run_segment, as_text=as_table)

    masks = commands.add_parser("masks", parents=[shared], help="segment everything", formatter_class=style)
    masks.add_argument("image", type=Path, help="picture file")
    masks.add_argument("--points-per-side", type=int, default=32, metavar="N", help="N x N clicks (default: 32)")
    masks.add_argument("--points-per-batch", type=int, default=64, metavar="N", help="clicks at a time (default: 64)")
    masks.add_argument("--pred-iou-thresh", type=float, default=0.88, metavar="IOU", help="default: %(default)s")
    masks.add_argument("--stability-score-thresh", type=float, default=0.95, metavar="IOU", help="default: %(default)s")
    masks.set_defaults(run=run_masks, as_text=as_table)
    add_track_parser(commands)
    add_convert_parser(commands)
    add_evaluate_parser(commands)
    add_train_parser(commands)
    return parser


def add_track_parser(commands):
    """Adds the parser of `edgetam track`; what is not given stays None, so that --resume can tell."""
    style = argparse.RawDescriptionHelpFormatter
    track = commands.add_parser(
        "track", help="track prompted objects through a video", epilog=TRACK_EXAMPLES, formatter_class=style
    )
    track.add_argument("video", help="video file, or folder of pictures")
    prompt = {"action": "append", "dest": "prompts"}
    track.add_argument("--point", type=parse_point, metavar="X,Y[,0|1]", help="click, off the object with 0", **prompt)
    track.add_argument(
        "--box", type=parse_box, metavar="X0,Y0,X1,Y1", help="box; another one on a frame begins a new object", **prompt
    )
    track.add_argument("--mask", type=parse_mask, metavar="PNG", help="mask: pixels that are not zero", **prompt)
    track.add_argument(
        "--frame", type=parse_frame, metavar="N", help="frame of the prompts that follow (default: 0)", **prompt
    )
    track.add_argument(
        "--object", type=parse_object, metavar="N", help="object of the prompts that follow (default: 1)", **prompt
    )
    track.add_argument("--model", help=f"folder or Hub id of a video checkpoint (default: {VIDEO_CHECKPOINT})")
    track.add_argument("--output", type=Path, metavar="FOLDER", help="default: the video's name and _track")
    track.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    track.add_argument(
        "--start", type=int, metavar="N", help="first frame to track (default: earliest prompted; in reverse: latest)"
    )
    track.add_argument("--max-frames", type=parse_count, metavar="N", help="track N frames (default: all)")
    yes = {"action": "store_true", "default": None}
    track.add_argument("--reverse", help="go back in time; the overlay plays backwards too", **yes)
    track.add_argument("--non-overlapping", help="give each pixel to one object at most", **yes)
    track.add_argument("--image-size", type=parse_count, metavar="N", help="side of the model input (smaller: faster)")
    track.add_argument(
        "--frame-rate", type=parse_rate, metavar="N", help="of the overlay (default: the video's, or 25)"
    )
    track.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    track.add_argument("--json", action="store_true", help="print JSON instead of a table, and no progress bar")
    track.set_defaults(run=run_track, as_text=as_track_table)


def add_convert_parser(commands):
    """Adds the parser of `edgetam convert`."""
    style = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "convert", help="convert checkpoints of the original release", epilog=CONVERT_EXAMPLES, formatter_class=style
    )
    command.add_argument("source", help="checkpoint: .pt file of the original release, or folder or Hub id")
    command.add_argument("target", help="new .pt file for the original release, or new folder for Transformers")
    dtypes = ("float32", "float16", "bfloat16")
    command.add_argument("--dtype", choices=dtypes, help="type of the numbers (default: as they are)")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(run=run_convert, as_text=as_convert_table)


def add_evaluate_parser(commands):
    """Adds the parser of `edgetam evaluate`."""
    style = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "evaluate",
        help="J&F on a dataset of videos, IoU after clicks on pictures",
        epilog=EVALUATE_EXAMPLES,
        formatter_class=style,
    )
    command.add_argument("dataset", choices=[*LAYOUTS, "clicks"], help="its layout: %(choices)s", metavar="DATASET")
    command.add_argument("root", type=Path, help="its folder")
    command.add_argument(
        "--model",
        default=VIDEO_CHECKPOINT,
        help="folder or Hub id of a video checkpoint (default: %(default)s)",
    )
    command.add_argument("--results", type=Path, metavar="FOLDER", help="score finished pictures, without a model")
    command.add_argument("--sequences", nargs="+", metavar="NAME", help="only these (default: all)")
    command.add_argument("--submission", type=Path, metavar="ZIP", help="write the results for the benchmark's server")
    command.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default=FIRST_MASK,
        help="what is known of an object: its first mask, the box round it, or what a simulated user clicks after each "
        "pass (offline) or in a single one (online) (default: %(default)s)",
    )
    command.add_argument(
        "--frames", type=parse_count, metavar="N", help="limit of frames with clicks, offline and online (default: 8)"
    )
    command.add_argument(
        "--train-meta",
        type=Path,
        metavar="FILE",
        help="meta.json of the training split of YouTube-VOS, or a text file with a seen category per line: for G",
    )
    command.add_argument("--output", type=Path, metavar="FOLDER", help="default: the dataset's folder and name")
    command.add_argument(
        "--preprocessing",
        choices=("native", "release"),
        default="native",
        help="how frames are resized: bilinearly as in Transformers, or with PIL's bicubic filter as in the original "
        "release (default: %(default)s)",
    )
    command.add_argument("--image-size", type=parse_count, metavar="N", help="side of the model input")
    command.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s"
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of a table, and no progress bar")
    command.set_defaults(run=run_evaluate, as_text=as_evaluate_text)


def main(arguments=None):
    """Exit code of the command; errors of the user's making are one line on stderr."""
    parser = make_parser()
    options, others = parser.parse_known_args(arguments)
    if options.command == "train":  # its KEY=VALUE may stand behind options, too
        options.overrides += [text for text in others if not text.startswith("-")]
        others = [text for text in others if text.startswith("-")]
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    quieten_hub_client()
    try:
        report = options.run(options)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        print(f"edgetam: error: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return 1
    if report is not None:  # of several processes only the first one reports
        print(json.dumps(report) if options.json else options.as_text(report))
    return 0


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
    model = load_quietly(EdgeTamModel, options.model, device_map=options.device)
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
        {"prompt": describe(o["box"], o["points"]), "score": round(score, 3), "present": logit > 0, **measure(mask)}
        for o, score, logit, mask in zip(objects, scores, outputs.object_score_logits[0, :, 0].tolist(), masks)
    ]
    drawn = overlay(picture, masks, [p for o in objects for p in o["points"]], [o["box"] for o in objects if o["box"]])
    return {**report_head(options, picture), "objects": rows, **write_pictures(options, drawn, masks)}


def corner_points(box):
    """A box as two points with the labels of its corners; no points for None."""
    return [] if box is None else [(*box[:2], 2), (*box[2:], 3)]


def run_masks(options):
    """Segments everything, writes overlay and masks, and returns the report."""
    picture = load_picture(options.image)
    generator = EdgeTamMaskGenerationPipeline(
        model=load_quietly(EdgeTamModel, options.model, device_map=options.device),
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
    return "\n".join([*as_columns(rows), "", f"overlay: {report['overlay']}", f"mask:    {report['mask']}"])


if __name__ == "__main__":
    sys.exit(main())
