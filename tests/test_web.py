"""edgetam.js finds in Node and in Chromium what Python finds, and exported folders serve Transformers.js."""

import base64
import json

import browser
import javascript
import numpy as np
import pytest
import small_models
import torch
from edgetam_hf import EdgeTamModel, EdgeTamVideoModel, EdgeTamVideoProcessor, nano_checkpoint
from edgetam_hf.export import parity
from edgetam_hf.export.folder import write_configuration
from edgetam_hf.export.formats import write_graphs
from edgetam_hf.export.graphs import graphs_of
from filelock import FileLock
from javascript import FoundMask, assert_same_mask, assert_same_outputs, make_task, run_in_node, run_in_python
from PIL import Image

COIN, OTHER_COIN = [211, 192], [45, 55]
BOX, OTHER_BOX = [246, 93, 296, 143], [22, 32, 68, 78]
PROMPTS = [
    {"points": [[COIN]]},
    {"points": [[COIN]], "multimask": False},
    {"points": [[COIN, [255, 192]], [OTHER_COIN]], "labels": [[1, 0], [1]]},
    {"boxes": [BOX, OTHER_BOX], "multimask": False},
    {"boxes": [BOX, None], "points": [[[270, 100]], [COIN, [215, 195]]]},
]
NANO_FRAMES = parity.draw_clip(parity.FRAMES_PER_TURN)
MIDDLE = len(NANO_FRAMES) // 2


@pytest.fixture(scope="session")
def nano():
    """The embedded checkpoint and its processor."""
    model = EdgeTamVideoModel.from_pretrained(nano_checkpoint(), dtype=torch.float32).eval().requires_grad_(False)
    return model, EdgeTamVideoProcessor.from_pretrained(nano_checkpoint())


@pytest.fixture(scope="session")
def nano_folder(nano, tmp_path_factory, worker_id="master"):
    """The embedded checkpoint, exported."""
    javascript.needs_package("onnxruntime-web")
    pytest.importorskip("onnxscript", reason="writing ONNX files needs onnxscript")
    folder = tmp_path_factory.mktemp("web") / "nano"
    folder.mkdir()
    write_configuration(*nano, folder, True)
    write_graphs(graphs_of(nano[0], True), folder, ["onnx"], "float32", [])
    return folder


@pytest.fixture
def coins():
    """A picture, uint8 (1, 303, 384, 3)."""
    with Image.open(parity.SAMPLES / "coins.jpg") as picture:
        return np.array(picture.convert("RGB"))[None]


@pytest.fixture(scope="session")
def coins_in_python():
    """A function that gives what `EdgeTamModel` finds in a picture (1, height, width, 3) for prompts of `PROMPTS`."""
    model = EdgeTamModel.from_pretrained(nano_checkpoint(), dtype=torch.float32).eval().requires_grad_(False)
    processor = EdgeTamVideoProcessor.from_pretrained(nano_checkpoint())

    def find(picture, points=None, labels=None, boxes=None, multimask=True):
        """Masks, [object][mask]."""
        given = {"input_points": points, "input_labels": labels, "input_boxes": boxes}
        given = {name: [fill_none(value)] for name, value in given.items() if value is not None}
        inputs = processor(images=picture[0], return_tensors="pt", **given)
        output = model(**inputs, multimask_output=multimask)
        masks = processor.post_process_masks(output.pred_masks, inputs["original_sizes"])[0].numpy()
        found = zip(masks, output.iou_scores[0].tolist(), output.object_score_logits[0, :, 0].tolist())
        return [[FoundMask(mask, iou, score) for mask, iou in zip(masks, ious)] for masks, ious, score in found]

    return find


def fill_none(prompts):
    """Padding in place of a missing box; points are never missing here."""
    return [[-10] * 4 if prompt is None else prompt for prompt in prompts]


def assert_same_picture(actual, expected):
    """Masks [prompts][object][mask] that agree."""
    for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
        for obj, (masks, wanted) in enumerate(zip(one, other, strict=True)):
            for found, mask in zip(masks, wanted, strict=True):
                assert_same_mask(found, mask, f"prompts {number}, object {obj}")


def follow_three():
    """Three objects, one that begins in the middle, a correction, and tracking back from there."""
    x, y = parity.place_of(parity.STAYING, MIDDLE)
    outside = [x + 2 * parity.STAYING[2], y]
    return [
        ["add", 0, [1, 2], {"points": [[parity.place_of(parity.STAYING, 0)], None], "boxes": [None, box(0)]}],
        ["propagate", {"count": MIDDLE}],
        ["add", MIDDLE, 3, {"masks": [parity.disc_of(parity.COMING, MIDDLE).astype(int).ravel().tolist()]}],
        ["add", MIDDLE, 1, {"points": [[[x, y], outside]], "labels": [[1, 0]]}],
        ["propagate", {"start": MIDDLE}],
        ["propagate", {"start": MIDDLE, "reverse": True}],
    ]


def box(frame_idx):
    return parity.box_of(parity.LEAVING, frame_idx)


@pytest.fixture(scope="session")
def clip():
    """Frames of a view that swings over coins, uint8 (24, 240, 240, 3)."""
    return np.stack([np.array(frame) for frame in NANO_FRAMES])


@pytest.fixture(scope="session")
def followed(nano, clip):
    """What PyTorch finds in the steps of `follow_three`."""
    return run_in_python(*nano, clip, {"steps": follow_three()})


def test_web_has_types_that_agree():
    javascript.node(javascript.MODULES / "typescript/bin/tsc", "-p", javascript.WEB, package="typescript")


@pytest.mark.parametrize("target", [(128, 128), (96, 256)])
def test_frames_have_the_levels_of_python(target, tmp_path):
    sizes = [(90, 120), (128, 128), (303, 384), (64, 300), (1, 5)]
    generator, tasks, expected = np.random.default_rng(0), [], []
    processor = small_models.make_processor(*target)
    preparation = {"size": {"height": target[0], "width": target[1]}, "rescaleFactor": 1 / 255}
    preparation |= {"mean": processor.image_processor.image_mean, "std": processor.image_processor.image_std}
    for number, (height, width) in enumerate(sizes):
        picture = generator.integers(0, 256, (height, width, 3), np.uint8)
        expected.append(processor(images=picture, return_tensors="pt")["pixel_values"][0].numpy())
        paths = {"pixels": tmp_path / f"{number}.rgb", "target": tmp_path / f"{number}.floats"}
        paths["pixels"].write_bytes(picture.tobytes())
        paths = {name: str(path) for name, path in paths.items()}
        tasks.append({**paths, "frame": {"width": width, "height": height}, "preparation": preparation})
    (tmp_path / "job.json").write_text(json.dumps(tasks))
    javascript.node(javascript.WEB / "resize.js", tmp_path / "job.json")
    for task, values in zip(tasks, expected):
        found = np.fromfile(task["target"], np.float32).reshape(values.shape)
        np.testing.assert_allclose(found, values, atol=1e-5)  # a level is 0.017


def test_pictures_in_node_equal_python(nano_folder, coins, coins_in_python, tmp_path):
    task = make_task(nano_folder, coins, tmp_path / "coins.rgb", prompts=PROMPTS)
    [found] = run_in_node([task], tmp_path)
    assert_same_picture(found, [coins_in_python(coins, **prompts) for prompts in PROMPTS[:4]] + found[4:])
