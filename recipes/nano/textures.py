"""Textures to cover backgrounds and objects with: procedural ones and crops of freely licensed photographs.

Every function returns float32 values around [0, 1], colours as (height, width, 3).
"""

from pathlib import Path

import numpy as np
from PIL import Image

# CC0 paper, cork and fabric photographs of Debian's mypaint-data-extras; scikit-image's textures are CC0 as well
PAPER_DIRECTORY = Path("/usr/share/mypaint/backgrounds")
SCIKIT_IMAGE_TEXTURES = ("brick", "grass", "gravel", "retina", "hubble_deep_field")
HELD_OUT_PHOTOGRAPHS = ("gravel", "HR_Cork", "mamurk_b_1", "HR_PastelPaper 02")


def load_photographs(held_out: bool) -> list[np.ndarray]:
    """uint8 (height, width, 3) photographs of materials; training and held-out pictures share none."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    paths = [next(folder.glob(f"{name}.*")) for name in SCIKIT_IMAGE_TEXTURES]
    paths += sorted(PAPER_DIRECTORY.rglob("*.png"))
    photographs = []
    for path in paths:
        if (path.stem in HELD_OUT_PHOTOGRAPHS) != held_out:
            continue
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((768, 768))
        photographs.append(np.asarray(picture))
    return photographs


def random_color(rng: np.random.Generator) -> np.ndarray:
    """A colour (3,) between grey and saturated."""
    grey = rng.uniform(0.05, 0.95)
    return np.clip(grey + rng.uniform(0, 0.6) ** 1.5 * rng.uniform(-1, 1, 3), 0, 1).astype(np.float32)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: float) -> np.ndarray:
    """Noise (height, width) in [0, 1] with about `cells` bumps along the longer side."""
    scale = cells / max(height, width)
    grid = rng.random((max(2, round(height * scale) + 1), max(2, round(width * scale) + 1)), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def fractal_noise(rng: np.random.Generator, height: int, width: int, cells: float = 3.0) -> np.ndarray:
    """Noise (height, width) in about [0, 1] with detail at several scales."""
    total, weight, strength = np.zeros((height, width), np.float32), 0.0, 1.0
    roughness = rng.uniform(0.4, 0.75)
    while cells < max(height, width) / 2 and weight < 2.5:
        total += strength * smooth_noise(rng, height, width, cells)
        weight += strength
        strength *= roughness
        cells *= rng.uniform(2.2, 3.5)
    return total / max(weight, 1e-6)


def _stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 50)
    phase = (x * np.cos(angle) + y * np.sin(angle)) / period
    if rng.random() < 0.4:
        phase = phase + 2 * smooth_noise(rng, height, width, rng.uniform(2, 5))
    wave = np.sin(2 * np.pi * phase)
    if rng.random() < 0.35:
        wave = wave * np.sin(2 * np.pi * (x * np.sin(angle) - y * np.cos(angle)) / period)
    return np.clip(0.5 + rng.uniform(0.5, 4) * wave, 0, 1)


def _spots(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    noise = smooth_noise(rng, height, width, rng.uniform(5, 25))
    return np.clip((noise - rng.uniform(0.4, 0.7)) * rng.uniform(4, 20) + 0.5, 0, 1)


def photograph_texture(rng: np.random.Generator, photographs: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """A random crop of one photograph, (height, width, 3), often tinted and with another contrast."""
    source = photographs[rng.integers(len(photographs))]
    zoom = rng.uniform(0.5, 2.5)
    crop_height = int(np.clip(height / zoom, 8, source.shape[0]))
    crop_width = int(np.clip(width / zoom, 8, source.shape[1]))
    top = rng.integers(source.shape[0] - crop_height + 1)
    left = rng.integers(source.shape[1] - crop_width + 1)
    picture = Image.fromarray(source[top : top + crop_height, left : left + crop_width])
    crop = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float32) / 255
    if rng.random() < 0.6:
        grey = crop.mean(axis=2, keepdims=True)
        mean = grey.mean()
        crop = random_color(rng) + rng.uniform(0.4, 1.8) * (grey - mean) * (0.6 + 0.8 * random_color(rng))
    return crop


def texture(rng: np.random.Generator, photographs: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """A random material (height, width, 3)."""
    kind = rng.random()
    if kind < 0.3:
        return photograph_texture(rng, photographs, height, width)
    first = random_color(rng)
    second = random_color(rng) if rng.random() < 0.5 else np.clip(first + rng.normal(0, 0.15, 3), 0, 1)
    if kind < 0.42:
        blend = np.zeros((height, width), np.float32)
    elif kind < 0.58:
        blend = smooth_noise(rng, height, width, rng.uniform(1, 3))
    elif kind < 0.8:
        blend = np.clip((fractal_noise(rng, height, width, rng.uniform(2, 10)) - 0.5) * rng.uniform(1, 3) + 0.5, 0, 1)
    elif kind < 0.9:
        blend = _stripes(rng, height, width)
    else:
        blend = _spots(rng, height, width)
    return (first + blend[..., None] * (second - first)).astype(np.float32)
