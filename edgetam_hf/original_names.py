"""Names of tensors in the original release, in its training code and in Transformers."""

import re
from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import Any

MLPS = {
    "sam_mask_decoder.output_hypernetworks_mlps.#": "mask_decoder.output_hypernetworks_mlps.#",
    "sam_mask_decoder.iou_prediction_head": "mask_decoder.iou_prediction_head",
    "sam_mask_decoder.pred_obj_score_head": "mask_decoder.pred_obj_score_head",
    "obj_ptr_proj": "object_pointer_proj",
}
# Names of the original release and of Transformers. A wildcard stands for the same text on both sides: # for a number,
# @ for a word, * for anything. The first row that fits a name counts.
NAMES = (
    ("image_encoder.trunk.body.*", "vision_encoder.backbone.timm_model.*"),
    ("image_encoder.neck.convs.#.conv.*", "vision_encoder.neck.convs.#.*"),
    (
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "prompt_encoder.shared_embedding.positional_embedding",
    ),
    ("sam_prompt_encoder.point_embeddings.#.*", "prompt_encoder.point_embed.#.*"),
    ("sam_prompt_encoder.mask_downscaling.0.*", "prompt_encoder.mask_embed.conv1.*"),
    ("sam_prompt_encoder.mask_downscaling.1.*", "prompt_encoder.mask_embed.layer_norm1.*"),
    ("sam_prompt_encoder.mask_downscaling.3.*", "prompt_encoder.mask_embed.conv2.*"),
    ("sam_prompt_encoder.mask_downscaling.4.*", "prompt_encoder.mask_embed.layer_norm2.*"),
    ("sam_prompt_encoder.mask_downscaling.6.*", "prompt_encoder.mask_embed.conv3.*"),
    ("sam_prompt_encoder.*", "prompt_encoder.*"),
    *(
        (f"{original}.layers.{layer_idx}.*", f"{ours}.{layer}.*")
        for original, ours in MLPS.items()
        for layer_idx, layer in enumerate(("proj_in", "layers.0", "proj_out"))
    ),
    ("sam_mask_decoder.transformer.layers.#.mlp.layers.0.*", "mask_decoder.transformer.layers.#.mlp.proj_in.*"),
    ("sam_mask_decoder.transformer.layers.#.mlp.layers.1.*", "mask_decoder.transformer.layers.#.mlp.proj_out.*"),
    ("sam_mask_decoder.transformer.layers.#.norm#.*", "mask_decoder.transformer.layers.#.layer_norm#.*"),
    ("sam_mask_decoder.transformer.layers.#.@.out_proj.*", "mask_decoder.transformer.layers.#.@.o_proj.*"),
    ("sam_mask_decoder.transformer.@.out_proj.*", "mask_decoder.transformer.@.o_proj.*"),
    ("sam_mask_decoder.transformer.norm_final_attn.*", "mask_decoder.transformer.layer_norm_final_attn.*"),
    ("sam_mask_decoder.output_upscaling.0.*", "mask_decoder.upscale_conv1.*"),
    ("sam_mask_decoder.output_upscaling.1.*", "mask_decoder.upscale_layer_norm.*"),
    ("sam_mask_decoder.output_upscaling.3.*", "mask_decoder.upscale_conv2.*"),
    ("sam_mask_decoder.*", "mask_decoder.*"),
    ("memory_attention.layers.#.linear1.*", "memory_attention.layers.#.mlp.up_proj.*"),
    ("memory_attention.layers.#.linear2.*", "memory_attention.layers.#.mlp.down_proj.*"),
    ("memory_attention.layers.#.norm#.*", "memory_attention.layers.#.layer_norm#.*"),
    ("memory_attention.layers.#.@.out_proj.*", "memory_attention.layers.#.@.o_proj.*"),
    ("memory_attention.norm.*", "memory_attention.layer_norm.*"),
    ("memory_attention.*", "memory_attention.*"),
    # a sequence of convolution, normalisation and activation, four times, and of one convolution more
    *(
        (
            f"memory_encoder.mask_downsampler.encoder.{first + k}.*",
            f"memory_encoder.mask_downsampler.layers.{i}.{part}.*",
        )
        for i, first in enumerate((0, 3, 6, 9))
        for k, part in enumerate(("conv", "layer_norm"))
    ),
    ("memory_encoder.mask_downsampler.encoder.12.*", "memory_encoder.mask_downsampler.final_conv.*"),
    ("memory_encoder.pix_feat_proj.*", "memory_encoder.feature_projection.*"),
    ("memory_encoder.fuser.layers.#.dwconv.*", "memory_encoder.memory_fuser.layers.#.depthwise_conv.*"),
    ("memory_encoder.fuser.layers.#.norm.*", "memory_encoder.memory_fuser.layers.#.layer_norm.*"),
    ("memory_encoder.fuser.layers.#.pwconv#.*", "memory_encoder.memory_fuser.layers.#.pointwise_conv#.*"),
    ("memory_encoder.fuser.layers.#.gamma", "memory_encoder.memory_fuser.layers.#.scale"),
    ("memory_encoder.out_proj.*", "memory_encoder.projection.*"),
    ("spatial_perceiver.latents", "spatial_perceiver.latents_1d"),
    ("spatial_perceiver.latents_2d", "spatial_perceiver.latents_2d"),
    ("spatial_perceiver.layers.#.attn.norm_x.*", "spatial_perceiver.layers.#.layer_norm_input.*"),
    ("spatial_perceiver.layers.#.attn.norm_latents.*", "spatial_perceiver.layers.#.layer_norm_latents.*"),
    ("spatial_perceiver.layers.#.self_attn.norm.*", "spatial_perceiver.layers.#.layer_norm_self.*"),
    *(
        (f"spatial_perceiver.layers.#.{original}.to_{projection}.*", f"spatial_perceiver.layers.#.{ours}.{name}_proj.*")
        for original, ours in (("attn", "cross_attention"), ("self_attn", "self_attention"))
        for projection, name in (("q", "q"), ("kv", "kv"), ("out", "o"))
    ),
    *(
        (f"spatial_perceiver.layers.#.{original}.{layer_idx}.*", f"spatial_perceiver.layers.#.{ours}.{layer}.*")
        for original, ours in (("ff", "mlp"), ("self_ff", "self_mlp"))
        for layer_idx, layer in ((0, "layer_norm"), (1, "up_proj"), (3, "down_proj"))
    ),
    ("spatial_perceiver.norm.*", "spatial_perceiver.layer_norm.*"),
    ("mask_downsample.*", "mask_downsample.*"),
    ("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    ("no_mem_embed", "no_memory_embedding"),
    ("no_mem_pos_enc", "no_memory_positional_encoding"),
    ("no_obj_ptr", "no_object_pointer"),
    ("no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
    ("obj_ptr_tpos_proj.*", "temporal_positional_encoding_projection_layer.*"),
)
# Names in checkpoints of the training code, and in those of the release
TRAINING_NAMES = (
    (r"^(?:module\.|_orig_mod\.)+", ""),  # of DistributedDataParallel, of torch.compile
    (r"^backbone\.vision_backbone\.convs\.", "image_encoder.neck.convs."),
    (r"^backbone\.vision_backbone\.", "image_encoder."),
    (r"^transformer\.encoder\.", "memory_attention."),
    (r"^maskmem_backbone\.", "memory_encoder."),
    (r"\.mlp\.(?:lin|fc)1\.", ".mlp.layers.0."),
    (r"\.mlp\.(?:lin|fc)2\.", ".mlp.layers.1."),
)


def _as_pattern(template: str) -> re.Pattern[str]:
    wildcards = {"#": r"(\d+)", "@": r"(\w+)", "*": r"(.+)"}
    return re.compile("".join(wildcards.get(character) or re.escape(character) for character in template))


PATTERNS = [(original, _as_pattern(ours)) for original, ours in NAMES]


def original_names(names: Iterable[str]) -> dict[str, str]:
    """Names of the original release by names of Transformers, one for each.

    Raises:
        ValueError: where two get the same name, as in a model with other numbers of layers than the original can have.
    """
    translated = {name: original_name(name) for name in names}
    if len(set(translated.values())) < len(translated):
        raise ValueError("the original release has no model of this configuration: an MLP has another number of layers")
    return translated


def original_name(name: str) -> str:
    """Name of the original release of one tensor."""
    for original, pattern in PATTERNS:
        if match := pattern.fullmatch(name):
            parts = zip_longest(re.split(r"[#@*]", original), match.groups(), fillvalue="")
            return "".join(chain.from_iterable(parts))
    raise ValueError(f"the original release has no name for {name}")


def without_training_names(tensors: dict[str, Any], name: str) -> dict[str, Any]:
    """Tensors under the names of the original release, without those of a teacher.

    Raises:
        ValueError: where a tensor is there under both names; `name` is what the message calls the tensors.
    """
    renamed = {}
    for key, tensor in tensors.items():
        if is_teacher(key):
            continue
        new_key = key
        for pattern, replacement in TRAINING_NAMES:
            new_key = re.sub(pattern, replacement, new_key)
        if new_key in renamed:
            raise ValueError(f"{name} has {new_key} twice, under this name and under that of the training code")
        renamed[new_key] = tensor
    return renamed


def is_teacher(key: str) -> bool:
    """Whether a name belongs to the model that taught this one, which checkpoints of the training code contain."""
    return "teacher" in key
