"""A Hub repository as a folder: the list of what belongs into it, and how it is made from a checkpoint."""

import copy
import json
import platform
import re
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from huggingface_hub.utils import HFValidationError, validate_repo_id
from PIL import Image

from .. import (
    EdgeTamMaskGenerationPipeline,
    EdgeTamModel,
    EdgeTamProcessor,
    EdgeTamVideoModel,
    EdgeTamVideoProcessor,
    modeling_edgetam,
    nano_checkpoint,
)
from ..commands.support import load_quietly
from ..conversion import ORIGINAL_SUFFIXES, PROVENANCE, convert
from ..drawing import overlay
from ..whole_files import save_whole
from .card import make_card
from .clean_process import BOXES, image_outputs, video_outputs

ROOT = Path(modeling_edgetam.__file__).parent  # of the remote code: a checkout, or the package in a wheel
SAMPLE_PICTURE = Path(__file__).parents[1] / "samples" / "cat.jpg"
SHARD_SIZE = "32MB"  # a broken download has at most this to fetch again
NUM_ROUNDS = 3
# (predicted IoU, stability) for the example of mask generation, for EdgeTAM, for a small model, and for any other
THRESHOLDS = ((0.7, 0.9), (0.7, 0.6), (0.0, 0.0))
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")
OTHER_FILES = {
    *("config.json", "preprocessor_config.json", "processor_config.json", "README.md", "LICENSE", "requirements.txt"),
    *("examples/cat.jpg", "examples/cat_masks.png", "benchmark.json", "provenance.json"),
}
VIDEO_ONLY = re.compile(r"video|memory|session|tracking")  # in names of files that an image checkpoint does without


def listed_files(kind):
    """Names that a folder of a "video", "image" or "nano" checkpoint must hold, besides its weights."""
    names = {path.name for path in ROOT.glob("*_edgetam*.py")} | OTHER_FILES | {"video_preprocessor_config.json"}
    return {name for name in names if not VIDEO_ONLY.search(name)} if kind == "image" else names


def check_listed(folder, kind):
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
        if path.is_symlink() or not path.is_file() or not (name in expected or WEIGHTS.fullmatch(name)):
            raise ValueError(f"{folder} holds {name}, which is no part of a repository: remove it")
        if name.endswith(".py") and path.read_bytes() != (ROOT / name).read_bytes():
            raise ValueError(f"{folder} holds a {name} that is not the one of this checkout: assemble the folder anew")
    missing = sorted(expected - set(names))
    if not any(name.endswith(".safetensors") for name in names):
        missing.append("model.safetensors")
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}: assemble the folder anew")
    return names


def read_source(source, is_nano, folder):
    """Kind of a checkpoint that is read, every tensor of it, and written to a new folder with its provenance.

    Raises:
        ValueError: for anything that is no checkpoint of EdgeTAM, whole and of the right shapes.
        OSError: if it cannot be read.
    """
    if is_nano:
        source = nano_checkpoint()
    check_source(source)
    kind = convert(source, folder)["kind"]
    return "nano" if is_nano else kind


def check_source(source):
    """Passes for a checkpoint of the original release, a folder, and what may be the id of a repository.

    Raises:
        ValueError: for anything else.
    """
    if Path(source).is_dir() or Path(source).suffix in ORIGINAL_SUFFIXES:
        return
    try:
        validate_repo_id(str(source))
    except HFValidationError as error:
        raise ValueError(
            f"SOURCE must be a .pt file, a folder or the id of a repository on the Hub, got {source!r}"
        ) from error


class Source:
    """A checkpoint in memory: its model with weights as they are to be stored, but in float32, and its processor.

    `folder` is what `read_source` wrote.
    """

    def __init__(self, folder, kind, dtype):
        self.kind, self.dtype = kind, dtype
        self.provenance = json.loads((Path(folder) / f"{PROVENANCE}.json").read_text())
        self.has_memory = kind != "image"
        model_class = EdgeTamVideoModel if self.has_memory else EdgeTamModel
        processor_class = EdgeTamVideoProcessor if self.has_memory else EdgeTamProcessor
        self.model = load_quietly(model_class, folder, dtype=torch.float32).to(getattr(torch, dtype)).float().eval()
        self.processor = load_quietly(processor_class, folder)

    def outputs(self):
        """Outputs on the sample picture, as the clean process computes them from the folder."""
        with Image.open(SAMPLE_PICTURE) as image:
            outputs = image_outputs(self.image_model(), self.processor, image)
            return {**outputs, **video_outputs(self.model, self.processor, image)} if self.has_memory else outputs

    def image_model(self):
        """The model, or the image part of a video model."""
        if not self.has_memory:
            return self.model
        model = EdgeTamModel(EdgeTamModel.config_class.image_part(self.model.config)).eval()
        wanted = model.state_dict().keys()
        model.load_state_dict({name: tensor for name, tensor in self.model.state_dict().items() if name in wanted})
        return model


