"""Prompts of a command line: which of its points, boxes and masks belong to which object, and on which frame."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..pictures_edgetam import open_picture

MOST_GREY_OBJECTS = 64
WHITE = 255


@dataclass(frozen=True)
class MaskPrompt:
    """A mask in a picture file: the pixels of one value, or of all that are not zero."""

    path: str
    value: int | None = None

    def pixels(self) -> np.ndarray:
        """Boolean array (H, W)."""
        values = read_values(self.path)
        return values > 0 if self.value is None else values == self.value

    def __str__(self) -> str:
        return f"mask {Path(self.path).name}" + ("" if self.value is None else f":{self.value}")


@dataclass
class ObjectPrompt:
    """Prompts of one object on one frame; a picture is frame 0.

    points: (x, y, label) and box: (x_min, y_min, x_max, y_max), in pixels of the picture; the processor makes `Prompts`
    in pixels of the model input of them.
    """

    frame_idx: int
    object_id: int
    points: list[tuple[float, float, int]] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None
    mask: MaskPrompt | None = None

    def add(self, kind: str, value: Any) -> None:
        """Adds a point, or the one box or mask."""
        if kind == "point":
            self.points.append(value)
        elif getattr(self, kind) is None:
            setattr(self, kind, value)
        else:
            where = f" on frame {self.frame_idx}" if self.frame_idx else ""
            raise ValueError(
                f"object {self.object_id} has two of --{kind}{where}: put another --object before the second one"
            )

    def __str__(self) -> str:
        parts = [] if self.box is None else ["box " + ",".join(f"{side:g}" for side in self.box)]
        parts += [f"{'+' if label else '-'}{x:g},{y:g}" for x, y, label in self.points]
        return " ".join(parts + ([str(self.mask)] if self.mask else []))


def read_prompts(options: list[tuple[str, Any]]) -> list[ObjectPrompt]:
    """`ObjectPrompt`s, one per object and frame, from (option, value) pairs in the order of the command line.

    `frame` and `object` choose where the prompts after them belong; where they come last and only once, they are for
    all prompts. A box or mask begins a new object if the current one already has a prompt on the frame, unless an
    `object` was given for it. A mask picture with several objects gives each the number that it has there.
    """
    prompts: dict[tuple[int, int], ObjectPrompt] = {}
    frame_idx, object_id, is_chosen = 0, 1, False
    for option, value in _frames_and_objects_first(options):
        if option == "frame":
            frame_idx = value
        elif option == "object":
            object_id, is_chosen = value, True
        else:
            masks = masks_in(value) if option == "mask" else []
            if numbered := {mask.value: mask for mask in masks if mask.value is not None}:
                _add_masks(prompts, frame_idx, numbered, is_chosen)
                object_id, is_chosen = max(numbered), False
                continue
            if option != "point":
                if not is_chosen and (frame_idx, object_id) in prompts:
                    object_id = max(known for _, known in prompts) + 1
                is_chosen = False
            prompt = prompts.setdefault((frame_idx, object_id), ObjectPrompt(frame_idx, object_id))
            prompt.add(option, masks[0] if masks else value)
    return list(prompts.values())


def _add_masks(
    prompts: dict[tuple[int, int], ObjectPrompt], frame_idx: int, masks: dict[int, MaskPrompt], is_chosen: bool
) -> None:
    """Adds masks of a picture, each as the object whose number is its value."""
    if is_chosen:
        path = next(iter(masks.values())).path
        raise ValueError(
            f"{path} has several objects ({', '.join(map(str, masks))}): leave out the --object before it, they keep "
            "these numbers"
        )
    for object_id, mask in masks.items():
        prompts.setdefault((frame_idx, object_id), ObjectPrompt(frame_idx, object_id)).add("mask", mask)


def check_inside(prompt: ObjectPrompt, size: tuple[int, int]) -> None:
    """Warns of points and boxes outside of a picture of this size (height, width).

    Raises:
        ValueError: for a mask of another size.
    """
    height, width = size
    outside = [f"--point {x:g},{y:g}" for x, y, _ in prompt.points if not (0 <= x <= width and 0 <= y <= height)]
    if prompt.box is not None:
        x_min, y_min, x_max, y_max = prompt.box
        if x_min >= width or y_min >= height or x_max <= 0 or y_max <= 0:
            outside.append("--box " + ",".join(f"{side:g}" for side in prompt.box))
    for option in outside:
        print(
            f"edgetam: warning: {option} lies outside of the picture, which is {width} wide and {height} high",
            file=sys.stderr,
        )
    if prompt.mask is not None:
        mask_size = prompt.mask.pixels().shape
        if mask_size != size:
            raise ValueError(
                f"--mask {prompt.mask.path} must have the size of the picture, {width}x{height} pixels, got "
                f"{mask_size[1]}x{mask_size[0]}"
            )


def _frames_and_objects_first(options: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The options with those behind the last prompt put before the first one."""
    is_prompt = [option not in ("frame", "object") for option, _ in options]
    if not any(is_prompt):
        raise ValueError(
            "say what to find with --point X,Y, --box X0,Y0,X1,Y1 or --mask PNG; `edgetam track --everything` and "
            "`edgetam masks` find all objects by themselves"
        )
    num_before = len(options) - is_prompt[::-1].index(True)
    before, behind = options[:num_before], options[num_before:]
    for option, value in behind:
        if option in [known for known, _ in before]:
            raise ValueError(f"no prompt follows --{option} {value}: put it before the prompts that it is for")
    return behind + before


def masks_in(path: str) -> list[MaskPrompt]:
    """The `MaskPrompt`s of a picture: one for each value of an index picture, else one for all that is not zero.

    An index picture has a palette, 16 bits, or levels of grey of which none is 255, the white of ordinary masks.

    Raises:
        ValueError: for so many levels of grey without white that they may be a soft mask, or numbers of objects.
    """
    mode = open_picture(path, f"mask {path}").mode
    has_numbers, is_grey = mode == "P" or mode.startswith("I"), mode == "L"
    values = np.unique(read_values(path))
    values = values[values > 0].tolist()
    if is_grey and len(values) > MOST_GREY_OBJECTS:
        raise ValueError(
            f"mask {path} has {len(values)} levels of grey and no white, so it may be a soft mask or an index picture: "
            "save the one in black and white, the other with a palette"
        )
    if len(values) > 1 and (has_numbers or (is_grey and values[-1] < 255)):
        return [MaskPrompt(path, value) for value in values]
    return [MaskPrompt(path)]


def read_values(path: str) -> np.ndarray:
    """Integer array (H, W) of a mask picture; of one with colours 1 where it is not black.

    Where grey has white in it, or floats go up to 1, what is at least half as bright counts: so soft edges are cut.
    """
    image = open_picture(path, f"mask {path}")
    pixels = np.asarray(image)
    channels = [idx for idx, band in enumerate(image.getbands()) if band not in ("A", "a")]
    if image.mode == "L" and pixels.max() == WHITE:
        return np.where(pixels > WHITE // 2, WHITE, 0)
    if pixels.ndim == 2 and pixels.dtype.kind == "f":
        return ((pixels > 0) & (pixels >= 0.5 * min(pixels.max(), 1))).astype(np.int64)
    if pixels.ndim == 2:
        return pixels.astype(np.int64)
    return np.any(pixels.reshape(*pixels.shape[:2], -1)[..., channels] > 0, axis=-1).astype(np.int64)
