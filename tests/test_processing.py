"""Prompts: equal to native where native is right, padding and errors where it is not, and saved folders."""

import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from edgetam_hf.image_processing_edgetam import EdgeTamImageProcessor
from edgetam_hf.processing_edgetam import EdgeTamProcessor
from PIL import Image
from torchvision.transforms import InterpolationMode
from transformers import Sam2Processor

try:
    from transformers import Sam2ImageProcessor
except ImportError:
    from transformers import Sam2ImageProcessorFast as Sam2ImageProcessor


SIZE = {"height": 64, "width": 64}
PICTURES = [Image.new("RGB", (48, 32)), Image.new("RGB", (30, 50))]
PICTURE = PICTURES[0]


def make(height=64, width=64, **kwargs):
    return EdgeTamProcessor(EdgeTamImageProcessor(size={"height": height, "width": width}), **kwargs)


@pytest.fixture
def processor():
    return make()


@pytest.fixture
def native():
    return Sam2Processor(Sam2ImageProcessor(size=SIZE, mask_size={"height": 16, "width": 16}))


def assert_equal(ours, theirs):
    assert set(ours) == set(theirs)
    for name in theirs:
        assert ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]), name


# The calls of the documentation, at a smaller size.

DOCUMENTED = {
    "click": (PICTURE, {"input_points": [[[[20, 15]]]], "input_labels": [[[1]]]}),
    "two_clicks": (PICTURE, {"input_points": [[[[20, 15], [40, 25]]]], "input_labels": [[[1, 1]]]}),
    "box": (PICTURE, {"input_boxes": [[[3, 11, 45, 30]]]}),
    "two_objects": (PICTURE, {"input_points": [[[[20, 15]], [[26, 31]]]], "input_labels": [[[1], [1]]]}),
    "batch": (PICTURES, {"input_points": [[[[20, 15]]], [[[27, 8]]]], "input_labels": [[[1]], [[1]]]}),
    "ragged_objects": (
        PICTURES,
        {"input_points": [[[[20, 15]], [[26, 31]]], [[[27, 8]]]], "input_labels": [[[1], [1]], [[1]]]},
    ),
    "ragged_points": (
        PICTURES,
        {
            "input_points": [[[[20, 15]], [[26, 31]]], [[[16, 12]], [[25, 12], [22, 12]]]],
            "input_labels": [[[1], [1]], [[1], [1, 1]]],
        },
    ),
    "batched_boxes": (PICTURES, {"input_boxes": [[[3, 11, 45, 30], [1, 2, 3, 4]], [[5, 6, 7, 8], [9, 9, 29, 49]]]}),
    "box_and_click": (
        PICTURE,
        {"input_points": [[[[20.5, 15]]]], "input_labels": [[[0]]], "input_boxes": [[[3, 11, 45, 30.25]]]},
    ),
    "tensors": (PICTURE, {"input_points": torch.rand(1, 3, 2, 2) * 30, "input_labels": torch.ones(1, 3, 2).int()}),
    "arrays": (PICTURE, {"input_points": np.random.rand(1, 3, 2, 2) * 30, "input_labels": np.ones((1, 3, 2), int)}),
    "no_prompt": (PICTURES, {}),
}


@pytest.mark.parametrize("call", DOCUMENTED)
def test_call_equals_native(processor, native, call):
    images, prompts = DOCUMENTED[call]
    ours = processor(images=images, **copy.deepcopy(prompts), return_tensors="pt")
    assert_equal(ours, native(images=images, **copy.deepcopy(prompts), return_tensors="pt"))


@pytest.mark.parametrize("sizes", [[[32, 48]], ((32, 48),), torch.tensor([[32, 48]]), np.array([[32.0, 48.0]])])
def test_call_without_images_equals_native(processor, native, sizes):
    prompts = {"input_points": [[[[20, 15], [18, 12]]]], "input_labels": [[[1, 1]]]}
    ours = processor(original_sizes=sizes, **prompts, return_tensors="pt")
    assert_equal(ours, native(original_sizes=[[32, 48]], **prompts, return_tensors="pt"))


