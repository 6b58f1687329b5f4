"""Image model: equal to native on shared weights, batched = one by one, and errors that name what is wrong."""

import pytest
import torch
from edgetam_hf.configuration_edgetam import EdgeTamConfig
from edgetam_hf.mask_decoder_edgetam import MaskPrediction
from edgetam_hf.modeling_edgetam import EdgeTamModel
from edgetam_hf.vision_encoder_edgetam import EdgeTamVisionModel
from small_models import assert_outputs_close, make_model, make_native, random, randomise, small_config

PAD = -10
CLICKS = torch.tensor([[[[30.0, 40.0]]], [[[90.5, 20.25]]]])
MORE_CLICKS = torch.tensor([[[[30.0, 40.0], [70, 80], [5, 120]]], [[[90.5, 20.25], [64, 64], [-3, 140]]]])
MORE_LABELS = torch.tensor([[[1, 0, 1]], [[0, 1, 1]]])
BOXES = torch.tensor([[[10.0, 12, 60, 50]], [[50, 60, 100, 120]]])
MORE_BOXES = torch.tensor([[[10.0, 12, 60, 50], [0, 0, 128, 128]], [[50, 60, 100, 120], [3.5, 100, 20, 127]]])
MASKS = 5 * random((2, 1, 32, 32), seed=1)
PROMPTS = {
    "none": {},
    "click": {"input_points": CLICKS},
    "clicks": {"input_points": MORE_CLICKS, "input_labels": MORE_LABELS},
    "clicks_of_objects": {"input_points": MORE_CLICKS.transpose(1, 2), "input_labels": MORE_LABELS.transpose(1, 2)},
    "not_a_point": {"input_points": MORE_CLICKS, "input_labels": torch.tensor([[[1, -1, 0]], [[-1, 1, -1]]])},
    "corners_as_clicks": {"input_points": MORE_CLICKS, "input_labels": torch.tensor([[[2, 3, 1]], [[3, 0, 2]]])},
    "box": {"input_boxes": BOXES},
    "boxes": {"input_boxes": MORE_BOXES},
    "mask": {"input_masks": MASKS},
    "mask_of_another_size": {"input_masks": 5 * random((2, 1, 50, 70))},
    "mask_and_click": {"input_masks": MASKS, "input_points": CLICKS},
    "mask_and_box": {"input_masks": MASKS, "input_boxes": BOXES},
    "box_and_clicks": {"input_boxes": BOXES, "input_points": MORE_CLICKS, "input_labels": MORE_LABELS},
    "single_mask_of_click": {"input_points": CLICKS, "multimask_output": False},
    "single_mask_of_boxes": {"input_boxes": MORE_BOXES, "multimask_output": False},
    "attention_similarity": {"input_points": CLICKS, "attention_similarity": random((2, 1, 1, 64))},
    "attention_similarity_of_heads": {"input_boxes": MORE_BOXES, "attention_similarity": random((4, 8, 9, 64))},
    "target_embedding": {"input_points": CLICKS, "target_embedding": random((1, 1, 1, 64))},
    "target_embedding_of_tokens": {"input_boxes": MORE_BOXES, "target_embedding": random((2, 2, 9, 64))},
}


def prompt(name):
    """Fresh tensors, since native writes into what it is given."""
    return {key: value.clone() if torch.is_tensor(value) else value for key, value in PROMPTS[name].items()}


@pytest.fixture(scope="module")
def embeddings(model, pictures):
    with torch.no_grad():
        return model.get_image_embeddings(pictures)


def of_picture(embeddings, picture_idx):
    return [fm[picture_idx : picture_idx + 1] for fm in embeddings]


def call(model, embeddings, **prompts):
    with torch.no_grad():
        return model(image_embeddings=embeddings, **prompts)


def rows(output, *selected):
    """The masks and scores of an output, reduced to the part that the test compares."""
    names = ("pred_masks", "iou_scores", "object_score_logits")
    return {name: output[name][selected] for name in names}


# Ours = native


@pytest.mark.parametrize("name", PROMPTS)
@torch.no_grad()
def test_forward_equals_native(model, native, pictures, name):
    assert_outputs_close(model(pixel_values=pictures, **prompt(name)), native(pixel_values=pictures, **prompt(name)))


