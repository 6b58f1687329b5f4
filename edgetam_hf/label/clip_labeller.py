"""Objects in clips: prompted ones, tracked both ways, or everything."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..video_frames_edgetam import Frames
from .both_ways import track_both_ways
from .clip_files import check_is_there, is_remote, opened_clip
from .everything_in_clip import track_everything
from .fitted_prompts import fitted_prompts
from .halves import label_in_halves
from .items import Item
from .label_settings import EVERYTHING, LabelSettings
from .labeller import PoisonError, Provenance
from .lazy_model import LazyModel
from .mask_rows import FoundMask
from .poison import poison_of_errors
from .rows import MaskRow, Row


@dataclass(frozen=True)
class FoundInClip:
    """The masks of the objects of a clip, by object and then by frame; for the rest see `Row`."""

    item: Item
    size: tuple[int, int]
    masks: list[MaskRow]
    num_frames: int
    frame_names: list[str] | None
    frame_rate: float | None


class ClipLabeller:
    """A `Labeller` of clips, one after the other.

    Args:
        settings: what is looked for.
        model: which is loaded when it is needed.
        provenance: what rows say of it.
        batch_size: clips for a call of `label`.
    """

    def __init__(self, settings: LabelSettings, model: LazyModel, provenance: Provenance, batch_size: int):
        self.settings, self.model, self.provenance, self.batch_size = settings, model, provenance, batch_size

    def prepare(self, item: Item) -> Item:
        """The item, after it was opened and its prompts were found to fit; remote ones are only looked for.

        See `Labeller.prepare`.
        """
        with poison_of_errors():
            if is_remote(item):
                check_is_there(item)
            else:
                with opened_clip(item) as frames:
                    size = (frames.height, frames.width)
                    fitted_prompts(item.in_pixels(*size).prompts, size, len(frames))
        return item

    def label(self, prepared: list[Item]) -> list[FoundInClip | PoisonError]:
        """The masks of the objects of each clip; see `Labeller.label`."""
        _ = self.model.for_clips  # an error of loading says nothing of the clips
        return [found for item in prepared for found in label_in_halves(self._label_one, [item])]

    def _label_one(self, items: list[Item]) -> list[FoundInClip]:
        (item,) = items
        with opened_clip(item) as frames:
            size = (frames.height, frames.width)
            item = item.in_pixels(*size)
            masks = [found.to_row() for found in self._tracked(item, frames)]
            masks.sort(key=lambda mask: (mask.object, mask.frame))
            names = [file.name for file in frames.files] if hasattr(frames, "files") else None
            rate = getattr(frames, "frame_rate", None)
            return [FoundInClip(replace(item, data=None), size, masks, len(frames), names, rate)]

    def _tracked(self, item: Item, frames: Frames) -> Iterator[FoundMask]:
        """The masks of all objects, in any order; the item is in pixels of the frames."""
        model, processor = self.model.for_clips
        if self.settings.what == EVERYTHING:
            options = {**self.settings.mask_generation, **self.settings.in_clips}
            yield from track_everything(model, processor, frames, options)
            return
        prompts = fitted_prompts(item.prompts, (frames.height, frames.width), len(frames))
        for found in track_both_ways(model, processor, frames, prompts):
            yield replace(found, category=category_of(item, found.object))

    def finish(self, found: FoundInClip) -> Row:
        """The row of a clip; see `Labeller.finish`."""
        return Row(
            found.item,
            *found.size,
            found.masks,
            *self.provenance,
            num_frames=found.num_frames,
            frame_names=found.frame_names,
            frame_rate=found.frame_rate,
        )


def category_of(item: Item, number: int) -> str | None:
    """The name of the class of an object, from its first prompt that has one."""
    named = (prompt.category for prompt in item.prompts if prompt.object == number)
    return next((category for category in named if category is not None), None)