def test_call_equals_native_without_return_tensors(processor, native):
    images, prompts = DOCUMENTED["ragged_points"]
    ours = processor(images=images, **copy.deepcopy(prompts))
    theirs = native(images=images, **copy.deepcopy(prompts))
    assert torch.equal(ours["input_points"], theirs["input_points"])
    assert [tuple(size) for size in ours["original_sizes"]] == [tuple(size) for size in theirs["original_sizes"]]


def test_call_returns_arrays(processor):
    encoded = processor(None, None, [[[[1, 2]]]], [[[1]]], [[[1, 2, 3, 4]]], [[32, 48]], return_tensors="np")
    assert all(isinstance(value, np.ndarray) for value in encoded.values())


def test_call_equals_native_on_segmentation_maps(processor, native):
    maps = [np.arange(32 * 48, dtype=np.uint8).reshape(32, 48)]
    ours = processor(PICTURE, segmentation_maps=maps, return_tensors="pt")
    assert_equal(ours, native(PICTURE, segmentation_maps=maps, return_tensors="pt"))


def test_post_process_masks_equals_native(processor, native):
    masks, sizes = torch.randn(2, 2, 3, 16, 16), [[32, 48], [50, 30]]
    ours = processor.post_process_masks(masks, sizes, mask_threshold=0.2, binarize=False)
    theirs = native.post_process_masks(masks, sizes, mask_threshold=0.2, binarize=False)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


# Kinds of input.


@pytest.mark.parametrize(
    "convert", [tuple, np.array, torch.tensor, lambda v: [np.array(v[0])], lambda v: [torch.tensor(v[0])]]
)
def test_call_reads_container(processor, convert):
    points, labels, boxes = [[[[20, 15]], [[26, 31]]]], [[[1], [0]]], [[[1, 2, 3, 4], [5, 6, 7, 8]]]
    expected = processor(PICTURE, None, points, labels, boxes, return_tensors="pt")
    given = [convert(prompt) for prompt in (points, labels, boxes)]
    assert_equal(processor(PICTURE, None, *given, return_tensors="pt"), expected)


def test_call_reads_scalars_of_arrays(processor):
    points = [[[[torch.tensor(20), np.float32(15)], (np.int64(3), np.array(4.0))]]]
    encoded = processor(PICTURE, input_points=points, input_labels=[[[np.int8(1), torch.tensor(0.0)]]])
    expected = processor(PICTURE, input_points=[[[[20, 15], [3, 4]]]], input_labels=[[[1, 0]]])
    assert torch.equal(encoded["input_points"], expected["input_points"])
    assert encoded["input_labels"].tolist() == [[[1, 0]]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.float16, torch.bfloat16, torch.float64])
def test_call_reads_dtype(processor, dtype):
    points = torch.tensor([[[[20, 15]]]], dtype=dtype).requires_grad_(dtype.is_floating_point)
    encoded = processor(PICTURE, input_points=points, input_labels=torch.ones(1, 1, 1, dtype=dtype))
    torch.testing.assert_close(encoded["input_points"], torch.tensor([[[[20 * 64 / 48, 30]]]]))
    assert encoded["input_labels"].dtype == torch.int64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_call_reads_prompts_of_other_devices(processor):
    points = torch.tensor([[[[20, 15]]]], device="cuda")
    assert processor(original_sizes=torch.tensor([[32, 48]], device="cuda"), input_points=points)["input_points"].shape


def test_call_leaves_prompts_unchanged(processor):
    points = [[[[20, 15]], [[26, 31], [1, 2]]], [[[27, 8]]]]
    labels, boxes, sizes = [[[1], [1, 0]], [[1]]], [[[1, 2, 3, 4]], [[1, 2, 3, 4], [5, 6, 7, 8]]], [[32, 48], [50, 30]]
    given = [points, labels, boxes, sizes]
    before = copy.deepcopy(given)
    processor(input_points=points, input_labels=labels, input_boxes=boxes, original_sizes=sizes)
    assert given == before
    tensor = torch.rand(1, 2, 2, 2)
    processor(PICTURE, input_points=tensor, input_boxes=tensor.view(1, 2, 4).sort().values)
    assert tensor.max() < 1


