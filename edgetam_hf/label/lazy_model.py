"""A model that each process loads for itself, when it is needed."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ..device_edgetam import send
from ..image_processing_edgetam import EdgeTamImageProcessor
from ..loading import ModelChoice, load_processor, load_video_model, load_with_processor
from ..modeling_edgetam import EdgeTamModel
from ..processing_edgetam import EdgeTamProcessor


@dataclass
class LazyModel:
    """A model of a choice, and what makes its input; what is loaded is not pickled.

    choice: which model, and how it computes.
    """

    choice: ModelChoice

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def image_processor(self) -> EdgeTamImageProcessor:
        """The image processor alone."""
        return load_processor(EdgeTamImageProcessor, self.choice)

    @cached_property
    def for_pictures(self) -> tuple[Any, EdgeTamProcessor]:
        """The model for pictures, or an exported one, and its processor."""
        return load_with_processor(EdgeTamModel, EdgeTamProcessor, self.choice)

    @cached_property
    def for_clips(self) -> tuple[Any, Any]:
        """The model with a memory, or an exported one, and its processor."""
        return load_video_model(self.choice)

    def shrink(self, pixels: np.ndarray) -> np.ndarray:
        """Array (3, height, width) of the size of the model input, of a picture uint8 (H, W, 3).

        It stays uint8, and small, where the image processor resizes it so; else it is float32, and the model input.
        """
        steps = {} if self.image_processor.resize_in_float else {"do_rescale": False, "do_normalize": False}
        settings = {"input_data_format": "channels_last", "return_tensors": "pt"}
        return self.image_processor(images=pixels, **settings, **steps)["pixel_values"][0].numpy()

    def encode(self, shrunk: list[np.ndarray]) -> list[list[torch.Tensor]]:
        """The image embeddings, batch size 1, of each of the pictures that `shrink` made; all are encoded together."""
        model, _ = self.for_pictures
        pixels = send(torch.from_numpy(np.stack(shrunk)), model.device)
        if pixels.dtype == torch.uint8:
            settings = {"do_resize": False, "input_data_format": "channels_first", "return_tensors": "pt"}
            pixels = self.image_processor(images=pixels, **settings)["pixel_values"]
        maps = model.get_image_embeddings(pixels.to(model.dtype))
        return [[feature_map[idx : idx + 1] for feature_map in maps] for idx in range(len(shrunk))]
