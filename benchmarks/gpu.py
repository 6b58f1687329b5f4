"""What this project does on a GPU: agreement with the CPU, speed and memory beside native, waits and kernels.

    python benchmarks/gpu.py --output gpu.json
    python benchmarks/gpu.py --parts agreement video --minutes 3
    python benchmarks/gpu.py --device cpu --quick

Prints a table of all figures, and after it one line of JSON. A part that fails is recorded with its error, and one for
which no time is left as skipped; the others go on.
"""

import json
import signal
import statistics
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from functools import partial

import image
import mask_generation
import torch
import video
from gpu_traces import kernels_of, summarise_trace, trace_call, watch_waits
from measure import largest, make_parser, make_record, parse_arguments, time_call
from PIL import Image
from precision import HALVES, in_dtypes, iou, moving_clip

ATTENTION = ("sdpa", "eager", "flex_attention", "flash_attention_2")
ATTENTION_KERNELS = ("flash", "fmha", "efficient", "cudnn", "attention", "flex", "softmax", "scaled_dot")
ABSENT = -1000.0  # below all logits but those of an absent object
QUICK = {"image_size": 256, "repeats": 2, "frames": 1, "warmup_frames": 7, "objects": [1], "clip_frames": 3}
QUICK |= {"points_per_side": 6, "height": 120, "width": 180}
EPILOG = """\
agreement        The embedded checkpoint on the device in float32 (without TF32), float32 as PyTorch has it (with TF32
                 in convolutions), bfloat16 and float16, against float32 on the CPU: clicks and boxes on the sample
                 pictures, and a video with three objects. Lost are masks that the CPU finds and that are empty there.
pictures         Image encoder with 1 and 8 pictures, mask decoder with 64 clicks, in bfloat16 and in float32, beside
                 native, in turns.
video            Tracking in a stream in bfloat16, beside native, by stage, and the peak of memory in each, less the
                 weights.
frame            One frame of a stream whose memory is full: kernel launches, waits for the device and the lines of this
                 project that caused them, and the longest kernels. Where kernel_ms is far below frame_ms, the GPU waits
                 for the program.
attention        The attention kernels of a frame by attn_implementation, and how far the masks are from those of sdpa.
mask_generation  The pipeline with random weights on a large picture, and with the embedded checkpoint on a sample.
offload          Masks with device_map="auto", whole and with weights on the CPU or the disk, against those without.
compiled         What video and pictures measure in bfloat16, with our model compiled, as CUDA graphs or both; native is
                 eager. Stages that are replayed cannot be watched.
Needs timm, which native EdgeTAM takes its backbone from, and accelerate for offload.
"""


class Figures(dict):
    """Figures by name, in groups. Each is written at once, so that none is lost with the machine."""

    def __init__(self, write):
        super().__init__()
        self.write = write

    def __setitem__(self, name, figure):
        super().__setitem__(name, figure)
        self.write()

    def group(self, name):
        """The group of a name."""
        return self.setdefault(name, Figures(self.write))


class TimeIsUp(BaseException):
    """The run has used its time; no exception of a part, so that nothing but the end of the part catches it."""


def read_settings():
    """The command line's settings."""
    parser = make_parser(__doc__.splitlines()[0], EPILOG)
    parser.set_defaults(device="cuda", dtype="bfloat16", points_per_batch=64, height=1200, width=1800)
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="(all; with --quick all but compiled)")
    parser.add_argument("--minutes", type=float, default=6, metavar="N", help="for everything (%(default)s)")
    parser.add_argument("--output", metavar="FILE", help="the JSON, written after each row")
    parser.add_argument("--quick", action="store_true", help="small pictures and few frames, for a CPU")
    numbers = {
        "--repeats": (20, "timed rounds of the pictures part"),
        "--frames": (8, "timed frames of a stream"),
        "--warmup-frames": (18, "frames of a stream before them"),
        "--clip-frames": (30, "frames of the video of the agreement part"),
        "--points-per-side": (32, "N x N points of mask generation"),
    }
    for name, (default, meaning) in numbers.items():
        parser.add_argument(name, type=int, default=default, metavar="N", help=f"{meaning} (%(default)s)")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 8, 32], metavar="N", help="(1 8 32)")
    arguments = parse_arguments(parser)
    if arguments.quick:
        vars(arguments).update(QUICK)
    if arguments.parts is None:
        arguments.parts = [name for name in PARTS if name != "compiled" or not arguments.quick]
    if arguments.image_size <= 0 or arguments.image_size % video.IMAGE_SIZE_MULTIPLE:
        parser.error(f"--image-size must be a positive multiple of {video.IMAGE_SIZE_MULTIPLE}")
    counts = (arguments.repeats, arguments.frames, arguments.clip_frames, arguments.points_per_side, *arguments.objects)
    if min(counts) < 1 or arguments.warmup_frames < video.BANK_FRAMES or arguments.minutes <= 0:
        parser.error(f"numbers must be 1 or more, and --warmup-frames {video.BANK_FRAMES} or more")
    return arguments


