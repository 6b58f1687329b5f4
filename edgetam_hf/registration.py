"""Makes the Auto classes and `pipeline` of Transformers use this package's classes for EdgeTAM's model types."""

import functools
from typing import Any

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForMaskGeneration,
    AutoProcessor,
    AutoVideoProcessor,
    MaskGenerationPipeline,
    PretrainedConfig,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .base_edgetam import EdgeTamBaseModel
from .configuration_edgetam import EdgeTamConfig, EdgeTamVideoConfig, EdgeTamVisionConfig
from .image_processing_edgetam import EdgeTamImageProcessor
from .modeling_edgetam import EdgeTamModel, EdgeTamVisionModel
from .modeling_edgetam_video import EdgeTamVideoModel
from .pipeline_edgetam import EdgeTamMaskGenerationPipeline
from .processing_edgetam import EdgeTamProcessor
from .processing_edgetam_video import EdgeTamVideoProcessor
from .video_processing_edgetam import EdgeTamVideoVideoProcessor

PROCESSORS: dict[Any, dict[type[PretrainedConfig], Any]] = {
    AutoProcessor: {EdgeTamConfig: EdgeTamProcessor, EdgeTamVideoConfig: EdgeTamVideoProcessor},
    AutoImageProcessor: {EdgeTamConfig: EdgeTamImageProcessor, EdgeTamVideoConfig: EdgeTamImageProcessor},
    AutoVideoProcessor: {EdgeTamVideoConfig: EdgeTamVideoVideoProcessor},
}
# Where a checkpoint is, among the arguments of `from_pretrained`
PLACE = ("cache_dir", "proxies", "token", "revision", "local_files_only", "subfolder")
# Arguments that choose a class, which is chosen already
CHOICE = ("config", "trust_remote_code", "code_revision", "use_fast", "backend")


class MaskGenerationForAnyModel(MaskGenerationPipeline):
    """Makes `EdgeTamMaskGenerationPipeline` for a model of this package, that of Transformers for any other."""

    def __new__(cls, model: Any, **kwargs: Any) -> MaskGenerationPipeline:
        is_ours = isinstance(model, EdgeTamBaseModel)
        return (EdgeTamMaskGenerationPipeline if is_ours else MaskGenerationPipeline)(model=model, **kwargs)


def register() -> None:
    """Registers configurations, models, processors and the pipeline, in place of those that Transformers ships."""
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

    for auto_class, classes in PROCESSORS.items():
        prefer_model_type(auto_class, classes)
    PIPELINE_REGISTRY.supported_tasks["mask-generation"]["impl"] = MaskGenerationForAnyModel


def prefer_model_type(auto_class: Any, classes: dict[type[PretrainedConfig], Any]) -> None:
    """Makes `auto_class.from_pretrained` give the class that `classes` has for the model type of a checkpoint.

    Transformers goes by the class named in a checkpoint's processor files first. There stands its own, so that the
    checkpoint also loads where this package is not, and what is registered would never be asked.

    Args:
        auto_class: `AutoProcessor` or one like it.
        classes: processor classes by configuration class; checkpoints of other model types load as before.
    """
    by_model_type = {config_class.model_type: processor_class for config_class, processor_class in classes.items()}
    original = auto_class.from_pretrained.__func__

    @functools.wraps(original)
    def from_pretrained(cls: Any, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        processor_class = by_model_type.get(_model_type(pretrained_model_name_or_path, kwargs))
        if processor_class is None:
            return original(cls, pretrained_model_name_or_path, *args, **kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name not in CHOICE}
        return processor_class.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    auto_class.from_pretrained = classmethod(from_pretrained)


def _model_type(name: Any, settings: dict[str, Any]) -> str | None:
    """The model type in the config.json of a checkpoint, or `None` where there is none to be read."""
    config = settings.get("config")
    if isinstance(config, PretrainedConfig):
        return config.model_type
    place = {key: settings[key] for key in PLACE if settings.get(key) is not None}
    try:
        return PretrainedConfig.get_config_dict(name, **place)[0].get("model_type")
    except Exception:  # no config, or no connection: what is wrong comes up again where it is loaded
        return None
