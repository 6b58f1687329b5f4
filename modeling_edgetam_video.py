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

from .base_edgetam import EdgeTamBaseModel
from .checks_edgetam_video import check_count, check_pixels, read_flag
from .configuration_edgetam import EdgeTamVideoConfig
from .layers_edgetam import EdgeTamFeedForward
from .memory_layers_edgetam import (
    EdgeTamMemoryAttention,
    EdgeTamMemoryEncoder,
    EdgeTamMemoryFuserBlock,
    EdgeTamSpatialPerceiver,
    grid_side,
)
from .position_edgetam import sine_time_encoding
from .prompts_edgetam import Prompts
from .session_edgetam import EdgeTamVideoInferenceSession
from .tracking_edgetam import ABSENT_LOGIT, Tracker
from .training_edgetam_video import learn_from_clips

if TYPE_CHECKING:  # named here so that the remote-code loader and save_pretrained take these files along
    from .attention_edgetam import EdgeTamAttention  # noqa: F401
    from .checks_edgetam import check_prompts  # noqa: F401
    from .device_edgetam import send  # noqa: F401
    from .folding_edgetam import FoldedModule  # noqa: F401
    from .image_processing_edgetam import EdgeTamImageProcessor  # noqa: F401
    from .losses_edgetam import LossWeights  # noqa: F401
    from .mask_candidates_edgetam import MaskCandidates  # noqa: F401
    from .mask_decoder_edgetam import EdgeTamMaskDecoder  # noqa: F401
    from .mask_generation_edgetam import Crop  # noqa: F401
    from .mask_labels_edgetam import read_objects  # noqa: F401
    from .modeling_edgetam import EdgeTamModel  # noqa: F401
    from .pictures_edgetam import read_picture  # noqa: F401
    from .pipeline_edgetam import EdgeTamMaskGenerationPipeline  # noqa: F401
    from .pretrained_edgetam import EdgeTamPreTrainedModel  # noqa: F401
    from .prompt_encoder_edgetam import EdgeTamPromptEncoder  # noqa: F401
    from .prompt_simulation_edgetam import PromptSimulation  # noqa: F401
    from .repvit_edgetam import RepVitBackbone  # noqa: F401
    from .settings_edgetam import height_width  # noqa: F401
    from .training_edgetam import check_labels  # noqa: F401
    from .vision_encoder_edgetam import EdgeTamVisionModel  # noqa: F401

MASK_PROMPT_SCALE, MASK_PROMPT_BIAS = 20.0, -10.0  # from a given mask to logits


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


