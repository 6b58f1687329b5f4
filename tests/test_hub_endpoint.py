"""Inference endpoints: the handler of an assembled folder, against the model by hand and its documented contract.

The server of endpoints, huggingface-inference-toolkit, is not on PyPI. What it does with a handler is done here as its
sources have it: `EndpointHandler(path)` once, `handler({"inputs": …, "parameters": …})` for each request, where
pictures that are no JSON come as PIL pictures, and errors become {"error": …} with status 400.
"""

import base64
import importlib.util
import io
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import hub_upload
from edgetam_hf import EdgeTamMaskGenerationPipeline, EdgeTamModel, EdgeTamProcessor, nano_checkpoint
from edgetam_hf.commands.picture_files import SAMPLES
from edgetam_hf.hub import endpoint, endpoint_check, folder
from edgetam_hf.hub.check import CheckError
from edgetam_hf.hub.endpoint import HANDLER
from edgetam_hf.loading import load_quietly

coco_mask = pytest.importorskip("pycocotools.mask", reason="endpoints need pycocotools: pip install pycocotools")

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation"),  # of pycocotools with NumPy 2
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
PICTURE = SAMPLES / "coins.jpg"
BOX, CLICKS = [183, 165, 238, 222], [[211, 192], [200, 200]]
FEW = {"points_per_crop": 5, "pred_iou_thresh": 0.6, "stability_score_thresh": 0.6}
MEASURED = (
    *("image_size", "device", "threads", "rounds", "torch", "transformers", "python"),
    *("image_encoder_ms", "mask_decoder_ms", "video_frame_ms"),
)