def test_call_accepts_coordinates_outside_the_picture(processor):
    encoded = processor(PICTURE, input_points=[[[[-24, 64]]]], input_labels=[[[1]]], input_boxes=[[[-3, -1, 96, 48]]])
    assert encoded["input_points"].tolist() == [[[[-32, 128]]]]
    assert encoded["input_boxes"].tolist() == [[[-4, -2, 128, 96]]]


# Padding.


def test_call_pads_ragged_points_without_labels(processor):
    encoded = processor(PICTURES, input_points=[[[[24, 16]], [[12, 8], [6, 4]]], [[[15, 25]]]])
    assert encoded["input_labels"].tolist() == [[[1, -10], [1, 1]], [[1, -10], [-10, -10]]]
    pad = [-10, -10]
    assert encoded["input_points"].tolist() == [[[[32, 32], pad], [[16, 16], [8, 8]]], [[[32, 32], pad], [pad, pad]]]


def test_call_pads_ragged_boxes(processor):
    encoded = processor(PICTURES, input_boxes=[[[0, 0, 48, 32], [24, 16, 48, 32]], [[0, 0, 30, 50]]])
    assert encoded["input_boxes"].tolist() == [[[0, 0, 64, 64], [32, 32, 64, 64]], [[0, 0, 64, 64], [-10] * 4]]


def test_call_keeps_padding_given_in_tensors(processor):
    points = torch.tensor([[[[24.0, 16.0], [-10, -10]]]])
    for labels in (None, torch.tensor([[[1, -10]]])):
        encoded = processor(PICTURE, input_points=points, input_labels=labels, input_boxes=[[[-10] * 4]])
        assert encoded["input_points"].tolist() == [[[[32, 32], [-10, -10]]]]
        assert encoded["input_labels"].tolist() == [[[1, -10]]]
        assert encoded["input_boxes"].tolist() == [[[-10] * 4]]


def test_call_scales_a_labelled_point_at_the_pad_value(processor):
    encoded = processor(PICTURE, input_points=[[[[-10, 16], [-10, -10]]]], input_labels=[[[1, 0]]])
    expected = torch.tensor([[[[-40 / 3, 32], [-40 / 3, -20]]]])
    torch.testing.assert_close(encoded["input_points"], expected)


def test_call_pads_pictures_and_objects_without_prompts(processor):
    points, boxes = [[], [[[24, 16], [6, 8]], []]], [[[0, 8, 48, 32]], []]
    encoded = processor([PICTURE, PICTURE], input_points=points)
    assert encoded["input_points"].tolist() == [[[[-10, -10]] * 2] * 2, [[[32, 32], [8, 16]], [[-10, -10]] * 2]]
    assert encoded["input_labels"].tolist() == [[[-10, -10]] * 2, [[1, 1], [-10, -10]]]
    labelled = processor([PICTURE, PICTURE], input_points=points, input_labels=[[], [[1, 0], []]])
    assert labelled["input_labels"].tolist() == [[[-10, -10]] * 2, [[1, 0], [-10, -10]]]
    encoded = processor([PICTURE, PICTURE], input_boxes=boxes)
    assert encoded["input_boxes"].tolist() == [[[0, 16, 64, 64]], [[-10] * 4]]


# Sizes.


def test_call_scales_to_a_non_square_input():
    prompts = {"input_points": [[[[24, 16]]]], "input_boxes": [[[0, 8, 48, 32]]]}
    encoded = make(32, 96)(PICTURE, **prompts, return_tensors="pt")
    assert encoded["pixel_values"].shape == (1, 3, 32, 96)
    assert encoded["input_points"].tolist() == [[[[48, 16]]]] and encoded["input_boxes"].tolist() == [[[0, 8, 96, 32]]]


