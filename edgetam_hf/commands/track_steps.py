"""Tracking frame by frame, of recorded videos and of live ones: each step is a frame with what was found on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..device_edgetam import send
from ..formats.sound import Sound
from ..processing_edgetam_video import EdgeTamVideoProcessor
from ..protocols import VideoModel
from ..tracking_edgetam import EdgeTamVideoSegmentationOutput
from .prompts import ObjectPrompt
from .track_everything import options_of
from .track_sources import LiveVideo, RecordedVideo


@dataclass
class Step:
    """A frame of the video that is tracked.

    frame_idx: index in the video; pixels: uint8 (H, W, 3); time: seconds from the first tracked frame; output: of the
    model, None for a frame that was finished by an earlier run.
    """

    frame_idx: int
    pixels: np.ndarray
    time: float
    output: EdgeTamVideoSegmentationOutput | None = None


class ChosenFrames:
    """Some frames of a video as a video of their own; see `Frames`."""

    def __init__(self, frames: Any, frame_indices: list[int]):
        self.frames, self.frame_indices = frames, frame_indices
        self.height, self.width = frames.height, frames.width

    def __len__(self) -> int:
        return len(self.frame_indices)

    def __getitem__(self, idx: int) -> torch.Tensor:
        return self.frames[self.frame_indices[idx]]


class RecordedTracking:
    """Tracking through the frames of a `RecordedVideo`; prompts on all of them are answered before the first one.

    Every `stride`th frame is tracked, and those with prompts. `frame_indices` are those to track, in this order.
    """

    def __init__(
        self,
        model: VideoModel,
        processor: EdgeTamVideoProcessor,
        source: RecordedVideo,
        prompts: list[ObjectPrompt],
        settings: dict[str, Any],
    ):
        self.model, self.processor, self.source, self.settings = model, processor, source, settings
        prompted = [prompt.frame_idx for prompt in prompts]
        start = settings["start"]
        if start is None and settings["everything"]:
            start = 0
        elif start is None:
            start = max(prompted) if settings["reverse"] else min(prompted)
        check_frames(source, [start], "--start")
        if settings["reverse"] and start == 0:
            raise ValueError("--reverse goes back from frame 0, before which there is nothing: choose a later --frame")
        chosen = sorted({*range(start % settings["stride"], source.num_frames, settings["stride"]), *prompted})
        self.places = {frame_idx: idx for idx, frame_idx in enumerate(chosen)}
        ahead = chosen[self.places[start] :: -1] if settings["reverse"] else chosen[self.places[start] :]
        self.frame_indices = ahead[: settings["max_frames"]]
        self.num_frames = len(self.frame_indices)
        self.session = processor.init_video_session(
            ChosenFrames(source.frames, chosen),
            inference_device=model.device,
            dtype=model.dtype,
            max_memory_frames=1,
            memory_selection=settings["memory"],
        )

    def add_prompts(self, prompts: list[ObjectPrompt]) -> None:
        """Adds the prompts to the session, which is new."""
        for prompt in prompts:
            self.processor.add_inputs_to_inference_session(
                self.session, self.places[prompt.frame_idx], prompt.object_id, **inputs_of(prompt)
            )

    def steps(self, num_done: int) -> Iterator[Step]:
        """Each `Step` in turn; the first `num_done` were finished by an earlier run."""
        outputs, rate = self._outputs(num_done), self.settings["frame_rate"]
        first_time = self.source.time_of(self.frame_indices[0])
        for idx, frame_idx in enumerate(self.frame_indices):
            output = next(outputs) if idx >= num_done else None
            time = idx / rate if rate else abs(self.source.time_of(frame_idx) - first_time)
            yield Step(frame_idx, _as_picture(self.source.frames[frame_idx]), time, output)

    def _outputs(self, num_done: int) -> Iterator[EdgeTamVideoSegmentationOutput]:
        """The model's outputs on the frames that are not finished."""
        places, reverse = [self.places[t] for t in self.frame_indices[num_done:]], self.settings["reverse"]
        if self.settings["everything"]:
            for place in places:
                yield self.model.track_everything_on_frame(self.session, place, **options_of(self.settings))
        elif num_done:
            for place in places:
                yield self.model(self.session, frame_idx=place, reverse=reverse, return_dict=True)
        else:
            yield from self.model.propagate_in_video_iterator(self.session, places[0], len(places) - 1, reverse)

    def sound(self) -> Sound | None:
        """`Sound` that goes with the steps, if there is any: in reverse and at another speed there is none."""
        if self.settings["reverse"] or self.settings["frame_rate"]:
            return None
        return self.source.sound(self.frame_indices[0], self.frame_indices[-1], self.settings["stride"])


