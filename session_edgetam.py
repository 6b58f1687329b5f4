"""All state of tracking: what was prompted, what was found on each frame, and what may be forgotten.

Shapes: (H, W) the model input, (h, w) = (H / 16, W / 16), C channels of the model, K latents of m channels that a frame
leaves in memory. Points are (x, y) in pixels of the model input.
"""

import threading
import zlib
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch

from .checks_edgetam_video import check_count, read_integer
from .device_edgetam import send


@dataclass(frozen=True, eq=False)
class Prompt:
    """What a user says of an object on a frame: clicks and corners of a box, or a mask.

    points: (N, 2); labels: integers (N,), 1 on the object, 0 off it, 2 and 3 the corners of a box, which come first.
    packed_mask: compressed bits of a mask of `mask_size`, in place of points.
    is_conditioning: whether its frame is a conditioning frame; sees_memory: whether the object remembers other frames
    when it is answered. Both are decided with the first answer, and hold for all later ones.
    """

    points: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    packed_mask: torch.Tensor | None = None
    mask_size: tuple[int, int] | None = None
    is_conditioning: bool | None = None
    sees_memory: bool | None = None

    @classmethod
    def of_mask(cls, mask: torch.Tensor) -> "Prompt":
        """The prompt of a mask, bool (H, W)."""
        packed = bytearray(zlib.compress(np.packbits(mask.cpu().numpy()).tobytes(), 1))
        return cls(packed_mask=torch.frombuffer(packed, dtype=torch.uint8), mask_size=tuple(mask.shape))

    @property
    def has_mask(self) -> bool:
        """Whether it is a mask."""
        return self.packed_mask is not None

    @property
    def mask(self) -> torch.Tensor | None:
        """The mask, bool (H, W)."""
        if not self.has_mask:
            return None
        (height, width), packed = (
            self.mask_size,
            np.frombuffer(zlib.decompress(self.packed_mask.cpu().numpy().tobytes()), np.uint8),
        )
        bits = np.unpackbits(packed, count=height * width).reshape(height, width)
        return torch.from_numpy(bits.astype(bool))


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What was found of one object on one frame.

    mask: low-res logits (4h, 4w); iou_score, object_score_logit: scalars; pointer: (C,); memory: (K, m). Mask and
    memory are `None` once they are out of reach. prompt: the last that it answers, `None` if the object was tracked.
    """

    mask: torch.Tensor | None
    iou_score: torch.Tensor
    object_score_logit: torch.Tensor
    pointer: torch.Tensor
    memory: torch.Tensor | None
    prompt: Prompt | None = None
    is_conditioning: bool = False


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
    influence. `tracked` is in the order in which frames were last passed.

    A prompt stays until it is cleared. Its result may be dropped: then the prompt waits again, as a new one does, and
    is answered when tracking comes near. `passed` are runs (first frame, last frame, whether in reverse) of the frames
    that tracking has passed.
    """

    prompts: dict[int, tuple[Prompt, ...]] = field(default_factory=dict)
    staged: dict[int, FrameResult] = field(default_factory=dict)
    conditioning: dict[int, FrameResult] = field(default_factory=dict)
    tracked: dict[int, FrameResult] = field(default_factory=dict)
    passed: list[tuple[int, int, bool]] = field(default_factory=list)

    def copy(self) -> "TrackedObject":
        """An object that can be changed without changing this one; what it holds of single frames never changes."""
        return TrackedObject(**{name: copy(value) for name, value in vars(self).items()})

    def newest(self, frame_idx: int) -> FrameResult | None:
        """The newest result on a frame."""
        stores = (self.staged, self.conditioning, self.tracked)
        return next((results[frame_idx] for results in stores if frame_idx in results), None)

    def result_at(self, frame_idx: int) -> FrameResult | None:
        """The newest result on a frame, if its mask is still known."""
        result = self.newest(frame_idx)
        return None if result is None or result.mask is None else result

    def waiting_at(self, frame_idx: int) -> tuple[Prompt, ...]:
        """The prompts on a frame that its newest result does not answer, in order."""
        prompts, result = self.prompts.get(frame_idx, ()), self.newest(frame_idx)
        is_answered = result is not None and result.prompt in prompts
        return prompts[prompts.index(result.prompt) + 1 :] if is_answered else prompts

    def is_new(self, frame_idx: int) -> bool:
        """Whether a frame has prompts that were never answered."""
        return any(prompt.sees_memory is None for prompt in self.prompts.get(frame_idx, ()))

    def add_prompt(self, frame_idx: int, prompt: Prompt) -> None:
        """Adds what is said of the object on a frame; a mask leaves nothing of what was said before."""
        earlier = self.prompts.get(frame_idx, ())
        if earlier:
            prompt = replace(prompt, is_conditioning=earlier[0].is_conditioning)
        self.prompts[frame_idx] = (prompt,) if prompt.has_mask else (*earlier, prompt)

    def direction_at(self, frame_idx: int) -> bool | None:
        """Whether tracking has passed a frame in reverse; `None` if it has not passed."""
        return next((reverse for first, last, reverse in self.passed if first <= frame_idx <= last), None)

    def pass_frame(self, frame_idx: int, reverse: bool) -> None:
        """Notes that tracking has passed a frame."""
        if self.direction_at(frame_idx) == reverse:
            return
        parts = [(frame_idx, frame_idx, reverse)]
        for first, last, direction in self.passed:
            parts += [(first, min(last, frame_idx - 1), direction), (max(first, frame_idx + 1), last, direction)]
        self.passed = []
        for first, last, direction in sorted(part for part in parts if part[0] <= part[1]):
            if self.passed and self.passed[-1][1:] == (first - 1, direction):
                self.passed[-1] = (self.passed[-1][0], last, direction)
            else:
                self.passed.append((first, last, direction))

    def sees_memory(self, frame_idx: int, prompt: Prompt) -> bool:
        """Whether a prompt corrects what tracking found on its frame, and does not begin the object there."""
        has_passed = prompt.sees_memory
        if has_passed is None:
            has_passed = self.direction_at(frame_idx) is not None
        return has_passed and bool(self.conditioning)

    def conditioning_frames(self) -> list[int]:
        """Frames that are or will be conditioning frames, also those whose results are not there."""

        def is_conditioning(frame_idx, prompts):
            flags = {prompt.is_conditioning for prompt in prompts}
            return True in flags or (flags == {None} and not self.sees_memory(frame_idx, prompts[0]))

        return [t for t, prompts in self.prompts.items() if is_conditioning(t, prompts)]

    def frames_in_reach(self, frame_idx: int, reverse: bool, reach: Reach) -> set[int]:
        """Prompted frames at which the memory bank looks from a frame, and that frame itself."""
        frames = set(closest_frames(self.conditioning_frames(), frame_idx, reach.num_conditioning))
        step = -1 if reverse else 1
        return frames | {t for t in self.prompts if 0 <= step * (frame_idx - t) < reach.num_pointers}

    def can_be_restored(self, frame_idx: int) -> bool:
        """Whether the next prompt that waits on a conditioning frame was answered before, and without memory."""
        prompt = next(iter(self.waiting_at(frame_idx)), Prompt())
        has_own_answer = prompt.sees_memory is False or (prompt.has_mask and prompt.sees_memory is not None)
        return bool(prompt.is_conditioning) and has_own_answer

    def stage(self, frame_idx: int, result: FrameResult) -> None:
        """Keeps the answer to the next prompt that waits on a frame until tracking starts."""
        prompt = self.waiting_at(frame_idx)[0]
        prompts = self.prompts[frame_idx]
        self.prompts[frame_idx] = tuple(result.prompt if other is prompt else other for other in prompts)
        self.staged[frame_idx] = result

    def commit(self) -> None:
        """Lets staged results become memory."""
        for frame_idx, result in self.staged.items():
            self.remember(frame_idx, result)
        self.staged = {}

    def remember(self, frame_idx: int, result: FrameResult) -> None:
        """Makes a result part of the memory; it does not count as one of the frames that were passed last."""
        if result.is_conditioning:
            self.tracked.pop(frame_idx, None)
            self.conditioning[frame_idx] = result
        elif frame_idx in self.tracked:
            self.tracked[frame_idx] = result
        else:
            self.conditioning.pop(frame_idx, None)
            self.tracked = {frame_idx: result, **self.tracked}

    def clear_results(self, frame_idx: int) -> None:
        """Drops the results on a frame."""
        for results in (self.staged, self.conditioning, self.tracked):
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
        held = {**self.conditioning, **self.staged}
        kept = {*closest_frames(held, frame_idx, reach.num_conditioning)}
        for t in held:
            if t not in kept and abs(frame_idx - t) >= reach.num_pointers:
                self.conditioning.pop(t, None)
                self.staged.pop(t, None)
        for age, (t, result) in enumerate(reversed(list(self.tracked.items()))):
            # the last of the frames that can be corrected looks back as far as any other
            if age >= num_kept - 1 + max(reach.num_pointers, reach.num_memories):
                del self.tracked[t]
            elif age >= num_kept - 1 + reach.num_memories:
                self.tracked[t] = replace(result, mask=None, memory=None)
            elif age >= num_kept:
                self.tracked[t] = replace(result, mask=None)

    def leave_behind(self, frame_idx: int) -> None:
        """Drops what was said of frames ahead of this one, which are gone, if their results are gone, too."""
        self.prompts = {t: said for t, said in self.prompts.items() if t >= frame_idx or self.newest(t) is not None}
        self.passed = [part for part in self.passed if part[1] >= frame_idx]