def test_call_scales_to_the_size_of_the_call(processor):
    encoded = processor(PICTURE, input_points=[[[[24, 16]]]], size={"height": 32, "width": 96}, return_tensors="pt")
    assert encoded["pixel_values"].shape == (1, 3, 32, 96) and encoded["input_points"].tolist() == [[[[48, 16]]]]


def test_target_size_follows_the_image_processor(processor):
    assert processor.target_size == 64 and make(32, 96).target_size == (32, 96)
    processor.image_processor = EdgeTamImageProcessor(size={"height": 128, "width": 128})
    assert processor.target_size == 128


def test_target_size_given_equals_native(native):
    native.target_size = 100
    images, prompts = DOCUMENTED["tensors"]
    ours = make(target_size=100)(images, **prompts, return_tensors="pt")
    assert_equal(ours, native(images, **prompts, return_tensors="pt"))


@pytest.mark.parametrize("target_size", [0, "large", (3, -1)])
def test_processor_rejects_target_size(target_size):
    with pytest.raises(ValueError, match="size"):
        make(target_size=target_size)


@pytest.mark.parametrize("point_pad_value", [1, -7, True, None, "-10"])
def test_processor_rejects_pad_value_that_the_model_does_not_know(point_pad_value):
    with pytest.raises(ValueError, match="point_pad_value must be -10"):
        make(point_pad_value=point_pad_value)


# Errors.


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[[500, 375]]], r"input_points\[0\]\[0\]\[0\] must be nested as \[x, y\] .* got the single number 500"),
        ([500, 375], r"input_points\[0\] must be nested as \[object\]\[point\]\[x, y\] \(3 levels"),
        (torch.zeros(1, 1, 2), r"input_points\[0\]\[0\]\[0\] must be nested"),
        (torch.tensor(3.0), r"input_points must be nested as \[image\]\[object\]\[point\]\[x, y\].*single number 3.0"),
        (7, "input_points must be nested"),
        ([[[[[1, 2]]]]], "one level of nesting too many"),
        (torch.zeros(1, 1, 1, 1, 2), "one level of nesting too many"),
        ([[[[1, 2, 3]]]], r"input_points\[0\]\[0\]\[0\] must have 2 coordinates x, y, got 3"),
        ([[[[1, 2]], [[1]]]], r"input_points\[0\]\[1\]\[0\] must have 2 coordinates x, y, got 1"),
        ([[[[1, float("nan")]]]], r"input_points\[0\]\[0\]\[0\]\[1\] must be finite, got nan"),
        ([[[[1, float("-inf")]]]], "must be finite"),
        ([[[[1, 10**400]]]], "must be finite"),
        (np.full((1, 1, 1, 2), np.nan), "must be finite"),
        ([], "input_points is empty: it must hold at least one prompt"),
        ([[]], "input_points is empty"),
        ([[[]]], "input_points is empty"),
        ([[[[]]]], "must have 2 coordinates x, y, got 0"),
        (torch.zeros(1, 0, 1, 2), "input_points is empty"),
        ([[[[1, 2]]], [[[1, 2]]]], "input_points must have one entry per picture, got 2 for 1 pictures"),
    ],
)
def test_call_rejects_points(processor, points, message):
    with pytest.raises(ValueError, match=message):
        processor(PICTURE, input_points=points)


@pytest.mark.parametrize(
    "points", ["here", [["a"]], [[[["1", "2"]]]], [[[[True, 2]]]], [[[[1, 2j]]]], [[[[1, None]]]], {"x": 1}, [None]]
)
def test_call_rejects_points_of_type(processor, points):
    with pytest.raises(TypeError, match=r"input_points.* must be"):
        processor(PICTURE, input_points=points)


