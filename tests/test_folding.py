"""Folded weights: they change no result, and nobody notices them but the clock."""

import copy
import gc
import io

import pytest
import torch
from edgetam_hf.folding_edgetam import FoldedModule
from edgetam_hf.modeling_edgetam import EdgeTamModel
from small_models import assert_outputs_close, make_model, make_native, random, small_config
from torch import nn

from edgetam_hf import nano_checkpoint

PICTURE = random((2, 3, 64, 64))
POINTS = 64 * torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
ROUNDING = 2e-5


def config_with_few_heads(**kwargs):
    """A configuration in which projections move to the tokens' side, as they do in the released one."""
    config = small_config(64, **kwargs)
    config.mask_decoder_config.num_attention_heads = 2
    return config


@pytest.fixture
def model():
    return make_model(config=config_with_few_heads())


def run(model, **prompts):
    return model(pixel_values=PICTURE, input_points=POINTS, **prompts)


@torch.no_grad()
def predict(model, **prompts):
    return run(model, **prompts)


def unfolded(model):
    """A copy that computes step by step: what has a hook is called as it is."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            module.register_forward_hook(lambda module, arguments, output: None)
    return twin


def assert_follows(model):
    """The model predicts what its weights say now."""
    assert_outputs_close(predict(model), predict(unfolded(model)), ROUNDING)


def num_kept(model):
    return sum(module._folded is not None for module in model.modules() if isinstance(module, FoldedModule))


# Equal results


@pytest.mark.parametrize(
    "prompts",
    [
        {},
        {"multimask_output": False},
        {"input_masks": 5 * random((2, 3, 16, 16))},
        {"input_labels": torch.tensor([[[1, 0], [1, -10], [1, 1]]]).expand(2, -1, -1)},
        {"attention_similarity": random((6, 2, 9, 16)), "target_embedding": random((2, 3, 9, 64))},
    ],
    ids=["clicks", "one mask", "mask input", "padding", "PerSAM"],
)
def test_folded_equals_unfolded_and_native(model, prompts):
    assert_outputs_close(predict(model, **prompts), predict(unfolded(model), **prompts), ROUNDING)
    assert num_kept(model) > 40
    if "input_labels" not in prompts and "input_masks" not in prompts:  # where native is wrong
        assert_outputs_close(predict(model, **prompts), predict(make_native(model), **prompts), 1e-4)


def test_folded_features_equal_unfolded_ones(model):
    with torch.no_grad():
        maps, expected = (m.get_image_embeddings(PICTURE) for m in (model, unfolded(model)))
    for actual, wanted in zip(maps, expected):
        torch.testing.assert_close(actual, wanted, atol=ROUNDING, rtol=1e-5)
    assert all(feature_map.is_contiguous(memory_format=torch.channels_last) for feature_map in maps)


@pytest.mark.parametrize("levels", [[1, 2, 3], [0, 1, 2, 3], [3]])
def test_projections_are_merged_only_where_maps_stay_alone(levels):
    config = config_with_few_heads()
    config.vision_config.fpn_top_down_levels = levels
    assert_follows(make_model(config=config))


def test_many_clicks_leave_projections_to_the_image(model):
    points = 64 * torch.rand(2, 3, 12, 2)
    for num_clicks in (7, 8, 9, 12):  # 16 tokens are the border here
        prompts = {"pixel_values": PICTURE, "input_points": points[:, :, :num_clicks]}
        with torch.no_grad():
            assert_outputs_close(model(**prompts), unfolded(model)(**prompts), ROUNDING)


def test_weights_of_attention_equal_those_of_the_unfolded_model(model):
    options = {"output_attentions": True}
    actual, expected = (predict(m, **options).mask_decoder_attentions for m in (model, unfolded(model)))
    for weights, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(weights, wanted, atol=1e-5, rtol=0)


def test_half_precision_folds_in_full_precision(model):
    model = model.to(torch.bfloat16)
    with torch.no_grad():
        mixer = model.vision_encoder.backbone.timm_model.stages_0.blocks[0].token_mixer
        weight, _ = mixer.folded(mixer.fold, *mixer.conv.weights(), *mixer.conv1.weights())
        precise = copy.deepcopy(mixer).float()
        expected, _ = precise.folded(precise.fold, *precise.conv.weights(), *precise.conv1.weights())
    assert torch.equal(weight, expected.to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_half_precision_folds_norms_as_they_were_saved(model, tmp_path, dtype):
    model.save_pretrained(tmp_path)
    loaded = EdgeTamModel.from_pretrained(tmp_path, dtype=dtype)
    precise, actual = (m.vision_encoder.backbone.timm_model.stem.conv1 for m in (model, loaded))
    precise.c.weight.data = precise.c.weight.to(dtype).to(torch.promote_types(dtype, torch.float32))
    assert loaded.dtype == actual.c.weight.dtype == dtype
    with torch.no_grad():
        for folded, expected in zip(actual.folded(actual.fold, *actual.weights()), precise.fold(*precise.weights())):
            torch.testing.assert_close(folded, expected.to(dtype), atol=1e-6 if dtype == torch.float64 else 0, rtol=0)
    points = POINTS.to(dtype)
    for one in (loaded, unfolded(loaded)):  # what is not folded normalises maps of this dtype
        output = one(pixel_values=PICTURE.to(dtype), input_points=points)
        assert output.pred_masks.dtype == dtype and output.pred_masks.isfinite().all()


@torch.no_grad()
def test_bfloat16_that_is_loaded_is_nearer_to_float32_than_bfloat16_that_is_cast():
    pixels = random((2, 3, 256, 256))
    precise = EdgeTamModel.from_pretrained(nano_checkpoint(), dtype=torch.float32)
    expected = precise.get_image_embeddings(pixels)
    loaded = EdgeTamModel.from_pretrained(nano_checkpoint(), dtype=torch.bfloat16)
    maps = (m.get_image_embeddings(pixels.bfloat16()) for m in (loaded, precise.to(torch.bfloat16)))
    for near, far, wanted in zip(*maps, expected, strict=True):
        assert (near - wanted).norm() < 0.95 * (far - wanted).norm()


# Unnoticed


def test_state_and_checkpoint_are_those_of_the_unfolded_model(model, tmp_path):
    names, tensors = list(model.state_dict()), {name: t.clone() for name, t in model.state_dict().items()}
    predict(model)
    assert list(model.state_dict()) == names
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
    model.save_pretrained(tmp_path)
    assert_outputs_close(predict(EdgeTamModel.from_pretrained(tmp_path)), predict(model), ROUNDING)


def test_other_weights_are_followed(model):
    other = make_model(config=config_with_few_heads(), seed=1)
    before = predict(model).pred_masks
    model.load_state_dict(other.state_dict())
    assert_outputs_close(predict(model), predict(other), 0)
    assert not torch.allclose(predict(model).pred_masks, before, atol=0.1)
    model.load_state_dict(make_model(config=config_with_few_heads(), seed=2).state_dict(), assign=True)
    assert_follows(model)


def test_weights_written_in_place_or_replaced_are_followed(model):
    predict(model)
    mixer = model.vision_encoder.backbone.timm_model.stages_1.blocks[0].token_mixer
    with torch.no_grad():
        mixer.conv.c.weight.mul_(1.5)
    assert_follows(model)
    mixer.conv1.bn.running_mean += 0.3
    assert_follows(model)
    model.shared_image_embedding.positional_embedding *= 1.5
    assert_follows(model)
    mixer.conv.bn.weight = nn.Parameter(mixer.conv.bn.weight.detach() * 2)
    gc.collect()
    assert_follows(model)


def test_weights_written_through_data_are_followed_after_eval(model):
    predict(model)
    for parameter in model.vision_encoder.parameters():
        parameter.data.mul_(0.9)
    assert_follows(model.eval())


def test_optimiser_step_in_eval_mode_is_followed(model):
    predict(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    run(model).pred_masks.square().mean().backward()
    optimiser.step()
    assert_follows(model)


def test_training_mode_normalises_with_the_batch(model):
    predict(model)
    twin = unfolded(model).train()
    assert_outputs_close(predict(model.train()), predict(twin), ROUNDING)
    for module, other in zip(model.modules(), twin.modules()):
        if isinstance(module, nn.BatchNorm2d):
            torch.testing.assert_close(module.running_mean, other.running_mean)
    assert_follows(model.eval())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_with_fixed_statistics_equal_those_of_the_unfolded_model(model, checkpointing):
    twin = unfolded(model)
    for m in (model, twin):
        m.train()
        for module in m.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        if checkpointing:
            m.gradient_checkpointing_enable()
        run(m).pred_masks.square().mean().backward()
    expected = dict(twin.named_parameters())
    assert sum(parameter.grad is not None for parameter in model.parameters()) > 300
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            assert expected[name].grad is None or not expected[name].grad.abs().max() > 1e-6, name
        else:
            torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-4, rtol=1e-3, msg=name)
    assert num_kept(model.vision_encoder) == 0


def test_moving_and_casting_are_followed(model):
    expected = predict(model)
    double = model.double()
    assert predict_as(double, torch.float64).pred_masks.dtype == torch.float64
    assert_outputs_close(predict(double.float()), expected, ROUNDING)
    model.to("meta")
    assert all(tensor.is_meta for tensor in model.state_dict().values())


@torch.no_grad()
def predict_as(model, dtype):
    return model(pixel_values=PICTURE.to(dtype), input_points=POINTS)


def test_copies_and_pickles_hold_no_folded_weights(model):
    fresh = io.BytesIO()
    torch.save(model, fresh)
    expected = predict(model)
    used, twin = io.BytesIO(), copy.deepcopy(model)
    torch.save(model, used)
    assert num_kept(model) > 40 and num_kept(twin) == 0
    assert abs(len(used.getvalue()) - len(fresh.getvalue())) < 2000
    used.seek(0)
    assert_outputs_close(predict(torch.load(used, weights_only=False)), expected, 0)
    with torch.no_grad():
        twin.mask_decoder.conv_s0.weight.zero_()
    assert_outputs_close(predict(model), expected, 0)


def test_weights_made_in_inference_mode_are_folded(model):
    with torch.inference_mode():
        twin = make_model(config=config_with_few_heads())
        assert_outputs_close(predict(twin), predict(model), 0)
    assert_outputs_close(predict(twin), predict(model), 0)


@pytest.mark.parametrize("device_map", [{"": "cpu"}, {"": "disk"}])
def test_offloaded_weights_stay_where_they_are(model, device_map, tmp_path):
    model.save_pretrained(tmp_path / "model")
    loaded = EdgeTamModel.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "offloaded"
    )
    assert_outputs_close(predict(loaded), predict(model), ROUNDING)
    if device_map[""] == "disk":
        assert next(loaded.vision_encoder.parameters()).is_meta and num_kept(loaded.vision_encoder) == 0


def test_lora_layers_are_computed(model):
    peft = pytest.importorskip("peft", reason="LoRA needs peft: pip install peft")
    names = r".*(channel_mixer.conv\d.c|[qkvo]_proj|conv_s[01])"
    lora = peft.get_peft_model(
        copy.deepcopy(model), peft.LoraConfig(r=2, target_modules=names, init_lora_weights=False)
    )
    lora = lora.eval()
    actual = predict(lora.base_model.model)
    assert not torch.allclose(actual.pred_masks, predict(model).pred_masks, atol=1e-2)
    merged = lora.merge_and_unload()
    assert_outputs_close(predict(merged), actual, 1e-4)
    assert_follows(merged)


@torch.no_grad()
def test_autocast_leaves_later_results_as_they_are(model):
    expected = predict(copy.deepcopy(model))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = predict(model)
    assert half.pred_masks.dtype == torch.bfloat16
    assert_outputs_close(predict(model), expected, 0)
    assert (half.pred_masks.float() - expected.pred_masks).abs().mean() < 0.1 * expected.pred_masks.std()


class Scaled(torch.Tensor):
    """A weight that is more than numbers, as quantised ones are: it can be read, but not cut into pieces."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.flatten, torch.Tensor.unflatten, torch.Tensor.view, torch.Tensor.data_ptr):
            raise NotImplementedError(f"no {function} of a quantised weight")
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **(kwargs or {}))
        return result.as_subclass(cls) if function is torch.Tensor.detach else result


def test_weights_that_are_more_than_numbers_are_left_to_their_modules(model):
    expected = predict(model)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.weight = nn.Parameter(module.weight.detach().as_subclass(Scaled), requires_grad=False)
            assert type(module.weight) is not nn.Parameter
    assert_outputs_close(predict(model), expected, ROUNDING)


def test_weights_quantised_by_torchao_are_left_to_their_modules(model):
    quantization = pytest.importorskip("torchao.quantization", reason="int8 weights need torchao: pip install torchao")
    expected = predict(model)
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    output = predict(model)
    assert (output.pred_masks - expected.pred_masks).abs().mean() < 0.1 * expected.pred_masks.std()
