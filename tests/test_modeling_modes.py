"""Ways to run the image model: attention backends, precisions, compilation, training and further outputs."""

import copy
import importlib.util

import pytest
import torch
from edgetam_hf.modeling_edgetam import EdgeTamModel
from small_models import assert_outputs_close, random, small_config

PICTURE = random((1, 3, 64, 64))
POINTS = torch.tensor([[[[15.0, 20.0], [45, 10]]]])
BOXES = torch.tensor([[[5.0, 6, 30, 25]]])
MASKS = 5 * random((1, 1, 16, 16))
PROMPTS = {
    "click": {"input_points": POINTS},
    "box_and_click": {"input_points": POINTS, "input_boxes": BOXES},
    "mask": {"input_masks": MASKS},
}


@pytest.fixture(scope="module")
def small(model):
    """A model of 64x64 pixels, with the weights of `model`."""
    return with_attention(model, None)


def with_attention(model, attention):
    kwargs = {} if attention is None else {"attn_implementation": attention}
    twin = EdgeTamModel._from_config(small_config(64), **kwargs).eval()
    twin.load_state_dict(model.state_dict())
    return twin


@torch.no_grad()
def predict(model, **prompts):
    return model(pixel_values=PICTURE, **prompts)


# Attention


@pytest.mark.parametrize("name", PROMPTS)
def test_eager_attention_equals_sdpa(model, small, name):
    eager = with_attention(model, "eager")
    assert eager.config._attn_implementation == "eager" and small.config._attn_implementation == "sdpa"
    assert_outputs_close(predict(eager, **PROMPTS[name]), predict(small, **PROMPTS[name]), atol=1e-5)


def test_eager_attention_equals_sdpa_with_padding_and_similarity(model, small):
    prompts = {
        "input_points": POINTS,
        "input_labels": torch.tensor([[[1, -10]]]),
        "attention_similarity": random((1, 8, 9, 16)),
    }
    eager = with_attention(model, "eager")
    assert_outputs_close(predict(eager, **prompts), predict(small, **prompts), atol=1e-5)


def test_flex_attention_equals_eager(model):
    flex, eager = with_attention(model, "flex_attention"), with_attention(model, "eager")
    assert_outputs_close(predict(flex, input_points=POINTS), predict(eager, input_points=POINTS), atol=1e-4)


def test_attention_can_be_changed_later(model, small):
    changed = with_attention(model, None)
    changed.set_attn_implementation("eager")
    assert changed.mask_decoder.config._attn_implementation == "eager"
    assert_outputs_close(predict(changed, input_boxes=BOXES), predict(small, input_boxes=BOXES), atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="flash_attn is installed")
def test_flash_attention_rejects_a_missing_package(model):
    with pytest.raises(ImportError, match=r"(?i)flash.?attention.?2"):
        with_attention(model, "flash_attention_2")


# Further outputs


def test_output_hidden_states_are_the_stages_of_the_backbone(small):
    output = predict(small, input_points=POINTS, output_hidden_states=True)
    shapes = [(1, 16, 16, 16), (1, 8, 8, 32), (1, 4, 4, 64), (1, 2, 2, 128)]
    assert [tuple(stage.shape) for stage in output.vision_hidden_states] == shapes
    with torch.no_grad():
        for stage, expected in zip(output.vision_hidden_states, small.vision_encoder.backbone(PICTURE), strict=True):
            assert torch.equal(stage, expected.permute(0, 2, 3, 1))
        vision = small.vision_encoder(PICTURE, output_hidden_states=True)
    assert [tuple(stage.shape) for stage in vision.hidden_states] == shapes
    assert torch.equal(vision.last_hidden_state, vision.hidden_states[-1])


def test_output_attentions_are_distributions_and_change_nothing(small):
    output = predict(small, input_boxes=BOXES.expand(-1, 2, -1), output_attentions=True)
    assert [tuple(weights.shape) for weights in output.mask_decoder_attentions] == 3 * [(2, 8, 9, 16)]
    for weights in output.mask_decoder_attentions:
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 8, 9))
    plain = predict(small, input_boxes=BOXES.expand(-1, 2, -1))
    assert plain.mask_decoder_attentions is None and plain.vision_hidden_states is None
    assert_outputs_close(output, plain, atol=1e-5)


def test_configuration_asks_for_further_outputs(model):
    asking = with_attention(model, "eager")
    asking.config.output_hidden_states, asking.config.output_attentions = True, True
    output = predict(asking, input_points=POINTS)
    assert len(output.vision_hidden_states) == 4 and len(output.mask_decoder_attentions) == 3


def test_return_dict_false_returns_a_tuple(small):
    output, values = predict(small, input_points=POINTS), predict(small, input_points=POINTS, return_dict=False)
    assert isinstance(values, tuple) and len(values) == 4
    for actual, expected in zip(values[:3], output.to_tuple()[:3], strict=True):
        assert torch.equal(actual, expected)
    assert list(output) == ["iou_scores", "pred_masks", "object_score_logits", "image_embeddings"]


# Precision