@pytest.mark.parametrize("points", [np.array([[[["a", "b"]]]]), torch.ones(1, 1, 1, 2, dtype=torch.bool)])
def test_call_rejects_points_of_dtype(processor, points):
    with pytest.raises(TypeError, match="must be a number"):
        processor(PICTURE, input_points=points)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[[1, 1], [1]]], r"input_labels\[0\]\[1\] has 1 entries, but input_points\[0\]\[1\] has 2"),
        ([[[1, 1]]], r"input_labels\[0\] has 1 entries, but input_points\[0\] has 2"),
        ([[[1, 1], [1, 1]], [[1]]], r"input_labels has 2 entries, but input_points has 1"),
        ([[1, 1]], r"input_labels\[0\]\[0\] must be nested as \[point\]"),
        ([[[[1], [1]], [[1], [1]]]], "one level of nesting too many"),
        ([[[1, 1], [1, 7]]], r"1 \(foreground\), 0 \(background\).* got 7 at \[image\]\[object\]\[point\] \[0, 1, 1\]"),
        ([[[1, 1], [1, 0.5]]], "got 0.5 at"),
        ([[[1, 1], [1, -2]]], "got -2 at"),
        ([], "input_labels has 0 entries, but input_points has 1"),
    ],
)
def test_call_rejects_labels(processor, labels, message):
    with pytest.raises(ValueError, match=message):
        processor(PICTURE, input_points=[[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]], input_labels=labels)


@pytest.mark.parametrize("labels", [[[[True]]], [[["1"]]], torch.ones(1, 1, 1, dtype=torch.bool)])
def test_call_rejects_labels_of_type(processor, labels):
    with pytest.raises(TypeError, match=r"input_labels\[0\]\[0\]\[0\] must be a number"):
        processor(PICTURE, input_points=[[[[1, 2]]]], input_labels=labels)


def test_call_rejects_labels_without_points(processor):
    with pytest.raises(ValueError, match="input_labels were given without input_points"):
        processor(PICTURE, input_labels=[[[1]]])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([1, 2, 3, 4], r"input_boxes\[0\] must be nested as \[object\]\[x_min, y_min, x_max, y_max\]"),
        ([[1, 2, 3, 4]], r"input_boxes\[0\]\[0\] must be nested"),
        ([[[1, 2, 3]]], "must have 4 coordinates x_min, y_min, x_max, y_max, got 3"),
        ([[[[1, 2, 3, 4]]]], "one level of nesting too many"),
        (torch.zeros(1, 1, 1, 4), "one level of nesting too many"),
        ([[[1, 2, 3, float("inf")]]], "must be finite"),
        ([[]], "input_boxes is empty"),
        ([[[1, 2, 0, 4]]], r"input_boxes\[0\]\[0\] is turned inside out: \[1.0, 2.0, 0.0, 4.0\]"),
        ([[[0, 0, 1, 1], [0, 5, 1, 4]]], r"x_min <= x_max and y_min <= y_max, input_boxes\[0\]\[1\]"),
        ([[[1, 2, 3, 4]], [[1, 2, 3, 4]]], "input_boxes must have one entry per picture, got 2 for 1 pictures"),
    ],
)
def test_call_rejects_boxes(processor, boxes, message):
    with pytest.raises(ValueError, match=message):
        processor(PICTURE, input_boxes=boxes)


def test_call_rejects_other_numbers_of_points_and_boxes(processor):
    with pytest.raises(ValueError, match=r"equally many objects, got 1 and 2; stand in for a missing point or box"):
        processor(PICTURE, input_points=[[[[1, 2]]]], input_boxes=[[[1, 2, 3, 4], [5, 6, 7, 8]]])


def test_call_rejects_neither_images_nor_sizes(processor):
    with pytest.raises(ValueError, match="Either images or original_sizes must be given"):
        processor(input_points=[[[[1, 2]]]])


def test_call_rejects_maps_without_images(processor):
    with pytest.raises(ValueError, match="give images too"):
        processor(original_sizes=[[4, 4]], segmentation_maps=[np.zeros((4, 4))])


