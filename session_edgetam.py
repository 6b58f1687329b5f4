"""All state of tracking: a video or a stream, and what is known of its objects. Only the session changes it.

Shapes: (H, W) the model input.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from .checks_edgetam_video import check_count, read_integer
from .device_edgetam import send
from .everything_edgetam_video import EverythingState
from .memory_bank_edgetam import FrameResult, Prompt, Reach, TrackedObject
from .memory_selection_edgetam import MemorySelection


class VideoFrames(Protocol):
    """Frames of a video, uint8 (3, height, width), stored or read when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, idx: int, /) -> torch.Tensor: ...


@dataclass
class EdgeTamVideoInferenceSession:
    """A video, or a stream of frames, with the objects that are tracked in it.

    `EdgeTamVideoProcessor.init_video_session` makes sessions and `add_inputs_to_inference_session` adds prompts;
    `EdgeTamVideoModel` fills in the results. A session can be pickled. Several threads may use one: whoever changes it
    holds its `lock`, so that a prompt that is given while a frame is tracked takes effect after that frame.

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
            Number of frames, those that were tracked last, that can be shown and corrected as if nothing were ever
            forgotten. By default all of a video and, in a stream, those whose image embeddings are kept. With a limit,
            memory is constant, however many frames and prompts there are:

            * Of a video all prompts are kept, as they were given, and results only near the frame that was tracked
              last. Where tracking comes near a prompted frame again, its prompts are answered again. So tracking gives
              what it gives without a limit, with two exceptions: Clicks that correct a frame further back than the
              limit are answered from the memory that is left while the frame is only shown, and again when tracking
              reaches it. And tracking that starts beside frames that were tracked before, or turns back towards them,
              does not remember those further back than the limit.
            * An object attends to the closest conditioning frames, at most `num_maskmem` of the model or
              `max_memory_frames`, whichever is more. (Without a limit a model with `max_cond_frame_num=-1`, such as
              EdgeTAM, attends to all that there are, and grows with them.)
            * Frames of a stream do not come back: there the same number of newest conditioning frames counts, and
              the prompts on older ones are forgotten with them.
        max_objects_per_batch (`int`, *optional*, defaults to 8):
            Number of objects that are computed at once.
        video_storage_device (`str` or `torch.device`, *optional*, defaults to `"cpu"`):
            Where the frames are, if they are stored.
        mask_generation (`dict`, *optional*):
            The checkpoint's own options of mask generation, with which objects are discovered.
        memory_selection (`str` or `MemorySelection`, *optional*, defaults to `"recent"`):
            Which frames an object remembers besides those on which it begins: `"recent"`, the last ones, as in the
            original release; or `"confident"`, the same, and what it looks like, to tell it from others. Either is a
            `MemorySelection`, which takes other values, too. Memory is constant in any case.
    """

    frames: VideoFrames | None = None
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
    mask_generation: dict[str, Any] | None = None
    memory_selection: MemorySelection | str = "recent"
    objects: dict[int, TrackedObject] = field(default_factory=dict)
    image_embeddings: dict[int, list[torch.Tensor]] = field(default_factory=dict)
    num_streamed: int = 0
    everything: EverythingState = field(default_factory=EverythingState)
    lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("max_vision_features_cache_size", "max_memory_frames", "max_objects_per_batch"):
            if getattr(self, name) is not None:
                setattr(self, name, check_count(getattr(self, name), name))
        self.memory_selection = MemorySelection.of(self.memory_selection)

    def __repr__(self) -> str:
        """What it is of and which objects there are, in a line: all that it holds would fill pages."""
        size = "" if self.video_height is None else f" of {self.video_height}x{self.video_width}"
        frames = f"stream, {self.num_streamed} frames" if self.is_stream else f"{self.num_frames} frames"
        return f"{type(self).__name__}({frames}{size}, objects {list(self.objects)})"

    def __getstate__(self) -> dict[str, Any]:
        """All state but the lock, and the image embeddings of a video, which can be computed again."""
        with self.lock:
            state = {**vars(self), "image_embeddings": self.image_embeddings if self.is_stream else {}}
        del state["lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # earlier versions did not have all fields
        everything = EverythingState().knows([*state["objects"]])
        vars(self).update({**vars(type(self)()), "everything": everything, **state})

    @property
    def is_stream(self) -> bool:
        """Whether frames arrive one by one."""
        return self.frames is None

    @property
    def num_frames(self) -> int:
        """Number of frames of the video, or of the stream so far."""
        return self.num_streamed if self.frames is None else len(self.frames)

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
        return [obj_id for obj_id, known in self.objects.items() if any(map(known.is_new, known.key_frames))]

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

    def check_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size (height, width) that is given for the frames; raises a ValueError if another one is known."""
        known = (self.video_height, self.video_width)
        if None not in known and known != size:
            raise ValueError(f"original_size must be that of the video, {known}, got {size}")
        return size

    def set_size(self, size: tuple[int, int]) -> None:
        """Notes the size (height, width) of the frames."""
        self.video_height, self.video_width = size

    def set_everything(self, state: EverythingState) -> None:
        """Notes what is known of objects that nobody prompted."""
        self.everything = state

    def get_frame(self, frame_idx: int) -> torch.Tensor:
        """Model input (3, H, W) of a frame of the video."""
        if self.frames is None or self.frame_processor is None:
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

    def propagation_frames(self, start: int | None, count: int, reverse: bool) -> range:
        """Frames to track: a first one, by default the earliest that begins an object, and at most so many after it."""
        prompted = [t for tracked_object in self.objects.values() for t in tracked_object.conditioning_frames()]
        if not prompted:
            raise ValueError(
                "no object has a prompt yet: call processor.add_inputs_to_inference_session first; without any, "
                "model.track_everything(session) finds objects itself"
            )
        start = min(prompted) if start is None else start
        if reverse:
            return range(start, max(start - count, 0) - 1, -1) if start > 0 else range(0)
        return range(start, min(start + count, self.num_frames - 1) + 1)

    def is_new(self, frame_idx: int) -> bool:
        """Whether a frame has prompts that were never answered."""
        return any(tracked_object.is_new(frame_idx) for tracked_object in self.objects.values())

    def unanswered_in_reach(self, frame_idx: int, reverse: bool, reach: Reach) -> dict[int, list[int]]:
        """Ids of the objects with unanswered prompts, by frame, for all frames whose results are needed on a frame.

        Where nothing is forgotten these are all frames that are there.
        """
        unanswered: dict[int, list[int]] = {}
        for obj_id, tracked_object in self.objects.items():
            in_reach: Collection[int] = self.image_embeddings if self.is_stream else tracked_object.key_frames
            if not self.is_stream and self.num_kept is not None:
                in_reach = tracked_object.frames_in_reach(frame_idx, reverse, reach)
            for t in in_reach:
                if tracked_object.on(t).unanswered:
                    unanswered.setdefault(t, []).append(obj_id)
        return dict(sorted(unanswered.items()))

    # Changes by users.

    def add_prompts(self, frame_idx: int, prompts: dict[int, Prompt], size: tuple[int, int]) -> None:
        """Records the whole prompts of objects on a frame, by object id; size (height, width) is that of the frame.

        Unknown ids begin new objects.
        """
        with self.lock:
            draft = self.draft()
            draft.set_size(size)
            for obj_id, prompt in prompts.items():
                draft.objects.setdefault(obj_id, TrackedObject()).add_prompt(frame_idx, prompt)
            draft.everything = draft.everything.knows([*prompts])
            self.adopt(draft)

    def clear_prompts(self, frame_idx: int, obj_id: int) -> None:
        """Takes back all prompts of an object on a frame, and what was found there: as if they had not been given."""
        frame_idx = read_integer(frame_idx, "frame_idx")
        with self.lock:
            tracked_object = self.objects[self.check_object(obj_id)]
            prompts = tracked_object.prompts
            if frame_idx not in prompts:
                raise ValueError(f"object {obj_id} has no prompt on frame {frame_idx}, only on {list(prompts)}")
            tracked_object.clear_prompts(frame_idx)

    def remove_object(self, obj_id: int) -> None:
        """Stops tracking an object; the others are not affected."""
        with self.lock:
            del self.objects[self.check_object(obj_id)]
            self.everything = self.everything.knows([obj_id])

    def restore(self, objects: dict[int, TrackedObject], everything: EverythingState | None = None) -> None:
        """Takes over what was known of objects when they were saved."""
        with self.lock:
            self.objects = objects
            self.everything = everything or EverythingState().knows([*objects])

    def reset_tracking_data(self) -> None:
        """Forgets all objects, prompts and results; the video, and the place in a stream, stay."""
        with self.lock:
            self.objects, self.everything = {}, EverythingState()

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

    # Changes by tracking, in a draft.

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

    def receive_frame(self, frame_idx: int, image_embeddings: list[torch.Tensor]) -> None:
        """Goes on to the next frame of a stream; what was found on earlier ones becomes memory."""
        for tracked_object in self.objects.values():
            for t in tracked_object.staged:
                tracked_object.mark_direction(t, reverse=False)
        self.commit_answers()
        self.cache_image_embeddings(frame_idx, image_embeddings)
        self.num_streamed = frame_idx + 1

    def reopen_prompts(self, frame_idx: int) -> None:
        """Drops answers on a frame whose masks were dropped, so that the prompts are answered again."""
        for tracked_object in self.objects.values():
            record = tracked_object.on(frame_idx)
            if record.prompts and record.newest is not None and record.newest.mask is None:
                tracked_object.drop_results(frame_idx)

    def mark_reopened(self, frame_idx: int, reverse: bool) -> None:
        """Notes that tracking goes through a frame whose prompts were answered before, but are unanswered again."""
        for tracked_object in self.objects.values():
            if tracked_object.on(frame_idx).unanswered and not tracked_object.is_new(frame_idx):
                tracked_object.mark_direction(frame_idx, reverse)

    def stage_answers(self, frame_idx: int, results: dict[int, FrameResult]) -> None:
        """Keeps answers to the next unanswered prompts on a frame, by object id, until tracking goes on."""
        for obj_id, result in results.items():
            self.objects[obj_id].stage(frame_idx, result)

    def commit_answers(self) -> None:
        """Lets staged answers become memory: tracking goes on."""
        for tracked_object in self.objects.values():
            tracked_object.commit()

    def restore_results(self, frame_idx: int, results: dict[int, FrameResult]) -> None:
        """Keeps results that were found before, then dropped and now found again, by object id."""
        for obj_id, result in results.items():
            self.objects[obj_id].remember(frame_idx, result)

    def record_tracked(self, frame_idx: int, results: dict[int, FrameResult], reverse: bool) -> None:
        """Keeps what tracking finds on a frame, by object id; it went through that frame for all objects.

        An object that is missing in `results` has an answer to prompts on the frame, which stays.
        """
        for obj_id, tracked_object in self.objects.items():
            if tracked_object.conditioning and tracked_object.on(frame_idx).staged is None:
                tracked_object.mark_tracked(frame_idx, reverse, results.get(obj_id))

    def forget(self, frame_idx: int, reach: Reach) -> None:
        """Drops what is out of reach after a frame."""
        if self.num_kept is None:
            return
        for tracked_object in self.objects.values():
            tracked_object.forget(frame_idx, self.num_kept, reach)
            if self.is_stream:
                tracked_object.forget_prompts_before(min(self.image_embeddings))
