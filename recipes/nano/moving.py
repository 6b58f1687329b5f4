"""Clips of moving objects: what is cut out of rendered composites glides, turns and hides over another composite.

python -m recipes.nano.moving --data data/composites --output data/moving
python -m recipes.nano.moving --baseline data/moving --output runs/repeated
edgetam evaluate davis data/moving --model MODEL
"""

import argparse
from collections.abc import Iterator
from math import ceil, floor
from pathlib import Path

import numpy as np
from PIL import Image
from transformers.utils import logging

from edgetam_hf.evaluation.scoring import report_scores, score_results
from edgetam_hf.evaluation.video_datasets import read_dataset
from edgetam_hf.training.clips import Clip
from edgetam_hf.training.sources import register_source

from .crops import SPLITS, Composites
from .cutouts import cut_out_sprites, read_rows
from .davis_folder import repeat_first_masks, write_clips
from .motions import draw_paths, draw_poses, pose_matrices, swing

SMALLEST_SHARE = 0.01  # of the picture, of an object on its first frame
COUNTS = range(2, 7)  # of sprites
LARGEST_SCALE = 2.0  # of what is cut out of a composite
PACES = (0.004, 0.05)  # highest speeds, in pictures per frame


@register_source("synthetic")
class MovingComposites:
    """Source of clips made of the composites that `composites` rendered; the two splits share no drawing.

    Each clip has a composite as background, over which 2 to 6 sprites move, cut out of other composites. Those that
    can be seen on the first frame are its objects, up to `max_objects`; the rest are distractors, which may come in
    later, unless these are to be objects, too.

    Args:
        root: folder of the rendered composites.
        split: "training" or "held-out".
        size: height and width of the frames in pixels.
        num_cut: how many composites sprites are cut out of, at once and into memory; backgrounds are read as they
            are needed.
        tempo: factor on all speeds; at 0 everything stands still.
        has_entering: whether what can be seen on a later frame only is an object, too.

    Raises:
        ValueError: for another split, a negative tempo, and a folder without composites, or without objects that lie
            off their border.
    """

    has_videos = True

    def __init__(
        self,
        root: str | Path,
        split: str = "training",
        size: int = 256,
        num_cut: int = 4000,
        tempo: float = 1.0,
        has_entering: bool = False,
    ):
        if not tempo >= 0:
            raise ValueError(f"tempo must not be negative, got {tempo}")
        self.root, self.split, self.size, self.num_cut, self.tempo = Path(root), split, size, num_cut, tempo
        self.has_entering = has_entering
        self.composites = Composites(self.root, split)
        self.sprites = cut_out_sprites(self.composites, min(num_cut, len(self.composites)))

    def __len__(self) -> int:
        return len(self.composites)

    def __reduce__(self) -> tuple[type["MovingComposites"], tuple[Path, str, int, int, float, bool]]:
        # a worker process reads the files again: a pickled memory map carries all its data
        return MovingComposites, (self.root, self.split, self.size, self.num_cut, self.tempo, self.has_entering)

    def draw(self, index: int, num_frames: int, max_objects: int, rng: np.random.Generator) -> Clip:
        """A `Clip` over composite `index`: masks are the parts that nothing hides, at least 1 % of the first frame.

        With `has_entering` it is 1 % of any frame.
        """
        while True:
            sprites = self._draw_sprites(rng)
            pace = self.tempo * np.exp(rng.uniform(*np.log(PACES)))
            radii = [max(sprite.size) / self.size / 2 for sprite in sprites]
            paths = draw_paths(rng, radii, num_frames, pace, self.tempo)
            motions = [
                draw_poses(rng, self.size * path, sprite.size, pace)
                for path, sprite in zip(paths, sprites, strict=True)
            ]
            poses = zip(*motions) if self.has_entering else [[motion[0] for motion in motions]]
            seen = [paint(Image.new("RGB", (self.size, self.size)), sprites, list(of_frame)) for of_frame in poses]
            shares = [np.bincount(numbers.ravel(), minlength=len(sprites) + 1)[1:] / numbers.size for numbers in seen]
            objects = rng.permutation(np.flatnonzero(np.max(shares, 0) >= SMALLEST_SHARE) + 1)[:max_objects]
            if len(objects):
                break
        frames = self._draw_backgrounds(index, num_frames, pace, rng)
        numbers = np.stack([paint(frame, sprites, poses) for frame, *poses in zip(frames, *motions, strict=True)])
        return Clip([np.array(frame) for frame in frames], numbers[:, None] == np.sort(objects)[:, None, None])

    def _draw_sprites(self, rng: np.random.Generator) -> list[Image.Image]:
        """Sprites (see `cut_out`) from the rearmost on, at about the size that they will have."""
        sprites: list[Image.Image] = []
        for _ in range(rng.choice(COUNTS)):
            if sprites and rng.random() < 0.15:  # a twin, which only its path tells apart
                sprites.append(sprites[rng.integers(len(sprites))])
                continue
            sprite = self.sprites[rng.integers(len(self.sprites))]
            scale = rng.uniform(0.16, 0.6) * self.size / max(sprite.size)
            scale = min(scale, LARGEST_SCALE * self.size / self.composites.pictures.shape[1])
            sprite = sprite.resize([max(4, round(side * scale)) for side in sprite.size], Image.Resampling.BILINEAR)
            if rng.random() < 0.3:
                bands = sprite.split()
                sprite = Image.merge("RGBX", [*(bands[channel] for channel in rng.permutation(3)), bands[3]])
            sprites.append(sprite)
        return sprites

    def _draw_backgrounds(
        self, index: int, num_frames: int, pace: float, rng: np.random.Generator
    ) -> list[Image.Image]:
        """Pictures (size, size) of a camera that moves over a composite and its mirror images, or stands still."""
        seen = rng.uniform(0.5, 1)  # side of what the camera sees, in sides of the composite
        picture = Image.fromarray(read_rows(self.composites.pictures, index, index + 1)[0])
        side = min(picture.width, round(self.size / seen))
        pixels = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
        columns = rows = np.pad(np.arange(side), side // 2, "symmetric")
        if rng.random() < 0.5:
            columns = columns[::-1]
        mirrored = Image.fromarray(pixels.take(columns, 1).take(rows, 0))
        is_still = rng.random() < 0.35
        num_poses = 1 if is_still else num_frames
        zoom = self.size / (seen * side) * np.exp(swing(rng, num_poses, rng.uniform(0, 0.15), 2 * pace))
        angles = swing(rng, num_poses, rng.uniform(0, 0.15), 2 * pace)
        # no farther: what lies beyond the mirror images never comes into view
        centers = [self.size / 2 + self.size * swing(rng, num_poses, 0.25, rng.uniform(0, 2) * pace) for _ in "xy"]
        poses = pose_matrices(mirrored.size, np.stack(centers, 1), angles, np.stack([zoom, zoom], 1))
        pictures = [warp(mirrored, pose, (0, 0, self.size, self.size)) for pose in poses]
        return [pictures[0].copy() for _ in range(num_frames)] if is_still else pictures


def bounding_box(
    pose: np.ndarray, sprite_size: tuple[int, int], size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Box (left, top, right, bottom) in a picture (width, height) with all of a posed sprite in it, None if outside."""
    box = []
    for (a, b, c), length in zip(pose.tolist(), size, strict=True):
        a, b = a * sprite_size[0] / 2, b * sprite_size[1] / 2
        center, radius = a + b + c, abs(a) + abs(b)
        box.append((max(0, floor(center - radius)), min(length, ceil(center + radius))))
    (left, right), (top, bottom) = box
    return (left, top, right, bottom) if left < right and top < bottom else None


def warp(image: Image.Image, pose: np.ndarray, box: tuple[int, int, int, int]) -> Image.Image:
    """The part of the picture in `box` (left, top, right, bottom), of `image` in a pose (2, 3); zeros around it."""
    (a, b, c), (d, e, f) = pose.tolist()  # floats of Python: for so few, NumPy takes longer
    scale = a * e - b * d
    c, f = c - box[0], f - box[1]
    inverse = (e / scale, -b / scale, (b * f - c * e) / scale, -d / scale, a / scale, (c * d - a * f) / scale)
    size = box[2] - box[0], box[3] - box[1]
    return image.transform(size, Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)


def paint(canvas: Image.Image, sprites: list[Image.Image], poses: list[np.ndarray]) -> np.ndarray:
    """Paints sprites over an RGB picture, in place.

    Returns uint8 (H, W) with the number, from 1 on, of the sprite that is seen at each pixel, 0 for none.
    """
    numbers = np.zeros((canvas.height, canvas.width), np.uint8)
    for number, (sprite, pose) in enumerate(zip(sprites, poses, strict=True), start=1):
        box = bounding_box(pose, sprite.size, canvas.size)
        if box is None:
            continue
        moved = warp(sprite, pose, box)
        opacity = moved.getchannel("X")
        canvas.paste(moved.convert("RGB"), box, opacity)
        left, top, right, bottom = box
        numbers[top:bottom, left:right][np.asarray(opacity) > 127] = number
    return numbers


def write_moving_clips(options: argparse.Namespace) -> None:
    """Writes clips as a dataset that `edgetam evaluate davis` reads."""

    def clips() -> Iterator[Clip]:
        settings = {"tempo": options.tempo, "has_entering": options.entering}
        source = MovingComposites(options.data, options.split, options.size, **settings)
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
    parser.add_argument("--tempo", type=float, default=1.0, help="factor on all speeds; default: %(default)s")
    parser.add_argument("--entering", action="store_true", help="what enters after the first frame is an object, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--baseline", type=Path, metavar="ROOT", help="repeat the first masks of this dataset instead, and print J&F"
    )
    options = parser.parse_args(arguments)
    if min(options.clips, options.frames, options.size, options.objects) < 1 or min(options.seed, options.tempo) < 0:
        parser.error("--clips, --frames, --size and --objects must be at least 1, --seed and --tempo at least 0")
    try:
        if options.baseline is None:
            write_moving_clips(options)
            return
        sequences = read_dataset("davis", options.baseline)
        repeat_first_masks(sequences, options.output)
        total = report_scores(score_results(sequences, options.output))["total"]
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    print(", ".join(f"{name} {100 * value:.1f}" for name, value in total.items()))


if __name__ == "__main__":
    main()
