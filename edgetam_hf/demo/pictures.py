"""What a session does with a picture that is open: prompted objects, and everything in it."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from ..device_edgetam import fetch, send
from ..found_objects import CutMask, masks_of_logits
from ..mask_generation_edgetam import (
    POINTS_PER_BATCH,
    Crop,
    MaskCandidates,
    MaskGenerationOptions,
    candidates_of_crop,
    crops_of_picture,
    point_grid,
)
from ..masks_edgetam import repair_masks
from ..prompted_pictures import MASK_LOGIT, corner_points
from .asked import Prompt, read_flag, read_integer, read_prompt
from .calls import Answer, Asked, Progress, Steps
from .media import Picture
from .messages import Found, FoundFrame, runs_of
from .models import Models

MOST_POINTS_PER_SIDE = 64


class PictureWork:
    """A picture that is open; it is encoded once, and nothing that is said of it is kept."""

    def __init__(self, models: Models, picture: Picture):
        self.models, self.media, self.info = models, picture, picture.info
        self.size = (picture.info.height, picture.info.width)
        self._embeddings: list[torch.Tensor] | None = None
        self.answers: dict[str, Answer] = {"segment": self.segment, "everything": self.everything}

    def encode(self, asked: Asked) -> None:
        """Computes the image embeddings, so that they are there when they are needed."""
        self.embeddings()

    def embeddings(self) -> list[torch.Tensor]:
        """Image embeddings of the picture."""
        if self._embeddings is None:
            model = self.models.picture
            inputs = self.models.processor(images=self.media.pixels, return_tensors="pt")
            with torch.inference_mode():
                pixel_values = send(inputs["pixel_values"], model.device).to(model.dtype)
                self._embeddings = list(model.get_image_embeddings(pixel_values))
        return self._embeddings

    def segment(self, asked: Asked) -> FoundFrame:
        """The candidates for the prompted object, best first, or with one mask the best alone."""
        prompt = read_prompt(asked.params, asked.payload, self.size)
        is_multimask = read_flag(asked.params, "isMultimask")
        inputs = self._inputs(prompt)
        with torch.inference_mode():
            outputs = self.models.picture(image_embeddings=self.embeddings(), multimask_output=is_multimask, **inputs)
        parts = (outputs.iou_scores, outputs.object_score_logits, outputs.pred_masks)
        scores, object_score_logits, logits = fetch([part[0, 0].float() for part in parts])
        order, is_present = scores.argsort(descending=True), bool(object_score_logits[0] > 0)
        scored = zip(masks_of_logits(logits[order], self.size), scores[order].tolist(), strict=True)
        return FoundFrame(0, [Found(0, runs_of(mask), score, is_present) for mask, score in scored])

    def _inputs(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        """The prompts as the model takes them."""
        model, box = self.models.picture, prompt.box
        if prompt.mask is not None and box is None and not prompt.points:  # to the model a mask is no prompt of its own
            box_of_mask = CutMask.of(prompt.mask).box
            if box_of_mask is None:
                raise ValueError("the mask is empty: give one with pixels of the object")
            x_min, y_min, x_max, y_max = map(float, box_of_mask)
            box = (x_min, y_min, x_max, y_max)
        points = [
            *corner_points(box),
            *((x, y, label) for (x, y), label in zip(prompt.points, prompt.labels, strict=True)),
        ]
        inputs = self.models.processor(
            original_sizes=[self.size],
            input_points=[[[point[:2] for point in points]]],
            input_labels=[[[point[2] for point in points]]],
            return_tensors="pt",
        )
        if prompt.mask is not None:
            logits = (2.0 * torch.from_numpy(prompt.mask) - 1)[None, None] * MASK_LOGIT
            logits = F.interpolate(logits, model.mask_size, mode="bilinear", align_corners=False, antialias=True)
            inputs["input_masks"] = logits
        return {name: send(tensor, model.device) for name, tensor in inputs.items()}

    def everything(self, asked: Asked) -> Steps:
        """All objects of the picture, best first; once cancelled, those that were found until then."""
        generator, (height, width) = self.models.generator, self.size
        num_points_per_side = read_integer(asked.params, "pointsPerSide", 1, MOST_POINTS_PER_SIDE)
        options = generator.options.updated({"points_per_crop": num_points_per_side, "masks_on_demand": True})
        crops = crops_of_picture(height, width, options.crops_n_layers, options.crop_overlap_ratio)
        num_done, num_points = 0, sum(options.points_per_side(crop.layer) ** 2 for crop in crops)
        parts: list[MaskCandidates] = []
        for num_in_batch, part in self._candidates(crops, options):
            parts.append(part)
            num_done += num_in_batch
            yield Progress(num_done, num_points)
            if asked.is_cancelled():
                break
        outputs = {"candidates": MaskCandidates.joined(parts), "height": height, "width": width}
        found = generator.postprocess(outputs, options)
        objects = [
            Found(number, runs_of(CutMask.of(mask.numpy())), score, True)
            for number, (mask, score) in enumerate(zip(found["masks"], found["scores"].tolist(), strict=True), start=1)
        ]
        return FoundFrame(0, objects)

    def _candidates(self, crops: list[Crop], options: MaskGenerationOptions) -> Iterator[tuple[int, MaskCandidates]]:
        """(number of clicks, what they found) of each batch: steps of `EdgeTamMaskGenerationPipeline`."""
        generator, model = self.models.generator, self.models.picture
        areas = (options.max_hole_area or 0, options.max_sprinkle_area or 0)
        for crop in crops:
            with torch.inference_mode():
                pixel_values = generator.pixel_values_of_crop(self.media.pixels, crop)
                embeddings = model.get_image_embeddings(pixel_values)
            height, width = pixel_values.shape[-2:]
            scale, corner = torch.tensor([crop.width / width, crop.height / height]), torch.tensor(crop.box[:2])
            points = point_grid(options.points_per_side(crop.layer), crop, height, width)
            for batch in points.split(min(options.points_per_batch or POINTS_PER_BATCH, len(points))):
                with torch.inference_mode():  # not across steps, after which the thread does other work
                    masks, scores, point_idx = model.confident_masks(
                        embeddings, send(batch, model.device), options.pred_iou_thresh
                    )
                    masks = repair_masks(masks.float(), options.mask_threshold, *areas)
                    where = batch[point_idx] * scale + corner
                    found = candidates_of_crop(masks, scores, where, crop, crops[0], options.stability)
                yield len(batch), found
