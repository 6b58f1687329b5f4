"""Pictures of files, addresses, bytes, PIL, arrays and tensors: colours as RGB, index pictures and masks as they are.

Shapes: H x W is the size of a picture in pixels. A file is read upright, as its EXIF data say. A PIL picture or an
array is taken as its pixels lie, since whoever has it draws on those.
"""

import base64
import contextlib
import io
import os
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from transformers.image_utils import load_image

from .settings_edgetam import LAYOUTS, as_plain_tensor

# What is taken of a folder; a single file may be of any format that Pillow knows.
PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".ppm", ".pgm", ".jp2"),
)
# The same for videos, where a single file may be of any format that FFmpeg knows.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".3gp", ".ogv"),
)
# What the largest level of a picture may be, for 8, 12 and 16 bits.
LARGEST_LEVELS = (255, 4095, 65535)
# Interpolation and sharpening overshoot by less than this part of the range.
OVERSHOOT = 0.25
LONGEST_NAME = 200  # characters of a name in an error
SHORTEST_TEXT = 64  # characters of a picture in base64; a shorter text is taken for the name of a file


def read_picture(source: Any, name: str | None = None, timeout: float | None = None) -> np.ndarray:
    """uint8 array (H, W, 3) of a colour picture in any format that Pillow knows, upright; of several frames the first.

    Transparency is dropped. Grey levels of more than 8 bits are scaled as `to_8_bits` says; only those of an address
    are clipped, since Transformers, which fetches it, does so: download such a picture first.

    Args:
        source: path, `bytes`, open binary file, address (http, https), `data:` URI or base64 text.
        name: what errors call the picture; made of `source` unless given.
        timeout: seconds to wait for an address.

    Raises:
        ValueError: for what is missing, damaged, no picture, or has more than twice `PIL.Image.MAX_IMAGE_PIXELS`
            (179 million pixels unless it was changed), which may be a decompression bomb.
        TypeError: for a source of another type.
    """
    name = _name_of(source) if name is None else name
    return decode_picture(open_picture(source, name, timeout), name)


def read_index_picture(source: Any, name: str | None = None) -> np.ndarray:
    """Integer or bool array (H, W) of the levels of a grey picture, or the indices of one with a palette, upright.

    Arguments and errors are those of `read_picture`; colours and floats are a `ValueError`.
    """
    name = _name_of(source) if name is None else name
    image = open_picture(source, name)
    indices = np.array(image)
    if indices.ndim != 2 or indices.dtype.kind == "f":
        raise ValueError(
            f"{name} must be a palette or grey picture of whole numbers, one for each object, got mode {image.mode}"
        )
    return indices


def is_picture_source(value: Any) -> bool:
    """Whether `read_picture` takes it."""
    return isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(value, "read")


def decode_picture(image: Image.Image, name: str) -> np.ndarray:
    """uint8 array (H, W, 3) of a PIL picture of any mode, as its pixels lie; transparency is dropped."""
    image = _loaded(image, name)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):  # convert("RGB") would clip these to white
        levels = np.asarray(image)
        return np.repeat(to_8_bits(levels.astype(levels.dtype.newbyteorder("=")), name)[..., None], 3, axis=2)
    if image.mode == "La":
        image = image.convert("LA")
    elif "transparency" in image.info:  # PIL warns when it drops a palette's transparency directly
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def largest_level(lowest: float, highest: float, is_whole: bool, name: str) -> int:
    """The level of white in a picture with these lowest and highest levels: 1, 255, 4095 or 65535.

    It is the least of these that no level exceeds; whole numbers are 0..255 at least. What counts is what the picture
    holds and not the type of its numbers, since files of 12 bits, and 8-bit levels in wider types, do not tell. A dark
    picture of 16 bits without any level above 4095 is therefore taken for one of 12 bits.

    Raises:
        ValueError: for levels that are negative or above 65535, beyond what floats overshoot.
    """
    overshoot = 0 if is_whole else OVERSHOOT
    for level in LARGEST_LEVELS if is_whole else (1, *LARGEST_LEVELS):
        if highest <= level * (1 + overshoot) and lowest >= -overshoot * highest:
            return level
    raise ValueError(
        f"{name} has levels outside 0..65535, {lowest:g} to {highest:g}: scale them to 0..255, or give the pixels of a "
        "picture that is already normalized with do_rescale=False"
    )


