"""Prompted objects in pictures."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..formats.run_lengths import decode_run_lengths
from ..prompted_pictures import PicturePrompt, PromptedFinder
from .fitted_prompts import fitted_prompts
from .halves import label_in_halves
from .items import Item, Prompt
from .label_settings import LabelSettings
from .labeller import PoisonError, Provenance
from .lazy_model import LazyModel
from .mask_rows import FoundMask, row_of_picture
from .poison import poison_of_errors
from .reading import read_pixels
from .rows import Row


@dataclass(frozen=True)
class PreparedPicture:
    """A picture that is ready for the model.

    item: without the bytes of the file. size: (height, width). shrunk: see `LazyModel.shrink`. prompts: one for each
    object, as they fit the picture.
    """

    item: Item
    size: tuple[int, int]
    shrunk: np.ndarray
    prompts: list[Prompt]


@dataclass(frozen=True)
class FoundInPicture:
    """The masks that the prompts of a picture (height, width) have found, by object."""

    item: Item
    size: tuple[int, int]
    masks: list[FoundMask]


class PictureLabeller:
    """A `Labeller` of pictures with prompts: pictures are encoded together, the prompts of each decoded apart.

    Args:
        settings: what is looked for.
        model: which is loaded when it is needed.
        provenance: what rows say of it.
        batch_size: pictures that are encoded together.
    """

    def __init__(self, settings: LabelSettings, model: LazyModel, provenance: Provenance, batch_size: int):
        self.settings, self.model, self.provenance, self.batch_size = settings, model, provenance, batch_size

    def prepare(self, item: Item) -> PreparedPicture:
        """The picture at the size of the model input, with prompts that fit it; see `Labeller.prepare`."""
        with poison_of_errors():
            pixels = read_pixels(item)
            size = (pixels.shape[0], pixels.shape[1])
            item = item.in_pixels(*size)
            prompts = fitted_prompts(item.prompts, size)
            return PreparedPicture(replace(item, data=None), size, self.model.shrink(pixels), prompts)

    def label(self, prepared: list[PreparedPicture]) -> list[FoundInPicture | PoisonError]:
        """The masks of the prompted objects of each picture; see `Labeller.label`."""
        model, processor = self.model.for_pictures
        finder = PromptedFinder(model, processor, self.settings.is_multimask)

        def label_batch(pictures: list[PreparedPicture]) -> list[FoundInPicture]:
            with torch.inference_mode():
                encoded = self.model.encode([picture.shrunk for picture in pictures])
            return [find_prompted(finder, *of_picture) for of_picture in zip(encoded, pictures, strict=True)]

        return label_in_halves(label_batch, prepared)

    def finish(self, found: FoundInPicture) -> Row:
        """The row of a picture; see `Labeller.finish`."""
        return row_of_picture(found.item, found.size, found.masks, self.provenance)


def find_prompted(
    finder: PromptedFinder, image_embeddings: list[torch.Tensor], picture: PreparedPicture
) -> FoundInPicture:
    """The masks of the prompted objects of a picture that is encoded."""
    prompts = [as_picture_prompt(prompt, picture.size) for prompt in picture.prompts]
    best = finder.find(image_embeddings, prompts, picture.size)
    masks = [
        FoundMask(mask, prompt.object, score, category=prompt.category)
        for prompt, (mask, score, _) in zip(picture.prompts, best, strict=True)
    ]
    return FoundInPicture(picture.item, picture.size, masks)


def as_picture_prompt(prompt: Prompt, size: tuple[int, int]) -> PicturePrompt:
    """What is said of an object, as `PromptedFinder` takes it.

    Raises:
        PoisonError: for a mask without any pixel.
        ValueError: for run lengths that are damaged.
    """
    name, mask = f"the mask of object {prompt.object}", None
    if prompt.mask is not None:
        mask = decode_run_lengths(prompt.mask, size, name)
        if not mask.any():
            raise PoisonError(f"{name} is empty: give one with pixels of the object")
    return PicturePrompt(prompt.points or (), prompt.box, mask)
