"""Gradients flow wherever somebody asks for them: to pictures, embeddings, prompts, hidden states and attentions."""

import copy

import pytest
import torch
from edgetam_hf.modeling_edgetam import EdgeTamModel
from small_models import make_model, make_native, random, small_config
from torch import nn

PICTURE = random((1, 3, 64, 64))
POINTS = torch.tensor([[[[15.0, 20.0], [45, 10]]]])


@pytest.fixture
def model():
    config = small_config(64)
    config.mask_decoder_config.num_attention_heads = 2
    return make_model(config=config)


@pytest.mark.parametrize("checkpointing", [None, False, True])
@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("learning", ["nothing", "decoder", "everything"])
def test_gradient_reaches_an_adapter_ahead_of_the_model(model, learning, is_training, checkpointing):
    """Whatever of the model learns; `checkpointing` is whether that is reentrant."""
    model.requires_grad_(learning == "everything").train(is_training)
    model.mask_decoder.requires_grad_(learning != "nothing")
    if checkpointing is not None:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": checkpointing})
    adapter = nn.Conv2d(4, 3, 1)
    model(
        pixel_values=adapter(random((2, 4, 64, 64))), input_points=POINTS.expand(2, -1, -1, -1)
    ).pred_masks.sum().backward()
    assert adapter.weight.grad.abs().min() > 0


def test_gradient_of_a_picture_equals_that_of_native(model):
    native, gradients = make_native(model), []
    for m in (model.requires_grad_(False).train(), native):
        picture = PICTURE.clone().requires_grad_()
        m(
            pixel_values=picture, input_points=POINTS, input_labels=torch.ones(1, 1, 2).long()
        ).pred_masks.mean().backward()
        gradients.append(picture.grad)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


def test_gradient_reaches_what_a_hook_adds_inside_a_frozen_encoder(model):
    model.requires_grad_(False).train()
    offset = torch.zeros(1, 32, 1, 1, requires_grad=True)
    stage = model.vision_encoder.backbone.timm_model.stages_1
    stage.register_forward_hook(lambda module, arguments, output: output + offset)
    model(pixel_values=PICTURE, input_points=POINTS).pred_masks.sum().backward()
    assert offset.grad.abs().min() > 0


