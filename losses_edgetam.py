"""Losses of SAM 2 (arXiv 2408.00714, section on training details) on low-res masks.

Shapes: B pictures, O objects per picture, M masks per object, (h, w) a quarter of the model input. Targets are the
coverage of each cell of 4x4 pixels, the share that the object covers: they need 16 times less memory than true masks.
"""

from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F

from .mask_decoder_edgetam import MaskPrediction

CELL = 4  # pixels of the model input along each side of a pixel of a low-res mask


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; the defaults are those of SAM 2 and of EdgeTAM's table of hyperparameters.

    With focal loss alone a model that starts from random weights ends in empty masks; `cross_entropy` prevents that.
    """

    cross_entropy: float = 0.0
    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    object_score: float = 1.0


def cell_coverage(masks: torch.Tensor) -> torch.Tensor:
    """Share of each cell (…, H / 4, W / 4) that masks (…, H, W) cover."""
    return F.avg_pool2d(masks.float().flatten(0, -3), CELL).unflatten(0, masks.shape[:-2])


def balanced_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy (…) of logits (…, L): half the mean over the object's pixels and half that over all others."""
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    on, off = ((loss * part).sum(-1) / part.sum(-1).clamp(min=1) for part in (targets, 1 - targets))
    return (on + off) / 2


def focal_loss(logits: torch.Tensor, targets: torch.Tensor, alpha: float = 0.25) -> torch.Tensor:
    """Mean focal loss (…) of logits (…, L) with exponent 2 (arXiv 1708.02002); `alpha` weighs the object's pixels."""
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return (weight * loss * (logits.sigmoid() - targets).square()).mean(-1)


def dice_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 - Dice (…) of the probabilities of logits (…, L)."""
    probabilities = logits.sigmoid()
    overlap = (probabilities * targets).sum(-1)
    return 1 - (2 * overlap + 1) / (probabilities.sum(-1) + targets.sum(-1) + 1)


def mask_iou(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """IoU (…) of thresholded logits (…, L) with targets (…, L); 1 where both are empty."""
    predicted, actual = logits.detach() > 0, targets > 0.5
    union = (predicted | actual).sum(-1)
    return torch.where(union > 0, (predicted & actual).sum(-1) / union.clamp(min=1), 1.0)


MASK_LOSSES = {"focal": focal_loss, "dice": dice_loss, "cross_entropy": balanced_cross_entropy}


def segmentation_losses(
    prediction: MaskPrediction, targets: torch.Tensor, is_multimask: torch.Tensor, weights: LossWeights
) -> dict[str, torch.Tensor]:
    """Weighted losses of every object, a tensor (B, O) for each term.

    For an ambiguous prompt the best of the multimask outputs learns the target, and all of them learn to predict their
    IoU; for any other prompt the single mask learns both. For an object that is not in the picture only the object
    score learns.

    Args:
        prediction: `MaskPrediction` of the M masks.
        targets: coverage (B, O, h, w), see `cell_coverage`.
        is_multimask: bool (B, O), whether the multimask outputs learn.
        weights: `LossWeights`.
    """
    logits = prediction.masks.flatten(3).float()  # (B, O, M, h * w)
    num_masks = logits.shape[2]
    expected = targets.flatten(2)[:, :, None].expand(-1, -1, num_masks, -1)
    is_multimask_output = torch.arange(num_masks, device=targets.device) > 0
    learns = is_multimask_output == is_multimask[..., None]  # (B, O, M)
    is_present = targets.flatten(2).any(-1).float()

    mask_losses = {}
    for name, loss_of_masks in MASK_LOSSES.items():
        if weight := getattr(weights, name):
            mask_losses[name] = weight * loss_of_masks(logits, expected)
    mask_loss = reduce(torch.add, mask_losses.values(), torch.zeros(logits.shape[:3], device=logits.device))
    best_idx = mask_loss.detach().masked_fill(~learns, float("inf")).argmin(-1, keepdim=True)
    losses = {name: loss.gather(2, best_idx)[..., 0] * is_present for name, loss in mask_losses.items()}

    iou_error = (prediction.iou_scores.float() - mask_iou(logits, expected)).abs() * learns
    losses["iou"] = weights.iou * iou_error.sum(-1) / learns.sum(-1) * is_present
    score_logits = prediction.object_score_logits[..., 0].float()
    score_loss = F.binary_cross_entropy_with_logits(score_logits, is_present, reduction="none")
    losses["object_score"] = weights.object_score * score_loss
    return losses


def mean_over_objects(losses: dict[str, torch.Tensor], is_object: torch.Tensor) -> dict[str, torch.Tensor]:
    """Scalars of losses (B, O), each the mean over pictures of the mean over their objects, is_object (B, O)."""
    weights = is_object / is_object.sum(-1, keepdim=True).clamp(min=1) / len(is_object)
    return {name: (loss * weights).sum() for name, loss in losses.items()}


def add_up(losses: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The sums, by name, of dictionaries with the same names."""
    return {name: reduce(torch.add, [each[name] for each in losses]) for name in losses[0]}
