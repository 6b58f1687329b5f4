"""The parts of EdgeTAM as graphs: functions of named tensors alone, which a runtime without PyTorch can compute.

    pixel_values -> vision encoder -> image embeddings -> prompts -> masks                            (pictures)
    frame -> vision encoder -> memory attention -> object decoder -> masks -> memory encoder          (video)

Shapes: B pictures, O objects, N points, F remembered frames, P object pointers, (H, W) the model input in pixels,
(h, w) = (H / 16, W / 16) the image embedding, C channels of the model, K latents of m channels that a frame leaves in
memory. Points are (x, y) in pixels of the model input.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..base_edgetam import EdgeTamBaseModel
from ..mask_decoder_edgetam import MaskPrediction
from ..modeling_edgetam_video import MASK_PROMPT_BIAS, MASK_PROMPT_SCALE, EdgeTamVideoModel
from ..prompt_encoder_edgetam import PromptEmbeddings
from ..prompts_edgetam import Prompts
from ..stages_edgetam_video import Memories
from .folded import folded_copy

# A graph in its runtime: from arrays by name, in the order of its inputs, to the outputs of these names
RunGraph = Callable[[Mapping[str, np.ndarray], Sequence[str]], list[np.ndarray]]
# The memory encoder's activations are too large for float16, and what adopts masks is small.
COMPUTED_IN_HALF = ("vision_encoder", "prompt_encoder_mask_decoder", "object_decoder", "memory_attention")
# Inputs whose numbers need more digits than float16 has, and which modules read in float32: coordinates, times, logits
IN_FULL_PRECISION = ("points", "masks", "pointer_offsets")


@dataclass(frozen=True)
class Graph:
    """A part of the model that becomes one file.

    Args:
        name: of the file.
        module: takes the inputs in order, and returns a tuple of the outputs in order.
        inputs: examples by name; their sizes may be others where `dynamic` has a name for an axis.
        outputs: names.
        dynamic: names of the axes of inputs and outputs whose length is not fixed, by axis, by name of the tensor.
        has_boxes: whether `points` and `labels` stand for clicks and boxes, which users give apart.
        is_stored_in_half: whether weights are written in float16, and computed with in float32 all the same.
    """

    name: str
    module: nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)
    has_boxes: bool = False
    is_stored_in_half: bool = False


def in_half(graph: Graph) -> Graph:
    """The graph of a float16 module, between inputs and outputs in float32."""

    def as_half(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(
            tensor.half() if tensor.is_floating_point() and name not in IN_FULL_PRECISION else tensor
            for name, tensor in zip(graph.inputs, inputs)
        )

    def as_float(module: nn.Module, inputs: Any, outputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(output.float() for output in outputs)

    graph.module.register_forward_pre_hook(as_half)
    graph.module.register_forward_hook(as_float)
    return graph


class VisionEncoder(nn.Module):
    """Image embeddings of pictures or frames; the last one has the embedding that stands for an empty memory."""

    def __init__(self, model: EdgeTamBaseModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.model.get_image_embeddings(pixel_values))


class PromptDecoder(nn.Module):
    """Three masks of every prompted object of pictures, their scores, and whether the object is there."""

    def __init__(self, model: EdgeTamBaseModel):
        super().__init__()
        self.model = model

    def forward(
        self,
        points: torch.Tensor,
        labels: torch.Tensor,
        stride_4: torch.Tensor,
        stride_8: torch.Tensor,
        stride_16: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Predicted IoU (B, O, 3), logits (B, O, 3, 4h, 4w), object scores (B, O, 1) of points (B, O, N, 2)."""
        prompts = Prompts(points=points, labels=labels)
        prediction = self.model.decode_prompts((stride_4, stride_8, stride_16), prompts)
        return prediction.iou_scores[:, :, 1:], prediction.masks[:, :, 1:], prediction.object_score_logits


