"""What commands, evaluation and mask generation ask of a model, be that a PyTorch model or exported graphs.

`EdgeTamModel` is a `PictureModel`, `EdgeTamVideoModel` a `VideoModel`, and `ExportedEdgeTam` is both.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch

from .session_edgetam import EdgeTamVideoInferenceSession
from .tracking_edgetam import EdgeTamVideoSegmentationOutput


class PictureModel(Protocol):
    """A model that finds masks of prompted objects in pictures.

    image_size: (H, W) of the model input; mask_size: (4h, 4w) of low-res masks; device, dtype: of the tensors that it
    takes and returns.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def image_size(self) -> tuple[int, int]: ...

    @property
    def mask_size(self) -> tuple[int, int]: ...

    def __call__(self, *arguments: Any, **inputs: Any) -> Any:
        """`EdgeTamImageSegmentationOutput` of pictures and prompts, as `EdgeTamModel.forward`."""
        ...

    def get_image_embeddings(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Maps that a call takes as `image_embeddings`, of pictures (B, 3, H, W)."""
        ...

    def prompts_at_once(self, image_embeddings: Sequence[torch.Tensor]) -> int:
        """How many prompts on one picture are decoded at once."""
        ...

    def confident_masks(
        self, image_embeddings: Sequence[torch.Tensor], points: torch.Tensor, pred_iou_thresh: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Masks of clicks whose predicted IoU exceeds a threshold, as `EdgeTamModel.confident_masks`."""
        ...


class VideoModel(Protocol):
    """A model that tracks the objects of a session.

    device, dtype: of the tensors that it takes and returns.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __call__(self, *arguments: Any, **inputs: Any) -> Any:
        """`EdgeTamVideoSegmentationOutput` of a session on one frame, as `EdgeTamVideoModel.forward`."""
        ...

    def propagate_in_video_iterator(
        self,
        inference_session: EdgeTamVideoInferenceSession,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
        show_progress_bar: bool = False,
    ) -> Iterator[EdgeTamVideoSegmentationOutput]:
        """Masks of all objects on frame after frame."""
        ...

    def track_everything_on_frame(
        self,
        inference_session: EdgeTamVideoInferenceSession,
        frame_idx: int | None = None,
        frame: torch.Tensor | None = None,
        original_size: tuple[int, int] | None = None,
        **options: Any,
    ) -> EdgeTamVideoSegmentationOutput:
        """Masks of everything on one frame, as `EdgeTamVideoModel.track_everything_on_frame`."""
        ...
