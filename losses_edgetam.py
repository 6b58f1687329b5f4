"""Losses of SAM 2 (arXiv 2408.00714, section on training details) on masks as the decoder draws them.

Shapes: B pictures, O objects per picture, M masks per object, (h, w) a quarter of the model input. Targets are the
share of each cell of 4x4 pixels that the object covers: so many objects cost 16 times less memory than in full size.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

CELL = 4  # pixels of the model input to a pixel of a mask


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; the defaults are those of SAM 2 and of EdgeTAM's table of hyperparameters.

    Focal loss teaches a model that knows nothing to draw nothing: `cross_entropy` does not, and is for such a model.
    """

    cross_entropy: float = 0.0
    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    object_score: float = 1.0


def cell_shares(masks):
    """Share of each cell (…, H / 4, W / 4) that masks (…, H, W) cover."""
    return F.avg_pool2d(masks.float().flatten(0, -3), CELL).unflatten(0, masks.shape[:-2])


def balanced_cross_entropy(logits, targets):
    """Cross entropy (…) of logits (…, L), half of it the mean over the object and half over all else."""
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return sum((loss * part).sum(-1) / part.sum(-1).clamp(min=1) for part in (targets, 1 - targets)) / 2


def focal_loss(logits, targets, alpha=0.25):
    """Mean focal loss (…) of logits (…, L) with exponent 2 (arXiv 1708.02002); `alpha` weighs the object's pixels."""
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return (weight * loss * (logits.sigmoid() - targets).square()).mean(-1)


def dice_loss(logits, targets):
    """1 - Dice (…) of the probabilities of logits (…, L)."""
    probabilities = logits.sigmoid()
    overlap = (probabilities * targets).sum(-1)
    return 1 - (2 * overlap + 1) / (probabilities.sum(-1) + targets.sum(-1) + 1)


def mask_iou(logits, targets):
    """IoU (…) of thresholded logits (…, L) with targets (…, L); 1 where both are empty."""
    predicted, actual = logits.detach() > 0, targets > 0.5
    union = (predicted | actual).sum(-1)
    return torch.where(union > 0, (predicted & actual).sum(-1) / union.clamp(min=1), 1.0)


def segmentation_losses(prediction, targets, is_several, weights):
    """Losses of every object, weighted, as a dictionary of tensors (B, O).

    Where several masks are taught, the best one learns the target, and all learn to predict their IoU; elsewhere the
    single mask does. An object that is not in the picture teaches its object score alone.

    Args:
        prediction: `MaskPrediction` of M = 1 + several masks.
        targets: (B, O, h, w).
        is_several: bool (B, O), whether several masks are taught, as for an ambiguous prompt.
        weights: `LossWeights`.
    """
    num_masks = prediction.masks.shape[2]
    logits, expected = prediction.masks.flatten(3).float(), targets.flatten(2)[:, :, None]
    expected = expected.expand(-1, -1, num_masks, -1)
    is_taught = (torch.arange(num_masks, device=targets.device) > 0) == is_several[..., None]
    of_masks = {"focal": focal_loss, "dice": dice_loss, "cross_entropy": balanced_cross_entropy}
    of_masks = {
        name: weight * function(logits, expected)
        for name, function in of_masks.items()
        if (weight := getattr(weights, name))
    }
    best = sum(of_masks.values()).detach().masked_fill(~is_taught, float("inf")).argmin(-1, keepdim=True)
    iou_error = (prediction.iou_scores.float() - mask_iou(logits, expected)).abs() * is_taught
    is_present = targets.flatten(2).any(-1).float()
    return {
        **{name: loss.gather(2, best)[..., 0] * is_present for name, loss in of_masks.items()},
        "iou": weights.iou * iou_error.sum(-1) / is_taught.sum(-1) * is_present,
        "object_score": weights.object_score
        * F.binary_cross_entropy_with_logits(
            prediction.object_score_logits[..., 0].float(), is_present, reduction="none"
        ),
    }


def mean_over_objects(losses, is_object):
    """Scalars of losses (B, O), each the mean over pictures of the mean over their objects, is_object (B, O)."""
    share = is_object / is_object.sum(-1, keepdim=True).clamp(min=1) / len(is_object)
    return {name: (loss * share).sum() for name, loss in losses.items()}


def add_up(losses):
    """One dictionary of the sums of several."""
    return {name: sum(each[name] for each in losses) for name in losses[0]}
