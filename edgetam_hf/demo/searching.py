"""Everything in a picture or on a frame of a video, found in steps."""

import torch

from ..found_objects import CutMask
from ..mask_generation_edgetam import CandidateSearch, MaskGenerationOptions, best_masks
from .calls import Asked, Progress, Steps
from .messages import Found, FoundFrame, runs_of


def search_in_steps(
    search: CandidateSearch, size: tuple[int, int], options: MaskGenerationOptions, asked: Asked, frame_idx: int = 0
) -> Steps:
    """All masks that a search finds in pixels (height, width), best first; once cancelled, those found until then."""
    num_done, num_points, batches = 0, options.num_points(*size), iter(search)
    while num_done < num_points and not asked.is_cancelled():
        with torch.no_grad():  # not across steps, after which the thread does other work
            num_done += next(batches)
        yield Progress(num_done, num_points)
    with torch.no_grad():
        candidates, masks = best_masks(search.candidates(), size, options)
    return FoundFrame(
        frame_idx,
        [
            Found(number, runs_of(CutMask.of(mask.numpy())), score, True)
            for number, (mask, score) in enumerate(zip(masks, candidates.scores.tolist(), strict=True), start=1)
        ],
    )