class ObjectDecoder(nn.Module):
    """What is predicted of objects, prompted or tracked, each by flags of its own so that they can share a batch."""

    def __init__(self, model: EdgeTamBaseModel):
        super().__init__()
        self.model = model

    def forward(
        self,
        stride_4: torch.Tensor,
        stride_8: torch.Tensor,
        conditioned: torch.Tensor,
        points: torch.Tensor,
        labels: torch.Tensor,
        masks: torch.Tensor,
        has_mask: torch.Tensor,
        is_ambiguous: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """One mask of each object, and all that the decoder has to choose from.

        Args:
            stride_4, stride_8: maps of the frame, batch size 1.
            conditioned: (O, C, h, w), the map of stride 16 as every object sees it.
            points, labels: (O, N, 2) and (O, N); a tracked object has the label of a point without a position.
            masks: (O, 4h, 4w), logits of an earlier mask, without influence unless has_mask (O,).
            is_ambiguous: (O,), whether to choose the best of three masks.

        Returns:
            masks (O, 4h, 4w), iou_scores (O,), object_score_logits (O,), of video models pointers (O, C), then of all
            candidates, the single mask ahead of three: masks (O, 4, 4h, 4w) and iou_scores (O, 4).
        """
        model = self.model
        prompts = Prompts(points[:, None], labels[:, None], masks=masks[:, None])
        given = model.prompt_encoder(prompts, masks.shape[0])
        none = model.prompt_encoder(Prompts()).dense
        dense = torch.where(has_mask[:, None, None, None], given.dense, none)
        embeddings = PromptEmbeddings(given.sparse, dense, given.is_padding)
        encoding = model.get_image_wide_positional_embeddings()
        prediction = model.mask_decoder((stride_4, stride_8, conditioned), encoding, embeddings)
        return *self._choose(prediction, is_ambiguous), prediction.masks[:, 0], prediction.iou_scores[:, 0]

    def _choose(self, prediction: MaskPrediction, is_ambiguous: torch.Tensor) -> Sequence[torch.Tensor]:
        if isinstance(self.model, EdgeTamVideoModel):
            return self.model.choose_masks(prediction, is_ambiguous)
        chosen = self.model.mask_decoder.choose_masks(prediction, is_ambiguous[:, None])
        return chosen.masks[:, 0], chosen.iou_scores[:, 0], prediction.object_score_logits[:, 0, 0]


class MemoryAttention(nn.Module):
    """The map of stride 16 of a frame as seen by objects that remember something."""

    model: EdgeTamVideoModel

    def __init__(self, model: EdgeTamVideoModel):
        super().__init__()
        self.model = model

    def forward(
        self,
        frame_embedding: torch.Tensor,
        features: torch.Tensor,
        time_idx: torch.Tensor,
        pointers: torch.Tensor,
        pointer_offsets: torch.Tensor,
    ) -> tuple[torch.Tensor]:
        """(O, C, h, w) of what `vision_encoder` returned last, (1, C, h, w), and the fields of `Memories`."""
        frame_embedding = without_memory_embedding(self.model, frame_embedding)
        memories = Memories(features, time_idx, pointers, pointer_offsets)
        return (self.model.attend_to_memory(frame_embedding, memories),)


class MaskAdopter(nn.Module):
    """What stands for a prediction where masks are given, and what the object decoder needs to find their pointers.

    An empty mask says that the object is absent; its pointer is `no_object_pointer`, whatever the decoder says.
    """

    def __init__(self, model: EdgeTamVideoModel):
        super().__init__()
        self.model = model

    def forward(self, frame_embedding: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Of masks (O, H, W), which are 0 and 1: what `object_decoder` takes, and the prediction.

        Returns:
            conditioned (O, C, h, w) and mask_prompts (O, 4h, 4w) for the decoder, masks (O, 4h, 4w) and
            object_score_logits (O,) of the prediction, and no_object_pointer (C,).
        """
        model = self.model
        conditioned = without_memory_embedding(model, frame_embedding).expand(masks.shape[0], -1, -1, -1)
        mask_prompts = model.mask_downsample(masks[:, None])[:, 0]
        (height, width), (low_height, low_width) = masks.shape[1:], model.mask_size
        logits = masks * MASK_PROMPT_SCALE + MASK_PROMPT_BIAS
        logits = shrinking_weights(height, low_height) @ logits @ shrinking_weights(width, low_width).T
        scores = masks.amax(dim=(1, 2)) * MASK_PROMPT_SCALE + MASK_PROMPT_BIAS
        return conditioned, mask_prompts, logits, scores, model.no_object_pointer[0]


class MemoryEncoder(nn.Module):
    """Memory (O, K, m) that a frame leaves."""

    def __init__(self, model: EdgeTamVideoModel):
        super().__init__()
        self.model = model

    def forward(
        self,
        frame_embedding: torch.Tensor,
        masks: torch.Tensor,
        object_score_logits: torch.Tensor,
        is_prompted: torch.Tensor,
    ) -> tuple[torch.Tensor]:
        frame_embedding = without_memory_embedding(self.model, frame_embedding)
        return (self.model.encode_memory(frame_embedding, masks, object_score_logits, is_prompted),)


def without_memory_embedding(model: EdgeTamVideoModel, frame_embedding: torch.Tensor) -> torch.Tensor:
    """The map of stride 16 before anything stood for an empty memory; the encoder's graph has it with that."""
    return frame_embedding - model.no_memory_embedding.flatten()[:, None, None]


def shrinking_weights(size: int, new_size: int) -> torch.Tensor:
    """Matrix (new_size, size) that shrinks a line of pixels bilinearly, each new one an average of those near it.

    As `F.interpolate` with `antialias=True`. Not every runtime has that, but all have products.
    """
    scale = size / new_size
    centres = (torch.arange(new_size, dtype=torch.float32) + 0.5) * scale
    distances = (torch.arange(size, dtype=torch.float32) + 0.5 - centres[:, None]).abs()
    weights = (1 - distances / scale).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)


def graphs_of(model: EdgeTamBaseModel, is_for_video: bool, dtype: str = "float32") -> list[Graph]:
    """All graphs of a model; dtype is "float32" or "float16", and inputs and outputs are float32 in both.

    is_for_video: whether to make those for tracking, too, of a video model.
    """

    def all_graphs(model: EdgeTamBaseModel) -> list[Graph]:
        is_tracked = is_for_video and isinstance(model, EdgeTamVideoModel)
        return picture_graphs(model) + (video_graphs(model) if is_tracked else [])

    folded = folded_copy(model)
    graphs = all_graphs(folded)
    if dtype == "float32":
        return graphs
    halves = {graph.name: graph for graph in all_graphs(copy.deepcopy(folded).half())}
    return [
        in_half(halves[graph.name]) if graph.name in COMPUTED_IN_HALF else replace(graph, is_stored_in_half=True)
        for graph in graphs
    ]


def picture_graphs(model: EdgeTamBaseModel) -> list[Graph]:
    """The graphs for pictures: image embeddings, three masks of prompts, and one mask of each object."""
    embeddings = _example_embeddings(model)
    (height, width), (mask_height, mask_width) = model.prompt_encoder.image_size, model.prompt_encoder.mask_input_size
    num_channels = embeddings["image_embeddings.2"].shape[1]
    pictures = axes(("pixel_values", *embeddings), "pictures")
    encoder = Graph(
        name="vision_encoder",
        module=VisionEncoder(model),
        inputs={"pixel_values": _example(2, 3, height, width)},
        outputs=tuple(embeddings),
        dynamic=pictures,
    )
    points, labels = _example(2, 3, 5, 2).sigmoid() * width, (_example(2, 3, 5) > 0).long()
    results = ("iou_scores", "pred_masks", "object_score_logits")
    decoder = Graph(
        name="prompt_encoder_mask_decoder",
        module=PromptDecoder(model),
        inputs={
            "points": points,
            "labels": labels,
            **{name: fm.repeat(2, 1, 1, 1) for name, fm in embeddings.items()},
        },
        outputs=results,
        dynamic={
            **pictures,
            **axes(("points", "labels"), "pictures", "objects", "points"),
            **axes(results, "pictures", "objects"),
        },
        has_boxes=True,
    )
    of_objects = {
        "conditioned": _example(3, num_channels, height // 16, width // 16),
        "points": points[0],
        "labels": labels[0],
        "masks": _example(3, mask_height, mask_width),
        "has_mask": torch.tensor([False, True, False]),
        "is_ambiguous": torch.tensor([False, True, False]),
    }
    pointers = ["pointers"] if isinstance(model, EdgeTamVideoModel) else []
    of_candidates = ["candidate_masks", "candidate_iou_scores"]
    predicted = ("pred_masks", "iou_scores", "object_score_logits", *pointers, *of_candidates)
    high_resolution = {name: embeddings[name] for name in ("image_embeddings.0", "image_embeddings.1")}
    object_decoder = Graph(
        name="object_decoder",
        module=ObjectDecoder(model),
        inputs={**high_resolution, **of_objects},
        outputs=predicted,
        dynamic={
            **axes((*of_objects, *predicted), "objects"),
            **axes(("points", "labels"), "objects", "points"),
        },
    )
    return [encoder, decoder, object_decoder]


def video_graphs(model: EdgeTamVideoModel) -> list[Graph]:
    """What tracking needs besides the graphs for pictures."""
    config = model.config
    (height, width), (mask_height, mask_width) = model.prompt_encoder.image_size, model.mask_size
    frame_embedding = _example_embeddings(model)["image_embeddings.2"]
    num_latents = config.perceiver_resampler_num_latents + config.perceiver_resampler_num_latents_2d
    memories = {
        "features": _example(3, 4, num_latents, config.memory_encoder_output_channels),
        "time_idx": torch.arange(4).expand(3, -1) % config.num_maskmem,
        "pointers": _example(3, 5, frame_embedding.shape[1]),
        "pointer_offsets": torch.arange(1.0, 6).expand(3, -1),
    }
    attention = Graph(
        name="memory_attention",
        module=MemoryAttention(model),
        inputs={"frame_embedding": frame_embedding, **memories},
        outputs=("conditioned",),
        dynamic={
            **axes(("features", "time_idx"), "objects", "frames"),
            **axes(("pointers", "pointer_offsets"), "objects", "pointers"),
            **axes(("conditioned",), "objects"),
        },
    )
    adopted = ("conditioned", "mask_prompts", "pred_masks", "object_score_logits")
    adopter = Graph(
        name="mask_adopter",
        module=MaskAdopter(model),
        inputs={"frame_embedding": frame_embedding, "masks": (_example(3, height, width) > 0).float()},
        outputs=(*adopted, "no_object_pointer"),
        dynamic=axes(("masks", *adopted), "objects"),
    )
    of_objects = {
        "masks": _example(3, mask_height, mask_width),
        "object_score_logits": _example(3),
        "is_prompted": torch.tensor([False, True, False]),
    }
    memory_encoder = Graph(
        name="memory_encoder",
        module=MemoryEncoder(model),
        inputs={"frame_embedding": frame_embedding, **of_objects},
        outputs=("features",),
        dynamic=axes((*of_objects, "features"), "objects"),
    )
    return [attention, adopter, memory_encoder]


def axes(names: Iterable[str], *labels: str) -> dict[str, dict[int, str]]:
    """For each tensor the labels of its first axes, as `Graph.dynamic` has them."""
    return {name: dict(enumerate(labels)) for name in names}


def _example_embeddings(model: EdgeTamBaseModel) -> dict[str, torch.Tensor]:
    """Examples of the image embeddings of one picture, by name."""
    (height, width), size = model.prompt_encoder.image_size, model.config.vision_config.fpn_hidden_size
    return {
        f"image_embeddings.{level}": _example(1, size // divisor, height // stride, width // stride)
        for level, (divisor, stride) in enumerate([(8, 4), (4, 8), (1, 16)])
    }


def _example(*shape: int) -> torch.Tensor:
    """Normally distributed numbers, the same for the same shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
