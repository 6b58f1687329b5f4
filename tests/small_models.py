"""Small models, ours and native, with shared random weights."""

from copy import deepcopy

import numpy as np
import torch
import transformers
from edgetam_hf.configuration_edgetam import EdgeTamConfig, EdgeTamVideoConfig
from edgetam_hf.image_processing_edgetam import EdgeTamImageProcessor
from edgetam_hf.modeling_edgetam import EdgeTamModel
from edgetam_hf.modeling_edgetam_video import EdgeTamVideoModel
from edgetam_hf.processing_edgetam import EdgeTamProcessor
from edgetam_hf.processing_edgetam_video import EdgeTamVideoProcessor
from edgetam_hf.video_processing_edgetam import EdgeTamVideoVideoProcessor
from torch import nn

BACKBONE = {
    "architecture": "repvit_m1",
    "num_classes": 2,
    "label_names": ["LABEL_0", "LABEL_1"],
    "model_args": {"embed_dim": [16, 32, 64, 128], "depth": [2, 2, 2, 2]},
}
MEMORY = {
    "memory_attention_num_layers": 1,
    "memory_attention_mlp_hidden_size": 64,
    "memory_fuser_num_layers": 1,
    "memory_fuser_intermediate_dim": 64,
    "perceiver_resampler_num_layers": 1,
    "perceiver_resampler_num_latents": 8,
    "perceiver_resampler_num_latents_2d": 16,
    "memory_attention_rope_k_sizes": [4, 4],
}


def small_config(image_size=128, config_class=EdgeTamConfig, hidden_size=64, **kwargs):
    """A configuration of a quarter of EdgeTAM's widths."""
    return config_class(
        vision_config={"backbone_config": BACKBONE, "fpn_hidden_size": hidden_size},
        prompt_encoder_config={"hidden_size": hidden_size},
        mask_decoder_config={"hidden_size": hidden_size, "mlp_dim": 128, "iou_head_hidden_dim": 64},
        image_size=image_size,
        **kwargs,
    )


def small_video_config(image_size=128, hidden_size=64, **kwargs):
    parts = ("memory_attention_hidden_size", "memory_encoder_hidden_size")
    parts = dict.fromkeys((*parts, "mask_downsampler_embed_dim", "memory_fuser_embed_dim"), hidden_size)
    return small_config(image_size, EdgeTamVideoConfig, hidden_size, **{**MEMORY, **parts, **kwargs})


def native_config(config):
    """Native's configuration with the fields of ours."""
    fields = deepcopy(config.to_dict())
    model_type = fields.pop("model_type")
    name = "EdgeTamVideoConfig" if model_type == "edgetam_video" else "EdgeTamConfig"
    return getattr(transformers, name)(**fields)


def randomise(model, seed=0):
    """The model in eval mode, with weights that keep activations of order one and are nowhere trivial."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, std):
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * std)

    with torch.no_grad():
        for module in model.modules():
            is_norm = isinstance(module, (nn.LayerNorm, nn.BatchNorm2d))
            for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                if tensor.dtype == torch.long:
                    continue
                if name == "running_var" or (is_norm and name == "weight"):
                    scale = 0.4 if isinstance(module, nn.BatchNorm2d) and name == "weight" else 1.0
                    tensor.copy_(scale * (0.5 + torch.rand(tensor.shape, generator=generator)))
                elif name == "positional_embedding" or isinstance(module, nn.Embedding):
                    normal(tensor, 1.0)
                elif tensor.dim() < 2:
                    normal(tensor, 0.1)
                else:
                    gain = 2.0 if isinstance(module, nn.Linear) else 1.0
                    normal(tensor, (gain / tensor[0].numel()) ** 0.5)
        if hasattr(model, "prompt_encoder"):
            embedding = model.shared_image_embedding.positional_embedding
            model.prompt_encoder.shared_embedding.positional_embedding.copy_(embedding)
    return model.eval()


def make_model(image_size=128, config=None, seed=0):
    return randomise(EdgeTamModel(config or small_config(image_size)), seed)


def make_native(model):
    native = transformers.EdgeTamModel(native_config(model.config)).eval()
    native.load_state_dict(model.state_dict())
    return native


def make_processor(height, width=None):
    return EdgeTamProcessor(EdgeTamImageProcessor(size={"height": height, "width": width or height}))


def make_video_model(image_size=128, config=None, seed=0):
    """A video model whose objects are visible on most frames."""
    model = randomise(EdgeTamVideoModel(config or small_video_config(image_size)), seed)
    with torch.no_grad():
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(2.0)
    return model


def make_native_video(model):
    native = transformers.EdgeTamVideoModel(native_config(model.config)).eval()
    native.load_state_dict(model.state_dict())
    return native


def make_video_processor(height, width=None, **kwargs):
    size = {"height": height, "width": width or height}
    return EdgeTamVideoProcessor(EdgeTamImageProcessor(size=size), EdgeTamVideoVideoProcessor(size=size, **kwargs))


def make_clip(num_frames=12, height=90, width=120):
    """uint8 (T, height, width, 3): a bright square moves to the right over a textured background."""
    generator = np.random.default_rng(0)
    frames = np.repeat(generator.integers(0, 90, (1, height, width, 3), np.uint8), num_frames, axis=0)
    for t, frame in enumerate(frames):
        frame[30:60, 10 + 5 * t : 40 + 5 * t] = (220, 180 - 5 * t, 60)
    return frames


def random(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_outputs_close(actual, expected, atol=1e-4):
    """Masks and scores of two outputs are equal up to `atol`, whatever their scale."""
    for name in ("pred_masks", "iou_scores", "object_score_logits"):
        torch.testing.assert_close(actual[name], expected[name], atol=atol, rtol=0.0, msg=lambda m, n=name: f"{n}: {m}")
