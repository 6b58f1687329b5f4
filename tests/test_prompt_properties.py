"""Whatever prompts look like: the documented result, or a `ValueError` or `TypeError`; and nothing given changes."""

import copy

import numpy as np
import pytest
import torch
from edgetam_hf.image_processing_edgetam import EdgeTamImageProcessor
from edgetam_hf.processing_edgetam import EdgeTamProcessor
from edgetam_hf.settings_edgetam import READERS
from hypothesis import assume, given, settings
from hypothesis import strategies as st

HEIGHT, WIDTH, PAD = 32, 48, -10
PICTURE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
PROCESSOR = EdgeTamProcessor(EdgeTamImageProcessor(size={"height": 64, "width": 64}))
SCALE = torch.tensor([64 / WIDTH, 64 / HEIGHT])
modest = settings(derandomize=True, max_examples=120, deadline=None)

coordinates = st.floats(-200, 200, width=32).filter(lambda value: value != PAD) | st.integers(0, 100)
points = st.lists(coordinates, min_size=2, max_size=2)
boxes = st.tuples(points, points).map(lambda corners: [min(p) for p in zip(*corners)] + [max(p) for p in zip(*corners)])


def nested(item, depth, max_size=3):
    for _ in range(depth):
        item = st.lists(item, min_size=1, max_size=max_size)
    return item


@st.composite
def prompts_of_pictures(draw):
    """Ragged points with labels, and as many boxes as objects, for one to three pictures."""
    point_prompts = draw(nested(points, 3))
    label = st.sampled_from([1, 0, -1, 2, 3])
    labels = [[[draw(label) for _ in clicks] for clicks in picture] for picture in point_prompts]
    box_prompts = [[draw(boxes) for _ in picture] for picture in point_prompts]
    return point_prompts, labels, box_prompts


def call(input_points=None, input_labels=None, input_boxes=None, num_pictures=1):
    return PROCESSOR(
        original_sizes=[[HEIGHT, WIDTH]] * num_pictures,
        input_points=input_points,
        input_labels=input_labels,
        input_boxes=input_boxes,
        return_tensors="pt",
    )


@modest
@given(prompts_of_pictures(), st.booleans())
def test_call_pads_and_scales_every_ragged_prompt(prompts, has_labels):
    before = copy.deepcopy(prompts)
    point_prompts, labels, box_prompts = prompts
    encoded = call(point_prompts, labels if has_labels else None, box_prompts, len(point_prompts))
    assert prompts == before

    num_objects = max(len(picture) for picture in point_prompts)
    num_points = max(len(clicks) for picture in point_prompts for clicks in picture)
    shape = (len(point_prompts), num_objects, num_points)
    assert encoded["input_points"].shape == (*shape, 2) and encoded["input_points"].dtype == torch.float32
    assert encoded["input_labels"].shape == shape and encoded["input_labels"].dtype == torch.int64
    assert encoded["input_boxes"].shape == (*shape[:2], 4)

    expected_points = torch.full((*shape, 2), float(PAD))
    expected_labels = torch.full(shape, PAD)
    expected_boxes = torch.full((*shape[:2], 4), float(PAD))
    for i, picture in enumerate(point_prompts):
        for j, clicks in enumerate(picture):
            expected_points[i, j, : len(clicks)] = torch.tensor(clicks) * SCALE
            expected_labels[i, j, : len(clicks)] = torch.tensor(labels[i][j]) if has_labels else 1
            expected_boxes[i, j] = torch.tensor(box_prompts[i][j]) * SCALE.repeat(2)
    torch.testing.assert_close(encoded["input_points"], expected_points)
    assert torch.equal(encoded["input_labels"], expected_labels)
    torch.testing.assert_close(encoded["input_boxes"], expected_boxes)


@modest
@given(
    st.tuples(*[st.integers(1, 3)] * 3),
    st.sampled_from([np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64]),
    st.sampled_from(["array", "tensor", "list", "tuple", "mixed"]),
)
def test_call_reads_equal_prompts_equally(shape, dtype, container):
    array = (np.arange(np.prod(shape) * 2) % 47).reshape(*shape, 2).astype(dtype)
    convert = {
        "array": lambda value: value,
        "tensor": torch.from_numpy,
        "list": lambda value: value.tolist(),
        "tuple": lambda value: tuple(map(tuple, value.tolist())),
        "mixed": lambda value: [torch.from_numpy(part) for part in value],
    }[container]
    encoded = call(convert(array), convert(np.ones(shape, dtype)), num_pictures=shape[0])
    torch.testing.assert_close(encoded["input_points"], torch.from_numpy(array.astype(np.float32)) * SCALE)
    assert encoded["input_labels"].eq(1).all()


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.decimals()
    | st.fractions()
    | st.text(max_size=3)
    | st.binary(max_size=3)
    | st.just(torch.tensor(2.0))
    | st.just(torch.zeros(2))
    | st.just(torch.zeros(1, 0))
    | st.just(torch.zeros(1, 1, 1, 2, dtype=torch.bool))
    | st.just(np.float32(3))
    | st.just(np.array([[1, 2]], dtype=object))
    | st.just(np.array("text"))
    | st.just({"x": 1})
)
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner), max_leaves=8)
almost_points = nested(st.lists(coordinates | leaves, min_size=1, max_size=3), 3, max_size=2)
almost_labels = nested(st.integers(-11, 4) | leaves, 3, max_size=2)
almost_boxes = nested(st.lists(coordinates | leaves, min_size=3, max_size=4), 2, max_size=2)


