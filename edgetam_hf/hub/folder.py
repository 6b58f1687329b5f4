"""A Hub repository as a folder: the list of what belongs into it, and how it is made from a checkpoint."""

import copy
import json
import re
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .. import EdgeTamMaskGenerationPipeline, modeling_edgetam
from ..commands.picture_files import SAMPLE_PICTURE
from ..conversion import PROVENANCE
from ..drawing.overlays import overlay
from ..files.writing import save_whole
from ..loading import hidden_file_bars
from .card import make_card
from .clean_process import BOXES
from .endpoint import HANDLER, HANDLER_CODE, add_endpoint
from .source import Source
from .speed import measure_speed

ROOT = Path(modeling_edgetam.__file__).parent  # of the remote code: a checkout, or the package in a wheel
SHARD_SIZE = "32MB"  # a broken download has at most this to fetch again
# (predicted IoU, stability) for the example of mask generation, for EdgeTAM, for a small model, and for any other
THRESHOLDS = ((0.7, 0.9), (0.7, 0.6), (0.0, 0.0))
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")
OTHER_FILES = {
    *("config.json", "preprocessor_config.json", "processor_config.json", "README.md", "LICENSE", "requirements.txt"),
    *("examples/cat.jpg", "examples/cat_masks.png", "benchmark.json", "provenance.json"),
}
GRAPH_DTYPES = ("float32", "float16")
GRAPHS = re.compile(r"onnx/[a-z0-9_]+\.onnx|parity\.json")  # of a folder with graphs for browsers
VIDEO_ONLY = re.compile(r"video|memory|session|tracking")  # in names of files that an image checkpoint does without


def listed_files(kind: str) -> set[str]:
    """Names that a folder of a "video", "image" or "nano" checkpoint must hold, besides its weights."""
    names = {path.name for path in ROOT.glob("*_edgetam*.py")} | OTHER_FILES | {"video_preprocessor_config.json"}
    return {name for name in names if not VIDEO_ONLY.search(name)} if kind == "image" else names


def check_listed(folder: str | Path, kind: str) -> list[str]:
    """Names of all files of a folder, if they are those of the list, complete, and regular files.

    Raises:
        ValueError: naming a file that is not on the list, is missing, or is code that differs from this checkout.
    """
    folder = Path(folder)
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    expected = listed_files(kind)
    for name in names:
        path = folder / name
        is_known = name in expected or name == HANDLER or is_made(name)
        if path.is_symlink() or not path.is_file() or not is_known:
            raise ValueError(f"{folder} holds {name}, which is no part of a repository: remove it")
        code = HANDLER_CODE if name == HANDLER else ROOT / name
        if name.endswith(".py") and path.read_bytes() != code.read_bytes():
            raise ValueError(f"{folder} holds a {name} that is not the one of this checkout: assemble the folder anew")
    missing = sorted(expected - set(names))
    if not any(name.endswith(".safetensors") for name in names):
        missing.append("model.safetensors")
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}: assemble the folder anew")
    return names


def is_made(name: str) -> bool:
    """Whether a file holds weights or graphs, of which there may be any number."""
    return bool(WEIGHTS.fullmatch(name) or GRAPHS.fullmatch(name))


def has_graphs(folder: str | Path) -> bool:
    """Whether a folder holds graphs for browsers."""
    return Path(folder, "onnx").is_dir()


def assemble(source: Source, folder: str | Path, repo_id: str, tag: str, extras: Collection[str] = ()) -> None:
    """Fills an empty folder with all that a repository holds; the results in its card are left empty.

    extras: "onnx" to export it for browsers, too; "endpoint" to add the handler of an inference endpoint.
    """
    folder = Path(folder)
    (folder / "examples").mkdir()
    stored = copy.deepcopy(source.model).to(getattr(torch, source.dtype))
    with hidden_file_bars():
        stored.save_pretrained(folder, max_shard_size=SHARD_SIZE)
    # half precision is for the size of the files: the model is to run in single precision unless told otherwise
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    source.processor.save_pretrained(folder)
    if "onnx" in extras:
        add_graphs(source, folder)
    (folder / f"{PROVENANCE}.json").write_text(json.dumps(source.provenance, indent=2) + "\n")
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    shutil.copyfile(Path(__file__).with_name("requirements.txt"), folder / "requirements.txt")
    if "endpoint" in extras:
        add_endpoint(folder)
    shutil.copyfile(SAMPLE_PICTURE, folder / "examples" / "cat.jpg")
    save_whole(draw_example(source), folder / "examples" / "cat_masks.png")
    benchmark = measure_speed(source)
    (folder / "benchmark.json").write_text(json.dumps(benchmark, indent=2) + "\n")
    facts = {**benchmark, **describe(source), **choose_thresholds(source), "repo_id": repo_id, "tag": tag}
    (folder / "README.md").write_text(make_card({source.kind, *extras}, facts))
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def add_graphs(source: Source, folder: Path) -> None:
    """Adds ONNX files to a folder, what was found when they were compared, and in config.json what they are."""
    # imported here, as it needs packages that other repositories do without
    from ..export.exporter import ExportPlan, export

    with tempfile.TemporaryDirectory() as temporary:
        exported = Path(temporary, "exported")
        export(source.model, source.processor, exported, ExportPlan(dtypes=GRAPH_DTYPES, num_check_frames=0))
        for name in ("onnx", "parity.json"):
            shutil.move(exported / name, folder / name)
        config = json.loads((folder / "config.json").read_text())
        described = json.loads((exported / "config.json").read_text())
        config |= {name: described[name] for name in ("edgetam_export", "transformers.js_config")}
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def describe(source: Source) -> dict[str, Any]:
    """What the card says of the source."""
    title = {"video": "EdgeTAM", "image": "EdgeTAM for pictures", "nano": "edgetam-nano"}[source.kind]
    name, commit = source.provenance["source"], source.provenance.get("revision")
    layout = {"original": "the original release", "transformers": "Transformers"}[source.provenance["format"]]
    on_hub = f"[{name}](https://huggingface.co/{name}) at commit `{commit}`"
    return {
        "title": title,
        "base_model": name if commit else "facebook/EdgeTAM",
        "source": on_hub if commit else f"`{name}`, a checkpoint in the layout of {layout}",
        "dtype": source.dtype,
    }


def choose_thresholds(source: Source) -> dict[str, float]:
    """The strictest thresholds of mask generation at which it finds something in the sample picture."""
    generator = EdgeTamMaskGenerationPipeline(
        model=source.image_model(), image_processor=source.processor.image_processor
    )
    with Image.open(SAMPLE_PICTURE) as image:
        for iou, stability in THRESHOLDS:
            thresholds: dict[str, Any] = {"pred_iou_thresh": iou, "stability_score_thresh": stability}
            if generator(image, points_per_crop=8, points_per_batch=64, **thresholds)["masks"]:
                break
    return {"iou": iou, "stability": stability}


def draw_example(source: Source) -> Image.Image:
    """The sample picture with both boxes and their masks."""
    with Image.open(SAMPLE_PICTURE) as image:
        inputs = source.processor(images=image, input_boxes=[BOXES], return_tensors="pt")
        with torch.no_grad():
            outputs = source.image_model()(**inputs, multimask_output=False)
        masks = source.processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0][:, 0].numpy()
        picture = np.array(image.convert("RGB"))
    return overlay(picture, masks, boxes=[tuple(box) for box in BOXES])
