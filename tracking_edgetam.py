"""One frame of tracking: which objects of a session have to be found on it, and from what.

    draft of the session -> plan -> batches run on the model -> results recorded in the draft -> output -> adopted

Shapes: O objects, N points, (H, W) the model input in pixels, (h, w) = (H / 16, W / 16) the image embedding.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from transformers.utils import ModelOutput

from .device_edgetam import send
from .memory_bank_edgetam import FrameResult, ObjectMemory, Prompt, Reach, split_results, stack_memories
from .memory_selection_edgetam import MemorySelection, learn_looks, look_of_all
from .pretrained_edgetam import ALWAYS_GIVEN
from .prompts_edgetam import Prompts
from .session_edgetam import EdgeTamVideoInferenceSession
from .stages_edgetam_video import ABSENT_LOGIT, ObjectPrediction, TrackingModel, is_ambiguous


@dataclass
class EdgeTamVideoSegmentationOutput(ModelOutput):
    """Masks of all objects of a session on one frame.

    Args:
        object_ids (`list[int]`):
            Ids of the objects, in the order of all other fields.
        pred_masks (`torch.Tensor` of shape `(num_objects, 1, H / 4, W / 4)`):
            Low-res mask logits; `processor.post_process_masks` brings them to any size. All -1024 where an object is
            absent.
        object_score_logits (`torch.Tensor` of shape `(num_objects,)`):
            Logit of "the object is visible". (So Transformers documents it, too; its own model returns (num_objects, 1)
            at run time.)
        iou_scores (`torch.Tensor` of shape `(num_objects,)`):
            Predicted IoU of the mask with the object, in [0, 1]; 1 for a given mask.
        frame_idx (`int`):
            Index of the frame.
    """

    object_ids: list[int] = ALWAYS_GIVEN
    pred_masks: torch.Tensor = ALWAYS_GIVEN
    object_score_logits: torch.Tensor = ALWAYS_GIVEN
    iou_scores: torch.Tensor = ALWAYS_GIVEN
    frame_idx: int = ALWAYS_GIVEN


class PromptedObject(NamedTuple):
    """An object that is clicked or boxed.

    previous_mask: low-res logits (4h, 4w) of the mask that was found earlier on the same frame, if there is one.
    memory: what the object remembers where the prompt corrects tracking, `None` where the object begins.
    """

    prompt: Prompt
    previous_mask: torch.Tensor | None
    memory: ObjectMemory | None

    @property
    def layout(self) -> Hashable:
        """What objects that are computed together must have in common."""
        return self.previous_mask is not None, self.memory and self.memory.size


@dataclass(frozen=True)
class AdoptedBatch:
    """Objects whose masks are given, by object id."""

    objects: dict[int, Prompt]
    is_prompted: ClassVar[bool] = True

    @property
    def prompts(self) -> list[Prompt]:
        """The prompt that each result answers."""
        return list(self.objects.values())

    def run(self, model: TrackingModel, frame_embeddings: list[torch.Tensor]) -> ObjectPrediction:
        """The given masks as a prediction."""
        masks = [prompt.packed_mask.unpack() for prompt in self.prompts if prompt.packed_mask is not None]
        return model.adopt_masks(frame_embeddings, send(torch.stack(masks), model.device))


@dataclass(frozen=True)
class PromptedBatch:
    """Objects that are clicked or boxed, of one layout, by object id."""

    objects: dict[int, PromptedObject]
    is_prompted: ClassVar[bool] = True

    @property
    def prompts(self) -> list[Prompt]:
        """The prompt that each result answers."""
        return [prompted.prompt for prompted in self.objects.values()]

    def run(self, model: TrackingModel, frame_embeddings: list[torch.Tensor]) -> ObjectPrediction:
        """What the model finds from clicks and boxes, and from memory where they correct tracking."""
        frame_embedding, objects = frame_embeddings[-1], self.objects.values()
        memories = [prompted.memory for prompted in objects if prompted.memory is not None]
        if memories:
            conditioned = model.attend_to_memory(frame_embedding, stack_memories(memories, frame_embedding))
        else:
            conditioned = model.forget_memory(frame_embedding).expand(len(objects), -1, -1, -1)
        previous_masks = [prompted.previous_mask for prompted in objects if prompted.previous_mask is not None]
        prompts = Prompts.stack([prompt.clicks for prompt in self.prompts])
        if previous_masks:
            prompts = prompts.with_previous_masks(torch.stack(previous_masks)[:, None])
        num_points = torch.tensor([prompt.num_points for prompt in self.prompts])
        flags = is_ambiguous(model.config, num_points, has_memory=bool(memories))
        return model.decode_objects(frame_embeddings, conditioned, prompts.to(model.device), send(flags, model.device))


@dataclass(frozen=True)
class TrackedBatch:
    """Objects that are tracked from memories of one size, by object id."""

    objects: dict[int, ObjectMemory]
    is_prompted: ClassVar[bool] = False

    @property
    def prompts(self) -> list[None]:
        """`None` for each object: nothing is answered."""
        return [None] * len(self.objects)

    def run(self, model: TrackingModel, frame_embeddings: list[torch.Tensor]) -> ObjectPrediction:
        """What the model finds from memory alone."""
        memories = stack_memories(list(self.objects.values()), frame_embeddings[-1])
        conditioned = model.attend_to_memory(frame_embeddings[-1], memories)
        flags = is_ambiguous(model.config, torch.zeros(len(self.objects), dtype=torch.long), has_memory=True)
        return model.decode_objects(frame_embeddings, conditioned, Prompts(), send(flags, model.device))


@dataclass(frozen=True)
class FramePlan:
    """Which objects are found on a frame, by object id, and from what: given masks, clicks and boxes, or memory."""

    adopted: dict[int, Prompt] = field(default_factory=dict)
    prompted: dict[int, PromptedObject] = field(default_factory=dict)
    tracked: dict[int, ObjectMemory] = field(default_factory=dict)

    def batches(self, limit: int) -> Iterator[AdoptedBatch | PromptedBatch | TrackedBatch]:
        """Batches of at most so many objects that can be computed together."""
        for adopted in _grouped(self.adopted, lambda prompt: None, limit):
            yield AdoptedBatch(adopted)
        for prompted in _grouped(self.prompted, lambda prompted: prompted.layout, limit):
            yield PromptedBatch(prompted)
        for tracked in _grouped(self.tracked, lambda memory: memory.size, limit):
            yield TrackedBatch(tracked)


def _grouped(objects: dict[int, Any], layout_of: Callable[[Any], Hashable], limit: int) -> Iterator[dict[int, Any]]:
    """Parts of at most so many objects, all of one layout."""
    groups: dict[Hashable, list[int]] = {}
    for obj_id, of_object in objects.items():
        groups.setdefault(layout_of(of_object), []).append(obj_id)
    for obj_ids in groups.values():
        for start in range(0, len(obj_ids), limit):
            yield {obj_id: objects[obj_id] for obj_id in obj_ids[start : start + limit]}


class Tracker:
    """A model at work on the draft of a session, which is to be thrown away after an error."""

    def __init__(self, model: TrackingModel, session: EdgeTamVideoInferenceSession):
        self.model, self.session = model, session
        num_frames = None if session.is_stream else session.num_frames
        selection = MemorySelection.of(session.memory_selection)
        self.reach = Reach.of(model.config, num_frames, session.num_kept, selection)

    def receive(self, frame: torch.Tensor, frame_idx: int | None) -> int:
        """Finds all objects on the next frame of a stream, pixel values (1, 3, H, W); returns the index of the frame.

        Unanswered prompts on earlier frames are answered first, and become memory. Answers on this frame can still be
        refined.
        """
        session = self.session
        frame_idx = session.next_frame_idx(frame_idx)
        frame_embeddings = self.model.get_frame_embeddings(send(frame, self.model.device))
        for t in sorted(session.image_embeddings):
            self._answer_prompts(t, session.obj_ids)
        session.receive_frame(frame_idx, frame_embeddings)
        self._answer_prompts(frame_idx, session.obj_ids)
        self._track_objects(frame_idx, reverse=False)
        return frame_idx

    def answer(self, frame_idx: int) -> None:
        """Answers the prompts on a frame; objects without one keep what tracking has found."""
        self.session.reopen_prompts(frame_idx)
        self._restore_conditioning(frame_idx, reverse=False)
        self._find_lost(frame_idx, self.session.obj_ids)
        self._answer_prompts(frame_idx, self.session.obj_ids)

    def track(self, frame_idx: int, reverse: bool) -> None:
        """Finds all objects on a frame of a video, or on one that a stream still has.

        Prompts on frames whose results the memory bank needs there are answered first, and become memory.
        """
        self.session.reopen_prompts(frame_idx)
        self.session.mark_reopened(frame_idx, reverse)
        self._restore_conditioning(frame_idx, reverse)
        for t, obj_ids in self.session.unanswered_in_reach(frame_idx, reverse, self.reach).items():
            self._answer_prompts(t, obj_ids)
        self.session.commit_answers()
        self._track_objects(frame_idx, reverse)

    def output(self, frame_idx: int) -> EdgeTamVideoSegmentationOutput:
        """The newest results on a frame; objects without one are absent."""
        nothing = torch.full((), ABSENT_LOGIT, device=self.session.inference_state_device)
        absent = FrameResult(nothing.expand(self.model.mask_size), torch.zeros_like(nothing), nothing, nothing, None)
        found = [tracked_object.result_at(frame_idx) or absent for tracked_object in self.session.objects.values()]

        def stack(parts: list[torch.Tensor]) -> torch.Tensor:
            # `torch.stack` takes no empty list, so the parts begin with that of `absent`, which is cut off here
            return send(torch.stack([part.to(self.model.dtype) for part in parts])[1:], self.model.device)

        return EdgeTamVideoSegmentationOutput(
            object_ids=self.session.obj_ids,
            pred_masks=stack([result.mask for result in (absent, *found) if result.mask is not None])[:, None],
            object_score_logits=stack([result.object_score_logit for result in (absent, *found)]),
            iou_scores=stack([result.iou_score for result in (absent, *found)]),
            frame_idx=frame_idx,
        )

    def _restore_conditioning(self, frame_idx: int, reverse: bool) -> None:
        """Computes dropped results of conditioning frames in reach again, where that needs no memory."""
        objects = self.session.objects
        for t, obj_ids in self.session.unanswered_in_reach(frame_idx, reverse, self.reach).items():
            dropped = [obj_id for obj_id in obj_ids if objects[obj_id].on(t).newest is None]
            while restored := [obj_id for obj_id in dropped if objects[obj_id].can_be_restored(t)]:
                self.session.restore_results(t, self._compute(t, self._plan_answers(t, restored)))

    def _answer_prompts(self, frame_idx: int, obj_ids: list[int]) -> None:
        """Stages the answers to all unanswered prompts on a frame, for each object one after the other."""
        objects = self.session.objects
        while unanswered := [obj_id for obj_id in obj_ids if objects[obj_id].on(frame_idx).unanswered]:
            self._find_lost(frame_idx, unanswered)
            self.session.stage_answers(frame_idx, self._compute(frame_idx, self._plan_answers(frame_idx, unanswered)))

    def _find_lost(self, frame_idx: int, obj_ids: list[int]) -> None:
        """Tracks objects on a frame again whose results of tracking were dropped there."""
        objects = self.session.objects
        lost = [obj_id for obj_id in obj_ids if objects[obj_id].is_lost(frame_idx)]
        memories = {obj_id: objects[obj_id].memory_at(frame_idx, self.reach) for obj_id in lost}
        self.session.restore_results(frame_idx, self._compute(frame_idx, FramePlan(tracked=memories)))

    def _track_objects(self, frame_idx: int, reverse: bool) -> None:
        """Tracks all objects on a frame but those whose result there answers a prompt."""
        memories = {}
        for obj_id, tracked_object in self.session.objects.items():
            result = tracked_object.result_at(frame_idx)
            if tracked_object.conditioning and (result is None or result.prompt is None):
                memories[obj_id] = tracked_object.memory_at(frame_idx, self.reach, reverse)
        results = self._compute(frame_idx, FramePlan(tracked=memories))
        self.session.record_tracked(frame_idx, results, reverse)

    def _plan_answers(self, frame_idx: int, obj_ids: list[int]) -> FramePlan:
        """How the first unanswered prompts of objects on a frame are answered.

        Clicks that correct tracking (`TrackedObject.is_correction` says which do) see memory, in the direction of
        tracking. All clicks see the last mask.
        """
        plan = FramePlan()
        for obj_id in obj_ids:
            tracked_object = self.session.objects[obj_id]
            prompt, previous = tracked_object.next_prompt(frame_idx), tracked_object.result_at(frame_idx)
            if prompt.has_mask:
                plan.adopted[obj_id] = prompt
            else:
                memory = tracked_object.memory_at(frame_idx, self.reach) if prompt.is_correction else None
                plan.prompted[obj_id] = PromptedObject(prompt, None if previous is None else previous.mask, memory)
        return plan

    def _compute(self, frame_idx: int, plan: FramePlan) -> dict[int, FrameResult]:
        """What is found on a frame, by object id, where the session keeps its state.

        If that is not the GPU, the program waits for the GPU here, once for all objects, and nowhere else.
        """
        state_device, model_device = torch.device(self.session.inference_state_device), self.model.device
        is_copied = model_device.type == "cuda" and state_device.type == "cpu"
        computed = []
        for batch in plan.batches(self.session.max_objects_per_batch):
            frame_embeddings = embeddings_of_frame(self.model, self.session, frame_idx)
            prediction = batch.run(self.model, frame_embeddings)
            is_prompted = send(torch.full((len(batch.objects),), batch.is_prompted), model_device)
            memory = self.model.encode_memory(
                frame_embeddings[-1], prediction.masks, prediction.object_score_logits, is_prompted
            )
            looks: torch.Tensor | None = None
            if self.reach.selection.look_weight > 0:
                prediction, looks = self._compare_looks(batch, frame_embeddings[0], prediction)
                looks = looks.to(state_device, non_blocking=is_copied)
            prediction = ObjectPrediction(*(part.to(state_device, non_blocking=is_copied) for part in prediction))
            computed.append((batch, prediction, memory.to(state_device, non_blocking=is_copied), looks))
        if is_copied and computed:
            torch.cuda.current_stream(model_device).synchronize()
        results: dict[int, FrameResult] = {}
        for batch, prediction, memory, looks in computed:
            results.update(zip(batch.objects, split_results(prediction, memory, looks, batch.prompts)))
        return results

    def _compare_looks(
        self, batch: AdoptedBatch | PromptedBatch | TrackedBatch, features: torch.Tensor, prediction: ObjectPrediction
    ) -> tuple[ObjectPrediction, torch.Tensor]:
        """The prediction without tracked objects that do not look like themselves, and the looks of all objects.

        features: the finest map of the frame. A prompt says what an object looks like, and is in no doubt.
        """
        if isinstance(batch, TrackedBatch):
            known = [memory.look for memory in batch.objects.values()]
            looks = send(
                torch.stack([look_of_all(features) if look is None else look for look in known]), features.device
            )
            scores = self.reach.selection.doubt(features, prediction.masks, prediction.object_score_logits, looks)
            masks = prediction.masks.masked_fill(scores[:, None, None] <= 0, ABSENT_LOGIT)
            return prediction._replace(masks=masks, object_score_logits=scores), looks
        return prediction, learn_looks(features, prediction.masks)


def embeddings_of_frame(
    model: TrackingModel, session: EdgeTamVideoInferenceSession, frame_idx: int
) -> list[torch.Tensor]:
    """Image embeddings of a frame, which a session that has none of it keeps from now on."""
    if frame_idx not in session.image_embeddings:
        pixel_values = send(session.get_frame(frame_idx)[None], model.device)
        session.cache_image_embeddings(frame_idx, model.get_frame_embeddings(pixel_values))
    return session.image_embeddings[frame_idx]


def find_objects(
    model: TrackingModel,
    session: EdgeTamVideoInferenceSession,
    frame_idx: int | None = None,
    frame: torch.Tensor | None = None,
    reverse: bool = False,
    answers_prompts: bool = False,
) -> EdgeTamVideoSegmentationOutput:
    """All objects of a session on one frame; the session changes at the very end, so that an error leaves it as it was.

    Args:
        frame_idx: index of a frame that is there, or of `frame`, by default the next one.
        frame: pixel values (1, 3, H, W) of the next frame of a stream.
        reverse: whether tracking goes back in time.
        answers_prompts: whether new prompts on the frame are answered; where there are any, nothing is tracked.
    """
    with session.lock:
        draft = session.draft()
        tracker = Tracker(model, draft)
        if frame is not None:
            frame_idx = tracker.receive(frame, frame_idx)
        elif frame_idx is None:
            raise ValueError("give frame_idx, or in a stream the next frame")
        else:
            frame_idx = draft.check_present(frame_idx)
            if answers_prompts and draft.is_new(frame_idx):
                tracker.answer(frame_idx)
            else:
                tracker.track(frame_idx, reverse)
        output = tracker.output(frame_idx)
        draft.forget(frame_idx, tracker.reach)
        session.adopt(draft)
    return output
