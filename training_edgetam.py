"""How EdgeTAM learns: a simulated user prompts objects whose true masks are known, and corrects what the model finds.

Shapes: B pictures, O objects per picture, N points per object, (H, W) the model input, (h, w) = (H / 16, W / 16).
Labels are 1 on an object, 0 elsewhere, and negative everywhere for an object that only fills up a batch.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch

from .base_edgetam import EdgeTamBaseModel
from .checks_edgetam import check_tensor
from .losses_edgetam import LossWeights, add_up, cell_coverage, mean_over_objects, segmentation_losses
from .mask_decoder_edgetam import MaskPrediction
from .prompt_simulation_edgetam import PromptSimulator
from .prompts_edgetam import Prompts


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
    model: EdgeTamBaseModel,
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
    model: EdgeTamBaseModel, prediction: MaskPrediction, mask_labels: torch.Tensor, is_multimask: bool
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
