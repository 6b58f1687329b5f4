"""What a session does with a video or a camera that is open: prompts, and objects that are followed."""

from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ..device_edgetam import fetch, send
from ..discovery_edgetam_video import search_of_frame
from ..found_objects import masks_of_logits
from ..memory_bank_edgetam import FrameResult
from ..processing_edgetam_video import EdgeTamVideoProcessor
from .asked import Prompt, read_flag, read_integer, read_masks, read_points_per_side, read_prompt
from .calls import Answer, Asked, Steps
from .media import MediaInfo, Video, read_camera_frame
from .messages import Found, FoundFrame, runs_of
from .models import Models
from .searching import search_in_steps

MEMORY_FRAMES = 64  # of a video: that can be shown and corrected as if nothing were ever forgotten
CACHED_FRAMES = 4  # whose image embeddings are kept; of a camera those that can be prompted
MOST_OBJECTS = 256


class Tracking:
    """Objects of an inference session, and the calls that videos and cameras share.

    Args:
        models: of the server; with a memory.
        video: what is open, None for a stream.
        size: (height, width) of the frames.
    """

    def __init__(self, models: Models, video: Video | None, size: tuple[int, int]):
        assert models.video is not None
        self.model, self.size = models.video, size
        self.processor: EdgeTamVideoProcessor = models.processor
        self.session = self.processor.init_video_session(
            None if video is None else video.frames,
            inference_device=self.model.device,
            dtype=self.model.dtype,
            max_vision_features_cache_size=CACHED_FRAMES,
            max_memory_frames=None if video is None else MEMORY_FRAMES,
        )
        self.answers: dict[str, Answer] = {
            "add_prompt": self.add_prompt,
            "clear_prompts": self.clear_prompts,
            "remove_object": self.remove_object,
            "reset": self.reset,
        }

    def add_prompt(self, asked: Asked) -> FoundFrame:
        """What is found on a frame after more was said of an object on it."""
        object_id, frame_idx = read_integer(asked.params, "objectId"), read_integer(asked.params, "frameIdx")
        prompt = read_prompt(asked.params, asked.payload, self.size)
        with self.unchanged_by_errors():
            frame_idx = self.say(frame_idx, object_id, prompt)
            if self.is_there(frame_idx):
                self.model(self.session, frame_idx=frame_idx)
        return self.found_on(frame_idx)

    def clear_prompts(self, asked: Asked) -> FoundFrame:
        """What is found on a frame after all that was said of an object on it was taken back."""
        object_id, frame_idx = read_integer(asked.params, "objectId"), read_integer(asked.params, "frameIdx")
        with self.unchanged_by_errors():
            self.session.clear_prompts(frame_idx, object_id)
            direction = self.session.objects[object_id].direction_at(frame_idx)
            if direction is not None and self.is_there(frame_idx):  # it was tracked there before it was corrected
                self.model(self.session, frame_idx=frame_idx, reverse=direction)
        return self.found_on(frame_idx)

    def remove_object(self, asked: Asked) -> None:
        """Forgets an object."""
        self.session.remove_object(read_integer(asked.params, "objectId"))

    def reset(self, asked: Asked) -> None:
        """Forgets all objects."""
        self.session.reset_tracking_data()

    def say(self, frame_idx: int, object_id: int, prompt: Prompt) -> int:
        """Adds a prompt of an object to what was said of it on a frame; returns the index of the frame."""
        self.check_room({object_id})
        known = self.session.objects.get(object_id)
        earlier = known.on(frame_idx).prompts if known else ()
        if prompt.mask is not None and (prompt.points or prompt.box):
            raise ValueError("a mask stands alone: say clicks and boxes in a call of their own")
        if prompt.box and earlier and not earlier[-1].has_mask:
            raise ValueError("a box must come before clicks on the same object: take those back first")
        self.processor.add_inputs_to_inference_session(
            self.session,
            frame_idx,
            object_id,
            input_points=[[prompt.points]] if prompt.points else None,
            input_labels=[[prompt.labels]] if prompt.points else None,
            input_boxes=[[prompt.box]] if prompt.box else None,
            input_masks=None if prompt.mask is None else [prompt.mask],
            original_size=self.size,
            clear_old_inputs=False,
        )
        return frame_idx

    def check_room(self, object_ids: Set[int]) -> None:
        """Raises a ValueError if there would be too many objects with these."""
        known = self.session.objects.keys()
        if len(known | object_ids) > MOST_OBJECTS:
            raise ValueError(f"there are {len(known)} objects already, and this server tracks {MOST_OBJECTS} at once")

    def is_there(self, frame_idx: int) -> bool:
        """Whether a frame can be looked at now."""
        return not self.session.is_stream or frame_idx in self.session.image_embeddings

    @contextmanager
    def unchanged_by_errors(self) -> Iterator[None]:
        """Within it an error leaves the session as it was before."""
        before = self.session.draft()
        try:
            yield
        except BaseException:
            self.session.adopt(before)
            raise

    def found_on(self, frame_idx: int) -> FoundFrame:
        """The objects of which something is known on a frame."""
        known = ((object_id, known.result_at(frame_idx)) for object_id, known in self.session.objects.items())
        results = {object_id: result for object_id, result in known if result is not None}
        return FoundFrame(frame_idx, list(self._found(results)))

    def _found(self, results: dict[int, FrameResult]) -> Iterator[Found]:
        if not results:
            return
        scored = [torch.stack([found.iou_score, found.object_score_logit]).flatten() for found in results.values()]
        masked = [found.mask for found in results.values() if found.mask is not None]
        logits, scores = fetch([torch.stack(masked).float(), torch.stack(scored).float()])
        masks = masks_of_logits(logits, self.size)
        for object_id, mask, (score, logit) in zip(results, masks, scores.tolist(), strict=True):
            yield Found(object_id, runs_of(mask), score, logit > 0)


