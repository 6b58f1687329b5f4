"""Clip art as sprites: opaque-alpha pictures cut to their outline, split into training and held-out ones.

The pictures are Debian's `openclipart-png` (public domain): `apt-get install openclipart-png`.
"""

import hashlib
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

CLIP_ART_DIRECTORY = Path("/usr/share/openclipart/png")
LONGEST_SIDE = 176


def load_sprite(path: Path) -> np.ndarray | None:
    """uint8 (height, width, 4) premultiplied clip art, or None where a picture is not one solid object."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture: Image.Image = Image.open(path)
        if min(picture.size) < 60 or max(picture.size) > 3000:
            return None
        picture = picture.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 50:
        return None
    picture = picture.crop(box)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
    pixels = np.array(picture)
    is_object = pixels[..., 3] > 127
    if not 0.2 < is_object.mean() < 0.96 or max(picture.size) > 5 * min(picture.size):
        return None
    labels, _ = ndimage.label(is_object)
    if np.bincount(labels.ravel())[1:].max() < 0.85 * is_object.sum():
        return None
    pixels[..., :3] = pixels[..., :3] * (pixels[..., 3:].astype(np.float32) / 255)
    return pixels


def _fingerprint(sprite: np.ndarray) -> bytes:
    small = Image.fromarray(sprite[..., :3]).resize((8, 8), Image.Resampling.BOX)
    return (np.asarray(small) // 24).tobytes()


def is_held_out(sprite: np.ndarray) -> bool:
    """Whether a sprite belongs to the held-out tenth; decided by its look, so that copies stay on one side."""
    return hashlib.sha1(_fingerprint(sprite)).digest()[0] % 10 == 0


def load_sprites(held_out: bool, directory: Path = CLIP_ART_DIRECTORY) -> list[np.ndarray]:
    """All usable sprites of one side of the split, without duplicates, in the order of their paths."""
    paths = sorted(directory.rglob("*.png"))
    if not paths:
        raise FileNotFoundError(f"no clip art in {directory}; install Debian's openclipart-png")
    with ProcessPoolExecutor() as pool:
        sprites = list(pool.map(load_sprite, paths, chunksize=64))
    unique = {_fingerprint(sprite): sprite for sprite in sprites if sprite is not None}
    return [sprite for sprite in unique.values() if is_held_out(sprite) == held_out]
