"""Objects drawn from scratch: outlines, materials and shading, each as colour (h, w, 3) and coverage (h, w)."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from .textures import fractal_noise, smooth_noise, texture

Outline = Callable[[np.random.Generator, ImageDraw.ImageDraw, int], None]


def _polygon(draw: ImageDraw.ImageDraw, points: np.ndarray, fill: int = 255) -> None:
    draw.polygon([(float(x), float(y)) for x, y in points], fill=fill)


def _blob(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int) -> None:
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = np.ones_like(angle)
    for harmonic in range(1, rng.integers(3, 9)):
        radius += rng.normal(0, 0.35 / harmonic) * np.cos(harmonic * angle + rng.uniform(0, 6.3))
    radius = np.clip(radius, 0.15, None)
    points = np.stack([radius * np.cos(angle) * rng.uniform(0.5, 1), radius * np.sin(angle)], 1)
    points -= points.min(0)
    _polygon(draw, points / points.max() * (size - 1))


def _ellipse(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int) -> None:
    thin = rng.uniform(0.35, 1) * size if rng.random() < 0.6 else size
    draw.ellipse((0, 0, size - 1, thin - 1), fill=255)
    if rng.random() < 0.12:
        hole = rng.uniform(0.15, 0.35) * thin
        draw.ellipse((hole, hole, size - 1 - hole, thin - 1 - hole), fill=0)


def _superellipse(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int) -> None:
    angle = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    power = rng.uniform(0.2, 1.6)
    x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power * rng.uniform(0.35, 1)
    _polygon(draw, (np.stack([x, y], 1) + 1) / 2 * (size - 1))


def _star(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int) -> None:
    corners = int(rng.integers(3, 11))
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners)) if rng.random() < 0.5 else np.arange(corners) * 6.2832 / corners
    radius = rng.uniform(0.55, 1, corners)
    if rng.random() < 0.35:
        angle = np.arange(2 * corners) * np.pi / corners
        radius = np.tile([1, rng.uniform(0.35, 0.8)], corners)
    _polygon(draw, (np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1) + 1) / 2 * (size - 1))


def _turned(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int) -> None:
    """A bottle, vase or lamp: a smooth profile mirrored about the vertical axis."""
    height = np.linspace(0, 1, 40)
    profile = np.interp(height, np.linspace(0, 1, 6), rng.uniform(0.08, 0.5, 6))
    profile = ndimage.gaussian_filter1d(profile, rng.uniform(0.5, 4))
    outline = np.concatenate([np.stack([0.5 - profile, height], 1), np.stack([0.5 + profile, height], 1)[::-1]])
    _polygon(draw, outline * (size - 1))


def _cup(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int) -> None:
    """A vessel with an elliptic rim and mostly a handle."""
    top, bottom = rng.uniform(0.1, 0.3), rng.uniform(0.75, 0.95)
    half, taper = rng.uniform(0.25, 0.38), rng.uniform(0.5, 1.0)
    center, flat = 0.42, rng.uniform(0.04, 0.12)
    if rng.random() < 0.8:
        box = (center + 0.5 * half, top + 0.1, min(center + half + rng.uniform(0.12, 0.25), 1), bottom - 0.15)
        draw.ellipse(
            tuple(size * value for value in box), outline=255, width=max(2, int(size * rng.uniform(0.04, 0.09)))
        )
    corners = [(-half, top), (half, top), (half * taper, bottom), (-half * taper, bottom)]
    _polygon(draw, np.array([(center + x, y) for x, y in corners]) * size)
    for y, width in ((top, half), (bottom, half * taper)):
        draw.ellipse(tuple(size * v for v in (center - width, y - flat, center + width, y + flat)), fill=255)


def _creature(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int) -> None:
    """A body with head, ears, legs and tail."""
    left, top, right, bottom = 0.2, rng.uniform(0.3, 0.45), 0.8, rng.uniform(0.6, 0.78)

    def ellipse(x: float, y: float, half_width: float, half_height: float) -> None:
        draw.ellipse(
            tuple(size * v for v in (x - half_width, y - half_height, x + half_width, y + half_height)), fill=255
        )

    ellipse((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)
    head_x, head_y, head = rng.uniform(0.15, 0.28), rng.uniform(0.15, 0.4), rng.uniform(0.1, 0.18)
    ellipse(head_x, head_y, head, head * rng.uniform(0.8, 1.2))
    draw.line(
        [(head_x * size, head_y * size), (0.35 * size, size * (top + bottom) / 2)], fill=255, width=int(0.15 * size)
    )
    for side in (-1, 1):
        ear = np.array([(side * 0.9, -0.4), (side * 0.2, -0.9), (side * 0.8, rng.uniform(-2, -1.2))]) * head
        _polygon(draw, (ear + np.array([head_x, head_y])) * size)
    for x in np.linspace(left + 0.08, right - 0.08, rng.integers(2, 5)):
        foot = x + rng.uniform(-0.06, 0.06)
        width = int(size * rng.uniform(0.05, 0.1))
        draw.line([(x * size, bottom * size - 0.1 * size), (foot * size, 0.98 * size)], fill=255, width=width)
    tail = [(right - 0.04, (top + bottom) / 2), (0.9, rng.uniform(0.2, 0.6)), (0.97, rng.uniform(0.1, 0.7))]
    draw.line(
        [(x * size, y * size) for x, y in tail], fill=255, width=int(size * rng.uniform(0.03, 0.07)), joint="curve"
    )


OUTLINES: tuple[tuple[Outline, float], ...] = (
    (_blob, 0.2),
    (_ellipse, 0.22),
    (_superellipse, 0.14),
    (_star, 0.12),
    (_turned, 0.08),
    (_cup, 0.1),
    (_creature, 0.14),
)


def draw_outline(rng: np.random.Generator, size: int, is_disc: bool = False) -> np.ndarray:
    """Coverage (h, w) in [0, 1] of a random shape whose longer side is about `size`, cut to its box."""
    mask = Image.new("L", (2 * size, 2 * size))
    draw = ImageDraw.Draw(mask)
    if is_disc:
        draw.ellipse((0, 0, 2 * size - 1, 2 * size * rng.uniform(0.9, 1) - 1), fill=255)
    else:
        outlines, weights = zip(*OUTLINES, strict=True)
        outlines[rng.choice(len(outlines), p=weights)](rng, draw, 2 * size)
        upright = rng.random() < 0.5
        mask = mask.rotate(
            rng.uniform(-15, 15) if upright else rng.uniform(0, 360), Image.Resampling.BILINEAR, expand=True
        )
    mask = mask.crop(mask.getbbox() or (0, 0, 8, 8))
    scale = size / max(mask.size)
    return (
        np.asarray(mask.resize([max(4, round(side * scale)) for side in mask.size], Image.Resampling.BOX), np.float32)
        / 255
    )


def relief_shading(rng: np.random.Generator, height_map: np.ndarray, strength: float) -> np.ndarray:
    """Brightness (h, w) about 1 of a surface (h, w) lit from a random side."""
    angle = rng.uniform(0, 2 * np.pi)
    slope_y, slope_x = np.gradient(height_map)
    return 1 + strength * (slope_x * np.cos(angle) + slope_y * np.sin(angle))


def shade(rng: np.random.Generator, color: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """The colour (h, w, 3) with light, roundness, edges or relief added at random."""
    height, width = coverage.shape
    light = np.ones_like(coverage)
    if rng.random() < 0.35:
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        angle = rng.uniform(0, 2 * np.pi)
        light += rng.uniform(0.1, 0.5) * (x * np.cos(angle) + y * np.sin(angle))
    if rng.random() < 0.35:
        thickness = ndimage.gaussian_filter(coverage, max(2.0, 0.08 * max(height, width)))
        light *= relief_shading(rng, thickness, rng.uniform(2, 12)) - rng.uniform(-0.3, 0.4) * (1 - thickness)
    if rng.random() < 0.25:
        light *= relief_shading(rng, fractal_noise(rng, height, width, rng.uniform(2, 6)), rng.uniform(1, 6))
    return color * np.clip(light, 0.2, 2)[..., None]


def draw_shape(
    rng: np.random.Generator, photographs: list[np.ndarray], size: int, near: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Colour (h, w, 3) and coverage (h, w) of a random object; a colour `near` (3,) makes it of low contrast."""
    coverage = draw_outline(rng, size)
    height, width = coverage.shape
    color = texture(rng, photographs, height, width)
    if rng.random() < 0.35:
        # parts of other materials: bands, patches, a lid, a face
        cut = (
            smooth_noise(rng, height, width, rng.uniform(1.5, 4)) if rng.random() < 0.6 else _bands(rng, height, width)
        )
        part = np.clip((cut - rng.uniform(0.4, 0.6)) * 30 + 0.5, 0, 1)[..., None]
        color = color * (1 - part) + texture(rng, photographs, height, width) * part
    if near is not None:
        color = color - color.mean((0, 1)) + near + slight_contrast(rng)
    return shade(rng, color, coverage), coverage


