"""Agreement of bfloat16 and float16 with float32: IoU between the masks that a model finds in both.

    python benchmarks/precision.py
    python benchmarks/precision.py --device cuda --pictures 1000

Prints a table, and after it one line of JSON with everything that is needed to compare runs.
"""

import statistics

import numpy as np
import torch
from measure import make_parser, parse_arguments, print_record
from PIL import Image
from transformers.utils import logging

HALVES = ("bfloat16", "float16")
OBJECTS_PER_PICTURE = 3
EPILOG = """\
images  The embedded nano checkpoint on held-out pictures of its own kind, as `recipes.nano.composites` draws
        them: for up to three objects each, the single mask of a click in the middle and that of a box.
video   The same checkpoint follows two boxes through a picture that moves to the left and back. Every model tracks from
        its own masks; IoU is taken frame by frame.
Lost are masks of objects that float32 finds, and which are empty in the other precision.
Half precision pays on GPUs, and on CPUs with AMX or AVX-512 BF16; elsewhere a CPU takes several times longer with it.
Needs `pip install -e .[test]`, and for the images clip art: `apt-get install openclipart-png
mypaint-data-extras`.
"""


def read_settings():
    """The command line's settings."""
    parser = make_parser(__doc__.splitlines()[0], EPILOG)
    parser.add_argument("--pictures", type=int, default=60, metavar="N", help="pictures for the nano (%(default)s)")
    parser.add_argument("--frames", type=int, default=100, metavar="N", help="frames of the video (%(default)s)")
    arguments = parse_arguments(parser)
    if arguments.dtype != "float32" or arguments.clock != "wall":
        parser.error("leave out --dtype and --clock: all dtypes are compared, and nothing is timed")
    if min(arguments.pictures, arguments.frames) < 1:
        parser.error("--pictures and --frames must be 1 or more")
    return arguments


def in_dtypes(model_class, device):
    """The embedded checkpoint by dtype, loaded in each: models that are cast later round more."""
    from edgetam_hf import nano_checkpoint

    load = model_class.from_pretrained
    return {name: load(nano_checkpoint(), dtype=getattr(torch, name)).to(device) for name in ("float32", *HALVES)}


def iou(masks, others):
    """IoU of pairs of bool masks (N, h, w), as a list; 1 where both are empty."""
    from edgetam_hf.training_edgetam import mask_iou

    return mask_iou(masks.flatten(1), others.flatten(1)).tolist()


def compare_masks(masks, expected):
    """For each pair of bool masks (N, h, w) the IoU, and whether an object that was expected is not found at all."""
    is_lost = expected.flatten(1).any(1) & ~masks.flatten(1).any(1)
    return list(zip(iou(masks, expected), is_lost.tolist()))


@torch.no_grad()
def compare_on_images(arguments):
    """`compare_masks` with float32, by dtype and kind of prompt."""
    from edgetam_hf import EdgeTamModel
    from edgetam_hf.evaluation.clicks import center_of
    from edgetam_hf.found_objects import CutMask
    from recipes.nano.composites import HELD_OUT_SEED, draw_composite, load_library
    from recipes.nano.crops import normalize
    from recipes.nano.evaluate import SMALLEST_SHARE

    models = in_dtypes(EdgeTamModel, arguments.device)
    library, pairs = load_library(held_out=True), {(name, kind): [] for name in HALVES for kind in ("click", "box")}
    for seed in logging.tqdm(range(HELD_OUT_SEED, HELD_OUT_SEED + arguments.pictures), desc="images", leave=False):
        picture, instances = draw_composite(seed, library)
        numbers = np.flatnonzero(np.bincount(instances.ravel()) >= SMALLEST_SHARE * instances.size)
        truths = [instances == number for number in numbers[numbers > 0][:OBJECTS_PER_PICTURE]]
        if not truths:
            continue
        prompts = {
            "click": {"input_points": torch.tensor([[[center_of(truth)] for truth in truths]])},
            "box": {"input_boxes": torch.tensor([[CutMask.of(truth).box for truth in truths]])},
        }
        pixels = normalize(torch.tensor(picture)[None] / 255).to(arguments.device)
        masks = {}
        for name, model in models.items():
            embeddings = model.get_image_embeddings(pixels.to(model.dtype))
            for kind, prompt in prompts.items():
                prompt = {key: value.to(arguments.device) for key, value in prompt.items()}
                output = model(image_embeddings=embeddings, multimask_output=False, **prompt)
                masks[name, kind] = output.pred_masks[0, :, 0].float() > 0
        for name, kind in pairs:
            pairs[name, kind] += compare_masks(masks[name, kind], masks["float32", kind])
    return {name: {kind: pairs[name, kind] for kind in ("click", "box")} for name in HALVES}


def moving_clip(num_frames):
    """Square frames of a picture that moves to the left and back, as pictures, and their side."""
    from edgetam_hf.commands.picture_files import SAMPLE_PICTURE

    picture = Image.open(SAMPLE_PICTURE).convert("RGB")
    side = min(picture.size) * 2 // 3
    room = picture.width - side
    lefts = [abs((2 * frame_idx + room) % (2 * room) - room) for frame_idx in range(num_frames)]
    return [picture.crop((left, 20, left + side, 20 + side)) for left in lefts], side


@torch.no_grad()
def compare_on_video(arguments):
    """`compare_masks` with float32 of every object on every frame, by dtype."""
    from edgetam_hf import EdgeTamVideoModel, EdgeTamVideoProcessor, nano_checkpoint

    processor = EdgeTamVideoProcessor.from_pretrained(nano_checkpoint())
    frames, side = moving_clip(arguments.frames)
    boxes = [[[side * 0.2, side * 0.2, side * 0.5, side * 0.6], [side * 0.55, side * 0.3, side * 0.9, side * 0.8]]]
    masks = {}
    for name, model in in_dtypes(EdgeTamVideoModel, arguments.device).items():
        session = processor.init_video_session(video=frames, inference_device=model.device, dtype=model.dtype)
        processor.add_inputs_to_inference_session(session, frame_idx=0, obj_ids=[1, 2], input_boxes=boxes)
        outputs = model.propagate_in_video_iterator(session)
        outputs = logging.tqdm(outputs, total=len(frames), desc=f"video, {name}", leave=False)
        masks[name] = torch.cat([output.pred_masks[:, 0].float().cpu() > 0 for output in outputs])
    return {name: {"tracking": compare_masks(masks[name], masks["float32"])} for name in HALVES}


def main():
    """Runs both parts and prints the table and the JSON line."""
    arguments = read_settings()
    results = {"images": compare_on_images(arguments), "video": compare_on_video(arguments)}
    head = f"{'IoU with float32':<28}{'mean':>8}{'median':>8}{'lowest':>8}{'masks':>8}{'lost':>8}"
    print(f"{head}\n{'-' * len(head)}")
    record = {}
    for part, by_dtype in results.items():
        for name, by_kind in by_dtype.items():
            for kind, pairs in by_kind.items():
                ious, is_lost = zip(*pairs)
                row = {"mean": statistics.mean(ious), "median": statistics.median(ious), "lowest": min(ious)}
                label, counts = f"{part}, {kind}, {name}", {"masks": len(ious), "lost": sum(is_lost)}
                figures = [f"{v:>8.4f}" for v in row.values()] + [f"{v:>8}" for v in counts.values()]
                print(f"{label:<28}" + "".join(figures))
                record[label] = {k: round(v, 4) for k, v in row.items()} | counts
    print_record("precision", arguments, record)


if __name__ == "__main__":
    main()