@pytest.mark.parametrize("name", ["click", "mask_and_box", "single_mask_of_boxes"])
@torch.no_grad()
def test_forward_with_image_embeddings_equals_native(model, native, pictures, name):
    ours, theirs = model.get_image_embeddings(pictures), native.get_image_embeddings(pictures)
    assert isinstance(ours, list) and [fm.shape[1:] for fm in ours] == [(8, 32, 32), (16, 16, 16), (64, 8, 8)]
    for actual, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    assert_outputs_close(model(image_embeddings=theirs, **prompt(name)), native(image_embeddings=ours, **prompt(name)))


@torch.no_grad()
def test_forward_equals_native_at_default_size():
    model = randomise(EdgeTamModel(EdgeTamConfig()))
    native = make_native(model)
    pixel_values = random((1, 3, 1024, 1024))
    ours = model(pixel_values=pixel_values, input_points=8 * CLICKS[:1])
    assert ours.pred_masks.shape == (1, 1, 3, 256, 256)
    theirs = native(pixel_values=pixel_values, input_points=8 * CLICKS[:1])
    assert_outputs_close(ours, theirs)
    for prompts in ({"input_boxes": 8 * MORE_BOXES[:1]}, {"input_masks": 5 * random((1, 1, 256, 256))}):
        prompts["multimask_output"] = False
        actual = model(image_embeddings=ours.image_embeddings, **prompts)
        assert_outputs_close(actual, native(image_embeddings=theirs.image_embeddings, **prompts))


@torch.no_grad()
def test_get_image_features_equals_native(model, native, pictures):
    ours, theirs = model.get_image_features(pictures), native.get_image_features(pictures)
    if isinstance(theirs, tuple):  # transformers 4
        theirs = dict(zip(("fpn_hidden_states", "fpn_position_encoding"), theirs))
    for name in ("fpn_hidden_states", "fpn_position_encoding"):
        assert len(ours[name]) == 3
        for actual, expected in zip(ours[name], theirs[name], strict=True):
            torch.testing.assert_close(actual, expected.expand_as(actual), atol=1e-5, rtol=0)


@torch.no_grad()
def test_get_prompt_embeddings_equals_native(model, native):
    for name in ("clicks", "boxes", "mask_and_click"):
        prompts = prompt(name)
        labels = torch.ones_like(CLICKS[..., 0]).long() if "input_points" in prompts else None
        given = {"input_points": None, "input_labels": labels, "input_boxes": None, "input_masks": None, **prompts}
        actual, expected = model.get_prompt_embeddings(**prompts), native.prompt_encoder(**given)
        torch.testing.assert_close(actual, tuple(expected), atol=1e-5, rtol=0)


@torch.no_grad()
def test_image_wide_positional_embeddings_equal_native(model, native):
    actual = model.get_image_wide_positional_embeddings()
    torch.testing.assert_close(actual, native.get_image_wide_positional_embeddings(), atol=1e-5, rtol=0)


# Batched = one by one


def test_batch_of_pictures_equals_one_by_one(model, pictures):
    with torch.no_grad():
        batch = model(pixel_values=pictures, input_boxes=MORE_BOXES)
        for i in range(2):
            alone = model(pixel_values=pictures[i : i + 1], input_boxes=MORE_BOXES[i : i + 1])
            assert_outputs_close(rows(batch, slice(i, i + 1)), alone, atol=1e-5)


