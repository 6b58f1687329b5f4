"""How EdgeTAM learns: a simulated user prompts objects whose true masks are known, and corrects what the model finds.

The users are those of SAM 2's training, and so are the losses (arXiv 2408.00714, section on training details).

Shapes: B pictures, O objects per picture, N points per object, M masks per object, (H, W) the model input, (h, w) =
(H / 4, W / 4) low-res masks. Points are (x, y) in pixels of the model input. Labels are 1 on an object, 0 elsewhere,
and negative everywhere for an object that only fills up a batch. Targets of the losses are the coverage of each cell of
4x4 pixels, the share that the object covers: they need 16 times less memory than true masks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .checks_edgetam import check_tensor
from .mask_decoder_edgetam import MaskPrediction
from .masks_edgetam import masks_to_boxes
from .prompts_edgetam import BOX_CORNER_LABELS, PADDING_LABEL, Prompts

if TYPE_CHECKING:
    from .base_edgetam import EdgeTamBaseModel

BOX_NOISE, LARGEST_BOX_NOISE = 0.1, 20.0  # of a side, and in pixels
CELL = 4  # pixels of the model input along each side of a pixel of a low-res mask


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


def check_labels(mask_labels: Any, prompt_seeds: Any, leading: Sequence[int], size: tuple[int, int]) -> torch.Tensor:
    """Seeds (B,), drawn if none are given; raises a ValueError for labels or seeds of a wrong shape.

    Args:
        mask_labels: (*leading, O, H, W).
        prompt_seeds: integers (B,) or `None`.
        leading: (B,) of pictures or (B, T) of clips.
        size: (H, W).
    """
    leading = tuple(leading)
    names = [f"{name} {count}" for name, count in zip(("batch_size", "num_frames"), leading)]
    layout = f"({', '.join((*names, 'num_objects', *map(str, size)))})"
    shape = tuple(mask_labels.shape) if torch.is_tensor(mask_labels) else type(mask_labels).__name__
    is_right = torch.is_tensor(mask_labels) and len(shape) == len(leading) + 3
    if not is_right or shape[: len(leading)] != leading or shape[-2:] != tuple(size):
        raise ValueError(f"mask_labels must have shape {layout}, got {shape}")
    check_tensor("mask_labels", mask_labels, layout, len(shape))
    if shape[-3] == 0:
        raise ValueError(f"mask_labels must be of at least one object, got {shape}")
    if prompt_seeds is None:
        return torch.randint(2**31, leading[:1])
    is_right = torch.is_tensor(prompt_seeds) and not prompt_seeds.is_meta and not prompt_seeds.is_floating_point()
    if (
        not is_right
        or tuple(prompt_seeds.shape) != leading[:1]
        or prompt_seeds.is_complex()
        or (prompt_seeds < 0).any()
    ):
        raise ValueError(
            f"prompt_seeds must be a tensor of {leading[0]} integers of at least 0, one for each of the batch"
        )
    return prompt_seeds


class Answer(NamedTuple):
    """What a model answers to prompts.

    prediction: `MaskPrediction` (B, O, …) with all masks; is_ambiguous: bool (B, O), whether the prompts are
    ambiguous; chosen: the masks that a user is shown, a record whose `masks` are logits (B, O, 4h, 4w), or
    (O, 4h, 4w) of one clip.
    """

    prediction: MaskPrediction
    is_ambiguous: torch.Tensor
    chosen: Any


def learn_from_corrections(
    answer: Callable[[Prompts], Answer],
    simulator: PromptSimulator,
    masks: torch.Tensor,
    prompts: Prompts,
    num_corrections: int,
    weights: LossWeights,
) -> tuple[Answer, dict[str, torch.Tensor]]:
    """The last answer, after a simulated user's corrections, and the losses (B, O) of all answers added up.

    Args:
        answer: the model.
        simulator: the user.
        masks: true masks, bool (B, O, H, W).
        prompts: the first ones; empty where objects are tracked.
        num_corrections: how many clicks follow, each where the last mask is wrong.
        weights: of the losses.
    """
    coverage, losses = cell_coverage(masks), []
    for num_left in range(num_corrections, -1, -1):
        answered = answer(prompts)
        is_multimask = simulator.draw_multimask(answered.is_ambiguous)
        losses.append(segmentation_losses(answered.prediction, coverage, is_multimask, weights))
        if num_left > 0:
            prompts = simulator.correct(prompts, answered.chosen.masks.view_as(coverage), coverage)
    return answered, add_up(losses)


def learn_from_pictures(
    model: "EdgeTamBaseModel",
    image_embeddings: Sequence[torch.Tensor],
    mask_labels: torch.Tensor,
    seeds: torch.Tensor,
) -> tuple[MaskPrediction, torch.Tensor, dict[str, torch.Tensor]]:
    """The `MaskPrediction` after the last correction of a simulated user, the loss, and its terms by name.

    Args:
        model: the model, with its `prompt_simulation` and `loss_weights`.
        image_embeddings: see `EdgeTamModel.get_image_embeddings`.
        mask_labels: (B, O, H, W).
        seeds: integers (B,), see `PromptSimulator`.
    """
    simulation, masks = model.prompt_simulation, mask_labels > 0
    simulator = PromptSimulator(simulation, seeds, model.prompt_encoder.image_size)

    def answer(prompts: Prompts) -> Answer:
        prediction = model.decode_prompts(image_embeddings, prompts)
        assert prompts.labels is not None  # the user always clicks or draws a box
        is_ambiguous = (prompts.labels >= 0).sum(-1) == 1
        return Answer(prediction, is_ambiguous, model.mask_decoder.choose_masks(prediction, is_ambiguous))

    prompts, num_corrections = simulator.first_prompts(masks), simulation.num_corrections
    answered, losses = learn_from_corrections(answer, simulator, masks, prompts, num_corrections, model.loss_weights)
    return answered.prediction, *total_loss(losses, mask_labels)


def loss_of_prompts(
    model: "EdgeTamBaseModel", prediction: MaskPrediction, mask_labels: torch.Tensor, is_multimask: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss, and its terms by name, of what a model predicts for given prompts of objects (B, O, H, W)."""
    num_objects = prediction.iou_scores.shape[1]
    if mask_labels.shape[1] != num_objects:
        raise ValueError(
            f"mask_labels must have a mask for each of the {num_objects} prompted objects, got {mask_labels.shape[1]}"
        )
    learns = torch.full(mask_labels.shape[:2], is_multimask, device=mask_labels.device)
    losses = segmentation_losses(prediction, cell_coverage(mask_labels > 0), learns, model.loss_weights)
    return total_loss(losses, mask_labels)


def total_loss(
    losses: dict[str, torch.Tensor], mask_labels: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss, and its terms by name, of losses (B, O) for labels (B, O, …)."""
    terms = mean_over_objects(losses, (mask_labels >= 0).flatten(2).any(-1))
    return reduce(torch.add, terms.values()), {name: term.detach() for name, term in terms.items()}
