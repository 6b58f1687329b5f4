"""How EdgeTAM learns to track: clips with true masks, some frames of which a simulated user prompts.

Shapes: B clips, T frames, O objects, (H, W) the model input, (h, w) = (H / 16, W / 16), C channels of the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from transformers.utils import ModelOutput

from .checks_edgetam_video import check_pixels
from .memory_bank_edgetam import Prompt, Reach, TrackedObject, split_results, stack_memories
from .pretrained_edgetam import ALWAYS_GIVEN
from .prompts_edgetam import Prompts
from .settings_edgetam import check_numbers
from .stages_edgetam_video import ObjectPrediction, is_ambiguous
from .training_edgetam import (
    Answer,
    PromptSimulation,
    PromptSimulator,
    add_up,
    check_labels,
    learn_from_corrections,
    total_loss,
)

if TYPE_CHECKING:
    from .modeling_edgetam_video import EdgeTamVideoModel


@dataclass
class EdgeTamClipOutput(ModelOutput):
    """What a video model finds in clips that it learns from.

    Args:
        loss (`torch.Tensor`):
            The sum of `loss_dict`.
        loss_dict (`dict[str, torch.Tensor]`):
            Terms of the loss, each added up over frames and prompts, as SAM 2 does.
        pred_masks (`torch.Tensor` of shape `(batch_size, num_frames, num_objects, H / 4, W / 4)`):
            Low-res logits, after the last prompt.
        object_score_logits (`torch.Tensor` of shape `(batch_size, num_frames, num_objects)`):
            Logit of "the object is visible".
        frame_embeddings (`torch.Tensor` of shape `(batch_size, num_frames, C, H / 16, W / 16)`):
            Image embeddings before any memory.
        memory_embeddings (`tuple[dict[int, torch.Tensor]]`):
            Of every clip, by frame: image embeddings `(num_objects, C, H / 16, W / 16)` after memory attention. Frames
            that were prompted before tracking have none.
    """

    loss: torch.Tensor = ALWAYS_GIVEN
    loss_dict: dict[str, torch.Tensor] = ALWAYS_GIVEN
    pred_masks: torch.Tensor = ALWAYS_GIVEN
    object_score_logits: torch.Tensor = ALWAYS_GIVEN
    frame_embeddings: torch.Tensor = ALWAYS_GIVEN
    memory_embeddings: tuple[dict[int, torch.Tensor], ...] = ALWAYS_GIVEN


def learn_from_clips(
    model: "EdgeTamVideoModel",
    pixel_values_videos: torch.Tensor | None,
    mask_labels: torch.Tensor | None,
    prompt_seeds: torch.Tensor | None,
    simulation: PromptSimulation | None = None,
) -> EdgeTamClipOutput:
    """The `EdgeTamClipOutput` of clips (B, T, 3, H, W) with labels (B, T, O, H, W) and seeds (B,) or `None`.

    Users are simulated as `simulation` says, or else the model's `prompt_simulation`.

    Raises:
        ValueError: for inputs whose shapes are wrong or do not fit each other, or with NaN.
        TypeError: for tensors that do not hold pixels, labels and integers.
    """
    shape, size = tuple(getattr(pixel_values_videos, "shape", ())), model.prompt_encoder.image_size
    num_channels = model.config.vision_config.backbone_in_channels
    if pixel_values_videos is None or len(shape) != 5 or shape[2] != num_channels or 0 in shape:
        raise ValueError(
            "pixel_values_videos must have shape (batch_size, num_frames, 3, height, width), got "
            f"{shape or type(pixel_values_videos).__name__}"
        )
    check_pixels(pixel_values_videos, "pixel_values_videos")
    seeds = check_labels(mask_labels, prompt_seeds, shape[:2], size)
    assert mask_labels is not None
    check_numbers(mask_labels, "mask_labels")
    check_numbers(seeds, "prompt_seeds")
    if 0 in mask_labels.shape:
        raise ValueError(f"mask_labels must have at least one object, got shape {tuple(mask_labels.shape)}")
    if seeds.is_floating_point() or seeds.dtype == torch.bool:
        raise TypeError(f"prompt_seeds must be integers, got {seeds.dtype}")
    maps = [fm.unflatten(0, shape[:2]) for fm in model.get_frame_embeddings(pixel_values_videos.flatten(0, 1))]
    simulation = model.prompt_simulation if simulation is None else simulation
    clips = [learn_from_clip(model, simulation, *parts) for parts in zip(zip(*maps), mask_labels > 0, seeds)]
    losses = {name: torch.cat([clip.losses[name] for clip in clips]) for name in clips[0].losses}
    loss, terms = total_loss(losses, mask_labels.transpose(1, 2))
    return EdgeTamClipOutput(
        loss=loss,
        loss_dict=terms,
        pred_masks=torch.stack([clip.pred_masks for clip in clips]),
        object_score_logits=torch.stack([clip.object_score_logits for clip in clips]),
        frame_embeddings=maps[-1],
        memory_embeddings=tuple(clip.memory_embeddings for clip in clips),
    )


class ClipResult(NamedTuple):
    """What was found in one clip.

    losses: (1, O), added up over frames; pred_masks: (T, O, 4h, 4w); object_score_logits: (T, O); memory_embeddings: by
    frame, (O, C, h, w).
    """

    losses: dict[str, torch.Tensor]
    pred_masks: torch.Tensor
    object_score_logits: torch.Tensor
    memory_embeddings: dict[int, torch.Tensor]


class ClipFrame(NamedTuple):
    """A frame of a clip, with what is true there.

    embeddings: maps of stride 4, 8 and 16, (1, channels, height, width); conditioned: (O, C, h, w), the last of them
    after memory attention; masks: bool (O, H, W); has_memory: whether the objects remember other frames.
    """

    embeddings: list[torch.Tensor]
    conditioned: torch.Tensor
    masks: torch.Tensor
    has_memory: bool


def learn_from_clip(
    model: "EdgeTamVideoModel",
    simulation: PromptSimulation,
    frame_maps: Sequence[torch.Tensor],
    masks: torch.Tensor,
    seed: torch.Tensor,
) -> ClipResult:
    """What the model finds in one clip, whose objects a simulated user prompts.

    Prompted frames come first, then all others in order of time. A frame whose masks are given has no losses.

    Args:
        frame_maps: maps of stride 4, 8 and 16, (T, channels, height, width).
        masks: bool (T, O, H, W).
        seed: integer.
    """
    num_frames, num_objects = masks.shape[:2]
    simulator = PromptSimulator(simulation, seed[None], model.prompt_encoder.image_size)
    plan, reach = simulator.plan_clip(num_frames), Reach.of(model.config, num_frames)
    objects = [TrackedObject() for _ in range(num_objects)]
    losses, predictions, memory_embeddings = [], {}, {}
    frames = sorted(range(num_frames), key=lambda t: (t not in plan.prompted, t))
    for t in frames:
        embeddings, is_prompted = [frame_map[t : t + 1] for frame_map in frame_maps], t in plan.prompted
        if is_prompted and plan.has_masks:
            predictions[t] = model.adopt_masks(embeddings, masks[t])
        else:
            if is_prompted:
                conditioned = model.forget_memory(embeddings[-1]).expand(num_objects, -1, -1, -1)
                prompts = simulator.first_prompts(masks[t][None])
            else:
                memories = [tracked_object.memory_at(t, reach, reverse=False) for tracked_object in objects]
                conditioned = model.attend_to_memory(embeddings[-1], stack_memories(memories, embeddings[-1]))
                memory_embeddings[t], prompts = conditioned, Prompts()
            frame = ClipFrame(embeddings, conditioned, masks[t], has_memory=not is_prompted)
            num_corrections = simulation.num_corrections if t in plan.corrected else 0
            predictions[t], frame_losses = learn_from_frame(model, simulator, frame, prompts, num_corrections)
            losses.append(frame_losses)
        if t != frames[-1]:
            flags = torch.full((num_objects,), is_prompted, device=masks.device)
            found = predictions[t]
            memory = model.encode_memory(embeddings[-1], found.masks, found.object_score_logits, flags)
            prompt = Prompt(is_conditioning=True) if is_prompted or t in plan.corrected else None
            for tracked_object, result in zip(objects, split_results(found, memory, None, [prompt] * num_objects)):
                tracked_object.remember(t, result)
    return ClipResult(
        losses=add_up(losses),
        pred_masks=torch.stack([predictions[t].masks.detach() for t in range(num_frames)]),
        object_score_logits=torch.stack([predictions[t].object_score_logits.detach() for t in range(num_frames)]),
        memory_embeddings=memory_embeddings,
    )


def learn_from_frame(
    model: "EdgeTamVideoModel", simulator: PromptSimulator, frame: ClipFrame, prompts: Prompts, num_corrections: int
) -> tuple[ObjectPrediction, dict[str, torch.Tensor]]:
    """The prediction after so many corrections of the first prompts (1, O, …), and losses (1, O) of all, added up."""

    def answer(prompts: Prompts) -> Answer:
        prompts = prompts.transpose()  # objects are the batch of the model
        candidates = model.predict_masks(frame.embeddings, frame.conditioned, prompts)
        num_points = torch.zeros(len(frame.masks), dtype=torch.long, device=frame.masks.device)
        if prompts.labels is not None:
            num_points = (prompts.labels[:, 0] >= 0).sum(-1)
        flags = is_ambiguous(model.config, num_points, frame.has_memory)
        return Answer(candidates.transpose(), flags[None], model.choose_masks(candidates, flags))

    weights, masks = model.loss_weights, frame.masks[None]
    answered, losses = learn_from_corrections(answer, simulator, masks, prompts, num_corrections, weights)
    return answered.chosen, losses
