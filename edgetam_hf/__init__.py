"""EdgeTAM for Hugging Face Transformers: importing the package makes the Auto classes return its classes."""

from pathlib import Path

# In a checkout the remote-code files lie at the repository root, in a wheel beside this file.
if not Path(__file__).with_name("modeling_edgetam.py").exists():
    __path__.append(str(Path(__file__).parents[1]))

from edgetam_cli import __version__

from .garbage import without_garbage_collection

# These imports make half a million objects that stay; to search them for garbage took a fifth of the time.
with without_garbage_collection():
    from .configuration_edgetam import (
        EdgeTamConfig,
        EdgeTamMaskDecoderConfig,
        EdgeTamPromptEncoderConfig,
        EdgeTamVideoConfig,
        EdgeTamVisionConfig,
    )
    from .image_processing_edgetam import EdgeTamImageProcessor
    from .memory_selection_edgetam import MemorySelection
    from .modeling_edgetam import EdgeTamModel, EdgeTamVisionModel
    from .modeling_edgetam_video import EdgeTamVideoModel
    from .pipeline_edgetam import EdgeTamMaskGenerationPipeline
    from .pretrained_edgetam import EdgeTamPreTrainedModel
    from .processing_edgetam import EdgeTamProcessor
    from .processing_edgetam_video import EdgeTamVideoProcessor
    from .registration import register
    from .session_edgetam import EdgeTamVideoInferenceSession
    from .video_processing_edgetam import EdgeTamVideoVideoProcessor

__all__ = [
    "EdgeTamConfig",
    "EdgeTamImageProcessor",
    "EdgeTamMaskDecoderConfig",
    "EdgeTamMaskGenerationPipeline",
    "EdgeTamModel",
    "EdgeTamPreTrainedModel",
    "EdgeTamProcessor",
    "EdgeTamPromptEncoderConfig",
    "EdgeTamVideoConfig",
    "EdgeTamVideoInferenceSession",
    "EdgeTamVideoModel",
    "EdgeTamVideoProcessor",
    "EdgeTamVideoVideoProcessor",
    "EdgeTamVisionConfig",
    "EdgeTamVisionModel",
    "MemorySelection",
    "__version__",
    "nano_checkpoint",
]


def nano_checkpoint() -> Path:
    """Path of the embedded checkpoint, a small EdgeTAM for demonstrations and tests; see the README in the folder."""
    return Path(__file__).with_name("nano")


register()