def to_8_bits(levels: np.ndarray, name: str) -> np.ndarray:
    """uint8 levels, rounded, of whole numbers in 0..255, 0..4095 or 0..65535, or of floats in these or in 0..1.

    Which of them it is follows from the picture, see `largest_level`.
    """
    if levels.dtype == np.uint8:
        return levels
    is_whole = levels.dtype.kind in "biu"
    if not is_whole and not np.isfinite(levels).all():
        raise ValueError(f"{name} has NaN or infinite pixels")
    white = largest_level(levels.min(), levels.max(), is_whole, name)
    if is_whole:
        return ((levels.astype(np.int64) * 255 + white // 2) // white).astype(np.uint8)
    return (levels.astype(np.float64) * (255 / white)).round().clip(0, 255).astype(np.uint8)


def _name_of(source: Any) -> str:
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        text = text if isinstance(text, str) else os.fsdecode(text)
        if text.startswith("data:"):
            return f"picture {text[:40]}…, a data: URI of {len(text)} characters,"
        return f"picture {text!r}" if len(text) <= LONGEST_NAME else f"picture {text[:40]!r}… of {len(text)} characters"
    name = getattr(source, "name", None)
    return f"picture {name!r}" if isinstance(name, str) else "the picture"


def open_picture(source: Any, name: str | None = None, timeout: float | None = None) -> Image.Image:
    """PIL picture of the first frame, decoded, and turned upright as its EXIF data say.

    Arguments and errors are those of `read_picture`.
    """
    name = _name_of(source) if name is None else name
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return _fetched(source, name, timeout)
    file = _file_of(source, name)
    try:
        opened = Image.open(file)
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name} cannot be read, it is not a picture in a format that Pillow knows: {_why_unknown(file)}"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{name} may be a decompression bomb: {str(error).split(',')[0]}; make it smaller, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged header leads Pillow's decoders into errors of every kind
        raise _damaged(name, error) from error
    with opened:
        image = _loaded(opened, name)
        with contextlib.suppress(Exception):  # damaged EXIF data do not say how the picture lies
            ImageOps.exif_transpose(image, in_place=True)
    return image


def _loaded(image: Image.Image, name: str) -> Image.Image:
    """The picture, decoded and not empty."""
    try:
        image.load()
    except Exception as error:  # see above
        raise _damaged(name, error) from error
    if min(image.size) < 1:
        raise ValueError(f"{name} is empty: its size is {image.size[0]}x{image.size[1]} pixels")
    return image


def _damaged(name: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"{name} cannot be decoded, its file is truncated or damaged: {reason}")


def _why_unknown(file: Any) -> str:
    """What to do about a file that Pillow did not recognize."""
    if isinstance(file, io.BytesIO):
        is_empty = not file.getbuffer().nbytes
    else:
        is_empty = isinstance(file, str) and os.path.getsize(file) == 0
    return "it is empty, 0 bytes" if is_empty else "convert it to PNG or JPEG, or check that it is complete"


def _file_of(source: Any, name: str) -> str | IO[bytes]:
    """Path or open file, which `PIL.Image.open` takes."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if hasattr(source, "read"):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"{name} must be a path, bytes, an open binary file, an address or a data: URI, got {type(source).__name__}"
        )
    text = os.fsdecode(source)
    if text.startswith("data:"):
        return io.BytesIO(_of_uri(text, name))
    if os.path.isfile(text):
        return text
    if os.path.isdir(text):
        raise ValueError(f"{name} cannot be read, it is a folder: give one of its files")
    if len(text) < SHORTEST_TEXT or not isinstance(source, str):
        raise ValueError(f"{name} cannot be read: No such file")
    return io.BytesIO(_of_base64(text, f"{name} cannot be read: no such file, nor address, nor base64 text"))


def _of_uri(uri: str, name: str) -> bytes:
    header, _, text = uri.partition(",")
    if not header.endswith(";base64") or not text:
        raise ValueError(f"{name} is cut off or not in base64: expected data:image/png;base64,…")
    return _of_base64(text, f"{name} is cut off or damaged: its base64 text is not valid")


def _of_base64(text: str, complaint: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise ValueError(complaint) from error


def _fetched(address: str, name: str, timeout: float | None) -> Image.Image:
    try:
        return load_image(address, timeout=timeout)
    except Exception as error:  # of requests or httpx, whichever Transformers uses, or of Pillow
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{name} cannot be fetched, check the address and the connection, or give a file: {reason[:LONGEST_NAME]}"
        ) from error


def to_rgb(
    image: Any, name: str, data_format: str | None = None, is_rescaled: bool = True, is_converted: bool = True
) -> torch.Tensor:
    """Tensor (3, H, W) of one picture of any kind, in 0..255; 8-bit levels stay uint8, floats stay floats."""
    if is_picture_source(image):
        image, data_format = read_picture(image), "channels_last"
    elif isinstance(image, Image.Image):
        if len(image.getbands()) == 4 and not is_converted:
            raise ValueError(f"{name} has mode {image.mode}, the model takes RGB: leave do_convert_rgb=False out")
        image, data_format = decode_picture(image, name), "channels_last"
    image = as_plain_tensor(image, name, "real numbers")
    if image.ndim not in (2, 3) or image.numel() == 0:
        raise ValueError(f"{name} must be one non-empty picture with 2 or 3 dimensions, got shape {tuple(image.shape)}")
    image = image[None] if image.ndim == 2 else image.movedim(_channel_axis(image.shape, data_format, name), 0)
    if image.shape[0] not in (1, 3, 4):
        raise ValueError(f"{name} must have 1, 3 or 4 channels, got shape {tuple(image.shape)} (channels first)")
    if image.shape[0] == 4 and not is_converted:
        raise ValueError(f"{name} has 4 channels, the model takes 3: leave do_convert_rgb=False out")
    return _to_8_bit_range(image[:3], name, is_rescaled).expand(3, -1, -1).contiguous()


def _to_8_bit_range(image: torch.Tensor, name: str, is_rescaled: bool) -> torch.Tensor:
    """The picture in a dtype that can be resized, uint8 or float, with levels in 0..255.

    Floats stay in 0..1, or wherever they are, if they are not to be rescaled.
    """
    if image.is_floating_point():
        if not image.isfinite().all():
            raise ValueError(f"{name} has NaN or infinite pixels")
        image = image.float() if image.element_size() < 4 else image
        lowest, highest = (float(level) for level in image.aminmax()) if is_rescaled else (0.0, 255.0)
        white = largest_level(lowest, highest, False, name)
        return image if white == 255 else image * (255 / white)
    if image.dtype == torch.bool:
        return image.to(torch.uint8) * 255
    if image.dtype == torch.uint8:
        return image
    return torch.from_numpy(to_8_bits(image.cpu().numpy(), name)).to(image.device)


def _channel_axis(shape: torch.Size, data_format: str | None, name: str) -> int:
    """Which axis has the channels: 0 or 2."""
    if data_format is not None:
        return LAYOUTS.index(data_format) * 2
    for num_channels in (3, 4, 1):
        axes = [axis for axis in (0, 2) if shape[axis] == num_channels]
        if len(axes) == 2 and max(shape) > 1:
            raise ValueError(
                f"{name} has shape {tuple(shape)}, whose channels may be first or last: say which with "
                'input_data_format="channels_first" or "channels_last"'
            )
        if axes:
            return axes[0]
    raise ValueError(
        f"{name} must have shape (height, width), (height, width, channels) or (channels, height, width) "
        f"with 1, 3 or 4 channels, got {tuple(shape)}"
    )
