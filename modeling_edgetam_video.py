"""EdgeTAM on video (arXiv 2501.07256): objects are prompted on some frames and tracked through all of them.

    frame -> image embeddings, once for all objects -> attend to memory -> decode masks -> encode memory -> session

Shapes: O objects, N points, (H, W) the model input in pixels, (h, w) = (H / 16, W / 16) the image embedding, C channels
of the model, K latents of m channels that a frame leaves in memory. Objects are the batch dimension of everything that
comes after the image embeddings. Points are (x, y) in pixels of the model input.
"""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from .base_edgetam import EdgeTamBaseModel
from .configuration_edgetam import EdgeTamVideoConfig
from .cuda_graphs_edgetam_video import StageGraphs
from .everything_calls_edgetam_video import EverythingCalls
from .layers_edgetam import EdgeTamFeedForward
from .mask_decoder_edgetam import MaskPrediction
from .memory_layers_edgetam import (
    EdgeTamMemoryAttention,
    EdgeTamMemoryEncoder,
    EdgeTamMemoryFuserBlock,
    EdgeTamSpatialPerceiver,
    grid_side,
)
from .pieces_edgetam import in_pieces, num_at_once
from .position_edgetam import sine_time_encoding
from .prompts_edgetam import Prompts
from .session_edgetam import EdgeTamVideoInferenceSession
from .settings_edgetam import as_flag
from .stages_edgetam_video import ABSENT_LOGIT, Memories, ObjectPrediction
from .tracking_edgetam import EdgeTamVideoSegmentationOutput, find_objects
from .training_edgetam_video import EdgeTamClipOutput, learn_from_clips

if TYPE_CHECKING:  # named here so that the remote-code loader and save_pretrained take these files along
    from .attention_edgetam import EdgeTamAttention  # noqa: F401
    from .calls_edgetam_video import SessionCalls  # noqa: F401
    from .checks_edgetam import read_prompts  # noqa: F401
    from .checks_edgetam_video import check_session  # noqa: F401
    from .device_edgetam import send  # noqa: F401
    from .discovery_edgetam_video import discover  # noqa: F401
    from .everything_edgetam_video import EverythingState  # noqa: F401
    from .folding_edgetam import FoldedModule  # noqa: F401
    from .image_processing_edgetam import EdgeTamImageProcessor  # noqa: F401
    from .mask_generation_edgetam import Crop  # noqa: F401
    from .masks_edgetam import read_objects  # noqa: F401
    from .memory_bank_edgetam import TrackedObject  # noqa: F401
    from .memory_selection_edgetam import MemorySelection  # noqa: F401
    from .modeling_edgetam import EdgeTamModel  # noqa: F401
    from .pictures_edgetam import read_picture  # noqa: F401
    from .pipeline_edgetam import EdgeTamMaskGenerationPipeline  # noqa: F401
    from .pretrained_edgetam import EdgeTamPreTrainedModel  # noqa: F401
    from .prompt_encoder_edgetam import EdgeTamPromptEncoder  # noqa: F401
    from .repvit_edgetam import RepVitBackbone  # noqa: F401
    from .training_edgetam import LossWeights  # noqa: F401
    from .vision_encoder_edgetam import EdgeTamVisionModel  # noqa: F401

# modes of torch.compile with CUDA graphs, and what each is without
MODES_WITH_GRAPHS = {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}
MASK_PROMPT_SCALE, MASK_PROMPT_BIAS = 20.0, -10.0  # from a given mask to logits