def slight_contrast(rng: np.random.Generator) -> np.ndarray:
    """A difference of colour (3,) that is small but can be seen."""
    return rng.choice([-1, 1]) * rng.uniform(0.06, 0.2) + rng.normal(0, 0.03, 3)


def _bands(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    position = np.linspace(0, 1, height)[:, None] if rng.random() < 0.6 else np.linspace(0, 1, width)[None]
    return np.broadcast_to((position * rng.uniform(1, 4) + rng.random()) % 1, (height, width)).astype(np.float32)


def draw_embossed_disc(
    rng: np.random.Generator, size: int, albedo: np.ndarray, sprite: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Colour and coverage of a round token with a rim and a relief, which may follow a sprite's brightness."""
    coverage = draw_outline(rng, size, is_disc=True)
    height, width = coverage.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    radius = np.sqrt(x * x + y * y).astype(np.float32)
    surface = 0.5 * fractal_noise(rng, height, width, rng.uniform(3, 7))
    if sprite is not None:
        motif = Image.fromarray(sprite[..., :3]).convert("L").resize((width, height), Image.Resampling.BILINEAR)
        alpha = Image.fromarray(sprite[..., 3]).resize((width, height), Image.Resampling.BILINEAR)
        drawn = (np.asarray(motif, np.float32) + np.asarray(alpha, np.float32)) / 510
        surface += ndimage.zoom(drawn, 1) * (radius < 0.8)
    rim = rng.uniform(0.82, 0.95)
    surface += rng.uniform(0, 0.8) * np.exp(-(((radius - rim) / 0.05) ** 2))
    surface = ndimage.gaussian_filter(surface, rng.uniform(0.5, 1.5))
    light = relief_shading(rng, surface, rng.uniform(0.8, 5)) * (1 - rng.uniform(0, 0.6) * (radius > 0.93))
    light *= 1 + rng.uniform(0, 0.3) * (x * np.cos(rng.uniform(0, 6.3)) + y)
    grain = 1 + rng.uniform(0, 0.3) * (smooth_noise(rng, height, width, rng.uniform(4, 20)) - 0.5)
    return albedo * np.clip(light * grain, 0.15, 2)[..., None].astype(np.float32), coverage


def blurred(values: np.ndarray, radius: float) -> np.ndarray:
    """The map (h, w) of values in [0, 1] softened by about `radius` pixels."""
    picture = Image.fromarray((255 * values).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(picture, np.float32) / 255