def test_call_rejects_sizes_that_differ_from_the_images(processor):
    processor(PICTURE, original_sizes=[[32, 48]])
    with pytest.raises(ValueError, match="differ from the sizes of the images"):
        processor(PICTURE, original_sizes=[[48, 32]])


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([], ValueError, "original_sizes is empty"),
        ([32, 48], ValueError, r"shape \(batch_size, 2\), got 32 at index 0"),
        ([[32, 48, 3]], ValueError, r"shape \(batch_size, 2\)"),
        (torch.tensor([32, 48]), ValueError, r"shape \(batch_size, 2\)"),
        ([[32, 0]], ValueError, "whole numbers of pixels, at least 1, got 0"),
        ([[32, -4]], ValueError, "at least 1, got -4"),
        ([[32, 4.5]], ValueError, "whole numbers of pixels"),
        ([[32, float("nan")]], ValueError, "whole numbers of pixels"),
        ([["32", 48]], TypeError, "must hold numbers, got '32'"),
        ([[True, 48]], TypeError, "must hold numbers, got True"),
        (torch.tensor(32), TypeError, "must be a list of"),
        ("32x48", TypeError, "must be a list of"),
    ],
)
def test_call_rejects_original_sizes(processor, sizes, error, message):
    with pytest.raises(error, match=message):
        processor(original_sizes=sizes, input_points=[[[[1, 2]]]])


# True masks, from which a model learns.


def test_mask_labels_reach_the_loss(model):
    processor = EdgeTamProcessor(EdgeTamImageProcessor(size={"height": 128, "width": 128}))
    objects = np.zeros((32, 48), np.uint8)
    objects[4:12, 6:30], objects[16:30, 20:40] = 3, 7
    masks = np.stack([objects == 3, objects == 7])
    two = processor([PICTURE, PICTURE], mask_labels=[objects, [objects == 7]], return_tensors="pt")
    assert two["mask_labels"].shape == (2, 2, 128, 128) and two["mask_labels"].dtype == torch.int8
    expected = torch.from_numpy(masks).repeat_interleave(4, 1).float()
    expected = torch.nn.functional.interpolate(expected[None], (128, 128), mode="nearest-exact")[0]
    assert torch.equal(two["mask_labels"][0].float(), expected)
    assert torch.equal(two["mask_labels"][1, 0].float(), expected[1]) and (two["mask_labels"][1, 1] == -1).all()

    learner = copy.deepcopy(model).train()
    output = learner(**two, prompt_seeds=torch.tensor([1, 2]))
    output.loss.backward()
    assert output.loss.isfinite() and learner.mask_decoder.iou_token.weight.grad.abs().sum() > 0


def test_mask_labels_of_every_form_are_equal(processor, tmp_path):
    objects = np.zeros((32, 48), np.uint8)
    objects[4:12, 6:30], objects[16:30, 20:40] = 1, 2
    masks = np.stack([objects == 1, objects == 2])
    Image.fromarray(objects).save(tmp_path / "objects.png")
    forms = [objects, Image.fromarray(objects).convert("P"), str(tmp_path / "objects.png"), torch.from_numpy(objects)]
    forms += [[objects], objects[None], [masks], masks[None], [list(masks)], [masks * 255.0], objects.astype(np.uint16)]
    expected = processor(PICTURE, mask_labels=objects)["mask_labels"]
    assert expected.shape == (1, 2, 64, 64) and set(expected.unique().tolist()) == {0, 1}
    for form in forms:
        assert torch.equal(processor(PICTURE, mask_labels=form)["mask_labels"], expected)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.ones((3, 32, 48), bool), ValueError, r"one entry per picture, got 3 for 1 pictures; .*: \[masks\]"),
        (
            np.ones((32, 47), np.uint8),
            ValueError,
            r"mask_labels\[0\] must be .* of the size of its picture, \(32, 48\)",
        ),
        ([[np.ones((32, 48)), np.ones((2, 2))]], ValueError, "must have masks of one size"),
        (np.full((32, 48), 0.5), ValueError, "must hold whole numbers"),
        (np.zeros((32, 48), np.uint8), ValueError, "no object in any picture"),
        ([[]], ValueError, "no object in any picture"),
        (3, TypeError, "must be a list with one entry per picture, got int"),
        ([None], TypeError, r"mask_labels\[0\] must be a PIL picture, an array"),
        (np.full((32, 48), "a"), TypeError, "must hold whole numbers"),
    ],
)
def test_call_rejects_mask_labels(processor, labels, error, message):
    with pytest.raises(error, match=message):
        processor(PICTURE, mask_labels=labels)
    with pytest.raises(ValueError, match="mask_labels need the images"):
        processor(original_sizes=[[32, 48]], mask_labels=labels)