class VideoWork(Tracking):
    """A video that is open."""

    def __init__(self, models: Models, video: Video):
        super().__init__(models, video, (video.info.height, video.info.width))
        self.media, self.info = video, video.info
        self.answers |= {"add_masks": self.add_masks, "propagate": self.propagate, "everything": self.everything}
        self.search_options = models.generator.options.updated({"crops_n_layers": 0})

    def add_masks(self, asked: Asked) -> FoundFrame:
        """What is found on a frame on which objects begin with masks."""
        frame_idx = read_integer(asked.params, "frameIdx")
        masks = read_masks(asked.params, asked.payload, self.size)
        self.check_room(masks.keys())
        with self.unchanged_by_errors():
            self.processor.add_inputs_to_inference_session(
                self.session, frame_idx, list(masks), input_masks=list(masks.values()), original_size=self.size
            )
            self.model(self.session, frame_idx=frame_idx)
        return self.found_on(frame_idx)

    def everything(self, asked: Asked) -> Steps:
        """All that is on a frame, best first; once cancelled, what was found until then."""
        frame_idx, num_points_per_side = read_integer(asked.params, "frameIdx"), read_points_per_side(asked.params)
        options = self.search_options.updated({"points_per_crop": num_points_per_side})
        model: Any = self.model  # it is a `DiscoveringModel`, too, which types cannot say here
        search = search_of_frame(model, self.session, self.session.check_frame(frame_idx), options)
        return search_in_steps(search, self.size, options, asked, frame_idx)

    def propagate(self, asked: Asked) -> Steps:
        """Follows all objects from a frame on, and yields what is found on each."""
        params = asked.params
        start, is_reverse = read_integer(params, "start"), read_flag(params, "isReverse")
        count = None if params.get("count") is None else read_integer(params, "count")
        if not any(known.prompts for known in self.session.objects.values()):
            raise ValueError("there is nothing to follow yet: click on an object first")
        for output in self.model.propagate_in_video_iterator(self.session, start, count, is_reverse):
            yield self.found_on(output.frame_idx)
            if asked.is_cancelled():
                break
        return None


class LiveWork(Tracking):
    """A camera, whose frames come one by one."""

    def __init__(self, models: Models, size: tuple[int, int]):
        super().__init__(models, None, size)
        self.media = None
        self.info = MediaInfo("live", "camera", size[1], size[0], num_frames=0)
        self.answers["receive"] = self.receive

    def receive(self, asked: Asked) -> FoundFrame:
        """What is found on the next frame."""
        pixels = read_camera_frame(asked.payload, self.size)
        frame = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        assert self.session.frame_processor is not None  # it is a session of the processor
        pixel_values = send(self.session.frame_processor(frame), self.model.device).to(self.session.dtype)
        output = self.model(self.session, frame=pixel_values, return_dict=True)
        return self.found_on(output.frame_idx)

    def say(self, frame_idx: int, object_id: int, prompt: Prompt) -> int:
        """Adds a prompt on a frame that is still known, else on the next one; returns the index of the frame."""
        if frame_idx not in self.session.image_embeddings:
            frame_idx = self.session.num_frames
        return super().say(frame_idx, object_id, prompt)
