"""A picture of found objects that explains itself: colours that stand out, a number on each object, and a legend."""

from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ..found_objects import FoundObject
from .colours import Colour, standing_out
from .overlays import BLACK, WHITE, click_radius, draw_box, draw_click, draw_outline, tint

MAX_LEGEND_ROWS = 12  # more objects are numbered, but not listed
ROOM_SAMPLES = 512  # points along the longer side of an object at which there may be room for its number
TINT = 0.45  # opacity of a mask
LEGEND_COLOUR = (24, 26, 30)


def explained_picture(picture: np.ndarray, objects: list[FoundObject], has_prompts: bool = True) -> Image.Image:
    """PIL picture with the objects' masks, smaller ones on top, their numbers where they fit, and a legend below.

    Args:
        picture: uint8 array (H, W, 3).
        objects: `FoundObject`s.
        has_prompts: draw the prompts, list the objects below (if they are few), and number also those objects that are
            too small to hold their number.
    """
    objects = sorted(objects, key=lambda o: -o.mask.area)
    colours = standing_out(picture, [o.mask for o in objects])
    image, top = Image.fromarray(picture), topmost(objects, picture.shape[:2])
    drawn = [(found, colour) for found, colour in zip(objects, colours) if found.mask.area]
    for found, colour in drawn:
        tint(image, found.mask, top[found.mask.window] == found.number, colour, TINT)
    for found, colour in drawn:
        draw_outline(image, found.mask, colour)
    is_taken = np.zeros(picture.shape[:2], bool)
    if has_prompts:
        _draw_prompts(image, objects, colours, is_taken)
    font = text_font(image.size)
    for found, colour in reversed(drawn):
        _draw_number(image, found, colour, font, (top, is_taken, has_prompts))
    if has_prompts and 0 < len(objects) <= MAX_LEGEND_ROWS:
        return _with_legend(image, sorted(zip(objects, colours), key=lambda pair: pair[0].number), font)
    return image


def topmost(objects: list[FoundObject], size: tuple[int, int]) -> np.ndarray:
    """Array (H, W) of the number of the object that lies on top at each pixel, 0 where there is none.

    Smaller objects lie on top of larger ones, so that few vanish.
    """
    most = max((o.number for o in objects), default=0)
    indices = np.zeros(size, np.uint8 if most < 256 else np.uint16 if most < 65536 else np.uint32)
    for found in sorted(objects, key=lambda o: -o.mask.area):
        indices[found.mask.window][found.mask.part] = found.number
    return indices


def text_font(size: tuple[int, int]) -> ImageFont.FreeTypeFont:
    """Font for a picture of this size, (width, height): larger in larger ones."""
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(max(9, round(max(size) / 45))))


def text_colour(colour: Colour) -> Colour:
    """White or black, whatever is easier to read on a colour."""
    return BLACK if np.dot(colour, (0.3, 0.59, 0.11)) > 140 else WHITE


def _draw_prompts(image: Image.Image, objects: list[FoundObject], colours: list[Colour], is_taken: np.ndarray) -> None:
    """Draws boxes and clicks, and marks the places of clicks as taken."""
    for found, colour in zip(objects, colours):
        if found.box:
            draw_box(image, found.box, colour)
    radius = click_radius(image.size)
    for x, y, label in (point for found in objects for point in found.points):
        draw_click(image, (x, y, label))
        rows, columns = slice(max(round(y) - radius, 0), round(y) + radius), slice(max(round(x) - radius, 0), None)
        is_taken[rows, columns][:, : 2 * radius] = True


