"""Savings of the video model equal what they replace; frames read no value back and are compiled once."""

import copy

import pytest
import torch
import torch.nn.functional as F
from edgetam_hf.attention_edgetam import QUERIES_AT_ONCE, EdgeTamAttention
from edgetam_hf.memory_layers_edgetam import EdgeTamFrameAttention, EdgeTamMemoryCrossAttention
from edgetam_hf.position_edgetam import grid_rotation, rotate, sine_place_encoding, sine_position_encoding
from edgetam_hf.prompts_edgetam import Prompts
from edgetam_hf.stages_edgetam_video import Memories
from simulated_gpu import on_gpu
from small_models import make_video_model, random, small_video_config

from edgetam_hf import attention_edgetam, pieces_edgetam, position_edgetam

CLICKS = {"input_points": [[[[25, 45]], [[70, 20], [90, 70]]]], "input_labels": [[[1], [1, 0]]]}


def close(actual, expected, atol=1e-5):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def wide_model():
    """A model whose memory is narrower than its attention, as that of EdgeTAM is."""
    return make_video_model(config=small_video_config(hidden_size=128))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("num_heads, size", [(1, 128), (2, 256)])
@torch.no_grad()
def test_projected_averages_equal_averages_of_projections(attention, num_heads, size):
    config = small_video_config(hidden_size=size, memory_attention_num_attention_heads=num_heads)
    config._attn_implementation = attention
    cross_attention = EdgeTamMemoryCrossAttention(config, 64).eval()
    num_queries = QUERIES_AT_ONCE + 88  # the last block is smaller
    states, keys, memory = random((1, num_queries, size)), random((2, 40, 64), 1), random((2, 40, 64), 2)
    rotation, latent_rotation = (
        grid_rotation(*sides, size // num_heads, 100.0, keys.device) for sides in ((25, 24), (4, 4))
    )
    query, key, value = cross_attention.project(states, keys, memory)
    key = torch.cat((rotate(key[:, :, :16], latent_rotation), key[:, :, 16:]), dim=2)
    expected = F.scaled_dot_product_attention(rotate(query, rotation).expand(2, -1, -1, -1), key, value)
    expected = cross_attention.o_proj(expected.transpose(1, 2).flatten(2))
    close(cross_attention(states, keys, memory, rotation, latent_rotation), expected)
    half = copy.deepcopy(cross_attention).bfloat16()
    actual = half(*(part.bfloat16() for part in (states, keys, memory)), rotation, latent_rotation)
    assert (actual.float() - expected).abs().mean() < 0.02 * expected.std()


@pytest.mark.parametrize("has_amx", [False, True])
@torch.no_grad()
def test_bfloat16_attention_in_blocks_and_in_one_kernel_are_near_float32(monkeypatch, has_amx):
    monkeypatch.setattr(attention_edgetam, "has_amx", lambda: has_amx)  # which prefers the kernel
    config = small_video_config(hidden_size=128)
    config._attn_implementation = "sdpa"
    attention, states = EdgeTamFrameAttention(config).eval(), random((2, 25 * 24, 128))
    rotation = grid_rotation(25, 24, 128, 100.0, states.device)
    expected, half = attention(states, rotation), copy.deepcopy(attention).bfloat16()
    actual = half(states.bfloat16(), rotation)
    assert attention.works_in_blocks(states) and half.works_in_blocks(states.bfloat16()) != has_amx
    assert (actual.float() - expected).abs().mean() < 0.02 * expected.std()


def test_rotation_of_pairs_equals_that_of_complex_numbers(monkeypatch):
    states, rotation = random((2, 3, 20, 16)), grid_rotation(4, 5, 16, 100.0, torch.device("cpu"))
    expected = rotate(states, rotation)
    monkeypatch.setattr(position_edgetam, "is_recorded", lambda: True)
    close(rotate(states, rotation), expected, atol=1e-6)


@torch.no_grad()
def run_stages(model):
    """What every stage returns for three objects."""
    embeddings = model.get_frame_embeddings(random((1, 3, 128, 128)))
    memories = Memories(random((3, 2, 24, 64)), torch.arange(2).expand(3, -1), random((3, 4, 128)), random((3, 4)))
    conditioned = model.attend_to_memory(embeddings[-1], memories)
    prompts = Prompts(points=random((3, 1, 2, 2)).abs() * 60, labels=torch.ones(3, 1, 2, dtype=torch.long))
    found = model.decode_objects(embeddings, conditioned, prompts, torch.tensor([True, False, True]))
    memory = model.encode_memory(embeddings[-1], found.masks, found.object_score_logits, torch.zeros(3).bool())
    return [*embeddings, conditioned, *found, memory]


def test_stages_in_pieces_equal_whole_ones(monkeypatch, wide_model):
    monkeypatch.setattr(pieces_edgetam, "BYTES_AT_ONCE", 2**30)
    monkeypatch.setattr(pieces_edgetam, "is_recorded", lambda: True)
    whole = run_stages(wide_model)
    monkeypatch.setattr(pieces_edgetam, "is_recorded", lambda: False)
    monkeypatch.setattr(pieces_edgetam, "BYTES_AT_ONCE", 2**12)
    for actual, expected in zip(run_stages(wide_model), whole, strict=True):
        close(actual, expected, atol=3e-5)


def test_watched_modules_see_all_objects_and_pixels_at_once(monkeypatch, wide_model):
    monkeypatch.setattr(pieces_edgetam, "BYTES_AT_ONCE", 2**12)
    model, sizes = copy.deepcopy(wide_model), []
    for name in ("memory_attention.layers.0.mlp", "memory_encoder.memory_fuser.layers.0.pointwise_conv1"):
        model.get_submodule(name).register_forward_hook(lambda _, inputs, output: sizes.append(output.shape[:-1]))
    for actual, expected in zip(run_stages(model), run_stages(wide_model), strict=True):
        close(actual, expected, atol=3e-5)
    assert sizes == [(3, 64), (3, 8, 8)]


def attend(attention, query, key_value, encoding):
    """Attention of the perceiver as it is written: the encoding joins projected keys and values."""
    query, key, value = attention.project(query, key_value, key_value)
    return EdgeTamAttention.attend(attention, query, key + encoding, value + encoding)[0]


@torch.no_grad()
def test_perceiver_equals_its_two_branches_computed_apart(video_model):
    perceiver, memory = video_model.spatial_perceiver, random((2, 64, 8, 8))
    encoding = sine_position_encoding(64, 8, 8)[0].flatten(1).T
    pixels = memory.flatten(2).transpose(1, 2)
    windows = memory.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 4, 5, 1).reshape(2 * 16, 4, 64)
    branches = (
        (perceiver.latents_1d.expand(2, -1, -1), pixels, encoding),
        (perceiver.latents_2d.repeat(2, 1)[:, None], windows, torch.zeros(1, 64)),
    )
    expected = []
    for latents, inputs, place in branches:
        for layer in perceiver.layers:
            normed = layer.layer_norm_latents(latents)
            latents = latents + attend(layer.cross_attention, normed, layer.layer_norm_input(inputs), place)
            latents = latents + layer.mlp(latents)
            normed = layer.layer_norm_self(latents)
            latents = latents + attend(layer.self_attention, normed, normed, torch.zeros(1, 64))
            latents = latents + layer.self_mlp(latents)
        expected.append(perceiver.layer_norm(latents).reshape(2, -1, 64))
    close(perceiver(memory), torch.cat(expected, dim=1))


