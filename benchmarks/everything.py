"""Time and memory of everything in a stream, by the number of objects, on random weights.

    python benchmarks/everything.py
    python benchmarks/everything.py --image-size 512 --threads 1 --clock cpu --objects 1 16 64 200

Prints a table, and after it one line of JSON with everything that is needed to compare runs.
"""

import statistics
from functools import partial

import torch
from measure import check_image_size, make_parser, parse_arguments, print_record, time_call
from video import BANK_FRAMES, IMAGE_SIZE_MULTIPLE, make_frames, make_models, used_megabytes

EPILOG = f"""\
A stream of random frames, in which so many objects were prompted by masks on the first: squares of a grid. Every frame
is followed by `track_everything_on_frame` with as many objects as it may have at most, so that none is searched.
Milliseconds are medians over frames behind the {BANK_FRAMES} that fill the memory bank. MB are what the process (with
--device cuda, PyTorch on the GPU) has gained since before the first frame. The search is that of the first frame with
--points-per-side clicks on each side, of which nothing is kept.
"""


def read_settings():
    """The command line's settings."""
    parser = make_parser(__doc__.splitlines()[0], EPILOG)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 16, 64, 200], metavar="N", help="(1 16 64 200)")
    parser.add_argument("--frames", type=int, default=3, metavar="N", help="timed frames (%(default)s)")
    parser.add_argument("--per-batch", type=int, default=8, metavar="N", help="objects at once (%(default)s)")
    parser.add_argument("--points-per-side", type=int, default=32, metavar="N", help="of the search (%(default)s)")
    arguments = parse_arguments(parser)
    check_image_size(parser, "--image-size", arguments.image_size, IMAGE_SIZE_MULTIPLE)
    if min(arguments.frames, arguments.per_batch, arguments.points_per_side, *arguments.objects) < 1:
        parser.error("--frames, --per-batch, --points-per-side and --objects must be 1 or more")
    return arguments


def squares(num_objects, side):
    """Boolean masks (side, side), one after the other, of squares of a grid."""
    num_per_side = 1
    while num_per_side**2 < num_objects:
        num_per_side += 1
    length = side // num_per_side
    for number in range(num_objects):
        top, left = (length * place for place in divmod(number, num_per_side))
        mask = torch.zeros(side, side, dtype=torch.bool)
        mask[top : top + length, left : left + length] = True
        yield mask


def open_session(processor, arguments):
    """A new stream."""
    settings = {"dtype": getattr(torch, arguments.dtype), "max_objects_per_batch": arguments.per_batch}
    return processor.init_video_session(inference_device=arguments.device, max_memory_frames=1, **settings)


def follow(model, processor, num_objects, arguments):
    """Median of the milliseconds of a frame, and the megabytes that were gained."""
    session, size = open_session(processor, arguments), arguments.image_size
    for number, mask in enumerate(squares(num_objects, size)):
        processor.add_inputs_to_inference_session(session, 0, number, input_masks=mask, original_size=(size, size))
    before, times = used_megabytes(arguments), []
    for frame in make_frames(BANK_FRAMES + arguments.frames, size, arguments):
        step = partial(model.track_everything_on_frame, session, frame=frame, max_objects=num_objects)
        output, time = time_call(step, arguments)
        times.append(time)
    assert len(output.object_ids) == num_objects
    gained = None if before is None else round(used_megabytes(arguments) - before)
    return {"ms": round(statistics.median(times[BANK_FRAMES:]), 1), "mb": gained}


def search(model, processor, arguments):
    """Milliseconds of a frame that is searched."""
    session, size = open_session(processor, arguments), arguments.image_size
    (frame,) = make_frames(1, size, arguments)
    model(session, frame=frame)
    options = {"points_per_crop": arguments.points_per_side, "min_area": 1.0, "max_area": 1.0}
    step = partial(model.discover, session, 0, original_size=(size, size), **options)
    return round(time_call(step, arguments)[1], 1)


def main():
    """Measures, and prints the table and the JSON line."""
    arguments = read_settings()
    from edgetam_hf import EdgeTamImageProcessor, EdgeTamVideoProcessor, EdgeTamVideoVideoProcessor

    model = make_models(arguments.image_size, arguments)["ours"]
    size = {"height": arguments.image_size, "width": arguments.image_size}
    processor = EdgeTamVideoProcessor(EdgeTamImageProcessor(size=size), EdgeTamVideoVideoProcessor(size=size))
    results = {"search_ms": search(model, processor, arguments), "objects": {}}
    print(f"{'objects':<10}{'ms per frame':>14}{'per object':>14}{'MB':>8}\n{'-' * 46}")
    for num_objects in arguments.objects:
        row = results["objects"][str(num_objects)] = follow(model, processor, num_objects, arguments)
        print(f"{num_objects:<10}{row['ms']:>14.1f}{row['ms'] / num_objects:>14.1f}{row['mb'] or 0:>8}", flush=True)
    print(f"{'search':<10}{results['search_ms']:>14.1f}")
    print_record("everything", arguments, results)


if __name__ == "__main__":
    main()