def attempt(results, name, function, *arguments):
    """Puts what a function returns, or its error, into the results under a name."""
    try:
        results[name] = function(*arguments)
    except (Exception, SystemExit) as error:  # a benchmark ends the program where its settings do not fit
        traceback.print_exc()
        results[name] = {"error": f"{type(error).__name__}: {error}"[:500]}


@contextmanager
def exact_float32():
    """Inside of it float32 is not rounded to TF32."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, is_allowed in zip(backends, before):
            backend.allow_tf32 = is_allowed


def with_dtype(arguments, dtype):
    """The settings with another dtype."""
    return type(arguments)(**{**vars(arguments), "dtype": dtype})


# Agreement


def agreement(arguments, results):
    """Fills in the agreement with float32 on the CPU, by kind of prompt and dtype."""
    from edgetam_hf import EdgeTamModel, EdgeTamVideoModel, nano_checkpoint

    nano = nano_checkpoint()
    kinds = {"pictures": (EdgeTamModel, picture_logits), "video": (EdgeTamVideoModel, clip_logits)}
    for kind, (model_class, logits_of) in kinds.items():
        model = model_class.from_pretrained(nano, dtype=torch.float32).eval()
        expected = logits_of(model, arguments)
        models = in_dtypes(model_class, arguments.device)
        rows = results.group(kind)
        with exact_float32():
            attempt(rows, "float32", agreement_of, models["float32"], logits_of, expected, arguments)
        for name in ("float32", *HALVES):
            label = "float32 as PyTorch has it" if name == "float32" else name
            attempt(rows, label, agreement_of, models[name], logits_of, expected, arguments)


def agreement_of(model, logits_of, expected, arguments):
    """How far the masks of a model agree with the logits that were expected."""
    return compare_logits(logits_of(model, arguments), expected)


def compare_logits(actual, expected):
    """How far masks of logits (N, h, w) agree."""
    masks, expected_masks = actual > 0, expected > 0
    ious = iou(masks, expected_masks)
    is_lost = expected_masks.flatten(1).any(1) & ~masks.flatten(1).any(1)
    row = {"mean_iou": statistics.mean(ious), "lowest_iou": min(ious), "masks": len(ious), "lost": int(is_lost.sum())}
    is_visible = (expected > ABSENT) & (actual > ABSENT)
    actual, expected = actual[is_visible], expected[is_visible]
    return row | {"largest_difference": largest([actual - expected]), "largest_logit": largest([expected])}


@torch.no_grad()
def picture_logits(model, arguments):
    """Logits (N, h, w) on the CPU, of clicks and boxes on a grid over each sample picture."""
    from edgetam_hf import EdgeTamProcessor, nano_checkpoint
    from edgetam_hf.commands.picture_files import SAMPLES

    processor, logits = EdgeTamProcessor.from_pretrained(nano_checkpoint()), []
    for path in sorted(SAMPLES.glob("*.jpg")):
        picture = Image.open(path).convert("RGB")
        places = [(picture.width * x / 6, picture.height * y / 4) for y in range(1, 4) for x in range(1, 6)]
        reach = picture.height / 8
        clicks = [[[[x, y]] for x, y in places]]
        boxes = [[[x - reach, y - reach, x + reach, y + reach] for x, y in places]]
        for prompts in ({"input_points": clicks}, {"input_boxes": boxes}):
            inputs = processor(images=picture, **prompts, return_tensors="pt")
            given = {name: inputs[name].to(model.device) for name in ("pixel_values", *prompts)}
            logits.append(model(**given, multimask_output=False).pred_masks[0, :, 0].float().cpu())
    return torch.cat(logits)


@torch.no_grad()
def clip_logits(model, arguments):
    """Logits (N, h, w) on the CPU, of three objects on every frame of a short video."""
    from edgetam_hf import EdgeTamVideoProcessor, nano_checkpoint

    processor = EdgeTamVideoProcessor.from_pretrained(nano_checkpoint())
    frames, side = moving_clip(arguments.clip_frames)
    shares = [[0.2, 0.2, 0.5, 0.6], [0.55, 0.3, 0.9, 0.8], [0.1, 0.65, 0.45, 0.95]]
    boxes = [[[share * side for share in box] for box in shares]]
    session = processor.init_video_session(video=frames, inference_device=model.device, dtype=model.dtype)
    processor.add_inputs_to_inference_session(session, frame_idx=0, obj_ids=[1, 2, 3], input_boxes=boxes)
    outputs = model.propagate_in_video_iterator(session)
    return torch.cat([output.pred_masks[:, 0].float().cpu() for output in outputs])


# Speed


def pictures(arguments, results, compile_options=None):
    """Fills in the times of encoder and decoder, by dtype and step; with options, of our model compiled."""
    for name in ("bfloat16",) if compile_options is not None else ("bfloat16", "float32"):
        dtype, rows = getattr(torch, name), results.group(name)
        setting = (arguments.image_size, dtype, arguments.device)
        models, steps = image.make_models(*setting), image.make_steps(*setting, [64])
        batch = torch.randn(8, 3, arguments.image_size, arguments.image_size).to(arguments.device, dtype)
        steps["encoder, 8 pictures"] = lambda model, _, batch=batch: model.get_image_embeddings(batch)
        with torch.no_grad():
            embeddings = models["native"].get_image_embeddings(batch[:1])
        if compile_options is not None:
            models["ours"].compile(**compile_options)
        for step, function in steps.items():
            attempt(rows, step, image.compare, function, models, embeddings, arguments)


def videos(arguments, results, compile_options=None):
    """Fills in times and memory of tracking, by number of objects; with options, of our model compiled."""
    with torch.no_grad():
        models = video.make_models(arguments.image_size, arguments)
        spans = {name: [] for name in models}
        if not compile_options:  # a watched stage is no CUDA graph
            spans = {name: video.watch_stages(name, model, arguments) for name, model in models.items()}
        if compile_options is not None:
            models["ours"].compile(**compile_options)
        for num_objects in arguments.objects:
            attempt(results, f"{num_objects} objects", track_in_turns, models, spans, num_objects, arguments)


def track_in_turns(models, spans, num_objects, arguments):
    """Times of a frame of both models, frames per second and peak of memory."""
    row = video.compare_times(models, spans, num_objects, arguments)
    row |= {f"{name}_fps": 1000 / row[f"{name}_ms"] for name in models}
    if arguments.device == "cuda":
        for name, model in models.items():
            stream = video.open_stream(name, model, num_objects, arguments.image_size, arguments)
            frames = video.make_frames(video.BANK_FRAMES + 1, arguments.image_size, arguments)
            peak = mask_generation.peak_bytes(lambda s=stream, f=frames: [s(frame) for frame in f] and None, "cuda")
            row[f"{name}_peak_mb"] = peak / 1e6
            spans[name].clear()
    return row


def compiled(arguments, results):
    """Fills in what `videos` and `pictures` measure, of our model compiled in each way, the fastest frames first."""
    graphs, both = {"backend": "cudagraphs"}, {"mode": "reduce-overhead"}
    settings = {"CUDA graphs": graphs, "compiled, CUDA graphs": both, "compiled": {}}
    for name, part, ways in (("video", videos, settings), ("pictures", pictures, list(settings)[1:])):
        for way in ways:
            torch._dynamo.reset()
            part(arguments, results.group(name).group(way), settings[way])


# What a frame does


def settled_stream(name, model, num_objects, arguments):
    """A function that tracks a further frame of a stream whose memory is full."""
    stream = video.open_stream(name, model, num_objects, arguments.image_size, arguments)
    frames = list(video.make_frames(video.BANK_FRAMES, arguments.image_size, arguments))
    for frame_idx in range(arguments.warmup_frames):
        stream(frames[frame_idx % len(frames)])
    return partial(stream, frames[-1])


@torch.no_grad()
def frame(arguments, results):
    """Fills in launches, waits and kernels of one frame, by model and number of objects."""
    models = video.make_models(arguments.image_size, arguments)
    counts = {"ours": sorted({1, max(arguments.objects)}), "native": sorted({1, min(8, max(arguments.objects))})}
    for name, model in models.items():
        for num_objects in counts[name]:
            attempt(results, f"{name}, {num_objects} objects", look_at_frame, name, model, num_objects, arguments)


def look_at_frame(name, model, num_objects, arguments):
    """Launches, waits and kernels of one frame."""
    step = settled_stream(name, model, num_objects, arguments)
    milliseconds = statistics.median(time_call(step, arguments)[1] for _ in range(arguments.frames))
    with watch_waits(arguments.device) as waits:
        step()
    trace_call(step, arguments.device)  # the first trace of a process sets up the profiler
    trace = summarise_trace(trace_call(step, arguments.device), arguments.device)
    return {"frame_ms": milliseconds, "waits": waits} | trace


@torch.no_grad()
def attention(arguments, results):
    """Fills in kernels, time and masks of a frame by implementation of attention."""
    from transformers.utils import is_flash_attn_2_available

    reference = video.make_models(arguments.image_size, arguments)["ours"]
    expected = settled_stream("ours", reference, 2, arguments)().pred_masks.float()
    for name in ATTENTION[:2] if arguments.quick else ATTENTION:  # flex attention is compiled
        if name == "flash_attention_2" and not is_flash_attn_2_available():
            results[name] = {"skipped": "not installed"}
        else:
            attempt(results, name, look_at_attention, name, reference, expected, arguments)


def look_at_attention(name, reference, expected, arguments):
    """Kernels of attention in a frame, its time, and the agreement of its masks with those of `reference`."""
    model = type(reference)._from_config(reference.config, attn_implementation=name)
    model.load_state_dict(reference.state_dict())
    model = model.to(arguments.device, reference.dtype).eval()
    masks = settled_stream("ours", model, 2, arguments)().pred_masks.float()
    step = settled_stream("ours", model, 2, arguments)
    averages = trace_call(step, arguments.device)
    named = [row.key for row in averages if any(part in row.key.lower() for part in ATTENTION_KERNELS)]
    on_device = {key for key, _, _ in kernels_of(averages, arguments.device)}
    return {
        "frame_ms": statistics.median(time_call(step, arguments)[1] for _ in range(arguments.frames)),
        "lowest_iou": min(iou(masks[:, 0] > 0, expected[:, 0] > 0)),
        "largest_difference": (masks - expected).abs().max().item(),
        "kernels": sorted({key[:120] for key in named if key in on_device}),
        "operations": sorted({key[:120] for key in named if key not in on_device}),
    }


# Whole programs


def generation(arguments, results):
    """Fills in seconds of mask generation, with random weights and with the embedded checkpoint."""
    for name in ("float32", "bfloat16"):
        attempt(results, f"embedded checkpoint, {name}", generate_on_sample, getattr(torch, name), arguments)
    attempt(results, "random weights", generate_randomly, arguments)  # last: native takes minutes


def generate_randomly(arguments):
    """Seconds of native and ours in float32 and of ours in bfloat16, with equal options."""
    arguments = with_dtype(arguments, "float32")
    pipelines, picture = mask_generation.make_pipelines(arguments), mask_generation.make_picture(arguments)
    options = mask_generation.find_options(pipelines["ours"], picture, arguments)
    arguments.repeats = 1 if arguments.quick else 2  # native takes half a minute
    row = mask_generation.time_pipelines(pipelines, picture, options, arguments)
    pipelines = mask_generation.make_pipelines(with_dtype(arguments, "bfloat16"))
    in_bfloat16 = time_generator(pipelines["ours"], picture, options, arguments)
    return row | {f"{key}_in_bfloat16": value for key, value in in_bfloat16.items()}


def time_generator(generator, picture, options, arguments):
    """Seconds of a run after a first one, and the number of masks."""
    masks = generator(picture, **options)["masks"]
    seconds = time_call(lambda: generator(picture, **options), arguments)[1] / 1000
    return {"seconds": seconds, "masks": len(masks)}


def generate_on_sample(dtype, arguments):
    """Seconds and masks of the embedded checkpoint on a picture of coins."""
    from transformers import pipeline

    from edgetam_hf import nano_checkpoint
    from edgetam_hf.commands.picture_files import SAMPLES

    generator = pipeline("mask-generation", model=str(nano_checkpoint()), device=arguments.device, dtype=dtype)
    picture = Image.open(SAMPLES / "coins.jpg").convert("RGB")
    return time_generator(generator, picture, {"points_per_crop": arguments.points_per_side}, arguments)


def offload(arguments, results):
    """Fills in the agreement of masks by place of the weights, for pictures and video."""
    from edgetam_hf import EdgeTamModel, EdgeTamVideoModel, nano_checkpoint

    arguments = type(arguments)(**{**vars(arguments), "clip_frames": min(arguments.clip_frames, 5)})
    place = 0 if arguments.device == "cuda" else "cpu"
    small, nano = {place: "4MB"}, nano_checkpoint()
    kinds = {"pictures": (EdgeTamModel, picture_logits), "video": (EdgeTamVideoModel, clip_logits)}
    for kind, (model_class, logits_of) in kinds.items():
        expected = logits_of(model_class.from_pretrained(nano).to(arguments.device).eval(), arguments)

        def compare(settings, model_class=model_class, logits_of=logits_of, expected=expected):
            with tempfile.TemporaryDirectory() as folder:
                model = model_class.from_pretrained(nano, device_map="auto", offload_folder=folder, **settings).eval()
                places = {str(place) for place in getattr(model, "hf_device_map", {"": model.device}).values()}
                return {"places": sorted(places)} | compare_logits(logits_of(model, arguments), expected)

        attempt(results, f"{kind}, whole", compare, {})
        if arguments.device == "cuda":
            attempt(results, f"{kind}, part on the CPU", compare, {"max_memory": small | {"cpu": "1GB"}})
        attempt(results, f"{kind}, part on the disk", compare, {"max_memory": small | {"cpu": "4MB"}})


# The run

# by name, the part and the seconds below which it is not begun
PARTS = {
    "agreement": (agreement, 20),
    "pictures": (pictures, 10),
    "video": (videos, 20),
    "frame": (frame, 20),
    "attention": (attention, 20),
    "mask_generation": (generation, 20),
    "offload": (offload, 10),
    "compiled": (compiled, 60),
}


def run_part(name, seconds_left, arguments, results):
    """Fills in the results of a part; with its error, or why it was skipped or cut off."""
    part, seconds_needed = PARTS[name]
    if seconds_left < (0 if arguments.quick else seconds_needed):
        results["skipped"] = f"{max(seconds_left, 0):.0f} s are left of --minutes {arguments.minutes:g}"
        return
    start = time.perf_counter()
    try:
        with limited_to(seconds_left):
            part(arguments, results)
    except TimeIsUp:
        results["error"] = f"cut off at the end of --minutes {arguments.minutes:g}"
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        results["error"] = f"{type(error).__name__}: {error}"[:500]
    results["part_seconds"] = time.perf_counter() - start


@contextmanager
def limited_to(seconds):
    """Inside of it `TimeIsUp` is raised when the seconds are over, on systems that have a clock for that."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(signal_number, frame):
        raise TimeIsUp

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), 5)  # again later, for what ignores the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def as_json(value):
    """The value with floats of six digits, those that are no finite number as words."""
    if isinstance(value, dict):
        return {str(key): as_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < float("inf") else str(value)
    return value


def table_lines(results, path=""):
    """One line for each group of figures, with the names of the groups around it."""
    figures = {key: value for key, value in results.items() if not isinstance(value, dict)}
    if figures:
        yield f"{path:<48} " + "  ".join(f"{key} {value}" for key, value in figures.items())
    for key, value in results.items():
        if isinstance(value, dict):
            yield from table_lines(value, f"{path} / {key}" if path else key)


def main():
    """Runs the parts, and prints the table and the JSON line."""
    arguments = read_settings()
    from edgetam_hf.files.writing import write_json_whole

    def write():
        if arguments.output:
            write_json_whole(as_json(make_record("gpu", arguments, results)), arguments.output)

    end, results = time.monotonic() + 60 * arguments.minutes, Figures(write)
    for name in arguments.parts:
        print(f"{name} …", file=sys.stderr, flush=True)
        run_part(name, end - time.monotonic(), arguments, results.group(name))
        if arguments.device == "cuda":
            attempt({}, name, torch.cuda.empty_cache)
    print("\n".join(table_lines(as_json(results))))
    print(json.dumps(as_json(make_record("gpu", arguments, results))))


if __name__ == "__main__":
    main()
