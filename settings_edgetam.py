"""Settings of processors, checked: sizes, flags, numbers, devices, and how arrays are laid out.

Sizes are (height, width) in pixels.
"""

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from transformers.image_utils import pil_torch_interpolation_mapping

LARGEST_SIDE = 2**24  # pixels; float32 coordinates are exact up to here
LAYOUTS = ("channels_first", "channels_last")


def check_numbers(tensor: Any, name: str) -> None:
    """Raises a TypeError for anything but a dense tensor of real numbers in memory."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if not _is_plain(tensor):
        raise TypeError(
            f"{name} must be a plain tensor of real numbers, got one of dtype {tensor.dtype}, layout {tensor.layout} "
            f"and device {tensor.device}"
        )


def as_plain_tensor(values: Any, name: str, content: str) -> torch.Tensor:
    """The tensor of an array, or the tensor itself; unsigned integers of 16 to 64 bits become signed.

    Raises:
        TypeError: for anything but dense real numbers in memory; it says that `name` must hold `content`.
    """
    if isinstance(values, np.ndarray):
        dtype = values.dtype
        if dtype.kind not in "buif" or dtype.itemsize > 8:
            raise TypeError(f"{name} must hold {content}, got an array of dtype {dtype}")
        if dtype.kind == "u" and dtype.itemsize > 1:
            dtype = np.dtype(np.int32 if dtype.itemsize == 2 else np.int64)
        values = torch.from_numpy(np.require(values, dtype.newbyteorder("="), ["C", "W"]))
    if not isinstance(values, torch.Tensor):
        raise TypeError(
            f"{name} must be a PIL picture, an array, a tensor, or the path, address or bytes of a file, got "
            f"{type(values).__name__}"
        )
    if not _is_plain(values):
        raise TypeError(f"{name} must hold {content}, got a tensor {values.dtype}, {values.layout} on {values.device}")
    return values


def _is_plain(tensor: torch.Tensor) -> bool:
    is_dense = tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized
    return is_dense and not tensor.is_complex() and not tensor.is_meta


def as_list(value: Any, name: str) -> Any:
    """What an array or a tensor holds, as nested lists or a single number; anything else stays as it is.

    Raises:
        TypeError: for a tensor that is not dense, or has no real numbers in memory.
    """
    if isinstance(value, torch.Tensor):
        check_numbers(value, name)
    return value.tolist() if isinstance(value, (np.ndarray, np.generic, torch.Tensor)) else value


def height_width(size: Any, name: str = "size") -> tuple[int, int]:
    """(height, width) from an int, a pair, or a dictionary with the keys `height` and `width`."""
    sides = as_list(size, name)
    if isinstance(sides, Integral):
        sides = (sides, sides)
    elif hasattr(sides, "get"):
        sides = (sides.get("height"), sides.get("width"))
    is_pair = isinstance(sides, (list, tuple)) and len(sides) == 2
    if not is_pair or not all(_is_whole(side) and 1 <= side <= LARGEST_SIDE for side in sides):
        raise ValueError(
            f'{name} must be {{"height": H, "width": W}} or (H, W) with positive numbers of pixels, got {size!r}'
        )
    return int(sides[0]), int(sides[1])


def as_layout(data_format: Any, name: str) -> str | None:
    """ "channels_first", "channels_last" or `None`."""
    value = getattr(data_format, "value", data_format)
    if value is not None and value not in LAYOUTS:
        raise ValueError(f'{name} must be "channels_first" or "channels_last", got {data_format!r}')
    return value


def checked_settings(settings: dict) -> dict:
    """The settings, each in a type that all versions of Transformers take; `None` stays, for the default.

    Names that are not known here stay as they are.

    Raises:
        ValueError, TypeError: naming the setting, with what was expected and what came.
    """
    return {
        name: READERS[name](value, name) if value is not None and name in READERS else value
        for name, value in settings.items()
    }


def remote_code_name(processor: Any) -> str:
    """How `auto_map` names the class of a processor: `file.Class`, of a file of remote code."""
    return f"{type(processor).__module__.split('.')[-1]}.{type(processor).__name__}"


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def as_flag(value: Any, name: str) -> bool:
    """True or False."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {value!r}")