@pytest.mark.parametrize("multimask_output", [True, False])
def test_ragged_clicks_equal_one_by_one(model, embeddings, multimask_output):
    points = 128 * torch.rand(2, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    num_points = torch.tensor([[1, 4, 2], [3, 1, 1]])
    is_padding = torch.arange(4) >= num_points[..., None]
    points[is_padding] = PAD
    labels = torch.where(is_padding, PAD, torch.tensor([1, 0, 1, 1]))
    batch = call(model, embeddings, input_points=points, input_labels=labels, multimask_output=multimask_output)
    for i, picture in enumerate(num_points.tolist()):
        for j, count in enumerate(picture):
            alone = call(
                model,
                of_picture(embeddings, i),
                input_points=points[i : i + 1, j : j + 1, :count],
                input_labels=labels[i : i + 1, j : j + 1, :count],
                multimask_output=multimask_output,
            )
            assert_outputs_close(rows(batch, slice(i, i + 1), slice(j, j + 1)), alone, atol=1e-5)


def test_padding_has_no_influence_wherever_it_stands(model, embeddings):
    points, labels = MORE_CLICKS.clone(), MORE_LABELS.clone()
    labels[:, :, 1] = PAD
    padded = call(model, embeddings, input_points=points, input_labels=labels)
    points[:, :, 1] = 1e4
    assert_outputs_close(padded, call(model, embeddings, input_points=points, input_labels=labels), atol=0.0)
    plain = call(model, embeddings, input_points=points[:, :, ::2], input_labels=labels[:, :, ::2])
    assert_outputs_close(padded, plain, atol=1e-5)


def test_padded_boxes_leave_the_clicks_alone(model, embeddings):
    boxes = MORE_BOXES.clone()
    boxes[0, 1] = PAD
    clicks = MORE_CLICKS[:, :, :2].transpose(1, 2)
    batch = call(model, embeddings, input_boxes=boxes, input_points=clicks)
    alone = call(model, of_picture(embeddings, 0), input_points=clicks[:1, 1:])
    assert_outputs_close(rows(batch, slice(0, 1), slice(1, 2)), alone, atol=1e-5)
    both = call(model, of_picture(embeddings, 1), input_boxes=boxes[1:, 1:], input_points=clicks[1:, 1:])
    assert_outputs_close(rows(batch, slice(1, 2), slice(1, 2)), both, atol=1e-5)


def test_objects_that_are_padding_get_finite_masks(model, embeddings):
    points = torch.full((2, 2, 1, 2), float(PAD))
    labels = torch.full((2, 2, 1), PAD)
    boxes = torch.full((2, 2, 4), float(PAD))
    for prompts in ({"input_points": points, "input_labels": labels}, {"input_boxes": boxes}):
        output = call(model, embeddings, **prompts)
        assert output.pred_masks.isfinite().all() and output.iou_scores.isfinite().all()


@pytest.mark.parametrize("name", ["clicks_and_boxes", "masks", "masks_and_clicks", "masks_and_boxes", "all"])
def test_objects_equal_one_by_one(model, embeddings, name):
    """Every object has its own click, box and mask, which native cannot do."""
    kinds = {
        "clicks": {"input_points": MORE_CLICKS.transpose(1, 2), "input_labels": MORE_LABELS.transpose(1, 2)},
        "boxes": {"input_boxes": torch.cat((MORE_BOXES, BOXES + 3), dim=1)},
        "masks": {"input_masks": 5 * random((2, 3, 32, 32))},
    }
    names = kinds if name == "all" else name.split("_and_")
    prompts = {key: value for kind in names for key, value in kinds[kind].items()}
    batch = call(model, embeddings, **prompts)
    assert batch.pred_masks.shape == (2, 3, 3, 32, 32)
    for i in range(2):
        for j in range(3):
            alone = {key: value[i : i + 1, j : j + 1] for key, value in prompts.items()}
            alone = call(model, of_picture(embeddings, i), **alone)
            assert_outputs_close(rows(batch, slice(i, i + 1), slice(j, j + 1)), alone, atol=1e-5)
    assert (batch.pred_masks[:, 0] - batch.pred_masks[:, 1]).abs().mean() > 1e-3


def test_one_mask_per_picture_serves_all_objects(model, embeddings):
    shared = call(model, embeddings, input_boxes=MORE_BOXES, input_masks=MASKS)
    repeated = call(model, embeddings, input_boxes=MORE_BOXES, input_masks=MASKS.expand(-1, 2, -1, -1))
    without_object = call(model, embeddings, input_boxes=MORE_BOXES, input_masks=MASKS[:, 0])
    assert_outputs_close(shared, repeated, atol=1e-5)
    assert_outputs_close(shared, without_object, atol=0.0)


def test_labels_default_to_foreground(model, embeddings):
    default = call(model, embeddings, input_points=MORE_CLICKS)
    ones = torch.ones_like(MORE_LABELS)
    assert_outputs_close(default, call(model, embeddings, input_points=MORE_CLICKS, input_labels=ones), atol=0.0)
    zeros = call(model, embeddings, input_points=MORE_CLICKS, input_labels=torch.zeros_like(MORE_LABELS))
    assert (default.pred_masks - zeros.pred_masks).abs().mean() > 1e-3


def test_order_of_clicks_does_not_matter(model, embeddings):
    forth = call(model, embeddings, input_points=MORE_CLICKS, input_labels=MORE_LABELS)
    back = call(model, embeddings, input_points=MORE_CLICKS.flip(2), input_labels=MORE_LABELS.flip(2))
    assert_outputs_close(forth, back, atol=1e-5)


def test_integer_prompts_equal_floats(model, embeddings):
    points, boxes = MORE_CLICKS.long(), BOXES.long()
    integers = call(model, embeddings, input_points=points, input_labels=MORE_LABELS.int(), input_boxes=boxes)
    floats = call(
        model, embeddings, input_points=points.double(), input_labels=MORE_LABELS.float(), input_boxes=boxes.float()
    )
    assert_outputs_close(integers, floats, atol=0.0)


def test_forward_changes_nothing_it_is_given(model, embeddings):
    for name in PROMPTS:
        given = prompt(name)
        before = [fm.clone() for fm in embeddings]
        call(model, embeddings, **given)
        assert all(torch.equal(fm, other) for fm, other in zip(embeddings, before, strict=True))
        assert all(not torch.is_tensor(value) or torch.equal(value, PROMPTS[name][key]) for key, value in given.items())


# Sizes


def test_non_square_model_returns_quarter_size_masks():
    model = make_model((64, 96))
    with torch.no_grad():
        output = model(pixel_values=random((1, 3, 64, 96)), input_points=torch.tensor([[[[80.0, 50.0]]]]))
    assert output.pred_masks.shape == (1, 1, 3, 16, 24)
    assert [fm.shape[2:] for fm in output.image_embeddings] == [(16, 24), (8, 12), (4, 6)]
    assert output.pred_masks.isfinite().all()


def fourier_features(model, x, y):
    """Embedding of the position (x, y) in [0, 1], written out."""
    matrix = model.shared_image_embedding.positional_embedding
    angle = 2 * torch.pi * ((2 * x - 1) * matrix[0] + (2 * y - 1) * matrix[1])
    return torch.cat((angle.sin(), angle.cos()))


@torch.no_grad()
def test_non_square_positions_are_fractions_of_each_side():
    model = make_model((64, 96))
    grid = model.get_image_wide_positional_embeddings()
    assert grid.shape == (1, 64, 4, 6)
    for row, column in ((0, 0), (1, 5), (3, 2)):
        expected = fourier_features(model, (column + 0.5) / 6, (row + 0.5) / 4)
        torch.testing.assert_close(grid[0, :, row, column], expected, atol=1e-5, rtol=0)
    sparse, dense = model.get_prompt_embeddings(input_points=torch.tensor([[[[80.0, 50.0]]]]))
    expected = fourier_features(model, 80.5 / 96, 50.5 / 64) + model.prompt_encoder.point_embed.weight[1]
    torch.testing.assert_close(sparse[0, 0, 0], expected, atol=1e-5, rtol=0)
    assert sparse.shape == (1, 1, 2, 64) and dense.shape == (1, 64, 4, 6)


@torch.no_grad()
def test_non_square_encoder_equals_native(model, native):
    pixel_values = random((1, 3, 64, 96))
    ours, theirs = model.vision_encoder(pixel_values), native.vision_encoder(pixel_values)
    for actual, expected in zip(ours.fpn_hidden_states, theirs.fpn_hidden_states, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    for actual, expected in zip(ours.fpn_position_encoding, theirs.fpn_position_encoding, strict=True):
        torch.testing.assert_close(actual, expected.expand_as(actual), atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state, atol=1e-5, rtol=0)


@torch.no_grad()
def test_vision_model_equals_the_encoder_of_the_whole(model, pictures):
    vision = EdgeTamVisionModel(model.config.vision_config).eval()
    vision.load_state_dict(model.vision_encoder.state_dict())
    ours, whole = vision(pictures), model.vision_encoder(pictures)
    assert all(map(torch.equal, ours.fpn_hidden_states, whole.fpn_hidden_states))
    assert ours.last_hidden_state.shape == (2, 4, 4, 128) and ours.hidden_states is None
    assert len(vision(pictures, return_dict=False)) == 3


@pytest.mark.parametrize("shape", [(1, 3, 100, 128), (1, 3, 128, 33), (3, 128, 128)])
def test_vision_model_rejects_pictures_of_another_shape(model, shape):
    with pytest.raises(ValueError, match=r"(multiples of 32|channels, height, width\)), got \(.*3, "):
        model.vision_encoder(torch.zeros(shape))


# Errors

EMBEDDINGS = [torch.zeros(2, 8, 32, 32), torch.zeros(2, 16, 16, 16), torch.zeros(2, 64, 8, 8)]
PIXELS = torch.zeros(2, 3, 128, 128)
REJECTED = {
    "neither": ({}, "exactly one of pixel_values and image_embeddings must be given, got neither"),
    "both": ({"pixel_values": PIXELS, "image_embeddings": EMBEDDINGS}, "must be given, got both"),
    "size": (
        {"pixel_values": PIXELS[..., :64]},
        r"the configured size 128x128 \(height x width\), got \(2, 3, 128, 64",
    ),
    "picture_without_batch": ({"pixel_values": PIXELS[0]}, r"must be a tensor of shape \(batch_size, channels"),
    "one_embedding": ({"image_embeddings": EMBEDDINGS[-1]}, "image_embeddings must be the three maps.*got Tensor"),
    "two_embeddings": ({"image_embeddings": EMBEDDINGS[1:]}, "image_embeddings must be the three maps"),
    "embeddings_of_another_size": (
        {"image_embeddings": [fm[..., :4] for fm in EMBEDDINGS]},
        r"of shapes \(batch_size, 8, 32, 32\), \(.*, 16, 16, 16\), \(.*, 64, 8, 8\), got \[\(2, 8, 32, 4\)",
    ),
}
REJECTED_PROMPTS = {
    "points_without_objects": (
        {"input_points": CLICKS[:, 0]},
        r"input_points must be a tensor of shape \(batch_size, num_objects, num_points, 2\), got \(2, 1, 2\)",
    ),
    "points_in_space": ({"input_points": torch.zeros(2, 1, 1, 3)}, r"input_points must be .* got \(2, 1, 1, 3\)"),
    "points_as_list": ({"input_points": [[[[1, 2]]]]}, "input_points must be a tensor .* got list"),
    "points_of_another_batch": (
        {"input_points": CLICKS[:1]},
        r"input_points must have the batch size of the pictures, 2, got shape \(1, 1, 1, 2\)",
    ),
    "labels_alone": ({"input_labels": MORE_LABELS}, "one label per point of input_points, .* of shape None"),
    "labels_of_boxes": ({"input_labels": MORE_LABELS, "input_boxes": BOXES}, "one label per point of input_points"),
    "labels_of_another_count": (
        {"input_points": CLICKS, "input_labels": MORE_LABELS},
        r"got shape \(2, 1, 3\) for input_points of shape \(2, 1, 1, 2\)",
    ),
    "labels_of_another_rank": (
        {"input_points": CLICKS, "input_labels": MORE_LABELS[:, 0]},
        r"input_labels must be a tensor of shape \(batch_size, num_objects, num_points\), got \(2, 3\)",
    ),
    "box_without_objects": (
        {"input_boxes": BOXES[:, 0]},
        r"input_boxes must be a tensor of shape \(batch_size, num_objects, 4\), got \(2, 4\)",
    ),
    "boxes_as_corners": ({"input_boxes": BOXES.unflatten(-1, (2, 2))}, "input_boxes must be a tensor of shape"),
    "boxes_of_another_batch": ({"input_boxes": BOXES[:1]}, "input_boxes must have the batch size of the pictures"),
    "mask_without_batch": ({"input_masks": MASKS[0, 0]}, r"input_masks must be a tensor .* got \(32, 32\)"),
    "masks_of_another_batch": ({"input_masks": MASKS[:1]}, "input_masks must have the batch size of the pictures, 2"),
    "clicks_and_boxes": (
        {"input_points": CLICKS, "input_boxes": MORE_BOXES},
        r"the same number of objects, got \{'input_points': 1, 'input_boxes': 2\}",
    ),
    "masks_and_boxes": (
        {"input_masks": MASKS.expand(-1, 3, -1, -1), "input_boxes": MORE_BOXES},
        r"the same number of objects, got \{'input_boxes': 2, 'input_masks': 3\}",
    ),
}


@pytest.mark.parametrize("case", REJECTED)
def test_forward_rejects_pictures(model, case):
    inputs, message = REJECTED[case]
    with pytest.raises(ValueError, match=message):
        model(**inputs)


@pytest.mark.parametrize("case", REJECTED_PROMPTS)
def test_forward_rejects_prompts(model, embeddings, case):
    prompts, message = REJECTED_PROMPTS[case]
    with pytest.raises(ValueError, match=message):
        call(model, embeddings, **prompts)


def test_forward_takes_whatever_the_processor_returns(model, pictures):
    sizes = torch.tensor([[10, 20], [30, 40]])
    with torch.no_grad():
        extended = model(pixel_values=pictures, input_points=CLICKS, original_sizes=sizes, reshaped_input_sizes=sizes)
        assert_outputs_close(extended, model(pixel_values=pictures, input_points=CLICKS), atol=0.0)


# Selection of masks


@pytest.fixture
def prediction():
    """Predictions for four objects: stable, unstable, nearly stable and empty single masks."""
    masks = torch.full((4, 1, 4, 10, 10), -8.0)
    masks[:, :, 1:] = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    single = masks[:, 0, 0]
    single[0, :5] = 8.0
    single[1, :5], single[1, 5] = 8.0, 0.01  # 50 of 60 pixels survive a shift of the threshold
    single[2, :5], single[2, 5, 0] = 8.0, -0.01  # 50 of 51
    scores = torch.tensor([[0.1, 0.2, 0.9, 0.3], [0.1, 0.2, 0.4, 0.6], [0.9, 0.7, 0.3, 0.2], [0.5, 0.6, 0.6, 0.7]])
    return MaskPrediction(masks, scores[:, None], random((4, 1, 4, 64)), torch.zeros(4, 1, 1), None)


def make_decoder(**settings):
    decoder = EdgeTamModel(small_config(64)).mask_decoder.eval()
    for name, value in settings.items():
        setattr(decoder.config, f"dynamic_multimask_{name}", value)
    return decoder


def choose(prediction, is_multimask, **settings):
    return make_decoder(**settings).choose_masks(prediction, torch.full((4, 1), is_multimask))


def test_multimask_output_is_the_best_of_three(prediction):
    chosen = choose(prediction, True)
    objects, best = torch.arange(4), torch.tensor([2, 3, 1, 3])
    assert torch.equal(chosen.masks[:, 0], prediction.masks[objects, 0, best])
    assert torch.equal(chosen.iou_scores[:, 0], prediction.iou_scores[objects, 0, best])
    assert torch.equal(chosen.tokens[:, 0], prediction.mask_tokens[objects, 0, best])


def test_single_mask_is_replaced_by_the_best_of_three_if_unstable(prediction):
    chosen = choose(prediction, False)
    objects, mask_idx = torch.arange(4), torch.tensor([0, 3, 0, 0])
    assert torch.equal(chosen.masks[:, 0], prediction.masks[objects, 0, mask_idx])
    assert torch.equal(chosen.iou_scores[:, 0], prediction.iou_scores[objects, 0, mask_idx])
    assert torch.equal(chosen.tokens, prediction.mask_tokens[:, :, 0])


def test_masks_are_chosen_for_each_object(prediction):
    chosen = make_decoder().choose_masks(prediction, torch.tensor([[True], [False], [False], [True]]))
    assert torch.equal(chosen.masks[:, 0], prediction.masks[torch.arange(4), 0, torch.tensor([2, 3, 0, 3])])
    assert torch.equal(chosen.tokens[:, 0], prediction.mask_tokens[torch.arange(4), 0, torch.tensor([2, 0, 0, 3])])


@pytest.mark.parametrize(
    "settings, chosen",
    [
        ({"via_stability": False}, [0, 0, 0, 0]),
        ({"stability_delta": 0.005}, [0, 0, 0, 0]),
        ({"stability_thresh": 0.5}, [0, 0, 0, 0]),
        ({"stability_thresh": 0.99}, [0, 3, 1, 0]),
    ],
)
def test_single_mask_follows_the_configuration(prediction, settings, chosen):
    masks = choose(prediction, False, **settings).masks
    assert torch.equal(masks[:, 0], prediction.masks[torch.arange(4), 0, torch.tensor(chosen)])
