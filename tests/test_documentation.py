"""The examples of EdgeTAM's documentation page, with our classes, a saved model and pictures as arrays."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import random
from transformers import pipeline

from edgetam_hf import EdgeTamMaskGenerationPipeline, EdgeTamModel, EdgeTamProcessor

# The page's pictures at an eighth of their size; its coordinates shrink with them
TRUCK, DOG, GROCERIES = ((height // 8, width // 8) for height, width in ((1200, 1800), (700, 1000), (500, 700)))


def make_picture(size, seed):
    """A uint8 picture (height, width, 3) of coloured blocks."""
    height, width = size
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 10 + 1, width // 10 + 1, 3), dtype=np.uint8)
    return blocks.repeat(10, axis=0).repeat(10, axis=1)[:height, :width]


def shrink(prompts):
    """Nested lists of coordinates at the size of the small pictures."""
    return [shrink(item) for item in prompts] if isinstance(prompts, list) else prompts / 8


@pytest.fixture(scope="module")
def raw_image():
    return make_picture(TRUCK, seed=0)


@pytest.fixture(scope="module")
def loaded(folder):
    return EdgeTamModel.from_pretrained(folder, device_map="auto"), EdgeTamProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def segment(loaded):
    """The page's steps: inputs, outputs and masks of each picture."""
    model, processor = loaded

    def segment(images, multimask_output=True, input_labels=None, **coordinates):
        prompts = {name: shrink(value) for name, value in coordinates.items()}
        if input_labels is not None:
            prompts["input_labels"] = input_labels
        inputs = processor(images=images, return_tensors="pt", **prompts).to(model.device)
        with torch.no_grad():
            outputs = model(**inputs, multimask_output=multimask_output)
        return inputs, outputs, processor.post_process_masks(outputs.pred_masks.cpu(), inputs["original_sizes"])

    return segment


def assert_scores(scores, shape):
    assert scores.squeeze().shape == shape
    assert (scores >= 0).all() and (scores <= 1).all()


def test_automatic_mask_generation(folder, raw_image):
    generator = pipeline(
        "mask-generation",
        model=EdgeTamModel.from_pretrained(folder),
        image_processor=EdgeTamProcessor.from_pretrained(folder).image_processor,
        pipeline_class=EdgeTamMaskGenerationPipeline,
        device="cpu",
    )
    outputs = generator(
        Image.fromarray(raw_image), points_per_batch=64, points_per_crop=8, pred_iou_thresh=0, stability_score_thresh=0
    )
    assert len(outputs["masks"]) == len(outputs["scores"]) > 0
    assert all(mask.shape == TRUCK and mask.dtype == torch.bool for mask in map(torch.as_tensor, outputs["masks"]))


def test_single_click(segment, raw_image):
    _, outputs, masks = segment(raw_image, input_points=[[[[500, 375]]]], input_labels=[[[1]]])
    assert masks[0].shape == (1, 3, *TRUCK) and masks[0].dtype == torch.bool
    assert_scores(outputs.iou_scores, (3,))


def test_multiple_clicks_refine_the_mask(segment, raw_image):
    clicks = {"input_points": [[[[500, 375], [1125, 625]]]], "input_labels": [[[1, 1]]]}
    _, outputs, masks = segment(raw_image, **clicks)
    _, before, _ = segment(raw_image, input_points=[[[[500, 375]]]], input_labels=[[[1]]])
    assert masks[0].shape == (1, 3, *TRUCK)
    assert_scores(outputs.iou_scores, (3,))
    assert not torch.allclose(outputs.pred_masks, before.pred_masks, atol=1e-3)


def test_bounding_box(segment, raw_image):
    _, outputs, masks = segment(raw_image, input_boxes=[[[75, 275, 1725, 850]]])
    assert masks[0].shape == (1, 3, *TRUCK)
    assert_scores(outputs.iou_scores, (3,))


def test_multiple_objects(segment, raw_image):
    clicks = {"input_points": [[[[500, 375]], [[650, 750]]]], "input_labels": [[[1], [1]]]}
    _, outputs, masks = segment(raw_image, multimask_output=False, **clicks)
    assert masks[0].shape == (2, 1, *TRUCK)
    assert_scores(outputs.iou_scores, (2,))


