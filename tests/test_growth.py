"""A checkpoint that is trained on with a larger memory starts from what it knows."""

import pytest
import small_models
import torch

from edgetam_hf.training.growth import LATENTS_2D
from edgetam_hf.training.models import make_model
from edgetam_hf.training.settings import ModelSettings, Settings


@pytest.fixture
def source():
    return small_models.make_video_model()


def grow(source, folder, **config):
    """What training makes of a model whose configuration is changed."""
    source.save_pretrained(folder)
    model = ModelSettings(name=str(folder), kind="video", config=config)
    return make_model(Settings(data=[{"kind": "synthetic"}], model=model)).eval()


def assert_equal_weights(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


def test_finer_grid_of_latents_takes_the_nearest_and_what_the_configuration_adds_is_new(source, tmp_path):
    finer = {"perceiver_resampler_num_latents_2d": 64, "memory_attention_rope_k_sizes": [8, 8]}
    grown = grow(source, tmp_path, enable_occlusion_spatial_embedding=True, **finer)
    before, after = source.state_dict(), grown.state_dict()
    coarse, fine = before.pop(LATENTS_2D).unflatten(0, (4, 4)), after.pop(LATENTS_2D).unflatten(0, (8, 8))
    assert torch.equal(fine, coarse.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert after.pop("occlusion_spatial_embedding_parameter").any()
    assert_equal_weights(after, before)


def test_new_layers_of_memory_attention_change_nothing_before_they_learn(source, tmp_path):
    grown = grow(source, tmp_path, memory_attention_num_layers=3)
    size = source.config.image_size
    torch.manual_seed(0)
    masks = torch.zeros(1, 4, 2, size, size)
    masks[:, :, 0, 8:48, 8:48] = masks[:, :, 1, 64:96, 32:80] = 1
    clip = {"pixel_values_videos": torch.randn(1, 4, 3, size, size), "mask_labels": masks}
    seeds = torch.tensor([1])
    before, after = (model(**clip, prompt_seeds=seeds) for model in (source, grown))
    torch.testing.assert_close(after.pred_masks, before.pred_masks, rtol=0, atol=0)
    after.loss.backward()
    for layer in grown.memory_attention.layers:
        assert layer.cross_attn_image.o_proj.weight.grad.any() and layer.mlp.down_proj.weight.grad.any()


def test_rejects_fewer_layers_of_memory_attention(tmp_path):
    deep = small_models.make_video_model(config=small_models.small_video_config(memory_attention_num_layers=2))
    with pytest.raises(ValueError, match="memory_attention_num_layers is 1, the checkpoint has 2"):
        grow(deep, tmp_path, memory_attention_num_layers=1)
