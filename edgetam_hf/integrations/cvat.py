"""An auto-annotation function of CVAT: everything in a picture, what is clicked, or the tracker.

    cvat-cli task auto-annotate 12 --function-module edgetam_hf.integrations.cvat -p model=str:nano
    cvat-cli function run-agent 3 --function-module edgetam_hf.integrations.cvat -p kind=str:track

This file imports nothing relative to itself, so that `--function-file` takes its path as well.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw

from edgetam_hf import (
    EdgeTamMaskGenerationPipeline,
    EdgeTamModel,
    EdgeTamProcessor,
    EdgeTamVideoInferenceSession,
)
from edgetam_hf.formats import polygons
from edgetam_hf.found_objects import CutMask
from edgetam_hf.integrations.clicked_picture import ClickedPicture
from edgetam_hf.loading import ModelChoice, load_video_model, load_with_processor
from edgetam_hf.pictures_edgetam import decode_picture
from edgetam_hf.tracking_edgetam import find_objects

try:
    import cvat_sdk.auto_annotation as cvat
    from cvat_sdk import models
    from cvat_sdk.masks import decode_mask, encode_mask
except ImportError as error:
    raise ImportError("edgetam_hf.integrations.cvat needs the SDK of CVAT: pip install cvat-sdk") from error

OBJECT_ID = 1  # a session of CVAT tracks one object


def create(model: str = "nano", kind: str = "detect", device: str = "cpu", **settings: Any) -> Any:
    """A function of CVAT, as its command line and its agents load it.

    Args:
        model: folder of a checkpoint, Hub id, or `nano`.
        kind: "detect" for masks of everything, "interact" for masks of what is clicked or boxed, "track" for following
            masks, polygons or rectangles through a video.
        device: where the model computes, "cpu" or "cuda".
        settings: of "detect" `label`, the name of the label of every object ("object" unless given), and the options
            of mask generation, such as `points_per_crop`; other kinds have none.

    Raises:
        ValueError: for another kind, and for settings out of range.
        TypeError: for settings that the kind does not have.
        OSError: if the model cannot be loaded.
    """
    kinds = {"detect": Everything, "interact": Clicked, "track": Tracked}
    if kind not in kinds:
        raise ValueError(f"kind must be one of {', '.join(kinds)}, got {kind!r}")
    if kind != "detect" and settings:
        raise TypeError(f"kind={kind} takes only model and device, got {', '.join(settings)}")
    return kinds[kind](ModelChoice(model, device), **settings)


class Everything:
    """A detection function: masks of all objects of a picture, best first, all with the same label.

    CVAT's threshold of confidence takes the place of `pred_iou_thresh`, which is the least predicted IoU.
    """

    LABEL_ID = 0

    def __init__(self, choice: ModelChoice, label: str = "object", **options: Any):
        model, processor = load_with_processor(EdgeTamModel, EdgeTamProcessor, choice)
        self._generator = EdgeTamMaskGenerationPipeline(
            model=model, image_processor=processor.image_processor, **options
        )
        self.spec = cvat.DetectionFunctionSpec(labels=[cvat.label_spec(label, self.LABEL_ID, type="mask")])

    def detect(self, context: cvat.DetectionFunctionContext, image: Image.Image) -> list[models.LabeledShapeRequest]:
        """A shape for each object: its mask, or the outline of its largest part where CVAT asks for polygons."""
        options = {} if context.conf_threshold is None else {"pred_iou_thresh": context.conf_threshold}
        write = polygon_of if context.conv_mask_to_poly else encode_mask
        make = cvat.polygon if context.conv_mask_to_poly else cvat.mask
        picture = Image.fromarray(decode_picture(image, context.frame_name))
        found = self._generator(picture, masks_on_demand=True, **options)
        return [
            make(self.LABEL_ID, write(mask.numpy()), score=score)
            for mask, score in zip(found["masks"], found["scores"].tolist())
            if mask.any()
        ]


class Clicked:
    """An interaction function: the mask of what is clicked or boxed; agents keep the encoded picture between clicks."""

    def __init__(self, choice: ModelChoice):
        self._model, self._processor = load_with_processor(EdgeTamModel, EdgeTamProcessor, choice)
        self.spec = cvat.InteractionFunctionSpec(min_pos_points=1, min_neg_points=0, min_bounding_boxes=0)

    def preprocess_image(self, context: cvat.InteractionFunctionContext, image: Image.Image) -> ClickedPicture:
        """The picture, encoded."""
        return ClickedPicture(self._model, self._processor, decode_picture(image, "the picture"))

    def detect(
        self, context: cvat.InteractionFunctionContext, pp_image: ClickedPicture, prompts: cvat.InteractionPrompts
    ) -> list[cvat.InteractionResultShape]:
        """One mask with its confidence, or nothing where nothing is found."""
        points = [(x, y, 1) for x, y in prompts.pos_points] + [(x, y, 0) for x, y in prompts.neg_points]
        box = prompts.bounding_box and (*prompts.bounding_box[0], *prompts.bounding_box[1])
        mask, score = pp_image.find(points, box)
        if not mask.any():
            return []
        confidence = models.AttributeValRequest(spec_id=cvat.InteractionResultAttributes.CONFIDENCE, value=f"{score}")
        return [cvat.InteractionResultShape(type="mask", points=encode_mask(mask), attributes=[confidence])]


class EncodedFrame(NamedTuple):
    """A frame that is encoded once for all shapes on it.

    pixel_values: (1, 3, H, W), the model input. embeddings: maps of it. size: (height, width) of the frame.
    """

    pixel_values: torch.Tensor
    embeddings: list[torch.Tensor]
    size: tuple[int, int]


class StagesOfFrame:
    """The stages of a tracking model, on a frame that is encoded already."""

    def __init__(self, model: Any, embeddings: list[torch.Tensor]):
        self._model, self._embeddings = model, embeddings

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def get_frame_embeddings(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """The maps that are there, as `TrackingModel.get_frame_embeddings` makes them."""
        return self._embeddings


class Tracked:
    """A tracking function for masks, polygons and rectangles: each shape has a session, a stream of frames.

    Between the shapes of a frame only its encoding is shared, since CVAT goes on with each of them on its own.
    """

    def __init__(self, choice: ModelChoice):
        self._model: Any
        self._model, self._processor = load_video_model(choice)
        self.spec = cvat.TrackingFunctionSpec(supported_shape_types=SHAPES)

    def preprocess_image(self, context: cvat.TrackingFunctionContext, image: Image.Image) -> EncodedFrame:
        """The frame, encoded."""
        pixels = decode_picture(image, "the frame")
        inputs = self._processor(images=pixels, return_tensors="pt").to(self._model.device, self._model.dtype)
        with torch.no_grad():
            embeddings = list(self._model.get_frame_embeddings(inputs["pixel_values"]))
        return EncodedFrame(inputs["pixel_values"], embeddings, (pixels.shape[0], pixels.shape[1]))

    def init_tracking_state(
        self, context: cvat.TrackingFunctionShapeContext, pp_image: EncodedFrame, shape: cvat.TrackableShape
    ) -> EdgeTamVideoInferenceSession:
        """A session that knows the shape on its first frame.

        Raises:
            ValueError: for a shape that does not fit the frame.
        """
        session = self._processor.init_video_session(
            inference_device=self._model.device, inference_state_device="cpu", dtype=self._model.dtype
        )
        prompt = SHAPES[shape.type].read(shape.points, pp_image.size)
        self._processor.add_inputs_to_inference_session(session, 0, OBJECT_ID, **prompt, original_size=pp_image.size)
        self._find(session, pp_image)
        return session

    def track(
        self,
        context: cvat.TrackingFunctionShapeContext,
        pp_image: EncodedFrame,
        state: EdgeTamVideoInferenceSession,
    ) -> cvat.TrackableShape | None:
        """The shape on the next frame, of the type that it began with; None where the object is not seen."""
        mask = self._find(state, pp_image)
        if not mask.any():
            return None
        kind = context.original_shape_type
        return cvat.TrackableShape(type=kind, points=SHAPES[kind].write(mask))

    def _find(self, session: EdgeTamVideoInferenceSession, frame: EncodedFrame) -> np.ndarray:
        """The mask (H, W) of the object of a session on the frame that comes next in it."""
        stages = StagesOfFrame(self._model, frame.embeddings)
        with torch.no_grad():
            output = find_objects(stages, session, frame=frame.pixel_values, answers_prompts=True)
        return self._processor.post_process_masks([output.pred_masks], [frame.size])[0][0, 0].cpu().numpy()


def polygon_of(mask: np.ndarray) -> list[float]:
    """x, y, x, y, … of the outline of the largest part of a boolean mask (H, W), in pixels."""
    if polygons.measure is None:
        raise ImportError("polygons need scikit-image: pip install scikit-image")
    return [float(number) for number in polygons.rings_of(CutMask.of(mask))[0].ravel()]


def rectangle_of(mask: np.ndarray) -> list[float]:
    """x_min, y_min, x_max, y_max of the edges of a boolean mask (H, W), in pixels."""
    x_min, y_min, x_max, y_max = CutMask.of(mask).box or (0, 0, 0, 0)
    return [float(side) for side in (x_min, y_min, x_max + 1, y_max + 1)]


def read_mask(points: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
    """A prompt of CVAT's run lengths of a mask."""
    return {"input_masks": decode_mask(points, image_width=size[1], image_height=size[0])}


def read_polygon(points: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
    """A prompt of the corners of a polygon."""
    image = Image.new("1", (size[1], size[0]))
    ImageDraw.Draw(image).polygon([(x - 0.5, y - 0.5) for x, y in zip(points[::2], points[1::2])], fill=1)
    return {"input_masks": np.array(image)}


def read_rectangle(points: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
    """A prompt of x_min, y_min, x_max, y_max."""
    return {"input_boxes": [[list(points)]]}


class Shape(NamedTuple):
    """How a type of shapes becomes a prompt, (points, (height, width)) -> inputs, and how a mask becomes its points."""

    read: Any
    write: Any


SHAPES = {
    "mask": Shape(read_mask, encode_mask),
    "polygon": Shape(read_polygon, polygon_of),
    "rectangle": Shape(read_rectangle, rectangle_of),
}
