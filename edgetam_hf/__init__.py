"""EdgeTAM for Hugging Face Transformers."""

from pathlib import Path

# In a checkout the remote-code files lie at the repository root, in a wheel beside this file.
if not Path(__file__).with_name("modeling_edgetam.py").exists():
    __path__.append(str(Path(__file__).parents[1]))

from .configuration_edgetam import (
    EdgeTamConfig,
    EdgeTamMaskDecoderConfig,
    EdgeTamPromptEncoderConfig,
    EdgeTamVisionConfig,
)
from .modeling_edgetam import EdgeTamModel, EdgeTamPreTrainedModel, EdgeTamVisionModel

__all__ = [
    "EdgeTamConfig",
    "EdgeTamMaskDecoderConfig",
    "EdgeTamModel",
    "EdgeTamPreTrainedModel",
    "EdgeTamPromptEncoderConfig",
    "EdgeTamVisionConfig",
    "EdgeTamVisionModel",
]
