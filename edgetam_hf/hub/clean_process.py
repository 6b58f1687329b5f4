"""A script for a process of its own: what a user without this package gets from a folder.

python clean_process.py FOLDER REQUEST.json

The request names what to do ("auto", "card", "native" or "endpoint"), the kind of checkpoint, and where results go.
The functions that compute outputs are also called by the parent, so that both sides compute the same.
"""

import base64
import contextlib
import importlib.util
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

# the eyes of the cat of the sample picture, (x_min, y_min, x_max, y_max) in its pixels
BOXES = [[136, 86, 209, 148], [296, 105, 352, 165]]
IMAGE_CLASSES = ("AutoConfig", "AutoModel", "AutoModelForMaskGeneration", "AutoProcessor", "AutoImageProcessor")
VIDEO_CLASSES = (*IMAGE_CLASSES, "AutoVideoProcessor")


class Blocker:
    """An import hook that refuses what this project installs, wherever it lies."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        first = name.split(".")[0]
        if first == "edgetam_hf" or "_edgetam" in first:
            raise ImportError(f"{first} is blocked: the folder must hold all that it needs")


def image_outputs(model: Any, processor: Any, image: Image.Image) -> dict[str, torch.Tensor]:
    """Low-res masks (1, 2, 3, h, w), scores (1, 2, 3) and object scores (1, 2, 1) of both boxes on a PIL picture."""
    inputs = processor(images=image, input_boxes=[BOXES], return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    return {name: outputs[name].contiguous() for name in ("pred_masks", "iou_scores", "object_score_logits")}


def video_outputs(model: Any, processor: Any, image: Image.Image) -> dict[str, torch.Tensor]:
    """Low-res masks (objects, 1, h, w) of three frames, cut from a picture, on which both boxes are tracked."""
    session = processor.init_video_session(video=[image.crop((x, 0, x + 400, image.height)) for x in (0, 10, 20)])
    processor.add_inputs_to_inference_session(session, frame_idx=0, obj_ids=[1, 2], input_boxes=[BOXES])
    return {f"frame_{o.frame_idx}": o.pred_masks.contiguous() for o in model.propagate_in_video_iterator(session)}


def load_auto_classes(folder: str, names: Sequence[str], **settings: Any) -> dict[str, Any]:
    """What every Auto class makes of the folder, by the name of the Auto class."""
    import transformers

    return {name: getattr(transformers, name).from_pretrained(folder, **settings) for name in names}


def run_auto(folder: str, request: dict[str, Any]) -> dict[str, str]:
    """Classes by Auto class and for the pipeline, as "module.Class"; writes outputs to compare with the source's."""
    from safetensors.torch import save_file
    from transformers import pipeline

    has_memory = request["kind"] != "image"
    float32 = {"dtype": torch.float32}
    objects = load_auto_classes(folder, VIDEO_CLASSES if has_memory else IMAGE_CLASSES, trust_remote_code=True)
    generator = pipeline("mask-generation", model=folder, trust_remote_code=True, **float32)
    objects.update(pipeline=generator, model_of_the_pipeline=generator.model)
    image = Image.open(Path(folder) / "examples" / "cat.jpg")
    processor = objects["AutoProcessor"]
    outputs = image_outputs(objects["AutoModelForMaskGeneration"].float().eval(), processor, image)
    if has_memory:
        outputs.update(video_outputs(objects["AutoModel"].float().eval(), processor, image))
    save_file(outputs, request["outputs"])
    return {name: f"{type(value).__module__}.{type(value).__name__}" for name, value in objects.items()}


def run_card(folder: str, request: dict[str, Any]) -> list[str]:
    """What each code block of the card prints; names are shared from block to block, as a reader would run them."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed: list[str] = []
    for code in request["blocks"]:
        stdout = io.StringIO()
        with contextlib.redirect_stdout(stdout):
            exec(compile(code, f"code block {len(printed) + 1} of the card", "exec"), namespace)
        printed.append(stdout.getvalue())
    return printed


def run_native(folder: str, request: dict[str, Any]) -> dict[str, str]:
    """Modules of the classes that the Auto classes give when remote code is not allowed."""
    names = IMAGE_CLASSES if request["kind"] == "image" else VIDEO_CLASSES
    objects = load_auto_classes(folder, names)
    return {name: f"{type(value).__module__}.{type(value).__name__}" for name, value in objects.items()}


def run_endpoint(folder: str, request: dict[str, Any]) -> dict[str, Any]:
    """Answers of the handler of the folder, which is loaded as an endpoint loads it: for both boxes, and everything."""
    specification = importlib.util.spec_from_file_location("handler", Path(folder) / "handler.py")
    handler = importlib.util.module_from_spec(specification)  # type: ignore[arg-type]
    specification.loader.exec_module(handler)  # type: ignore[union-attr]
    endpoint = handler.EndpointHandler(folder)
    picture = base64.b64encode((Path(folder) / "examples" / "cat.jpg").read_bytes()).decode()
    parameters = {"boxes": {"input_boxes": [BOXES]}, "everything": {"points_per_crop": 4}}
    return {name: endpoint({"inputs": picture, "parameters": given}) for name, given in parameters.items()}


def main(folder: str, request_file: str) -> None:
    """Does what the request says and writes the answer."""
    sys.meta_path.insert(0, Blocker())
    request = json.loads(Path(request_file).read_text())
    actions = {"auto": run_auto, "card": run_card, "native": run_native, "endpoint": run_endpoint}
    answer = {action: actions[action](folder, request) for action in request["actions"]}
    Path(request["answer"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
