"""Videos and their prompts in: sessions from videos or streams, and prompts that are added to them.

Shapes: O objects, P points, (H, W) the model input. Coordinates are (x, y) in pixels of the video.
"""

from typing import TYPE_CHECKING, Any

import torch

from .checks_edgetam_video import (
    check_nested,
    check_session,
    read_dtype,
    read_masks,
    read_object_ids,
)
from .image_processing_edgetam import EdgeTamImageProcessor, check_original_sizes
from .masks_edgetam import resize_mask
from .memory_bank_edgetam import PackedMask, Prompt
from .memory_selection_edgetam import MemorySelection
from .processing_edgetam import EdgeTamProcessor
from .prompts_edgetam import BOX_CORNER_LABELS, Prompts
from .session_edgetam import EdgeTamVideoInferenceSession
from .settings_edgetam import as_device, as_flag, height_width
from .video_processing_edgetam import EdgeTamVideoVideoProcessor

if TYPE_CHECKING:  # transformers<5: its loader of remote code takes along only files that are named here
    from .device_edgetam import send  # noqa: F401
    from .everything_edgetam_video import EverythingState  # noqa: F401
    from .mask_generation_edgetam import Crop  # noqa: F401
    from .pictures_edgetam import read_picture  # noqa: F401
    from .stages_edgetam_video import ObjectPrediction  # noqa: F401
    from .video_file_edgetam import VideoReader  # noqa: F401