def as_number(value: Any, name: str, lowest: float = -math.inf, highest: float = math.inf) -> float:
    """A finite number from `lowest` to `highest`."""
    value = as_list(value, name)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not (math.isfinite(number) and lowest <= number <= highest):
        limits = "finite" if lowest == -math.inf else f"at least {lowest:g}"
        limits = limits if highest == math.inf else f"between {lowest:g} and {highest:g}"
        raise ValueError(f"{name} must be {limits}, got {value!r}")
    return number


def as_count(value: Any, name: str, lowest: int = 0, highest: float = math.inf) -> int:
    """A whole number from `lowest` to `highest`."""
    if not _is_whole(value):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    as_number(value, name, lowest, highest)
    return int(value)


def _positive(value: Any, name: str) -> float:
    number = as_number(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be above 0, got {value!r}")
    return number


def _for_channels(value: Any, name: str) -> float | list[float]:
    """One number for all channels, or three."""
    read = _positive if name == "image_std" else as_number
    value = as_list(value, name)
    if not isinstance(value, (list, tuple)):
        return read(value, name)
    if len(value) != 3:
        raise ValueError(f"{name} must have 3 numbers, since all pictures become RGB, got {value!r}")
    return [read(number, name) for number in value]


def _size(value: Any, name: str) -> dict[str, int]:
    height, width = height_width(value, name)
    return {"height": height, "width": width}


def _resample(value: Any, name: str) -> int | InterpolationMode:
    is_number = isinstance(value, Integral) and not isinstance(value, bool)
    mode = pil_torch_interpolation_mapping.get(value) if is_number else value
    if not isinstance(mode, InterpolationMode) or mode in (InterpolationMode.BOX, InterpolationMode.HAMMING):
        raise ValueError(
            f"{name} must be a filter of PIL.Image.Resampling that torchvision has: 0 (nearest), 1 (Lanczos), 2 "
            f"(bilinear) or 3 (bicubic), got {value!r}"
        )
    return value


def _tensor_type(value: Any, name: str) -> str:
    if getattr(value, "value", value) not in ("pt", "np"):
        raise ValueError(f'{name} must be "pt", "np" or None, got {value!r}')
    return value


def _output_layout(value: Any, name: str) -> str:
    if as_layout(value, name) != "channels_first":
        raise ValueError(f'{name} must be "channels_first", the only layout that the model takes, got {value!r}')
    return value


def as_device(value: Any, name: str) -> torch.device:
    """A device that this computer has."""
    if not isinstance(value, (str, int, torch.device)) or isinstance(value, bool):
        raise TypeError(f'{name} must be a device such as "cpu" or "cuda:0", got {value!r}')
    try:
        device = torch.device(value)
        if device.type == "meta":
            raise ValueError(f"{name} must be a device that holds numbers, got meta")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:  # each backend has its own
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f'{name} {value!r} is not there: give a device of this machine, such as "cpu" ({reason})'
        ) from error
    return device


def _options(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(option, str) for option in value):
        raise TypeError(f"{name} must be a dictionary of options of mask generation, got {value!r}")
    return value


READERS = {
    "do_resize": as_flag,
    "do_rescale": as_flag,
    "do_normalize": as_flag,
    "do_convert_rgb": as_flag,
    "do_center_crop": as_flag,
    "do_pad": as_flag,
    "default_to_square": as_flag,
    "disable_grouping": as_flag,
    "resize_in_float": as_flag,
    "rescale_factor": _positive,
    "image_mean": _for_channels,
    "image_std": _for_channels,
    "size": _size,
    "mask_size": _size,
    "resample": _resample,
    "return_tensors": _tensor_type,
    "data_format": _output_layout,
    "device": as_device,
    "mask_generation": _options,
}
