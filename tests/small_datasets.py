"""Small datasets in the layouts that can be evaluated: two squares move to the right."""

import json

import numpy as np
from PIL import Image

from edgetam_hf.formats.index_pictures import index_picture

NUM_FRAMES, HEIGHT, WIDTH = 5, 90, 120


def square(frame_idx, number):
    """Mask of an object that moves to the right."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10 + 30 * number : 35 + 30 * number, 10 + 6 * frame_idx : 40 + 6 * frame_idx] = True
    return mask


def write_frames(folder, num_frames=NUM_FRAMES):
    folder.mkdir(parents=True)
    for t in range(num_frames):
        pixels = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
        for number, colour in enumerate([(220, 180, 60), (40, 200, 220)]):
            pixels[square(t, number)] = colour
        Image.fromarray(pixels).save(folder / f"{t:05d}.png")


def write_index(path, numbers, frame_idx):
    path.parent.mkdir(parents=True, exist_ok=True)
    index_picture([square(frame_idx, number - 1) for number in numbers], numbers).save(path)


def make_davis(root):
    """Two sequences in the layout of DAVIS 2017."""
    for name in ("cat", "dog"):
        write_frames(root / "JPEGImages/480p" / name)
        for t in range(NUM_FRAMES):
            write_index(root / "Annotations/480p" / name / f"{t:05d}.png", [1, 2], t)
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("dog\ncat\n")
    return root


def make_youtube_vos(root):
    """A sequence in which object 2 appears on frame 2, of another category."""
    write_frames(root / "JPEGImages" / "fish")
    for t in range(NUM_FRAMES):
        write_index(root / "Annotations" / "fish" / f"{t:05d}.png", [1, 2] if t >= 2 else [1], t)
    objects = {"1": {"category": "fish", "frames": ["00000"]}, "2": {"category": "crab", "frames": ["00002"]}}
    (root / "meta.json").write_text(json.dumps({"videos": {"fish": {"objects": objects}}}))
    return root


def make_sa_v(root):
    """A sequence of 13 frames, every fourth of which has a picture per object."""
    write_frames(root / "JPEGImages_24fps" / "sav_1", 13)
    for number in (0, 1):
        for t in range(0, 13, 4):
            path = root / "Annotations_6fps" / "sav_1" / f"{number:03d}" / f"{t:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(square(t, number).astype(np.uint8) * 255).save(path)
    return root


def make_masked_pictures(root):
    """Two pictures with two objects each."""
    write_frames(root / "images", 2)
    for t in range(2):
        write_index(root / "masks" / f"{t:05d}.png", [1, 2], t)
    return root
