"""Loading a video model and its processor for a command."""

from edgetam_cli.arguments import VIDEO_CHECKPOINT

from .. import EdgeTamConfig, EdgeTamVideoModel, EdgeTamVideoProcessor
from ..checkpoint_files import read_config
from .support import checkpoint_of, load_quietly


def load_video_model(settings, device, **processor_settings):
    """The video model and its processor.

    Args:
        settings: dictionary with `model`, `image_size` (or None) and, if wanted, `dtype`, the name of one.
        device: where the model goes.
        processor_settings: other settings of the processor.

    Raises:
        ValueError: for a checkpoint without memory.
        OSError: for one that cannot be loaded.
    """
    name, image_size = checkpoint_of(settings["model"]), settings["image_size"]
    if read_config(name).get("model_type") == EdgeTamConfig.model_type:
        raise ValueError(
            f"{name} is a checkpoint for pictures, it has no memory for video: use one for video, such as the "
            f"published --model {VIDEO_CHECKPOINT}, or --model nano"
        )
    model_settings = {"dtype": settings["dtype"]} if settings.get("dtype") else {}
    if image_size is not None:
        model_settings["image_size"] = image_size
        processor_settings["size"] = {"height": image_size, "width": image_size}
    model = load_quietly(EdgeTamVideoModel, name, device_map=device, **model_settings)
    return model, load_quietly(EdgeTamVideoProcessor, name, **processor_settings)
