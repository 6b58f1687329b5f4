"""Composites: pictures of overlapping clip art and drawn objects, with a map of which pixel belongs to which object.

python -m recipes.nano.composites --output data/composites --count 28000
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from .shapes import blurred, draw_embossed_disc, draw_shape, shade, slight_contrast
from .sprites import load_sprites
from .textures import fractal_noise, load_photographs, photograph_texture, smooth_noise, texture

PICTURE_SIZE = 256
SMALLEST_AREA = 150  # visible pixels; smaller remains are no targets
HELD_OUT_SEED = 2**31


@dataclass
class Library:
    """The sources of one side of the split: premultiplied sprites (h, w, 4) and photographs (h, w, 3), uint8."""

    sprites: list[np.ndarray]
    photographs: list[np.ndarray]


def load_library(held_out: bool) -> Library:
    """The sprites and photographs for training, or the ones kept apart for evaluation."""
    return Library(load_sprites(held_out), load_photographs(held_out))


class Canvas:
    """A picture (size, size, 3) in [0, 1] under construction and its instance map (size, size)."""

    def __init__(self, picture: np.ndarray):
        self.picture = picture
        self.instances = np.zeros(picture.shape[:2], np.uint8)
        self.count = 0

    def _window(self, top: int, left: int, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        size = self.picture.shape[0]
        top_in, left_in = max(0, top), max(0, left)
        bottom_in, right_in = min(size, top + height), min(size, left + width)
        bottom_in, right_in = max(bottom_in, top_in), max(right_in, left_in)
        return (
            (slice(top_in, bottom_in), slice(left_in, right_in)),
            (slice(top_in - top, bottom_in - top), slice(left_in - left, right_in - left)),
        )

    def cast_shadow(self, coverage: np.ndarray, center: np.ndarray, softness: float, depth: float) -> None:
        """Darkens the picture softly under an object at `center` (x, y)."""
        margin = int(3 * softness)
        shadow = blurred(np.pad(coverage, margin), softness)
        top, left = round(center[1] - shadow.shape[0] / 2), round(center[0] - shadow.shape[1] / 2)
        target, source = self._window(top, left, *shadow.shape)
        self.picture[target] *= 1 - depth * shadow[source][..., None]

    def place(self, color: np.ndarray, coverage: np.ndarray, center: np.ndarray | tuple[float, float]) -> None:
        """Draws an object on top, centred at (x, y), as the next instance."""
        top, left = round(center[1] - coverage.shape[0] / 2), round(center[0] - coverage.shape[1] / 2)
        target, source = self._window(top, left, *coverage.shape)
        alpha = coverage[source][..., None]
        self.picture[target] = self.picture[target] * (1 - alpha) + color[source] * alpha
        self.count += 1
        self.instances[target][coverage[source] > 0.5] = self.count

    def mean_color(self, center: np.ndarray, size: int) -> np.ndarray:
        """The mean colour (3,) about (x, y)."""
        target, _ = self._window(round(center[1] - size / 2), round(center[0] - size / 2), size, size)
        patch = self.picture[target]
        return patch.mean((0, 1)) if patch.size else self.picture.mean((0, 1))


def _fit_sprite(rng: np.random.Generator, sprite: np.ndarray, size: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Colour (h, w, 3) and coverage (h, w) of a clip art turned, flipped and scaled to `size`."""
    if rng.random() < 0.5:
        sprite = sprite[:, ::-1]
    # CMYK is only a way to have four bands resampled alike: the colours are premultiplied already
    picture = Image.frombuffer("CMYK", sprite.shape[1::-1], np.ascontiguousarray(sprite).tobytes(), "raw", "CMYK", 0, 1)
    scale = size / max(picture.size)
    picture = picture.resize([max(4, round(side * scale)) for side in picture.size], Image.Resampling.BILINEAR)
    if angle:
        # a fill of zeros in all bands, transparent black
        picture = picture.rotate(angle, Image.Resampling.BILINEAR, expand=True, fillcolor=(0, 0, 0, 0))
    pixels = np.asarray(picture, np.float32) / 255
    coverage = pixels[..., 3]
    return pixels[..., :3] / np.maximum(coverage, 1e-3)[..., None], coverage


