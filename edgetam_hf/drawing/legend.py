"""A picture of found objects that explains itself: colours that stand out, a number on each object, and a legend."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..found_objects import FoundObject
from .colours import Colour, standing_out
from .numbers import draw_number, draw_tag, roomy_place, tag_size, text_font
from .overlays import click_window, draw_box, draw_click, draw_outline, tint

MAX_LEGEND_ROWS = 12  # more objects are numbered, but not listed
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


def _draw_prompts(image: Image.Image, objects: list[FoundObject], colours: list[Colour], is_taken: np.ndarray) -> None:
    """Draws boxes and clicks, and marks the places of clicks as taken."""
    for found, colour in zip(objects, colours):
        if found.box:
            draw_box(image, found.box, colour)
    for point in (point for found in objects for point in found.points):
        draw_click(image, point)
        is_taken[click_window(point, image.size)] = True


def _draw_number(
    image: Image.Image,
    found: FoundObject,
    colour: Colour,
    font: ImageFont.FreeTypeFont,
    places: tuple[np.ndarray, np.ndarray, bool],
) -> None:
    """Draws a tag with the object's number where the object is widest and nothing else is, or nothing."""
    top, is_taken, is_needed = places
    tag, window = tag_size(found.number, font), found.mask.window
    centre = roomy_place(found.mask, (top[window] == found.number) & ~is_taken[window], tag)
    if centre is None:
        if not is_needed:
            return
        centre = (found.mask.left, max(found.mask.top - tag[1] // 2, 0))
    is_taken[draw_number(image, found.number, centre, colour, font)] = True


def _with_legend(
    image: Image.Image, rows: list[tuple[FoundObject, Colour]], font: ImageFont.FreeTypeFont
) -> Image.Image:
    """The picture above lines with the number, the prompt and the score of each object, in columns if there is room.

    A picture that is too narrow for one line stays as it is.
    """
    texts = [(o.prompt or "object", f"{o.score:.2f}") for o, _ in rows]
    step, margin = round(2 * font.size), round(0.7 * font.size)
    tag_width = max(tag_size(o.number, font)[0] for o, _ in rows)
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
        width, height = tag_size(found.number, font)
        left = x + (tag_width - width) // 2
        draw_tag(
            canvas, (left, y - height // 2, left + width, y + height - height // 2), str(found.number), colour, font
        )
        draw.text((x + tag_width + margin, y), prompt, fill=(225, 228, 232), font=font, anchor="lm")
        score_x = x + tag_width + 2 * margin + text_width
        draw.text((score_x, y), score, fill=(150, 156, 164), font=font, anchor="lm")
    return canvas
