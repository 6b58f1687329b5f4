"""One step of tracking: which objects of a session have to be found on a frame, and from what.

Shapes: O objects, (H, W) the model input in pixels, (h, w) = (H / 16, W / 16) the image embedding, C channels.
"""

from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from .device_edgetam import send
from .memory_attention_edgetam import Memories
from .memory_edgetam import FrameResult, Prompt, Reach, Recollection
from .prompt_encoder_edgetam import LARGEST_PREVIOUS_LOGIT, PADDING_LABEL

ABSENT_LOGIT = -1024.0  # of every pixel of an object that is not in the picture


class Query(NamedTuple):
    """What to find out: the mask of an object on a frame, from a prompt, an earlier mask on it, and memory."""

    prompt: Prompt | None
    previous_mask: torch.Tensor | None
    recollection: Recollection | None
    is_conditioning: bool

    @property
    def has_mask_prompt(self):
        return self.prompt is not None and self.prompt.mask is not None

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
        session: `EdgeTamVideoInferenceSession`.
    """

    def __init__(self, model, session):
        self.model, self.session, self.device = model, session, model.device

    @property
    def reach(self):
        """How far the memory bank reaches; there are never more pointers than frames."""
        config, session = self.model.config, self.session
        num_pointers = config.max_object_pointers_in_encoder
        if not session.is_stream:
            num_pointers = min(num_pointers, session.num_frames)
        return Reach(config.num_maskmem, num_pointers, config.max_cond_frame_num)

    def receive_frame(self, frame, frame_idx):
        """Index of a new frame of a stream, pixel values (3, H, W), whose image embeddings the session then has."""
        frame_idx = self.session.next_frame_idx(frame_idx)
        frame = frame[None] if getattr(frame, "ndim", 0) == 3 else frame
        if getattr(frame, "ndim", 0) != 4 or len(frame) != 1:
            shape = tuple(getattr(frame, "shape", ())) or type(frame).__name__
            raise ValueError(f"frame must be a tensor of shape (3, height, width), got {shape}; use the processor")
        frame_embeddings = self.model.get_frame_embeddings(send(frame, self.device))
        self.start()
        self.session.cache_image_embeddings(frame_idx, frame_embeddings)
        self.session.num_streamed = frame_idx + 1
        return frame_idx

    def process(self, frame_idx, reverse, is_new):
        """Answers the prompts that wait on a frame; without any, and on a new frame, tracks the other objects."""
        self.session.check_frame(frame_idx)
        is_prompted = frame_idx in self.session.pending_frames()
        if is_prompted:
            self._answer_prompts(frame_idx)
        elif not is_new:
            self.start()
        if is_new or not is_prompted:
            self._track(frame_idx, reverse)

    def start(self):
        """Answers the prompts that wait on frames that are there, and lets all answers become memory."""
        for frame_idx in self.session.pending_frames():
            if frame_idx < self.session.num_frames:
                self._answer_prompts(frame_idx)
        self.session.commit()

    def results(self, frame_idx):
        """Masks (O, 1, 4h, 4w), object scores (O,) and IoU (O,); objects of which nothing is known are absent."""
        nothing = torch.full((), ABSENT_LOGIT, device=self.session.inference_state_device)
        mask = nothing.expand(self.model.prompt_encoder.mask_input_size)
        absent = FrameResult(mask, torch.zeros_like(nothing), nothing, None, None, False, False)
        found = [tracked_object.result_at(frame_idx) or absent for tracked_object in self.session.objects.values()]

        def stack(name):
            # one that is left out again makes it right without any object too
            stacked = torch.stack([getattr(result, name).to(self.model.dtype) for result in (absent, *found)])[1:]
            return send(stacked, self.device)

        return stack("mask")[:, None], stack("object_score_logit"), stack("iou_score")

    def _answer_prompts(self, frame_idx):
        """Computes the results of all prompts that wait on a frame, of each object one after the other."""
        while waiting := self.session.next_round(frame_idx):
            queries = [self._prompt_query(frame_idx, obj_id, prompt) for obj_id, prompt in waiting.items()]
            results = self._answer(frame_idx, queries)
            self.session.finish_round(frame_idx, dict(zip(waiting, results)))

    def _prompt_query(self, frame_idx, obj_id, prompt):
        """On a frame that tracking has not passed the object starts anew; elsewhere the prompt corrects what it found.

        A correction sees memory, and belongs to the same kind of frame as what it corrects. Clicks see the last mask.
        """
        tracked_object = self.session.objects[obj_id]
        previous = tracked_object.result_at(frame_idx)
        is_correction = frame_idx in tracked_object.directions and bool(tracked_object.conditioning)
        recollection = None
        if is_correction:
            recollection = tracked_object.recall(frame_idx, tracked_object.directions[frame_idx], self.reach)
        is_conditioning = not is_correction or frame_idx in tracked_object.conditioning
        return Query(prompt, previous.mask if previous else None, recollection, is_conditioning)

    def _track(self, frame_idx, reverse):
        """Finds all objects on a frame, but for those whose result there comes from a prompt."""
        reach, queries = self.reach, {}
        for obj_id, tracked_object in self.session.objects.items():
            result = tracked_object.result_at(frame_idx)
            if tracked_object.conditioning and not (result and result.is_prompted):
                queries[obj_id] = Query(None, None, tracked_object.recall(frame_idx, reverse, reach), False)
        for obj_id, result in zip(queries, self._answer(frame_idx, list(queries.values()))):
            self.session.objects[obj_id].tracked[frame_idx] = result
        for tracked_object in self.session.objects.values():
            if tracked_object.conditioning:
                tracked_object.directions[frame_idx] = reverse
        self.session.forget(frame_idx, reach)

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
                results[idx] = FrameResult(*copies, query.prompt is not None, query.is_conditioning)
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
