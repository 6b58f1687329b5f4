"""What a session does with a picture that is open: prompted objects, and everything in it."""

import torch
import torch.nn.functional as F

from ..device_edgetam import fetch, send
from ..found_objects import CutMask, masks_of_logits
from ..mask_generation_edgetam import CandidateSearch, Crop
from ..prompted_pictures import MASK_LOGIT, corner_points
from .asked import Prompt, read_flag, read_points_per_side, read_prompt
from .calls import Answer, Asked, Steps
from .media import Picture
from .messages import Found, FoundFrame, runs_of
from .models import Models
from .searching import search_in_steps


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
        generator, num_points_per_side = self.models.generator, read_points_per_side(asked.params)
        options = generator.options.updated({"points_per_crop": num_points_per_side})

        def embeddings_of(crop: Crop) -> list[torch.Tensor]:
            pixel_values = generator.pixel_values_of_crop(self.media.pixels, crop)
            return list(self.models.picture.get_image_embeddings(pixel_values))

        search = CandidateSearch(self.models.picture, embeddings_of, self.size, options)
        return search_in_steps(search, self.size, options, asked)