# Settings.


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"resample": 4}, ValueError, "resample must be a filter .* that torchvision has"),
        ({"resample": InterpolationMode.HAMMING}, ValueError, "resample must be a filter .* that torchvision has"),
        ({"do_resize": "yes"}, TypeError, "do_resize must be True or False, got 'yes'"),
        ({"size": -3}, ValueError, "size must be .*positive numbers of pixels, got -3"),
        ({"size": {"shortest_edge": 3}}, ValueError, "size must be"),
        ({"mask_size": "large"}, ValueError, "mask_size must be"),
        ({"image_mean": [1, 2]}, ValueError, "image_mean must have 3 numbers"),
        ({"image_mean": (0, 0, 0, 0)}, ValueError, "image_mean must have 3 numbers"),
        ({"image_std": [1, 0, 1]}, ValueError, "image_std must be above 0"),
        ({"rescale_factor": float("nan")}, ValueError, "rescale_factor must be finite"),
        ({"resample": 99}, ValueError, "resample must be a filter"),
        ({"resample": "soft"}, ValueError, "resample must be a filter"),
        ({"return_tensors": "tf"}, ValueError, 'return_tensors must be "pt", "np" or None'),
        ({"data_format": "channels_last"}, ValueError, 'data_format must be "channels_first"'),
        ({"input_data_format": "HWC"}, ValueError, 'input_data_format must be "channels_first" or "channels_last"'),
        ({"device": "toaster"}, ValueError, "device 'toaster' is not there"),
        ({"sise": 64}, TypeError, "the image processor has no setting sise; it accepts .*size"),
    ],
)
def test_call_rejects_settings(processor, settings, error, message):
    with pytest.raises(error, match=message):
        processor(PICTURE, input_points=[[[[1, 2]]]], **settings)


@pytest.mark.parametrize(
    "picture", [np.zeros((6, 5, 4), np.uint8), Image.new("RGBA", (5, 4)), Image.new("CMYK", (5, 4))]
)
def test_call_rejects_four_channels_that_are_not_to_be_converted(processor, picture):
    with pytest.raises(ValueError, match=r"images\[0\] has .*leave do_convert_rgb=False out"):
        processor(picture, do_convert_rgb=False)
    assert processor(picture, return_tensors="pt")["pixel_values"].shape == (1, 3, 64, 64)


# Saved folders.


def test_save_pretrained_writes_both_processor_files_and_the_code(tmp_path):
    files = make(32, 96, point_pad_value=-10).save_pretrained(tmp_path)
    assert {os.path.basename(file) for file in files} == {"processor_config.json", "preprocessor_config.json"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "device_edgetam.py",
        "image_processing_edgetam.py",
        "mask_generation_edgetam.py",
        "masks_edgetam.py",
        "pictures_edgetam.py",
        "preprocessor_config.json",
        "processing_edgetam.py",
        "processor_config.json",
        "prompts_edgetam.py",
        "settings_edgetam.py",
    ]
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    pictures = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert settings.pop("image_processor") == pictures
    assert settings == {
        "auto_map": {"AutoProcessor": "processing_edgetam.EdgeTamProcessor"},
        "point_pad_value": -10,
        "processor_class": "Sam2Processor",
    }
    assert pictures["auto_map"] == {"AutoImageProcessor": "image_processing_edgetam.EdgeTamImageProcessor"}
    assert pictures["image_processor_type"] == "Sam2ImageProcessorFast"
    assert pictures["size"] == {"height": 32, "width": 96} and pictures["mask_size"] == {"height": 8, "width": 24}


