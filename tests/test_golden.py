"""Ours = the original release, within the tolerances recorded with its outputs; see golden/README.md."""

import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from edgetam_hf.configuration_edgetam import EdgeTamConfig
from edgetam_hf.image_processing_edgetam import EdgeTamImageProcessor
from edgetam_hf.modeling_edgetam import EdgeTamModel
from edgetam_hf.processing_edgetam import EdgeTamProcessor
from safetensors.torch import load_file

GOLDEN = Path(__file__).with_name("golden")
sys.path.insert(0, str(GOLDEN))

import reference_inputs  # noqa: E402
from reference_weights import load_reference_weights  # noqa: E402

CASES = {case["id"]: case for case in json.loads((GOLDEN / "cases.json").read_text())["cases"]}


def cases_of_kind(kind):
    return [name for name, case in CASES.items() if case["kind"] == kind]


@cache
def reference():
    return load_file(GOLDEN / "reference.safetensors")


@cache
def make_model(size):
    return load_reference_weights(EdgeTamModel(EdgeTamConfig(image_size=size)))


@cache
def make_processor(size):
    """A processor with the original's order of steps: pixels become floats before they are resized."""
    return EdgeTamProcessor(EdgeTamImageProcessor(size={"height": size, "width": size}, resize_in_float=True))


@cache
@torch.no_grad()
def image_embeddings(picture, size):
    pixel_values = reference_inputs.image_pixel_values(reference_inputs.image(picture), size)
    return make_model(size).get_image_embeddings(pixel_values)


def expected_tensors(case):
    prefix = case.get("same_as", case["id"]) + "/"
    return {name.removeprefix(prefix): value for name, value in reference().items() if name.startswith(prefix)}


def assert_within(case, kind, actual, expected):
    torch.testing.assert_close(
        actual.float(), expected.float(), atol=case["tolerance"][kind], rtol=0.0, msg=lambda m: f"{kind}: {m}"
    )


def assert_same_masks(case, actual, expected):
    """Every pair of binary masks (…, height, width) has at least the recorded IoU; two empty masks agree."""
    intersection, union = ((actual & expected).sum((-2, -1)), (actual | expected).sum((-2, -1)))
    iou = torch.where(union > 0, intersection / union.clamp(min=1), 1.0)
    assert iou.min() >= case["tolerance"]["miou"]


def model_inputs(case):
    """Keyword arguments of the model for the prompt of a case, in the way that the case asks for."""
    prompt, size = case["prompt"], case["image_size"]
    picture = reference_inputs.image(case["input"])
    prompts = {}
    if "points" in prompt:
        prompts = {"input_points": [prompt["points"]], "input_labels": [prompt["labels"]]}
    if "boxes" in prompt:
        prompts["input_boxes"] = [prompt["boxes"]]
    processor = make_processor(size)
    if case.get("end_to_end"):
        return dict(processor(images=picture, return_tensors="pt", **prompts))
    inputs = processor(original_sizes=[picture.shape[:2]], return_tensors="pt", **prompts) if prompts else {}
    inputs = dict(inputs, image_embeddings=image_embeddings(case["input"], size))
    if "mask_from" in prompt:
        source = expected_tensors(CASES[prompt["mask_from"]])
        best_mask = source["logits"][0, source["iou"][0].argmax()]
        inputs["input_masks"] = best_mask.clamp(-32, 32)[None, None]
    return inputs


def test_reference_inputs_are_those_of_the_reference():
    reference_inputs.verify()


@pytest.mark.parametrize("name", cases_of_kind("image_preprocessing"))
def test_processor_equals_original(name):
    case = CASES[name]
    inputs = make_processor(case["image_size"])(reference_inputs.image(case["input"]), return_tensors="pt")
    assert_within(case, "pixels", inputs["pixel_values"][0, :, ::16, ::16], expected_tensors(case)["pixel_sample"])


@pytest.mark.parametrize("name", cases_of_kind("image_encoder"))
def test_image_embeddings_equal_original(name):
    case = CASES[name]
    expected = expected_tensors(case)
    for level, (channel_step, step) in enumerate(((4, 16), (4, 8), (8, 4))):
        feature_map = image_embeddings(case["input"], case["image_size"])[level]
        assert_within(case, "features", feature_map[:, ::channel_step, ::step, ::step], expected[f"map{level}"])
        statistics = case["statistics"][level]
        actual = torch.stack((feature_map.double().mean(), feature_map.double().std()))
        assert_within(case, "statistics", actual, torch.tensor([statistics["mean"], statistics["std"]]))


@pytest.mark.parametrize("name", cases_of_kind("image"))
@torch.no_grad()
def test_masks_equal_original(name):
    case = CASES[name]
    expected, step = expected_tensors(case), case["logits_stride"]
    output = make_model(case["image_size"])(**model_inputs(case), multimask_output=case["prompt"]["multimask"])
    logits = output.pred_masks[0, ..., ::step, ::step]
    conventions = ("", "_padded") if case["prompt"].get("both_conventions") else ("",)
    nearest = min(conventions, key=lambda suffix: (logits - expected["logits" + suffix]).abs().max())

    assert_within(case, "logits", logits, expected["logits" + nearest])
    assert_within(case, "iou", output.iou_scores[0], expected["iou" + nearest])
    assert_within(case, "object_score", output.object_score_logits[0], expected["object_score" + nearest])
    assert_same_masks(case, logits > 0, expected["logits" + nearest] > 0)
    if nearest == "":
        assert_same_masks(case, *best_masks_at_picture_size(case, output, expected))


def best_masks_at_picture_size(case, output, expected):
    """Our binary mask (objects, height, width) of the reference's highest IoU, and the reference's."""
    height, width = reference_inputs.image(case["input"]).shape[:2]
    masks = make_processor(case["image_size"]).post_process_masks([output.pred_masks[0]], [[height, width]])[0]
    best_idx = expected["iou"].argmax(1)
    bits = np.unpackbits(expected["mask_bits"].numpy(), axis=-1)[:, : height * width]
    original = torch.from_numpy(bits).bool().unflatten(-1, (height, width))
    return masks[torch.arange(len(masks)), best_idx], original
