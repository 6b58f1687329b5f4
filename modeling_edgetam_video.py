"""EdgeTAM on video (arXiv 2501.07256): objects are prompted on some frames and tracked through all of them.

    frame -> image embeddings, once for all objects -> attend to memory -> decode masks -> encode memory -> session

Shapes: O objects, N points, (H, W) the model input in pixels, (h, w) = (H / 16, W / 16) the image embedding, C channels
of the model, K latents of m channels that a frame leaves in memory. Objects are the batch dimension of everything that
comes after the image embeddings. Points are (x, y) in pixels of the model input.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput, logging

from .configuration_edgetam import EdgeTamVideoConfig
from .mask_decoder_edgetam import EdgeTamFeedForward
from .memory_attention_edgetam import EdgeTamMemoryAttention, Memories, grid_side
from .memory_edgetam import EdgeTamVideoInferenceSession, FrameResult, Prompt, Reach, Recollection
from .memory_encoder_edgetam import EdgeTamMemoryEncoder, EdgeTamMemoryFuserBlock, EdgeTamSpatialPerceiver
from .modeling_edgetam import EdgeTamModel
from .position_edgetam import sine_time_encoding
from .prompt_encoder_edgetam import PADDING_LABEL

if TYPE_CHECKING:  # named here so that the remote-code loader and save_pretrained take these files along
    from .attention_edgetam import EdgeTamAttention  # noqa: F401
    from .image_processing_edgetam import EdgeTamImageProcessor  # noqa: F401
    from .mask_generation_edgetam import Crop  # noqa: F401
    from .pipeline_edgetam import EdgeTamMaskGenerationPipeline  # noqa: F401
    from .repvit_edgetam import RepVitBackbone  # noqa: F401

ABSENT_LOGIT = -1024.0  # of every pixel of an object that is not in the picture
MASK_PROMPT_SCALE, MASK_PROMPT_BIAS = 20.0, -10.0  # from a given mask to logits
LARGEST_PREVIOUS_LOGIT = 32.0  # of a mask that is fed back with a new click


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
            Logit of "the object is visible".
        iou_scores (`torch.Tensor` of shape `(num_objects,)`):
            Predicted IoU of the mask with the object, in [0, 1]; 1 for a given mask.
        frame_idx (`int`):
            Index of the frame.
    """

    object_ids: list[int] | None = None
    pred_masks: torch.FloatTensor | None = None
    object_score_logits: torch.FloatTensor | None = None
    iou_scores: torch.FloatTensor | None = None
    frame_idx: int | None = None


class ObjectPrediction(NamedTuple):
    """What is predicted of objects on a frame.

    masks: low-res logits (O, 4h, 4w); iou_scores, object_score_logits: (O,); pointers: (O, C).
    """

    masks: torch.Tensor
    iou_scores: torch.Tensor
    object_score_logits: torch.Tensor
    pointers: torch.Tensor


class Query(NamedTuple):
    """What to find out: the mask of an object on a frame, from a prompt, an earlier mask on it, and memory."""

    prompt: Prompt | None
    previous_mask: torch.Tensor | None
    recollection: Recollection | None
    is_conditioning: bool

    @property
    def kind(self):
        """Queries of the same kind can be computed at once."""
        has_mask = self.prompt is not None and self.prompt.mask is not None
        if has_mask:
            return ("mask",)
        counts = None if self.recollection is None else tuple(len(part) for part in self.recollection)
        return ("prompt" if self.prompt else "track", self.previous_mask is not None, counts)


