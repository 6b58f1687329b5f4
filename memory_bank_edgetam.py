"""The memory bank of one object: its prompts and results on each frame, and what later frames see of them.

Shapes: (H, W) the model input, (h, w) = (H / 16, W / 16), C channels of the model, N points, K latents of m channels
that a frame leaves in memory. Points are (x, y) in pixels of the model input.
"""

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch

from .device_edgetam import send
from .memory_selection_edgetam import MemorySelection
from .prompts_edgetam import BOX_CORNER_LABELS, Prompts
from .stages_edgetam_video import Memories, ObjectPrediction, TrackingConfig


class PackedMask(NamedTuple):
    """A mask in few bytes.

    bits: uint8 (bytes,), compressed bits, row by row; size: (H, W).
    """

    bits: torch.Tensor
    size: tuple[int, int]

    @classmethod
    def pack(cls, mask: torch.Tensor) -> "PackedMask":
        """The packed form of a mask, bool (H, W)."""
        packed = bytearray(zlib.compress(np.packbits(mask.cpu().numpy()).tobytes(), 1))
        height, width = mask.shape
        return cls(torch.frombuffer(packed, dtype=torch.uint8), (height, width))

    def unpack(self) -> torch.Tensor:
        """The mask, bool (H, W)."""
        packed = np.frombuffer(zlib.decompress(self.bits.cpu().numpy().tobytes()), np.uint8)
        bits = np.unpackbits(packed, count=self.size[0] * self.size[1])
        return torch.from_numpy(bits.reshape(self.size).astype(bool))