def test_batched_images(segment, raw_image):
    images = [raw_image, make_picture(DOG, seed=1)]
    clicks = {"input_points": [[[[500, 375]]], [[[770, 200]]]], "input_labels": [[[1]], [[1]]]}
    _, outputs, all_masks = segment(images, multimask_output=False, **clicks)
    assert [masks.shape for masks in all_masks] == [(1, 1, *TRUCK), (1, 1, *DOG)]
    assert_scores(outputs.iou_scores, (2,))
    _, alone, _ = segment(raw_image, multimask_output=False, input_points=[[[[500, 375]]]], input_labels=[[[1]]])
    torch.testing.assert_close(outputs.pred_masks[:1], alone.pred_masks, atol=1e-4, rtol=0)


def test_batched_objects_per_image(segment, raw_image):
    images = [raw_image, make_picture(DOG, seed=1)]
    points = [[[[500, 375]], [[650, 750]]], [[[770, 200]]]]
    _, outputs, all_masks = segment(
        images, multimask_output=False, input_points=points, input_labels=[[[1], [1]], [[1]]]
    )
    assert outputs.iou_scores.shape == (2, 2, 1)
    assert [masks.shape[-2:] for masks in all_masks] == [TRUCK, DOG]
    dog = {"input_points": [[[[770, 200]]]], "input_labels": [[[1]]]}
    _, alone, _ = segment(images[1], multimask_output=False, **dog)
    torch.testing.assert_close(outputs.pred_masks[1:, :1], alone.pred_masks, atol=1e-4, rtol=0)


def test_batched_images_with_objects_and_multiple_points(segment, raw_image):
    images = [raw_image, make_picture(GROCERIES, seed=2)]
    points = [[[[500, 375]], [[650, 750]]], [[[400, 300]], [[630, 300], [550, 300]]]]
    labels = [[[1], [1]], [[1], [1, 1]]]
    _, outputs, all_masks = segment(images, multimask_output=False, input_points=points, input_labels=labels)
    assert [masks.shape for masks in all_masks] == [(2, 1, *TRUCK), (2, 1, *GROCERIES)]
    # an object has the mask that it has alone, however many clicks its neighbours have
    _, alone, _ = segment(images[1], multimask_output=False, input_points=[[[[400, 300]]]], input_labels=[[[1]]])
    torch.testing.assert_close(outputs.pred_masks[1:, :1], alone.pred_masks, atol=1e-4, rtol=0)


def test_batched_bounding_boxes(segment, raw_image):
    images = [raw_image, make_picture(GROCERIES, seed=2)]
    boxes = [
        [[75, 275, 1725, 850], [425, 600, 700, 875], [1375, 550, 1650, 800], [1240, 675, 1400, 750]],
        [[450, 170, 520, 350], [350, 190, 450, 350], [500, 170, 580, 350], [580, 170, 640, 350]],
    ]
    _, outputs, all_masks = segment(images, multimask_output=False, input_boxes=boxes)
    assert [masks.shape for masks in all_masks] == [(4, 1, *TRUCK), (4, 1, *GROCERIES)]
    assert_scores(outputs.iou_scores, (2, 4))


def test_previous_mask_refines_the_next(loaded, segment, raw_image):
    model, processor = loaded
    inputs, outputs, _ = segment(raw_image, input_points=[[[[500, 375]]]], input_labels=[[[1]]])
    mask_input = outputs.pred_masks[:, :, torch.argmax(outputs.iou_scores.squeeze())]
    inputs = processor(
        input_points=shrink([[[[500, 375], [450, 300]]]]),
        input_labels=[[[1, 1]]],
        original_sizes=inputs["original_sizes"],
        return_tensors="pt",
    ).to(model.device)
    settings = {"image_embeddings": outputs.image_embeddings, "multimask_output": False}
    with torch.no_grad():
        refined_outputs = model(**inputs, input_masks=mask_input, **settings)
        without_mask = model(**inputs, **settings)
    assert refined_outputs.pred_masks.shape == (1, 1, 1, 32, 32)
    assert not torch.allclose(refined_outputs.pred_masks, without_mask.pred_masks, atol=1e-3)


@torch.no_grad()
def test_vision_model_and_image_features(loaded):
    model, _ = loaded
    pixel_values = random((1, 3, 128, 128))
    features = model.get_image_features(pixel_values)
    assert [tuple(fm.shape) for fm in features.fpn_hidden_states] == [(1024, 1, 8), (256, 1, 16), (64, 1, 64)]
    maps = model.vision_encoder(pixel_values).fpn_hidden_states
    assert [tuple(fm.shape) for fm in maps] == [(1, 64, 32, 32), (1, 64, 16, 16), (1, 64, 8, 8)]
