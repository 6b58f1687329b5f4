"""What tools share in which people click: a picture that is encoded once, against the model by hand."""

import numpy as np
import pytest
import torch
from edgetam_hf.pictures_edgetam import read_picture
from simulated_gpu import on_gpu

from edgetam_hf import EdgeTamModel, EdgeTamProcessor, nano_checkpoint
from edgetam_hf.commands.picture_files import SAMPLES
from edgetam_hf.integrations.clicked_picture import ClickedPicture
from edgetam_hf.loading import load_quietly

BOX, INSIDE, BESIDE = (183.0, 165.0, 238.0, 222.0), (211.0, 192.0, 1), (150.0, 30.0, 0)


@pytest.fixture(scope="module")
def model():
    return load_quietly(EdgeTamModel, nano_checkpoint())


@pytest.fixture(scope="module")
def processor():
    return load_quietly(EdgeTamProcessor, nano_checkpoint())


@pytest.fixture(scope="module")
def pixels():
    return read_picture(SAMPLES / "coins.jpg")


@pytest.fixture(scope="module")
def picture(model, processor, pixels):
    return ClickedPicture(model, processor, pixels)


@pytest.mark.parametrize(
    "points, box, is_multimask",
    [([INSIDE], None, True), ([INSIDE, BESIDE], None, False), ([], BOX, False), ([BESIDE], BOX, False)],
)
def test_picture_finds_what_the_model_finds(picture, model, processor, pixels, points, box, is_multimask):
    prompts = {}
    if points:
        prompts = {
            "input_points": [[[point[:2] for point in points]]],
            "input_labels": [[[point[2] for point in points]]],
        }
    if box:
        prompts["input_boxes"] = [[box]]
    inputs = processor(images=pixels, **prompts, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs, multimask_output=is_multimask)
    best = outputs.iou_scores[0, 0].argmax()
    expected = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0][0, best].numpy()
    mask, score = picture.find(points, box)
    assert mask.any() and np.array_equal(mask, expected)
    assert score == pytest.approx(outputs.iou_scores[0, 0, best].item(), abs=1e-5)


def test_picture_on_a_gpu_is_the_same(picture, model, processor, pixels, gpu):
    with gpu:
        mask, score = ClickedPicture(on_gpu(model), processor, pixels).find([INSIDE])
    expected, expected_score = picture.find([INSIDE])
    assert (mask != expected).mean() < 1e-3 and score == pytest.approx(expected_score, abs=1e-3)


@pytest.mark.parametrize(
    "points, box, message",
    [
        ([], None, "a point on the object, or a box around it, got neither"),
        ([BESIDE], None, "a point on the object, or a box around it"),
        ([(385, 5, 1)], None, r"point \(385, 5\) lies outside of the picture, which is 384 wide and 303 high"),
        ([INSIDE, (5, -0.5, 0)], None, r"point \(5, -0\.5\) lies outside"),
        ([], (400, 5, 420, 9), r"box \(400, 5, 420, 9\) lies outside"),
        ([], (40, 5, 20, 9), "with x_min < x_max"),
        ([(float("nan"), 5, 1)], None, "lies outside"),
        ([], (0, 0, float("nan"), 5), "with x_min < x_max"),
    ],
)
def test_picture_rejects_prompts_that_say_nothing(picture, points, box, message):
    with pytest.raises(ValueError, match=message):
        picture.find(points, box)
