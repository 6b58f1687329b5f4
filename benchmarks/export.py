"""Exported graphs on ONNX Runtime and OpenVINO beside PyTorch, ours and Transformers' own, on the same random weights.

    python benchmarks/export.py
    python benchmarks/export.py --only frame --objects 1 8
    python benchmarks/export.py --only start

Prints a table per part, and after them one line of JSON with everything that is needed to compare runs.
"""

import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from measure import check_image_size, make_parser, parse_arguments, print_record, time_call
from video import BANK_FRAMES, IMAGE_SIZE_MULTIPLE, make_frames, make_models, open_stream

PARTS = ("encoder", "frame", "start")
RUNTIMES = {  # arguments of `ExportedEdgeTam.from_pretrained`, by name in the tables
    "onnxruntime": {"runtime": "onnxruntime"},
    "openvino": {"runtime": "openvino"},
    "openvino bfloat16": {"runtime": "openvino", "dtype": "bfloat16"},
}
EPILOG = f"""\
All models have equal weights and take turns inside one process; each goes first in turn, so that a busy machine slows
all alike. PyTorch computes in float32. Ratios above 1 are faster than Transformers' own, or than ours in PyTorch.
encoder  the image encoder, one picture
frame    a frame of a stream, after {BANK_FRAMES} that fill the memory; "openvino bfloat16" computes in it where the
         processor can
start    seconds from the start of Python to the mask of a click in a picture of 1200x1800 pixels, in a process of its
         own: ours in PyTorch, imports included, and `edgetam_runtime` on ONNX Runtime, which imports neither PyTorch
         nor Transformers; the embedded checkpoint
Needs `pip install -e .[test]`.
"""
START = {
    "ours": """
from PIL import Image
import torch
from edgetam_hf import EdgeTamModel, EdgeTamProcessor
model, processor = (kind.from_pretrained({checkpoint!r}) for kind in (EdgeTamModel, EdgeTamProcessor))
inputs = processor(images=Image.new("RGB", (1800, 1200)), input_points=[[[[900, 600]]]], return_tensors="pt")
with torch.no_grad():
    output = model(**inputs, multimask_output=False)
masks = processor.post_process_masks(output.pred_masks, inputs["original_sizes"])
""",
    "onnxruntime": """
from PIL import Image
import edgetam_runtime
model = edgetam_runtime.load({exported!r}, "onnxruntime")
masks = model.encode(Image.new("RGB", (1800, 1200))).segment(points=[[(900, 600)]])
""",
}


def read_settings():
    """The command line's settings."""
    parser = make_parser(__doc__.splitlines()[0], EPILOG)
    parser.add_argument("--only", choices=PARTS, help="the part to run (all)")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 8], metavar="N", help="(1 8)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="timed rounds, at least 5 (%(default)s)")
    arguments = parse_arguments(parser)
    check_image_size(parser, "--image-size", arguments.image_size, IMAGE_SIZE_MULTIPLE)
    if arguments.dtype != "float32" or arguments.device != "cpu":
        parser.error("leave out --dtype and --device: float32 on the CPU is what runtimes are compared with")
    if arguments.repeats < 5:
        parser.error(f"--repeats must be 5 or more, got {arguments.repeats}: the median of fewer says little")
    return arguments


def write_folder(model, processor, folder):
    """Exports a model for both runtimes, without comparing what it finds."""
    from edgetam_hf.export.folder import write_configuration
    from edgetam_hf.export.formats import write_graphs
    from edgetam_hf.export.graphs import graphs_of

    write_configuration(model, processor, folder, is_video=True)
    write_graphs(graphs_of(model, is_for_video=True), folder, ["onnx", "openvino"], ["float32"])


def time_in_turns(functions, arguments):
    """Medians of milliseconds by name of functions without arguments; a first round is not counted."""
    times = {name: [] for name in functions}
    for round_idx in range(arguments.repeats + 1):
        names = list(functions)
        for name in names[round_idx % len(names) :] + names[: round_idx % len(names)]:
            _, milliseconds = time_call(functions[name], arguments)
            if round_idx:
                times[name].append(milliseconds)
    return {name: statistics.median(values) for name, values in times.items()}


