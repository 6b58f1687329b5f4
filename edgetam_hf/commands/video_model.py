"""Loading a video model and its processor for a command."""

from transformers import PretrainedConfig

from edgetam_cli.arguments import VIDEO_CHECKPOINT

from .. import EdgeTamConfig, EdgeTamVideoModel, EdgeTamVideoProcessor
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
    try:
        model_type = PretrainedConfig.get_config_dict(name)[0].get("model_type")
        if model_type == EdgeTamConfig.model_type:
            raise ValueError(
                f"{name} is a checkpoint for pictures, it has no memory for video: use one for video, such as the "
                f"published --model {VIDEO_CHECKPOINT}, or --model nano"
            )
        model_settings = {"dtype": settings["dtype"]} if settings.get("dtype") else {}
        if image_size is not None:
            model_settings["image_size"] = image_size
            processor_settings["size"] = {"height": image_size, "width": image_size}
        model = load_quietly(EdgeTamVideoModel, name, device_map=device, **model_settings)
        return model, EdgeTamVideoProcessor.from_pretrained(name, **processor_settings)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(
            f"{name} cannot be loaded, give --model a folder, the id of a video checkpoint, or nano, which is "
            f"embedded: {reason}"
        ) from error
