"""One step of tracking: which objects of a session have to be found on a frame, and from what.

Shapes: O objects, (H, W) the model input in pixels, (h, w) = (H / 16, W / 16) the image embedding, C channels.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from .device_edgetam import send
from .memory_layers_edgetam import Memories
from .prompts_edgetam import LARGEST_PREVIOUS_LOGIT, PADDING_LABEL
from .session_edgetam import FrameResult, Prompt, Reach, Recollection

ABSENT_LOGIT = -1024.0  # of every pixel of an object that is not in the picture


class Query(NamedTuple):
    """What to find out: the mask of an object on a frame, from a prompt, an earlier mask on it, and memory."""

    prompt: Prompt | None
    previous_mask: torch.Tensor | None
    recollection: Recollection | None
    is_conditioning: bool

    @property
    def has_mask_prompt(self):
        return self.prompt is not None and self.prompt.has_mask

    @property
    def kind(self):
        """Queries of the same kind can be computed at once."""
        if self.has_mask_prompt:
            return "mask"
        counts = None if self.recollection is None else tuple(len(part) for part in self.recollection)
        return self.prompt is not None, self.previous_mask is not None, counts


class Tracker:
    """A model at work on a session, whose state nothing else changes.

    Args:
        model: `EdgeTamVideoModel`, whose stages do the computing.
        session: a draft of an `EdgeTamVideoInferenceSession`: after an error it is of no use.
    """

    def __init__(self, model, session):
        self.model, self.session, self.device = model, session, model.device

    @property
    def reach(self):
        """How far the memory bank reaches; there are never more pointers than frames."""
        config, session = self.model.config, self.session
        num_pointers, num_conditioning = config.max_object_pointers_in_encoder, config.max_cond_frame_num
        if not session.is_stream:
            num_pointers = min(num_pointers, session.num_frames)
        if session.num_kept is not None:
            limit = max(config.num_maskmem, session.num_kept)
            num_conditioning = limit if num_conditioning < 0 else min(num_conditioning, limit)
        return Reach(config.num_maskmem, num_pointers, num_conditioning)

    def receive(self, frame, frame_idx):
        """Finds all objects on the next frame of a stream, pixel values (1, 3, H, W); returns the index of the frame.

        What waits on earlier frames is answered first, and becomes memory. Answers on this frame can be refined yet.
        """
        session, frame_idx = self.session, self.session.next_frame_idx(frame_idx)
        frame_embeddings = self.model.get_frame_embeddings(send(frame, self.device))
        for t in sorted(session.image_embeddings):
            self._answer_prompts(t, session.objects)
        for tracked_object in session.objects.values():
            for t in tracked_object.staged:
                tracked_object.pass_frame(t, False)
            tracked_object.commit()
        session.cache_image_embeddings(frame_idx, frame_embeddings)
        session.num_streamed = frame_idx + 1
        self._answer_prompts(frame_idx, session.objects)
        self._track(frame_idx, False)
        return frame_idx

    def look(self, frame_idx):
        """Answers the prompts that wait on a frame; of other objects there is what tracking has found."""
        self._revisit(frame_idx)
        self._restore(frame_idx, False)
        self._find_again(frame_idx, self.session.objects)
        self._answer_prompts(frame_idx, self.session.objects)

    def track(self, frame_idx, reverse):
        """Finds all objects on a frame of a video, or on one that a stream still has.

        Prompts on frames at which the memory bank looks from there are answered first, and become memory.
        """
        self._revisit(frame_idx, reverse)
        self._restore(frame_idx, reverse)
        for t, obj_ids in self._waiting_in_reach(frame_idx, reverse):
            self._answer_prompts(t, obj_ids)
        for tracked_object in self.session.objects.values():
            tracked_object.commit()
        self._track(frame_idx, reverse)

    def forget(self, frame_idx):
        """Drops what is out of reach after a frame."""
        self.session.forget(frame_idx, self.reach)

    def results(self, frame_idx):
        """Masks (O, 1, 4h, 4w), object scores (O,) and IoU (O,); objects of which nothing is known are absent."""
        nothing = torch.full((), ABSENT_LOGIT, device=self.session.inference_state_device)
        mask = nothing.expand(self.model.prompt_encoder.mask_input_size)
        absent = FrameResult(mask, torch.zeros_like(nothing), nothing, None, None)
        found = [tracked_object.result_at(frame_idx) or absent for tracked_object in self.session.objects.values()]

        def stack(name):
            # one that is left out again makes it right without any object too
            stacked = torch.stack([getattr(result, name).to(self.model.dtype) for result in (absent, *found)])[1:]
            return send(stacked, self.device)

        return stack("mask")[:, None], stack("object_score_logit"), stack("iou_score")

    def _waiting_in_reach(self, frame_idx, reverse):
        """List of (frame, ids of the objects with prompts that wait there) of frames that the memory bank looks at.

        Where nothing is forgotten these are all frames that are there.
        """
        waiting, session = {}, self.session
        for obj_id, tracked_object in session.objects.items():
            in_reach = session.image_embeddings if session.is_stream else tracked_object.prompts
            if not session.is_stream and session.num_kept is not None:
                in_reach = tracked_object.frames_in_reach(frame_idx, reverse, self.reach)
            for t in in_reach:
                if tracked_object.waiting_at(t):
                    waiting.setdefault(t, []).append(obj_id)
        return sorted(waiting.items())

    def _revisit(self, frame_idx, reverse=None):
        """Lets prompts on a frame wait again where masks were dropped; `reverse` as in `track`, which passes it now."""
        for tracked_object in self.session.objects.values():
            is_dropped = tracked_object.newest(frame_idx) and not tracked_object.result_at(frame_idx)
            if is_dropped and frame_idx in tracked_object.prompts:
                tracked_object.clear_results(frame_idx)
            if reverse is not None and tracked_object.waiting_at(frame_idx) and not tracked_object.is_new(frame_idx):
                tracked_object.pass_frame(frame_idx, reverse)

    def _restore(self, frame_idx, reverse):
        """Finds results of conditioning frames in reach anew that were dropped, as far as they need no memory."""
        objects = self.session.objects
        for t, obj_ids in self._waiting_in_reach(frame_idx, reverse):
            dropped = [obj_id for obj_id in obj_ids if objects[obj_id].newest(t) is None]
            while restored := [obj_id for obj_id in dropped if objects[obj_id].can_be_restored(t)]:
                for obj_id, result in self._answer_next(t, restored).items():
                    objects[obj_id].remember(t, result)

    def _find_again(self, frame_idx, obj_ids):
        """Tracks those objects that tracking has found on a frame before, but whose masks were dropped."""
        queries = {}
        for obj_id in obj_ids:
            tracked_object = self.session.objects[obj_id]
            waiting, reverse = tracked_object.waiting_at(frame_idx), tracked_object.direction_at(frame_idx)
            has_beginning = waiting and (waiting[0].has_mask or not tracked_object.sees_memory(frame_idx, waiting[0]))
            is_lost = reverse is not None and not tracked_object.result_at(frame_idx) and not has_beginning
            if is_lost and tracked_object.conditioning:
                queries[obj_id] = Query(None, None, tracked_object.recall(frame_idx, reverse, self.reach), False)
        for obj_id, result in zip(queries, self._answer(frame_idx, list(queries.values()))):
            self.session.objects[obj_id].remember(frame_idx, result)

    def _answer_prompts(self, frame_idx, obj_ids):
        """Stages the answers to all prompts of objects that wait on a frame, of each object one after the other."""
        objects = self.session.objects
        while waiting := [obj_id for obj_id in obj_ids if objects[obj_id].waiting_at(frame_idx)]:
            self._find_again(frame_idx, waiting)
            for obj_id, result in self._answer_next(frame_idx, waiting).items():
                objects[obj_id].stage(frame_idx, result)

    def _answer_next(self, frame_idx, obj_ids):
        """Results of the first prompts of objects that wait on a frame, by object id."""
        queries = [self._prompt_query(frame_idx, self.session.objects[obj_id]) for obj_id in obj_ids]
        return dict(zip(obj_ids, self._answer(frame_idx, queries)))

    def _prompt_query(self, frame_idx, tracked_object):
        """On a frame that tracking has not passed the object starts anew; elsewhere the prompt corrects what it found.

        A correction sees memory, and belongs to the same kind of frame as what it corrects. Clicks see the last mask.
        """
        prompt, previous = tracked_object.waiting_at(frame_idx)[0], tracked_object.result_at(frame_idx)
        sees_memory, recollection = tracked_object.sees_memory(frame_idx, prompt), None
        if sees_memory and not prompt.has_mask:
            recollection = tracked_object.recall(frame_idx, tracked_object.direction_at(frame_idx), self.reach)
        is_conditioning = not sees_memory or bool(prompt.is_conditioning)
        if (prompt.is_conditioning, prompt.sees_memory) != (is_conditioning, sees_memory):
            prompt = replace(prompt, is_conditioning=is_conditioning, sees_memory=sees_memory)
        return Query(prompt, previous and previous.mask, recollection, is_conditioning)

    def _track(self, frame_idx, reverse):
        """Finds all objects on a frame, but for those whose result there comes from a prompt."""
        objects, reach, queries = self.session.objects, self.reach, {}
        for obj_id, tracked_object in objects.items():
            result = tracked_object.result_at(frame_idx)
            if tracked_object.conditioning and not (result and result.prompt):
                queries[obj_id] = Query(None, None, tracked_object.recall(frame_idx, reverse, reach), False)
        for obj_id, result in zip(queries, self._answer(frame_idx, list(queries.values()))):
            objects[obj_id].tracked[frame_idx] = result
        for tracked_object in objects.values():
            if tracked_object.conditioning and frame_idx not in tracked_object.staged:
                tracked_object.pass_frame(frame_idx, reverse)
                if frame_idx in tracked_object.tracked:
                    tracked_object.tracked[frame_idx] = tracked_object.tracked.pop(frame_idx)

    def _answer(self, frame_idx, queries):
        """Results of queries on a frame, computed in batches of one kind."""
        results, by_kind = [None] * len(queries), {}
        for idx, query in enumerate(queries):
            by_kind.setdefault(query.kind, []).append(idx)
        size = self.session.max_objects_per_batch
        batches = [part[start : start + size] for part in by_kind.values() for start in range(0, len(part), size)]
        computed = [self._compute(frame_idx, [queries[idx] for idx in batch]) for batch in batches]
        for batch, parts in zip(batches, self._store(computed)):
            for idx, of_one in zip(batch, zip(*(part.unbind() for part in parts))):
                query = queries[idx]
                # copies, so that what is kept of one object does not keep the others
                copies = (part.clone() for part in of_one)
                results[idx] = FrameResult(*copies, query.prompt, query.is_conditioning)
        return results

    def _compute(self, frame_idx, queries):
        """Masks, IoU, object scores, pointers and memories of queries of one kind, on the device of the model."""
        frame_embeddings = self._frame_embeddings(frame_idx)
        if queries[0].has_mask_prompt:
            masks = send(torch.stack([query.prompt.mask for query in queries]), self.device)
            prediction = self.model.adopt_masks(frame_embeddings, masks)
        else:
            prediction = self._decode(frame_embeddings, queries)
        is_prompted = send(torch.tensor([query.prompt is not None for query in queries]), self.device)
        memory = self.model.encode_memory(
            frame_embeddings[-1], prediction.masks, prediction.object_score_logits, is_prompted
        )
        return *prediction, memory

    def _store(self, computed):
        """Lists of tensors where the session keeps its state.

        If that is not the GPU, a frame waits for the GPU here, once for all objects, and nowhere else.
        """
        device = torch.device(self.session.inference_state_device)
        is_copied = self.device.type == "cuda" and device.type == "cpu"
        stored = [[part.to(device, non_blocking=is_copied) for part in parts] for parts in computed]
        if is_copied:
            torch.cuda.current_stream(self.device).synchronize()
        return stored

    def _frame_embeddings(self, frame_idx):
        """Image embeddings of a frame, from the session if it has them."""
        if frame_idx not in self.session.image_embeddings:
            pixel_values = send(self.session.get_frame(frame_idx)[None], self.device)
            self.session.cache_image_embeddings(frame_idx, self.model.get_frame_embeddings(pixel_values))
        return self.session.image_embeddings[frame_idx]

    def _decode(self, frame_embeddings, queries):
        """`ObjectPrediction` of clicked, or of tracked objects."""
        if queries[0].recollection is None:
            conditioned = self.model.forget_memory(frame_embeddings[-1]).expand(len(queries), -1, -1, -1)
        else:
            memories = self._stack_memories([query.recollection for query in queries])
            conditioned = self.model.attend_to_memory(frame_embeddings[-1], memories)
        points = labels = previous_masks = None
        if queries[0].prompt is not None:
            points, labels = (
                send(pad_sequence(prompts, batch_first=True, padding_value=PADDING_LABEL)[:, None], self.device)
                for prompts in zip(*((query.prompt.points, query.prompt.labels) for query in queries))
            )
        if queries[0].previous_mask is not None:
            previous_masks = send(torch.stack([query.previous_mask for query in queries])[:, None], self.device)
            previous_masks = previous_masks.clamp(-LARGEST_PREVIOUS_LOGIT, LARGEST_PREVIOUS_LOGIT)
        num_points = torch.tensor([0 if query.prompt is None else len(query.prompt.labels) for query in queries])
        is_ambiguous = send(self.model.is_ambiguous(num_points, queries[0].recollection is not None), self.device)
        return self.model.decode_objects(frame_embeddings, conditioned, points, labels, previous_masks, is_ambiguous)

    def _stack_memories(self, recollections):
        """`Memories` of objects that remember equally many frames and pointers."""
        farthest = max(self.reach.num_pointers - 1, 1)
        time_idx, distances = ([[i for i, _ in part] for part in parts] for parts in zip(*recollections))
        none = self.model.no_object_pointer[:0].to(self.session.inference_state_device)
        features = [torch.stack([memory for _, memory in one.memories]) for one in recollections]
        pointers = [
            torch.stack([pointer for _, pointer in one.pointers]) if one.pointers else none for one in recollections
        ]
        return Memories(
            features=send(torch.stack(features), self.device),
            time_idx=send(torch.tensor(time_idx), self.device),
            pointers=send(torch.stack(pointers), self.device),
            pointer_offsets=send(torch.tensor(distances), self.device) / farthest,
        )
