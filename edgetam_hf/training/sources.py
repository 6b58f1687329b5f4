"""Sources of training data by the names that settings give them, and the dataset that draws from them."""

import inspect
from functools import partial

from ..evaluation.video_datasets import LAYOUTS, read_sequences
from .augmentation import Augmentation
from .clips import VideoClips
from .dataset import ItemSettings, TrainingDataset
from .masklet_videos import open_masklet_clips
from .pictures import CocoPictures, IndexPictures, Sa1bPictures
from .settings import check_known, read_dataclass, read_value


def open_coco(annotations: str, images: str):
    """Pictures below a folder, whose objects are in a JSON of instances as that of COCO."""
    return CocoPictures(annotations, images)


def open_sa1b(root: str):
    """A folder of SA-1B: sa_NUMBER.jpg and sa_NUMBER.json."""
    return Sa1bPictures(root)


def open_index_pictures(root: str):
    """A folder with images/NAME.jpg and masks/NAME.png, whose values are the numbers of objects."""
    return IndexPictures(root)


def open_composites(root: str, split: str = "training", size: int = 256, smallest_share: float = 0.002):
    """Pictures with drawn objects that `composites` rendered; see `CompositePictures`."""
    from .crops import CompositePictures  # needs more of the extra `train` than other sources

    return CompositePictures(root, split, size, smallest_share)


def open_videos(
    layout: str, root: str, listing: str | None = None, max_stride: int = 3, reverse_probability: float = 0.5
):
    """Videos in a layout that `edgetam evaluate` knows, too; see `VideoClips`. `listing` is a file of their names."""
    return VideoClips(read_sequences(layout, root, listing=listing), max_stride, reverse_probability)


def open_synthetic(root: str, split: str = "training", size: int = 256, num_cut: int = 4000, tempo: float = 1.0):
    """Objects that are cut out of rendered composites and move; see `MovingComposites`."""
    from .moving import MovingComposites  # needs more of the extra `train` than other sources

    return MovingComposites(root, split, size, num_cut, tempo)


# What opens a source of each kind. Parameters are keys of the settings.
KINDS = {
    "coco": open_coco,
    "sa-1b": open_sa1b,
    "index-pictures": open_index_pictures,
    **{layout: partial(open_videos, layout) for layout in LAYOUTS},
    "sa-v-train": open_masklet_clips,
    "synthetic": open_synthetic,
    "composites": open_composites,
}


def open_sources(listed, path):
    """Sources, and their weights, of a list of mappings with `kind`, `weight` (1) and the parameters of the kind.

    Args:
        listed: see `Settings.data`.
        path: its key, which errors name.

    Raises:
        ValueError, TypeError: for unknown kinds and keys, values of a wrong type, what is not set, or cannot be read.
        ImportError: for an extra that is not installed.
    """
    sources, weights = [], []
    for number, values in enumerate(listed):
        values, where = dict(values), f"{path}.{number}"
        kind = values.pop("kind", None)
        if kind not in KINDS:
            raise ValueError(f"{where}.kind must be one of {', '.join(KINDS)}, got {kind!r}")
        weights.append(read_value(float, values.pop("weight", 1.0), f"{where}.weight"))
        check_parameters(KINDS[kind], values, where)
        sources.append(KINDS[kind](**values))
    return sources, weights


def check_parameters(function, values, where):
    """Raises a ValueError or TypeError for values that do not fit the parameters of a function."""
    parameters = inspect.signature(function).parameters
    for key in values:
        check_known(f"{where}.{key}", key, ["kind", "weight", *parameters])
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and values.get(key) is None:
            raise ValueError(f"{where}.{key} is not set: say where the data are, {where}.{key}=PATH")
        if key in values:
            read_value(parameter.annotation, values[key], f"{where}.{key}")


def make_dataset(sources, settings, processor, num_items, seed, items_per_step):
    """The `TrainingDataset` of sources and weights, see `open_sources`; items are what the model of the settings takes.

    Args:
        sources: what `open_sources` returned.
        settings: `Settings`.
        processor: that of the model.
        num_items, seed, items_per_step: of the dataset.
    """
    augmentation = settings.augmentation
    if augmentation is not False:
        augmentation = read_dataclass(Augmentation, {} if augmentation is True else augmentation, "augmentation")
    item_settings = ItemSettings(
        image_processor=processor.image_processor,
        num_frames=settings.num_frames if settings.model.kind == "video" else None,
        max_objects=settings.max_objects,
        augmentation=augmentation or None,
    )
    opened, weights = sources
    return TrainingDataset(opened, num_items, item_settings, seed, weights, items_per_step)
