"""Objects of a clip, followed from where each is first prompted to the end of the clip and to its beginning."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch

from ..formats.run_lengths import decode_run_lengths
from ..processing_edgetam_video import EdgeTamVideoProcessor
from ..protocols import VideoModel
from ..tracking_edgetam import EdgeTamVideoSegmentationOutput
from ..video_frames_edgetam import Frames
from .items import Prompt
from .mask_rows import FoundMask, masks_of_output

FRAMES_AT_ONCE = 16  # that are decoded together on the way back


class BackwardFrames(Frames):
    """Frames that are asked for from the last to the first.

    Some are decoded together, forwards: a video file would decode many others to reach each of them.
    """

    def __init__(self, frames: Frames):
        self.frames, self.height, self.width = frames, frames.height, frames.width
        self._decoded: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def _read(self, idx: int) -> torch.Tensor:
        if idx not in self._decoded:
            indices = range(max(0, idx - FRAMES_AT_ONCE + 1), idx + 1)
            self._decoded = {}  # before others come
            self._decoded = {decoded_idx: self.frames[decoded_idx] for decoded_idx in indices}
        return self._decoded[idx]


def track_both_ways(
    model: VideoModel, processor: EdgeTamVideoProcessor, frames: Frames, prompts: list[Prompt]
) -> Iterator[FoundMask]:
    """The masks of all objects, frame after frame, but for those that are empty; memory does not grow with the clip.

    An object is followed as if it were alone: forwards from its first prompted frame, and then backwards from there.
    All its prompts count in both directions.

    Args:
        model: `EdgeTamVideoModel`, or an exported one.
        processor: of the model.
        frames: of the clip.
        prompts: at most one for an object on a frame, which fit the frames.
    """
    size = (frames.height, frames.width)
    first_frames: dict[int, int] = {}
    for prompt in prompts:
        first_frames[prompt.object] = min(prompt.frame, first_frames.get(prompt.object, prompt.frame))
    joining: dict[int, list[Prompt]] = {}  # all prompts of the objects that begin on a frame
    for prompt in prompts:
        joining.setdefault(first_frames[prompt.object], []).append(prompt)
    earlier = {start: of_objects for start, of_objects in joining.items() if start > 0}  # before 0 there is nothing
    for is_back, starts, read in ((False, joining, frames), (True, earlier, BackwardFrames(frames))):
        for output in _propagated(model, processor, read, starts, is_back):
            for found in masks_of_output(output, size):
                if not is_back or found.frame < first_frames[found.object]:
                    yield found


def _propagated(
    model: VideoModel,
    processor: EdgeTamVideoProcessor,
    frames: Frames,
    joining: dict[int, list[Prompt]],
    is_back: bool,
) -> Iterator[EdgeTamVideoSegmentationOutput]:
    """What the model finds on frame after frame; the prompts of objects are given where these join, by frame."""
    session = processor.init_video_session(
        frames, inference_device=model.device, dtype=model.dtype, max_memory_frames=1
    )
    size, end = (frames.height, frames.width), -1 if is_back else len(frames)
    for start, following in pairwise([*sorted(joining, reverse=is_back), end]):
        for prompt in joining[start]:
            inputs = _inputs_of(prompt, size)
            processor.add_inputs_to_inference_session(session, prompt.frame, prompt.object, **inputs)
        yield from model.propagate_in_video_iterator(session, start, abs(following - start) - 1, is_back)


def _inputs_of(prompt: Prompt, size: tuple[int, int]) -> dict[str, Any]:
    """Arguments of `add_inputs_to_inference_session` for a prompt on frames (height, width)."""
    inputs: dict[str, Any] = {}
    if prompt.points:
        inputs["input_points"] = [[[point[:2] for point in prompt.points]]]
        inputs["input_labels"] = [[[point[2] for point in prompt.points]]]
    if prompt.box is not None:
        inputs["input_boxes"] = [[prompt.box]]
    if prompt.mask is not None:
        inputs["input_masks"] = [decode_run_lengths(prompt.mask, size, f"the mask of object {prompt.object}")]
    return inputs
