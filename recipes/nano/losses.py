"""Losses of dense pretraining and of prompted masks.

Shapes: B pictures, O objects per picture, M masks per object, (h, w) the model input divided by 4; targets are the
coverage of each cell of 4x4 pixels by the object.
"""

import torch
import torch.nn.functional as F
from edgetam_hf.training_edgetam import balanced_cross_entropy, dice_loss, focal_loss


def mask_loss(logits: torch.Tensor, targets: torch.Tensor, balance: float) -> torch.Tensor:
    """Loss (B, O, M) of mask logits (B, O, M, h, w) against targets (B, O, h, w).

    `balance` fades from 1 to 0: from scratch, focal loss alone would end in empty masks.
    """
    logits, targets = logits.flatten(3), targets.flatten(2)[:, :, None].expand(-1, -1, logits.shape[2], -1)
    # weight 20 of the focal loss without class weights, of which both are a half here
    loss = dice_loss(logits, targets) + (1 - balance) * 40 * focal_loss(logits, targets, alpha=0.5)
    return loss + balance * 2 * balanced_cross_entropy(logits, targets) if balance > 0 else loss


@torch.no_grad()
def mask_iou(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """IoU (B, O, M) of thresholded logits (B, O, M, h, w) with targets (B, O, h, w)."""
    predicted, actual = (logits > 0).flatten(3), (targets > 0.5).flatten(2)[:, :, None]
    intersection = (predicted & actual).sum(-1)
    return intersection / (predicted | actual).sum(-1).clamp(min=1)


def prompt_loss(
    masks: torch.Tensor,
    iou_scores: torch.Tensor,
    object_logits: torch.Tensor,
    targets: torch.Tensor,
    is_object: torch.Tensor,
    balance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and mean IoU of the single mask, both scalar.

    The single mask and the best of the three others learn the target; all four learn to predict their IoU.

    Args:
        masks: logits (B, O, 4, h, w).
        iou_scores: predicted IoU (B, O, 4).
        object_logits: (B, O, 1).
        targets: (B, O, h, w).
        is_object: (B, O), false for prompts on nothing, which only teach the object score.
        balance: see `mask_loss`.
    """
    losses = mask_loss(masks, targets, balance)
    ious = mask_iou(masks, targets)
    multimask = losses[..., 1:]
    best = multimask.min(dim=-1).values + 0.05 * multimask.mean(dim=-1)
    quality = (iou_scores - ious).abs().mean(dim=-1) + (iou_scores - ious).square().sum(dim=-1)
    weight = is_object.float()
    total = ((losses[..., 0] + best + quality) * weight).sum() / weight.sum().clamp(min=1)
    presence = F.binary_cross_entropy_with_logits(object_logits[..., 0], weight)
    mean_iou = (ious[..., 0] * weight).sum() / weight.sum().clamp(min=1)
    return total + 0.1 * presence, mean_iou


def feature_penalty(features: torch.Tensor) -> torch.Tensor:
    """Penalty of maps whose mean square exceeds 0.5: larger ones drown the positional encoding of clicks."""
    return 0.1 * F.relu(features.float().square().mean() - 0.5)


def dense_loss(
    embedding: torch.Tensor,
    boundary_logits: torch.Tensor,
    bias: torch.Tensor,
    instances: torch.Tensor,
    anchors: torch.Tensor,
) -> torch.Tensor:
    """Scalar loss that pulls the pixels of an object together and apart from all others.

    Args:
        embedding: (B, C, h, w); the logit of two pixels being of one object is `bias - |difference|^2`.
        boundary_logits: (B, 1, h, w).
        bias: scalar.
        instances: object numbers (B, h, w), 0 for background.
        anchors: indices (B, A) into h * w, see `sample_anchors`.
    """
    flat, numbers = embedding.flatten(2), instances.flatten(1)
    chosen = flat.gather(2, anchors[:, None].expand(-1, flat.shape[1], -1))
    distance = chosen.square().sum(1)[:, :, None] - 2 * chosen.transpose(1, 2) @ flat + flat.square().sum(1)[:, None]
    targets = (numbers.gather(1, anchors)[:, :, None] == numbers[:, None]).float()
    logits = bias - distance.clamp(min=0)
    grouping = 2 * balanced_cross_entropy(logits, targets) + dice_loss(logits, targets)
    boundary = balanced_cross_entropy(boundary_logits.flatten(1), instance_boundaries(instances).flatten(1))
    return grouping.mean() + 0.5 * boundary.mean()


def instance_boundaries(instances: torch.Tensor) -> torch.Tensor:
    """1.0 (B, h, w) where a neighbour to the right or below belongs to another object."""
    boundaries = torch.zeros_like(instances, dtype=torch.float32)
    boundaries[:, :-1] = (instances[:, 1:] != instances[:, :-1]).float()
    boundaries[:, :, :-1] = torch.maximum(boundaries[:, :, :-1], (instances[:, :, 1:] != instances[:, :, :-1]).float())
    return boundaries


def sample_anchors(instances: torch.Tensor, count: int) -> torch.Tensor:
    """Random pixels (B, count) as indices into h * w; every object, and the background, is about as likely."""
    numbers = instances.flatten(1).long()
    areas = torch.zeros(len(numbers), 256).scatter_add_(1, numbers, torch.ones(numbers.shape))
    weights = 1 / areas.gather(1, numbers)
    return torch.multinomial(weights, count, replacement=True)
