"""What the benchmarks share: settings of the command line, random weights, clocks, and the record of a run."""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import tempfile
import time

import torch
from offline_hub import write_offline_hub_cache

# Native EdgeTAM asks the Hub for what its backbone is; Transformers reads these when it is imported.
hub_cache = tempfile.TemporaryDirectory(prefix="edgetam_benchmarks_")
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_CACHE=write_offline_hub_cache(hub_cache.name))

import transformers  # noqa: E402

from edgetam_hf.hub.speed import cpu_name  # noqa: E402


def make_parser(description, epilog):
    """A parser of the settings that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image-size", type=int, default=1024, metavar="N", help="side of the picture (%(default)s)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="(%(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(%(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of PyTorch on the CPU (PyTorch's choice)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what is read (%(default)s)")
    return parser


def check_image_size(parser, name, image_size, multiple):
    """Ends the program if a picture of this side does not fit the model."""
    if image_size <= 0 or image_size % multiple:
        parser.error(f"{name} must be a positive multiple of {multiple}, got {image_size}")


def parse_arguments(parser):
    """The settings, of which those of `make_parser` are checked and applied, except for the image size."""
    arguments = parser.parse_args()
    if arguments.threads is not None and arguments.threads < 1:
        parser.error(f"--threads must be 1 or more, got {arguments.threads}")
    if arguments.device == "cuda" and arguments.clock == "cpu":
        parser.error("--clock cpu says nothing about a GPU; leave it out")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that PyTorch can use, and there is none; leave it out for the CPU")
    if importlib.util.find_spec("timm") is None:
        parser.error("native EdgeTAM needs timm: pip install timm")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    return arguments


def randomise(model):
    """Gives the model weights that keep the scale of their input, so that prompts decide the masks."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = torch.randn(parameter.shape) * (0.8 / parameter[0].numel()) ** 0.5
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics whose folding shows
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)


def share_weights(ours, native, dtype, device):
    """Both models by name, with the weights of ours, in eval mode; native goes first."""
    native.load_state_dict(ours.state_dict())
    return {name: model.to(device, dtype).eval() for name, model in (("native", native), ("ours", ours))}


def in_turns(models, round_idx):
    """Names of the models, in an order that changes with every round."""
    return sorted(models, reverse=round_idx % 2 == 1)


def read_clock(arguments):
    """A moment; on a GPU one of its own time, which comes without waiting for it."""
    if arguments.device == "cuda":
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
    return time.process_time() if arguments.clock == "cpu" else time.perf_counter()


def milliseconds(start, end):
    """Time between two moments that `read_clock` gave; a GPU must have reached them."""
    return start.elapsed_time(end) if isinstance(start, torch.cuda.Event) else (end - start) * 1000


def time_call(function, arguments):
    """Result of a call, and the milliseconds that it takes until the device has finished."""
    synchronise = torch.cuda.synchronize if arguments.device == "cuda" else lambda: None
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    synchronise()
    start = clock()
    result = function()
    synchronise()
    return result, (clock() - start) * 1000


def summarise(times):
    """Medians of milliseconds by model, and their ratio."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "native_ms": round(medians["native"], 3),
        "ours_ms": round(medians["ours"], 3),
        "ratio": round(medians["native"] / medians["ours"], 3),
    }


def largest(tensors):
    """The largest absolute value of tensors."""
    return max(tensor.float().abs().max().item() for tensor in tensors)


def device_name(device):
    """Name of the GPU or of the processor."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return cpu_name()


def package_versions():
    """Versions of Python and of the packages that decide the figures."""
    try:
        ours = importlib.metadata.version("edgetam-hf")
    except importlib.metadata.PackageNotFoundError:  # a checkout on PYTHONPATH
        ours = "not installed"
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return versions | {"transformers": transformers.__version__, "edgetam_hf": ours}


def make_record(benchmark, arguments, results):
    """Everything that is needed to compare runs, as a dictionary."""
    settings = {name: value for name, value in vars(arguments).items() if name not in ("device", "threads", "output")}
    record = {"benchmark": benchmark, "device": arguments.device, "device_name": device_name(arguments.device)}
    record |= {"threads": torch.get_num_threads(), "versions": package_versions()}
    return record | settings | {"results": results}


def print_record(benchmark, arguments, results):
    """Prints one line of JSON with everything that is needed to compare runs."""
    print(json.dumps(make_record(benchmark, arguments, results)))
