"""The stages of tracking: what it asks of a model, be that a PyTorch model or exported graphs.

    frame -> image embeddings, once for all objects -> attend to memory -> decode masks -> encode memory

Shapes: O objects, N points, (H, W) the model input in pixels, (h, w) = (H / 16, W / 16) the image embedding, C channels
of the model, K latents of m channels that a frame leaves in memory. Points are (x, y) in pixels of the model input.
"""

from typing import NamedTuple, Protocol

import torch

from .prompts_edgetam import Prompts

ABSENT_LOGIT = -1024.0  # of every pixel of an object that is not in the picture


class Memories(NamedTuple):
    """What objects remember on one frame; all of them remember equally many frames and pointers.

    features: (O, F, K, m), what `encode_memory` made of F frames.
    time_idx: integers (O, F), rows of the temporal encoding: distance - 1, and the last row for conditioning frames.
    pointers: (O, P, C), object pointers.
    pointer_offsets: (O, P), distance of each pointer in time, 1 at the farthest that tracked frames have.
    """

    features: torch.Tensor
    time_idx: torch.Tensor
    pointers: torch.Tensor
    pointer_offsets: torch.Tensor


class ObjectPrediction(NamedTuple):
    """What is predicted of objects on a frame.

    masks: low-res logits (O, 4h, 4w); iou_scores, object_score_logits: (O,); pointers: (O, C).
    """

    masks: torch.Tensor
    iou_scores: torch.Tensor
    object_score_logits: torch.Tensor
    pointers: torch.Tensor


class TrackingConfig(Protocol):
    """The fields of a configuration that tracking reads; see `EdgeTamVideoConfig`."""

    num_maskmem: int
    max_object_pointers_in_encoder: int
    max_cond_frame_num: int
    multimask_output_in_sam: bool
    multimask_output_for_tracking: bool
    multimask_min_pt_num: int
    multimask_max_pt_num: int


class TrackingModel(Protocol):
    """A model that can track: five stages, which are functions of tensors alone and keep no state.

    mask_size: (4h, 4w); device, dtype: of the tensors that the stages take and return.
    """

    @property
    def config(self) -> TrackingConfig: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def mask_size(self) -> tuple[int, int]: ...

    def get_frame_embeddings(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Maps of stride 4, 8 and 16, of C / 8, C / 4 and C channels, of frames (B, 3, H, W) that saw no memory yet."""
        ...

    def forget_memory(self, frame_embedding: torch.Tensor) -> torch.Tensor:
        """The map of stride 16, (B, C, h, w), as seen by objects that remember nothing."""
        ...

    def attend_to_memory(self, frame_embedding: torch.Tensor, memories: Memories) -> torch.Tensor:
        """The map of stride 16 of a frame, (1, C, h, w), as seen by objects that remember something: (O, C, h, w)."""
        ...

    def decode_objects(
        self,
        frame_embeddings: list[torch.Tensor],
        conditioned: torch.Tensor,
        prompts: Prompts,
        is_ambiguous: torch.Tensor,
    ) -> ObjectPrediction:
        """What is predicted of prompted or tracked objects.

        Args:
            frame_embeddings: what `get_frame_embeddings` returned, batch size 1.
            conditioned: (O, C, h, w), the map of stride 16 after `attend_to_memory` or `forget_memory`.
            prompts: points (O, 1, N, 2), labels (O, 1, N), and as masks the low-res logits (O, 1, 4h, 4w) of an earlier
                mask on the same frame; nothing of an object that is tracked.
            is_ambiguous: bool (O,), whether to choose the best of three masks, or to take the single one.
        """
        ...

    def adopt_masks(self, frame_embeddings: list[torch.Tensor], masks: torch.Tensor) -> ObjectPrediction:
        """What stands for a prediction where masks are given, bool (O, H, W); an empty one: the object is absent."""
        ...

    def encode_memory(
        self,
        frame_embedding: torch.Tensor,
        masks: torch.Tensor,
        object_score_logits: torch.Tensor,
        is_prompted: torch.Tensor,
    ) -> torch.Tensor:
        """Memory (O, K, m) that a frame leaves.

        Args:
            frame_embedding: (1, C, h, w), the last of `get_frame_embeddings`.
            masks: low-res logits (O, 4h, 4w).
            object_score_logits: (O,).
            is_prompted: bool (O,), whether the masks answer prompts.
        """
        ...


def is_ambiguous(config: TrackingConfig, num_points: torch.Tensor, has_memory: bool) -> torch.Tensor:
    """Whether so few clicks (integers of any shape) are ambiguous, so that the best of three masks is taken.

    has_memory: whether the object was seen on other frames.
    """
    is_allowed = config.multimask_output_in_sam and (not has_memory or config.multimask_output_for_tracking)
    is_few = (num_points >= config.multimask_min_pt_num) & (num_points <= config.multimask_max_pt_num)
    return is_few & is_allowed
