"""Clips of moving objects: what is cut out of rendered composites glides, turns and hides over another composite.

python -m edgetam_hf.training.moving --data data/composites --output data/moving
python -m edgetam_hf.training.moving --baseline data/moving --output runs/repeated
edgetam evaluate davis data/moving --model MODEL
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from transformers.utils import logging

from ..evaluation.scoring import report_scores, score_results
from ..evaluation.video_datasets import read_dataset
from .clips import Clip
from .crops import Composites
from .davis_folder import repeat_first_masks, write_clips

SPLITS = ("training", "held-out")
SMALLEST_SHARE = 0.01  # of the picture, of an object on its first frame
SMALLEST_CUTOUT = 700  # pixels of a composite: less gives a blurred object
NUM_ATTEMPTS = 1000  # to find one
COUNTS = range(2, 7)  # of sprites
LARGEST_SCALE = 2.0  # of what is cut out of a composite
PACES = (0.006, 0.07)  # highest speeds, in pictures per frame


class MovingComposites:
    """Source of clips made of the composites that `composites` rendered; the two splits share no drawing.

    Each clip has a composite as background, over which 2 to 6 sprites move, cut out of other composites. Those that
    can be seen on the first frame are its objects, up to `max_objects`; the rest are distractors, which may come in
    later.

    Args:
        folder: of the rendered composites.
        split: "training" or "held-out".
        size: height and width of the frames in pixels.

    Raises:
        ValueError: for another split, and a folder without composites.
    """

    def __init__(self, folder: str | Path, split: str = "training", size: int = 256):
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        self.folder, self.split, self.size = Path(folder), split, size
        try:
            self.composites = Composites(self.folder, split.replace("-", "_"))
        except FileNotFoundError as error:
            raise ValueError(
                f"{folder} has no {split} composites: render them with "
                f"python -m edgetam_hf.training.composites --output {folder}"
            ) from error

    def __len__(self) -> int:
        return len(self.composites)

    def __reduce__(self):
        # a worker process opens the files again: a pickled memory map carries all its data
        return MovingComposites, (self.folder, self.split, self.size)

    def draw(self, index: int, num_frames: int, max_objects: int, rng: np.random.Generator) -> Clip:
        """A `Clip` over composite `index`: masks are the parts that nothing hides, at least 1 % of the first frame."""
        while True:
            sprites = self._draw_sprites(rng)
            pace = np.exp(rng.uniform(*np.log(PACES)))
            motions = [draw_motion(rng, sprite.size, num_frames, self.size, pace) for sprite in sprites]
            first = paint(Image.new("RGB", (self.size, self.size)), sprites, [motion[0] for motion in motions])
            shares = np.bincount(first.ravel(), minlength=len(sprites) + 1)[1:] / first.size
            objects = rng.permutation(np.flatnonzero(shares >= SMALLEST_SHARE) + 1)[:max_objects]
            if len(objects):
                break
        frames = self._draw_backgrounds(index, num_frames, pace, rng)
        numbers = np.stack([paint(frame, sprites, poses) for frame, *poses in zip(frames, *motions, strict=True)])
        return Clip([np.array(frame) for frame in frames], numbers[:, None] == np.sort(objects)[:, None, None])

    def _draw_sprites(self, rng: np.random.Generator) -> list[Image.Image]:
        """What is cut out of composites (see `_cut_out`), from the rearmost on, at about the size it will have."""
        sprites = []
        for _ in range(rng.choice(COUNTS)):
            if sprites and rng.random() < 0.15:  # a twin, which only its path tells apart
                sprites.append(sprites[rng.integers(len(sprites))])
                continue
            sprite = self._cut_out(rng)
            scale = rng.uniform(0.16, 0.6) * self.size / max(sprite.size)
            scale = min(scale, LARGEST_SCALE * self.size / self.composites.pictures.shape[1])
            size = [max(4, round(side * scale)) for side in sprite.size]
            sprites.append(sprite.resize(size, Image.Resampling.BILINEAR))
        return sprites

    def _cut_out(self, rng: np.random.Generator) -> Image.Image:
        """An instance that lies within its composite, cut to its box: RGBX, where X is the opacity.

        As RGBA, Pillow would premultiply the colours at each step, in vain: those around the instance are as bright.
        """
        for _ in range(NUM_ATTEMPTS):
            index = int(rng.integers(len(self)))
            instances = np.asarray(self.composites.instances[index])
            areas = np.bincount(instances.ravel())
            for border in (instances[0], instances[-1], instances[:, 0], instances[:, -1]):
                areas[border] = 0
            areas[0] = 0
            if areas.max() >= SMALLEST_CUTOUT:
                break
        else:
            raise ValueError(
                f"{self.folder} has too few objects: none of {NUM_ATTEMPTS} composites has one of {SMALLEST_CUTOUT} "
                "pixels that lies off the border"
            )
        mask = instances == rng.choice(np.flatnonzero(areas >= SMALLEST_CUTOUT))
        (rows,), (columns,) = np.nonzero(mask.any(1)), np.nonzero(mask.any(0))
        box = slice(rows[0] - 1, rows[-1] + 2), slice(columns[0] - 1, columns[-1] + 2)
        # its border shows in part what was behind it
        opacity = Image.fromarray(255 * mask[box].astype(np.uint8)).filter(ImageFilter.MinFilter(3))
        colors = self.composites.pictures[index][box]
        channels = rng.permutation(3) if rng.random() < 0.3 else range(3)
        bands = [Image.fromarray(np.ascontiguousarray(colors[..., channel])) for channel in channels]
        return Image.merge("RGBX", [*bands, opacity])

    def _draw_backgrounds(
        self, index: int, num_frames: int, pace: float, rng: np.random.Generator
    ) -> list[Image.Image]:
        """Pictures (size, size) of a camera that moves over a composite and its mirror images, or stands still."""
        seen = rng.uniform(0.5, 1)  # side of what the camera sees, in sides of the composite
        picture = Image.fromarray(self.composites.pictures[index])
        side = min(picture.width, round(self.size / seen))
        pixels = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
        columns = rows = np.pad(np.arange(side), side // 2, "symmetric")
        if rng.random() < 0.5:
            columns = columns[::-1]
        mirrored = Image.fromarray(pixels[rows[:, None], columns])
        is_still = rng.random() < 0.35
        num_poses = 1 if is_still else num_frames
        zoom = self.size / (seen * side) * np.exp(swing(rng, num_poses, rng.uniform(0, 0.15), 2 * pace))
        angles = swing(rng, num_poses, rng.uniform(0, 0.15), 2 * pace)
        # no farther: what lies beyond the mirror images never comes into view
        centers = [self.size / 2 + self.size * swing(rng, num_poses, 0.25, rng.uniform(0, 2) * pace) for _ in "xy"]
        poses = pose_matrices(mirrored.size, np.stack(centers, 1), angles, np.stack([zoom, zoom], 1))
        pictures = [warp(mirrored, pose, (0, 0, self.size, self.size)) for pose in poses]
        return [pictures[0].copy() for _ in range(num_frames)] if is_still else pictures


def swing(rng: np.random.Generator, num_frames: int, reach: float, frequency: float, start: float = 0.0) -> np.ndarray:
    """Values (num_frames,) of a sine of amplitude `reach`, in radians per frame, from `start` on, rising or falling."""
    phase = np.arcsin(start / reach) if reach else 0.0
    if rng.random() < 0.5:
        phase = np.pi - phase
    return reach * np.sin(phase + frequency * np.arange(num_frames))


def draw_motion(
    rng: np.random.Generator, sprite_size: tuple[int, int], num_frames: int, size: int, pace: float
) -> np.ndarray:
    """Poses (num_frames, 2, 3) of a sprite (see `pose_matrices`) that swings across the picture and often beyond it.

    Args:
        sprite_size: width and height.
        size: height and width of the picture.
        pace: its highest speed at most, in pictures per frame.
    """
    radius = max(sprite_size) / size / 2
    centers = []
    for _ in "xy":
        reach = rng.uniform(0.4, 0.55 + radius)
        speed = rng.uniform(0.1, 1) * pace
        centers.append(0.5 + swing(rng, num_frames, reach, speed / reach, rng.uniform(-0.4, 0.4)))
    upright = rng.normal(0, 0.15) if rng.random() < 0.7 else rng.uniform(-np.pi, np.pi)
    angles = upright + swing(rng, num_frames, rng.uniform(0, 0.8), rng.uniform(0, 3) * pace)
    scales = np.exp(swing(rng, num_frames, rng.uniform(0, 0.35), rng.uniform(0, 3) * pace))
    # as if it turned about its upright axis
    widths = scales * (1 - rng.uniform(0, 0.5) * np.abs(swing(rng, num_frames, 1, rng.uniform(0, 3) * pace)) ** 2)
    if rng.random() < 0.5:
        widths = -widths  # mirrored
    return pose_matrices(sprite_size, size * np.stack(centers, 1), angles, np.stack([widths, scales], 1))


def pose_matrices(sprite_size: tuple[int, int], centers: np.ndarray, angles: np.ndarray, scales: np.ndarray):
    """Affine matrices (T, 2, 3) from (x, y) in a sprite to (x, y) in the picture, in pixels from the outer corner.

    Args:
        sprite_size: width and height; its middle goes to the centre.
        centers: (T, 2), in pixels of the picture.
        angles: (T,), in radians.
        scales: (T, 2), along the width and the height of the sprite.
    """
    cos, sin = np.cos(angles), np.sin(angles)
    turned = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1) * scales[:, None]
    return np.concatenate([turned, (centers - turned @ (np.array(sprite_size) / 2))[..., None]], 2)


def warp(image: Image.Image, pose: np.ndarray, box: tuple[int, int, int, int]) -> Image.Image:
    """The part of the picture in `box` (left, top, right, bottom), of `image` in a pose (2, 3); zeros around it."""
    inverse = np.linalg.inv(pose[:, :2])
    offset = inverse @ (np.array(box[:2]) - pose[:, 2])
    data = np.concatenate([inverse, offset[:, None]], 1).ravel().tolist()
    size = box[2] - box[0], box[3] - box[1]
    return image.transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


def paint(canvas: Image.Image, sprites: list[Image.Image], poses: list[np.ndarray]) -> np.ndarray:
    """Paints sprites over an RGB picture, in place.

    Returns uint8 (H, W) with the number, from 1 on, of the sprite that is seen at each pixel, 0 for none.
    """
    numbers = np.zeros((canvas.height, canvas.width), np.uint8)
    for number, (sprite, pose) in enumerate(zip(sprites, poses, strict=True), start=1):
        corners = pose[:, :2] @ (np.array([(0, 0, 1, 1), (0, 1, 0, 1)]) * np.array([sprite.size]).T) + pose[:, 2:]
        low = np.maximum(np.floor(corners.min(1)), 0).astype(int)
        high = np.minimum(np.ceil(corners.max(1)), canvas.size).astype(int)
        if (low >= high).any():
            continue
        moved = warp(sprite, pose, (*low.tolist(), *high.tolist()))
        opacity = moved.getchannel("X")
        canvas.paste(moved.convert("RGB"), tuple(low.tolist()), opacity)
        numbers[low[1] : high[1], low[0] : high[0]][np.asarray(opacity) > 127] = number
    return numbers


def write_moving_clips(options: argparse.Namespace) -> None:
    """Writes clips as a dataset that `edgetam evaluate davis` reads."""
    source = MovingComposites(options.data, options.split, options.size)

    def clips() -> Iterator[Clip]:
        for number in logging.tqdm(range(options.clips), desc="clips"):
            rng = np.random.default_rng((options.seed, number))
            yield source.draw(int(rng.integers(len(source))), options.frames, options.objects, rng)

    write_clips(clips(), options.output)


def main(arguments: list[str] | None = None) -> None:
    """Writes held-out clips, or scores what repeats the first masks of a dataset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="new folder, for the dataset or for the results")
    parser.add_argument("--data", type=Path, default=Path("data/composites"), help="folder of the composites")
    parser.add_argument("--split", choices=SPLITS, default="held-out")
    for name, default in (("clips", 40), ("frames", 24), ("size", 256), ("objects", 4)):
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--baseline", type=Path, metavar="ROOT", help="repeat the first masks of this dataset instead, and print J&F"
    )
    options = parser.parse_args(arguments)
    if min(options.clips, options.frames, options.size, options.objects) < 1 or options.seed < 0:
        parser.error("--clips, --frames, --size and --objects must be at least 1, --seed at least 0")
    try:
        if options.baseline is None:
            write_moving_clips(options)
            return
        sequences = read_dataset("davis", options.baseline)
        repeat_first_masks(sequences, options.output)
        total = report_scores(score_results(sequences, options.output))["total"]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(", ".join(f"{name} {100 * value:.1f}" for name, value in total.items()))


if __name__ == "__main__":
    main()