def print_medians(label, medians):
    """Prints a row for each model, and returns them with their ratios."""
    rows = {}
    for name, median in medians.items():
        ratios = {f"to {base}": round(medians[base] / median, 3) for base in ("native", "ours")}
        rows[name] = {"ms": round(median, 1), **ratios}
        print(f"{label:<12}{name:<20}{median:>10.1f}{ratios['to native']:>14.2f}{ratios['to ours']:>12.2f}", flush=True)
    return rows


@torch.no_grad()
def measure_encoder(models, arguments):
    """Times of the image encoder."""
    (frame,) = make_frames(1, arguments.image_size, arguments)
    encoders = {
        name: partial(model.get_image_features if name == "native" else model.get_frame_embeddings, frame[None])
        for name, model in models.items()
    }
    return print_medians("encoder", time_in_turns(encoders, arguments))


def measure_frames(models, arguments):
    """Times of a frame of a stream, by number of objects."""
    results = {}
    for num_objects in arguments.objects:
        streams = {
            name: open_stream(name, model, num_objects, arguments.image_size, arguments)
            for name, model in models.items()
        }
        for frame in make_frames(BANK_FRAMES, arguments.image_size, arguments):
            for stream in streams.values():
                stream(frame)
        (frame,) = make_frames(1, arguments.image_size, arguments)
        medians = time_in_turns({name: partial(stream, frame) for name, stream in streams.items()}, arguments)
        results[str(num_objects)] = print_medians(f"{num_objects} objects", medians)
    return results


def measure_start(arguments):
    """Seconds until the first mask, by what computes it."""
    from edgetam_hf import EdgeTamVideoModel, EdgeTamVideoProcessor, nano_checkpoint

    checkpoint = str(nano_checkpoint())
    with tempfile.TemporaryDirectory() as exported:
        write_folder(
            EdgeTamVideoModel.from_pretrained(checkpoint, dtype=torch.float32),
            EdgeTamVideoProcessor.from_pretrained(checkpoint),
            Path(exported),
        )
        programs = {name: text.format(checkpoint=checkpoint, exported=exported) for name, text in START.items()}
        runs = {name: partial(run_program, name, text) for name, text in programs.items()}
        seconds = {name: median / 1000 for name, median in time_in_turns(runs, arguments).items()}
    ratio = seconds["ours"] / seconds["onnxruntime"]
    print(f"{'start':<12}ours {seconds['ours']:.2f} s, onnxruntime {seconds['onnxruntime']:.2f} s, ratio {ratio:.2f}")
    return {**{name: round(value, 3) for name, value in seconds.items()}, "ratio": round(ratio, 3)}


def run_program(name, text):
    """Runs a program in a process of its own."""
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{name} failed:\n{run.stderr}")


def main():
    """Runs the parts and prints their tables and the JSON line."""
    arguments, results = read_settings(), {}
    parts = PARTS if arguments.only is None else (arguments.only,)
    if set(parts) - {"start"}:
        from edgetam_hf.export.runtime import ExportedEdgeTam
        from edgetam_hf.loading import make_processor

        models = make_models(arguments.image_size, arguments)
        with tempfile.TemporaryDirectory() as folder:
            write_folder(models["ours"], make_processor(models["ours"].config), Path(folder))
            for name, settings in RUNTIMES.items():
                models[name] = ExportedEdgeTam.from_pretrained(folder, **settings)
            print(f"{'':<12}{'':<20}{'ms':>10}{'native / it':>14}{'ours / it':>12}")
            if "encoder" in parts:
                results["encoder"] = measure_encoder(models, arguments)
            if "frame" in parts:
                results["frame"] = measure_frames(models, arguments)
    if "start" in parts:
        results["start"] = measure_start(arguments)
    print_record("export", arguments, results)


if __name__ == "__main__":
    main()
