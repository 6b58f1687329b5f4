"""Graphs for runtimes that want to know every size beforehand, as those of phones do.

One picture at a time, so many objects, of which each has as many clicks, memories and pointers as it may have at most:
what an object lacks is filled up, with labels of -10 for clicks and with anything finite for memories and pointers,
which two masks then hide.
"""

from dataclasses import replace

import torch
from torch import nn

from ..base_edgetam import EdgeTamBaseModel
from ..memory_layers_edgetam import grid_side
from ..modeling_edgetam_video import EdgeTamVideoModel
from ..stages_edgetam_video import Memories
from .graphs import Graph, MemoryAttention, graphs_of, without_memory_embedding

NUM_POINTS = 8  # clicks of an object, and the corners of a box
HIDDEN_LOGIT = -1e4  # far below any other, and still a number in float16


class MaskedMemoryAttention(nn.Module):
    """The map of stride 16 of a frame as seen by objects that remember something, or less than fits."""

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
        is_memory: torch.Tensor,
        is_pointer: torch.Tensor,
    ) -> tuple[torch.Tensor]:
        """As `MemoryAttention`; is_memory (O, F) and is_pointer (O, P), bool, tell what is not there to fill up."""
        frame_embedding = without_memory_embedding(self.model, frame_embedding)
        memories = Memories(features, time_idx, pointers, pointer_offsets)
        num_latents, num_channels = features.shape[2:]
        num_placed = grid_side(self.model.config) ** 2
        num_tokens = pointers.shape[2] // num_channels
        # the order of tokens: latents of the grid, of all frames, then global ones, then pointers
        of_frames = [is_memory[:, :, None].expand(-1, -1, num) for num in (num_placed, num_latents - num_placed)]
        of_pointers = is_pointer[:, :, None].expand(-1, -1, num_tokens)
        is_token = torch.cat([part.flatten(1) for part in (*of_frames, of_pointers)], dim=1)
        key_bias = (1 - is_token.float()) * HIDDEN_LOGIT
        encodings = self.model.encode_time(memories)
        return (self.model.memory_attention(frame_embedding, memories, *encodings, key_bias[:, None, None]),)


def fixed_graphs(
    model: EdgeTamBaseModel, is_for_video: bool = True, num_objects: int = 1, num_points: int = NUM_POINTS
) -> list[Graph]:
    """The graphs of a model whose tensors have one size each.

    They are those of `graphs_of` by the same names, for one picture, so many objects, each with
    so many points. Boxes are points with the labels 2 and 3 ahead of clicks. `memory_attention` takes `num_maskmem`
    memories (of more conditioning frames than fit, give those nearest in time), `max_object_pointers_in_encoder`
    pointers, and two more inputs: see `MaskedMemoryAttention`.
    """
    lengths = {"pictures": 1, "objects": num_objects, "points": num_points}
    if isinstance(model, EdgeTamVideoModel):
        lengths |= {"frames": model.config.num_maskmem, "pointers": model.config.max_object_pointers_in_encoder}
    graphs = [_with_lengths(graph, lengths) for graph in graphs_of(model, is_for_video)]
    return [_with_masks(graph) if graph.name == "memory_attention" else graph for graph in graphs]


def _with_lengths(graph: Graph, lengths: dict[str, int]) -> Graph:
    """A graph whose axes have these lengths, by their names, and no other."""
    inputs = {}
    for name, example in graph.inputs.items():
        for axis, label in graph.dynamic.get(name, {}).items():  # what is missing is repeated
            example = example.index_select(axis, torch.arange(lengths[label]) % example.shape[axis])
        inputs[name] = example
    return replace(graph, inputs=inputs, dynamic={}, has_boxes=False)


def _with_masks(attention: Graph) -> Graph:
    """Memory attention that takes masks of what there is to remember."""
    masks = {
        "is_memory": torch.ones(attention.inputs["time_idx"].shape, dtype=torch.bool),
        "is_pointer": torch.ones(attention.inputs["pointer_offsets"].shape, dtype=torch.bool),
    }
    assert isinstance(attention.module, MemoryAttention)
    module = MaskedMemoryAttention(attention.module.model)
    return replace(attention, module=module, inputs={**attention.inputs, **masks})