class EdgeTamVideoModel(EdgeTamBaseModel):
    """EdgeTAM on video.

    Five stages are functions of tensors alone, through which gradients flow and which can be compiled and exported:
    `get_frame_embeddings`, `attend_to_memory`, `decode_objects` (or `adopt_masks`) and `encode_memory`. `forward` and
    `propagate_in_video_iterator` chain them, and keep all state in the session that they are given.
    """

    config_class = EdgeTamVideoConfig
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)
    _no_split_modules = [  # noqa: RUF012
        *EdgeTamBaseModel._no_split_modules,
        "EdgeTamMemoryAttentionLayer",
        "EdgeTamMemoryFuserBlock",
        "EdgeTamPerceiverLayer",
    ]
    _large_parts = (*EdgeTamBaseModel._large_parts, "memory_attention", "memory_encoder")
    _parts_of_objects = (
        *EdgeTamBaseModel._parts_of_objects,
        "memory_attention",
        "memory_encoder",
        "spatial_perceiver",
    )
    _small_parts = (
        *EdgeTamBaseModel._small_parts,
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

    def __init__(self, config: EdgeTamVideoConfig):
        super().__init__(config)
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
        # in checkpoints, but of no use: nothing waits for its gradient
        self.no_memory_positional_encoding = nn.Parameter(torch.zeros(1, 1, size), requires_grad=False)
        self.memory_temporal_positional_encoding = nn.Parameter(torch.zeros(config.num_maskmem, 1, 1, memory_size))
        self.no_object_pointer = nn.Parameter(torch.zeros(1, size))
        if config.enable_temporal_pos_encoding_for_object_pointers:
            self.temporal_positional_encoding_projection_layer = nn.Linear(size, memory_size)
        if config.enable_occlusion_spatial_embedding:
            self.occlusion_spatial_embedding_parameter = nn.Parameter(torch.zeros(1, memory_size))
        self.post_init()

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

    def get_frame_embeddings(self, pixel_values):
        """List of the maps of stride 4, 8 and 16 of frames (B, 3, H, W), before they attend to any memory."""
        return list(self._encode_frame(pixel_values).fpn_hidden_states)

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
        prediction = self.predict_masks(frame_embeddings, conditioned, points, labels, previous_masks)
        return self.choose_masks(prediction, is_ambiguous)

    def predict_masks(self, frame_embeddings, conditioned, points, labels, previous_masks):
        """`MaskPrediction` (O, 1, …) with all masks; see `decode_objects`."""
        prompts = Prompts(points, labels, masks=previous_masks)
        return self.decode_prompts([*frame_embeddings[:2], conditioned], prompts)

    def choose_masks(self, prediction, is_ambiguous):
        """`ObjectPrediction` of a `MaskPrediction` (O, 1, …); is_ambiguous as for `decode_objects`."""
        chosen = self.mask_decoder.choose_masks(prediction, is_ambiguous[:, None])
        masks, iou_scores, tokens = (part[:, 0] for part in chosen)
        scores = prediction.object_score_logits[:, 0, 0]
        return ObjectPrediction(
            masks=masks.masked_fill(scores[:, None, None] <= 0, ABSENT_LOGIT),
            iou_scores=iou_scores,
            object_score_logits=scores,
            pointers=self._pointers(tokens, scores > 0),
        )

    def is_ambiguous(self, num_points, has_memory):
        """Whether so few clicks may mean several things, so that the best of three masks is taken.

        Args:
            num_points: integer, or a tensor of such.
            has_memory: whether the object was seen on other frames.
        """
        config = self.config
        is_allowed = config.multimask_output_in_sam and (not has_memory or config.multimask_output_for_tracking)
        is_few = (num_points >= config.multimask_min_pt_num) & (num_points <= config.multimask_max_pt_num)
        return is_few & is_allowed

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

    def forward(
        self,
        inference_session: EdgeTamVideoInferenceSession | None = None,
        frame_idx: int | None = None,
        frame: torch.FloatTensor | None = None,
        reverse: bool = False,
        return_dict: bool | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        mask_labels: torch.Tensor | None = None,
        prompt_seeds: torch.LongTensor | None = None,
    ):
        """Masks of all objects on one frame of a session, as an `EdgeTamVideoSegmentationOutput`.

        With `pixel_values_videos` and `mask_labels` instead of a session: the loss on clips, as an `EdgeTamClipOutput`.

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
            pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, 3, H, W)`, *optional*):
                Clips to learn from. Users are simulated as `prompt_simulation` says, an attribute of the model.
            mask_labels (`torch.Tensor` of shape `(batch_size, num_frames, num_objects, H, W)`, *optional*):
                Their true masks: 1 on the object, 0 elsewhere, -1 everywhere for an object that only fills up the
                batch.
            prompt_seeds (`torch.Tensor` of shape `(batch_size,)`, *optional*):
                Integers that decide what is drawn for each clip; by default PyTorch's global generator does.

        Whatever is raised, here or inside of the model, the session stays as it was, and the call can be repeated.

        Raises:
            ValueError: for a frame outside the video, of another size, with NaN or that is gone; a frame of a stream
                that would leave out one on which an object was prompted; a session of another image size.
            TypeError: for a session of another class, an index that is no integer, and a frame of integers.
        """
        return_dict = self.config.return_dict if return_dict is None else read_flag(return_dict, "return_dict")
        if mask_labels is not None or pixel_values_videos is not None:
            if inference_session is not None:
                raise ValueError(
                    "give either an inference_session, or pixel_values_videos with mask_labels to learn from"
                )
            output = learn_from_clips(self, pixel_values_videos, mask_labels, prompt_seeds)
            return output if return_dict else output.to_tuple()
        self._check_session(inference_session)
        reverse = read_flag(reverse, "reverse")
        if frame is not None:
            frame = self._read_frame(inference_session, frame)
        elif frame_idx is None:
            raise ValueError("give frame_idx, or in a stream the next frame")
        else:
            frame_idx = inference_session.check_present(frame_idx)
        is_look = frame is None and inference_session.is_new(frame_idx)
        output = self._step(inference_session, frame_idx, frame, reverse, is_look)
        return output if return_dict else output.to_tuple()

    def _step(self, session, frame_idx, frame, reverse, is_look):
        """The output of one frame; the session changes at the very end, so that an error leaves it as it was."""
        with session.lock, torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            draft = session.draft()
            tracker = Tracker(self, draft)
            if frame is not None:
                frame_idx = tracker.receive(frame, frame_idx)
            elif is_look:
                tracker.look(frame_idx)
            else:
                tracker.track(frame_idx, reverse)
            masks, scores, iou_scores = tracker.results(frame_idx)
            tracker.forget(frame_idx)
            output = EdgeTamVideoSegmentationOutput(draft.obj_ids, masks, scores, iou_scores, frame_idx)
            session.adopt(draft)
        return output

    def _read_frame(self, session, frame):
        """Pixel values (1, 3, H, W) of the next frame of a stream; raises a TypeError or a ValueError for others."""
        session.next_frame_idx()
        frame = frame[None] if getattr(frame, "ndim", 0) == 3 else frame
        size = (1, self.config.vision_config.backbone_config["model_args"]["in_chans"])
        if not isinstance(frame, torch.Tensor) or tuple(frame.shape[:2]) != size or frame.ndim != 4:
            shape = tuple(getattr(frame, "shape", ())) or type(frame).__name__
            raise ValueError(f"frame must be a tensor of shape (3, height, width), got {shape}; use the processor")
        check_pixels(frame, "frame")
        return frame

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

        Raises:
            ValueError: for a stream, a session without prompts, and a first frame outside the video.
            TypeError: for a session of another class, and for numbers and flags that are none.
        """
        session = inference_session
        self._check_session(session)
        if session.is_stream:
            raise ValueError("a stream keeps no frames to propagate through: give them one by one, model(…, frame=…)")
        if start_frame_idx is not None:
            start_frame_idx = session.check_frame(start_frame_idx)
        count = session.num_frames
        if max_frame_num_to_track is not None:
            count = check_count(max_frame_num_to_track, "max_frame_num_to_track", 0)
        reverse, is_shown = read_flag(reverse, "reverse"), read_flag(show_progress_bar, "show_progress_bar")
        return self._propagate(session, start_frame_idx, count, reverse, is_shown)

    def _propagate(self, session, start, count, reverse, is_shown):
        prompted = [t for tracked_object in session.objects.values() for t in tracked_object.conditioning_frames()]
        if not prompted:
            raise ValueError("no object has a prompt yet: call processor.add_inputs_to_inference_session first")
        start = min(prompted) if start is None else start
        if reverse:
            frames = range(start, max(start - count, 0) - 1, -1) if start > 0 else range(0)
        else:
            frames = range(start, min(start + count, session.num_frames - 1) + 1)
        for frame_idx in logging.tqdm(frames, desc="propagate in video", disable=not is_shown):
            yield self._step(session, frame_idx, None, reverse, is_look=False)

    def _check_session(self, session):
        if not hasattr(session, "adopt"):  # remote code may have several copies of the session's class
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
