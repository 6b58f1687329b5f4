"""Promptable video segmentation: a simulated user clicks on an object on up to eight frames, the tracker does the rest.

The protocol of SAM 2 (arXiv 2408.00714, appendix, "Interactive offline and online evaluation details"):

* Each object is treated by itself, here in a session of its own.
* On the first frame one click goes to the centre of the object, and two go to the centre of the region in which the
  mask is wrong then. On every further frame all three go to such regions, the first one to what is wrong in the mask
  that was tracked. The model answers each click before the next one is given.
* Offline, the object is tracked through the whole video, and the frame with the lowest IoU of those that were not
  annotated yet is annotated; then the object is tracked through the whole video again, and so on.
* Online, tracking pauses on a frame with an IoU below 0.75. It is annotated, and tracking goes on from there; frames
  before it stay as they are.
* The result is J&F for each limit of annotated frames, and its mean over the limits 1, …, 8.

What the paper does not say is decided here: The video of an object begins with the frame on which the object first
appears, as the paper has it where masks are given. J and F are means over all frames with ground truth, annotated ones
included, then over objects. IoU is J, so that it is 1 where an absent object is found to be absent. Frames without
ground truth are never annotated. The wrong region that counts is the largest one, in pixels; its centre is its pixel
that is farthest from its edge. A mask that is right gets no click, so that an object can need fewer frames (offline,
if no mask is wrong; online, if no IoU is too low); what it has then counts for all higher limits. All rounds of an
object have one session, as with a user: clicks stay, and later clicked frames are remembered as tracked frames and not
as conditioning frames, as in the original release. Masks are logits above 0, holes are not filled.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from ..processing_edgetam_video import EdgeTamVideoProcessor
from ..protocols import VideoModel
from ..session_edgetam import EdgeTamVideoInferenceSession
from ..tracking_edgetam import EdgeTamVideoSegmentationOutput
from .clicks import center_of, largest_error
from .metrics import boundary_measure, region_similarity
from .video_datasets import VideoSequence, read_mask_files

MODES = ("offline", "online")
NUM_FRAMES = 8  # annotated at most
NUM_CLICKS = 3  # on each of them
PAUSE_IOU = 0.75  # below it tracking pauses online
OBJECT_ID = 1  # in a session with one object


# Objects.


@dataclass(frozen=True)
class ObjectVideo:
    """One object of a sequence, and the part of the video that begins with its first frame."""

    sequence: VideoSequence
    object_id: int

    @property
    def name(self) -> str:
        """Of the sequence, then the object."""
        return f"{self.sequence.name}_{self.object_id}"

    @property
    def frames(self) -> range:
        """Range of the indices of its frames in the sequence."""
        return range(self.sequence.first_frames[self.object_id], len(self.sequence.frames))

    @property
    def true_frames(self) -> list[int]:
        """Indices of the frames with ground truth, ascending."""
        annotations = self.sequence.annotations.items()
        return [t for t, files in annotations if t in self.frames and (self.object_id in files or None in files)]

    def truth(self, frame_idx: int) -> np.ndarray:
        """True mask (H, W) on a frame with ground truth, without a pixel where the object is absent."""
        files, size = self.sequence.annotations[frame_idx], self.sequence.size
        files = {number: path for number, path in files.items() if number in (None, self.object_id)}
        return read_mask_files(files, size).get(self.object_id, np.zeros(size, bool))


def object_videos(sequences: Sequence[VideoSequence]) -> list[ObjectVideo]:
    """List of the `ObjectVideo`s of all objects that have ground truth on more than one frame.

    Raises:
        ValueError: where no object has it, and for an object whose first mask is empty.
    """
    videos = []
    for sequence in sequences:
        for frame_idx in set(sequence.first_frames.values()):
            sequence.first_masks(frame_idx)  # raises for an empty one
        videos += [ObjectVideo(sequence, number) for number in sequence.object_ids]
    videos = [video for video in videos if len(video.true_frames) > 1]
    if not videos:
        raise ValueError(
            "no object has ground truth on more than its first frame, but it takes that to see where a mask is wrong: "
            "use a set whose masks are all public"
        )
    return videos


# The protocol.


@dataclass
class Round:
    """An annotated frame, its clicks (x, y, label) in pixels of the video, and the J and F that they led to."""

    frame: int
    clicks: list[tuple[float, float, int]]
    j: float
    f: float


@torch.inference_mode()
def annotate_object(
    model: VideoModel,
    processor: EdgeTamVideoProcessor,
    video: ObjectVideo,
    mode: str,
    num_frames: int = NUM_FRAMES,
    memory: str = "recent",
) -> list[Round]:
    """List of the `Round`s of an object, one per annotated frame, at least one and at most `num_frames`.

    Online, tracking with a limit of n frames and with one of n + 1 are equal up to the frame that only the second
    annotates. So round n goes on to the end without it, and round n + 1 goes back to it.

    Args:
        model, processor: `EdgeTamVideoModel`, or an exported one, and its processor.
        video: `ObjectVideo`.
        mode: "offline" or "online".
        num_frames: limit of annotated frames.
        memory: what is remembered, "recent" or "confident"; see `MemorySelection`.
    """
    session = processor.init_video_session(
        video.sequence.frames, inference_device=model.device, dtype=model.dtype, memory_selection=memory
    )
    rounds: list[Round] = []
    scores: dict[int, tuple[float, float]] = {}
    true_frames = set(video.true_frames)
    frame_idx: int | None = video.frames[0]
    while frame_idx is not None and len(rounds) < num_frames:
        clicks = click_on_frame(model, processor, session, frame_idx, video.truth(frame_idx))
        start = frame_idx if mode == "online" else video.frames[0]
        for output in model.propagate_in_video_iterator(session, start):
            if output.frame_idx in true_frames:
                masks = _mask_of(processor, output, video.sequence.size), video.truth(output.frame_idx)
                scores[output.frame_idx] = region_similarity(*masks), boundary_measure(*masks)
        rounds.append(Round(frame_idx, clicks, *np.mean(list(scores.values()), axis=0).tolist()))
        ious = {t: j for t, (j, _) in scores.items()}
        frame_idx = next_frame(ious, [done.frame for done in rounds], mode)
    return rounds


def click_on_frame(
    model: VideoModel,
    processor: EdgeTamVideoProcessor,
    session: EdgeTamVideoInferenceSession,
    frame_idx: int,
    truth: np.ndarray,
) -> list[tuple[float, float, int]]:
    """List of the clicks (x, y, label) that a user gives on a frame; the session has the answers then.

    Args:
        model, processor, session: of the object, which is new if the session has none.
        frame_idx: where to click.
        truth: true mask (H, W).
    """
    clicks: list[tuple[float, float, int]] = []
    mask = None
    if session.obj_ids:
        mask = _mask_of(processor, model(session, frame_idx=frame_idx, return_dict=True), truth.shape)
    while len(clicks) < NUM_CLICKS:
        click = (center_of(truth), 1) if mask is None else largest_error(mask, truth)
        if click is None:
            break
        point, label = click
        processor.add_inputs_to_inference_session(
            session, frame_idx, OBJECT_ID, [[[point]]], [[[label]]], clear_old_inputs=False
        )
        mask = _mask_of(processor, model(session, frame_idx=frame_idx, return_dict=True), truth.shape)
        clicks.append((*point, label))
    return clicks


def _mask_of(
    processor: EdgeTamVideoProcessor, output: EdgeTamVideoSegmentationOutput, size: tuple[int, int]
) -> np.ndarray:
    """Boolean mask (H, W) of the one object."""
    return processor.post_process_masks([output.pred_masks], [size])[0][0, 0].cpu().numpy()


def next_frame(ious: dict[int, float], annotated: list[int], mode: str) -> int | None:
    """Index of the frame to annotate next, or None if there is nothing to correct.

    Args:
        ious: IoU of the mask on each frame with ground truth, by index, ascending.
        annotated: indices of the frames that were annotated, in that order.
        mode: "offline": the lowest IoU of the other frames. "online": the first one after the last annotated frame
            that is too low.
    """
    if mode == "online":
        return next((t for t, iou in ious.items() if t > annotated[-1] and iou < PAUSE_IOU), None)
    wrong = [t for t, iou in ious.items() if t not in annotated and iou < 1]
    return min(wrong, key=ious.__getitem__, default=None)


# Scores.


def scores_by_limit(rounds: list[Round], num_frames: int) -> np.ndarray:
    """Array (num_frames, 2) of the J and F of an object for the limits 1, …, num_frames of annotated frames."""
    return np.array([(one.j, one.f) for one in (rounds + rounds[-1:] * num_frames)[:num_frames]])


def report_rounds(results: list[tuple[ObjectVideo, list[Round]]], num_frames: int) -> dict:
    """Dictionary of J&F, J and F for each limit of annotated frames, of J&F averaged over the limits, and of objects.

    Args:
        results: list of (`ObjectVideo`, its list of `Round`s).
        num_frames: highest limit.
    """
    j, f = np.mean([scores_by_limit(rounds, num_frames) for _, rounds in results], axis=0).T
    both = (j + f) / 2
    objects = [
        {"sequence": video.sequence.name, "object": video.object_id, "rounds": [asdict(one) for one in rounds]}
        for video, rounds in results
    ]
    return {
        "average": float(both.mean()),
        **{name: values.tolist() for name, values in (("J&F", both), ("J", j), ("F", f))},
        "num_objects": [sum(len(rounds) >= limit for _, rounds in results) for limit in range(1, num_frames + 1)],
        "objects": objects,
    }