class LiveTracking:
    """Tracking through a `LiveVideo`, from its first prompted frame on; memory does not grow with its length.

    Every `stride`th frame is tracked, and those with prompts.
    """

    frame_indices = ()

    def __init__(
        self,
        model: VideoModel,
        processor: EdgeTamVideoProcessor,
        source: LiveVideo,
        prompts: list[ObjectPrompt],
        settings: dict[str, Any],
    ):
        self.model, self.processor, self.source, self.settings = model, processor, source, settings
        self.num_frames = settings["max_frames"]
        first = [0] if settings["everything"] else [prompt.frame_idx for prompt in prompts]
        self.start, self.upcoming = min(first), prompts
        self.session = processor.init_video_session(
            inference_device=model.device,
            dtype=model.dtype,
            max_memory_frames=1,
            memory_selection=settings["memory"],
        )

    def add_prompts(self, prompts: list[ObjectPrompt]) -> None:
        """Keeps the prompts until their frames arrive, and their numbers from what is found before."""
        self.upcoming = list(prompts)
        numbered = self.session.everything.knows([prompt.object_id for prompt in prompts])
        self.session.set_everything(numbered)

    def steps(self, num_done: int) -> Iterator[Step]:
        """Each `Step` in turn, until the video ends or enough frames have arrived."""
        first_time: float | None = None
        for frame_idx, time, frame in self.source.arriving:
            prompts = [prompt for prompt in self.upcoming if prompt.frame_idx == frame_idx]
            if frame_idx < self.start or ((frame_idx - self.start) % self.settings["stride"] and not prompts):
                continue
            output = self._track(frame, prompts)
            first_time = time if first_time is None else first_time
            rate, num_before = self.settings["frame_rate"], self.session.num_frames - 1
            if rate is None and time is not None and first_time is not None:
                seconds = time - first_time
            else:
                seconds = num_before / (rate or self.source.frame_rate)
            yield Step(frame_idx, _as_picture(frame), seconds, output)
            if self.session.num_frames == self.num_frames:
                return
        if self.upcoming:
            first = min(prompt.frame_idx for prompt in self.upcoming)
            raise ValueError(f"{self.source.name} has ended before frame {first}, for which there is a prompt")

    def _track(self, frame: torch.Tensor, prompts: list[ObjectPrompt]) -> EdgeTamVideoSegmentationOutput:
        """Output of the model on the next frame, uint8 (3, H, W), on which there may be prompts."""
        height, width = frame.shape[-2:]
        for prompt in prompts:
            self.processor.add_inputs_to_inference_session(
                self.session,
                self.session.num_frames,
                prompt.object_id,
                original_size=(height, width),
                **inputs_of(prompt),
            )
        self.upcoming = [prompt for prompt in self.upcoming if prompt not in prompts]
        assert self.session.frame_processor is not None  # it is a session of the processor
        pixel_values = send(self.session.frame_processor(frame), self.model.device).to(self.session.dtype)
        if self.settings["everything"]:
            options = options_of(self.settings)
            return self.model.track_everything_on_frame(
                self.session, frame=pixel_values, original_size=(height, width), **options
            )
        return self.model(self.session, frame=pixel_values, return_dict=True)

    def sound(self) -> None:
        """None: a live overlay does not wait for sound."""
        return None


def _as_picture(frame: torch.Tensor) -> np.ndarray:
    """uint8 array (H, W, 3) of a frame (3, H, W)."""
    return np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())


def inputs_of(prompt: ObjectPrompt) -> dict[str, Any]:
    """Arguments of `add_inputs_to_inference_session` for an `ObjectPrompt`."""
    inputs: dict[str, Any] = {}
    if prompt.points:
        inputs["input_points"] = [[[point[:2] for point in prompt.points]]]
        inputs["input_labels"] = [[[point[2] for point in prompt.points]]]
    if prompt.box:
        inputs["input_boxes"] = [[prompt.box]]
    if prompt.mask:
        inputs["input_masks"] = [prompt.mask.pixels()]
    return inputs


def check_frames(source: RecordedVideo | LiveVideo, frame_indices: list[int], option: str) -> None:
    """Raises a ValueError for an index outside of the video."""
    for frame_idx in frame_indices:
        if frame_idx < 0 or (source.num_frames is not None and frame_idx >= source.num_frames):
            last = "" if source.num_frames is None else source.num_frames - 1
            raise ValueError(f"{option} must be one of 0..{last} of this video, got {frame_idx}")
