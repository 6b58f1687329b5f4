"""Frames in: pixel values for EdgeTAM from the frames of a video."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Sam2VideoVideoProcessor

from .settings_edgetam import as_device, check_numbers, remote_code_name


class EdgeTamVideoVideoProcessorKwargs(
    Sam2VideoVideoProcessor.valid_kwargs,
    total=False,  # type: ignore[call-arg] # mypy does not know that this is a TypedDict
):
    """Settings of `EdgeTamVideoVideoProcessor` that can also be given per call."""

    resize_with_pil: bool


class EdgeTamVideoVideoProcessor(Sam2VideoVideoProcessor):
    """Pixel values for EdgeTAM from videos.

    Args:
        size (`dict`, *optional*, defaults to 1024 x 1024):
            Size of the model input.
        resize_with_pil (`bool`, *optional*, defaults to `False`):
            Resize frames with PIL's bicubic filter, as the original release does with folders of frames. By default
            they are resized bilinearly, equal to `Sam2VideoVideoProcessor` of Transformers.
        kwargs:
            The other settings of `Sam2VideoVideoProcessor`.
    """

    _auto_class = "AutoVideoProcessor"
    valid_kwargs = EdgeTamVideoVideoProcessorKwargs
    resize_with_pil = False

    def frame_processor(self, device: torch.device | str = "cpu") -> Callable[[torch.Tensor], torch.Tensor]:
        """A function that makes pixel values (3, H, W), on a device, of a frame, uint8 (3, height, width)."""
        return partial(self.preprocess_frame, device=as_device(device, "device"))

    def preprocess_frame(self, frame: torch.Tensor, device: torch.device | str = "cpu") -> torch.Tensor:
        """Pixel values (3, H, W) of a frame, uint8 (3, height, width).

        Raises:
            TypeError, ValueError: for anything but a tensor of such a shape.
        """
        check_numbers(frame, "a frame")
        if frame.dtype != torch.uint8 or frame.ndim != 3 or len(frame) != 3 or 0 in frame.shape:
            raise ValueError(f"a frame must be uint8 (3, height, width), got {frame.dtype} {tuple(frame.shape)}")
        videos = self(videos=[frame[None].to(device)], return_tensors="pt", do_sample_frames=False)
        return videos["pixel_values_videos"][0, 0]

    def _preprocess(
        self,
        videos: Sequence[torch.Tensor],
        size: Any,
        return_tensors: str | None,
        resize_with_pil: bool = False,
        **kwargs: Any,
    ) -> Any:
        if not (resize_with_pil and kwargs["do_resize"]):
            return super()._preprocess(videos, size=size, return_tensors=return_tensors, **kwargs)
        original_sizes = [video.shape[-2:] for video in videos]
        videos = [torch.stack([_resize(frame, size.height, size.width) for frame in video]) for video in videos]
        features = super()._preprocess(
            videos, size=size, return_tensors=return_tensors, **{**kwargs, "do_resize": False}
        )
        features["original_sizes"] = torch.tensor(original_sizes) if return_tensors == "pt" else original_sizes
        return features

    def to_dict(self) -> dict[str, Any]:
        """Settings that load this class with remote code allowed and native's class without."""
        settings = super().to_dict()
        settings["video_processor_type"] = "Sam2VideoVideoProcessor"
        settings["processor_class"] = "Sam2VideoProcessor"
        settings["auto_map"] = {self._auto_class: remote_code_name(self)}
        return settings


def _resize(frame: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """uint8 (3, height, width) of a frame, uint8 (3, H, W)."""
    picture = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy()).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).to(frame.device)
