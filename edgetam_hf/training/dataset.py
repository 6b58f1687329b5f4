"""Items for the model, from sources of clips: pixel values, labels and seeds of prompts, and how they become a batch.

Shapes: T frames of H x W pixels, the size of the model input, O objects, B items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset, default_collate
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from ..image_processing_edgetam import EdgeTamImageProcessor
from ..masks_edgetam import NO_OBJECT
from .augmentation import Augmentation
from .clips import Clip, ClipSource

NUM_TRIES = 20  # to find a clip with an object


@dataclass(frozen=True)
class ItemSettings:
    """What is made of clips.

    Args:
        image_processor: `EdgeTamImageProcessor`, whose settings say how frames become pixel values.
        num_frames: T, or None for items that are pictures.
        max_objects: the most objects of an item.
        augmentation: random changes, or None.

    Raises:
        ValueError: for counts below 1.
    """

    image_processor: EdgeTamImageProcessor
    num_frames: int | None = None
    max_objects: int = 3
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        for name in ("num_frames", "max_objects"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class TrainingDataset(Dataset):
    """Items drawn from sources at random, each one always the same for the same seed, whatever came before.

    An item is a dictionary. Of a picture: `pixel_values`, float32 (3, H, W), `mask_labels`, int8 (O, H, W), which are
    1 on the object and 0 elsewhere, and `prompt_seeds`, an int. Of a clip: `pixel_values_videos` (T, 3, H, W) and
    `mask_labels` (T, O, H, W). Each object can be seen on the first frame.

    Where clips are asked for and some sources have pictures only, some steps learn from clips and the others from
    pictures, as clips of one frame, since both do not fit into one batch. So SAM 2 learns (arXiv 2408.00714).

    Args:
        sources: what clips are drawn from.
        num_items: length of the dataset.
        settings: `ItemSettings`.
        seed: item i is drawn by `np.random.default_rng((seed, i))`.
        weights: how often each source is drawn from, relative to the others; equally often unless given.
        items_per_step: how many items, one after the other, are all clips or all pictures.

    Raises:
        ValueError: for no or empty sources, and settings out of range.
    """

    def __init__(
        self,
        sources: Sequence[ClipSource],
        num_items: int,
        settings: ItemSettings,
        seed: int = 0,
        weights: Sequence[float] | None = None,
        items_per_step: int = 1,
    ) -> None:
        self.sources, self.num_items, self.settings, self.seed = list(sources), num_items, settings, seed
        self.items_per_step = items_per_step
        if not self.sources or not all(len(source) for source in self.sources):
            raise ValueError(f"sources must be at least one and none empty, got {[len(s) for s in self.sources]}")
        if num_items < 1 or seed < 0:
            raise ValueError(f"num_items must be at least 1 and seed at least 0, got {num_items} and {seed}")
        relative = np.ones(len(self.sources)) if weights is None else np.asarray(weights, float)
        if relative.shape != (len(self.sources),) or not (relative > 0).all() or not np.isfinite(relative).all():
            raise ValueError(
                f"weights must be a positive number for each of {len(self.sources)} sources, got {relative.tolist()}"
            )
        self.weights = relative / relative.sum()
        self.has_videos = np.array([settings.num_frames is not None and source.has_videos for source in self.sources])

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | int]:
        if not 0 <= index < self.num_items:
            raise IndexError(f"index must be in 0..{self.num_items - 1}, got {index}")
        rng, are_clips = np.random.default_rng((self.seed, index)), self._learns_from_clips(index)
        num_frames = (self.settings.num_frames or 1) if are_clips else 1
        weights = self.weights * (self.has_videos == are_clips)
        for _ in range(NUM_TRIES):
            source = self.sources[rng.choice(len(self.sources), p=weights / weights.sum())]
            clip = source.draw(int(rng.integers(len(source))), num_frames, self.settings.max_objects, rng)
            if clip.masks[0].any():
                frames, masks = make_tensors(clip, self.settings, rng)
                if len(masks[0]):
                    return self._as_item(frames, masks, int(rng.integers(2**63)))
        raise ValueError(
            f"none of {NUM_TRIES} clips had an object on its first frame, the last one was of {type(source).__name__}: "
            "give sources whose first masks are mostly not empty"
        )

    def _learns_from_clips(self, index: int) -> bool:
        """Whether the step of an item learns from clips, and not from pictures."""
        rng = np.random.default_rng((self.seed, index // self.items_per_step, 1))
        return bool(rng.choice(self.has_videos, p=self.weights))

    def _as_item(self, frames: torch.Tensor, masks: torch.Tensor, seed: int) -> dict[str, torch.Tensor | int]:
        if self.settings.num_frames is None:
            return {"pixel_values": frames[0], "mask_labels": masks[0], "prompt_seeds": seed}
        return {"pixel_values_videos": frames, "mask_labels": masks, "prompt_seeds": seed}


def make_tensors(clip: Clip, settings: ItemSettings, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel values, float32 (T, 3, H, W), and masks, int8 (T, O, H, W), of the objects left on the first frame."""
    processor, augmentation = settings.image_processor, settings.augmentation
    frames = processor(images=clip.frames, do_normalize=False, return_tensors="pt")["pixel_values"]
    # with centres of pixels where `resize` of the frames has them, unlike NEAREST
    masks = torch.from_numpy(clip.masks.astype(np.uint8))
    masks = TF.resize(masks, list(frames.shape[-2:]), InterpolationMode.NEAREST_EXACT)
    if augmentation is not None:
        frames = augmentation.change_colours(frames, rng)
    frames = TF.normalize(frames, processor.image_mean, processor.image_std)
    if augmentation is not None:
        frames, masks = augmentation.move(frames, masks, clip.masks.shape[-2:], rng)
    return frames, masks[:, masks[0].flatten(1).bool().any(-1)].to(torch.int8)


def collate(items: list[dict]) -> dict[str, torch.Tensor]:
    """The batch of items: their tensors stacked, with as many objects as the item that has most; see `NO_OBJECT`."""
    num_objects = max(item["mask_labels"].shape[-3] for item in items)
    padded = []
    for item in items:
        labels = item["mask_labels"]
        labels = F.pad(labels, (0, 0, 0, 0, 0, num_objects - labels.shape[-3]), value=NO_OBJECT)
        padded.append({**item, "mask_labels": labels})
    return default_collate(padded)
