"""The folder of an exported model: graphs, the configuration that says what they are, and the processor's files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgetam_runtime.folder import FORMAT_VERSION

from ..base_edgetam import EdgeTamBaseModel
from ..processing_edgetam import EdgeTamProcessor

TRANSFORMERS_JS_DTYPES = {"float32": "fp32", "float16": "fp16", "int8": "q8"}
TRACKING_FIELDS = (
    "num_maskmem",
    "max_object_pointers_in_encoder",
    "max_cond_frame_num",
    "multimask_output_in_sam",
    "multimask_output_for_tracking",
    "multimask_min_pt_num",
    "multimask_max_pt_num",
)


def write_configuration(
    model: EdgeTamBaseModel,
    processor: EdgeTamProcessor,
    folder: Path,
    is_video: bool,
    dtypes: Sequence[str] = ("float32",),
) -> None:
    """Writes config.json, with what runtimes have to know as `edgetam_export`, and the files of the processor.

    Unless it is asked for another, Transformers.js takes the first of the dtypes; in browsers its own choice is int8.
    """
    config, encoder = model.config, model.prompt_encoder
    facts: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "image_size": list(encoder.image_size),
        "mask_size": list(encoder.mask_input_size),
        "num_channels": config.vision_config.fpn_hidden_size,
    }
    if is_video:
        facts["num_latents"] = config.perceiver_resampler_num_latents + config.perceiver_resampler_num_latents_2d
        facts["num_memory_channels"] = config.memory_encoder_output_channels
        facts["tracking"] = {name: getattr(config, name) for name in TRACKING_FIELDS}
    described = {
        **json.loads(config.to_json_string(use_diff=False)),
        # Transformers.js chooses its class by these
        "model_type": "edgetam",
        "architectures": ["EdgeTamModel"],
        "transformers.js_config": {"dtype": TRANSFORMERS_JS_DTYPES[dtypes[0]]},
        "edgetam_export": facts,
    }
    (folder / "config.json").write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
    processor.save_pretrained(folder)
    for path in folder.glob("*.py"):  # code of the checkpoint, which graphs do not need
        path.unlink()
