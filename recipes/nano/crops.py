"""Crops of rendered composites: one by one, as a source of pictures, and in batches ready for the model."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from edgetam_hf.training.clips import Clip
from edgetam_hf.training.sources import register_source

SPLITS = ("training", "held-out")
WHOLE_SHARE = 0.5  # of pictures that are not cropped
IMAGE_MEAN = torch.tensor((0.485, 0.456, 0.406))
IMAGE_STD = torch.tensor((0.229, 0.224, 0.225))


def normalize(pictures: torch.Tensor) -> torch.Tensor:
    """Model input (B, 3, H, W), channels last in memory, of pictures (B, H, W, 3) in [0, 1]."""
    return ((pictures - IMAGE_MEAN) / IMAGE_STD).permute(0, 3, 1, 2)


class Composites:
    """Rendered composites of one split, read from disk as they are needed.

    Raises:
        ValueError: for another split, and a folder without composites.
    """

    def __init__(self, folder: str | Path, split: str):
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        try:
            self.pictures, self.instances = (
                np.load(Path(folder) / f"{split.replace('-', '_')}_{part}.npy", mmap_mode="r")
                for part in ("pictures", "instances")
            )
        except FileNotFoundError as error:
            raise ValueError(
                f"{folder} has no {split} composites: render them with "
                f"python -m recipes.nano.composites --output {folder}"
            ) from error

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, rng: np.random.Generator, count: int, size: int, whole: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Model input (B, 3, size, size) and instance maps uint8 (B, size, size) of random crops.

        `whole` is the share of pictures that are not cropped. Crops without any object are drawn again.
        """
        pictures: list[np.ndarray] = []
        instances: list[np.ndarray] = []
        while len(pictures) < count:
            picture, numbers = self.crop(rng, int(rng.integers(len(self))), size, whole)
            if numbers.any():
                pictures.append(picture)
                instances.append(numbers)
        batch = torch.from_numpy(np.stack(pictures)).float() / 255
        gain = torch.from_numpy(rng.uniform(0.75, 1.25, (count, 1, 1, 1)).astype(np.float32))
        shift = torch.from_numpy(rng.uniform(-0.08, 0.08, (count, 1, 1, 3)).astype(np.float32))
        return normalize((batch * gain + shift).clamp(0, 1)), torch.from_numpy(np.stack(instances))

    def crop(self, rng: np.random.Generator, index: int, size: int, whole: float) -> tuple[np.ndarray, np.ndarray]:
        """A picture uint8 (size, size, 3), often only a part of it, turned or recoloured, and its instance map."""
        picture, numbers = self.pictures[index], self.instances[index]
        full = picture.shape[0]
        box = None
        if rng.random() >= whole:
            side = int(full * rng.uniform(0.4, 1))
            left, top = np.clip(_point_on_object(rng, numbers) - rng.uniform(0.25, 0.75, 2) * side, 0, full - side)
            box = (left, top, left + side, top + side)
        if box is not None or size != full:
            box = box or (0, 0, full, full)
            colors = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
            picture = np.asarray(colors)
            numbers = np.asarray(Image.fromarray(numbers).resize((size, size), Image.Resampling.NEAREST, box))
        if rng.random() < 0.5:
            picture, numbers = picture[:, ::-1], numbers[:, ::-1]
        if rng.random() < 0.15:
            picture, numbers = picture.transpose(1, 0, 2), numbers.T
        if rng.random() < 0.3:
            picture = picture[..., rng.permutation(3)]
        return picture, numbers


@register_source("composites")
class CompositePictures:
    """Source of clips of one frame, see `clips`: crops of rendered composites.

    Args:
        root: folder of the rendered composites.
        split: "training" or "held-out".
        size: height and width of the pictures in pixels.
        smallest_share: of the picture that an object covers.
    """

    has_videos = False

    def __init__(self, root: str | Path, split: str = "training", size: int = 256, smallest_share: float = 0.002):
        self.composites, self.size, self.smallest_share = Composites(root, split), size, smallest_share

    def __len__(self) -> int:
        return len(self.composites)

    def draw(self, index: int, num_frames: int, max_objects: int, rng: np.random.Generator) -> Clip:
        """A `Clip` of one frame, with the masks of up to `max_objects` of its objects."""
        if num_frames != 1:
            raise ValueError(f"a picture is a clip of one frame, got num_frames={num_frames}")
        picture, numbers = self.composites.crop(rng, index, self.size, WHOLE_SHARE)
        areas = np.bincount(numbers.ravel())
        areas[0] = 0
        objects = np.flatnonzero(areas >= max(1, self.smallest_share * numbers.size))
        chosen = np.sort(rng.permutation(objects)[:max_objects])
        return Clip([np.ascontiguousarray(picture)], (numbers == chosen[:, None, None])[None])


def _point_on_object(rng: np.random.Generator, numbers: np.ndarray) -> np.ndarray:
    """A random pixel (x, y) of an instance map (H, W), of an object if a few attempts hit one."""
    points = rng.integers(numbers.shape[0], size=(8, 2))
    hits = np.flatnonzero(numbers[points[:, 1], points[:, 0]])
    return points[hits[0] if len(hits) else 0]
