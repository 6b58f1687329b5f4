"""Everything in pictures: mask generation, with pictures and their crops encoded together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from ..generated_masks import RETURNED, largest_first
from ..mask_generation_edgetam import MaskGenerationOptions
from ..pipeline_edgetam import EdgeTamMaskGenerationPipeline
from .halves import label_in_halves
from .items import Item
from .label_settings import LabelSettings
from .labeller import PoisonError, Provenance
from .lazy_model import LazyModel
from .mask_rows import FoundMask, row_of_picture
from .poison import poison_of_errors
from .reading import read_pixels
from .rows import Row


@dataclass(frozen=True)
class PreparedCrops:
    """A picture that is ready for the model.

    item: without the bytes of the file. size: (height, width). crops: see `LazyModel.shrink`, the whole picture first.
    """

    item: Item
    size: tuple[int, int]
    crops: list[np.ndarray]


@dataclass(frozen=True)
class FoundEverything:
    """What `EdgeTamMaskGenerationPipeline` returns of a picture, with arrays for tensors."""

    item: Item
    outputs: dict[str, Any]


class EverythingLabeller:
    """A `Labeller` of everything in pictures: what it finds is what `EdgeTamMaskGenerationPipeline` finds.

    Args:
        settings: how everything is searched, with all options of mask generation.
        model: which is loaded when it is needed.
        provenance: what rows say of it.
        batch_size: pictures that are prepared for a call of `label`, which encodes as many crops together.
    """

    def __init__(self, settings: LabelSettings, model: LazyModel, provenance: Provenance, batch_size: int):
        self.options = MaskGenerationOptions(**settings.mask_generation, **RETURNED)
        self.model, self.provenance, self.batch_size = model, provenance, batch_size

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "generator"}

    @cached_property
    def generator(self) -> EdgeTamMaskGenerationPipeline:
        """The pipeline, with the model."""
        return EdgeTamMaskGenerationPipeline(
            model=self.model.for_pictures[0], image_processor=self.model.image_processor
        )

    def prepare(self, item: Item) -> PreparedCrops:
        """All crops of the picture, each at the size of the model input; see `Labeller.prepare`."""
        with poison_of_errors():
            pixels = read_pixels(item)
            crops = [
                self.model.shrink(pixels[crop.top : crop.bottom, crop.left : crop.right])
                for crop in self.options.crops(*pixels.shape[:2])
            ]
            return PreparedCrops(replace(item, data=None), (pixels.shape[0], pixels.shape[1]), crops)

    def label(self, prepared: list[PreparedCrops]) -> list[FoundEverything | PoisonError]:
        """What is found in each picture; see `Labeller.label`."""
        _ = self.generator  # an error of loading says nothing of the pictures
        return label_in_halves(self._label_batch, prepared)

    def _label_batch(self, prepared: list[PreparedCrops]) -> list[FoundEverything]:
        with torch.inference_mode():
            encoded = self._encoded(
                list(chain.from_iterable(of_picture.crops for of_picture in prepared)), len(prepared)
            )
            return [self._search(of_picture, islice(encoded, len(of_picture.crops))) for of_picture in prepared]

    def _encoded(self, crops: list[np.ndarray], num_at_once: int) -> Iterator[list[torch.Tensor]]:
        """Image embeddings of all crops in turn, of which so many are encoded when the first of them is asked for."""
        for start in range(0, len(crops), num_at_once):
            yield from self.model.encode(crops[start : start + num_at_once])

    def _search(self, picture: PreparedCrops, encoded: Iterator[list[torch.Tensor]]) -> FoundEverything:
        candidates = self.generator.search(picture.size, lambda crop: next(encoded), self.options)
        outputs = self.generator.postprocess(candidates, self.options)
        arrays = {name: value.numpy() for name, value in outputs.items() if torch.is_tensor(value)}
        return FoundEverything(picture.item, {**outputs, **arrays})

    def finish(self, found: FoundEverything) -> Row:
        """The row of a picture, the largest mask first; see `Labeller.finish`."""
        masks = [
            FoundMask(mask, number, score, stability_score=stability, point=point)
            for number, (mask, score, stability, point) in enumerate(largest_first(found.outputs), start=1)
        ]
        of_picture = found.outputs["masks"]
        return row_of_picture(found.item, (of_picture.height, of_picture.width), masks, self.provenance)
