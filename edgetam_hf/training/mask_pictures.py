"""Pictures of what a model has learnt so far: true masks beside predicted ones, as PNG and in TensorBoard."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers.integrations import TensorBoardCallback

from ..drawing.overlays import overlay
from ..files.writing import save_whole

MAX_FRAMES = 4  # of a clip that are drawn


class MaskPictures(TrainerCallback):
    """Draws the masks of one item every `steps` steps.

    Args:
        item: a batch of one picture or clip, as the trainer's data are.
        steps: how often.
        folder: where pictures go, `000500.png`.
        callbacks: of the trainer, among them TensorBoard's if it is used.
    """

    def __init__(
        self, item: dict[str, torch.Tensor], steps: int, folder: Path, callbacks: list[TrainerCallback]
    ) -> None:
        self.item, self.steps, self.folder = item, steps, folder
        self.callbacks = callbacks

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: nn.Module, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and state.global_step % self.steps == 0:
            self.draw(model, state.global_step)

    def draw(self, model: nn.Module, step: int) -> None:
        """Writes the picture of a step."""
        picture = draw_item(getattr(model, "student", model), self.item)
        self.folder.mkdir(parents=True, exist_ok=True)
        save_whole(picture, self.folder / f"{step:06d}.png")
        for callback in self.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                callback.tb_writer.add_image("masks", np.asarray(picture), step, dataformats="HWC")


def draw_item(model: nn.Module, item: dict[str, torch.Tensor]) -> Image.Image:
    """PIL picture: in the upper row frames with their true masks, below with those that the model finds.

    Args:
        model: what learns; its mode is left as it was.
        item: a batch of one picture or clip.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        outputs = model(**{name: value.to(device) for name, value in item.items()})
    model.train(was_training)
    labels, logits = item["mask_labels"][0], outputs["pred_masks"][0]
    if "pixel_values_videos" in item:
        frames = item["pixel_values_videos"][0]  # (T, 3, H, W), masks (T, O, …)
    else:
        frames, labels = item["pixel_values"], labels[None]
        best = outputs["iou_scores"][0].argmax(-1)
        logits = logits[torch.arange(len(best)), best][None]
    is_object = (labels >= 0).flatten(2).any(-1).any(0)
    logits = F.interpolate(logits.float().cpu(), frames.shape[-2:], mode="bilinear", align_corners=False)
    columns = []
    for t in np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).round().astype(int):
        pixels = as_pixels(frames[t])
        rows = [overlay(pixels, list((masks[t, is_object] > 0).numpy())) for masks in (labels, logits)]
        columns.append(np.concatenate([np.asarray(row) for row in rows]))
    return Image.fromarray(np.concatenate(columns, axis=1))


def as_pixels(frame: torch.Tensor) -> np.ndarray:
    """uint8 array (H, W, 3) of a normalised picture (3, H, W)."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    return ((frame.cpu() * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
