"""EdgeTAM as models of FiftyOne, for `dataset.apply_model`: pictures, frames, and objects tracked through videos.

Boxes of FiftyOne are (left, top, width, height) and its points (x, y), as fractions of the picture.
"""

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from edgetam_cli.endings import first_line
from edgetam_runtime import is_exported

from .. import EdgeTamMaskGenerationPipeline, EdgeTamModel, EdgeTamProcessor
from ..found_objects import CutMask, masks_of_logits
from ..loading import ModelChoice, load_video_model, load_with_processor
from ..prompted_pictures import PicturePrompt, PromptedFinder, PromptedMask
from ..settings_edgetam import as_device

try:
    import fiftyone.core.clips as foc
    import fiftyone.core.labels as fol
    import fiftyone.core.models as fom
except ImportError as error:
    raise ImportError("EdgeTAM in FiftyOne needs FiftyOne: pip install fiftyone") from error

logger = logging.getLogger(__name__)

PROMPT_FIELD = "prompt_field"  # the name under which FiftyOne's own models take it
POINT_LABELS = ("sam_labels", "sam2_labels")  # where FiftyOne's own models look for the labels of clicks
IN_FRAMES = "frames."

Answer = tuple[CutMask, float, str | None, int | None]  # mask, score, label, index


@dataclass(frozen=True)
class PromptedObject:
    """An object that a field has: its class and index, and in pixels its box or its clicks with their labels."""

    label: str | None
    index: int | None
    box: list[float] | None = None
    points: list[list[float]] | None = None
    point_labels: list[int] | None = None

    @property
    def is_ambiguous(self) -> bool:
        """Whether it is a single click, which may mean a thing or its part, so that the best of three masks counts."""
        return self.points is not None and len(self.points) == 1

    def as_prompt(self) -> PicturePrompt:
        """What is said of it in a picture."""
        clicks = zip(self.points or (), self.point_labels or ())
        return PicturePrompt([(x, y, label) for (x, y), label in clicks], self.box)


class EdgeTamFiftyOneModel(fom.SamplesMixin, fom.Model):
    """What the models for pictures and for videos share: the field with the prompts."""

    config = None  # FiftyOne would look here for thresholds; without them it applies its own

    @property
    def needs_fields(self) -> dict[str, str]:
        """Names of fields by what they are for: `{"prompt_field": …}`, or nothing."""
        return self._fields

    @needs_fields.setter
    def needs_fields(self, fields: dict[str, str]) -> None:
        unknown = sorted(set(fields) - {PROMPT_FIELD})
        if unknown:
            raise TypeError(f"{type(self).__name__} takes no {', '.join(unknown)}, only {PROMPT_FIELD}: rename it")
        name = fields.get(PROMPT_FIELD)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{PROMPT_FIELD} must be the name of a field, got {name!r}")
        self._fields = fields


