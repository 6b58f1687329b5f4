"""Seconds from the start of Python to the first mask, beside those of Transformers' own EdgeTAM, from the same folder.

    python benchmarks/load.py
    python benchmarks/load.py --image-size 512 --repeats 9

Prints a table, and after it one line of JSON with everything that is needed to compare runs.
"""

import json
import statistics
import subprocess
import sys
import tempfile

from measure import check_image_size, in_turns, make_parser, parse_arguments, print_record, randomise

EPILOG = """\
Each run is a process of its own that imports model and image processor, loads both from a folder with random weights,
and asks for the masks of one click in a picture of 1200x1800 pixels; native and ours take turns. The parts are counted
from the start of the program, after PyTorch is imported, which both need and which says nothing about either:
  import       the classes; most of it is what Transformers itself imports, for both
  load         from_pretrained of model and processor, for which native imports timm
  first mask   from the picture to masks of its size
Needs `pip install -e .[test]`: native EdgeTAM takes its backbone from timm.
"""
PARTS = ("import", "load", "first mask")
PROGRAM = """
import json, sys, time
import numpy as np, torch
folder, device, dtype, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
times = [time.perf_counter()]
{imports}
times.append(time.perf_counter())
model = EdgeTamModel.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device)
processor = Processor.from_pretrained(folder)
times.append(time.perf_counter())
picture = np.zeros((1200, 1800, 3), np.uint8)
inputs = processor(picture, input_points=[[[[900, 600]]]], input_labels=[[[1]]], return_tensors="pt").to(device)
with torch.no_grad():
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    output = model(**inputs)
masks = processor.post_process_masks(output.pred_masks.float().cpu(), inputs["original_sizes"].cpu())
times.append(time.perf_counter())
print(json.dumps([after - before for before, after in zip(times, times[1:])]))
"""
IMPORTS = {
    "native": "from transformers import EdgeTamModel, Sam2Processor as Processor",
    "ours": "from edgetam_hf import EdgeTamModel, EdgeTamProcessor as Processor",
}


def read_settings():
    """The command line's settings."""
    parser = make_parser(__doc__.splitlines()[0], EPILOG)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="runs of each, at least 5 (%(default)s)")
    arguments = parse_arguments(parser)
    check_image_size(parser, "--image-size", arguments.image_size, 32)
    if arguments.repeats < 5:
        parser.error(f"--repeats must be 5 or more, got {arguments.repeats}: the median of fewer says little")
    return arguments


def save_checkpoint(folder, image_size):
    """Writes a model with random weights and its processor, which native loads, too."""
    from edgetam_hf import EdgeTamConfig, EdgeTamImageProcessor, EdgeTamModel, EdgeTamProcessor

    model = EdgeTamModel(EdgeTamConfig(image_size=image_size))
    randomise(model)
    model.save_pretrained(folder)
    image_processor = EdgeTamImageProcessor(size={"height": image_size, "width": image_size})
    EdgeTamProcessor(image_processor).save_pretrained(folder)


def run_once(name, folder, arguments):
    """Seconds of each part in a new process."""
    import torch

    program = PROGRAM.format(imports=IMPORTS[name])
    settings = [folder, arguments.device, arguments.dtype, str(torch.get_num_threads())]
    run = subprocess.run([sys.executable, "-c", program, *settings], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{name} failed:\n{run.stderr}")
    return json.loads(run.stdout.splitlines()[-1])


def main():
    """Runs everything and prints the table and the JSON line."""
    arguments = read_settings()
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(folder, arguments.image_size)
        for name in IMPORTS:  # so that all files lie in the cache of the system
            run_once(name, folder, arguments)
        runs = {name: [] for name in IMPORTS}
        for round_idx in range(arguments.repeats):
            for name in in_turns(IMPORTS, round_idx):
                runs[name].append(run_once(name, folder, arguments))
    results = {}
    print(f"{'':<12}{'native s':>10}{'ours s':>10}{'ratio':>8}")
    for part_idx, part in enumerate((*PARTS, "together")):
        chosen = slice(None) if part == "together" else slice(part_idx, part_idx + 1)
        native, ours = (statistics.median(sum(run[chosen]) for run in runs[name]) for name in ("native", "ours"))
        results[part] = {"native_s": round(native, 3), "ours_s": round(ours, 3), "ratio": round(native / ours, 3)}
        print(f"{part:<12}{native:>10.2f}{ours:>10.2f}{native / ours:>8.2f}")
    print_record("load", arguments, results)


if __name__ == "__main__":
    main()