@dataclass(frozen=True, eq=False)
class Prompt:
    """One prompt of an object on a frame: clicks and a box, or a mask in their place.

    clicks: `Prompts` of points (1, 1, N, 2) and labels (1, 1, N), the corners of a box first; empty for a mask.
    is_conditioning: whether its frame is a conditioning frame. is_correction: whether it corrects what tracking has
    found, and does not begin the object there. Both are `None` until the prompt is answered for the first time, and
    stay as they were decided then.
    """

    clicks: Prompts = field(default_factory=Prompts)
    packed_mask: PackedMask | None = None
    is_conditioning: bool | None = None
    is_correction: bool | None = None

    @property
    def has_mask(self) -> bool:
        """Whether it is a mask."""
        return self.packed_mask is not None

    @property
    def mask(self) -> torch.Tensor | None:
        """The mask, bool (H, W)."""
        return self.packed_mask.unpack() if self.packed_mask is not None else None

    @property
    def has_box(self) -> bool:
        """Whether there is a box."""
        return self.clicks.labels is not None and bool((self.clicks.labels == BOX_CORNER_LABELS[0]).any())

    @property
    def num_points(self) -> int:
        """Number of clicks and of corners of a box."""
        return 0 if self.clicks.labels is None else self.clicks.labels.shape[-1]

    def after(self, earlier: "Prompt") -> "Prompt":
        """The clicks of an earlier prompt, and then those of this one."""
        points, labels = self.clicks.points, self.clicks.labels
        assert points is not None and labels is not None
        return replace(self, clicks=earlier.clicks.add_points(points, labels))


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What was found of one object on one frame.

    mask: low-res logits (4h, 4w); iou_score, object_score_logit: scalars; pointer: (C,); memory: (K, m). Mask and
    memory are `None` once they are out of reach. prompt: the last that it answers, `None` if the object was tracked.
    look: (C / 8 + 1,), what the object looks like, or looked like where it began; `None` if nobody compares it.
    """

    mask: torch.Tensor | None
    iou_score: torch.Tensor
    object_score_logit: torch.Tensor
    pointer: torch.Tensor
    memory: torch.Tensor | None
    prompt: Prompt | None = None
    is_conditioning: bool = False
    look: torch.Tensor | None = None


def split_results(
    prediction: ObjectPrediction, memory: torch.Tensor, looks: torch.Tensor | None, prompts: Sequence[Prompt | None]
) -> list[FrameResult]:
    """`FrameResult` of each object of a prediction, with its part of memory and looks, and the prompt it answers.

    They are copies, so that what is kept of one object does not keep the others.
    """
    return [
        FrameResult(
            mask=prediction.masks[idx].clone(),
            iou_score=prediction.iou_scores[idx].clone(),
            object_score_logit=prediction.object_score_logits[idx].clone(),
            pointer=prediction.pointers[idx].clone(),
            memory=memory[idx].clone(),
            prompt=prompt,
            is_conditioning=prompt is not None and bool(prompt.is_conditioning),
            look=None if looks is None else looks[idx].clone(),
        )
        for idx, prompt in enumerate(prompts)
    ]


@dataclass(frozen=True, eq=False)
class ObjectOnFrame:
    """All that is known of an object on one frame.

    prompts: in order; they stay until they are cleared. result: what later frames remember. staged: the answer to
    prompts, kept apart until tracking goes on and it becomes the result: so it does not matter in which order frames
    are prompted. A result may be dropped: then the prompts are unanswered again, as new ones are.
    """

    prompts: tuple[Prompt, ...] = ()
    staged: FrameResult | None = None
    result: FrameResult | None = None

    @property
    def newest(self) -> FrameResult | None:
        """The newest result."""
        return self.staged or self.result

    @property
    def unanswered(self) -> tuple[Prompt, ...]:
        """The prompts that the newest result does not answer, in order."""
        newest = self.newest
        if newest is None or newest.prompt not in self.prompts:
            return self.prompts
        return self.prompts[self.prompts.index(newest.prompt) + 1 :]

    @property
    def is_conditioning(self) -> bool:
        """Whether it is a conditioning frame whose result is there."""
        return self.result is not None and self.result.is_conditioning

    @property
    def is_tracked(self) -> bool:
        """Whether there is a result of tracking, or one that corrects tracking."""
        return self.result is not None and not self.result.is_conditioning

    @property
    def is_key(self) -> bool:
        """Whether the frame was prompted or is a conditioning frame, as few are."""
        return bool(self.prompts) or self.is_conditioning


class FrameRun(NamedTuple):
    """Frames, all from the first to the last, through which tracking went in one direction."""

    first: int
    last: int
    reverse: bool


class Reach(NamedTuple):
    """How far the memory bank reaches.

    num_memories: frames whose memory counts (all conditioning frames make up one of them). num_pointers: frames whose
    object pointer counts. num_conditioning: conditioning frames that are attended to (-1: all). selection: which of
    the frames count whose memory or pointer could.
    """

    num_memories: int
    num_pointers: int
    num_conditioning: int
    selection: MemorySelection

    @property
    def num_searched(self) -> int:
        """How many frames back there may be one whose memory counts."""
        return self.selection.num_searched or self.num_memories - 1

    @property
    def num_back(self) -> int:
        """How many frames, with the present one, may have a memory or a pointer that counts."""
        return max(self.num_searched + 1, self.num_pointers)

    @classmethod
    def of(
        cls,
        config: TrackingConfig,
        num_frames: int | None = None,
        num_kept: int | None = None,
        selection: MemorySelection | None = None,
    ) -> "Reach":
        """The reach in a video of so many frames, or in a stream (`None`), with a session that keeps so many."""
        num_pointers, num_conditioning = config.max_object_pointers_in_encoder, config.max_cond_frame_num
        if num_frames is not None:
            num_pointers = min(num_pointers, num_frames)
        if num_kept is not None:
            limit = max(config.num_maskmem, num_kept)
            num_conditioning = limit if num_conditioning < 0 else min(num_conditioning, limit)
        return cls(config.num_maskmem, num_pointers, num_conditioning, selection or MemorySelection())


class ObjectMemory(NamedTuple):
    """What one object remembers on a frame: a list for each field of `Memories`, without the dimension of objects.

    look: what it looked like on the closest conditioning frame.
    """

    features: list[torch.Tensor]
    time_idx: list[int]
    pointers: list[torch.Tensor]
    pointer_offsets: list[float]
    look: torch.Tensor | None

    @property
    def size(self) -> tuple[int, int]:
        """Number of frames and of pointers; objects that remember as many can be computed together."""
        return len(self.features), len(self.pointers)


def stack_memories(memories: Sequence[ObjectMemory], frame_embedding: torch.Tensor) -> Memories:
    """`Memories` of objects of one size, for a frame (1, C, h, w)."""
    device, num_objects = frame_embedding.device, len(memories)

    def stack(parts: list[torch.Tensor]) -> torch.Tensor:
        return send(torch.stack(parts).unflatten(0, (num_objects, -1)), device)

    pointers = [pointer for memory in memories for pointer in memory.pointers]
    return Memories(
        features=stack([feature for memory in memories for feature in memory.features]),
        time_idx=send(torch.tensor([memory.time_idx for memory in memories]), device),
        pointers=stack(pointers) if pointers else frame_embedding.new_zeros(num_objects, 0, frame_embedding.shape[1]),
        pointer_offsets=send(torch.tensor([memory.pointer_offsets for memory in memories]), device),
    )


def closest_frames(frames: Collection[int], frame_idx: int, limit: int) -> list[int]:
    """At most `limit` (-1: all) of the frames, sorted: the last before, the next at or after, then the nearest.

    As `select_closest_cond_frames` of the original release; of two that are equally near, the earlier one.
    """
    if limit < 0 or len(frames) <= limit:
        return sorted(frames)
    before = max((t for t in frames if t < frame_idx), default=None)
    after = min((t for t in frames if t >= frame_idx), default=None)
    return sorted(sorted(frames, key=lambda t: (t not in (before, after), abs(t - frame_idx), t))[:limit])


@dataclass
class TrackedObject:
    """One object, frame by frame.

    frames: what is known of each frame, in the order in which tracking last went through them; others come before.
    key_frames: the prompted and conditioning ones among them, sorted, so that not all frames need to be searched.
    directions: in which direction tracking last went through frames. They are no part of `frames`, because they are
    needed of all frames of a video, even where everything else is forgotten, and runs of frames take no space.
    """

    frames: dict[int, ObjectOnFrame] = field(default_factory=dict)
    key_frames: tuple[int, ...] = ()
    directions: tuple[FrameRun, ...] = ()

    def copy(self) -> "TrackedObject":
        """An object that can be changed without changing this one; what is known of single frames never changes."""
        return replace(self, frames=dict(self.frames))

    def on(self, frame_idx: int) -> ObjectOnFrame:
        """What is known of a frame."""
        return self.frames.get(frame_idx) or ObjectOnFrame()

    def result_at(self, frame_idx: int) -> FrameResult | None:
        """The newest result on a frame, if its mask is still known."""
        newest = self.on(frame_idx).newest
        return None if newest is None or newest.mask is None else newest

    def direction_at(self, frame_idx: int) -> bool | None:
        """Whether tracking last went through a frame in reverse; `None` if it was not there."""
        return next((run.reverse for run in self.directions if run.first <= frame_idx <= run.last), None)

    @property
    def prompts(self) -> dict[int, tuple[Prompt, ...]]:
        """Prompts, by frame."""
        return {t: self.frames[t].prompts for t in self.key_frames if self.frames[t].prompts}

    @property
    def staged(self) -> dict[int, FrameResult]:
        """Answers that become results when tracking goes on, by frame."""
        return {t: staged for t in self.key_frames if (staged := self.frames[t].staged) is not None}

    @property
    def conditioning(self) -> dict[int, FrameResult]:
        """Results of conditioning frames, by frame."""
        results = ((t, self.frames[t].result) for t in self.key_frames)
        return {t: result for t, result in results if result is not None and result.is_conditioning}

    @property
    def tracked(self) -> dict[int, FrameResult]:
        """All other results, by frame, in the order in which tracking last went through them."""
        results = ((t, record.result) for t, record in self.frames.items())
        return {t: result for t, result in results if result is not None and not result.is_conditioning}

    # Prompts.

    def add_prompt(self, frame_idx: int, prompt: Prompt) -> None:
        """Adds a prompt of the object on a frame; a mask replaces all earlier ones."""
        record = self.on(frame_idx)
        if record.prompts:
            prompt = replace(prompt, is_conditioning=record.prompts[0].is_conditioning)
        self._set(frame_idx, replace(record, prompts=(prompt,) if prompt.has_mask else (*record.prompts, prompt)))

    def clear_prompts(self, frame_idx: int) -> None:
        """Takes back all prompts on a frame, and what was found there."""
        self._set(frame_idx, ObjectOnFrame())

    def is_new(self, frame_idx: int) -> bool:
        """Whether a frame has prompts that were never answered."""
        return any(prompt.is_correction is None for prompt in self.on(frame_idx).prompts)

    def is_correction(self, frame_idx: int, prompt: Prompt) -> bool:
        """Whether a prompt corrects what tracking found on its frame, and does not begin the object there."""
        is_correction = prompt.is_correction
        if is_correction is None:
            is_correction = self.direction_at(frame_idx) is not None
        return is_correction and bool(self.conditioning)

    def next_prompt(self, frame_idx: int) -> Prompt:
        """The first unanswered prompt on a frame, once it is decided what it does.

        A correction belongs to the same kind of frame as what it corrects; where the object begins, its frame is a
        conditioning frame.
        """
        prompt = self.on(frame_idx).unanswered[0]
        is_correction = self.is_correction(frame_idx, prompt)
        is_conditioning = not is_correction or bool(prompt.is_conditioning)
        if (prompt.is_conditioning, prompt.is_correction) == (is_conditioning, is_correction):
            return prompt
        return replace(prompt, is_conditioning=is_conditioning, is_correction=is_correction)

    def conditioning_frames(self) -> list[int]:
        """Frames that are or will be conditioning frames, also those whose results are not there."""

        def is_conditioning(frame_idx: int, prompts: tuple[Prompt, ...]) -> bool:
            flags = {prompt.is_conditioning for prompt in prompts}
            return True in flags or (flags == {None} and not self.is_correction(frame_idx, prompts[0]))

        return [t for t, prompts in self.prompts.items() if is_conditioning(t, prompts)]

    def frames_in_reach(self, frame_idx: int, reverse: bool, reach: Reach) -> set[int]:
        """Prompted frames whose results the memory bank needs on a frame, and that frame itself."""
        frames = set(closest_frames(self.conditioning_frames(), frame_idx, reach.num_conditioning))
        step = -1 if reverse else 1
        return frames | {t for t in self.prompts if 0 <= step * (frame_idx - t) < reach.num_back}

    def can_be_restored(self, frame_idx: int) -> bool:
        """Whether the next unanswered prompt on a conditioning frame was answered before, and without memory."""
        prompt = next(iter(self.on(frame_idx).unanswered), Prompt())
        needs_no_memory = prompt.is_correction is False or (prompt.has_mask and prompt.is_correction is not None)
        return bool(prompt.is_conditioning) and needs_no_memory

    def is_lost(self, frame_idx: int) -> bool:
        """Whether tracking went through a frame, its result was dropped, and no prompt begins the object there."""
        unanswered = self.on(frame_idx).unanswered
        begins = unanswered and (unanswered[0].has_mask or not self.is_correction(frame_idx, unanswered[0]))
        was_tracked = self.direction_at(frame_idx) is not None and bool(self.conditioning)
        return was_tracked and not self.result_at(frame_idx) and not begins

    # Results.

    def stage(self, frame_idx: int, result: FrameResult) -> None:
        """Keeps the answer to the next unanswered prompt on a frame until tracking goes on."""
        record, answered = self.on(frame_idx), result.prompt
        assert answered is not None
        unanswered = record.unanswered[0]
        prompts = tuple(answered if prompt is unanswered else prompt for prompt in record.prompts)
        self._set(frame_idx, replace(record, prompts=prompts, staged=result))

    def commit(self) -> None:
        """Lets staged answers become memory."""
        for frame_idx, result in self.staged.items():
            self._set(frame_idx, replace(self.on(frame_idx), staged=None))
            self.remember(frame_idx, result)

    def remember(self, frame_idx: int, result: FrameResult) -> None:
        """Makes a result part of the memory, as one of the frames through which tracking went longest ago."""
        record = self.on(frame_idx)
        self._set(frame_idx, replace(record, result=result))
        if not record.is_tracked and not result.is_conditioning:
            self.frames = {frame_idx: self.frames.pop(frame_idx), **self.frames}

    def mark_tracked(self, frame_idx: int, reverse: bool, result: FrameResult | None = None) -> None:
        """Notes that tracking goes through a frame now, with what it finds, if that is new."""
        record = self.frames.pop(frame_idx, None)
        if result is not None:
            record = replace(record or ObjectOnFrame(), result=result)
        if record is not None:
            self.frames[frame_idx] = record
        self.mark_direction(frame_idx, reverse)

    def mark_direction(self, frame_idx: int, reverse: bool) -> None:
        """Notes in which direction tracking goes through a frame."""
        if self.direction_at(frame_idx) == reverse:
            return
        parts = [FrameRun(frame_idx, frame_idx, reverse)]
        for run in self.directions:
            parts.append(run._replace(last=min(run.last, frame_idx - 1)))
            parts.append(run._replace(first=max(run.first, frame_idx + 1)))
        runs: list[FrameRun] = []
        for part in sorted(part for part in parts if part.first <= part.last):
            if runs and (runs[-1].last, runs[-1].reverse) == (part.first - 1, part.reverse):
                part = part._replace(first=runs.pop().first)
            runs.append(part)
        self.directions = tuple(runs)

    def drop_results(self, frame_idx: int) -> None:
        """Drops what was found on a frame, so that its prompts are unanswered again."""
        self._set(frame_idx, ObjectOnFrame(self.on(frame_idx).prompts))

    def memory_at(self, frame_idx: int, reach: Reach, reverse: bool | None = None) -> ObjectMemory:
        """What the object remembers on a frame: conditioning frames, earlier (in reverse: later) frames, pointers.

        As the memory bank of the original release: conditioning frames of the past and of the future, but pointers of
        the past only. The direction is by default that in which tracking last went through the frame.
        """
        reverse = self.direction_at(frame_idx) if reverse is None else reverse
        step, conditioning = -1 if reverse else 1, self.conditioning
        attended = {t: conditioning[t] for t in closest_frames(conditioning, frame_idx, reach.num_conditioning)}
        earlier = {}  # by distance
        for distance in range(1, reach.num_back):
            t = frame_idx - step * distance
            if t not in attended and (result := self.on(t).result) is not None:
                earlier[distance] = result
        recent = reach.selection.choose(earlier, reach.num_memories - 1)
        remembered = [*attended.values(), *(earlier[d] for d in recent)]
        pointers = [(d, result) for t, result in attended.items() if (d := step * (frame_idx - t)) >= 0]
        pointers += [(d, earlier[d]) for d in reach.selection.sure(earlier) if d < reach.num_pointers]
        return ObjectMemory(
            features=[result.memory for result in remembered if result.memory is not None],
            time_idx=[reach.num_memories - 1] * len(attended) + [*recent.values()],
            pointers=[result.pointer for _, result in pointers],
            pointer_offsets=[d / max(reach.num_pointers - 1, 1) for d, _ in pointers],
            look=next((conditioning[t].look for t in closest_frames(conditioning, frame_idx, 1)), None),
        )

    def forget(self, frame_idx: int, num_kept: int, reach: Reach) -> None:
        """Drops what neither the memory bank on the next frame nor a correction of the last frames needs."""
        held = {**self.conditioning, **self.staged}
        kept = {*closest_frames(held, frame_idx, reach.num_conditioning)}
        for t in held:
            if t not in kept and abs(frame_idx - t) >= reach.num_back:
                record = self.on(t)
                self._set(t, replace(record, staged=None, result=record.result if record.is_tracked else None))
        for age, (t, result) in enumerate(reversed(self.tracked.items())):
            # a correction of the oldest frame that is kept needs as many frames before it as any other
            if age >= num_kept - 1 + reach.num_back:
                self._set(t, replace(self.on(t), result=None))
            elif age >= num_kept:
                memory = result.memory if age <= num_kept - 1 + reach.num_searched else None
                if result.mask is not None or result.memory is not memory:
                    self._set(t, replace(self.on(t), result=replace(result, mask=None, memory=memory)))

    def forget_prompts_before(self, frame_idx: int) -> None:
        """Drops the prompts on frames before this one, which are gone, where their results are gone, too."""
        for t in self.key_frames:
            if t < frame_idx and self.on(t).newest is None:
                self._set(t, ObjectOnFrame())
        self.directions = tuple(run for run in self.directions if run.last >= frame_idx)

    def _set(self, frame_idx: int, record: ObjectOnFrame) -> None:
        """Replaces what is known of a frame, which keeps its place in the order."""
        if record.is_key != self.on(frame_idx).is_key:
            self.key_frames = tuple(sorted({*self.key_frames} ^ {frame_idx}))
        if record.prompts or record.newest is not None:
            self.frames[frame_idx] = record
        else:
            self.frames.pop(frame_idx, None)


STATE_TYPES = (TrackedObject, ObjectOnFrame, FrameRun, FrameResult, Prompt, Prompts, PackedMask)  # what a bank holds