class EdgeTamVideoModel(EdgeTamModel):
    """EdgeTAM on video.

    Five stages are functions of tensors alone, through which gradients flow and which can be compiled and exported:
    `get_frame_embeddings`, `attend_to_memory`, `decode_objects` (or `adopt_masks`) and `encode_memory`. `forward` and
    `propagate_in_video_iterator` chain them, and keep all state in the session that they are given.
    """

    config_class = EdgeTamVideoConfig
    input_modalities = ("video",)
    _no_split_modules = [  # noqa: RUF012
        *EdgeTamModel._no_split_modules,
        "EdgeTamMemoryAttentionLayer",
        "EdgeTamMemoryFuserBlock",
        "EdgeTamPerceiverLayer",
    ]
    _large_parts = (*EdgeTamModel._large_parts, "memory_attention", "memory_encoder")
    _small_parts = (
        *EdgeTamModel._small_parts,
        "spatial_perceiver",
        "object_pointer_proj",
        "mask_downsample",
        "temporal_positional_encoding_projection_layer",
        "no_memory_positional_encoding",
        "memory_temporal_positional_encoding",
        "no_object_pointer",
        "occlusion_spatial_embedding_parameter",
    )
    _keys_to_ignore_on_load_unexpected = []  # noqa: RUF012

    def _build(self, config):
        super()._build(config)
        size, memory_size = config.vision_config.fpn_hidden_size, config.memory_encoder_output_channels
        height, width = self.prompt_encoder.image_embedding_size
        side = grid_side(config)
        if height % side or width % side:
            raise ValueError(
                f"image_size of a video model must be a multiple of {16 * side}, or (height, width) of such multiples, "
                f"because a grid of {side} x {side} latents covers the picture, got {config.image_size}"
            )
        self.memory_attention = EdgeTamMemoryAttention(config)
        self.memory_encoder = EdgeTamMemoryEncoder(config)
        self.spatial_perceiver = EdgeTamSpatialPerceiver(config)
        self.object_pointer_proj = EdgeTamFeedForward(size, size, size, num_layers=3)
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.no_memory_positional_encoding = nn.Parameter(torch.zeros(1, 1, size))  # in checkpoints, but of no use
        self.memory_temporal_positional_encoding = nn.Parameter(torch.zeros(config.num_maskmem, 1, 1, memory_size))
        self.no_object_pointer = nn.Parameter(torch.zeros(1, size))
        if config.enable_temporal_pos_encoding_for_object_pointers:
            self.temporal_positional_encoding_projection_layer = nn.Linear(size, memory_size)
        if config.enable_occlusion_spatial_embedding:
            self.occlusion_spatial_embedding_parameter = nn.Parameter(torch.zeros(1, memory_size))

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, EdgeTamSpatialPerceiver):
            nn.init.normal_(module.latents_1d)
            nn.init.normal_(module.latents_2d)
        elif isinstance(module, EdgeTamMemoryFuserBlock):
            nn.init.constant_(module.scale, self.config.memory_fuser_layer_scale_init_value)
        elif isinstance(module, EdgeTamVideoModel):
            nn.init.zeros_(module.no_memory_positional_encoding)
            nn.init.normal_(module.memory_temporal_positional_encoding, std=self.config.initializer_range)
            nn.init.normal_(module.no_object_pointer, std=self.config.initializer_range)
            if self.config.enable_occlusion_spatial_embedding:
                nn.init.normal_(module.occlusion_spatial_embedding_parameter, std=self.config.initializer_range)

    # Stages

    def get_frame_embeddings(self, pixel_values):
        """List of the maps of stride 4, 8 and 16 of frames (B, 3, H, W), before they attend to any memory."""
        return self._encode_frame(pixel_values)[0]

    def attend_to_memory(self, frame_embedding, memories):
        """The map of stride 16, (O, C, h, w), as seen by objects that remember `memories`.

        Args:
            frame_embedding: (1, C, h, w), the last of `get_frame_embeddings`.
            memories: `Memories`.
        """
        time_encoding = self.memory_temporal_positional_encoding[:, 0, 0][memories.time_idx]
        if self.config.enable_temporal_pos_encoding_for_object_pointers:
            encoding = sine_time_encoding(memories.pointer_offsets, memories.pointers.shape[-1])
            pointer_encoding = self.temporal_positional_encoding_projection_layer(encoding.to(time_encoding.dtype))
        else:
            pointer_encoding = time_encoding.new_zeros(*memories.pointers.shape[:2], time_encoding.shape[-1])
        return self.memory_attention(frame_embedding, memories, time_encoding, pointer_encoding)

    def decode_objects(self, frame_embeddings, conditioned, points, labels, previous_masks, is_ambiguous):
        """`ObjectPrediction` of prompted or tracked objects.

        Args:
            frame_embeddings: what `get_frame_embeddings` returned, batch size 1.
            conditioned: (O, C, h, w), the map of stride 16 after `attend_to_memory`.
            points, labels: (O, 1, N, 2) and (O, 1, N) as for `EdgeTamModel.forward`, or `None` to track.
            previous_masks: logits (O, 1, 4h, 4w) of an earlier mask on the same frame, or `None`.
            is_ambiguous: bool (O,), whether to choose the best of three masks, or to take the single one.
        """
        prompts = self.prompt_encoder(points, labels, None, previous_masks, len(conditioned), conditioned.device)
        prediction = self.mask_decoder(
            [*frame_embeddings[:2], conditioned], self.get_image_wide_positional_embeddings(), prompts
        )
        single, single_iou = self.mask_decoder.single_mask(prediction)
        best, best_iou, best_token = self.mask_decoder.best_mask(prediction)
        is_ambiguous = is_ambiguous[:, None, None]
        masks = torch.where(is_ambiguous[..., None, None], best, single)[:, 0, 0]
        iou_scores = torch.where(is_ambiguous, best_iou, single_iou)[:, 0, 0]
        tokens = torch.where(is_ambiguous[..., None], best_token, prediction.mask_tokens[:, :, :1])[:, 0, 0]
        scores = prediction.object_score_logits[:, 0, 0]
        return ObjectPrediction(
            masks=masks.masked_fill(scores[:, None, None] <= 0, ABSENT_LOGIT),
            iou_scores=iou_scores,
            object_score_logits=scores,
            pointers=self._pointers(tokens, scores > 0),
        )

    def adopt_masks(self, frame_embeddings, masks):
        """`ObjectPrediction` of objects whose masks are given; an empty mask says that the object is absent.

        As `_use_mask_as_output` of the original release, which looks at the frame only for the object pointers.

        Args:
            frame_embeddings: what `get_frame_embeddings` returned, batch size 1.
            masks: bool (O, H, W).
        """
        masks = masks[:, None].to(frame_embeddings[-1].dtype)
        conditioned = frame_embeddings[-1].expand(len(masks), -1, -1, -1)
        is_ambiguous = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
        decoded = self.decode_objects(
            frame_embeddings, conditioned, None, None, self.mask_downsample(masks), is_ambiguous
        )
        is_present = masks.flatten(1).any(dim=1)
        logits = (masks * MASK_PROMPT_SCALE + MASK_PROMPT_BIAS).float()
        size = self.prompt_encoder.mask_input_size
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=False, antialias=True)
        return ObjectPrediction(
            masks=logits[:, 0].to(masks.dtype),
            iou_scores=masks.new_ones(len(masks)),
            object_score_logits=is_present * MASK_PROMPT_SCALE + MASK_PROMPT_BIAS,
            pointers=torch.where(is_present[:, None], decoded.pointers, self.no_object_pointer),
        )

    def _pointers(self, tokens, is_present):
        """Object pointers (O, C) of mask tokens (O, C)."""
        return torch.where(is_present[:, None], self.object_pointer_proj(tokens), self.no_object_pointer)

    def encode_memory(self, frame_embedding, masks, object_score_logits, is_prompted):
        """Memory (O, K, m) that a frame leaves.

        Args:
            frame_embedding: (1, C, h, w), the last of `get_frame_embeddings`.
            masks: low-res logits (O, 4h, 4w).
            object_score_logits: (O,).
            is_prompted: bool (O,); masks of prompted objects are remembered without shades (in eval mode).
        """
        size = self.prompt_encoder.image_size
        logits = F.interpolate(masks[:, None].float(), size, mode="bilinear", align_corners=False)
        shares = logits.sigmoid()
        if not self.training:
            shares = torch.where(is_prompted[:, None, None, None], (logits > 0).float(), shares)
        shares = shares * self.config.sigmoid_scale_for_mem_enc + self.config.sigmoid_bias_for_mem_enc
        memory = self.memory_encoder(frame_embedding, shares.to(frame_embedding.dtype))
        if self.config.enable_occlusion_spatial_embedding:
            is_absent = (object_score_logits <= 0)[:, None, None, None]
            memory = memory + is_absent * self.occlusion_spatial_embedding_parameter[..., None, None]
        return self.spatial_perceiver(memory)

    # Tracking

    def forward(
        self,
        inference_session: EdgeTamVideoInferenceSession,
        frame_idx: int | None = None,
        frame: torch.FloatTensor | None = None,
        reverse: bool = False,
        return_dict: bool | None = None,
    ):
        """Masks of all objects on one frame, as an `EdgeTamVideoSegmentationOutput`.

        Where prompts wait on the frame they are answered, and other objects of a video are left as they are. Otherwise,
        and on every new frame of a stream, objects are tracked; what a prompt has decided stays. Gradients are recorded
        in training mode only, so that a session does not grow.

        Args:
            inference_session (`EdgeTamVideoInferenceSession`):
                From `EdgeTamVideoProcessor.init_video_session`.
            frame_idx (`int`, *optional*):
                The frame; needed unless `frame` is given.
            frame (`torch.Tensor` of shape `(3, H, W)`, *optional*):
                Pixel values of the next frame of a stream.
            reverse (`bool`, *optional*, defaults to `False`):
                Whether tracking goes back in time.
            return_dict (`bool`, *optional*):
                As everywhere in Transformers.

        Raises:
            ValueError: for a frame outside the video, of another size or that is gone; a session of another image size.
            TypeError: for a session of another class.
        """
        session = inference_session
        self._check_session(session)
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            if frame is not None:
                frame_idx = self._receive_frame(session, frame, frame_idx)
            elif frame_idx is None:
                raise ValueError("give frame_idx, or in a stream the next frame")
            session.check_frame(frame_idx)
            is_prompted = frame_idx in session.pending_frames()
            if is_prompted:
                self._answer_prompts(session, frame_idx)
            elif frame is None:
                self._start_tracking(session)
            if frame is not None or not is_prompted:
                self._track(session, frame_idx, reverse)
            output = self._collect(session, frame_idx)
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def propagate_in_video_iterator(
        self,
        inference_session: EdgeTamVideoInferenceSession,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
        show_progress_bar: bool = False,
    ) -> Iterator[EdgeTamVideoSegmentationOutput]:
        """Masks of all objects on frame after frame of a video; see `forward`.

        Args:
            inference_session (`EdgeTamVideoInferenceSession`):
                With a whole video and at least one prompt.
            start_frame_idx (`int`, *optional*, defaults to the earliest frame that was prompted before tracking):
                The first frame.
            max_frame_num_to_track (`int`, *optional*, defaults to all):
                How many frames to go on after the first one.
            reverse (`bool`, *optional*, defaults to `False`):
                Whether to go back in time.
            show_progress_bar (`bool`, *optional*, defaults to `False`):
                Whether to show one.
        """
        session = inference_session
        self._check_session(session)
        if session.is_stream:
            raise ValueError("a stream keeps no frames to propagate through: give them one by one, model(…, frame=…)")
        if start_frame_idx is not None:
            session.check_frame(start_frame_idx)
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            self._start_tracking(session)
        prompted = [t for tracked_object in session.objects.values() for t in tracked_object.conditioning]
        if not prompted:
            raise ValueError("no object has a prompt yet: call processor.add_inputs_to_inference_session first")
        start = min(prompted) if start_frame_idx is None else start_frame_idx
        count = session.num_frames if max_frame_num_to_track is None else max_frame_num_to_track
        if reverse:
            frames = range(start, max(start - count, 0) - 1, -1) if start > 0 else range(0)
        else:
            frames = range(start, min(start + count, session.num_frames - 1) + 1)
        for frame_idx in logging.tqdm(frames, desc="propagate in video", disable=not show_progress_bar):
            yield self(session, frame_idx=frame_idx, reverse=reverse, return_dict=True)

    def _check_session(self, session):
        if not hasattr(session, "finish_round"):  # remote code may have several copies of the session's class
            raise TypeError(
                "inference_session must come from EdgeTamVideoProcessor.init_video_session, got "
                f"{type(session).__name__}; sessions of Transformers' own Sam2VideoProcessor do not fit"
            )
        size = self.prompt_encoder.image_size
        if session.image_size is not None and tuple(session.image_size) != size:
            raise ValueError(
                f"the session was made for an image size of {tuple(session.image_size)}, the model has {size}; load "
                "both with the same image_size, or give the processor size={'height': …, 'width': …}"
            )

    def _receive_frame(self, session, frame, frame_idx):
        """Index of a new frame of a stream, whose image embeddings the session now has."""
        frame_idx = session.next_frame_idx(frame_idx)
        frame = frame[None] if getattr(frame, "ndim", 0) == 3 else frame
        if getattr(frame, "ndim", 0) != 4 or len(frame) != 1:
            shape = tuple(getattr(frame, "shape", ())) or type(frame).__name__
            raise ValueError(f"frame must be a tensor of shape (3, height, width), got {shape}; use the processor")
        frame_embeddings = self.get_frame_embeddings(frame.to(device=self.device))
        self._start_tracking(session)
        session.cache_image_embeddings(frame_idx, frame_embeddings)
        session.num_streamed = frame_idx + 1
        return frame_idx

    def _start_tracking(self, session):
        """Answers the prompts that wait on frames that are there, and lets all answers become memory."""
        for frame_idx in session.pending_frames():
            if frame_idx < session.num_frames:
                self._answer_prompts(session, frame_idx)
        session.commit()

    def _answer_prompts(self, session, frame_idx):
        """Computes the results of all prompts that wait on a frame, of each object one after the other."""
        while waiting := session.next_round(frame_idx):
            queries = [self._prompt_query(session, frame_idx, obj_id, prompt) for obj_id, prompt in waiting.items()]
            results = self._answer(session, frame_idx, queries)
            session.finish_round(frame_idx, dict(zip(waiting, results)))

    def _prompt_query(self, session, frame_idx, obj_id, prompt):
        """On a frame that tracking has not passed the object starts anew; elsewhere the prompt corrects what it found.

        A correction sees memory, and belongs to the same kind of frame as what it corrects. Clicks see the last mask.
        """
        tracked_object = session.objects[obj_id]
        previous = tracked_object.result_at(frame_idx)
        is_correction = frame_idx in tracked_object.directions and bool(tracked_object.conditioning)
        recollection = None
        if is_correction:
            reverse = tracked_object.directions[frame_idx]
            recollection = tracked_object.recall(frame_idx, reverse, self._reach(session))
        is_conditioning = not is_correction or frame_idx in tracked_object.conditioning
        return Query(prompt, previous.mask if previous else None, recollection, is_conditioning)

    def _track(self, session, frame_idx, reverse):
        """Finds all objects on a frame, but for those whose result there comes from a prompt."""
        reach, found = self._reach(session), {}
        for obj_id, tracked_object in session.objects.items():
            result = tracked_object.result_at(frame_idx)
            if tracked_object.conditioning and not (result and result.is_prompted):
                found[obj_id] = Query(None, None, tracked_object.recall(frame_idx, reverse, reach), False)
        results = self._answer(session, frame_idx, list(found.values()))
        for obj_id, result in zip(found, results):
            session.objects[obj_id].tracked[frame_idx] = result
        for tracked_object in session.objects.values():
            if tracked_object.conditioning:
                tracked_object.directions[frame_idx] = reverse
        session.forget(frame_idx, reach)

    def _reach(self, session):
        config = self.config
        num_pointers = config.max_object_pointers_in_encoder
        if not session.is_stream:
            num_pointers = min(num_pointers, session.num_frames)
        return Reach(config.num_maskmem, num_pointers, config.max_cond_frame_num)

    def _answer(self, session, frame_idx, queries):
        """Results of queries on a frame, computed in batches of one kind."""
        results, by_kind = [None] * len(queries), {}
        for idx, query in enumerate(queries):
            by_kind.setdefault(query.kind, []).append(idx)
        for indices in by_kind.values():
            for start in range(0, len(indices), session.max_objects_per_batch):
                chunk = indices[start : start + session.max_objects_per_batch]
                for idx, result in zip(chunk, self._answer_batch(session, frame_idx, [queries[i] for i in chunk])):
                    results[idx] = result
        return results

    def _answer_batch(self, session, frame_idx, queries):
        """Results of queries of one kind."""
        frame_embeddings = self._frame_embeddings(session, frame_idx)
        if queries[0].kind == ("mask",):
            masks = torch.stack([query.prompt.mask for query in queries]).to(self.device)
            prediction = self.adopt_masks(frame_embeddings, masks)
        else:
            prediction = self._decode_batch(session, frame_embeddings, queries)
        is_prompted = torch.tensor([query.prompt is not None for query in queries], device=self.device)
        memory = self.encode_memory(frame_embeddings[-1], prediction.masks, prediction.object_score_logits, is_prompted)
        parts = [part.to(session.inference_state_device).unbind() for part in (*prediction, memory)]
        return [
            # copies, so that what is kept of one object does not keep the others
            FrameResult(*(part.clone() for part in of_one), query.prompt is not None, query.is_conditioning)
            for query, of_one in zip(queries, zip(*parts))
        ]

    def _decode_batch(self, session, frame_embeddings, queries):
        """`ObjectPrediction` of clicked and of tracked objects."""
        if queries[0].recollection is None:
            conditioned = self._without_memory(frame_embeddings[-1]).expand(len(queries), -1, -1, -1)
        else:
            memories = self._stack_memories(session, [query.recollection for query in queries])
            conditioned = self.attend_to_memory(frame_embeddings[-1], memories)
        points = labels = previous_masks = None
        if queries[0].prompt is not None:
            pad = {"batch_first": True, "padding_value": PADDING_LABEL}
            points = nn.utils.rnn.pad_sequence([q.prompt.points for q in queries], **pad)[:, None].to(self.device)
            labels = nn.utils.rnn.pad_sequence([q.prompt.labels for q in queries], **pad)[:, None].to(self.device)
        if queries[0].previous_mask is not None:
            previous_masks = torch.stack([query.previous_mask for query in queries])[:, None].to(self.device)
            previous_masks = previous_masks.clamp(-LARGEST_PREVIOUS_LOGIT, LARGEST_PREVIOUS_LOGIT)
        is_ambiguous = torch.tensor([self._is_ambiguous(query) for query in queries], device=self.device)
        return self.decode_objects(frame_embeddings, conditioned, points, labels, previous_masks, is_ambiguous)

    def _is_ambiguous(self, query):
        config = self.config
        num_points = 0 if query.prompt is None else len(query.prompt.labels)
        is_allowed = query.recollection is None or config.multimask_output_for_tracking
        is_few = config.multimask_min_pt_num <= num_points <= config.multimask_max_pt_num
        return config.multimask_output_in_sam and is_allowed and is_few

    def _stack_memories(self, session, recollections):
        """`Memories` of objects that remember equally many frames and pointers."""
        last = max(self._reach(session).num_pointers - 1, 1)
        rows, distances = ([[i for i, _ in part] for part in parts] for parts in zip(*recollections))
        none = self.no_object_pointer[:0].to(session.inference_state_device)
        features = [torch.stack([memory for _, memory in r.memories]) for r in recollections]
        pointers = [torch.stack([p for _, p in r.pointers]) if r.pointers else none for r in recollections]
        return Memories(
            features=torch.stack(features).to(self.device),
            time_idx=torch.tensor(rows, device=self.device),
            pointers=torch.stack(pointers).to(self.device),
            pointer_offsets=torch.tensor(distances, device=self.device) / last,
        )

    def _frame_embeddings(self, session, frame_idx):
        """Image embeddings of a frame, from the session if it has them."""
        if frame_idx not in session.image_embeddings:
            pixel_values = session.get_frame(frame_idx)[None].to(self.device)
            session.cache_image_embeddings(frame_idx, self.get_frame_embeddings(pixel_values))
        return session.image_embeddings[frame_idx]

    def _collect(self, session, frame_idx):
        """The output for a frame; objects of which nothing is known there are absent."""
        mask = torch.full(self.prompt_encoder.mask_input_size, ABSENT_LOGIT)
        absent = FrameResult(mask, torch.tensor(0.0), torch.tensor(ABSENT_LOGIT), None, None, False, False)
        results = [tracked_object.result_at(frame_idx) or absent for tracked_object in session.objects.values()]

        def stack(values):
            return torch.stack([value.to(device=self.device, dtype=self.dtype) for value in values])

        return EdgeTamVideoSegmentationOutput(
            object_ids=session.obj_ids,
            pred_masks=stack([r.mask for r in results])[:, None] if results else mask.new_zeros(0, 1, *mask.shape),
            object_score_logits=stack([r.object_score_logit for r in results]) if results else mask.new_zeros(0),
            iou_scores=stack([r.iou_score for r in results]) if results else mask.new_zeros(0),
            frame_idx=frame_idx,
        )
