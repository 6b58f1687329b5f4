"""Times of image encoder and mask decoder beside those of Transformers' own EdgeTAM, on the same random weights.

    python benchmarks/image.py
    python benchmarks/image.py --image-size 512 --threads 1 --repeats 9
    python benchmarks/image.py --device cuda --dtype bfloat16

Prints a table, and after it one line of JSON with everything that is needed to compare runs.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import statistics
import time
from pathlib import Path

import torch
import transformers

NUM_OBJECTS = (1, 64)
EPILOG = """\
The two models take turns inside one process, and each goes first in every second round, so that a busy machine slows
both alike: trust the ratio (native / ours, above 1 is faster than native) more than the milliseconds. Where other
programs keep the cores busy, `--threads 1 --clock cpu` counts the processor's time, which waiting does not lengthen.
A step is
  encoder      get_image_embeddings of one picture
  decoder, N   forward from image embeddings, with N objects of one click each and three masks per object
The difference is the largest absolute one between the outputs of both models, beside the largest absolute output.
Needs `pip install -e .[test]`: native EdgeTAM takes its backbone from timm.
"""


def parse_arguments():
    """The command line's settings."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image-size", type=int, default=1024, metavar="N", help="side of the picture (%(default)s)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="(%(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(%(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of PyTorch on the CPU (PyTorch's choice)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="timed rounds, at least 5 (%(default)s)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what is read (%(default)s)")
    arguments = parser.parse_args()
    if arguments.repeats < 5:
        parser.error(f"--repeats must be 5 or more, got {arguments.repeats}: the median of fewer says little")
    if arguments.image_size <= 0 or arguments.image_size % 32:
        parser.error(f"--image-size must be a positive multiple of 32, got {arguments.image_size}")
    if arguments.threads is not None and arguments.threads < 1:
        parser.error(f"--threads must be 1 or more, got {arguments.threads}")
    if arguments.device == "cuda" and arguments.clock == "cpu":
        parser.error("--clock cpu says nothing about a GPU; leave it out")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that PyTorch can use, and there is none; leave it out for the CPU")
    if importlib.util.find_spec("timm") is None:
        parser.error("native EdgeTAM needs timm: pip install edgetam-hf[test]")
    return arguments


def make_models(image_size, dtype, device):
    """Native and our model with equal random weights, in eval mode."""
    # here, so that --help does not wait for them
    from transformers import EdgeTamConfig as NativeConfig
    from transformers import EdgeTamModel as NativeModel

    from edgetam_hf import EdgeTamConfig, EdgeTamModel

    config = EdgeTamConfig(image_size=image_size)
    ours, native = EdgeTamModel(config), NativeModel(NativeConfig(**config.to_dict()))
    torch.manual_seed(0)
    for parameter in ours.parameters():
        if parameter.dim() > 1:  # weights that keep the scale of their input, so that prompts decide the masks
            parameter.data = torch.randn(parameter.shape) * (0.8 / parameter[0].numel()) ** 0.5
    for module in ours.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics whose folding shows
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
    native.load_state_dict(ours.state_dict())
    return {name: model.to(device, dtype).eval() for name, model in (("native", native), ("ours", ours))}


def make_steps(image_size, dtype, device):
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
    return steps | {f"decoder, {num_objects}": make_decoder(num_objects) for num_objects in NUM_OBJECTS}


def time_call(function, arguments):
    """Milliseconds that a call takes until the device has finished."""
    synchronise = torch.cuda.synchronize if arguments.device == "cuda" else lambda: None
    read_clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    synchronise()
    start = read_clock()
    function()
    synchronise()
    return (read_clock() - start) * 1000


@torch.no_grad()
def compare(step, models, image_embeddings, arguments):
    """Medians in milliseconds, their ratio and the difference of outputs of one step."""
    native, ours = (step(models[name], image_embeddings) for name in ("native", "ours"))  # also warms up
    difference = max((x.float() - y.float()).abs().max().item() for x, y in zip(native, ours))
    largest = max(x.float().abs().max().item() for x in native)
    times = {name: [] for name in models}
    for round_idx in range(arguments.repeats):
        for name in sorted(models, reverse=round_idx % 2 == 1):
            times[name].append(time_call(lambda name=name: step(models[name], image_embeddings), arguments))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "native_ms": round(medians["native"], 3),
        "ours_ms": round(medians["ours"], 3),
        "ratio": round(medians["native"] / medians["ours"], 3),
        "largest_difference": difference,
        "largest_output": largest,
    }


def device_name(device):
    """Name of the GPU or of the processor."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def package_versions():
    """Versions of Python and of the packages that decide the figures."""
    try:
        ours = importlib.metadata.version("edgetam-hf")
    except importlib.metadata.PackageNotFoundError:  # a checkout on PYTHONPATH
        ours = "not installed"
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return versions | {"transformers": transformers.__version__, "edgetam_hf": ours}


def main():
    """Runs all steps and prints the table and the JSON line."""
    arguments = parse_arguments()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    setting = (arguments.image_size, getattr(torch, arguments.dtype), arguments.device)
    models, steps = make_models(*setting), make_steps(*setting)
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
    record = {"benchmark": "image", "device": arguments.device, "device_name": device_name(arguments.device)}
    record |= {"threads": torch.get_num_threads(), "versions": package_versions()}
    record |= {name: getattr(arguments, name) for name in ("image_size", "dtype", "repeats", "clock")}
    print(json.dumps(record | {"results": results}))


if __name__ == "__main__":
    main()