@pytest.mark.parametrize("dtype, deviation", [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
@pytest.mark.parametrize("name", PROMPTS)
def test_half_precision_stays_near_full(small, dtype, deviation, name):
    """The mean deviation of logits, as a part of their standard deviation."""
    half = copy.deepcopy(small).to(dtype)
    actual, expected = predict(half, **PROMPTS[name]), predict(small, **PROMPTS[name])
    assert actual.pred_masks.dtype == actual.iou_scores.dtype == dtype
    difference = (actual.pred_masks.float() - expected.pred_masks).abs().mean()
    assert difference < deviation * expected.pred_masks.std()
    assert (actual.iou_scores.float() - expected.iou_scores).abs().max() < deviation


# Training


def losses(model, **prompts):
    """A number that every mask, score and object logit enters."""
    total = 0.0
    for multimask_output in (True, False):
        output = model(**prompts, multimask_output=multimask_output)
        total = total + output.pred_masks.square().mean() + output.iou_scores.sum() + output.object_score_logits.sum()
    return total


def gradients(model, **prompts):
    model.zero_grad(set_to_none=True)
    losses(model, **prompts).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", PROMPTS)
def test_gradients_reach_every_parameter_that_a_prompt_uses(small, name):
    training = copy.deepcopy(small).train()
    unused = {"prompt_encoder.no_mask_embed.weight"} if name == "mask" else set()
    if name != "mask":
        unused |= {key for key, _ in training.named_parameters() if "mask_embed." in key and "no_mask" not in key}
    else:
        unused.add("prompt_encoder.point_embed.weight")
    for key, gradient in gradients(training, pixel_values=PICTURE, **PROMPTS[name]).items():
        if key in unused:
            assert gradient is None or not gradient.any(), key
        elif not key.endswith("k_proj.bias"):  # softmax is invariant to it
            assert gradient is not None and gradient.isfinite().all() and gradient.any(), key


def test_gradients_pass_through_image_embeddings(small):
    training = copy.deepcopy(small)
    whole = gradients(training, pixel_values=PICTURE, input_points=POINTS)
    parts = gradients(training, image_embeddings=training.get_image_embeddings(PICTURE), input_points=POINTS)
    for key, gradient in whole.items():
        torch.testing.assert_close(parts[key], gradient, atol=1e-4, rtol=1e-3, msg=lambda m, k=key: f"{k}: {m}")


def test_gradient_checkpointing_changes_no_gradient(small):
    training = copy.deepcopy(small).train()
    expected = gradients(
        training, pixel_values=PICTURE.expand(2, -1, -1, -1), input_points=POINTS.expand(2, -1, -1, -1)
    )
    training.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert training.is_gradient_checkpointing
    actual = gradients(training, pixel_values=PICTURE.expand(2, -1, -1, -1), input_points=POINTS.expand(2, -1, -1, -1))
    for key, gradient in expected.items():
        if gradient is not None:
            torch.testing.assert_close(actual[key], gradient, atol=1e-5, rtol=1e-4, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.skipif(
    not hasattr(EdgeTamModel, "activation_checkpointing_enable"), reason="this Transformers knows the older name only"
)
@pytest.mark.filterwarnings("error")
def test_activation_checkpointing_warns_of_nothing_and_cuts_no_gradient(small):
    training = copy.deepcopy(small).train()
    training.activation_checkpointing_enable()
    settings = training.vision_encoder.backbone.timm_model.stages_0.blocks[0]._gradient_checkpointing_func.keywords
    assert settings == {"use_reentrant": False}


def test_training_returns_the_first_mask_token(small):
    """Even where it is unstable, so that its gradient is never cut."""
    training, plain = copy.deepcopy(small), copy.deepcopy(small)
    plain.mask_decoder.config.dynamic_multimask_via_stability = False
    training.mask_decoder.config.dynamic_multimask_stability_thresh = 1.1  # every mask is unstable
    first = predict(plain, input_points=POINTS, multimask_output=False)
    replaced = predict(training, input_points=POINTS, multimask_output=False)
    assert not torch.allclose(first.pred_masks, replaced.pred_masks)
    training.mask_decoder.train()
    assert_outputs_close(predict(training, input_points=POINTS, multimask_output=False), first, atol=0.0)


# Compilation


@pytest.mark.parametrize("name, multimask_output", [("box_and_click", True), ("mask", False)])
def test_compiled_whole_equals_eager(small, name, multimask_output):
    prompts = {**PROMPTS[name], "multimask_output": multimask_output}
    torch._dynamo.reset()
    compiled = torch.compile(small, backend="aot_eager", fullgraph=True)
    assert_outputs_close(predict(compiled, **prompts), predict(small, **prompts), atol=1e-5)


def test_compiled_with_inductor_equals_eager(small):
    torch._dynamo.reset()
    with torch.no_grad():
        embeddings = small.get_image_embeddings(PICTURE)
        compiled = torch.compile(small, fullgraph=True)
        actual = compiled(image_embeddings=embeddings, input_points=POINTS)
        assert_outputs_close(actual, small(image_embeddings=embeddings, input_points=POINTS), atol=1e-4)
