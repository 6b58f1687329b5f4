"""Time and memory of tracking in a stream beside those of Transformers' own EdgeTAM, on the same random weights.

    python benchmarks/video.py
    python benchmarks/video.py --only time --objects 3 --image-size 512 --threads 1 --clock cpu
    python benchmarks/video.py --only memory --memory-frames 3000
    python benchmarks/video.py --only growth --growth-image-size 256

Prints a table per part, and after them one line of JSON with everything that is needed to compare runs.
"""

import ctypes
import gc
import os
import statistics
from functools import partial
from pathlib import Path

import torch
from measure import (
    check_image_size,
    in_turns,
    largest,
    make_parser,
    milliseconds,
    parse_arguments,
    print_record,
    randomise,
    read_clock,
    share_weights,
    summarise,
    time_call,
)

IMAGE_SIZE_MULTIPLE = 256  # 16 x 16 latents of the perceiver, on a map of stride 16
BANK_FRAMES = 7  # frames after which the memory bank is full
MEMORY_OBJECTS = 3
PARTS = ("time", "memory", "growth")
GROWTH_OBJECTS = (1, 4, 16, 64)
GROWTH_FRAMES = (10, 30, 100, 300)  # lengths of a video
# by stage, the methods that do the same work
STAGES = {
    "image encoder": {"native": "get_image_features", "ours": "get_frame_embeddings"},
    "memory attention": {"native": "_prepare_memory_conditioned_features", "ours": "attend_to_memory"},
    "mask decoder": {"native": "_single_frame_forward", "ours": "decode_objects"},
    "memory encoder": {"native": "_encode_new_memory", "ours": "encode_memory"},
}
EPILOG = f"""\
A stream of random frames, with one click per object on the first.
time    Both models track the same frames. They take turns frame by frame, and each goes first on every second, so that
        a busy machine slows both alike: trust the ratio (native / ours, above 1 is faster than native) more than the
        milliseconds. Where other programs keep the cores busy, `--threads 1 --clock cpu` counts the processor's time,
        which waiting does not lengthen. Figures are medians over frames that come after the warm-up, whose
        {BANK_FRAMES} frames at least fill the memory bank (the bank of object pointers, a few tokens, is full after
        16). The memory encoder includes the perceiver; what is in no stage is "rest". The difference is the largest
        absolute one between the logits of both models on all frames, beside the largest absolute logit.
memory  Resident memory of the process after garbage collection and trimming of the heap, while three objects are
        tracked: at --settle-frames, at the last frame, and how much it grew between them. With --device cuda, what
        PyTorch has allocated on the GPU. Elsewhere than on Linux the resident memory is not known.
growth  How the time of a frame of ours grows with the number of objects (the median after the warm-up), and with the
        length of the video (medians of the last 10 frames up to a length, one object).
Needs `pip install -e .[test]`: native EdgeTAM takes its backbone from timm.
"""


def read_settings():
    """The command line's settings."""
    parser = make_parser(__doc__.splitlines()[0], EPILOG)
    numbers = {
        "--frames": (5, "timed frames"),
        "--warmup-frames": (BANK_FRAMES, f"frames before them, at least {BANK_FRAMES}"),
        "--memory-image-size": (256, "side of the frames of the memory part"),
        "--memory-frames": (1000, "frames of the memory part, our side"),
        "--native-memory-frames": (110, "frames of the memory part, native side"),
        "--growth-image-size": (256, "side of the frames of the growth part"),
        "--settle-frames": (50, "frames before memory is read first"),
    }
    parser.add_argument("--only", choices=PARTS, help="the part to run (time and memory)")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 8], metavar="N", help="(1 3 8)")
    for name, (default, meaning) in numbers.items():
        parser.add_argument(name, type=int, default=default, metavar="N", help=f"{meaning} (%(default)s)")
    arguments = parse_arguments(parser)
    check_image_size(parser, "--image-size", arguments.image_size, IMAGE_SIZE_MULTIPLE)
    check_image_size(parser, "--memory-image-size", arguments.memory_image_size, IMAGE_SIZE_MULTIPLE)
    check_image_size(parser, "--growth-image-size", arguments.growth_image_size, IMAGE_SIZE_MULTIPLE)
    if arguments.warmup_frames < BANK_FRAMES:
        parser.error(f"--warmup-frames must be {BANK_FRAMES} or more, got {arguments.warmup_frames}")
    if min(arguments.frames, arguments.settle_frames, *arguments.objects) < 1:
        parser.error("--frames, --settle-frames and --objects must be 1 or more")
    if min(arguments.memory_frames, arguments.native_memory_frames) <= arguments.settle_frames:
        parser.error("--memory-frames and --native-memory-frames must be more than --settle-frames")
    return arguments


