"""Prompts as a user would give them, drawn from true masks: clicks, boxes, corrections, and the frames of a clip.

Shapes: B pictures, O objects per picture, N points per object, (H, W) the model input, (h, w) = (H / 4, W / 4) the size
of mask logits. Points are (x, y) in pixels of the model input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from .masks_edgetam import masks_to_boxes
from .prompts_edgetam import BOX_CORNER_LABELS, PADDING_LABEL, Prompts

BOX_NOISE, LARGEST_BOX_NOISE = 0.1, 20.0  # of a side, and in pixels


@dataclass(frozen=True)
class PromptSimulation:
    """How users are simulated; the defaults are those of SAM 2's training.

    Args:
        num_corrections: clicks that follow the first prompt, each where the mask is wrong.
        box_share: how often the first prompt is a box, and not a click.
        mask_share: how often the prompts of a clip are the true masks, which nobody corrects.
        max_prompted_frames: most frames of a clip that are prompted before it is tracked, the first one among them.
        max_corrected_frames: most frames of a clip on which clicks correct masks.
        truth_click_share: how often a correction is a click anywhere on the object.
        single_mask_share: how often the single mask learns from an ambiguous click, in place of the multimask outputs.
            SAM 2 never does; then `multimask_output=False` is not good for clicks.
    """

    num_corrections: int = 7
    box_share: float = 0.5
    mask_share: float = 0.5
    max_prompted_frames: int = 2
    max_corrected_frames: int = 2
    truth_click_share: float = 0.1
    single_mask_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("box_share", "mask_share", "truth_click_share", "single_mask_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        for name, least in (("num_corrections", 0), ("max_prompted_frames", 1), ("max_corrected_frames", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


class ClipPlan(NamedTuple):
    """How a clip is prompted.

    Frames that are prompted before tracking, frames on which clicks correct masks, and whether masks are the prompts.
    """

    prompted: list[int]
    corrected: list[int]
    has_masks: bool


class PromptSimulator:
    """A simulated user, who prompts objects whose true masks are known.

    Args:
        settings: `PromptSimulation`.
        seeds: an integer of at least 0 for each picture. It decides all that is drawn for that picture, whatever other
            pictures are in the batch, and however many objects are padding.
        size: (H, W).
    """

    def __init__(self, settings: PromptSimulation, seeds: Sequence[int] | torch.Tensor, size: tuple[int, int]):
        self.settings, self.size = settings, size
        self.seeds, self.num_draws = [int(seed) for seed in seeds], 0

    def _generators(self) -> list[np.random.Generator]:
        """A new generator for each picture, from which one array may be drawn.

        So the numbers of the first objects do not depend on how many objects follow.
        """
        self.num_draws += 1
        return [np.random.default_rng((seed, self.num_draws)) for seed in self.seeds]

    def plan_clip(self, num_frames: int) -> ClipPlan:
        """The `ClipPlan` of a clip; of two or more frames at least one is left to be tracked.

        A single frame is a picture: it is prompted and corrected, as in the training of SAM 2.
        """
        (generator,) = self._generators()
        draw, most_prompted = generator.random(3), min(self.settings.max_prompted_frames, max(num_frames - 1, 1))
        order = [0, *(generator.permutation(num_frames - 1) + 1).tolist()]
        num_prompted = 1 + int(draw[0] * most_prompted)
        most_corrected = min(self.settings.max_corrected_frames, num_frames) if num_frames > 1 else 1
        num_corrected = min(num_prompted, most_corrected)
        num_corrected += int(draw[1] * (most_corrected - num_corrected + 1))
        has_masks = num_frames > 1 and draw[2] < self.settings.mask_share
        return ClipPlan(order[:num_prompted], [] if has_masks else order[:num_corrected], has_masks)

    def first_prompts(self, masks: torch.Tensor) -> Prompts:
        """`Prompts` of two points for masks bool (B, O, H, W): the corners of a box, or a click and padding.

        Where a mask is empty, the click is a negative one.
        """
        is_visible = masks.flatten(2).any(-1)
        is_box = (self._uniform(1, masks.device) < self.settings.box_share) & is_visible
        click, label = self._click(masks, ~(masks | is_visible[..., None, None]))
        padding = torch.full_like(label, PADDING_LABEL)
        corner_labels = torch.tensor(BOX_CORNER_LABELS, device=masks.device)
        points = torch.where(is_box[..., None, None], self._boxes(masks), torch.stack((click, click), dim=2))
        labels = torch.where(is_box[..., None], corner_labels, torch.stack((label, padding), dim=2))
        return Prompts(points, labels)

    def draw_multimask(self, is_ambiguous: torch.Tensor) -> torch.Tensor:
        """Whether the multimask outputs learn, not the single mask: bool (B, O), false for unambiguous prompts."""
        draws = self._uniform(is_ambiguous.shape[1], is_ambiguous.device)
        return is_ambiguous & (draws >= self.settings.single_mask_share)

    def correct(self, prompts: Prompts, logits: torch.Tensor, coverage: torch.Tensor) -> Prompts:
        """The prompts of the next round: the mask itself, and after the earlier points a click where it is wrong.

        Where nothing is wrong, the click is a negative one beside the object.

        Args:
            prompts: those of the last round.
            logits: (B, O, h, w), the masks found for them.
            coverage: (B, O, h, w), see `cell_coverage`.
        """
        logits = logits.detach()
        actual, predicted = coverage > 0.5, logits > 0
        is_right = (actual == predicted).flatten(2).all(-1)[..., None, None]
        is_any = self._uniform(logits.shape[1], logits.device) < self.settings.truth_click_share
        is_any = is_any[..., None, None] & actual.flatten(2).any(-1)[..., None, None]
        missing = torch.where(is_any, actual, actual & ~predicted)
        surplus = torch.where(is_any, False, ~actual & (predicted | is_right))
        point, label = self._click(missing, surplus)
        return prompts.add_points(point[:, :, None], label[:, :, None]).with_previous_masks(logits)

    def _uniform(self, num_objects: int, device: torch.device, *shape: int) -> torch.Tensor:
        """Numbers (B, O, …) in [0, 1)."""
        values = np.stack([generator.random((num_objects, *shape)) for generator in self._generators()])
        return torch.from_numpy(values).float().to(device)

    def _click(self, inside: torch.Tensor, outside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points (B, O, 2) from two regions (B, O, rows, columns), all equally likely; labels (B, O): 1 inside."""
        rows, columns = inside.shape[-2:]
        cumulated = (inside | outside).flatten(2).float().cumsum(-1)
        rank = self._uniform(inside.shape[1], inside.device)[..., None] * cumulated[..., -1:]
        index = torch.searchsorted(cumulated, rank, right=True).clamp(max=rows * columns - 1)
        label = inside.flatten(2).gather(2, index)[..., 0].long()
        cell = torch.cat((index % columns, index // columns), dim=-1) + 0.5
        scale = torch.tensor((self.size[1] / columns, self.size[0] / rows), device=inside.device)
        return cell * scale - 0.5, label

    def _boxes(self, masks: torch.Tensor) -> torch.Tensor:
        """Corners (B, O, 2, 2) of boxes round masks (B, O, H, W), with the noise of a user's hand."""
        corners = masks_to_boxes(masks.flatten(0, 1)).view(*masks.shape[:2], 2, 2).float()
        noise = (BOX_NOISE * (corners[..., 1:, :] - corners[..., :1, :])).clamp(max=LARGEST_BOX_NOISE)
        corners = corners + noise * (2 * self._uniform(masks.shape[1], masks.device, 2, 2) - 1)
        limits = torch.tensor((self.size[1] - 1.0, self.size[0] - 1.0), device=masks.device)
        return corners.clamp(min=torch.zeros_like(limits), max=limits)