class EdgeTamFiftyOneImageModel(EdgeTamFiftyOneModel, fom.TorchModelMixin):
    """Everything in pictures, or with `prompt_field` the objects in a field of `Detections` or `Keypoints`.

        model = EdgeTamFiftyOneImageModel("nano")
        dataset.apply_model(model, label_field="everything")
        dataset.apply_model(model, label_field="masks", prompt_field="boxes")

    Results are `Detections` with masks: `confidence` is the predicted IoU, `label` and `index` are those of the prompt.
    Every `Keypoint` is one object; its points are on it but for those whose entry in the list `sam_labels` (or
    `sam2_labels`) of the keypoint is 0, points of NaN do not count, and of a single click the best of three masks does.
    Objects that the model does not see are left out. A sample whose prompt field is empty (None) gets no result, and a
    warning says so. Frames of videos are pictures, too: `label_field="frames.masks"`, `prompt_field="frames.boxes"`.

    Args:
        name: folder of a checkpoint or of an exported model, Hub id, or `nano`, which is embedded.
        device: where to compute; by default a GPU if there is one.
        everything: options of `EdgeTamMaskGenerationPipeline`, such as `points_per_crop`.

    Raises:
        OSError, ValueError: for a checkpoint that cannot be loaded, and a device that is not there.
        TypeError: for unknown options.
    """

    media_type = "image"
    ragged_batches = False  # batches are lists, of pictures of any sizes
    has_collate_fn = True
    preprocess = True  # whether pictures come as they are; FiftyOne's data loader has them go through `transforms`
    _using_gpu = False  # FiftyOne asks before it pins memory, which is of no use for pictures

    def __init__(self, name: str = "nano", device: str | None = None, **everything: Any):
        super().__init__()
        self.model, self.processor = load_with_processor(EdgeTamModel, EdgeTamProcessor, _choice(name, device))
        self.generator = EdgeTamMaskGenerationPipeline(
            model=self.model, image_processor=self.processor.image_processor, **everything
        )

    @property
    def transforms(self) -> Any:
        """What makes an upright PIL picture of a PIL picture or array."""
        return upright

    def predict(self, arg: Any, sample: Any = None) -> fol.Detections | None:
        """The objects of one picture, see `predict_all`."""
        return self.predict_all([arg], None if sample is None else [sample])[0]

    def predict_all(self, args: Any, samples: Any = None) -> list[fol.Detections | None]:
        """The objects of each picture (PIL, or uint8 array (H, W, 3)); with prompts, of its sample or frame.

        Raises:
            ValueError: for a field that a sample does not have, and prompts without boxes or with labels that do not
                fit.
            TypeError: for a field of anything but boxes and keypoints.
        """
        pictures = [upright(arg) for arg in args] if self.preprocess else list(args)
        field = self.needs_fields.get(PROMPT_FIELD)
        if field is None:
            return [self._find_everything(picture) for picture in pictures]
        if samples is None:
            raise ValueError(f"prompts of {PROMPT_FIELD}={field!r} are read from samples: give these too")
        prompts = [read_prompts(sample, field, picture.size) for sample, picture in zip(samples, pictures, strict=True)]
        for sample, of_sample in zip(samples, prompts):
            if of_sample is None and not field.startswith(IN_FRAMES):
                logger.warning("sample %s has no prompts in %r: nothing is segmented in it", sample.id, field)
        found = iter(self._find_prompted([(picture, of) for picture, of in zip(pictures, prompts) if of]))
        return [None if of is None else next(found) if of else fol.Detections() for of in prompts]

    def _find_everything(self, picture: Image.Image) -> fol.Detections:
        outputs = self.generator(picture, masks_on_demand=True)
        masks = (CutMask.of(mask.numpy()) for mask in outputs["masks"])
        return as_detections((mask, score, None, None) for mask, score in zip(masks, outputs["scores"].tolist()))

    @torch.inference_mode()
    def _find_prompted(self, prompted: list[tuple[Image.Image, list[PromptedObject]]]) -> list[fol.Detections]:
        """The objects of each picture; all pictures go through the image encoder together."""
        if not prompted:
            return []
        inputs = self.processor(images=[picture for picture, _ in prompted], return_tensors="pt")
        pixel_values = inputs["pixel_values"].to(self.model.device, self.model.dtype)
        levels = self.model.get_image_embeddings(pixel_values)
        embeddings = ([level[idx : idx + 1] for level in levels] for idx in range(len(prompted)))
        return [self._decode(maps, *of) for maps, of in zip(embeddings, prompted)]

    def _decode(
        self, embeddings: list[torch.Tensor], picture: Image.Image, objects: list[PromptedObject]
    ) -> fol.Detections:
        found: dict[int, PromptedMask] = {}
        for is_ambiguous in (False, True):
            places = [place for place, of in enumerate(objects) if of.is_ambiguous == is_ambiguous]
            finder = PromptedFinder(self.model, self.processor, is_multimask=is_ambiguous)
            prompts = [objects[place].as_prompt() for place in places]
            found.update(zip(places, finder.find(embeddings, prompts, (picture.height, picture.width))))
        answers = ((found[place], of) for place, of in enumerate(objects))
        return as_detections((of[0].mask, of[0].score, of[1].label, of[1].index) for of in answers if of[0].is_present)