def assert_documented_or_refused(**prompts):
    before = {name: repr(prompt) for name, prompt in prompts.items()}
    try:
        encoded = call(**prompts)
    except (ValueError, TypeError) as error:
        assert "input_" in str(error)
    else:
        assert encoded["original_sizes"].shape == (1, 2)
        for name, rank in (("input_points", 4), ("input_labels", 3), ("input_boxes", 3)):
            if name in encoded:
                assert encoded[name].ndim == rank and encoded[name].shape[0] == 1
                assert encoded[name].float().isfinite().all()
    assert {name: repr(prompt) for name, prompt in prompts.items()} == before


@modest
@given(st.none() | anything | almost_points, st.none() | anything | almost_labels)
def test_call_refuses_other_points_and_labels(input_points, input_labels):
    assert_documented_or_refused(input_points=input_points, input_labels=input_labels)


@modest
@given(anything | almost_boxes)
def test_call_refuses_other_boxes(input_boxes):
    assert_documented_or_refused(input_boxes=input_boxes)


@modest
@given(anything | st.lists(st.lists(leaves, min_size=2, max_size=2), max_size=2))
def test_call_refuses_other_original_sizes(original_sizes):
    before = repr(original_sizes)
    try:
        encoded = PROCESSOR(original_sizes=original_sizes, return_tensors="pt")
    except (ValueError, TypeError) as error:
        assert "original_sizes" in str(error)
    else:
        assert encoded["original_sizes"].shape[1] == 2 and (encoded["original_sizes"] > 0).all()
    assert repr(original_sizes) == before


@modest
@given(anything)
def test_preprocess_refuses_other_pictures(images):
    try:
        pixel_values = PROCESSOR.image_processor(images, return_tensors="pt")["pixel_values"]
    except (ValueError, TypeError) as error:
        assert "image" in str(error) or "picture" in str(error)
    else:
        assert pixel_values.shape[1:] == (3, 64, 64) and pixel_values.isfinite().all()


@modest
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["HW", "HWC", "CHW"]), st.sampled_from([1, 3, 4]))
def test_preprocess_reads_pictures_of_every_size(height, width, layout, num_channels):
    assume(layout == "HW" or num_channels != (height if layout == "HWC" else width))  # which is refused as ambiguous
    shape = {"HW": (height, width), "HWC": (height, width, num_channels), "CHW": (num_channels, height, width)}[layout]
    encoded = PROCESSOR(np.full(shape, 255, np.uint8), input_points=[[[[0, 0]]]], return_tensors="pt")
    assert encoded["pixel_values"].shape == (1, 3, 64, 64) and encoded["pixel_values"].min() > 2


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 6])
def test_call_rejects_other_depths(depth):
    prompt = [4, 5]
    for _ in range(depth - 1):
        prompt = [prompt]
    with pytest.raises(ValueError, match="nest"):
        call(prompt)
    with pytest.raises(ValueError, match="nest"):
        call(torch.tensor(prompt))


settings_of_any_kind = st.one_of(
    st.none() | st.booleans() | st.integers(-3, 70) | st.floats() | st.text(max_size=3) | st.just({"height": 9}),
    st.lists(st.floats(-1, 2) | st.none(), max_size=4),
    st.sampled_from([np.float32(0.5), np.bool_(True), np.array([0.5, 0.5, 0.5]), torch.tensor(3), torch.float16, b"x"]),
)


@modest
@given(st.sampled_from(sorted(READERS)), settings_of_any_kind)
def test_preprocess_takes_or_refuses_every_setting(name, value):
    if name == "mask_generation":
        return  # it is no setting of a call
    try:
        pixel_values = PROCESSOR.image_processor(PICTURE, **{"return_tensors": "pt", name: value})["pixel_values"]
    except (ValueError, TypeError) as error:
        assert name in str(error) or name in ("do_center_crop", "do_pad"), (name, value)
    else:
        assert len(pixel_values) == 1


@modest
@given(anything, anything)
def test_preprocess_refuses_other_labels(segmentation_maps, mask_labels):
    for name, value in (("segmentation_maps", segmentation_maps), ("mask_labels", mask_labels)):
        try:
            encoded = PROCESSOR.image_processor(PICTURE, **{name: value}, return_tensors="pt")
        except (ValueError, TypeError) as error:
            assert name in str(error) or "picture" in str(error)
        else:
            assert value is None or len(encoded["labels" if name == "segmentation_maps" else name]) == 1
