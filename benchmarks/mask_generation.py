"""Seconds and peak memory of mask generation beside those of Transformers' own pipeline, on the same random weights.

    python benchmarks/mask_generation.py
    python benchmarks/mask_generation.py --points-per-side 8 --only time
    python benchmarks/mask_generation.py --device cuda --dtype bfloat16

Prints a table, and after it one line of JSON with everything that is needed to compare runs.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from measure import (
    check_image_size,
    in_turns,
    make_parser,
    parse_arguments,
    print_record,
    randomise,
    share_weights,
    time_call,
)
from PIL import Image

SIDES = ("native", "ours")
NUM_CONFIDENT, NUM_RESULTS = (250, 350), (40, 100)  # of the 3,072 masks of 1,024 points
EPILOG = """\
Both pipelines get the same picture, points, weights and options, and run in turns inside one process. The first run of
ours, which is not counted, finds the thresholds: the predicted IoU that 250 to 350 of the 3,072 masks of 1,024 points
exceed, and the stability that 40 to 100 of these exceed; fewer points have fewer masks. Masks of random weights spread
over the whole picture: the worst case for what is done inside their boxes. As these are much alike, duplicates stay.
Native takes its grid of points from this project and all else from itself: its own grid leaves the bottom third of such
a picture without any point, and then other masks would be compared.
Native always runs in float32, as it ends with an error in half precision. The last lines say how far the results agree.
Peak memory is measured in a process for each: on the CPU what is resident at most, less what is resident before the
picture (on Linux only), and with --device cuda what PyTorch has allocated at most, less what it has before.
Native needs about 3 minutes for 1,024 points on two cores, and as long again for its memory.
Needs `pip install -e .[test]`: native EdgeTAM takes its backbone from timm.
"""


def make_settings_parser():
    """The parser of the command line."""
    parser = make_parser(__doc__.splitlines()[0], EPILOG)
    parser.set_defaults(image_size=1024)
    parser.add_argument("--height", type=int, default=1200, metavar="N", help="of the picture (%(default)s)")
    parser.add_argument("--width", type=int, default=1800, metavar="N", help="of the picture (%(default)s)")
    parser.add_argument("--points-per-side", type=int, default=32, metavar="N", help="N x N points (%(default)s)")
    parser.add_argument("--points-per-batch", type=int, default=64, metavar="N", help="points at once (%(default)s)")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="timed rounds (%(default)s)")
    parser.add_argument("--only", choices=("time", "memory"), help="one of the two parts")
    parser.add_argument("--memory-of", nargs=2, metavar=("SIDE", "OPTIONS"), help="(used by the program itself)")
    return parser


def read_settings():
    """The command line's settings."""
    parser = make_settings_parser()
    arguments = parse_arguments(parser)
    check_image_size(parser, "--image-size", arguments.image_size, 32)
    for name in ("height", "width", "points_per_side", "points_per_batch", "repeats"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more, got {getattr(arguments, name)}")
    return arguments


def make_pipelines(arguments):
    """Native and our pipeline by name, with equal random weights."""
    # here, so that --help does not wait for them
    from transformers import EdgeTamConfig as NativeConfig
    from transformers import EdgeTamModel as NativeModel
    from transformers import MaskGenerationPipeline

    from edgetam_hf import EdgeTamConfig, EdgeTamImageProcessor, EdgeTamMaskGenerationPipeline, EdgeTamModel

    config = EdgeTamConfig(image_size=arguments.image_size)
    ours, native = EdgeTamModel(config), NativeModel(NativeConfig(**config.to_dict()))
    randomise(ours)
    models = share_weights(ours, native, getattr(torch, arguments.dtype), arguments.device)
    models["native"].float()  # its non-maximum suppression refuses boxes and scores of different types
    image_processor = EdgeTamImageProcessor(size={"height": arguments.image_size, "width": arguments.image_size})

    class NativeImageProcessor(EdgeTamImageProcessor.__mro__[1]):
        """Native's image processor with a grid that covers the picture."""

        def generate_crop_boxes(self, *args, **kwargs):
            return image_processor.generate_crop_boxes(*args, **kwargs)

    native_processor = NativeImageProcessor(size=image_processor.size, mask_size=image_processor.mask_size)
    settings = {"device": arguments.device, "task": "mask-generation"}
    return {
        "native": MaskGenerationPipeline(model=models["native"], image_processor=native_processor, **settings),
        "ours": EdgeTamMaskGenerationPipeline(model=models["ours"], image_processor=image_processor, **settings),
    }


def make_picture(arguments):
    """Random shapes on noise."""
    rng = np.random.default_rng(0)
    height, width = arguments.height, arguments.width
    pixels = rng.integers(0, 60, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    for _ in range(60):
        center_x, center_y, radius = rng.integers(0, width), rng.integers(0, height), rng.integers(9, 160)
        pixels[(x - center_x) ** 2 + (y - center_y) ** 2 < radius**2] = rng.integers(0, 255, 3)
    return Image.fromarray(pixels.astype(np.uint8))


def in_widest_gap(values, first, last):
    """The middle of the widest gap between neighbours of the sorted values, best first, at the ranks first to last."""
    values = values.double().sort(descending=True).values[max(first - 1, 0) : max(last, first + 1)]
    if len(values) < 2:
        sys.exit("too few masks to find thresholds: give more --points-per-side")
    gap = (values[:-1] - values[1:]).argmax()
    return ((values[gap] + values[gap + 1]) / 2).item()


def read_scores(generator, picture, arguments):
    """Predicted IoU of all masks of all points; nothing is drawn."""
    scores = []

    def record(module, inputs, output):
        scores.append(output[:, :, 1:].sigmoid().flatten().float().cpu())

    handle = generator.model.mask_decoder.iou_prediction_head.register_forward_hook(record)
    generator(picture, **grid_of(arguments), pred_iou_thresh=1.0)
    handle.remove()
    return torch.cat(scores)


def grid_of(arguments):
    """The options that say which points are prompted, and how."""
    return {"points_per_crop": arguments.points_per_side, "points_per_batch": arguments.points_per_batch}


def find_options(generator, picture, arguments):
    """Options with which few of the masks are confident, and few of these are stable."""
    share = arguments.points_per_side**2 / 1024
    options = grid_of(arguments) | {"crops_nms_thresh": 1.0}
    ranks = [round(share * number) for number in NUM_CONFIDENT]
    options["pred_iou_thresh"] = in_widest_gap(read_scores(generator, picture, arguments), *ranks)
    found = generator(picture, **options, stability_score_thresh=0.0, output_stability_scores=True)
    ranks = [round(share * number) for number in NUM_RESULTS]
    options["stability_score_thresh"] = in_widest_gap(found["stability_scores"].nan_to_num(0.0), *ranks)
    return options


def compare(results):
    """How far the results of both pipelines agree."""
    native, ours = (results[name] for name in SIDES)
    row = {"native_masks": len(native["masks"]), "our_masks": len(ours["masks"])}
    if row["native_masks"] == row["our_masks"] > 0:
        pairs = [(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(native["masks"], ours["masks"])]
        row["largest_score_difference"] = (native["scores"].cpu() - ours["scores"]).abs().max().item()
        row["lowest_mask_iou"] = min(((a & b).sum() / (a | b).sum().clamp(min=1)).item() for a, b in pairs)
        row["different_pixels"] = sum(int((a ^ b).sum()) for a, b in pairs)
    return row


def time_pipelines(pipelines, picture, options, arguments):
    """Medians of seconds, their ratio, and how far the results agree."""
    seconds, results = {name: [] for name in SIDES}, {}
    for round_idx in range(arguments.repeats):
        for name in in_turns(SIDES, round_idx):
            results[name], milliseconds = time_call(lambda name=name: pipelines[name](picture, **options), arguments)
            seconds[name].append(milliseconds / 1000)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    row = {f"{name}_s": round(medians[name], 3) for name in SIDES}
    return row | {"ratio": round(medians["native"] / medians["ours"], 3)} | compare(results)


def peak_bytes(function, device):
    """By how many bytes memory grows while the function runs."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again at what is resident now
    before = resident_bytes("VmRSS")
    function()
    return resident_bytes("VmHWM") - before


def resident_bytes(name):
    """A line of what Linux says of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measure_memory(options):
    """Peak memory of each pipeline in a process of its own."""
    peaks = {}
    for name in SIDES:
        command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name, json.dumps(options)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peaks[name] = int(run.stdout.split()[-1])
    row = {f"{name}_mb": round(peaks[name] / 1e6) for name in SIDES}
    return row | {"ratio": round(peaks["native"] / peaks["ours"], 3)}


def main():
    """Runs both parts and prints the table and the JSON line."""
    arguments = read_settings()
    pipelines, picture = make_pipelines(arguments), make_picture(arguments)
    if arguments.memory_of:
        name, options = arguments.memory_of
        generator = pipelines.pop(name)
        pipelines.clear()
        print(peak_bytes(lambda: generator(picture, **json.loads(options)), arguments.device))
        return
    options = find_options(pipelines["ours"], picture, arguments)
    results = {"options": options}
    print(f"{'':<14}{'native':>10}{'ours':>10}{'ratio':>8}")
    if arguments.only != "memory":
        row = results["time"] = time_pipelines(pipelines, picture, options, arguments)
        print(f"{'seconds':<14}{row['native_s']:>10.1f}{row['ours_s']:>10.1f}{row['ratio']:>8.2f}")
        print(f"{'masks':<14}{row['native_masks']:>10}{row['our_masks']:>10}", flush=True)
    if arguments.only != "time":
        pipelines.clear()
        row = results["memory"] = measure_memory(options)
        print(f"{'peak MB':<14}{row['native_mb']:>10}{row['ours_mb']:>10}{row['ratio']:>8.2f}")
    for name in ("largest_score_difference", "lowest_mask_iou", "different_pixels"):
        if name in results.get("time", {}):
            print(f"{name.replace('_', ' ')}: {results['time'][name]:.9g}")
    del arguments.memory_of
    print_record("mask_generation", arguments, results)


if __name__ == "__main__":
    main()
