"""All state of tracking: what was prompted, what was found on each frame, and what may be forgotten.

Shapes: (H, W) the model input, (h, w) = (H / 16, W / 16), C channels of the model, K latents of m channels that a frame
leaves in memory. Points are (x, y) in pixels of the model input.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import NamedTuple

import torch

from .device_edgetam import send


@dataclass
class Prompt:
    """What a user says of an object on a frame: clicks and corners of a box, or a mask.

    points: (N, 2); labels: integers (N,), 1 on the object, 0 off it, 2 and 3 the corners of a box, which come first.
    mask: bool (H, W), in place of points.
    """

    points: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    mask: torch.Tensor | None = None


@dataclass
class FrameResult:
    """What was found of one object on one frame.

    mask: low-res logits (4h, 4w); iou_score, object_score_logit: scalars; pointer: (C,); memory: (K, m). Mask and
    memory are `None` once they are out of reach.
    """

    mask: torch.Tensor | None
    iou_score: torch.Tensor
    object_score_logit: torch.Tensor
    pointer: torch.Tensor
    memory: torch.Tensor | None
    is_prompted: bool
    is_conditioning: bool


class Reach(NamedTuple):
    """How far the memory bank reaches: frames whose memory counts (all conditioning frames make up one of them),
    frames whose object pointer counts, and how many conditioning frames are attended to (-1: all)."""

    num_memories: int
    num_pointers: int
    num_conditioning: int


class Recollection(NamedTuple):
    """What an object remembers on a frame: (row of the time encoding, memory) and (distance in time, pointer)."""

    memories: list[tuple[int, torch.Tensor]]
    pointers: list[tuple[int, torch.Tensor]]


def closest_frames(frames, frame_idx: int, limit: int) -> list[int]:
    """At most `limit` (-1: all) of the frames, sorted: the last before, the next at or after, then whatever is near.

    As `select_closest_cond_frames` of the original release.
    """
    if limit < 0 or len(frames) <= limit:
        return sorted(frames)
    before = max((t for t in frames if t < frame_idx), default=None)
    after = min((t for t in frames if t >= frame_idx), default=None)
    by_distance = sorted(frames, key=lambda t: (t not in (before, after), abs(t - frame_idx)))
    return sorted(by_distance[:limit])


@dataclass
class TrackedObject:
    """One object: its prompts by frame, and its results.

    Results of prompts wait in `staged` until tracking starts: then they join `conditioning` (a frame that was prompted
    before tracking reached it) or `tracked` (all others). So the order of prompts on different frames is of no
    influence. `directions` says of frames that tracking has passed whether it went in reverse.
    """

    prompts: dict[int, Prompt] = field(default_factory=dict)
    staged: dict[int, FrameResult] = field(default_factory=dict)
    conditioning: dict[int, FrameResult] = field(default_factory=dict)
    tracked: dict[int, FrameResult] = field(default_factory=dict)
    directions: dict[int, bool] = field(default_factory=dict)

    def result_at(self, frame_idx: int) -> FrameResult | None:
        """The newest result on a frame, if its mask is still known."""
        for results in (self.staged, self.conditioning, self.tracked):
            if frame_idx in results:
                return results[frame_idx] if results[frame_idx].mask is not None else None
        return None

    def commit(self) -> None:
        """Lets staged results become memory."""
        for frame_idx, result in self.staged.items():
            self.clear_results(frame_idx, (self.conditioning, self.tracked))
            (self.conditioning if result.is_conditioning else self.tracked)[frame_idx] = result
        self.staged.clear()

    def clear_results(self, frame_idx: int, stores=None) -> None:
        """Drops the results on a frame."""
        for results in stores or (self.staged, self.conditioning, self.tracked):
            results.pop(frame_idx, None)

    def recall(self, frame_idx: int, reverse: bool, reach: Reach) -> Recollection:
        """What the object remembers on a frame: conditioning frames, earlier (in reverse: later) frames, pointers.

        As the memory bank of the original release: conditioning frames of the past and of the future, but pointers of
        the past only.
        """
        step = -1 if reverse else 1
        conditioning = {t: self.conditioning[t] for t in closest_frames(self.conditioning, frame_idx, reach[2])}
        others = {t: result for t, result in self.conditioning.items() if t not in conditioning}

        def earlier(distance):
            t = frame_idx - step * distance
            return self.tracked.get(t, others.get(t))

        memories = [(reach.num_memories - 1, result.memory) for result in conditioning.values()]
        for distance in range(reach.num_memories - 1, 0, -1):
            result = earlier(distance)
            if result is not None and result.memory is not None:
                memories.append((distance - 1, result.memory))
        distances = {t: step * (frame_idx - t) for t in conditioning}
        pointers = [(distances[t], result.pointer) for t, result in conditioning.items() if distances[t] >= 0]
        for distance in range(1, reach.num_pointers):
            if (result := earlier(distance)) is not None:
                pointers.append((distance, result.pointer))
        return Recollection(memories, pointers)

    def forget(self, frame_idx: int, num_kept: int, reach: Reach) -> None:
        """Drops what neither the memory bank on the next frame nor a correction of the last frames needs."""
        for t, result in list(self.tracked.items()):
            age = abs(frame_idx - t)
            if age >= num_kept:
                result.mask = None
            if age >= max(num_kept, reach.num_memories - 1):
                result.memory = None
            if age >= max(num_kept, reach.num_pointers - 1):
                for by_frame in (self.tracked, self.directions, self.prompts):
                    by_frame.pop(t, None)


@dataclass
class EdgeTamVideoInferenceSession:
    """A video, or a stream of frames, with the objects that are tracked in it.

    `EdgeTamVideoProcessor.init_video_session` makes sessions and `add_inputs_to_inference_session` adds prompts;
    `EdgeTamVideoModel` fills in the results. A session can be pickled.

    Args:
        frames (`Sequence`, *optional*):
            Frames as uint8 tensors (3, height, width), stored or read when asked for. `None` in a stream.
        frame_processor (`Callable`, *optional*):
            Makes the model input (3, H, W) of a frame.
        image_size (`tuple[int, int]`, *optional*):
            (height, width) of the model input.
        video_height, video_width (`int`, *optional*):
            Size of the frames, the frame of reference of prompts. In a stream known from the first prompt on.
        inference_device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Where the model is.
        inference_state_device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Where results are kept.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): Of the model input.
        max_vision_features_cache_size (`int`, *optional*, defaults to 1):
            Number of frames whose image embeddings are kept. In a stream these are the frames that can be prompted.
        max_memory_frames (`int`, *optional*):
            Number of recent frames that can be corrected. Older ones are kept only as far as the memory bank reaches.
            By default all of a video and, in a stream, those whose image embeddings are kept.
        max_objects_per_batch (`int`, *optional*, defaults to 8):
            Number of objects that are computed at once.
    """

    frames: Sequence[torch.Tensor] | None = None
    frame_processor: Callable[[torch.Tensor], torch.Tensor] | None = None
    image_size: tuple[int, int] | None = None
    video_height: int | None = None
    video_width: int | None = None
    inference_device: torch.device | str = "cpu"
    inference_state_device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    max_vision_features_cache_size: int = 1
    max_memory_frames: int | None = None
    max_objects_per_batch: int = 8
    objects: dict[int, TrackedObject] = field(default_factory=dict)
    pending: list[tuple[int, int, Prompt]] = field(default_factory=list)
    image_embeddings: dict[int, list[torch.Tensor]] = field(default_factory=dict)
    num_streamed: int = 0

    def __post_init__(self):
        for name in ("max_vision_features_cache_size", "max_memory_frames", "max_objects_per_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def __getstate__(self):
        """All state but the image embeddings of a video, which can be computed again."""
        return {**vars(self), "image_embeddings": self.image_embeddings if self.is_stream else {}}

    @property
    def is_stream(self) -> bool:
        """Whether frames arrive one by one."""
        return self.frames is None

    @property
    def num_frames(self) -> int:
        """Number of frames of the video, or of the stream so far."""
        return self.num_streamed if self.is_stream else len(self.frames)

    @property
    def obj_ids(self) -> list[int]:
        """Ids of the objects, in the order of their first prompts, which is the order of all outputs."""
        return list(self.objects)

    def get_obj_num(self) -> int:
        """Number of objects."""
        return len(self.objects)

    def obj_id_to_idx(self, obj_id: int) -> int:
        """Place of an object in the outputs."""
        self.check_object(obj_id)
        return self.obj_ids.index(obj_id)

    def obj_idx_to_id(self, obj_idx: int) -> int:
        """Id of the object at a place in the outputs."""
        return self.obj_ids[obj_idx]

    def check_object(self, obj_id: int) -> None:
        """Raises a ValueError for an unknown object."""
        if obj_id not in self.objects:
            raise ValueError(f"object {obj_id} is unknown; the objects of this session are {self.obj_ids}")

    def check_frame(self, frame_idx: int) -> None:
        """Raises a ValueError for a frame that cannot be prompted or processed."""
        if isinstance(frame_idx, bool) or not isinstance(frame_idx, Integral):
            raise TypeError(f"frame_idx must be an integer, got {frame_idx!r}")
        if not self.is_stream and not 0 <= frame_idx < self.num_frames:
            raise ValueError(f"frame_idx must be one of 0..{self.num_frames - 1} of this video, got {frame_idx}")
        if self.is_stream and frame_idx < self.num_streamed and frame_idx not in self.image_embeddings:
            raise ValueError(
                f"frame {frame_idx} of the stream is gone, only {list(self.image_embeddings)} and later ones can be "
                "used; a larger max_vision_features_cache_size keeps more"
            )

    def get_frame(self, frame_idx: int) -> torch.Tensor:
        """Model input (3, H, W) of a frame of the video."""
        if self.is_stream:
            raise ValueError("a stream keeps no frames: give them to the model one by one, model(…, frame=…)")
        self.check_frame(frame_idx)
        return send(self.frame_processor(self.frames[frame_idx]), self.inference_device).to(self.dtype)

    def next_frame_idx(self, frame_idx: int | None = None) -> int:
        """Index of a frame that arrives now; frames of a stream may be left out, but not go back."""
        if not self.is_stream:
            raise ValueError("this session has a whole video: give frame_idx instead of a frame")
        if frame_idx is not None and frame_idx < self.num_streamed:
            raise ValueError(f"frames of a stream must follow each other, got {frame_idx} after {self.num_frames - 1}")
        return self.num_streamed if frame_idx is None else frame_idx

    def cache_image_embeddings(self, frame_idx: int, image_embeddings: list[torch.Tensor]) -> None:
        """Keeps the image embeddings of a frame, and of as many frames before as the session allows."""
        self.image_embeddings.pop(frame_idx, None)
        while len(self.image_embeddings) >= self.max_vision_features_cache_size:
            self.image_embeddings.pop(next(iter(self.image_embeddings)))
        self.image_embeddings[frame_idx] = image_embeddings

    def add_prompt(self, frame_idx: int, obj_id: int, prompt: Prompt) -> None:
        """Records the whole prompt of an object on a frame; a new object is made if need be."""
        tracked_object = self.objects.setdefault(obj_id, TrackedObject())
        tracked_object.prompts[frame_idx] = prompt
        self.pending.append((frame_idx, obj_id, prompt))

    def clear_prompts(self, frame_idx: int, obj_id: int) -> None:
        """Takes back all prompts of an object on a frame, and what was found there: as if they had not been given."""
        self.check_object(obj_id)
        tracked_object = self.objects[obj_id]
        if frame_idx not in tracked_object.prompts:
            frames = sorted(tracked_object.prompts)
            raise ValueError(f"object {obj_id} has no prompt on frame {frame_idx}, only on {frames}")
        del tracked_object.prompts[frame_idx]
        tracked_object.clear_results(frame_idx)
        self.pending = [entry for entry in self.pending if entry[:2] != (frame_idx, obj_id)]

    def remove_object(self, obj_id: int) -> None:
        """Stops tracking an object; the others are not affected."""
        self.check_object(obj_id)
        del self.objects[obj_id]
        self.pending = [entry for entry in self.pending if entry[1] != obj_id]

    def pending_frames(self) -> list[int]:
        """Frames with prompts that the model has not seen."""
        return sorted({frame_idx for frame_idx, _, _ in self.pending})

    def next_round(self, frame_idx: int) -> dict[int, Prompt]:
        """The first prompt of every object that waits on a frame, by object id; empty if none waits."""
        first: dict[int, Prompt] = {}
        for pending_idx, obj_id, prompt in self.pending:
            if pending_idx == frame_idx:
                first.setdefault(obj_id, prompt)
        return first

    def finish_round(self, frame_idx: int, results: dict[int, FrameResult]) -> None:
        """Stages the results of `next_round`, whose prompts wait no longer."""
        finished = self.next_round(frame_idx)
        for obj_id, result in results.items():
            self.objects[obj_id].staged[frame_idx] = result
        self.pending = [entry for entry in self.pending if not any(entry[2] is prompt for prompt in finished.values())]

    def commit(self) -> None:
        """Lets the results of prompts become memory."""
        for tracked_object in self.objects.values():
            tracked_object.commit()

    def forget(self, frame_idx: int, reach: Reach) -> None:
        """Drops what is out of reach after a frame."""
        num_kept = self.max_memory_frames
        if num_kept is None and self.is_stream:
            num_kept = self.max_vision_features_cache_size
        if num_kept is not None:
            for tracked_object in self.objects.values():
                tracked_object.forget(frame_idx, num_kept, reach)

    def reset_tracking_data(self) -> None:
        """Forgets all objects, prompts and results; the video, and the place in a stream, stay."""
        self.objects.clear()
        self.pending.clear()

    def reset_inference_session(self) -> None:
        """Forgets all objects, prompts and results, and cached image embeddings; a stream starts again at frame 0."""
        self.reset_tracking_data()
        self.image_embeddings.clear()
        self.num_streamed = 0
