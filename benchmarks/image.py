"""Times of image encoder and mask decoder beside those of Transformers' own EdgeTAM, on the same random weights.

    python benchmarks/image.py
    python benchmarks/image.py --image-size 512 --threads 1 --repeats 9
    python benchmarks/image.py --objects 1 4 16 64 --compile
    python benchmarks/image.py --device cuda --dtype bfloat16

Prints a table, and after it one line of JSON with everything that is needed to compare runs.
"""

import torch
from measure import (
    check_image_size,
    in_turns,
    largest,
    make_parser,
    parse_arguments,
    print_record,
    randomise,
    share_weights,
    summarise,
    time_call,
)

EPILOG = """\
The two models take turns inside one process, and each goes first in every second round, so that a busy machine slows
both alike: trust the ratio (native / ours, above 1 is faster than native) more than the milliseconds. Where other
programs keep the cores busy, `--threads 1 --clock cpu` counts the processor's time, which waiting does not lengthen.
A step is
  encoder      get_image_embeddings of one picture
  decoder, N   forward from image embeddings, with N objects of one click each and three masks per object
With --compile ours runs as `model.compile()` leaves it; native stays as it is.
The difference is the largest absolute one between the outputs of both models, beside the largest absolute output.
Needs `pip install -e .[test]`: native EdgeTAM takes its backbone from timm.
"""


def read_settings():
    """The command line's settings."""
    parser = make_parser(__doc__.splitlines()[0], EPILOG)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="timed rounds, at least 5 (%(default)s)")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 64], metavar="N", help="(1 64)")
    parser.add_argument("--compile", action="store_true", help="compile our model")
    arguments = parse_arguments(parser)
    check_image_size(parser, "--image-size", arguments.image_size, 32)
    if arguments.repeats < 5:
        parser.error(f"--repeats must be 5 or more, got {arguments.repeats}: the median of fewer says little")
    if min(arguments.objects) < 1:
        parser.error("--objects must be 1 or more")
    return arguments


def make_models(image_size, dtype, device):
    """Native and our model with equal random weights, in eval mode."""
    # here, so that --help does not wait for them
    from transformers import EdgeTamConfig as NativeConfig
    from transformers import EdgeTamModel as NativeModel

    from edgetam_hf import EdgeTamConfig, EdgeTamModel

    config = EdgeTamConfig(image_size=image_size)
    ours, native = EdgeTamModel(config), NativeModel(NativeConfig(**config.to_dict()))
    randomise(ours)
    return share_weights(ours, native, dtype, device)


def make_steps(image_size, dtype, device, objects):
    """By name, functions of a model (and image embeddings) that return a list of tensors to be compared."""
    generator = torch.Generator().manual_seed(1)
    pixel_values = torch.randn(1, 3, image_size, image_size, generator=generator).to(device, dtype)

    def make_decoder(num_objects):
        points = (torch.rand(1, num_objects, 1, 2, generator=generator) * image_size).to(device)
        labels = torch.ones(1, num_objects, 1, dtype=torch.long, device=device)

        def decode(model, image_embeddings):
            output = model(image_embeddings=image_embeddings, input_points=points, input_labels=labels)
            return [output.pred_masks, output.iou_scores, output.object_score_logits]

        return decode

    steps = {"encoder": lambda model, image_embeddings: model.get_image_embeddings(pixel_values)}
    return steps | {f"decoder, {num_objects}": make_decoder(num_objects) for num_objects in objects}


@torch.no_grad()
def compare(step, models, image_embeddings, arguments):
    """Medians in milliseconds, their ratio and the difference of outputs of one step."""
    native, ours = (step(models[name], image_embeddings) for name in ("native", "ours"))  # also warms up
    difference = largest(x.float() - y.float() for x, y in zip(native, ours))
    times = {name: [] for name in models}
    for round_idx in range(arguments.repeats):
        for name in in_turns(models, round_idx):
            times[name].append(time_call(lambda name=name: step(models[name], image_embeddings), arguments)[1])
    return summarise(times) | {"largest_difference": difference, "largest_output": largest(native)}


def main():
    """Runs all steps and prints the table and the JSON line."""
    arguments = read_settings()
    setting = (arguments.image_size, getattr(torch, arguments.dtype), arguments.device)
    models, steps = make_models(*setting), make_steps(*setting, arguments.objects)
    if arguments.compile:
        models["ours"].compile()
    with torch.no_grad():
        image_embeddings = steps["encoder"](models["native"], None)
    head = f"{'step':<12}{'native ms':>12}{'ours ms':>12}{'ratio':>8}{'difference':>13}{'of at most':>12}"
    print(f"{head}\n{'-' * len(head)}")
    results = {}
    for name, step in steps.items():
        row = compare(step, models, image_embeddings, arguments)
        print(
            f"{name:<12}{row['native_ms']:>12.1f}{row['ours_ms']:>12.1f}{row['ratio']:>8.2f}"
            f"{row['largest_difference']:>13.2e}{row['largest_output']:>12.2e}",
            flush=True,
        )
        results[name] = row
    print_record("image", arguments, results)


if __name__ == "__main__":
    main()
