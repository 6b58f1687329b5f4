"""What EdgeTAM learns from: true masks, with prompts that are drawn from them as users would give them.

Shapes: B pictures, O objects per picture, N points per object, (H, W) the model input, (h, w) = (H / 16, W / 16).
Labels are 1 on an object, 0 elsewhere, and negative everywhere for an object that only fills up a batch.
"""

import torch

from .checks_edgetam import check_tensor
from .losses_edgetam import add_up, cell_shares, mean_over_objects, segmentation_losses
from .prompt_encoder_edgetam import LARGEST_PREVIOUS_LOGIT
from .prompt_simulation_edgetam import PromptSimulator


def check_labels(mask_labels, prompt_seeds, leading, size):
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


class Lesson:
    """A model and a simulated user at work on true masks.

    Args:
        model: `EdgeTamModel`, whose `prompt_simulation` and `loss_weights` count.
        seeds: integers, see `PromptSimulator`.
    """

    def __init__(self, model, seeds):
        self.simulator = PromptSimulator(model.prompt_simulation, seeds, model.prompt_encoder.image_size)
        self.weights = model.loss_weights

    def practise(self, predict, choose, masks, prompts, num_corrections):
        """The last prediction, after so many corrections, and the losses (B, O) of all, added up.

        Args:
            predict: makes a `MaskPrediction` of points (B, O, N, 2), labels (B, O, N) and logits (B, O, 4h, 4w) of an
                earlier mask; each may be `None`.
            choose: finds, for a prediction and the number of points (B, O), bool (B, O), whether that is ambiguous, and
                the logits (B, O, 4h, 4w) that a user would see.
            masks: bool (B, O, H, W).
            prompts: points and labels, or two times `None`.
        """
        shares, (points, labels), previous, losses = cell_shares(masks), prompts, None, []
        while True:
            prediction = predict(points, labels, previous)
            num_points = torch.zeros(masks.shape[:2], device=masks.device) if labels is None else (labels >= 0).sum(-1)
            is_ambiguous, logits = choose(prediction, num_points)
            is_several = self.simulator.teaches_several_masks(is_ambiguous)
            losses.append(segmentation_losses(prediction, shares, is_several, self.weights))
            if len(losses) > num_corrections:
                return prediction, add_up(losses)
            click, label = self.simulator.correct(logits.detach(), shares)
            points = click if points is None else torch.cat((points, click), dim=2)
            labels = label if labels is None else torch.cat((labels, label), dim=2)
            previous = logits.detach().clamp(-LARGEST_PREVIOUS_LOGIT, LARGEST_PREVIOUS_LOGIT)


def learn_from_pictures(model, image_embeddings, mask_labels, seeds):
    """The last `MaskPrediction` of a lesson on pictures, and its losses (B, O).

    Args:
        image_embeddings: see `EdgeTamModel.get_image_embeddings`.
        mask_labels: (B, O, H, W).
        seeds: integers (B,).
    """
    encoding, decoder = model.get_image_wide_positional_embeddings(), model.mask_decoder

    def predict(points, labels, previous):
        prompts = model.prompt_encoder(points, labels, None, previous, len(mask_labels), mask_labels.device)
        return decoder(image_embeddings, encoding, prompts)

    def choose(prediction, num_points):
        is_ambiguous = num_points == 1
        return is_ambiguous, decoder.choose_mask(prediction, is_ambiguous)[0]

    lesson, masks = Lesson(model, seeds), mask_labels > 0
    prompts = lesson.simulator.first_prompts(masks)
    return lesson.practise(predict, choose, masks, prompts, model.prompt_simulation.num_corrections)


def total_loss(losses, mask_labels):
    """The loss, and its terms by name, of losses (B, O) for labels (B, O, …)."""
    terms = mean_over_objects(losses, (mask_labels >= 0).flatten(2).any(-1))
    return sum(terms.values()), {name: term.detach() for name, term in terms.items()}
