"""Prompted objects in clips, tracked both ways."""

from dataclasses import dataclass, replace

from .both_ways import track_both_ways
from .clip_files import check_is_there, is_remote, opened_clip
from .fitted_prompts import fitted_prompts
from .halves import label_in_halves
from .items import Item
from .labeller import PoisonError, Provenance
from .lazy_model import LazyModel
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
    """A `Labeller` of clips with prompts, one after the other.

    Args:
        model: which is loaded when it is needed.
        provenance: what rows say of it.
        batch_size: clips for a call of `label`.
    """

    def __init__(self, model: LazyModel, provenance: Provenance, batch_size: int):
        self.model, self.provenance, self.batch_size = model, provenance, batch_size

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
        """The masks of the prompted objects of each clip; see `Labeller.label`."""
        _ = self.model.for_clips  # an error of loading says nothing of the clips
        return [found for item in prepared for found in label_in_halves(self._label_one, [item])]

    def _label_one(self, items: list[Item]) -> list[FoundInClip]:
        (item,) = items
        model, processor = self.model.for_clips
        with opened_clip(item) as frames:
            size = (frames.height, frames.width)
            item = item.in_pixels(*size)
            prompts = fitted_prompts(item.prompts, size, len(frames))
            masks = [
                replace(found, category=category_of(item, found.object)).to_row()
                for found in track_both_ways(model, processor, frames, prompts)
            ]
            masks.sort(key=lambda mask: (mask.object, mask.frame))
            names = [file.name for file in frames.files] if hasattr(frames, "files") else None
            rate = getattr(frames, "frame_rate", None)
            return [FoundInClip(replace(item, data=None), size, masks, len(frames), names, rate)]

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