def _tag_size(number: int, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """(width, height) of the tag with a number."""
    height = round(1.45 * font.size)
    return max(round(font.getlength(str(number)) + 0.7 * font.size), height), height


def _draw_number(
    image: Image.Image,
    found: FoundObject,
    colour: Colour,
    font: ImageFont.FreeTypeFont,
    places: tuple[np.ndarray, np.ndarray, bool],
) -> None:
    """Draws a tag with the object's number where the object is widest and nothing else is, or nothing."""
    top, is_taken, is_needed = places
    width, height = _tag_size(found.number, font)
    centre = _roomy_place(found, top, is_taken, (width, height))
    if centre is None:
        if not is_needed:
            return
        centre = (found.mask.left, max(found.mask.top - height // 2, 0))
    x = min(max(round(centre[0] - width / 2), 0), max(image.width - width, 0))
    y = min(max(round(centre[1] - height / 2), 0), max(image.height - height, 0))
    draw_tag(image, (x, y, x + width, y + height), str(found.number), colour, font)
    is_taken[y : y + height + 1, x : x + width + 1] = True


def draw_tag(
    image: Image.Image, box: tuple[int, int, int, int], text: str, colour: Colour, font: ImageFont.FreeTypeFont
) -> None:
    """Draws a text on a rounded field of a colour, in place; box is (x_min, y_min, x_max, y_max)."""
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle(box, radius=(box[3] - box[1]) // 3, fill=colour, outline=(20, 20, 20))
    middle = ((box[0] + box[2] + 1) / 2, (box[1] + box[3] + 1) / 2)
    draw.text(middle, text, fill=text_colour(colour), font=font, anchor="mm")


def _roomy_place(
    found: FoundObject, top: np.ndarray, is_taken: np.ndarray, tag_size: tuple[int, int]
) -> tuple[int, int] | None:
    """(x, y) of the pixel round which most of a tag lies on the object's visible part; None if that is too little."""
    step = max(max(found.mask.part.shape) // ROOM_SAMPLES, 1)
    window = tuple(slice(side.start, side.stop, step) for side in found.mask.window)
    is_free = (top[window] == found.number) & ~is_taken[window]
    padded = Image.fromarray(np.pad(is_free, 1)).convert("L")
    room = np.asarray(padded.filter(ImageFilter.BoxBlur(tuple(side / step / 2 for side in tag_size))))[1:-1, 1:-1]
    if room.max() < 0.8 * 255:
        return None
    # Of places that are as good, the one nearest to the middle, where a wider blur finds most of the object
    wide = np.asarray(padded.filter(ImageFilter.BoxBlur(max(min(is_free.shape) // 4, 1))))[1:-1, 1:-1]
    rows, columns = np.nonzero(room >= min(room.max(), 0.97 * 255))
    best = wide[rows, columns].argmax()
    return found.mask.left + step * columns[best], found.mask.top + step * rows[best]


def _with_legend(
    image: Image.Image, rows: list[tuple[FoundObject, Colour]], font: ImageFont.FreeTypeFont
) -> Image.Image:
    """The picture above lines with the number, the prompt and the score of each object, in columns if there is room.

    A picture that is too narrow for one line stays as it is.
    """
    texts = [(o.prompt or "object", f"{o.score:.2f}") for o, _ in rows]
    step, margin = round(2 * font.size), round(0.7 * font.size)
    tag_width = max(_tag_size(o.number, font)[0] for o, _ in rows)
    text_width = round(max(font.getlength(prompt) for prompt, _ in texts))
    column = tag_width + text_width + round(font.getlength("0.00")) + 4 * margin
    num_columns = min((image.width - margin) // column, len(rows))
    if num_columns < 1:
        return image
    num_lines = -(-len(rows) // num_columns)
    canvas = Image.new("RGB", (image.width, image.height + num_lines * step + margin), LEGEND_COLOUR)
    canvas.paste(image)
    draw = ImageDraw.Draw(canvas)
    for idx, ((found, colour), (prompt, score)) in enumerate(zip(rows, texts)):
        x, y = margin + idx // num_lines * column, image.height + margin // 2 + idx % num_lines * step + step // 2
        width, height = _tag_size(found.number, font)
        left = x + (tag_width - width) // 2
        draw_tag(
            canvas, (left, y - height // 2, left + width, y + height - height // 2), str(found.number), colour, font
        )
        draw.text((x + tag_width + margin, y), prompt, fill=(225, 228, 232), font=font, anchor="lm")
        score_x = x + tag_width + 2 * margin + text_width
        draw.text((score_x, y), score, fill=(150, 156, 164), font=font, anchor="lm")
    return canvas