def assemble(source, folder, repo_id, tag):
    """Fills an empty folder with all that a repository holds; the results in its card are left empty."""
    folder = Path(folder)
    (folder / "examples").mkdir()
    stored = copy.deepcopy(source.model).to(getattr(torch, source.dtype))
    transformers.utils.logging.disable_progress_bar()
    stored.save_pretrained(folder, max_shard_size=SHARD_SIZE)
    transformers.utils.logging.enable_progress_bar()
    # half precision is for the size of the files: the model is to run in single precision unless told otherwise
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    source.processor.save_pretrained(folder)
    (folder / f"{PROVENANCE}.json").write_text(json.dumps(source.provenance, indent=2) + "\n")
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    shutil.copyfile(Path(__file__).with_name("requirements.txt"), folder / "requirements.txt")
    shutil.copyfile(SAMPLE_PICTURE, folder / "examples" / "cat.jpg")
    save_whole(draw_example(source), folder / "examples" / "cat_masks.png")
    benchmark = measure_speed(source)
    (folder / "benchmark.json").write_text(json.dumps(benchmark, indent=2) + "\n")
    facts = {**benchmark, **describe(source), **choose_thresholds(source), "repo_id": repo_id, "tag": tag}
    (folder / "README.md").write_text(make_card(source.kind, facts))
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def describe(source):
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


def choose_thresholds(source):
    """The strictest thresholds of mask generation at which it finds something in the sample picture."""
    generator = EdgeTamMaskGenerationPipeline(
        model=source.image_model(), image_processor=source.processor.image_processor
    )
    with Image.open(SAMPLE_PICTURE) as image:
        for iou, stability in THRESHOLDS:
            thresholds = {"pred_iou_thresh": iou, "stability_score_thresh": stability}
            if generator(image, points_per_crop=8, points_per_batch=64, **thresholds)["masks"]:
                break
    return {"iou": iou, "stability": stability}


def draw_example(source):
    """The sample picture with both boxes and their masks."""
    with Image.open(SAMPLE_PICTURE) as image:
        inputs = source.processor(images=image, input_boxes=[BOXES], return_tensors="pt")
        with torch.no_grad():
            outputs = source.image_model()(**inputs, multimask_output=False)
        masks = source.processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0][:, 0].numpy()
        picture = np.array(image.convert("RGB"))
    return overlay(picture, masks, boxes=[tuple(box) for box in BOXES])


def measure_speed(source):
    """Milliseconds of each part, with the device and the versions that gave them."""
    model = source.image_model()
    with Image.open(SAMPLE_PICTURE) as image, torch.no_grad():
        inputs = source.processor(images=image, input_boxes=[BOXES[:1]], return_tensors="pt")
        embeddings = model.get_image_embeddings(inputs["pixel_values"])
        boxes = inputs["input_boxes"]
        parts = {
            "image_encoder_ms": _median_ms(lambda: model.get_image_embeddings(inputs["pixel_values"])),
            "mask_decoder_ms": _median_ms(lambda: model(image_embeddings=embeddings, input_boxes=boxes)),
        }
        if source.has_memory:
            parts["video_frame_ms"] = _measure_tracking(source, image)
    side = model.config.image_size
    return {
        "image_size": f"{side}x{side}" if isinstance(side, int) else f"{side[0]}x{side[1]}",
        "dtype": "float32",
        "device": _name_of_processor(),
        "threads": torch.get_num_threads(),
        "rounds": NUM_ROUNDS,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        **parts,
    }


def _measure_tracking(source, image):
    """Milliseconds of a frame when the memory of earlier frames is full."""
    frame = source.processor(images=image, return_tensors="pt")
    session = source.processor.init_video_session()
    size = frame["original_sizes"][0]
    source.processor.add_inputs_to_inference_session(session, 0, 1, input_boxes=[BOXES[:1]], original_size=size)
    for _ in range(source.model.config.num_maskmem):
        source.model(session, frame=frame["pixel_values"][0])
    return _median_ms(lambda: source.model(session, frame=frame["pixel_values"][0]))


def _median_ms(function):
    """Median time of a call in milliseconds, after one that warms up."""
    times = []
    for _ in range(NUM_ROUNDS + 1):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1000)
    return round(statistics.median(times[1:]), 1)


def _name_of_processor():
    """Name of the CPU; what `platform` knows where the system does not tell."""
    with_name = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*: (.+)$", with_name.read_text(), re.MULTILINE) if with_name.exists() else None
    return match[1] if match else platform.processor() or platform.machine()
