"""Prompts as they fit a picture or the frames of a clip: boxes end at its edges, and nothing lies outside."""

import math
from dataclasses import replace

from .items import Prompt
from .labeller import PoisonError


def fitted_prompts(prompts: tuple[Prompt, ...], size: tuple[int, int], num_frames: int = 1) -> list[Prompt]:
    """One prompt for each object and frame, with all that is said of the object there, in the order of the prompts.

    Args:
        prompts: of an item.
        size: (height, width) of the picture or of the frames.
        num_frames: of the clip, 1 for a picture.

    Raises:
        PoisonError: for what lies outside, boxes that are turned inside out, numbers that are none, prompts that say
            nothing, and two boxes or masks of an object on a frame.
    """
    fitted: dict[tuple[int, int], Prompt] = {}
    for prompt in prompts:
        name = f"object {prompt.object}" + (f" on frame {prompt.frame}" if num_frames > 1 else "")
        if not 0 <= prompt.frame < num_frames:
            there = f"there are frames 0..{num_frames - 1}" if num_frames > 1 else "there is only frame 0"
            raise PoisonError(f"object {prompt.object} has a prompt on frame {prompt.frame}, but {there}")
        if prompt.box is None and not prompt.points and prompt.mask is None:
            raise PoisonError(f"{name} has a prompt without a box, points or a mask")
        if prompt.box is not None:
            prompt = replace(prompt, box=_fitted_box(prompt.box, size, name))
        _check_points(prompt.points or (), size, name)
        if prompt.mask is not None and list(prompt.mask["size"]) != list(size):
            height, width = prompt.mask["size"]
            raise PoisonError(f"the mask of {name} is {width} wide and {height} high, but {_said(size)}")
        place = prompt.frame, prompt.object
        fitted[place] = _joined(fitted[place], prompt, name) if place in fitted else prompt
    return list(fitted.values())


def _joined(earlier: Prompt, prompt: Prompt, name: str) -> Prompt:
    """All that two prompts say of an object on a frame."""
    for kind in ("box", "mask"):
        if getattr(earlier, kind) is not None and getattr(prompt, kind) is not None:
            raise PoisonError(f"{name} has two of {kind}: give the second one to another object")
    points = (*(earlier.points or ()), *(prompt.points or ()))
    others = {name: getattr(earlier, name) for name in ("box", "mask", "category", "score")}
    others = {name: getattr(prompt, name) if value is None else value for name, value in others.items()}
    return replace(earlier, points=points or None, **others)


def _fitted_box(
    box: tuple[float, float, float, float], size: tuple[int, int], name: str
) -> tuple[float, float, float, float]:
    """The part of a box (x_min, y_min, x_max, y_max) that lies inside."""
    (height, width), (x_min, y_min, x_max, y_max) = size, box
    said = f"the box {','.join(f'{side:g}' for side in box)} of {name}"
    if not all(map(math.isfinite, box)) or x_max < x_min or y_max < y_min:
        raise PoisonError(f"{said} must have x_min <= x_max and y_min <= y_max, all finite")
    if x_min >= width or y_min >= height or x_max <= 0 or y_max <= 0:
        raise PoisonError(f"{said} lies outside: {_said(size)}")
    return max(x_min, 0), max(y_min, 0), min(x_max, width), min(y_max, height)


def _check_points(points: tuple[tuple[float, float, int], ...], size: tuple[int, int], name: str) -> None:
    height, width = size
    for x, y, label in points:
        said = f"the point {x:g},{y:g} of {name}"
        if not (0 <= x <= width and 0 <= y <= height):  # so are NaN and infinity
            raise PoisonError(f"{said} lies outside: {_said(size)}")
        if label not in (0, 1):
            raise PoisonError(f"{said} must have label 1, on the object, or 0, off it, got {label}")


def _said(size: tuple[int, int]) -> str:
    return f"the picture is {size[1]} wide and {size[0]} high"