def make_models(image_size, arguments):
    """Native and our model with equal random weights, in eval mode."""
    # here, so that --help does not wait for them
    from transformers import EdgeTamVideoConfig as NativeConfig
    from transformers import EdgeTamVideoModel as NativeModel

    from edgetam_hf import EdgeTamVideoConfig, EdgeTamVideoModel

    config = EdgeTamVideoConfig(image_size=image_size)
    fields = {name: value for name, value in config.to_dict().items() if name != "model_type"}
    ours, native = EdgeTamVideoModel(config), NativeModel(NativeConfig(**fields))
    randomise(ours)
    for name, parameter in ours.named_parameters():
        if name.endswith(".scale"):  # of residual branches, which would be next to nothing
            parameter.data.fill_(0.1)
    # objects stay visible, so that masks can be compared: those of absent objects are a constant
    ours.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(3.0)
    return share_weights(ours, native, getattr(torch, arguments.dtype), arguments.device)


def make_frames(num_frames, image_size, arguments):
    """Random pixel values (3, H, W), one frame after the other."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(num_frames):
        frame = torch.randn(3, image_size, image_size, generator=generator)
        yield frame.to(arguments.device, getattr(torch, arguments.dtype))


def open_stream(name, model, num_objects, image_size, arguments):
    """A function from the next frame to the output of a model for it, with one click per object on the first."""
    from transformers import Sam2VideoProcessor

    from edgetam_hf import EdgeTamImageProcessor, EdgeTamVideoProcessor, EdgeTamVideoVideoProcessor

    size = {"height": image_size, "width": image_size}
    parts = (EdgeTamImageProcessor(size=size), EdgeTamVideoVideoProcessor(size=size))
    processor = (Sam2VideoProcessor if name == "native" else EdgeTamVideoProcessor)(*parts)
    session = processor.init_video_session(inference_device=arguments.device, dtype=getattr(torch, arguments.dtype))
    points = torch.rand(num_objects, 1, 2, generator=torch.Generator().manual_seed(2)) * image_size
    processor.add_inputs_to_inference_session(
        session,
        frame_idx=0,
        obj_ids=list(range(num_objects)),
        input_points=[points.tolist()],
        input_labels=[[[1]] * num_objects],
        original_size=(image_size, image_size),
    )
    return lambda frame: model(session, frame=frame)


def watch_stages(name, model, arguments):
    """A list to which every call of a stage of the model adds (stage, start, end)."""
    spans = []

    def watch(stage, method, *args, **kwargs):
        start = read_clock(arguments)
        result = method(*args, **kwargs)
        spans.append((stage, start, read_clock(arguments)))
        return result

    for stage, methods in STAGES.items():
        setattr(model, methods[name], partial(watch, stage, getattr(model, methods[name])))
    return spans


def read_stages(spans, total):
    """Milliseconds of a frame by stage, and of the rest, if stages are watched; `spans` is empty afterwards."""
    if not spans:
        return {}
    times = dict.fromkeys(STAGES, 0.0)
    for stage, start, end in spans:
        times[stage] += milliseconds(start, end)
    spans.clear()
    return times | {"rest": total - sum(times.values())}


def compare_times(models, spans, num_objects, arguments):
    """Medians in milliseconds of a frame and of its stages, their ratios, and the difference of the logits."""
    streams = {
        name: open_stream(name, model, num_objects, arguments.image_size, arguments) for name, model in models.items()
    }
    times = {stage: {name: [] for name in models} for stage in ("frame", *STAGES, "rest")}
    differences, outputs = [], []
    num_frames = arguments.warmup_frames + arguments.frames
    for frame_idx, frame in enumerate(make_frames(num_frames, arguments.image_size, arguments)):
        found = {}
        for name in in_turns(models, frame_idx):
            found[name], total = time_call(partial(streams[name], frame), arguments)
            stage_times = read_stages(spans[name], total)
            if frame_idx >= arguments.warmup_frames:
                for stage, value in ({"frame": total} | stage_times).items():
                    times[stage][name].append(value)
        native, ours = (
            torch.cat([output.pred_masks.float().flatten(), output.object_score_logits.float().flatten()])
            for output in (found["native"], found["ours"])
        )
        differences.append(largest([native - ours]))
        outputs.append(largest([native]))
    rows = {stage: summarise(values) for stage, values in times.items() if all(values.values())}
    return rows.pop("frame") | {
        "largest_difference": max(differences),
        "largest_output": max(outputs),
        "stages": rows,
    }


def measure_times(arguments):
    """Prints the table of times; results by number of objects."""
    models = make_models(arguments.image_size, arguments)
    spans = {name: watch_stages(name, model, arguments) for name, model in models.items()}
    head = f"{'per frame':<20}{'native ms':>12}{'ours ms':>12}{'ratio':>8}{'difference':>13}{'of at most':>12}"
    print(f"{head}\n{'-' * len(head)}")
    results = {}
    for num_objects in arguments.objects:
        result = compare_times(models, spans, num_objects, arguments)
        label = f"{num_objects} object{'s' if num_objects > 1 else ''}"
        print(f"{time_row(label, result)}{result['largest_difference']:>13.2e}{result['largest_output']:>12.2e}")
        for stage, row in result["stages"].items():
            print(time_row(f"  {stage}", row), flush=True)
        results[str(num_objects)] = result
    return results


def time_row(label, row):
    """One line of the table of times."""
    return f"{label:<20}{row['native_ms']:>12.1f}{row['ours_ms']:>12.1f}{row['ratio']:>8.2f}"


def used_megabytes(arguments):
    """Memory in use, in millions of bytes, once all that can be given back has been; `None` where it is not known."""
    gc.collect()
    if arguments.device == "cuda":
        return torch.cuda.memory_allocated() / 1e6
    statistics_of_memory = Path("/proc/self/statm")
    if not statistics_of_memory.exists():
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
    return int(statistics_of_memory.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def follow_memory(name, model, num_frames, arguments):
    """Memory in use once it has settled, after the last frame, and its growth."""
    stream = open_stream(name, model, MEMORY_OBJECTS, arguments.memory_image_size, arguments)
    for frame_idx, frame in enumerate(make_frames(num_frames, arguments.memory_image_size, arguments)):
        stream(frame)
        if frame_idx + 1 == arguments.settle_frames:
            start = used_megabytes(arguments)
    end = used_megabytes(arguments)
    row = {"frames": num_frames, "start_mb": start, "end_mb": end}
    if end is None:
        return row
    growth = end - start
    return row | {"growth_mb": growth, "growth_mb_per_frame": growth / (num_frames - arguments.settle_frames)}


def measure_memory(arguments):
    """Prints the table of memory; results by model."""
    models = make_models(arguments.memory_image_size, arguments)
    head = f"{'memory':<10}{'frames':>8}{'start MB':>12}{'end MB':>12}{'growth MB':>12}{'per frame':>12}"
    print(f"{head}\n{'-' * len(head)}")
    results = {}
    for name, num_frames in (("ours", arguments.memory_frames), ("native", arguments.native_memory_frames)):
        row = follow_memory(name, models[name], num_frames, arguments)
        if row["end_mb"] is None:
            print(f"{name:<10}{num_frames:>8}  not known: there is no /proc/self/statm on this system", flush=True)
        else:
            figures = f"{row['start_mb']:>12.1f}{row['end_mb']:>12.1f}{row['growth_mb']:>12.2f}"
            print(f"{name:<10}{num_frames:>8}{figures}{row['growth_mb_per_frame']:>12.4f}", flush=True)
        results[name] = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
    return results


def frame_times(model, num_objects, num_frames, arguments):
    """Milliseconds of every frame of a stream."""
    size = arguments.growth_image_size
    stream = open_stream("ours", model, num_objects, size, arguments)
    return [time_call(partial(stream, frame), arguments)[1] for frame in make_frames(num_frames, size, arguments)]


def measure_growth(arguments):
    """Prints how the time of a frame grows; medians in milliseconds by number of objects, and by length."""
    model = make_models(arguments.growth_image_size, arguments)["ours"]
    results = {"objects": {}, "frames": {}}
    print(f"{'objects':<10}{'ms per frame':>14}{'per object':>14}\n{'-' * 38}")
    for num_objects in GROWTH_OBJECTS:
        times = frame_times(model, num_objects, arguments.warmup_frames + arguments.frames, arguments)
        median = statistics.median(times[arguments.warmup_frames :])
        results["objects"][str(num_objects)] = round(median, 3)
        print(f"{num_objects:<10}{median:>14.1f}{median / num_objects:>14.1f}", flush=True)
    times = frame_times(model, 1, max(GROWTH_FRAMES), arguments)
    print(f"{'frames':<10}{'ms per frame':>14}\n{'-' * 24}")
    for num_frames in GROWTH_FRAMES:
        median = statistics.median(times[num_frames - 10 : num_frames])
        results["frames"][str(num_frames)] = round(median, 3)
        print(f"{num_frames:<10}{median:>14.1f}", flush=True)
    return results


def main():
    """Runs the parts and prints their tables and the JSON line."""
    arguments = read_settings()
    results = {}
    parts = {"memory": measure_memory, "time": measure_times, "growth": measure_growth}
    # memory first, while the process is small
    for name in ("memory", "time") if arguments.only is None else (arguments.only,):
        results[name] = parts[name](arguments)
    print_record("video", arguments, results)


if __name__ == "__main__":
    main()
