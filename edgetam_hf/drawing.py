"""Pictures for people: masks laid over a photograph, with the prompts that made them."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw

from .whole_files import save_whole, whole_file  # noqa: F401

GOLDEN_RATIO = 0.618034
CLICK_COLOURS = {1: (40, 220, 80), 0: (240, 50, 50)}


def colour_of(object_idx):
    """RGB colour of an object, in 0..255; neighbouring indices get hues far apart."""
    hue = (0.55 + object_idx * GOLDEN_RATIO) % 1
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.85, 1.0))


def overlay(picture, masks, points=(), boxes=(), opacity=0.5, numbers=None):
    """PIL picture with every mask as a tint and an outline, and with clicks and boxes on top.

    Args:
        picture: uint8 array (H, W, 3).
        masks: boolean arrays (H, W), one per object.
        points: (x, y, label) in pixels of the picture; label 1 is drawn green, 0 red.
        boxes: (x_min, y_min, x_max, y_max) in pixels of the picture.
        opacity: weight of the tint, in 0..1.
        numbers: one integer from 1 on per mask, which decides its colour as in `index_picture`; 1, 2, … unless given.
    """
    canvas = picture.astype(np.float32)
    width = max(1, round(max(picture.shape[:2]) / 400))
    for number, mask in zip(numbers or range(1, len(masks) + 1), masks):
        colour = np.array(colour_of(number - 1), np.float32)
        canvas[mask] += opacity * (colour - canvas[mask])
        canvas[outline(mask, width)] = colour
    image = Image.fromarray(canvas.round().astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for box in boxes:
        draw.rectangle(box, outline=(255, 255, 255), width=2 * width)
    radius = 4 * width
    for x, y, label in points:
        circle = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(circle, fill=CLICK_COLOURS[label], outline=(255, 255, 255), width=width)
    return image


def outline(mask, width):
    """Boolean array (H, W) of the pixels of a mask that lie within `width` pixels of its border."""
    padded = np.pad(mask, width)
    inner = mask.copy()
    height, length = mask.shape
    for offset in range(-width, width + 1):
        inner &= padded[width + offset : width + offset + height, width : width + length]
        inner &= padded[width : width + height, width + offset : width + offset + length]
    return mask & ~inner


def index_picture(masks, numbers=None):
    """PIL palette picture whose value is 0 for background and an object's number in its mask; later masks lie on top.

    Args:
        masks: boolean arrays (H, W), one per object, at least one.
        numbers: one different integer in 1..255 per mask; 1, 2, … unless given.

    Raises:
        ValueError: for numbers that 8 bits cannot hold, so for more than 255 masks.
    """
    numbers = range(1, len(masks) + 1) if numbers is None else numbers
    if len(masks) > 255:
        raise ValueError(f"a palette picture numbers at most 255 masks, got {len(masks)}")
    if len(numbers) != len(masks) or len(set(numbers)) != len(masks) or not all(1 <= n <= 255 for n in numbers):
        raise ValueError(f"{len(masks)} masks need as many different numbers in 1..255, got {list(numbers)}")
    indices = np.zeros(masks[0].shape, np.uint8)
    for number, mask in zip(numbers, masks):
        indices[mask] = number
    image = Image.fromarray(indices)
    image.putpalette([0, 0, 0, *(channel for idx in range(255) for channel in colour_of(idx))])
    return image