class EdgeTamVideoModel(EdgeTamBaseModel, EverythingCalls):
    """EdgeTAM on video.

    Five stages are functions of tensors alone, through which gradients flow and which can be compiled and exported:
    `get_frame_embeddings`, `attend_to_memory`, `decode_objects` (or `adopt_masks`) and `encode_memory`. Together they
    are the `TrackingModel` that tracking asks for. `forward`, the `propagate_in_video_iterator` of `SessionCalls` and
    the `track_everything` of `EverythingCalls` chain them, and keep all state in the session that they are given.
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
    _keys_to_ignore_on_load_unexpected: list[str] = []  # noqa: RUF012
    _graphs: StageGraphs | None = None

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
        # not used, but a part of checkpoints; so it needs no gradient
        self.no_memory_positional_encoding = nn.Parameter(torch.zeros(1, 1, size), requires_grad=False)
        self.memory_temporal_positional_encoding = nn.Parameter(torch.zeros(config.num_maskmem, 1, 1, memory_size))
        self.no_object_pointer = nn.Parameter(torch.zeros(1, size))
        if config.enable_temporal_pos_encoding_for_object_pointers:
            self.temporal_positional_encoding_projection_layer = nn.Linear(size, memory_size)
        if config.enable_occlusion_spatial_embedding:
            self.occlusion_spatial_embedding_parameter = nn.Parameter(torch.zeros(1, memory_size))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
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

    def compile(self, **options: Any) -> None:
        """Compiles the parts that do the work, as `EdgeTamBaseModel.compile` does, or makes CUDA graphs of the stages.

        Two of the options of `torch.compile` ask for CUDA graphs, which start all kernels of a stage at once.
        `backend="cudagraphs"` compiles nothing, and takes seconds. `mode="reduce-overhead"` (or `"max-autotune"`)
        compiles the parts, too. Stages are replayed in eval mode on a GPU, and otherwise run as they are, as they do
        under autocast, and where a part has hooks or its weights are quantised. Changed weights and replaced parts
        count at once, and anything else that was changed in the model from the next call of this method on. A stage
        that a subclass overrides has to be a function of tensors alone: its lines run only when it is recorded.
        """
        mode, is_compiled = options.get("mode"), options.get("backend") != "cudagraphs"
        self._graphs = StageGraphs() if mode in MODES_WITH_GRAPHS or not is_compiled else None
        if mode in MODES_WITH_GRAPHS:
            options["mode"] = MODES_WITH_GRAPHS[mode]
        if is_compiled:
            super().compile(**options)

    def train(self, mode: bool = True) -> "EdgeTamVideoModel":
        """Sets the mode; CUDA graphs are forgotten, as weights are folded anew."""
        if self._graphs is not None:
            self._graphs.forget()
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """The state without CUDA graphs, as PyTorch has it for what is compiled."""
        return {name: value for name, value in super().__getstate__().items() if name != "_graphs"}

    def get_frame_embeddings(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """List of the maps of stride 4, 8 and 16 of frames (B, 3, H, W), before they attend to any memory."""
        return list(self._encode_frame(pixel_values).fpn_hidden_states)

    def attend_to_memory(self, frame_embedding: torch.Tensor, memories: Memories) -> torch.Tensor:
        """The map of stride 16, (O, C, h, w), as seen by objects that remember something; see `TrackingModel`."""
        return self.memory_attention(frame_embedding, memories, *self.encode_time(memories))

    def encode_time(self, memories: Memories) -> tuple[torch.Tensor, torch.Tensor]:
        """Temporal encodings of memories (O, F, m) and of pointers (O, P, m)."""
        time_encoding = self.memory_temporal_positional_encoding[:, 0, 0][memories.time_idx]
        if self.config.enable_temporal_pos_encoding_for_object_pointers:
            encoding = sine_time_encoding(memories.pointer_offsets, memories.pointers.shape[-1])
            pointer_encoding = self.temporal_positional_encoding_projection_layer(encoding.to(time_encoding.dtype))
        else:
            pointer_encoding = time_encoding.new_zeros(*memories.pointers.shape[:2], time_encoding.shape[-1])
        return time_encoding, pointer_encoding

    def decode_objects(
        self,
        frame_embeddings: list[torch.Tensor],
        conditioned: torch.Tensor,
        prompts: Prompts,
        is_ambiguous: torch.Tensor,
    ) -> ObjectPrediction:
        """`ObjectPrediction` of prompted or tracked objects; see `TrackingModel`."""
        given = {kind: prompt for kind, prompt in prompts._asdict().items() if prompt is not None}

        def decode(conditioned: torch.Tensor, is_ambiguous: torch.Tensor, *given_prompts: torch.Tensor) -> Any:
            prompts = Prompts(**dict(zip(given, given_prompts)))
            return self.choose_masks(self.predict_masks(frame_embeddings, conditioned, prompts), is_ambiguous)

        modules = (self.prompt_encoder, self.mask_decoder, self.object_pointer_proj)
        size = num_at_once(conditioned[0].numel(), conditioned.dtype)
        return in_pieces(modules, decode, conditioned, is_ambiguous, *given.values(), size=size)

    def predict_masks(
        self, frame_embeddings: list[torch.Tensor], conditioned: torch.Tensor, prompts: Prompts
    ) -> MaskPrediction:
        """`MaskPrediction` (O, 1, …) with all masks; see `decode_objects`."""
        return self.decode_prompts([*frame_embeddings[:2], conditioned], prompts)

    def choose_masks(self, prediction: MaskPrediction, is_ambiguous: torch.Tensor) -> ObjectPrediction:
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

    def adopt_masks(self, frame_embeddings: list[torch.Tensor], masks: torch.Tensor) -> ObjectPrediction:
        """`ObjectPrediction` of objects whose masks are given; an empty mask says that the object is absent.

        As `_use_mask_as_output` of the original release, which needs the frame for the object pointers only; see
        `TrackingModel`.
        """
        masks = masks[:, None].to(frame_embeddings[-1].dtype)
        conditioned = frame_embeddings[-1].expand(len(masks), -1, -1, -1)
        is_ambiguous = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
        prompts = Prompts(masks=self.mask_downsample(masks))
        decoded = self.decode_objects(frame_embeddings, conditioned, prompts, is_ambiguous)
        is_present = masks.flatten(1).any(dim=1)
        logits = (masks * MASK_PROMPT_SCALE + MASK_PROMPT_BIAS).float()
        logits = F.interpolate(logits, self.mask_size, mode="bilinear", align_corners=False, antialias=True)
        return ObjectPrediction(
            masks=logits[:, 0].to(masks.dtype),
            iou_scores=masks.new_ones(len(masks)),
            object_score_logits=is_present * MASK_PROMPT_SCALE + MASK_PROMPT_BIAS,
            pointers=torch.where(is_present[:, None], decoded.pointers, self.no_object_pointer),
        )

    def _pointers(self, tokens: torch.Tensor, is_present: torch.Tensor) -> torch.Tensor:
        """Object pointers (O, C) of mask tokens (O, C)."""
        return torch.where(is_present[:, None], self.object_pointer_proj(tokens), self.no_object_pointer)

    def encode_memory(
        self,
        frame_embedding: torch.Tensor,
        masks: torch.Tensor,
        object_score_logits: torch.Tensor,
        is_prompted: torch.Tensor,
    ) -> torch.Tensor:
        """Memory (O, K, m) that a frame leaves; see `TrackingModel`.

        In eval mode masks of prompted objects are remembered as 0 and 1, and others as probabilities.
        """

        def encode(masks: torch.Tensor, object_score_logits: torch.Tensor, is_prompted: torch.Tensor) -> torch.Tensor:
            logits = F.interpolate(masks[:, None].float(), (height, width), mode="bilinear", align_corners=False)[:, 0]
            probabilities = logits.sigmoid()
            if not self.training:
                probabilities = torch.where(is_prompted[:, None, None], (logits > 0).float(), probabilities)
            scale, bias = self.config.sigmoid_scale_for_mem_enc, self.config.sigmoid_bias_for_mem_enc
            scaled = (probabilities * scale + bias).to(frame_embedding.dtype)
            memory = self.memory_encoder(frame_embedding, scaled[:, None])
            if self.config.enable_occlusion_spatial_embedding:
                is_absent = (object_score_logits <= 0)[:, None, None, None]
                memory = memory + is_absent * self.occlusion_spatial_embedding_parameter[..., None, None]
            return self.spatial_perceiver(memory)

        modules, (height, width) = (self.memory_encoder, self.spatial_perceiver), self.prompt_encoder.image_size
        return in_pieces(modules, encode, masks, object_score_logits, is_prompted)

    def forward(
        self,
        inference_session: EdgeTamVideoInferenceSession | None = None,
        frame_idx: int | None = None,
        frame: torch.Tensor | None = None,
        reverse: bool = False,
        return_dict: bool | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        mask_labels: torch.Tensor | None = None,
        prompt_seeds: torch.Tensor | None = None,
    ) -> EdgeTamVideoSegmentationOutput | EdgeTamClipOutput | tuple[Any, ...]:
        """Masks of all objects on one frame of a session, as an `EdgeTamVideoSegmentationOutput`.

        With `pixel_values_videos` and `mask_labels` instead of a session: the loss on clips, as an `EdgeTamClipOutput`.

        New prompts on the frame are answered, and other objects of a video are left as they are. Without new prompts,
        and on every new frame of a stream, objects are tracked, but for those whose result on the frame answers a
        prompt. Gradients are recorded in training mode only, so that a session does not grow.

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
        return_dict = self.config.return_dict if return_dict is None else as_flag(return_dict, "return_dict")
        if mask_labels is not None or pixel_values_videos is not None:
            if inference_session is not None:
                raise ValueError(
                    "give either an inference_session, or pixel_values_videos with mask_labels to learn from"
                )
            output = learn_from_clips(self, pixel_values_videos, mask_labels, prompt_seeds)
            return output if return_dict else output.to_tuple()
        found = self.find_on_frame(inference_session, frame_idx, frame, reverse)
        return found if return_dict else found.to_tuple()

    def _find_objects(self, *arguments: Any, **settings: Any) -> EdgeTamVideoSegmentationOutput:
        """See `find_objects`; with gradients in training mode only, so that a session does not grow."""
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            stages = self if self._graphs is None else self._graphs.stages_of(self)
            return find_objects(stages, *arguments, **settings)
