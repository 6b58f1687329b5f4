"""What a user may give to a session, checked at the door: integers, object ids, dtypes, masks and pixels.

Shapes: (height, width) the frames of the video, (H, W) the model input.
"""

import operator
from typing import Any

import numpy as np
import torch
from PIL import Image

from .settings_edgetam import check_numbers

NUMBERS = "biuf"  # kinds of NumPy's dtypes that a mask may have


def read_integer(value: Any, name: str) -> int:
    """The integer, of Python, NumPy or a tensor without dimensions; raises a TypeError for anything else."""
    try:
        is_flag = isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")
        if is_flag or getattr(value, "ndim", 0) != 0:
            raise TypeError("a flag, or more than one number")
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise TypeError(f"{name} must be an integer, got {value!r}") from error


def check_count(value: Any, name: str, least: int = 1) -> int:
    """An integer that is at least `least`; raises a TypeError or a ValueError otherwise."""
    count = read_integer(value, name)
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {count}")
    return count


def check_session(session: Any, image_size: tuple[int, int] | None = None) -> Any:
    """The session; raises a TypeError for anything else, and a ValueError for one of another image size (H, W)."""
    if not hasattr(session, "adopt"):  # remote code may have several copies of the session's class
        raise TypeError(
            "inference_session must come from EdgeTamVideoProcessor.init_video_session, got "
            f"{type(session).__name__}; sessions of Transformers' own Sam2VideoProcessor do not fit"
        )
    if image_size is not None and session.image_size is not None and tuple(session.image_size) != image_size:
        raise ValueError(
            f"the session was made for an image size of {tuple(session.image_size)}, the model has {image_size}; load "
            "both with the same image_size, or give the processor size={'height': …, 'width': …}"
        )
    return session


def read_object_ids(obj_ids: Any) -> list[int]:
    """A new list of integers, each once, from one id or a list of ids."""
    if isinstance(obj_ids, (np.ndarray, torch.Tensor)) and obj_ids.ndim > 0:
        if obj_ids.ndim != 1:
            raise ValueError(f"obj_ids must be one integer or a list of them, got shape {tuple(obj_ids.shape)}")
        obj_ids = list(obj_ids)
    if not isinstance(obj_ids, (list, tuple, range)):
        obj_ids = [obj_ids]
    ids = []
    for obj_id in obj_ids:
        try:
            ids.append(read_integer(obj_id, "an id"))
        except TypeError as error:
            raise TypeError(f"obj_ids must be integers, got {obj_id!r}") from error
    if not ids:
        raise ValueError("obj_ids is empty: give the id of at least one object")
    if len(set(ids)) < len(ids):
        raise ValueError(f"obj_ids must name every object once, got {ids}")
    return ids


def read_dtype(value: Any, name: str) -> torch.dtype:
    """A dtype of model inputs, from a `torch.dtype` or its name; raises a TypeError otherwise."""
    dtype = getattr(torch, value, None) if isinstance(value, str) else value
    if not isinstance(dtype, torch.dtype) or dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        raise TypeError(f"{name} must be torch.float32, float16, bfloat16 or float64, got {value!r}")
    return dtype


def check_nested(value: Any, name: str) -> None:
    """Raises a TypeError if tensors in nested lists have no numbers in memory, or complex ones."""
    if isinstance(value, (list, tuple)):
        for item in value:
            check_nested(item, name)
    elif isinstance(value, torch.Tensor):
        check_numbers(value, name)


def check_pixels(pixel_values: Any, name: str) -> None:
    """Raises a TypeError for anything but a floating-point tensor, and a ValueError for one with NaN or infinity.

    Numbers on a GPU are not checked: the program would wait for them.
    """
    check_numbers(pixel_values, name)
    if not pixel_values.is_floating_point():
        raise TypeError(
            f"{name} must be normalised pixel values of a floating-point dtype, got {pixel_values.dtype}; use the "
            "processor"
        )
    if pixel_values.device.type == "cpu" and not pixel_values.detach().sum(dtype=torch.float32).isfinite():
        raise ValueError(f"{name} has NaN or infinite pixels: use the processor")


def read_masks(input_masks: Any) -> list[torch.Tensor | None]:
    """Coverage (height, width) in 0..1 of each pixel by an object, or `None`, one per object.

    Args:
        input_masks: a mask, masks on the first dimension of an array or tensor, or a list of masks and `None`.
    """
    if isinstance(input_masks, torch.Tensor):
        check_numbers(input_masks, "input_masks")
    if isinstance(input_masks, (np.ndarray, torch.Tensor)) and input_masks.ndim > 2 and 0 not in input_masks.shape:
        input_masks = list(input_masks.reshape(-1, *input_masks.shape[-2:]))
    elif isinstance(input_masks, (np.ndarray, torch.Tensor, Image.Image)):
        input_masks = [input_masks]
    if not isinstance(input_masks, (list, tuple)):
        raise TypeError(
            f"input_masks must be an array, a tensor or a list of them, or of PIL pictures, got "
            f"{type(input_masks).__name__}"
        )
    return [None if mask is None else _read_mask(mask) for mask in input_masks]


def _read_mask(mask: Any) -> torch.Tensor:
    if isinstance(mask, Image.Image):
        mask = _read_picture(mask)
    if isinstance(mask, np.ndarray):
        mask = _from_numpy(mask > 0 if mask.dtype.kind in "iu" else mask)
    if not isinstance(mask, torch.Tensor):
        raise TypeError(f"a mask must be an array, a tensor or a PIL picture, got {type(mask).__name__}")
    check_numbers(mask, "a mask")
    while mask.ndim > 2 and len(mask) == 1:
        mask = mask[0]
    if mask.ndim != 2 or mask.numel() == 0:
        raise ValueError(f"a mask must have shape (height, width) and at least one pixel, got {tuple(mask.shape)}")
    is_float, mask = mask.is_floating_point(), mask.detach().cpu().double()
    if not mask.isfinite().all():
        raise ValueError("a mask has NaN or infinite pixels")
    return (mask.clamp(0, 1) if is_float else mask > 0).float()


def _from_numpy(mask: np.ndarray) -> torch.Tensor:
    """The same numbers, of an array of any memory layout, byte order and size of numbers."""
    if mask.dtype.kind not in NUMBERS:
        raise TypeError(f"a mask must hold real numbers, got an array of dtype {mask.dtype}")
    return torch.from_numpy(np.array(mask, dtype=np.float64 if mask.dtype.kind == "f" else np.bool_, order="C"))


def _read_picture(picture: Image.Image) -> np.ndarray:
    """The numbers of a PIL picture with a single channel."""
    if len(picture.getbands()) != 1:
        raise ValueError(
            f"a mask must have one number per pixel, a PIL picture of mode {picture.mode} has "
            f"{len(picture.getbands())}: convert it to mode 1, L or P"
        )
    try:
        return np.array(picture)
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"a mask cannot be decoded, its file is truncated or damaged: {error}") from error