@dataclass
class EdgeTamVideoInferenceSession:
    """A video, or a stream of frames, with the objects that are tracked in it.

    `EdgeTamVideoProcessor.init_video_session` makes sessions and `add_inputs_to_inference_session` adds prompts;
    `EdgeTamVideoModel` fills in the results. A session can be pickled. Several threads may use one: whoever changes it
    holds its `lock`, so that a prompt that is given while a frame is tracked waits for the end of that frame.

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
            Number of frames, those that were tracked last, that can be looked at and corrected as if nothing were ever
            forgotten. By default all of a video and, in a stream, those whose image embeddings are kept. With a limit,
            memory is constant, however many frames and prompts there are:

            * Of a video all prompts are kept, as they were given, and results only near the frame that was tracked
              last. Where tracking comes near a prompted frame again, its prompts are answered again. So tracking gives
              what it gives without a limit, with two exceptions. Clicks that correct frames further back than the
              limit: a look at such a frame answers them from the memory that is left, and they are answered anew when
              tracking passes. And a pass that starts beside, or turns back towards, frames that an earlier pass has
              found: those further back than the limit are not remembered.
            * An object attends to the closest conditioning frames, at most `num_maskmem` of the model or
              `max_memory_frames`, whichever is more. (Without a limit a model with `max_cond_frame_num=-1`, such as
              EdgeTAM, attends to all that there are, and grows with them.)
            * Frames of a stream do not come back: there the same number of newest conditioning frames counts, and what
              was said on older ones is forgotten with them.
        max_objects_per_batch (`int`, *optional*, defaults to 8):
            Number of objects that are computed at once.
        video_storage_device (`str` or `torch.device`, *optional*, defaults to `"cpu"`):
            Where the frames are, if they are stored.
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
    video_storage_device: torch.device | str = "cpu"
    objects: dict[int, TrackedObject] = field(default_factory=dict)
    image_embeddings: dict[int, list[torch.Tensor]] = field(default_factory=dict)
    num_streamed: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    def __post_init__(self):
        for name in ("max_vision_features_cache_size", "max_memory_frames", "max_objects_per_batch"):
            if getattr(self, name) is not None:
                setattr(self, name, check_count(getattr(self, name), name))

    def __getstate__(self):
        """All state but the lock, and the image embeddings of a video, which can be computed again."""
        with self.lock:
            state = {**vars(self), "image_embeddings": self.image_embeddings if self.is_stream else {}}
        del state["lock"]
        return state

    def __setstate__(self, state):
        vars(self).update(state, lock=threading.RLock())

    @property
    def is_stream(self) -> bool:
        """Whether frames arrive one by one."""
        return self.frames is None

    @property
    def num_frames(self) -> int:
        """Number of frames of the video, or of the stream so far."""
        return self.num_streamed if self.is_stream else len(self.frames)

    @property
    def num_kept(self) -> int | None:
        """Number of frames that can be corrected as if nothing were ever forgotten; `None` if nothing is."""
        is_bounded = self.max_memory_frames is not None or not self.is_stream
        return self.max_memory_frames if is_bounded else self.max_vision_features_cache_size

    @property
    def obj_ids(self) -> list[int]:
        """Ids of the objects, in the order of their first prompts, which is the order of all outputs."""
        return list(self.objects)

    @property
    def obj_with_new_inputs(self) -> list[int]:
        """Ids of the objects with prompts that the model has not seen."""
        return [
            i for i, tracked_object in self.objects.items() if any(map(tracked_object.is_new, tracked_object.prompts))
        ]

    def get_obj_num(self) -> int:
        """Number of objects."""
        return len(self.objects)

    def obj_id_to_idx(self, obj_id: int) -> int:
        """Place of an object in the outputs."""
        return self.obj_ids.index(self.check_object(obj_id))

    def obj_idx_to_id(self, obj_idx: int) -> int:
        """Id of the object at a place in the outputs."""
        obj_idx = read_integer(obj_idx, "obj_idx")
        if not 0 <= obj_idx < len(self.objects):
            raise ValueError(f"obj_idx must be one of 0..{len(self.objects) - 1} of this session, got {obj_idx}")
        return self.obj_ids[obj_idx]

    def check_object(self, obj_id: int) -> int:
        """The id of an object; raises a ValueError if it is unknown, and a TypeError if it is no integer."""
        obj_id = read_integer(obj_id, "obj_id")
        if obj_id not in self.objects:
            raise ValueError(f"object {obj_id} is unknown; the objects of this session are {self.obj_ids}")
        return obj_id

    def check_frame(self, frame_idx: int) -> int:
        """The index of a frame; raises a ValueError if it cannot be prompted, and a TypeError if it is no integer."""
        frame_idx = read_integer(frame_idx, "frame_idx")
        if not self.is_stream and not 0 <= frame_idx < self.num_frames:
            raise ValueError(f"frame_idx must be one of 0..{self.num_frames - 1} of this video, got {frame_idx}")
        if frame_idx < 0:
            raise ValueError(f"frame_idx must not be negative, got {frame_idx}")
        if self.is_stream and frame_idx < self.num_streamed and frame_idx not in self.image_embeddings:
            raise ValueError(
                f"frame {frame_idx} of the stream is gone, only {list(self.image_embeddings)} and later ones can be "
                "used; a larger max_vision_features_cache_size keeps more"
            )
        return frame_idx

    def check_present(self, frame_idx: int) -> int:
        """The index of a frame that is there; raises as `check_frame`."""
        frame_idx = self.check_frame(frame_idx)
        if self.is_stream and frame_idx not in self.image_embeddings:
            raise ValueError(
                f"frame {frame_idx} of the stream has not arrived: a stream keeps no frames, give them to the model "
                "one by one, model(…, frame=…)"
            )
        return frame_idx

    def get_frame(self, frame_idx: int) -> torch.Tensor:
        """Model input (3, H, W) of a frame of the video."""
        if self.is_stream:
            raise ValueError("a stream keeps no frames: give them to the model one by one, model(…, frame=…)")
        frame_idx = self.check_frame(frame_idx)
        return send(self.frame_processor(self.frames[frame_idx]), self.inference_device).to(self.dtype)

    def next_frame_idx(self, frame_idx: int | None = None) -> int:
        """Index of a frame that arrives now; frames of a stream may be left out, but not go back.

        Raises:
            ValueError: also if a frame would be left out on which an object was prompted.
        """
        if not self.is_stream:
            raise ValueError("this session has a whole video: give frame_idx instead of a frame")
        frame_idx = self.num_streamed if frame_idx is None else read_integer(frame_idx, "frame_idx")
        if frame_idx < self.num_streamed:
            raise ValueError(f"frames of a stream must follow each other, got {frame_idx} after {self.num_frames - 1}")
        for obj_id, tracked_object in self.objects.items():
            if left_out := [t for t in tracked_object.prompts if self.num_streamed <= t < frame_idx]:
                raise ValueError(
                    f"frame {frame_idx} would leave out frame {min(left_out)}, on which object {obj_id} was prompted: "
                    f"give that frame first, or take the prompt back with session.clear_prompts({min(left_out)}, "
                    f"{obj_id})"
                )
        return frame_idx

    def draft(self) -> "EdgeTamVideoInferenceSession":
        """A session to compute with: this one does not change until it adopts it."""
        draft = object.__new__(type(self))
        objects = {obj_id: tracked_object.copy() for obj_id, tracked_object in self.objects.items()}
        vars(draft).update(vars(self), objects=objects, image_embeddings=dict(self.image_embeddings))
        return draft

    def adopt(self, draft: "EdgeTamVideoInferenceSession") -> None:
        """Takes over the state of a draft, all at once."""
        vars(self).update(vars(draft))

    def cache_image_embeddings(self, frame_idx: int, image_embeddings: list[torch.Tensor]) -> None:
        """Keeps the image embeddings of a frame, and of as many frames before as the session allows."""
        self.image_embeddings.pop(frame_idx, None)
        while len(self.image_embeddings) >= self.max_vision_features_cache_size:
            self.image_embeddings.pop(next(iter(self.image_embeddings)))
        self.image_embeddings[frame_idx] = image_embeddings

    def add_prompts(self, frame_idx: int, prompts: dict[int, Prompt], size: tuple[int, int]) -> None:
        """Records the whole prompts of objects on a frame, by object id; size (height, width) is that of the frame.

        Unknown ids begin new objects.
        """
        with self.lock:
            draft = self.draft()
            draft.video_height, draft.video_width = size
            for obj_id, prompt in prompts.items():
                draft.objects.setdefault(obj_id, TrackedObject()).add_prompt(frame_idx, prompt)
            self.adopt(draft)

    def clear_prompts(self, frame_idx: int, obj_id: int) -> None:
        """Takes back all prompts of an object on a frame, and what was found there: as if they had not been given."""
        frame_idx = read_integer(frame_idx, "frame_idx")
        with self.lock:
            tracked_object = self.objects[self.check_object(obj_id)]
            if frame_idx not in tracked_object.prompts:
                frames = sorted(tracked_object.prompts)
                raise ValueError(f"object {obj_id} has no prompt on frame {frame_idx}, only on {frames}")
            del tracked_object.prompts[frame_idx]
            tracked_object.clear_results(frame_idx)

    def remove_object(self, obj_id: int) -> None:
        """Stops tracking an object; the others are not affected."""
        with self.lock:
            del self.objects[self.check_object(obj_id)]

    def is_new(self, frame_idx: int) -> bool:
        """Whether a frame has prompts that were never answered."""
        return any(tracked_object.is_new(frame_idx) for tracked_object in self.objects.values())

    def forget(self, frame_idx: int, reach: Reach) -> None:
        """Drops what is out of reach after a frame."""
        if self.num_kept is None:
            return
        for tracked_object in self.objects.values():
            tracked_object.forget(frame_idx, self.num_kept, reach)
            if self.is_stream:
                tracked_object.leave_behind(min(self.image_embeddings))

    def reset_tracking_data(self) -> None:
        """Forgets all objects, prompts and results; the video, and the place in a stream, stay."""
        with self.lock:
            self.objects = {}

    def reset_inference_session(self) -> None:
        """Forgets all objects, prompts and results, and cached image embeddings.

        A stream starts again at frame 0, with frames of any size.
        """
        with self.lock:
            self.reset_tracking_data()
            self.image_embeddings = {}
            self.num_streamed = 0
            if self.is_stream:
                self.video_height = self.video_width = None
