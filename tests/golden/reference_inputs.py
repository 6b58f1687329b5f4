"""Procedural reference inputs for EdgeTAM: two images with ground-truth masks.

Everything is drawn with integer arithmetic, so the uint8 arrays are bit-identical on every platform (`SHA256` holds
their digests, `verify()` checks them). No third-party data is involved.

    image("A")  480 x 640 RGB, image("B")  360 x 500 RGB
    image_masks("A"), image_masks("B")  visible ground truth, bool, one per shape (occlusion respected)

`image_pixel_values` states exactly what the original release does before its network (SAM2ImagePredictor): to float in
[0, 1] first, then bilinear resize with antialias, then normalise. The aspect ratio is not kept and nothing is padded.
"""

import hashlib

import numpy as np

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

SHA256 = {  # digests as returned by sha256()
    "image_A": "760ba31e4474e32c7ac04b0185aa678e1b3d8a92c77bd72ffb088dbe2a71affa",
    "image_B": "5888750b3982662622e96baef3e8fbdaf495603ca689ba7eecef10b94dcd61f0",
    "masks_A": "b51af9747669e707190db2446764070cc5725a1ee28774e6227f5cd874565073",
    "masks_B": "f3a47a003ab177d544cfd3430577968aa51e91013b07609453099c9e73d2c6a9",
}


def _hash(x, y, seed):
    """32-bit integer hash of lattice coordinates (wraps around by design)."""
    h = x.astype(np.uint32) * np.uint32(0x9E3779B1) ^ y.astype(np.uint32) * np.uint32(0x85EBCA77)
    h = h ^ np.uint32((seed * 0xC2B2AE3D) & 0xFFFFFFFF)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    h = (h ^ (h >> np.uint32(12))) * np.uint32(0x297A2D39)
    return h ^ (h >> np.uint32(15))


def _noise(x, y, cell, seed):
    """Value noise in 0..255: hashed lattice with integer bilinear interpolation."""
    gx, gy = x // cell, y // cell
    fx, fy = x - gx * cell, y - gy * cell

    def corner(dx, dy):
        return (_hash(gx + dx, gy + dy, seed) & np.uint32(255)).astype(np.int64)

    top = corner(0, 0) * (cell - fx) + corner(1, 0) * fx
    bottom = corner(0, 1) * (cell - fx) + corner(1, 1) * fx
    return (top * (cell - fy) + bottom * fy) // (cell * cell)


