"""Sources of training data by the names that settings give them, and the dataset that draws from them."""

import importlib
import inspect
import typing

from .augmentation import Augmentation
from .dataset import ItemSettings, TrainingDataset
from .settings import check_known, read_dataclass, read_value

# by kind, module and class; its parameters are the keys. Modules are imported when needed: each has its own extras.
KINDS = {
    "coco": ("pictures", "CocoPictures"),
    "sa-1b": ("pictures", "Sa1bPictures"),
    "index-pictures": ("pictures", "IndexPictures"),
    "synthetic": ("moving", "MovingComposites"),
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
        module, name = KINDS[kind]
        source_class = getattr(importlib.import_module(f".{module}", __package__), name)
        sources.append(source_class(**check_parameters(source_class, values, where)))
    return sources, weights


def check_parameters(source_class, values, where):
    """The values, if they fit the parameters of a class."""
    parameters, hints = inspect.signature(source_class).parameters, typing.get_type_hints(source_class.__init__)
    for key, value in values.items():
        check_known(f"{where}.{key}", key, ["kind", "weight", *parameters])
        if value is not None and key in hints:
            read_value(hints[key], value, f"{where}.{key}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and values.get(key) is None:
            raise ValueError(f"{where}.{key} is not set: say where the data are, {where}.{key}=PATH")
    return values


def make_dataset(sources, settings, processor, num_items, seed):
    """The `TrainingDataset` of sources and weights, see `open_sources`; items are what the model of the settings takes.

    Args:
        sources: what `open_sources` returned.
        settings: `Settings`.
        processor: that of the model.
        num_items, seed: of the dataset.
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
    return TrainingDataset(opened, num_items, item_settings, seed, weights)
