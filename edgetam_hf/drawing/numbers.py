"""Numbers of objects, each on a field of the colour of its object, where there is room for it."""

from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ..found_objects import CutMask
from .colours import Colour

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
ROOM_SAMPLES = 512  # points along the longer side of an object at which there may be room for its number


def text_font(size: tuple[int, int]) -> ImageFont.FreeTypeFont:
    """Font for a picture of this size, (width, height): larger in larger ones."""
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(max(9, round(max(size) / 45))))


def text_colour(colour: Colour) -> Colour:
    """White or black, whatever is easier to read on a colour."""
    return BLACK if np.dot(colour, (0.3, 0.59, 0.11)) > 140 else WHITE


def tag_size(number: int, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """(width, height) of the tag with a number."""
    height = round(1.45 * font.size)
    return max(round(font.getlength(str(number)) + 0.7 * font.size), height), height


def draw_number(
    image: Image.Image, number: int, centre: tuple[int, int], colour: Colour, font: ImageFont.FreeTypeFont
) -> tuple[slice, slice]:
    """Draws the tag with a number as near to (x, y) as the picture allows; returns the rows and columns that it has."""
    width, height = tag_size(number, font)
    x = min(max(round(centre[0] - width / 2), 0), max(image.width - width, 0))
    y = min(max(round(centre[1] - height / 2), 0), max(image.height - height, 0))
    draw_tag(image, (x, y, x + width, y + height), str(number), colour, font)
    return slice(y, y + height + 1), slice(x, x + width + 1)


def draw_tag(
    image: Image.Image, box: tuple[int, int, int, int], text: str, colour: Colour, font: ImageFont.FreeTypeFont
) -> None:
    """Draws a text on a rounded field of a colour, in place; box is (x_min, y_min, x_max, y_max)."""
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle(box, radius=(box[3] - box[1]) // 3, fill=colour, outline=(20, 20, 20))
    middle = ((box[0] + box[2] + 1) / 2, (box[1] + box[3] + 1) / 2)
    draw.text(middle, text, fill=text_colour(colour), font=font, anchor="mm")


def roomy_place(mask: CutMask, is_free: np.ndarray, tag: tuple[int, int]) -> tuple[int, int] | None:
    """(x, y) of the pixel round which most of a tag lies on what is free of a mask; None if that is too little.

    Args:
        mask: of an object.
        is_free: boolean array of the pixels of its part that a tag may lie on.
        tag: (width, height) of it.
    """
    step = max(max(mask.part.shape) // ROOM_SAMPLES, 1)
    has_room = (mask.part & is_free)[::step, ::step]
    padded = Image.fromarray(np.pad(has_room, 1)).convert("L")
    room = np.asarray(padded.filter(ImageFilter.BoxBlur(tuple(side / step / 2 for side in tag))))[1:-1, 1:-1]
    if room.max() < 0.8 * 255:
        return None
    # Of places that are as good, the one nearest to the middle, where a wider blur finds most of the object
    wide = np.asarray(padded.filter(ImageFilter.BoxBlur(max(min(has_room.shape) // 4, 1))))[1:-1, 1:-1]
    places = np.argwhere(room >= min(room.max(), 0.97 * 255))
    widths = wide[tuple(places.T)]
    places = places[widths == widths.max()]
    row, column = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()].tolist()
    return mask.left + step * column, mask.top + step * row