def _texture(x, y, kind, colours, seed):
    """RGB texture (int64, 0..255) at integer coordinates; `colours` is a pair of RGB triples to mix."""
    if kind == "noise":
        mix = (2 * _noise(x, y, 24, seed) + _noise(x, y, 7, seed + 1)) // 3
    elif kind == "stripes":
        mix = ((x + 2 * y) % 26) * 255 // 25
    elif kind == "checker":
        mix = np.where(((x // 14) + (y // 14)) % 2 == 0, 40, 215)
    elif kind == "rings":
        mix = ((x * x + y * y) // 160 % 16) * 17
    elif kind == "smooth":
        mix = _noise(x, y, 60, seed)
    else:
        raise ValueError(kind)
    grain = (_hash(x, y, seed + 7) & np.uint32(15)).astype(np.int64) - 8
    low, high = (np.array(c, dtype=np.int64) for c in colours)
    rgb = (low * (255 - mix)[..., None] + high * mix[..., None]) // 255 + grain[..., None]
    return np.clip(rgb, 0, 255)


# --- shapes: boolean masks from integer inequalities; (u, v) are coordinates relative to the shape'
def _shape(u, v, kind, a, b):
    if kind == "ellipse":
        return u * u * (b * b) + v * v * (a * a) <= a * a * b * b
    if kind == "box":
        return (abs(u) <= a) & (abs(v) <= b)
    if kind == "diamond":
        return abs(u) * b + abs(v) * a <= a * b
    if kind == "triangle":
        return (v <= b) & (v >= -b) & (abs(u) * 2 * b <= a * (v + b))
    if kind == "ring":
        outer = u * u * (b * b) + v * v * (a * a) <= a * a * b * b
        return outer & (4 * (u * u * (b * b) + v * v * (a * a)) >= a * a * b * b)
    if kind == "ell":  # L shape
        return (abs(u) <= a) & (abs(v) <= b) & ~((u > -a // 3) & (v < b // 3))
    raise ValueError(kind)


def _render(height, width, background, shapes):
    """Paints `shapes` (back to front) on the background; returns the image and the visible mask of every shape."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    rgb = _texture(x + 1000, y + 1000, *background)
    rgb = rgb + (40 * y // height - 20)[..., None]  # vertical light gradient
    masks = []
    for kind, cx, cy, a, b, texture in shapes:
        u, v = x - cx, y - cy
        inside = _shape(u, v, kind, a, b)
        colour = _texture(u + 1000, v + 1000, *texture) - (30 * v // max(b, 1))[..., None]  # shading
        rgb = np.where(inside[..., None], colour, rgb)
        masks = [m & ~inside for m in masks] + [inside]
    return np.clip(rgb, 0, 255).astype(np.uint8), np.stack(masks)


_IMAGES = {
    "A": (480, 640, ("noise", ((52, 84, 60), (150, 170, 120)), 11), [
        ("box", 470, 330, 130, 80, ("stripes", ((170, 60, 40), (240, 190, 90)), 21)),
        ("ellipse", 180, 170, 120, 90, ("smooth", ((30, 60, 150), (120, 180, 240)), 31)),
        ("triangle", 330, 240, 110, 120, ("checker", ((60, 20, 80), (220, 200, 60)), 41)),
        ("ring", 520, 120, 80, 70, ("rings", ((230, 230, 220), (90, 30, 30)), 51)),
        ("diamond", 110, 390, 80, 60, ("noise", ((200, 90, 150), (250, 230, 240)), 61)),
    ]),
    "B": (360, 500, ("smooth", ((190, 180, 160), (110, 100, 120)), 12), [
        ("ell", 120, 200, 80, 110, ("noise", ((30, 110, 110), (160, 230, 200)), 22)),
        ("ellipse", 330, 150, 110, 95, ("rings", ((240, 170, 40), (120, 40, 20)), 32)),
        ("diamond", 260, 260, 120, 60, ("stripes", ((40, 40, 60), (130, 140, 220)), 42)),
        ("box", 440, 290, 45, 50, ("checker", ((20, 120, 40), (220, 240, 210)), 52)),
    ]),
}  # fmt: skip


def image(name: str) -> np.ndarray:
    """uint8 [height, width, 3]"""
    return _render(*_IMAGES[name])[0]


def image_masks(name: str) -> np.ndarray:
    """bool [shapes, height, width], visible part of every shape"""
    return _render(*_IMAGES[name])[1]


def _normalise(x):
    import torch

    mean = torch.tensor(MEAN, dtype=torch.float32)[:, None, None]
    std = torch.tensor(STD, dtype=torch.float32)[:, None, None]
    return (x - mean) / std


def image_pixel_values(array: np.ndarray, size: int):
    """Image path of the original: float32 [1, 3, size, size]."""
    import torch

    x = torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None].float() / 255
    x = torch.nn.functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return _normalise(x)


def sha256(array: np.ndarray) -> str:
    """Digest of dtype, shape and bytes."""
    head = f"{array.dtype.name}:{','.join(map(str, array.shape))}:".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def verify() -> None:
    """Raises if the generated inputs differ from the ones used for the reference outputs."""
    actual = {f"image_{name}": image(name) for name in "AB"} | {f"masks_{name}": image_masks(name) for name in "AB"}
    for name, array in actual.items():
        if sha256(array) != SHA256[name]:
            raise RuntimeError(f"reference input '{name}' differs from the published one")