def test_from_pretrained_gives_what_was_saved(tmp_path):
    make(32, 96, point_pad_value=-10).save_pretrained(tmp_path)
    loaded = EdgeTamProcessor.from_pretrained(tmp_path)
    assert type(loaded) is EdgeTamProcessor and type(loaded.image_processor) is EdgeTamImageProcessor
    assert loaded.target_size == (32, 96) and loaded.point_pad_value == -10


def test_from_pretrained_reads_the_published_form(tmp_path):
    settings = {"point_pad_value": -10, "processor_class": "Sam2VideoProcessor", "target_size": 1024}
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    Sam2ImageProcessor().save_pretrained(tmp_path)
    assert EdgeTamProcessor.from_pretrained(tmp_path).target_size == 1024
    smaller = EdgeTamProcessor.from_pretrained(tmp_path, size=SIZE)
    assert smaller.target_size == 64 and dict(smaller.image_processor.size) == SIZE


def test_target_size_given_is_saved(tmp_path):
    make(target_size=100).save_pretrained(tmp_path)
    assert EdgeTamProcessor.from_pretrained(tmp_path).target_size == 100
    assert Sam2Processor.from_pretrained(tmp_path).target_size == 100


LOAD = """
import sys, warnings
sys.modules["edgetam_hf"] = None  # cannot be imported, even where it is installed
warnings.simplefilter("error", UserWarning)
from transformers import AutoImageProcessor, AutoProcessor
folder = sys.argv[1]
for trust, name in ((True, "EdgeTam"), (False, "Sam2")):
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=trust)
    image_processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=trust)
    for loaded, kind in ((processor, "Processor"), (processor.image_processor, "ImageProcessor"),
                         (image_processor, "ImageProcessor")):
        assert type(loaded).__name__.removesuffix("Fast") == name + kind, type(loaded)
        assert type(loaded).__module__.startswith("transformers_modules" if trust else "transformers."), type(loaded)
    encoded = processor(original_sizes=[[32, 48]], input_points=[[[[24, 16]]]], input_labels=[[[1]]])
    assert encoded["input_points"].tolist() == [[[[32, 32]]]], encoded
    if trust:
        processor.save_pretrained(sys.argv[2])
"""


def test_saved_folder_loads_without_the_package(tmp_path):
    saved, resaved, elsewhere = (tmp_path / name for name in ("saved", "resaved", "elsewhere"))
    elsewhere.mkdir()
    make().save_pretrained(saved)
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    for folder in (saved, resaved):  # what remote code saves must load in the same way
        command = [sys.executable, "-c", LOAD, str(folder), str(resaved)]
        run = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert "warn" not in run.stderr.lower(), run.stderr
    for path in saved.iterdir():
        assert path.read_text() == (resaved / path.name).read_text()


NOT_IN_MEMORY = [torch.ones(1, 1, 1, 2, device="meta"), torch.ones(1, 1, 1, 2).to_sparse()]


@pytest.mark.parametrize("tensor", NOT_IN_MEMORY, ids=["meta", "sparse"])
@pytest.mark.parametrize(
    "name", ["input_points", "input_labels", "input_boxes", "original_sizes", "size", "image_mean"]
)
def test_call_rejects_tensors_without_numbers_in_memory(processor, name, tensor):
    for value in (tensor, [tensor[0]]):
        points = [[[[500, 375]]]] if name == "input_labels" else None
        with pytest.raises((TypeError, ValueError), match=name):
            processor(PICTURE, **{"input_points": points, name: value})
