"""What users of a session call on a model, be that a PyTorch model or exported graphs: one frame, or all of them."""

from collections.abc import Iterator
from typing import Any

import torch
from transformers.utils import logging

from .checks_edgetam_video import check_count, check_pixels, check_session
from .session_edgetam import EdgeTamVideoInferenceSession
from .settings_edgetam import as_flag
from .tracking_edgetam import EdgeTamVideoSegmentationOutput


class SessionCalls:
    """Calls with a session, for a model that can track.

    The model has `image_size` and the configuration, and says in `_find_objects` which stages compute.
    """

    config: Any

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the model input in pixels."""
        raise NotImplementedError

    def _find_objects(self, *arguments: Any, **settings: Any) -> EdgeTamVideoSegmentationOutput:
        """See `find_objects`, whose arguments but the model these are."""
        raise NotImplementedError

    def find_on_frame(
        self,
        inference_session: EdgeTamVideoInferenceSession | None,
        frame_idx: int | None = None,
        frame: torch.Tensor | None = None,
        reverse: bool = False,
    ) -> EdgeTamVideoSegmentationOutput:
        """Masks of all objects on one frame of a session; see `EdgeTamVideoModel.forward`."""
        session = check_session(inference_session, self.image_size)
        reverse = as_flag(reverse, "reverse")
        if frame is not None:
            frame = self._read_frame(session, frame)
        return self._find_objects(session, frame_idx, frame, reverse, answers_prompts=True)

    def propagate_in_video_iterator(
        self,
        inference_session: EdgeTamVideoInferenceSession,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
        show_progress_bar: bool = False,
    ) -> Iterator[EdgeTamVideoSegmentationOutput]:
        """Masks of all objects on frame after frame of a video; see `EdgeTamVideoModel.forward`.

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
        session = check_session(inference_session, self.image_size)
        if session.is_stream:
            raise ValueError("a stream keeps no frames to propagate through: give them one by one, model(…, frame=…)")
        if start_frame_idx is not None:
            start_frame_idx = session.check_frame(start_frame_idx)
        count = session.num_frames
        if max_frame_num_to_track is not None:
            count = check_count(max_frame_num_to_track, "max_frame_num_to_track", 0)
        reverse, is_shown = as_flag(reverse, "reverse"), as_flag(show_progress_bar, "show_progress_bar")
        return self._propagate(session, start_frame_idx, count, reverse, is_shown)

    def _propagate(
        self, session: EdgeTamVideoInferenceSession, start: int | None, count: int, reverse: bool, is_shown: bool
    ) -> Iterator[EdgeTamVideoSegmentationOutput]:
        frames = session.propagation_frames(start, count, reverse)
        for frame_idx in logging.tqdm(frames, desc="propagate in video", disable=not is_shown):
            yield self._find_objects(session, frame_idx, reverse=reverse)

    def _read_frame(self, session: EdgeTamVideoInferenceSession, frame: torch.Tensor) -> torch.Tensor:
        """Pixel values (1, 3, H, W) of the next frame of a stream; raises a TypeError or a ValueError for others."""
        session.next_frame_idx()
        frame = frame[None] if getattr(frame, "ndim", 0) == 3 else frame
        size = (1, self.config.vision_config.backbone_in_channels)
        if not isinstance(frame, torch.Tensor) or tuple(frame.shape[:2]) != size or frame.ndim != 4:
            shape = tuple(getattr(frame, "shape", ())) or type(frame).__name__
            raise ValueError(f"frame must be a tensor of shape (3, height, width), got {shape}; use the processor")
        check_pixels(frame, "frame")
        return frame