class EdgeTamFiftyOneVideoModel(EdgeTamFiftyOneModel):
    """Objects tracked through videos, from a field of `Detections` or `Keypoints` on the first or any frames.

        model = EdgeTamFiftyOneVideoModel("nano")
        dataset.apply_model(model, label_field="masks", prompt_field="frames.boxes")

    Every frame gets `Detections` with masks, as the model for pictures makes them: tracking begins at the first frame
    that has prompts, and goes from there to both ends of the video or clip. Prompts of one `label` and `index` are of
    one object, also on other frames; a prompt without an index begins an object, which gets an index that is free.

    Args:
        name: folder of a video checkpoint or of an exported model, Hub id, or `nano`, which is embedded.
        device: where to compute; by default a GPU if there is one.

    Raises:
        OSError, ValueError: for a checkpoint that cannot be loaded or has no memory, and a device that is not there.
    """

    media_type = "video"

    def __init__(self, name: str = "nano", device: str | None = None):
        super().__init__()
        self.model, self.processor = load_video_model(_choice(name, device))

    def __enter__(self) -> "EdgeTamFiftyOneVideoModel":
        self._field()  # here apply_model has set the fields, and an error ends it: later ones are warnings, one a video
        return self

    def predict(self, arg: Any, sample: Any = None) -> dict[int, fol.Detections]:
        """`Detections` by the number of the frame, from 1 on, of a sample's video; `arg`, its reader, is not used.

        Raises:
            ValueError: for a field that frames do not have, or that is empty on all of them, and prompts without boxes
                or with labels that do not fit.
            TypeError: for a field of anything but boxes and keypoints.
        """
        if sample is None:
            raise ValueError("the video and its prompts are read from the sample: give it too")
        session = self.processor.init_video_session(
            sample.filepath, inference_device=self.model.device, dtype=self.model.dtype, max_memory_frames=1
        )
        assert session.video_width is not None and session.video_height is not None  # it has a video
        size, field = (session.video_width, session.video_height), self._field()
        read = {number: read_prompts(frame, field, size) for number, frame in sample.frames.items()}
        prompts = {number: objects for number, objects in sorted(read.items()) if objects}
        if not prompts:
            raise ValueError(f"no frame of {sample.filepath} has prompts in {field!r}: nothing is tracked in it")
        tracked = self._add_prompts(session, prompts)
        return {
            output.frame_idx + 1: self._detections(output, tracked, size)
            for output in self._track(session, sample, min(prompts) - 1)
        }

    def _field(self) -> str:
        field = self.needs_fields.get(PROMPT_FIELD)
        if field is None or not field.startswith(IN_FRAMES):
            raise ValueError(
                f"{PROMPT_FIELD} must be a field of the frames of videos, such as '{IN_FRAMES}boxes', got {field!r}"
            )
        return field

    def _add_prompts(self, session: Any, prompts: dict[int, list[PromptedObject]]) -> list[PromptedObject]:
        """The first prompt of each object, whose place in the list is its id in the session."""
        everything = [of for objects in prompts.values() for of in objects]
        free = max((of.index for of in everything if of.index is not None), default=0) + 1
        ids: dict[tuple[str | None, int | None], int] = {}
        tracked: list[PromptedObject] = []
        for number, objects in prompts.items():
            on_frame: dict[int, PromptedObject] = {}
            for of in objects:
                if of.index is None:
                    of, free = replace(of, index=free), free + 1
                key = (of.label, of.index)
                if key not in ids:
                    ids[key] = len(tracked)
                    tracked.append(of)
                if ids[key] in on_frame:
                    raise ValueError(f"frame {number} has two prompts of label {of.label!r} and index {of.index}")
                on_frame[ids[key]] = of
            self.processor.add_inputs_to_inference_session(
                session, number - 1, list(on_frame), **model_inputs(list(on_frame.values()))
            )
        return tracked

    @torch.inference_mode()
    def _track(self, session: Any, sample: Any, start: int) -> Iterator[Any]:
        """Outputs of the model on every frame of the video or clip, of which `start` is prompted."""
        first, last = 0, session.num_frames - 1
        if isinstance(sample, foc.ClipView):
            first, last = (number - 1 for number in sample.support)
        if start > first:
            yield from self.model.propagate_in_video_iterator(session, start, start - first, reverse=True)
        yield from self.model.propagate_in_video_iterator(session, start, last - start)

    def _detections(self, output: Any, tracked: list[PromptedObject], size: tuple[int, int]) -> fol.Detections:
        masks = masks_of_logits(output.pred_masks[:, 0], size[::-1])
        objects = [tracked[obj_id] for obj_id in output.object_ids]
        found = zip(masks, output.iou_scores.float().tolist(), objects)
        return as_detections((mask, score, of.label, of.index) for mask, score, of in found)


