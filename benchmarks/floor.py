"""How near each stage of a tracked frame comes to the time that its products alone would take on this machine.

    python benchmarks/floor.py --threads 2
    python benchmarks/floor.py --dtype bfloat16 --objects 8

Prints a table of products and one of stages, and after them one line of JSON.
"""

import statistics
from functools import partial

import torch
import torch.nn.functional as F
import video
from measure import check_image_size, make_parser, parse_arguments, print_record, time_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

PRODUCTS = {  # (rows, inner, columns), as they occur in the memory attention and in the encoder
    "projection": (4096, 256, 256),
    "first layer of an MLP": (4096, 256, 2048),
    "second layer of an MLP": (4096, 2048, 256),
    "logits of 512 queries": (512, 256, 4096),
    "averages of 512 queries": (512, 4096, 256),
    "square": (2048, 2048, 2048),
}
EPILOG = """\
products  How many billion multiplications and additions a second PyTorch does here, in products of matrices of several
          shapes and in a pointwise convolution. The largest rate is what the processor is taken to be able to do.
stages    What native and ours multiply in each stage, the milliseconds that this takes at the largest rate (the floor),
          the milliseconds that it takes (medians, in turns), and the floor's share of them. Activations, softmax,
          normalisation and copies are all that is not counted.
Needs `pip install -e .[test]`: native EdgeTAM takes its backbone from timm.
"""


class OperationCounter(TorchDispatchMode):
    """Counts multiplications and additions; unlike PyTorch's `FlopCounterMode` without hooks, which change the way."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function._overloadpacket not in flop_registry:
            with self:  # in inference mode operations come whole that otherwise come in parts
                result = function.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = function(*args, **kwargs)
        if function._overloadpacket is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
            self.total += sdpa_flop_count(*(states.shape for states in args[:3]))
        elif function._overloadpacket in flop_registry:
            self.total += flop_registry[function._overloadpacket](*args, **kwargs, out_val=result)
        return result


def read_settings():
    """The command line's settings."""
    parser = make_parser(__doc__.splitlines()[0], EPILOG)
    numbers = {
        "--objects": (1, "tracked objects"),
        "--frames": (5, "timed frames"),
        "--warmup-frames": (video.BANK_FRAMES, f"frames before them, at least {video.BANK_FRAMES}"),
        "--repeats": (15, "timed rounds of each product"),
    }
    for name, (default, meaning) in numbers.items():
        parser.add_argument(name, type=int, default=default, metavar="N", help=f"{meaning} (%(default)s)")
    arguments = parse_arguments(parser)
    check_image_size(parser, "--image-size", arguments.image_size, video.IMAGE_SIZE_MULTIPLE)
    if min(arguments.objects, arguments.frames, arguments.repeats) < 1 or arguments.warmup_frames < video.BANK_FRAMES:
        parser.error(f"numbers must be 1 or more, and --warmup-frames {video.BANK_FRAMES} or more")
    return arguments


def measure_products(arguments):
    """Prints the table of products; GFLOP/s by name."""
    settings = {"device": arguments.device, "dtype": getattr(torch, arguments.dtype)}
    steps = {}
    for name, (rows, inner, columns) in PRODUCTS.items():
        states, weight = torch.randn(rows, inner, **settings), torch.randn(columns, inner, **settings)
        steps[name] = (partial(F.linear, states, weight), 2 * rows * inner * columns)
    pixels = torch.randn(1, 64, 64, 192, **settings).permute(0, 3, 1, 2)  # channels next to each other
    kernel = torch.randn(384, 192, 1, 1, **settings)
    steps["pointwise convolution"] = (partial(F.conv2d, pixels, kernel), 2 * 64 * 64 * 192 * 384)
    print(f"{'product':<26}{'GFLOP/s':>9}\n{'-' * 35}")
    rates = {}
    for name, (step, operations) in steps.items():
        step()
        rates[name] = (
            operations / statistics.median(time_call(step, arguments)[1] for _ in range(arguments.repeats)) / 1e6
        )
        print(f"{name:<26}{rates[name]:>9.0f}", flush=True)
    return rates


def count_operations(name, model, arguments):
    """Multiplications and additions of each stage of a frame whose memory is full."""
    operations = {}

    def watch(stage, method, *args, **kwargs):
        with OperationCounter() as counter:
            result = method(*args, **kwargs)
        operations[stage] = counter.total
        return result

    stream = video.open_stream(name, model, arguments.objects, arguments.image_size, arguments)
    frames = list(video.make_frames(video.BANK_FRAMES + 1, arguments.image_size, arguments))
    for frame in frames[:-1]:
        stream(frame)
    methods = {stage: methods[name] for stage, methods in video.STAGES.items()}
    for stage, method in methods.items():
        setattr(model, method, partial(watch, stage, getattr(model, method)))
    stream(frames[-1])
    for method in methods.values():
        delattr(model, method)
    return operations


@torch.no_grad()
def measure_stages(rate, arguments):
    """Prints the table of stages; operations, times and shares by stage and model."""
    models = video.make_models(arguments.image_size, arguments)
    operations = {name: count_operations(name, model, arguments) for name, model in models.items()}
    spans = {name: video.watch_stages(name, model, arguments) for name, model in models.items()}
    times = video.compare_times(models, spans, arguments.objects, arguments)["stages"]
    head = f"{'stage':<18}" + "".join(f"{name:>8} GFLOP{'floor ms':>10}{'ms':>9}{'share':>7}" for name in models)
    print(f"\n{head}\n{'-' * len(head)}")
    results = {}
    for stage in video.STAGES:
        line, results[stage] = f"{stage:<18}", {}
        for name in models:
            floor, taken = operations[name][stage] / rate / 1e6, times[stage][f"{name}_ms"]
            row = {"gflop": operations[name][stage] / 1e9, "floor_ms": floor, "ms": taken, "share": floor / taken}
            results[stage][name] = {key: round(value, 3) for key, value in row.items()}
            line += f"{row['gflop']:>14.1f}{floor:>10.1f}{taken:>9.1f}{floor / taken:>7.0%}"
        print(line, flush=True)
    return results


def main():
    """Runs both parts and prints their tables and the JSON line."""
    arguments = read_settings()
    rates = measure_products(arguments)
    stages = measure_stages(max(rates.values()), arguments)
    results = {"gflops": {name: round(rate, 1) for name, rate in rates.items()}, "stages": stages}
    print_record("floor", arguments, results)


if __name__ == "__main__":
    main()