@pytest.mark.parametrize("is_training", [False, True])
def test_gradients_reach_everything_that_is_given(model, is_training):
    model.requires_grad_(False).train(is_training)
    with torch.no_grad():
        embeddings = model.get_image_embeddings(PICTURE)
    given = {
        "input_points": POINTS.clone(),
        "input_boxes": torch.tensor([[[5.0, 6, 30, 25]]]),
        "input_masks": 5 * random((1, 1, 20, 20)),
        "attention_similarity": random((1, 2, 11, 16)),
        "target_embedding": random((1, 1, 1, 64)),
    }
    leaves = [*embeddings, *given.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    model(image_embeddings=embeddings, **given).pred_masks.sum().backward()
    assert all(leaf.grad is not None and leaf.grad.any() for leaf in leaves)
    sparse, dense = model.get_prompt_embeddings(input_points=given["input_points"], input_masks=given["input_masks"])
    assert sparse.requires_grad and dense.requires_grad


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_cuts_no_gradient_of_an_attention_bias(model, reentrant):
    model.train().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    similarity = random((1, 2, 9, 16)).requires_grad_()
    model(pixel_values=PICTURE, input_points=POINTS, attention_similarity=similarity).pred_masks.sum().backward()
    assert similarity.grad.any()


def test_folded_weights_of_inference_mode_serve_gradients_of_pictures(model):
    model.requires_grad_(False)
    with torch.inference_mode():
        model(pixel_values=PICTURE, input_points=POINTS)
    picture = PICTURE.clone().requires_grad_()
    model(pixel_values=picture, input_points=POINTS).pred_masks.sum().backward()
    assert picture.grad.any()


def test_weights_that_learn_again_get_their_gradients(model):
    model.requires_grad_(False)
    model(pixel_values=PICTURE, input_points=POINTS)
    model.requires_grad_(True)
    model(pixel_values=PICTURE, input_points=POINTS).pred_masks.sum().backward()
    assert all(parameter.grad is not None for parameter in model.vision_encoder.parameters())


def test_hidden_states_and_attentions_lie_on_the_way_of_the_gradient(model):
    output = model(pixel_values=PICTURE, input_points=POINTS, output_hidden_states=True, output_attentions=True)
    kept = (*output.vision_hidden_states, *output.mask_decoder_attentions)
    for states in kept:
        states.retain_grad()
    output.pred_masks.sum().backward()
    assert all(states.grad is not None and states.grad.any() for states in kept)
    vision = model.vision_encoder(PICTURE, output_hidden_states=True)
    for states in vision.hidden_states:
        states.retain_grad()
    sum(fm.sum() for fm in vision.fpn_hidden_states).backward()
    assert all(states.grad is not None for states in vision.hidden_states)


def test_input_embeddings_give_gradients_to_adapters_behind_checkpoints(model):
    """As PEFT asks for it: everything is frozen but an adapter, and activations are computed anew."""
    assert model.get_input_embeddings() is model.vision_encoder.get_input_embeddings()
    model.requires_grad_(False).train()
    block = model.vision_encoder.backbone.timm_model.stages_0.blocks[0]
    block.channel_mixer.conv1.c.weight.requires_grad_()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    model.enable_input_require_grads()
    model(pixel_values=PICTURE, input_points=POINTS).pred_masks.sum().backward()
    assert block.channel_mixer.conv1.c.weight.grad.any()


PROMPTS = {
    "simulated": {},
    "points": {"input_points": POINTS},
    "boxes": {"input_boxes": torch.tensor([[[5.0, 6, 30, 25]]])},
    "masks": {"input_masks": 5 * random((1, 1, 16, 16))},
    "all": {"input_points": POINTS, "input_masks": 5 * random((1, 1, 16, 16))},
}


@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("multimask_output", [True, False])
def test_every_parameter_takes_part_in_the_loss_of_distributed_training(model, prompts, multimask_output, monkeypatch):
    """`DistributedDataParallel` waits for each, with checkpointing as the Trainer sets it up."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    model.train()
    masks = torch.zeros(1, 1, 64, 64)
    masks[..., 10:40, 10:40] = 1
    model(
        pixel_values=PICTURE, mask_labels=masks, multimask_output=multimask_output, **PROMPTS[prompts]
    ).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_parameters_that_prompts_do_not_need_are_left_alone_in_one_process(model):
    masks = torch.ones(1, 1, 64, 64)
    model.train()(pixel_values=PICTURE, mask_labels=masks, **PROMPTS["boxes"]).loss.backward()
    assert all(parameter.grad is None for parameter in model.prompt_encoder.mask_embed.parameters())


def test_frozen_encoder_is_folded_in_training(model):
    model.requires_grad_(False).train()
    model.mask_decoder.requires_grad_(True)
    plain = copy.deepcopy(model)
    for module in plain.modules():
        module.register_forward_hook(lambda *_: None)
    outputs = [m(pixel_values=PICTURE, input_points=POINTS) for m in (model, plain)]
    torch.testing.assert_close(outputs[0].pred_masks, outputs[1].pred_masks, atol=3e-5, rtol=0)
    stem = model.vision_encoder.backbone.timm_model.stem.conv1
    assert stem._folded is not None and not outputs[0].image_embeddings[2].requires_grad


def test_positional_embedding_starts_as_zeros():
    from edgetam_hf.prompt_encoder_edgetam import EdgeTamPositionalEmbedding

    config = small_config(64).prompt_encoder_config
    assert not EdgeTamPositionalEmbedding(config).positional_embedding.any()
    assert EdgeTamModel(small_config(64)).shared_image_embedding.positional_embedding.all()