def upright(picture: Any) -> Image.Image:
    """PIL picture of a PIL picture, turned as its EXIF data say, or of a uint8 array (H, W, 3)."""
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))
    return ImageOps.exif_transpose(picture).convert("RGB")


def read_prompts(sample: Any, field: str, size: tuple[int, int]) -> list[PromptedObject] | None:
    """Objects in a field of a sample or frame whose picture has a size (width, height); None for an empty field."""
    try:
        value = sample[field.removeprefix(IN_FRAMES)]
    except KeyError as error:
        raise ValueError(f"{PROMPT_FIELD}={field!r}: {first_line(error)}") from error
    if value is None:
        return None
    if isinstance(value, fol.Detections):
        return [_read_detection(detection, size) for detection in value.detections]
    if isinstance(value, fol.Keypoints):
        keypoints = (_read_keypoint(keypoint, size) for keypoint in value.keypoints)
        return [keypoint for keypoint in keypoints if keypoint.points]
    raise TypeError(
        f"{PROMPT_FIELD}={field!r} must have Detections, whose boxes are prompts, or Keypoints, whose points are "
        f"clicks, got {type(value).__name__}"
    )


def _read_detection(detection: fol.Detection, size: tuple[int, int]) -> PromptedObject:
    if not detection.bounding_box:
        raise ValueError(f"detection {detection.id} has no bounding_box to prompt with: take it out of the field")
    (left, top, width, height), (picture_width, picture_height) = detection.bounding_box, size
    right, bottom = left + width, top + height
    box = [left * picture_width, top * picture_height, right * picture_width, bottom * picture_height]
    return PromptedObject(detection.label, detection.index, box=box)


def _read_keypoint(keypoint: fol.Keypoint, size: tuple[int, int]) -> PromptedObject:
    given = [keypoint[name] for name in POINT_LABELS if name in keypoint and keypoint[name] is not None]
    labels = list(given[0]) if given else [1] * len(keypoint.points)
    if len(labels) != len(keypoint.points):
        raise ValueError(f"keypoint {keypoint.id} has {len(labels)} labels for {len(keypoint.points)} points")
    seen = [(x, y, label) for (x, y), label in zip(keypoint.points, labels) if not (math.isnan(x) or math.isnan(y))]
    points = [[x * size[0], y * size[1]] for x, y, _ in seen]
    return PromptedObject(
        keypoint.label, keypoint.index, points=points, point_labels=[int(label) for *_, label in seen]
    )


def model_inputs(objects: list[PromptedObject]) -> dict[str, Any]:
    """The prompts of one picture as processors take them; all are boxes, or all are clicks."""
    if objects[0].box is not None:
        return {"input_boxes": [[of.box for of in objects]]}
    return {"input_points": [[of.points for of in objects]], "input_labels": [[of.point_labels for of in objects]]}


def as_detections(found: Iterable[Answer]) -> fol.Detections:
    """`Detections` of what was found; objects without any pixel are left out."""
    return fol.Detections(detections=[_as_detection(*of) for of in found if of[0].box is not None])


def _as_detection(mask: CutMask, score: float, label: str | None, index: int | None) -> fol.Detection:
    height, width = mask.part.shape
    box = [mask.left / mask.width, mask.top / mask.height, width / mask.width, height / mask.height]
    return fol.Detection(label=label, index=index, bounding_box=box, mask=mask.part, confidence=score)


def _choice(name: str, device: str | None) -> ModelChoice:
    if device is None:
        device = "cuda" if torch.cuda.is_available() and not is_exported(name) else "cpu"
    return ModelChoice(name, device=str(as_device(device, "device")))
