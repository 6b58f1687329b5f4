"""Makes the Auto classes of Transformers return this package's classes for EdgeTAM's model types."""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForMaskGeneration,
    AutoProcessor,
    AutoVideoProcessor,
)

from .configuration_edgetam import EdgeTamConfig, EdgeTamVideoConfig, EdgeTamVisionConfig
from .image_processing_edgetam import EdgeTamImageProcessor
from .modeling_edgetam import EdgeTamModel, EdgeTamVisionModel
from .modeling_edgetam_video import EdgeTamVideoModel
from .processing_edgetam import EdgeTamProcessor
from .processing_edgetam_video import EdgeTamVideoProcessor
from .video_processing_edgetam import EdgeTamVideoVideoProcessor


def register():
    """Registers configurations, models and processors, in place of those that Transformers ships."""
    # The model type of the vision config stays with Transformers: its own models look their encoder up by it.
    AutoConfig.register(EdgeTamConfig.model_type, EdgeTamConfig, exist_ok=True)
    AutoModel.register(EdgeTamConfig, EdgeTamModel, exist_ok=True)
    AutoModel.register(EdgeTamVisionConfig, EdgeTamVisionModel, exist_ok=True)
    AutoModelForMaskGeneration.register(EdgeTamConfig, EdgeTamModel, exist_ok=True)
    AutoProcessor.register(EdgeTamConfig, EdgeTamProcessor, exist_ok=True)
    AutoImageProcessor.register(EdgeTamConfig, fast_image_processor_class=EdgeTamImageProcessor, exist_ok=True)

    AutoConfig.register(EdgeTamVideoConfig.model_type, EdgeTamVideoConfig, exist_ok=True)
    AutoModel.register(EdgeTamVideoConfig, EdgeTamVideoModel, exist_ok=True)
    # of a video checkpoint, mask generation needs the image part; `register` itself refuses such a pair
    AutoModelForMaskGeneration._model_mapping.register(EdgeTamVideoConfig, EdgeTamModel, exist_ok=True)
    AutoProcessor.register(EdgeTamVideoConfig, EdgeTamVideoProcessor, exist_ok=True)
    AutoImageProcessor.register(EdgeTamVideoConfig, fast_image_processor_class=EdgeTamImageProcessor, exist_ok=True)
    AutoVideoProcessor.register(EdgeTamVideoConfig, EdgeTamVideoVideoProcessor, exist_ok=True)