def make_repository(output, *arguments):
    """Exit code of the command, which leaves out what concerns the rest of a repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "measure_speed", lambda source: dict.fromkeys(MEASURED, 1))
        patch.setattr(folder, "choose_thresholds", lambda source: {"iou": 0.5, "stability": 0.5})
        patch.setattr(folder, "draw_example", lambda source: Image.new("RGB", (8, 8)))
        patch.setattr(hub_upload, "fill_card", lambda *_: None)
        patch.setattr(hub_upload, "check_folder", lambda *_: [])
        return hub_upload.main(["--nano", "--output", str(output), *arguments])


@pytest.fixture(scope="module")
def printed():
    return io.StringIO()


@pytest.fixture(scope="module")
def repository(tmp_path_factory, printed):
    """The folder of an endpoint, which the command has assembled and asked in a clean process."""
    output = tmp_path_factory.mktemp("endpoint") / "repository"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", printed)
        assert make_repository(output, "--endpoint") == 0
    return output


@pytest.fixture(scope="module")
def handler(repository):
    """The handler, loaded as the server loads it."""
    specification = importlib.util.spec_from_file_location("endpoint_of_test", repository / HANDLER)
    module = importlib.util.module_from_spec(specification)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)  # which would lie in the repository
        specification.loader.exec_module(module)
    return module.EndpointHandler(str(repository))


@pytest.fixture(scope="module")
def model():
    return load_quietly(EdgeTamModel, nano_checkpoint()), load_quietly(EdgeTamProcessor, nano_checkpoint())


@pytest.fixture(scope="module")
def boxed(handler):
    """The answer to a box."""
    return ask(handler, {"input_boxes": [[BOX]]})


def text(content=None):
    return base64.b64encode(PICTURE.read_bytes() if content is None else content).decode()


def ask(handler, parameters=None, picture=None):
    """The objects of an answer, which JSON can hold."""
    request = {"inputs": text() if picture is None else picture, "parameters": parameters}
    return json.loads(json.dumps(handler(request)))["objects"]


def find_by_hand(model, is_multimask=False, **prompts):
    """(masks (O, H, W), scores) of prompts, the best mask of each object."""
    network, processor = model
    with Image.open(PICTURE) as image:
        inputs = processor(images=image, **prompts, return_tensors="pt")
    with torch.no_grad():
        outputs = network(**inputs, multimask_output=is_multimask)
    masks = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0]
    best = outputs.iou_scores[0].argmax(-1)
    rows = torch.arange(len(best))
    return masks[rows, best].numpy(), outputs.iou_scores[0][rows, best].tolist()


def check_objects(objects, masks, scores):
    """Whether objects are these masks with these scores, in all that is said of them."""
    assert len(objects) == len(masks) > 0
    for found, mask, score in zip(objects, masks, scores, strict=True):
        assert np.array_equal(coco_mask.decode(found["segmentation"]).astype(bool), mask) and mask.any()
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        assert found["bbox"] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
        assert found["area"] == mask.sum() and found["score"] == pytest.approx(score, abs=1e-5)


def test_command_adds_the_handler_and_asks_it_in_a_clean_process(repository, printed):
    lines = printed.getvalue().splitlines()
    assert any(line.startswith("  handler.py answers as the source does, and finds ") for line in lines)
    assert HANDLER in folder.check_listed(repository, "nano")
    requirements = (repository / "requirements.txt").read_text().splitlines()
    assert requirements[0] == "pycocotools" and "# pycocotools" not in requirements and "torch>=2.4" in requirements
    card = (repository / "README.md").read_text()
    assert "### An inference endpoint" in card and 'curl "$ENDPOINT_URL"' in card
    assert (repository / HANDLER).stat().st_mode & 0o777 == 0o644


def test_repository_without_the_option_has_no_handler(tmp_path, capsys):
    assert make_repository(tmp_path / "out") == 0
    assert not (tmp_path / "out" / HANDLER).exists() and "endpoint" not in (tmp_path / "out" / "README.md").read_text()
    assert make_repository(tmp_path / "out", "--endpoint", "--push", "--repo-id", "a/b") == 1
    assert "has no handler of an endpoint: assemble it anew with --endpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    "prompts, is_multimask",
    [
        ({"input_boxes": [[BOX, [20, 30, 90, 95]]]}, False),
        ({"input_points": [[CLICKS]], "input_labels": [[[1, 1]]]}, False),
        ({"input_points": [[CLICKS[:1], [[60, 60]]]]}, True),
        ({"input_boxes": [[BOX]], "input_points": [[CLICKS]], "input_labels": [[[1, 0]]]}, False),
    ],
)
def test_handler_answers_prompts_as_the_model_does(handler, model, prompts, is_multimask):
    check_objects(ask(handler, prompts), *find_by_hand(model, is_multimask, **prompts))


def test_handler_finds_everything_as_the_pipeline_does(handler, model):
    network, processor = model
    generator = EdgeTamMaskGenerationPipeline(model=network, image_processor=processor.image_processor)
    found = generator(str(PICTURE), **FEW)
    check_objects(ask(handler, FEW), [mask.numpy() for mask in found["masks"]], found["scores"].tolist())


def test_handler_says_the_size_of_the_picture(handler):
    with Image.open(PICTURE) as image:
        width, height = image.size
    assert handler({"inputs": text(), "parameters": {"points_per_crop": 1}})["size"] == [height, width]


@pytest.mark.parametrize("kind", ["uri", "bytes", "wrapped", "pil", "turned", "turned pil"])
def test_handler_takes_pictures_in_all_forms(handler, boxed, kind):
    with Image.open(PICTURE) as image:
        buffer, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = 6  # the camera was turned
        image.rotate(90, expand=True).save(buffer, "PNG", exif=exif)
        whole = io.BytesIO()
        image.save(whole, "PNG")
    pictures = {
        "uri": "data:image/jpeg;base64," + text(),
        "bytes": PICTURE.read_bytes(),
        "wrapped": "\n".join(text()[start : start + 76] for start in range(0, len(text()), 76)),
        "pil": Image.open(whole),
        "turned": text(buffer.getvalue()),
        "turned pil": Image.open(buffer),
    }
    assert ask(handler, {"input_boxes": [[BOX]]}, pictures[kind]) == boxed


def picture_of(kind, **settings):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, kind, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "picture, message",
    [
        ("http://127.0.0.1/x.jpg", "an endpoint fetches no addresses"),
        ("/etc/passwd", "must be a picture as base64 text"),
        (str(PICTURE), "must be a picture"),
        ("####", "must be a picture as base64 text or a data: URI"),
        ("data:image/png,abc", "a data: URI that is not in base64"),
        ("data:image/png;base64", "a data: URI that is not in base64"),
        (text(b"no picture"), "must be a picture of at most"),
        ("", "must be a picture of at most"),
        (picture_of("EPS"), "must be a picture of at most"),
        (picture_of("PNG")[:60], "truncated or damaged"),
        (PICTURE.read_bytes()[:3000], "truncated or damaged"),
        ([text()], "must be a picture as base64 text or a data: URI, got list"),
        (5, "got int"),
    ],
)
def test_handler_rejects_what_is_no_picture(handler, picture, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ask(handler, {"input_boxes": [[BOX]]}, picture)


@pytest.mark.parametrize("is_decoded", [False, True])
def test_handler_rejects_a_picture_that_is_too_large_before_it_is_decoded(handler, is_decoded):
    bomb = Image.new("1", (20_000, 6_000))
    buffer = io.BytesIO()
    bomb.save(buffer, "PNG")
    assert len(buffer.getvalue()) < 100_000
    with pytest.raises(ValueError, match="20000x6000 pixels, more than 100000000: make it smaller"):
        ask(handler, {"input_boxes": [[BOX]]}, bomb if is_decoded else buffer.getvalue())


def test_handler_rejects_what_pillow_takes_for_a_bomb(handler, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="must be a picture of at most"):
        ask(handler, {"input_boxes": [[BOX]]})


@pytest.mark.parametrize(
    "parameters, message",
    [
        ([1], "parameters must be an object"),
        ({"points": [[1, 2]]}, "there is no parameter points: give some of input_points"),
        ({"output_rle_mask": True}, "there is no parameter output_rle_mask"),
        ({"input_boxes": [[BOX]], "points_per_crop": 4}, "points_per_crop is for everything in a picture"),
        ({"points_per_crop": 0}, "points_per_crop"),
        ({"pred_iou_thresh": "high"}, "pred_iou_thresh"),
        ({"input_boxes": [BOX]}, "input_boxes"),
        ({"input_boxes": [[[9, 9, 5, 5]]]}, "turned inside out"),
        ({"input_boxes": [[[900, 9, 950, 20]]]}, "lies outside of the picture, which is 384 wide"),
        ({"input_points": [[[[5, -2]]]]}, r"point \[5, -2\] lies outside of the picture"),
        ({"input_points": [[[[5, 2]]]], "input_labels": [[[7]]]}, "input_labels may hold"),
        ({"input_points": [[]]}, "input_points is empty"),
        ({"input_labels": [[[1]]]}, "input_labels were given without input_points"),
        ({"input_boxes": [[BOX], [BOX]]}, "one entry per picture"),
        ({"input_boxes": "all"}, "input_boxes"),
    ],
)
def test_handler_rejects_wrong_parameters(handler, parameters, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ask(handler, parameters)


@pytest.mark.parametrize("request_", [{}, {"picture": "x"}, [], None])
def test_handler_rejects_requests_without_a_picture(handler, request_):
    with pytest.raises(ValueError, match="a request must be"):
        handler(request_)


def test_check_rejects_a_handler_that_is_changed_or_answers_something_else(repository, monkeypatch, tmp_path):
    for path in (path for path in repository.rglob("*") if path.is_file()):
        (tmp_path / path.relative_to(repository)).parent.mkdir(exist_ok=True)
        (tmp_path / path.relative_to(repository)).write_bytes(path.read_bytes())
    (tmp_path / HANDLER).write_text("import edgetam_hf\n")
    with pytest.raises(ValueError, match=r"holds a handler\.py that is not the one of this checkout"):
        folder.check_listed(tmp_path, "nano")
    nothing = {"segmentation": coco_mask.encode(np.zeros((4, 4), np.uint8, order="F")), "score": 0.5}
    answers = {"endpoint": {"boxes": {"objects": [nothing]}, "everything": {"objects": []}}}
    monkeypatch.setattr(endpoint_check, "run_clean", lambda *_: (answers, {}))
    monkeypatch.setattr(endpoint_check, "boxed_masks", lambda _: [(np.ones((4, 4), bool), 0.5)])
    with pytest.raises(CheckError, match=r"another mask than the source: IoU 0\.0000"):
        endpoint_check.check_endpoint(tmp_path, None)


def test_command_rejects_an_endpoint_that_is_a_space_or_has_no_library(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(hub_upload, "find_ort", lambda _: None)
    assert hub_upload.main(["--nano", "--space", "--endpoint"]) == 1
    assert "a static Space computes in the browser" in capsys.readouterr().err
    monkeypatch.setattr(endpoint, "REQUIREMENT", "no_such_library")
    assert hub_upload.main(["--nano", "--endpoint", "--output", str(tmp_path / "out")]) == 1
    assert "--endpoint needs no_such_library: pip install no_such_library" in capsys.readouterr().err