class EdgeTamVideoProcessor(EdgeTamProcessor):
    """Sessions and prompts for `EdgeTamVideoModel`, and masks from its outputs.

    Single pictures and frames of a stream are prepared by calling it, as `EdgeTamProcessor`.

    Args:
        image_processor (`EdgeTamImageProcessor`):
            Prepares pictures, and brings masks to any size; its `size` is the frame into which coordinates are scaled.
        video_processor (`EdgeTamVideoVideoProcessor`):
            Prepares the frames of videos.
        target_size (`int` or pair (height, width), *optional*):
            Another frame for coordinates. Needed only for pictures that were prepared elsewhere.
        point_pad_value (`int`, *optional*, defaults to -10):
            Coordinates and label of padding.
    """

    native_class = "Sam2VideoProcessor"
    part_files = {  # noqa: RUF012
        **EdgeTamProcessor.part_files,
        "video_processor": "video_preprocessor_config.json",
    }
    # transformers<5: reads these three
    attributes = ["image_processor", "video_processor"]  # noqa: RUF012
    image_processor_class = "AutoImageProcessor"
    video_processor_class = "AutoVideoProcessor"

    def __init__(
        self,
        image_processor: EdgeTamImageProcessor,
        video_processor: EdgeTamVideoVideoProcessor,
        target_size: Any = None,
        point_pad_value: int = -10,
        **kwargs: Any,
    ):
        super().__init__(image_processor, target_size, point_pad_value, video_processor=video_processor, **kwargs)

    def init_video_session(
        self,
        video: Any = None,
        inference_device: torch.device | str = "cpu",
        inference_state_device: torch.device | str | None = None,
        processing_device: torch.device | str | None = None,
        video_storage_device: torch.device | str | None = None,
        max_vision_features_cache_size: int = 1,
        dtype: torch.dtype = torch.float32,
        max_memory_frames: int | None = None,
        max_objects_per_batch: int = 8,
        memory_selection: MemorySelection | str = "recent",
    ) -> EdgeTamVideoInferenceSession:
        """A session for a video, or for a stream of frames if no video is given.

        Args:
            video (*optional*):
                List of PIL pictures, array or tensor of frames (uint8; (T, 3, height, width) or (T, height, width,
                3)), which are stored as they are; or the path of a folder of pictures or of a video file (needs
                PyAV), which are read frame by frame when needed.
            inference_device (`str` or `torch.device`, *optional*, defaults to `"cpu"`):
                Where the model is.
            inference_state_device, processing_device, video_storage_device (*optional*):
                Where results are kept, frames are resized, and given frames are stored; `inference_device` by default.
            max_vision_features_cache_size, dtype, max_memory_frames, max_objects_per_batch, memory_selection:
                See `EdgeTamVideoInferenceSession`: among others what is remembered, what is forgotten, and what is not.

        Raises:
            ValueError: for a video without frames, of mixed sizes, or that cannot be read; for a device that is not
                there, limits below 1, and another name of a `memory_selection`.
            TypeError: for anything that is no video, and for frames that are not uint8; for a `dtype` of integers, and
                a `memory_selection` of another kind.
        """
        from .video_frames_edgetam import open_video  # here, for it imports PyAV, which takes 60 ms

        size = height_width(self.target_size)
        if size != height_width(self.video_processor.size):
            raise ValueError(
                f"the video processor makes frames of {height_width(self.video_processor.size)}, but coordinates are "
                f"scaled to {size}: give both the same size"
            )
        given = {
            "inference_state_device": inference_state_device,
            "processing_device": processing_device,
            "video_storage_device": video_storage_device,
        }
        inference_device = as_device(inference_device, "inference_device")
        devices = {n: inference_device if value is None else as_device(value, n) for n, value in given.items()}
        frames = None if video is None else open_video(video, devices["video_storage_device"])
        return EdgeTamVideoInferenceSession(
            frames=frames,
            frame_processor=self.video_processor.frame_processor(devices["processing_device"]),
            image_size=size,
            video_height=None if frames is None else frames.height,
            video_width=None if frames is None else frames.width,
            inference_device=inference_device,
            dtype=read_dtype(dtype, "dtype"),
            max_vision_features_cache_size=max_vision_features_cache_size,
            max_memory_frames=max_memory_frames,
            max_objects_per_batch=max_objects_per_batch,
            memory_selection=memory_selection,
            inference_state_device=devices["inference_state_device"],
            video_storage_device=devices["video_storage_device"],
            mask_generation=getattr(self.image_processor, "mask_generation", None),
        )

    def add_inputs_to_inference_session(
        self,
        inference_session: EdgeTamVideoInferenceSession,
        frame_idx: int,
        obj_ids: list[int] | int,
        input_points: Any = None,
        input_labels: Any = None,
        input_boxes: Any = None,
        input_masks: Any = None,
        original_size: tuple[int, int] | None = None,
        clear_old_inputs: bool = True,
    ) -> EdgeTamVideoInferenceSession:
        """The session, with prompts added for one object or more on a frame; `EdgeTamVideoModel` answers them.

        Objects of one call may have prompts of different kinds: write `None` for an object where it has none of a
        kind, e.g. `obj_ids=[1, 2], input_points=[[[[9, 9]], None]], input_boxes=[[None, [5, 5, 20, 30]]]`. A box comes
        before the clicks of the same object; a mask replaces both. Nothing given is changed, and on an error the
        session stays as it was.

        Args:
            inference_session (`EdgeTamVideoInferenceSession`):
                From `init_video_session`.
            frame_idx (`int`):
                Index of the frame.
            obj_ids (`int` or `list[int]`):
                Ids of the objects, any integers, also of NumPy or tensors; unknown ones begin new objects.
            input_points:
                [image][object][point][x, y], with a single image.
            input_labels:
                [image][object][point]: 1 on the object (the default), 0 off the object.
            input_boxes:
                [image][object][x_min, y_min, x_max, y_max].
            input_masks (array, tensor, PIL picture of one channel, or list of them):
                One mask (height, width) per object, of the size of the video. Flags and integers above 0 are on the
                object; so are floats from 0.5 on, as in Transformers, once the mask is resized to the model input:
                those below 0 count as 0, and above 1 as 1. Of logits give `logits > 0`. A mask without any pixel says
                that the object is not in the picture.
            original_size (pair (height, width), *optional*):
                Size of the frames; needed once in a stream.
            clear_old_inputs (`bool`, *optional*, defaults to `True`):
                Whether clicks replace earlier prompts of the object on this frame, or join them. The mask found for
                them is taken into account in any case.

        Raises:
            ValueError, TypeError: for prompts of a wrong shape, size or number, a box turned inside out, an id that
                occurs twice, and a frame outside the video.
        """
        session = check_session(inference_session)
        obj_ids = read_object_ids(obj_ids)
        clear_old_inputs = as_flag(clear_old_inputs, "clear_old_inputs")
        prompts = {"input_points": input_points, "input_labels": input_labels, "input_boxes": input_boxes}
        for name, value in {**prompts, "original_size": original_size}.items():
            check_nested(value, name)
        masks = None if input_masks is None else read_masks(input_masks)
        with session.lock:
            frame_idx = session.check_frame(frame_idx)
            size = self._video_size(session, original_size, masks)
            clicked = self._read_clicks(**prompts, obj_ids=obj_ids, size=size)
            masked = {} if masks is None else self._read_masks(masks, obj_ids, size)
            whole = {}
            for obj_id in obj_ids:
                if (obj_id in clicked) == (obj_id in masked):
                    state = "both a mask and clicks or a box" if obj_id in masked else "no prompt"
                    raise ValueError(
                        f"object {obj_id} has {state} in this call: give it clicks, a box with them, or a mask"
                    )
                whole[obj_id] = masked.get(obj_id) or self._joined(
                    session, frame_idx, obj_id, clicked[obj_id], clear_old_inputs
                )
            session.add_prompts(frame_idx, whole, size)
        return session

    def process_new_points_or_boxes_for_video_frame(
        self,
        inference_session: EdgeTamVideoInferenceSession,
        frame_idx: int,
        obj_ids: list[int] | int,
        input_points: Any = None,
        input_labels: Any = None,
        input_boxes: Any = None,
        original_size: tuple[int, int] | None = None,
        clear_old_inputs: bool = True,
    ) -> EdgeTamVideoInferenceSession:
        """The session, with clicks and boxes added: `add_inputs_to_inference_session` under a name of Transformers."""
        return self.add_inputs_to_inference_session(
            inference_session,
            frame_idx,
            obj_ids,
            input_points=input_points,
            input_labels=input_labels,
            input_boxes=input_boxes,
            original_size=original_size,
            clear_old_inputs=clear_old_inputs,
        )

    def process_new_mask_for_video_frame(
        self,
        inference_session: EdgeTamVideoInferenceSession,
        frame_idx: int,
        obj_ids: list[int] | int,
        input_masks: Any,
    ) -> EdgeTamVideoInferenceSession:
        """The session, with masks added: `add_inputs_to_inference_session` under a name of Transformers."""
        return self.add_inputs_to_inference_session(inference_session, frame_idx, obj_ids, input_masks=input_masks)

    def _video_size(
        self, session: EdgeTamVideoInferenceSession, original_size: Any, masks: list[torch.Tensor | None] | None
    ) -> tuple[int, int]:
        """(height, width) of the frames, from the session or what was given for a stream."""
        known = None
        if session.video_height is not None and session.video_width is not None:
            known = (session.video_height, session.video_width)
        if original_size is not None:
            return session.check_size(check_original_sizes([original_size])[0])
        if known is None and masks is not None:
            known = next(((mask.shape[0], mask.shape[1]) for mask in masks if mask is not None), None)
        if known is None:
            raise ValueError(
                "original_size=(height, width) of the frames must be given with the first prompt of a stream"
            )
        return known

    def _read_clicks(
        self, input_points: Any, input_labels: Any, input_boxes: Any, obj_ids: list[int], size: tuple[int, int]
    ) -> dict[int, Prompt]:
        """`Prompt`s of points, box corners first, by object id, in pixels of the model input."""
        if input_labels is not None and input_points is None:
            raise ValueError("input_labels were given without input_points: give the points that they belong to")
        if input_points is None and input_boxes is None:
            return {}
        pad = self.point_pad_value
        encoded = self(
            input_points=_fill_none(input_points, [[pad, pad]]),
            input_labels=_fill_none(input_labels, [pad]),
            input_boxes=_fill_none(input_boxes, [pad] * 4),
            original_sizes=[size],
            return_tensors="pt",
        )
        for name in ("input_points", "input_boxes"):
            if name in encoded and encoded[name].shape[1] != len(obj_ids):
                raise ValueError(
                    f"{name} must have one entry per object of obj_ids, got {encoded[name].shape[1]} for {obj_ids}"
                )
        points = encoded.get("input_points", torch.zeros(1, len(obj_ids), 0, 2))[0]
        labels = encoded.get("input_labels", torch.zeros(1, len(obj_ids), 0, dtype=torch.long))[0]
        boxes = encoded.get("input_boxes", torch.full((1, len(obj_ids), 4), float(pad)))[0]
        prompts = {}
        for obj_id, point, label, box in zip(obj_ids, points, labels, boxes):
            is_point, has_box = label != pad, not bool((box == pad).all())
            if has_box and (box[2:] < box[:2]).any():
                raise ValueError(
                    f"input_boxes must be (x_min, y_min, x_max, y_max) with x_min <= x_max and y_min <= y_max, that of "
                    f"object {obj_id} is turned inside out"
                )
            corners = box.view(2, 2) if has_box else box.new_zeros(0, 2)
            corner_labels = label.new_tensor(BOX_CORNER_LABELS if has_box else [])
            if has_box or is_point.any():
                clicks = Prompts(
                    points=torch.cat((corners, point[is_point]))[None, None],
                    labels=torch.cat((corner_labels, label[is_point]))[None, None],
                )
                prompts[obj_id] = Prompt(clicks)
        return prompts

    def _read_masks(
        self, masks: list[torch.Tensor | None], obj_ids: list[int], size: tuple[int, int]
    ) -> dict[int, Prompt]:
        """`Prompt`s of masks, by object id, at the size of the model input."""
        if len(masks) != len(obj_ids):
            raise ValueError(f"input_masks must have one mask per object of obj_ids, got {len(masks)} for {obj_ids}")
        prompts = {}
        for obj_id, mask in zip(obj_ids, masks):
            if mask is not None:
                if tuple(mask.shape) != tuple(size):
                    raise ValueError(
                        f"the mask of object {obj_id} must have the size of the video, {tuple(size)}, got "
                        f"{tuple(mask.shape)}"
                    )
                prompts[obj_id] = Prompt(packed_mask=PackedMask.pack(resize_mask(mask, height_width(self.target_size))))
        return prompts

    @staticmethod
    def _joined(
        session: EdgeTamVideoInferenceSession, frame_idx: int, obj_id: int, prompt: Prompt, clear_old_inputs: bool
    ) -> Prompt:
        """The prompt, after the clicks that the object already has on the frame unless they are to be cleared."""
        earlier = session.objects[obj_id].on(frame_idx).prompts if obj_id in session.objects else ()
        if clear_old_inputs or not earlier or earlier[-1].has_mask:
            return prompt
        if prompt.has_box:
            raise ValueError(
                f"a box must come before clicks, but object {obj_id} has some on frame {frame_idx}: give "
                "clear_old_inputs=True"
            )
        return prompt.after(earlier[-1])

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> list[Any]:
        # The Auto class that Transformers would ask here gives native's processors unless remote code is allowed.
        classes = (EdgeTamImageProcessor, EdgeTamVideoVideoProcessor)
        return [part.from_pretrained(pretrained_model_name_or_path, **kwargs) for part in classes]


def _fill_none(prompts: Any, stand_in: list[Any]) -> Any:
    """Nested prompts in which `None` for an object is replaced by padding."""
    if not isinstance(prompts, (list, tuple)):
        return prompts
    return [
        [stand_in if of_object is None else of_object for of_object in of_image]
        if isinstance(of_image, (list, tuple))
        else of_image
        for of_image in prompts
    ]
