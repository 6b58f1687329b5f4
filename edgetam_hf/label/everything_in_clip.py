"""Everything in a clip: objects that are found, followed and dropped, from its first frame to its last."""

from collections.abc import Iterator
from typing import Any

from ..processing_edgetam_video import EdgeTamVideoProcessor
from ..protocols import VideoModel
from ..video_frames_edgetam import Frames
from .mask_rows import FoundMask, masks_of_output


def track_everything(
    model: VideoModel, processor: EdgeTamVideoProcessor, frames: Frames, options: dict[str, Any]
) -> Iterator[FoundMask]:
    """The masks of all objects, frame after frame, but for those that are empty; memory does not grow with the clip.

    Args:
        model: `EdgeTamVideoModel`, or an exported one.
        processor: of the model.
        frames: of the clip.
        options: of `EdgeTamVideoModel.track_everything`.
    """
    session = processor.init_video_session(
        frames, inference_device=model.device, dtype=model.dtype, max_memory_frames=1
    )
    for frame_idx in range(len(frames)):
        output = model.track_everything_on_frame(session, frame_idx, **options)
        yield from masks_of_output(output, (frames.height, frames.width))
