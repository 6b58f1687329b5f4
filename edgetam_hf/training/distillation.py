"""Distillation of EdgeTAM from a SAM 2 model, as its paper does it (arXiv 2501.07256, section on distillation).

Shapes: B pictures or clips, T frames, O objects, (h, w) the image embedding, C channels. A teacher may have others.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput

from ..base_edgetam import EdgeTamBaseModel
from ..configuration_edgetam import to_height_and_width
from ..modeling_edgetam_video import EdgeTamVideoModel
from ..training_edgetam_video import EdgeTamClipOutput, learn_from_clips


class Distillation(nn.Module):
    """A model that learns, with its teacher: a drop-in for the model in `Trainer`.

    To the student's own loss come the mean squared differences between image embeddings and, for clips, between what
    memory attention makes of them. Parameters and `state_dict` are those of the student and of two projections, which
    are needed where the teacher has more or fewer channels; `student.save_pretrained` leaves all of that behind.

    Args:
        student: `EdgeTamModel`, or `EdgeTamVideoModel` for clips.
        teacher: a SAM 2 of Transformers or an EdgeTAM, for clips one that tracks. It is frozen, and shown the prompts
            of the student if it is an EdgeTAM of this package; else the true masks, on the same frames.
        feature_weight, memory_weight: of the two differences.

    Raises:
        TypeError: for a teacher that is no SAM 2, or has no memory although the student has one.
    """

    def __init__(
        self,
        student: EdgeTamBaseModel,
        teacher: PreTrainedModel,
        feature_weight: float = 1.0,
        memory_weight: float = 1.0,
    ):
        super().__init__()
        has_memory = isinstance(student, EdgeTamVideoModel)
        needed = ("vision_encoder", "memory_attention") if has_memory else ("vision_encoder",)
        if missing := [name for name in needed if not hasattr(teacher, name)]:
            raise TypeError(
                f"the teacher must be a SAM 2 {'video ' if has_memory else ''}model of Transformers or an EdgeTAM, got "
                f"{type(teacher).__name__}, which has no {missing[0]}"
            )
        self.student, self.config = student, student.config
        self.hidden_teacher = [teacher.eval().requires_grad_(False)]  # in a list it is no part of this module
        self.weights = {"features": feature_weight, "memory": memory_weight}
        sizes = (student.config.vision_config.fpn_hidden_size, teacher.config.vision_config.fpn_hidden_size)
        places = ("features", "memory") if has_memory else ("features",)
        self.projections = nn.ModuleDict(
            {place: nn.Identity() if sizes[0] == sizes[1] else nn.Conv2d(*sizes, kernel_size=1) for place in places}
        )

    @property
    def teacher(self) -> PreTrainedModel:
        """The frozen model, where the student is."""
        teacher, device = self.hidden_teacher[0], self.student.device
        return teacher if teacher.device == device else teacher.to(device)

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """That of the student."""
        self.student.gradient_checkpointing_enable(*args, **kwargs)

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """That of the student."""
        # transformers<5: it knows the other name only
        self.student.activation_checkpointing_enable(*args, **kwargs)

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        mask_labels: torch.Tensor | None = None,
        prompt_seeds: torch.Tensor | None = None,
    ) -> ModelOutput:
        """The student's output for labelled pictures or clips, with the differences in `loss` and `loss_dict`.

        Raises:
            ValueError: as the student.
        """
        if pixel_values_videos is None:
            output = self.student(pixel_values=pixel_values, mask_labels=mask_labels, prompt_seeds=prompt_seeds)
            assert pixel_values is not None  # or the student has raised
            features = output.image_embeddings[-1] - self.student.no_memory_embedding.flatten()[:, None, None]
            differences = {"features": self._difference("features", features, self._teach(pixel_values))}
        else:
            if prompt_seeds is None:
                prompt_seeds = torch.randint(2**31, (len(pixel_values_videos),))  # for teacher and student
            output = self.student(
                pixel_values_videos=pixel_values_videos, mask_labels=mask_labels, prompt_seeds=prompt_seeds
            )
            assert mask_labels is not None  # or the student has raised
            differences = self._compare_clips(output, pixel_values_videos, mask_labels, prompt_seeds)
        terms = {name: self.weights[name] * difference for name, difference in differences.items()}
        output["loss"] = output.loss + sum(terms.values())
        output["loss_dict"] = {**output.loss_dict, **{name: term.detach() for name, term in terms.items()}}
        return output

    def _difference(self, place: str, learnt: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
        """Mean squared difference of maps (N, C, h, w), in the size of what is learnt."""
        projected = self.projections[place](learnt)
        taught = F.interpolate(taught.float(), learnt.shape[-2:], mode="bilinear", align_corners=False, antialias=True)
        return F.mse_loss(projected.float(), taught)

    def _compare_clips(
        self,
        output: EdgeTamClipOutput,
        pixel_values_videos: torch.Tensor,
        mask_labels: torch.Tensor,
        prompt_seeds: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """The differences of clips, by place."""
        learnt, frames = output.memory_embeddings, pixel_values_videos.flatten(0, 1)
        features = self._difference("features", output.frame_embeddings.flatten(0, 1), self._teach(frames))
        with torch.no_grad():
            taught = self._track(learnt, pixel_values_videos, mask_labels, prompt_seeds)
        memory = features.new_zeros(())
        for clip_idx, frames_learnt in enumerate(learnt):
            is_object = (mask_labels[clip_idx] >= 0).flatten(2).any(-1).any(0)
            pairs = [(maps[is_object], taught[clip_idx][t][is_object]) for t, maps in frames_learnt.items()]
            if pairs and is_object.any():
                memory = memory + self._difference("memory", *(torch.cat(maps) for maps in zip(*pairs))) / len(learnt)
        return {"features": features, "memory": memory}

    @torch.no_grad()
    def _teach(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The teacher's image embeddings (B, C, h, w), before any memory."""
        return self.teacher.vision_encoder(self._resize(pixel_values), return_dict=True).fpn_hidden_states[-1]

    def _resize(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Pictures (B, 3, H, W) in the size that the teacher takes."""
        size = to_height_and_width(self.teacher.config.prompt_encoder_config.image_size)
        if tuple(pixel_values.shape[-2:]) == size:
            return pixel_values
        return F.interpolate(pixel_values, size, mode="bilinear", align_corners=False, antialias=True)

    def _track(
        self,
        learnt: tuple[dict[int, torch.Tensor], ...],
        pixel_values_videos: torch.Tensor,
        mask_labels: torch.Tensor,
        prompt_seeds: torch.Tensor,
    ) -> Sequence[dict[int, torch.Tensor]]:
        """By clip and frame what the teacher's memory attention gives, (O, C, h, w), on the frames of `learnt`."""
        videos = torch.stack([self._resize(frames) for frames in pixel_values_videos])
        labels = mask_labels.float().flatten(0, 1)
        labels = F.interpolate(labels, videos.shape[-2:]).unflatten(0, videos.shape[:2])
        if isinstance(self.teacher, EdgeTamVideoModel):
            simulation = self.student.prompt_simulation
            return learn_from_clips(self.teacher, videos, labels, prompt_seeds, simulation).memory_embeddings
        return [
            self._track_natively(frames, masks > 0, set(range(len(frames))) - tracked.keys())
            for frames, masks, tracked in zip(videos, labels, learnt)
        ]

    def _track_natively(self, frames: torch.Tensor, masks: torch.Tensor, prompted: set[int]) -> dict[int, torch.Tensor]:
        """The same of one clip by a model of Transformers, which is given true masks on the prompted frames."""
        kind = type(self.teacher)
        session_class = getattr(sys.modules[kind.__module__], kind.__name__.removesuffix("Model") + "InferenceSession")
        session = session_class(
            frames, *frames.shape[-2:], frames.device, frames.device, frames.device, self.teacher.dtype
        )
        for t in prompted:
            for object_idx, mask in enumerate(masks[t]):
                session.add_mask_inputs(session.obj_id_to_idx(object_idx + 1), t, mask[None, None].float())
        session.obj_with_new_inputs = list(session.obj_ids)
        height, width = self.teacher.config.vision_config.backbone_feature_sizes[-1]
        by_frame = {}
        for t in sorted(range(len(frames)), key=lambda t: (t not in prompted, t)):
            with outputs_of(self.teacher.memory_attention) as attended:
                self.teacher(session, frame_idx=t)
            if attended:
                tokens = torch.cat([output.reshape(-1, height * width, output.shape[-1]) for output in attended])
                by_frame[t] = tokens.transpose(1, 2).unflatten(2, (height, width))
        return by_frame


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list]:
    """A list that fills with what the module returns."""
    outputs = []
    hook = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()
