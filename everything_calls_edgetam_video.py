"""What users call so that everything in a video is discovered and followed, be that with a PyTorch model or graphs."""

from collections.abc import Iterator
from typing import Any

import torch
from transformers.utils import logging

from .calls_edgetam_video import SessionCalls
from .checks_edgetam_video import check_count, check_session
from .discovery_edgetam_video import DiscoveringModel, discover, follow
from .everything_edgetam_video import EverythingOptions
from .session_edgetam import EdgeTamVideoInferenceSession
from .settings_edgetam import as_flag, height_width
from .tracking_edgetam import EdgeTamVideoSegmentationOutput


class EverythingCalls(SessionCalls):
    """Calls with a session for a model that can track and be prompted by a grid of points, a `DiscoveringModel`."""

    def discover(
        self,
        inference_session: EdgeTamVideoInferenceSession,
        frame_idx: int,
        original_size: tuple[int, int] | None = None,
        **options: Any,
    ) -> list[int]:
        """Ids of new objects: masks of everything on a frame that no object of the session covers, best score first.

        The masks become prompts on the frame, without overlap: a pixel belongs to an object that covers it already, or
        else to the mask of the best score. The next call of the model answers them. An object covers what was found of
        it on the frame, and nothing where tracking has not been yet, or so long ago that a session with a limit of
        memory has forgotten it; prompts there that wait are answered first. The frame's image embeddings are those of
        tracking.

        Args:
            inference_session (`EdgeTamVideoInferenceSession`):
                With a video or a stream, and any objects.
            frame_idx (`int`):
                The frame; of a stream, one that it still has.
            original_size (pair (height, width), *optional*):
                Size of the frames; needed once in a stream.
            options:
                As in `track_everything`: `max_objects`, `max_covered`, `min_area`, `max_area` and those of mask
                generation.

        Raises:
            ValueError, TypeError: for unknown options and wrong values, and as `forward` for the frame.
        """
        session, read = self._read_everything(inference_session, options)
        with session.lock:
            draft = session.draft()
            frame_idx = draft.check_present(frame_idx)
            draft.set_size(_frame_size(session, original_size))
            if draft.is_new(frame_idx):
                self._find_objects(draft, frame_idx, answers_prompts=True)
            obj_ids = list(discover(self._model, draft, frame_idx, read, known={}))
            session.adopt(draft)
        return obj_ids

    def track_everything(
        self,
        inference_session: EdgeTamVideoInferenceSession,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        show_progress_bar: bool = False,
        **options: Any,
    ) -> Iterator[EdgeTamVideoSegmentationOutput]:
        """Masks of everything on frame after frame of a video: objects are discovered, followed and dropped.

        The output of a frame has all objects that there are. Of those that leave, nothing is kept, and no id is given
        twice. Objects that a user prompts, or asks `discover` for, are followed with the others, and never dropped.
        What is needed to go on is in the session: after an error, or once it was pickled, the next call goes on behind
        the last frame.

        Args:
            inference_session (`EdgeTamVideoInferenceSession`):
                With a whole video, and any objects.
            start_frame_idx (`int`, *optional*, defaults to the frame after the last one that was followed, or 0):
                The first frame.
            max_frame_num_to_track (`int`, *optional*, defaults to all):
                How many frames to go on after the first one.
            show_progress_bar (`bool`, *optional*, defaults to `False`):
                Whether to show one.
            every (`int`, *optional*, defaults to 5):
                A frame is searched for new objects when it is so many behind the last that was, or earlier
            max_uncovered (`float`, *optional*, defaults to 0.2):
                when more than this share of the picture has lost its masks since then.
            max_objects (`int`, *optional*, defaults to 64):
                Number of objects at a time. Those that are there stay; of new ones, and be there thousands, the best
                scores come first. While there are as many, nothing is searched.
            max_covered (`float`, *optional*, defaults to 0.5):
                A mask of which a larger share is covered by objects becomes no object.
            min_area, max_area (`float`, *optional*, default to 0.002 and 0.8):
                Shares of the picture below and above which a mask becomes no object, and an object counts as absent.
            max_absence (`int`, *optional*, defaults to 30):
                An object that was discovered is dropped once it was absent on more frames in a row.
            merge_iou, merge_frames (`float` and `int`, *optional*, default to 0.7 and 3):
                Of two objects whose masks agree with this IoU on so many frames in a row, the younger one is dropped.
            same_look, other_look (`float`, *optional*, default to 0.9 and 0.3):
                How alike, at most 1, a mask that was found must look to an object that is missed, to be that object
                again, which begins anew under its id; and how unlike the mask of an object must have become for the
                object to be missed, and no longer followed there. What a mask looks like is the mean of the image
                features inside it, less that of the picture. An object without a mask is missed, too.
            max_jump (`float`, *optional*, defaults to 0.25):
                How far from where it was last seen an object may be found again, in widths and heights of the picture:
                what enters on one side is not what has left on the other.
            options:
                Those of mask generation that say how to search, `points_per_crop`, `pred_iou_thresh` and so on, with
                names and defaults of `EdgeTamMaskGenerationPipeline`, where a checkpoint may bring its own. Only
                `crops_n_layers` is 0 unless given, so that the frame is encoded once, for the search and for tracking.

        Raises:
            ValueError: for a stream, whose frames go to `track_everything_on_frame`, and a frame outside the video.
            TypeError: for unknown options. Both for wrong values.
        """
        session, read = self._read_everything(inference_session, options)
        if session.is_stream:
            raise ValueError(
                "a stream keeps no frames to go through: give them one by one, "
                "model.track_everything_on_frame(session, frame=…)"
            )
        start, count = (session.everything.frame_idx or 0), session.num_frames
        if start_frame_idx is not None:
            start = session.check_frame(start_frame_idx)
        elif session.everything.frame_idx is not None:
            start += 1
        if max_frame_num_to_track is not None:
            count = check_count(max_frame_num_to_track, "max_frame_num_to_track", 0)
        frames = range(start, min(start + count + 1, session.num_frames))
        return self._follow_through(session, frames, as_flag(show_progress_bar, "show_progress_bar"), read)

    def track_everything_on_frame(
        self,
        inference_session: EdgeTamVideoInferenceSession,
        frame_idx: int | None = None,
        frame: torch.Tensor | None = None,
        original_size: tuple[int, int] | None = None,
        **options: Any,
    ) -> EdgeTamVideoSegmentationOutput:
        """Masks of everything on one frame, of a stream for example; `track_everything` says what that is.

        Args:
            inference_session (`EdgeTamVideoInferenceSession`):
                With a video or a stream, and any objects.
            frame_idx (`int`, *optional*):
                The frame; needed unless `frame` is given.
            frame (`torch.Tensor` of shape `(3, H, W)`, *optional*):
                Pixel values of the next frame of a stream.
            original_size (pair (height, width), *optional*):
                Size of the frames; needed once in a stream.
            options:
                As in `track_everything`.

        Raises:
            ValueError, TypeError: as `track_everything`, and as `forward` for the frame.
        """
        session, read = self._read_everything(inference_session, options)
        if frame is not None:
            frame = self._read_frame(session, frame)
        elif frame_idx is not None:
            frame_idx = session.check_present(frame_idx)
        size = _frame_size(session, original_size)
        return follow(self._model, self._find_objects, session, size, read, frame_idx=frame_idx, frame=frame)

    @property
    def _model(self) -> DiscoveringModel:
        """Itself: all that have these calls are such models, which types cannot say here."""
        model: Any = self
        return model

    def _follow_through(
        self, session: EdgeTamVideoInferenceSession, frames: range, is_shown: bool, options: EverythingOptions
    ) -> Iterator[EdgeTamVideoSegmentationOutput]:
        size = _frame_size(session)
        for frame_idx in logging.tqdm(frames, desc="track everything", disable=not is_shown):
            yield follow(self._model, self._find_objects, session, size, options, frame_idx=frame_idx)

    def _read_everything(
        self, session: Any, given: dict[str, Any]
    ) -> tuple[EdgeTamVideoInferenceSession, EverythingOptions]:
        """The session and the options, checked."""
        session = check_session(session, self.image_size)
        options = EverythingOptions.read(given, session.mask_generation)
        if session.is_stream and options.search.crops_n_layers > 0:
            raise ValueError("a stream keeps no frames that could be cropped: leave out crops_n_layers")
        return session, options


def _frame_size(session: EdgeTamVideoInferenceSession, original_size: Any = None) -> tuple[int, int]:
    """(height, width) of the frames, as the session knows it or as it is given."""
    if original_size is not None:
        return session.check_size(height_width(original_size, "original_size"))
    if session.video_height is None or session.video_width is None:
        raise ValueError("original_size=(height, width) of the frames must be given with the first frame of a stream")
    return session.video_height, session.video_width
