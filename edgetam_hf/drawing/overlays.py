"""Pictures for people: masks laid over a photograph, with the prompts that made them."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..found_objects import CutMask
from .colours import Colour, colour_of
from .numbers import BLACK, WHITE, draw_number, roomy_place, tag_size, text_font

CLICK_COLOURS = {1: (30, 190, 70), 0: (235, 45, 45)}
HALO_OPACITY = 0.4  # of the dark line round an outline, which separates it from a background of the same colour


def line_width(size: tuple[int, int]) -> int:
    """Width in pixels of the lines in a picture of this size, (width, height) or (height, width)."""
    return max(1, round(max(size) / 500))


def overlay(
    picture: np.ndarray,
    masks: Sequence[np.ndarray | CutMask],
    points: Iterable[tuple[float, float, int]] = (),
    boxes: Iterable[Sequence[float]] = (),
    opacity: float = 0.5,
    numbers: Sequence[int] | None = None,
) -> Image.Image:
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


def write_numbers(
    image: Image.Image,
    masks: Sequence[np.ndarray],
    numbers: Sequence[int],
    points: Iterable[tuple[float, float, int]] = (),
) -> None:
    """Writes a number on what is seen of each mask, of which later ones lie on top, where there is room; in place.

    Args:
        image: picture that `overlay` made.
        masks, numbers, points: as for `overlay`; no number hides a click.
    """
    font, is_free = text_font(image.size), np.ones((image.height, image.width), bool)
    for point in points:
        is_free[click_window(point, image.size)] = False
    for number, mask in reversed([*zip(numbers, map(CutMask.of, masks))]):
        centre = roomy_place(mask, is_free[mask.window], tag_size(number, font)) if mask.area else None
        if centre is not None:
            is_free[draw_number(image, number, centre, colour_of(number - 1), font)] = False
        is_free[mask.window] &= ~mask.part


def paint(image: Image.Image, mask: CutMask, colour: Colour, opacity: float = 0.5) -> None:
    """Lays a `CutMask` on a PIL picture, in place: a tint, and an outline with a dark line outside of it."""
    tint(image, mask, mask.part, colour, opacity)
    draw_outline(image, mask, colour)


def tint(image: Image.Image, mask: CutMask, part: np.ndarray, colour: Colour, opacity: float) -> None:
    """Mixes a colour into the pixels of a boolean array, which lies where the part of a `CutMask` does; in place."""
    image.paste(colour, (mask.left, mask.top), Image.fromarray(part * np.uint8(round(255 * opacity))))


def draw_outline(image: Image.Image, mask: CutMask, colour: Colour) -> None:
    """Draws the border of a `CutMask`, inside of it, and a dark line outside; in place."""
    width = line_width(image.size)
    part = mask.widened(width)
    # The blurred mask is neither empty nor full where a border is near
    blurred = np.asarray(Image.fromarray(part).convert("L").filter(ImageFilter.BoxBlur(width)))
    line, halo = part & (blurred < 255), (blurred > 0) & ~part
    corner = (mask.left - width, mask.top - width)
    image.paste(BLACK, corner, Image.fromarray(halo * np.uint8(round(255 * HALO_OPACITY))))
    image.paste(colour, corner, Image.fromarray(line))


def draw_box(image: Image.Image, box: Sequence[float], colour: Colour) -> None:
    """Draws a box (x_min, y_min, x_max, y_max) on a PIL picture, in place, with a dark line on both sides."""
    draw, width = ImageDraw.Draw(image), line_width(image.size)
    x_min, y_min, x_max, y_max = (round(side) for side in box)
    wide = (x_min - 1, y_min - 1, x_max + 1, y_max + 1)
    draw.rectangle(wide, outline=(20, 20, 20), width=width + 2)
    draw.rectangle((x_min, y_min, x_max, y_max), outline=colour, width=width)


def click_radius(size: tuple[int, int]) -> int:
    """Radius in pixels of the clicks in a picture of this size."""
    return 3 + 3 * line_width(size)


def click_window(point: tuple[float, float, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns that a click has in a picture of this size."""
    radius = click_radius(size)
    rows, columns = (slice(max(round(place) - radius, 0), max(round(place) + radius, 0)) for place in point[1::-1])
    return rows, columns


def draw_click(image: Image.Image, point: tuple[float, float, int]) -> None:
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
