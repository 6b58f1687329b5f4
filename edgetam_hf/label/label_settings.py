"""What a labeller looks for and by which model, as one record that travels to workers and is written beside results."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from ..everything_edgetam_video import EverythingOptions
from ..loading import ModelChoice
from ..mask_generation_edgetam import RESULT_OPTIONS, MaskGenerationOptions

EVERYTHING, PROMPTS = "everything", "prompts"  # what is looked for


@dataclass(frozen=True)
class LabelSettings:
    """What is looked for.

    what: `EVERYTHING`, or what the `PROMPTS` of the items say. is_multimask: whether the best of three masks is chosen
    for each prompted object of a picture. mask_generation: options of `EdgeTamMaskGenerationPipeline` that say how
    everything is searched; those that are missing are the checkpoint's. in_clips: further options of
    `EdgeTamVideoModel.track_everything`, for clips.
    """

    what: str = PROMPTS
    is_multimask: bool = False
    mask_generation: dict[str, Any] = field(default_factory=dict)
    in_clips: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.what not in (EVERYTHING, PROMPTS):
            raise ValueError(f"what is labelled must be {EVERYTHING!r} or {PROMPTS!r}, got {self.what!r}")
        if self.what == PROMPTS and (given := [*self.mask_generation, *self.in_clips]):
            raise ValueError(f"{', '.join(given)} say how everything is searched: leave them out")
        if self.what == EVERYTHING and self.is_multimask:
            raise ValueError("masks of everything are always chosen of three: leave multimask out")

    def completed(self, of_checkpoint: dict[str, Any] | None) -> "LabelSettings":
        """These settings with all options of mask generation and of clips, where everything is looked for.

        Args:
            of_checkpoint: `mask_generation` of the image processor.

        Raises:
            ValueError, TypeError: for options that there are not, and values that they cannot have.
        """
        if self.what == PROMPTS:
            return self
        if unfit := sorted(RESULT_OPTIONS & self.mask_generation.keys()):
            raise ValueError(f"{', '.join(unfit)} do not say how everything is searched: leave them out")
        options = MaskGenerationOptions.of_checkpoint(of_checkpoint).updated(self.mask_generation)
        searched = {name: value for name, value in vars(options).items() if name not in RESULT_OPTIONS}
        followed = vars(EverythingOptions.read({**self.mask_generation, **self.in_clips}, of_checkpoint)).copy()
        crops = followed.pop("search").crops_n_layers  # which are not the checkpoint's in clips
        return replace(self, mask_generation=searched, in_clips={**followed, "crops_n_layers": crops, **self.in_clips})

    def to_json(self, choice: ModelChoice) -> str:
        """JSON of all that decides the results, but for the weights: the `settings` of a `Row`."""
        search = {name: value for name, value in self.mask_generation.items() if name != "points_per_batch"}
        of_model = {"dtype": choice.dtype, "image_size": choice.image_size, "runtime": choice.runtime}
        return json.dumps({**vars(self), "mask_generation": search, **of_model}, sort_keys=True)
