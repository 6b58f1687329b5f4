"""`edgetam segment`: masks of the objects that are prompted in pictures."""

import argparse

import numpy as np
import torch

from .. import EdgeTamModel, EdgeTamProcessor
from ..found_objects import FoundObject
from ..prompted_pictures import PicturePrompt, PromptedFinder
from ..protocols import PictureModel
from .picture_files import SAMPLE_PICTURE
from .pictures import PictureRun, as_text, load_model
from .prompts import ObjectPrompt, check_inside, read_prompts

__all__ = ["as_text", "run"]

SAMPLE_PROMPTS = [("point", (175, 115, 1)), ("box", (296, 105, 352, 165))]  # the eyes of a cat


def run(options: argparse.Namespace) -> dict:
    """Segments the prompted objects of each picture, writes what is found, and returns the report."""
    given = options.prompts or ([] if options.pictures else SAMPLE_PROMPTS)
    if not given:
        raise ValueError(
            "say what to segment with --point X,Y, --box X0,Y0,X1,Y1 or --mask PNG, or use `edgetam masks`"
        )
    prompts = read_prompts(given)
    pictures = PictureRun(options, has_prompts=True, sample=SAMPLE_PICTURE)
    segmenter = Segmenter(*load_model(options, EdgeTamModel, EdgeTamProcessor), prompts, options.multimask)
    return pictures.go(segmenter.find)


class Segmenter:
    """Finds the same prompted objects in any picture.

    Args:
        model: `EdgeTamModel`, or an exported one.
        processor: `EdgeTamProcessor`.
        prompts: an `ObjectPrompt` for each object.
        is_multimask: whether the best of three masks is chosen for each object.
    """

    def __init__(
        self, model: PictureModel, processor: EdgeTamProcessor, prompts: list[ObjectPrompt], is_multimask: bool
    ):
        self.model, self.processor, self.prompts = model, processor, prompts
        self.finder = PromptedFinder(model, processor, is_multimask)

    def find(self, pixels: np.ndarray) -> list[FoundObject]:
        """`FoundObject`s, one for each prompt, in a picture uint8 (H, W, 3)."""
        size = pixels.shape[:2]
        for prompt in self.prompts:
            check_inside(prompt, size)
        prompts = [as_picture_prompt(prompt) for prompt in self.prompts]
        inputs = self.processor(images=pixels, return_tensors="pt").to(self.model.device, self.model.dtype)
        with torch.inference_mode():
            embeddings = self.model.get_image_embeddings(inputs["pixel_values"])
        return [
            FoundObject(prompt.object_id, mask, score, str(prompt), prompt.points, prompt.box, {"present": is_present})
            for prompt, (mask, score, is_present) in zip(self.prompts, self.finder.find(embeddings, prompts, size))
        ]


def as_picture_prompt(prompt: ObjectPrompt) -> PicturePrompt:
    """What is said of an object, with the pixels of its mask.

    Raises:
        ValueError: for a mask without any.
    """
    mask = None if prompt.mask is None else prompt.mask.pixels()
    if prompt.mask is not None and mask is not None and not mask.any():
        raise ValueError(f"--mask {prompt.mask.path} is empty: give one with pixels that are not zero")
    return PicturePrompt(prompt.points, prompt.box, mask)