@torch.no_grad()
def test_objects_that_share_a_frame_equal_objects_with_one_each(wide_model):
    frame, masks = random((1, 128, 8, 8)), random((3, 32, 32))
    memory = wide_model.encode_memory(frame, masks, torch.ones(3), torch.zeros(3, dtype=torch.bool))
    for idx in range(3):
        alone = wide_model.encode_memory(frame, masks[idx, None], torch.ones(1), torch.zeros(1, dtype=torch.bool))
        close(memory[idx, None], alone)


def test_position_tables_are_kept_and_fit_autograd_wherever_they_were_made():
    size = (8, 3, 5, torch.device("cpu"), torch.float32)
    with torch.inference_mode():
        encoding = sine_place_encoding(*size)
    assert sine_place_encoding(*size) is encoding
    close(encoding, sine_position_encoding(8, 3, 5)[0].flatten(1).T, atol=0)
    weight = torch.ones(8, requires_grad=True)
    (encoding * weight).sum().backward()
    close(weight.grad, encoding.sum(0))


@pytest.mark.parametrize("state_device, waits", [("cuda", []), ("cpu", ["synchronize"])])
def test_tracked_frame_waits_once_if_results_go_to_the_host(make_tracker, video_model, clip, gpu, state_device, waits):
    with gpu:
        tracker = make_tracker(video=None, model=on_gpu(video_model), inference_state_device=state_device)
        tracker.add(0, [1, 2], **CLICKS)
        tracker.stream(clip[:2])
        frame = tracker.processor(images=[clip[2]], return_tensors="pt")["pixel_values"][0]
        gpu.waits.clear()
        output = tracker.model(tracker.session, frame=frame)
    assert gpu.waits == waits and output.pred_masks.device.type == "cuda"