def draw_sprite(
    rng: np.random.Generator, library: Library, sprite: np.ndarray, size: int, near: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Colour and coverage of a clip art, often with the surface of a photograph instead of flat colours."""
    angle = 0.0 if rng.random() < 0.4 else rng.uniform(-40, 40) if rng.random() < 0.8 else rng.uniform(0, 360)
    color, coverage = _fit_sprite(rng, sprite, size, angle)
    style = rng.random()
    if style < 0.5:
        material = texture(rng, library.photographs, *coverage.shape)
        if rng.random() < 0.5:
            material = photograph_texture(rng, library.photographs, *coverage.shape)
        grey = color.mean(axis=2, keepdims=True)
        # the drawing survives in part as light and dark of the material
        keep = rng.uniform(0.1, 0.9)
        color = material * (1 - keep + keep * 1.6 * grey) if style < 0.28 else color * (1 - keep) + material * keep
    elif style < 0.7:
        color = color * rng.uniform(0.5, 1.1, 3) + rng.uniform(-0.1, 0.25, 3)
    if near is not None:
        color = near + slight_contrast(rng) + rng.uniform(0.25, 0.8) * (color - color[coverage > 0.5].mean(0))
    if rng.random() < 0.6:
        color = shade(rng, color, coverage)
    return color.astype(np.float32), coverage


def draw_background(rng: np.random.Generator, library: Library) -> np.ndarray:
    """A picture (size, size, 3) with no object: one material, or two that meet, lit unevenly."""
    size = PICTURE_SIZE
    picture = texture(rng, library.photographs, size, size)
    kind = rng.random()
    if kind < 0.3:
        other = texture(rng, library.photographs, size, size)
        edge = np.linspace(0, 1, size, dtype=np.float32)[:, None] + 0.4 * (smooth_noise(rng, size, size, 2) - 0.5)
        if rng.random() < 0.3:
            edge = edge.T
        blend = np.clip((edge - rng.uniform(0.25, 0.75)) * rng.uniform(2, 80) + 0.5, 0, 1)[..., None]
        picture = picture * (1 - blend) + other * blend
    elif kind < 0.45:
        blend = np.clip((fractal_noise(rng, size, size, 4) - 0.5) * rng.uniform(2, 12) + 0.5, 0, 1)[..., None]
        picture = picture * (1 - blend) + texture(rng, library.photographs, size, size) * blend
    if rng.random() < 0.5:
        picture = picture * (1 + rng.uniform(0.1, 0.9) * (smooth_noise(rng, size, size, 1.5) - 0.5))[..., None]
    return np.array(picture, np.float32)


def _draw_object(
    rng: np.random.Generator, library: Library, size: int, near: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    if rng.random() < 0.62:
        return draw_sprite(rng, library, library.sprites[rng.integers(len(library.sprites))], size, near)
    return draw_shape(rng, library.photographs, size, near)


def _put(rng: np.random.Generator, canvas: Canvas, drawn: tuple[np.ndarray, np.ndarray], center: np.ndarray) -> None:
    color, coverage = drawn
    if rng.random() < 0.45:
        offset = rng.normal(0, 0.05 * max(coverage.shape), 2)
        softness = rng.uniform(1, 0.08 * max(coverage.shape) + 1.5)
        canvas.cast_shadow(coverage, offset + center, softness, rng.uniform(0.1, 0.7))
    canvas.place(color, coverage, center)


def _lay_scatter(rng: np.random.Generator, library: Library, canvas: Canvas) -> None:
    """One to seven objects anywhere, large ones first."""
    count = int(rng.choice([1, 2, 3, 4, 5, 7], p=[0.15, 0.2, 0.22, 0.2, 0.13, 0.1]))
    low_contrast = rng.random() < 0.3
    for size in sorted(rng.uniform(0.14, 0.62, count) * PICTURE_SIZE, reverse=True):
        center = rng.uniform(0.05, 0.95, 2) * PICTURE_SIZE
        near = canvas.mean_color(center, int(size)) if low_contrast and rng.random() < 0.7 else None
        _put(rng, canvas, _draw_object(rng, library, int(size), near), center)


def _lay_large(rng: np.random.Generator, library: Library, canvas: Canvas) -> None:
    """One object that takes up most of the picture, sometimes with smaller ones before it."""
    center = rng.uniform(0.3, 0.7, 2) * PICTURE_SIZE
    near = canvas.mean_color(center, PICTURE_SIZE // 2) if rng.random() < 0.25 else None
    _put(rng, canvas, _draw_object(rng, library, int(rng.uniform(0.6, 1.25) * PICTURE_SIZE), near), center)
    for _ in range(rng.integers(0, 4)):
        size = rng.uniform(0.12, 0.35) * PICTURE_SIZE
        _put(rng, canvas, _draw_object(rng, library, int(size), None), rng.uniform(0.05, 0.95, 2) * PICTURE_SIZE)


def _grid_object(
    rng: np.random.Generator, library: Library, kind: int, size: int, look: tuple[np.ndarray, int, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    albedo, material_seed, sprite = look
    if kind == 0:
        motif = library.sprites[rng.integers(len(library.sprites))] if rng.random() < 0.7 else None
        return draw_embossed_disc(rng, size, np.clip(albedo + rng.normal(0, 0.07), 0.05, 1), motif)
    same = np.random.default_rng(material_seed) if rng.random() < 0.8 else rng
    if kind == 1:
        return draw_sprite(same, library, sprite, size)
    return draw_shape(same, library.photographs, size)


def _lay_grid(rng: np.random.Generator, library: Library, canvas: Canvas) -> None:
    """Rows of like objects: embossed tokens, one clip art over and over, or one drawn shape."""
    columns = rng.uniform(1.8, 5.2)
    step = PICTURE_SIZE / columns
    kind = int(rng.choice(3, p=[0.6, 0.22, 0.18]))
    grey = rng.uniform(0.3, 0.95)
    albedo = np.full(3, grey) if rng.random() < 0.6 else grey * np.array([1, rng.uniform(0.6, 1), rng.uniform(0.3, 1)])
    if kind == 0 and rng.random() < 0.75:
        canvas.picture *= np.clip(albedo.mean() * rng.uniform(0.2, 0.9) / max(canvas.picture.mean(), 0.05), 0, 1.2)
    look = albedo, int(rng.integers(2**31)), library.sprites[rng.integers(len(library.sprites))]
    fill, jitter = rng.uniform(0.5, 1.0), rng.uniform(0, 0.12)
    size_spread = rng.uniform(0, 0.2)
    turn = np.deg2rad(rng.uniform(-12, 12))
    start_x, start_y = rng.uniform(-0.3, 0.8, 2) * step
    row_step = step * rng.uniform(0.85, 1.3)
    for y in np.arange(start_y, PICTURE_SIZE + 0.3 * step, row_step):
        for x in np.arange(start_x, PICTURE_SIZE + 0.3 * step, step):
            if rng.random() < 0.06:
                continue
            size = max(12, int(step * fill * (1 + rng.uniform(-size_spread, size_spread))))
            along = np.array([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)])
            _put(rng, canvas, _grid_object(rng, library, kind, size, look), along + rng.normal(0, jitter * step, 2))


def _photograph(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """The picture as a camera would give it: uneven light, blur, noise, grey or faded colours, JPEG; uint8."""
    if rng.random() < 0.3:
        light = smooth_noise(rng, picture.shape[0], picture.shape[1], 1.5)[..., None]
        picture = picture * (1 + rng.uniform(0.2, 1) * (light - 0.5))
    if rng.random() < 0.18:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.4:
        picture = np.clip(picture, 0, 1) ** rng.uniform(0.6, 1.6) * rng.uniform(0.6, 1.1) + rng.uniform(-0.05, 0.1)
    if rng.random() < 0.5:
        strength = rng.uniform(0, 0.06)
        shape = picture.shape if rng.random() < 0.5 else (*picture.shape[:2], 1)
        picture = picture + strength * rng.standard_normal(shape, dtype=np.float32)
    pixels = np.clip(picture * 255, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        shrink = rng.uniform(1, 2.2)
        small = Image.fromarray(pixels).resize([int(PICTURE_SIZE / shrink)] * 2, Image.Resampling.BILINEAR)
        pixels = np.asarray(small.resize([PICTURE_SIZE] * 2, Image.Resampling.BILINEAR))
    if rng.random() < 0.35:
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=int(rng.integers(25, 90)))
        pixels = np.asarray(Image.open(buffer))
    return pixels


def _visible_instances(instances: np.ndarray) -> np.ndarray:
    """The map with the remains of hidden objects removed and the others numbered from 1."""
    areas = np.bincount(instances.ravel(), minlength=256)
    kept = np.flatnonzero(areas >= SMALLEST_AREA)
    numbers = np.zeros(256, np.uint8)
    kept = kept[kept > 0]
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[instances]


def draw_composite(seed: int, library: Library) -> tuple[np.ndarray, np.ndarray]:
    """A picture, uint8 (256, 256, 3), and its instance map, uint8 (256, 256) with 0 for background.

    The same seed and library always give the same composite.
    """
    rng = np.random.default_rng(seed)
    while True:
        canvas = Canvas(draw_background(rng, library))
        layout = rng.random()
        lay = _lay_scatter if layout < 0.5 else _lay_large if layout < 0.74 else _lay_grid
        lay(rng, library, canvas)
        instances = _visible_instances(canvas.instances)
        if instances.any() and (instances == 0).mean() > 0.02:
            return _photograph(rng, canvas.picture), instances


_library: Library  # of a worker


def _draw_chunk(seeds: range) -> tuple[np.ndarray, np.ndarray]:
    pairs = [draw_composite(seed, _library) for seed in seeds]
    return np.stack([picture for picture, _ in pairs]), np.stack([instances for _, instances in pairs])


def render_composites(library: Library, output: Path, name: str, count: int, first_seed: int, workers: int) -> None:
    """Writes `name_pictures.npy` (count, 256, 256, 3) and `name_instances.npy` (count, 256, 256), both uint8."""
    global _library
    _library = library  # forked workers inherit it
    shape = (count, PICTURE_SIZE, PICTURE_SIZE)
    output.mkdir(parents=True, exist_ok=True)
    pictures = np.lib.format.open_memmap(output / f"{name}_pictures.npy", "w+", np.uint8, (*shape, 3))
    instances = np.lib.format.open_memmap(output / f"{name}_instances.npy", "w+", np.uint8, shape)
    chunks = [range(start, min(start + 20, count)) for start in range(0, count, 20)]
    seeds = [range(first_seed + chunk.start, first_seed + chunk.stop) for chunk in chunks]
    with ProcessPoolExecutor(workers) as pool, tqdm(total=count, desc=name, mininterval=5) as bar:
        for chunk, (some_pictures, some_instances) in zip(chunks, pool.map(_draw_chunk, seeds), strict=True):
            pictures[chunk.start : chunk.stop] = some_pictures
            instances[chunk.start : chunk.stop] = some_instances
            bar.update(len(chunk))
    pictures.flush()
    instances.flush()


def main() -> None:
    """Renders the held-out and the training composites."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("data/composites"))
    parser.add_argument("--count", type=int, default=28000, help="training composites")
    parser.add_argument("--held-out", type=int, default=1000, help="composites of sprites and photographs kept apart")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    held_out, training = load_library(True), load_library(False)
    render_composites(held_out, arguments.output, "held_out", arguments.held_out, HELD_OUT_SEED, arguments.workers)
    render_composites(training, arguments.output, "training", arguments.count, 0, arguments.workers)


if __name__ == "__main__":
    main()
