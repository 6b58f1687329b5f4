"""Modules are called as native calls them: hooks, compiled, wrapped and replaced parts work, and results stay."""

import copy

import pytest
import torch
from small_models import (
    assert_outputs_close,
    make_model,
    make_native,
    make_native_video,
    make_video_model,
    random,
    small_config,
    small_video_config,
)
from test_video_modeling import native_processor, track
from torch import nn

PICTURE = random((1, 3, 64, 64))


@pytest.fixture
def model():
    config = small_config(64)
    config.mask_decoder_config.num_attention_heads = 2  # as in the released one, projections move to the tokens
    return make_model(config=config)


def prompts_of(name):
    return {
        "click": {"input_points": torch.tensor([[[[15.0, 20]]]]), "input_labels": torch.ones(1, 1, 1).long()},
        "clicks": {"input_points": 64 * torch.rand(1, 3, 2, 2), "input_labels": torch.ones(1, 3, 2).long()},
        "boxes": {"input_boxes": torch.tensor([[[5.0, 6, 30, 25], [1, 1, 9, 9]]])},
        "mask": {"input_masks": random((1, 1, 16, 16))},
    }[name]


def called(model, run):
    """Names of the modules whose forward hooks fire."""
    names = set()
    handles = [
        module.register_forward_hook(lambda module, arguments, output, name=name: names.add(name))
        for name, module in model.named_modules()
    ]
    with torch.no_grad():
        run(model)
    for handle in handles:
        handle.remove()
    return names


def is_own(model, name):
    """Whether a module of native is one of ours: activations and position encodings, without weights, are functions."""
    return name in dict(model.named_modules())


@pytest.mark.parametrize("name", ["click", "clicks", "boxes", "mask"])
def test_hooks_fire_on_every_module_that_native_calls(model, name):
    native, prompts = make_native(model), prompts_of(name)
    ours, theirs = (called(m, lambda m: m(pixel_values=PICTURE, **copy.deepcopy(prompts))) for m in (model, native))
    assert theirs - ours == {missing for missing in theirs if not is_own(model, missing)}
    with_weights = {key.rpartition(".")[0] for key in native.state_dict()}
    assert with_weights <= set(dict(model.named_modules()))
    assert {"", "vision_encoder", "vision_encoder.neck", "vision_encoder.backbone", "shared_image_embedding"} <= ours
    assert "mask_decoder.transformer.layers.1.cross_attn_image_to_token" in ours


@pytest.mark.parametrize("call", ["get_image_embeddings", "get_image_features"])
def test_hooks_fire_while_pictures_are_encoded(model, call):
    ours, theirs = (called(m, lambda m: getattr(m, call)(PICTURE)) for m in (model, make_native(model)))
    assert theirs - ours == {missing for missing in theirs if not is_own(model, missing)}


def test_hooks_fire_on_every_module_that_native_calls_for_a_video(video_processor, clip):
    model = make_video_model(config=small_video_config(hidden_size=128))  # as native's object pointers need it
    prompts = [(0, 1, {"input_points": [[[[25, 45]]]], "input_labels": [[[1]]]})]
    ours = called(model, lambda m: track(m, video_processor, clip[:3], prompts))
    native = make_native_video(model)
    theirs = called(native, lambda m: track(m, native_processor(128), list(clip[:3]), prompts))
    assert theirs - ours == {missing for missing in theirs if not is_own(model, missing)}
    assert "memory_attention" in ours and "spatial_perceiver" in ours


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "global"])
def test_each_kind_of_hook_is_called_for_all_modules_of_the_encoder(model, kind):
    seen, handles = set(), []
    names = {module: name for name, module in model.vision_encoder.named_modules()}
    for module in names:
        register = getattr(module, f"register_{kind}_hook", None)
        if register is not None:
            handles.append(register(lambda module, *_: seen.add(names.get(module))))
    if kind == "global":
        register = nn.modules.module.register_module_forward_hook
        handles.append(register(lambda module, *_: seen.add(names.get(module))))
    try:
        picture = PICTURE.clone().requires_grad_()
        model(pixel_values=picture, **prompts_of("click")).pred_masks.mean().backward()
    finally:
        for handle in handles:
            handle.remove()
    expected = {name for module, name in names.items() if not isinstance(module, nn.ModuleList)}
    if kind == "full_backward":  # PyTorch has them for modules that give one tensor or a tuple
        expected -= {"", "neck", "backbone", "backbone.timm_model"}
    assert expected <= seen


def test_one_hook_on_a_part_that_folding_passes_by_fires_and_changes_no_result(model):
    reference = copy.deepcopy(model)
    with torch.no_grad():
        expected = reference(pixel_values=PICTURE, **prompts_of("click"))
        model(pixel_values=PICTURE, **prompts_of("click"))
        for name, module in model.named_modules():
            is_uncalled = isinstance(module, nn.ModuleList) or name.startswith("prompt_encoder.mask_embed")
            if is_uncalled or any(part in name for part in ("stages_2", "stages_3", "layers.1", "mlps.1", "mlps.2")):
                continue
            fired = []
            handle = module.register_forward_hook(lambda *_, fired=fired: fired.append(1))
            output = model(pixel_values=PICTURE, **prompts_of("click"))
            handle.remove()
            assert fired, name
            assert_outputs_close(output, expected, 3e-5)


