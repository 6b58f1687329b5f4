"""Pictures for people: masks laid over a photograph, with the prompts that made them; and pictures of numbers."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .colours import colour_of
from .cut_masks import CutMask

CLICK_COLOURS = {1: (30, 190, 70), 0: (235, 45, 45)}
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
HALO_OPACITY = 0.4  # of the dark line outside of an outline, which separates it from a ground of its own colour


def line_width(size):
    """Width in pixels of the lines in a picture of this size, (width, height) or (height, width)."""
    return max(1, round(max(size) / 500))


def overlay(picture, masks, points=(), boxes=(), opacity=0.5, numbers=None):
    """PIL picture with every mask as a tint and an outline, and with clicks and boxes on top.

    Colours follow from the numbers alone, so that objects keep them through a video.

    Args:
        picture: uint8 array (H, W, 3).
        masks: boolean arrays (H, W), or `CutMask`s, one per object.
        points: (x, y, label) in pixels of the picture; label 1 is drawn green, 0 red.
        boxes: (x_min, y_min, x_max, y_max) in pixels of the picture.
        opacity: weight of the tint, in 0..1.
        numbers: one integer from 1 on per mask, which decides its colour as in `index_picture`; 1, 2, … unless given.
    """
    image = Image.fromarray(picture)
    for number, mask in zip(numbers or range(1, len(masks) + 1), masks):
        paint(image, mask if isinstance(mask, CutMask) else CutMask.of(mask), colour_of(number - 1), opacity)
    for box in boxes:
        draw_box(image, box, WHITE)
    for point in points:
        draw_click(image, point)
    return image


def paint(image, mask, colour, opacity=0.5):
    """Lays a `CutMask` on a PIL picture, in place: a tint, and an outline with a dark line outside of it."""
    tint(image, mask, mask.part, colour, opacity)
    draw_outline(image, mask, colour)


def tint(image, mask, part, colour, opacity):
    """Mixes a colour into the pixels of a boolean array, which lies where the part of a `CutMask` does; in place."""
    image.paste(colour, (mask.left, mask.top), Image.fromarray(part * np.uint8(round(255 * opacity))))


def draw_outline(image, mask, colour):
    """Draws the border of a `CutMask`, inside of it, and a dark line outside; in place."""
    width = line_width(image.size)
    part = mask.widened(width)
    # The blurred mask is neither empty nor full where a border is near
    blurred = np.asarray(Image.fromarray(part).convert("L").filter(ImageFilter.BoxBlur(width)))
    line, halo = part & (blurred < 255), (blurred > 0) & ~part
    corner = (mask.left - width, mask.top - width)
    image.paste(BLACK, corner, Image.fromarray(halo * np.uint8(round(255 * HALO_OPACITY))))
    image.paste(colour, corner, Image.fromarray(line))


def draw_box(image, box, colour):
    """Draws a box (x_min, y_min, x_max, y_max) on a PIL picture, in place, with a dark line on both sides."""
    draw, width = ImageDraw.Draw(image), line_width(image.size)
    x_min, y_min, x_max, y_max = (round(side) for side in box)
    wide = (x_min - 1, y_min - 1, x_max + 1, y_max + 1)
    draw.rectangle(wide, outline=(20, 20, 20), width=width + 2)
    draw.rectangle((x_min, y_min, x_max, y_max), outline=colour, width=width)


def click_radius(size):
    """Radius in pixels of the clicks in a picture of this size."""
    return 3 + 3 * line_width(size)


def draw_click(image, point):
    """Draws a click (x, y, label) on a PIL picture, in place: a green plus, or a red minus with label 0."""
    x, y, label = point
    draw, radius = ImageDraw.Draw(image), click_radius(image.size)
    draw.ellipse((x - radius - 1, y - radius - 1, x + radius + 1, y + radius + 1), fill=(20, 20, 20))
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=WHITE)
    inner = radius - max(1, radius // 5)
    draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=CLICK_COLOURS[label])
    arm, half = round(0.55 * inner), max(0.5, inner / 8)
    draw.rectangle((x - arm, y - half, x + arm, y + half), fill=WHITE)
    if label:
        draw.rectangle((x - half, y - arm, x + half, y + arm), fill=WHITE)


# Pictures whose values are the numbers of objects.


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
    return picture_of_indices(indices)


def picture_of_indices(indices):
    """PIL picture of an array of integers (H, W): a palette picture, or 16 bits of grey where a number exceeds 255."""
    if indices.max() > 65535:
        raise ValueError(f"an index picture numbers at most 65535 objects, got {indices.max()}")
    if indices.max() > 255:
        return Image.fromarray(indices.astype(np.uint16))
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([0, 0, 0, *(channel for idx in range(255) for channel in colour_of(idx))])
    return image
