"""Makes the Auto classes of Transformers return this package's classes for EdgeTAM's model types."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForMaskGeneration, AutoProcessor

from .configuration_edgetam import EdgeTamConfig, EdgeTamVisionConfig
from .image_processing_edgetam import EdgeTamImageProcessor
from .modeling_edgetam import EdgeTamModel, EdgeTamVisionModel
from .processing_edgetam import EdgeTamProcessor


def register():
    """Registers configurations, models and processors, in place of those that Transformers ships."""
    # The model type of the vision config stays with Transformers: its own models look their encoder up by it.
    AutoConfig.register(EdgeTamConfig.model_type, EdgeTamConfig, exist_ok=True)
    AutoModel.register(EdgeTamConfig, EdgeTamModel, exist_ok=True)
    AutoModel.register(EdgeTamVisionConfig, EdgeTamVisionModel, exist_ok=True)
    AutoModelForMaskGeneration.register(EdgeTamConfig, EdgeTamModel, exist_ok=True)
    AutoProcessor.register(EdgeTamConfig, EdgeTamProcessor, exist_ok=True)
    AutoImageProcessor.register(EdgeTamConfig, fast_image_processor_class=EdgeTamImageProcessor, exist_ok=True)