def as_kept(output):
    """A copy, since native writes into the output."""
    return output if isinstance(output, tuple) else dict(output)


def test_hooks_on_the_encoder_see_what_native_gives(model):
    native, seen = make_native(model), {}
    for key, m in (("ours", model), ("native", native)):
        for part in (m.vision_encoder, m.vision_encoder.neck):
            part.register_forward_hook(
                lambda module, _, output, key=key: seen.setdefault(key, []).append(as_kept(output))
            )
        with torch.no_grad():
            m.get_image_embeddings(PICTURE)
    (neck, encoder), (native_neck, native_encoder) = seen["ours"], seen["native"]
    for maps, expected in [
        (neck[0], native_neck[0]),
        (neck[1], native_neck[1]),
        (encoder["fpn_hidden_states"], native_encoder["fpn_hidden_states"]),
        (encoder["fpn_position_encoding"], native_encoder["fpn_position_encoding"]),
        ([encoder["last_hidden_state"]], [native_encoder["last_hidden_state"]]),
    ]:
        for actual, wanted in zip(maps, expected, strict=True):
            torch.testing.assert_close(actual, wanted, atol=1e-4, rtol=0)


# Parts in other parts' place


def count_graphs(part):
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    return torch.compile(part, backend=count), graphs


PARTS = ["vision_encoder", "vision_encoder.neck", "vision_encoder.backbone", "mask_decoder", "prompt_encoder"]
PARTS += ["shared_image_embedding", "mask_decoder.transformer", "mask_decoder.conv_s0"]
PARTS += ["mask_decoder.transformer.layers.0.cross_attn_image_to_token"]


@pytest.mark.parametrize("name", PARTS)
def test_a_compiled_part_is_used_and_changes_no_result(model, name):
    with torch.no_grad():
        expected = model(pixel_values=PICTURE, **prompts_of("click"))
        parent, _, attribute = name.rpartition(".")
        compiled, graphs = count_graphs(model.get_submodule(name))
        setattr(model.get_submodule(parent), attribute, compiled)
        assert_outputs_close(model(pixel_values=PICTURE, **prompts_of("click")), expected, 3e-5)
    assert graphs


class Wrapper(nn.Module):
    """A module with the same `forward` as another, and nothing else of it."""

    def __init__(self, module):
        super().__init__()
        self.module, self.num_calls = module, 0

    def forward(self, *args, **kwargs):
        self.num_calls += 1
        return self.module(*args, **kwargs)


@pytest.mark.parametrize("name", [*PARTS[:3], *PARTS[6:], "vision_encoder.backbone.timm_model.stages_0"])
def test_a_wrapped_part_is_used_and_changes_no_result(model, name):
    with torch.no_grad():
        expected = model(pixel_values=PICTURE, **prompts_of("click"))
        parent, _, attribute = name.rpartition(".")
        wrapper = Wrapper(model.get_submodule(name))
        setattr(model.get_submodule(parent), attribute, wrapper)
        assert_outputs_close(model(pixel_values=PICTURE, **prompts_of("click")), expected, 3e-5)
    assert wrapper.num_calls == 1


@pytest.mark.parametrize("change", ["dilation", "padding_mode", "bias"])
def test_a_changed_convolution_computes_as_it_is(model, change):
    convolution = model.vision_encoder.backbone.timm_model.stages_1.downsample.spatial_downsample.c
    if change == "dilation":
        convolution.dilation, convolution.padding = (2, 2), (2, 2)
    elif change == "padding_mode":
        convolution.padding_mode = "reflect"
        convolution._reversed_padding_repeated_twice = [1, 1, 1, 1]
    else:
        convolution.bias = nn.Parameter(torch.ones(len(convolution.weight)))
    unfolded = copy.deepcopy(model)
    for module in unfolded.modules():
        module.register_forward_hook(lambda *_: None)
    with torch.no_grad():
        output, expected = (m(pixel_values=PICTURE, **prompts_of("click")) for m in (model, unfolded))
    assert_outputs_close(output, expected, 3e-5)


def test_a_wider_projection_computes_as_it_is(model):
    model.mask_decoder.conv_s0 = nn.Conv2d(64, 8, kernel_size=3, padding=1)
    model.mask_decoder.conv_s1 = nn.Sequential(model.mask_decoder.conv_s1)
    with torch.no_grad():
        maps = model.vision_encoder(PICTURE).fpn_hidden_states
        expected = [model.mask_decoder.conv_s0(maps[0]), model.mask_decoder.conv_s1(maps[1])]
        for actual, wanted in zip(model.get_image_embeddings(PICTURE), expected):
            torch.testing.assert_close(actual, wanted, atol=3e-5, rtol=0)
