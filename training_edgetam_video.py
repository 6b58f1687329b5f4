"""How EdgeTAM learns to track: clips with true masks, some frames of which a simulated user prompts.

Shapes: B clips, T frames, O objects, (H, W) the model input, (h, w) = (H / 16, W / 16), C channels of the model.
"""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput

from .checks_edgetam_video import check_pixels
from .losses_edgetam import add_up
from .memory_layers_edgetam import Memories
from .prompt_simulation_edgetam import PromptSimulation, PromptSimulator
from .prompts_edgetam import Prompts
from .session_edgetam import FrameResult, Reach, TrackedObject
from .settings_edgetam import check_numbers
from .training_edgetam import Answer, check_labels, learn_from_corrections, total_loss


@dataclass
class EdgeTamClipOutput(ModelOutput):
    """What a video model found in clips while it learnt.

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

    loss: torch.FloatTensor | None = None
    loss_dict: dict[str, torch.FloatTensor] | None = None
    pred_masks: torch.FloatTensor | None = None
    object_score_logits: torch.FloatTensor | None = None
    frame_embeddings: torch.FloatTensor | None = None
    memory_embeddings: tuple[dict[int, torch.FloatTensor], ...] | None = None


def learn_from_clips(
    model,
    pixel_values_videos: torch.Tensor,
    mask_labels: torch.Tensor,
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
    num_channels = model.config.vision_config.backbone_config["model_args"]["in_chans"]
    if len(shape) != 5 or shape[2] != num_channels or 0 in shape:
        raise ValueError(
            "pixel_values_videos must have shape (batch_size, num_frames, 3, height, width), got "
            f"{shape or type(pixel_values_videos).__name__}"
        )
    check_pixels(pixel_values_videos, "pixel_values_videos")
    seeds = check_labels(mask_labels, prompt_seeds, shape[:2], size)
    check_numbers(mask_labels, "mask_labels")
    check_numbers(seeds, "prompt_seeds")
    if 0 in mask_labels.shape:
        raise ValueError(f"mask_labels must have at least one object, got shape {tuple(mask_labels.shape)}")
    if seeds.is_floating_point() or seeds.dtype == torch.bool:
        raise TypeError(f"prompt_seeds must be integers, got {seeds.dtype}")
    maps = [fm.unflatten(0, shape[:2]) for fm in model.get_frame_embeddings(pixel_values_videos.flatten(0, 1))]
    simulation = model.prompt_simulation if simulation is None else simulation
    lessons = [ClipLesson(model, simulation, *parts) for parts in zip(zip(*maps), mask_labels > 0, seeds)]
    losses = [lesson.learn() for lesson in lessons]
    losses = {name: torch.cat([each[name] for each in losses]) for name in losses[0]}
    loss, terms = total_loss(losses, mask_labels.transpose(1, 2))
    return EdgeTamClipOutput(
        loss=loss,
        loss_dict=terms,
        pred_masks=torch.stack([lesson.gather("mask") for lesson in lessons]),
        object_score_logits=torch.stack([lesson.gather("object_score_logit") for lesson in lessons]),
        frame_embeddings=maps[-1],
        memory_embeddings=tuple(lesson.memory_embeddings for lesson in lessons),
    )


class ClipLesson:
    """A model and a simulated user at work on one clip, whose objects are tracked side by side.

    Prompted frames come first, then all others in order of time. The memory is that of `TrackedObject`, whose results
    here have a dimension of objects.

    Args:
        model: `EdgeTamVideoModel`.
        simulation: `PromptSimulation`.
        frame_maps: maps of stride 4, 8 and 16, (T, channels, height, width).
        masks: bool (T, O, H, W).
        seed: integer.
    """

    def __init__(self, model, simulation, frame_maps, masks, seed):
        self.simulation = simulation
        self.simulator = PromptSimulator(simulation, [seed], model.prompt_encoder.image_size)
        config, num_frames = model.config, len(masks)
        self.model, self.frame_maps, self.masks = model, frame_maps, masks
        self.plan = self.simulator.plan_clip(num_frames)
        num_pointers = min(config.max_object_pointers_in_encoder, num_frames)
        self.reach = Reach(config.num_maskmem, num_pointers, config.max_cond_frame_num)
        self.bank, self.memory_embeddings = TrackedObject(), {}

    def learn(self):
        """Losses (1, O), added up over frames; a frame whose mask is given teaches nothing by itself."""
        frames = sorted(range(len(self.masks)), key=lambda t: (t not in self.plan.prompted, t))
        return add_up([losses for t in frames if (losses := self._learn_frame(t, is_remembered=t != frames[-1]))])

    def gather(self, name):
        """One part of the results on all frames, (T, O, …)."""
        results = {**self.bank.tracked, **self.bank.conditioning}
        return torch.stack([getattr(results[t], name).detach() for t in sorted(results)])

    def _learn_frame(self, t, is_remembered):
        frame_embeddings, masks, losses = [fm[t : t + 1] for fm in self.frame_maps], self.masks[t], None
        is_prompted = t in self.plan.prompted
        if is_prompted and self.plan.has_masks:
            found = self.model.adopt_masks(frame_embeddings, masks)
        else:
            found, losses = self._find(frame_embeddings, masks, t)
        memory = None
        if is_remembered:
            is_exact = torch.full((len(masks),), is_prompted, device=masks.device)
            memory = self.model.encode_memory(frame_embeddings[-1], found.masks, found.object_score_logits, is_exact)
        is_conditioning = is_prompted or t in self.plan.corrected
        results = self.bank.conditioning if is_conditioning else self.bank.tracked
        results[t] = FrameResult(*found, memory, is_conditioning=is_conditioning)
        return losses

    def _find(self, frame_embeddings, masks, t):
        """`ObjectPrediction` of prompted or tracked objects, and losses (1, O)."""
        is_tracked, prompts = t not in self.plan.prompted, Prompts()
        if is_tracked:
            memories = self._memories(t)
            conditioned = self.memory_embeddings[t] = self.model.attend_to_memory(frame_embeddings[-1], memories)
        else:
            conditioned = self.model.forget_memory(frame_embeddings[-1]).expand(len(masks), -1, -1, -1)
            prompts = self.simulator.first_prompts(masks[None])

        def answer(prompts):
            points, labels, _, previous_masks = prompts.transpose()
            prediction = self.model.predict_masks(frame_embeddings, conditioned, points, labels, previous_masks)
            num_points = torch.zeros(len(masks), device=masks.device)
            if labels is not None:
                num_points = (labels[:, 0] >= 0).sum(-1)
            is_ambiguous = self.model.is_ambiguous(num_points, is_tracked)
            chosen = self.model.choose_masks(prediction, is_ambiguous)
            return Answer(prediction.transpose(), is_ambiguous[None], chosen)

        num_corrections = self.simulation.num_corrections if t in self.plan.corrected else 0
        answered, losses = learn_from_corrections(
            answer, self.simulator, masks[None], prompts, num_corrections, self.model.loss_weights
        )
        return answered.chosen, losses

    def _memories(self, t):
        """`Memories` of all objects on a frame."""
        recollection, num_objects = self.bank.recall(t, False, self.reach), self.masks.shape[1]
        time_idx, distances = (torch.tensor([i for i, _ in part], device=self.masks.device) for part in recollection)
        features, pointers = ([states for _, states in part] for part in recollection)
        none = self.model.no_object_pointer[:0].expand(num_objects, -1, -1)
        return Memories(
            features=torch.stack(features, dim=1),
            time_idx=time_idx.expand(num_objects, -1),
            pointers=torch.stack(pointers, dim=1) if pointers else none,
            pointer_offsets=distances.expand(num_objects, -1) / max(self.reach.num_pointers - 1, 1),
        )
