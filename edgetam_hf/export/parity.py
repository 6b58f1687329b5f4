"""How far exported graphs agree with PyTorch: each by itself, and all together in sessions on drawn clips."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from transformers.utils import logging

from edgetam_runtime.stages import Stages

from ..base_edgetam import EdgeTamBaseModel
from ..commands.picture_files import SAMPLES
from ..processing_edgetam import EdgeTamProcessor
from ..prompts_edgetam import Prompts
from .graphs import Graph, RunGraph, graphs_of
from .runtime import ExportedEdgeTam

SMALLEST_IOU = {"float32": 0.999, "float16": 0.99, "int8": 0.95}  # mean over all masks; nothing is written below
VIEW = 240  # pixels of the sample picture that a frame shows, of 384 x 303
FRAMES_PER_TURN = 24  # after which the view is where it was
# (x, y, radius) of coins in the sample picture: one that is always in view, one that leaves it, and one that comes in
STAYING, LEAVING, COMING = (211, 192, 22), (45, 55, 23), (271, 118, 25)
COINS = (STAYING, LEAVING, COMING)


class Found(NamedTuple):
    """What was found of an object on a frame: a mask bool (H, W), its predicted IoU and its object score."""

    mask: np.ndarray
    iou_score: float
    object_score_logit: float


def agreement(found: Iterable[Found], expected: Sequence[Found]) -> dict[str, Any]:
    """How far masks and scores agree with those of PyTorch; the IoU of two empty masks is 1."""
    ious, iou_scores, object_scores = [], [], []
    for one, other in zip(found, expected, strict=True):
        union = np.count_nonzero(one.mask | other.mask)
        ious.append(np.count_nonzero(one.mask & other.mask) / union if union else 1.0)
        iou_scores.append(abs(one.iou_score - other.iou_score))
        object_scores.append(abs(one.object_score_logit - other.object_score_logit))
    return {
        "masks": len(ious),
        "mean IoU": round(float(np.mean(ious)), 5),
        "lowest IoU": round(float(min(ious)), 5),
        "IoU score": round(max(iou_scores), 5),
        "object score": round(max(object_scores), 5),
    }


@dataclass(frozen=True)
class Reference:
    """What PyTorch computes and finds.

    graphs: in float32, with their modules; picture, clips: what is found in the sample picture and on clips, by name;
    follow: how clips are tracked, by name.
    """

    graphs: list[Graph]
    processor: EdgeTamProcessor
    picture: list[Found]
    follow: dict[str, Callable[[Any], Iterable[Found]]]
    clips: dict[str, list[Found]]

    @classmethod
    def of(
        cls, model: EdgeTamBaseModel, processor: EdgeTamProcessor, is_for_video: bool, num_frames: int
    ) -> "Reference":
        """The reference of a model; a video is followed over 24 frames, and over `num_frames` if there are any."""
        follow: dict[str, Callable[[Any], Iterable[Found]]] = {}
        if is_for_video:
            follow["24 frames, 3 objects"] = lambda model: follow_three(model, processor)
            if num_frames:
                follow[f"{num_frames} frames"] = lambda model: follow_one(model, processor, num_frames)
        return cls(
            graphs=graphs_of(model, is_for_video),
            processor=processor,
            picture=find_in_picture(model, processor),
            follow=follow,
            clips={name: list(logging.tqdm(track(model), desc=f"PyTorch, {name}")) for name, track in follow.items()},
        )

    def compare(self, exported: ExportedEdgeTam) -> list[dict[str, Any]]:
        """A row for the picture and for each clip, of how far an exported model finds the same."""
        in_picture = find_in_picture_by_graphs(exported.stages, self.processor)
        rows = [{"in": "picture", **agreement(in_picture, self.picture)}]
        for name, track in self.follow.items():
            found = logging.tqdm(track(exported), desc=f"compare, {name}", total=len(self.clips[name]))
            rows.append({"in": name, **agreement(found, self.clips[name])})
        return rows


@torch.no_grad()
def graph_difference(graph: Graph, run: RunGraph | None) -> dict[str, str]:
    """The largest difference between outputs of a graph and of PyTorch, beside the largest absolute output.

    Both are "not run" of a graph that nothing runs here.

    The inputs are one shorter along all axes that may have another length than in the export.
    """
    if run is None:
        return {"difference": "not run", "of at most": "not run"}
    inputs = {}
    for name, tensor in graph.inputs.items():
        for axis in graph.dynamic.get(name, {}):
            tensor = tensor.narrow(axis, 0, tensor.shape[axis] - 1)
        inputs[name] = tensor
    expected = graph.module(*inputs.values())
    named = {name: tensor.contiguous().numpy() for name, tensor in inputs.items()}
    if graph.has_boxes:
        named = {**named, "input_points": named["points"], "input_labels": named["labels"]}
        named["input_boxes"] = np.zeros((len(named.pop("points")), 0, 4), np.float32)
        del named["labels"]
    outputs = run(named, graph.outputs)
    differences = [np.abs(output - tensor.numpy()).max() for output, tensor in zip(outputs, expected, strict=True)]
    largest = max(float(tensor.abs().max()) for tensor in expected)
    return {"difference": f"{max(differences):.1e}", "of at most": f"{largest:.1e}"}


def view_of(frame_idx: int) -> tuple[int, int]:
    """(left, top) of what a frame shows of the sample picture: it swings to the right and back."""
    share = 0.5 - 0.5 * np.cos(2 * np.pi * frame_idx / FRAMES_PER_TURN)
    return round(share * (384 - VIEW)), round(20 + 40 * share)


def draw_clip(num_frames: int) -> list[Image.Image]:
    """Frames of a view that swings over the sample picture of coins."""
    with Image.open(SAMPLES / "coins.jpg") as source:
        picture = source.convert("RGB")
    views = map(view_of, range(num_frames))
    return [picture.crop((left, top, left + VIEW, top + VIEW)) for left, top in views]


def place_of(coin: tuple[int, int, int], frame_idx: int) -> tuple[int, int]:
    """(x, y) of the centre of a coin on a frame."""
    left, top = view_of(frame_idx)
    return coin[0] - left, coin[1] - top


def box_of(coin: tuple[int, int, int], frame_idx: int) -> list[int]:
    """The box round a coin on a frame."""
    (x, y), radius = place_of(coin, frame_idx), coin[2]
    return [x - radius, y - radius, x + radius, y + radius]


def disc_of(coin: tuple[int, int, int], frame_idx: int) -> np.ndarray:
    """The mask bool (H, W) of a coin on a frame."""
    x, y = place_of(coin, frame_idx)
    rows, columns = np.mgrid[:VIEW, :VIEW]
    return (columns - x) ** 2 + (rows - y) ** 2 <= coin[2] ** 2


@torch.no_grad()
def find_in_picture(model: EdgeTamBaseModel, processor: EdgeTamProcessor) -> list[Found]:
    """The masks that PyTorch finds of coins in the sample picture, three of each, by clicks and by boxes."""
    pixel_values, prompts = _prompted_coins(processor)
    embeddings = model.get_image_embeddings(pixel_values)
    found: list[Found] = []
    for kinds in prompts:
        prediction = model.decode_prompts(embeddings, model.read_prompts(kinds, 1, model.device))
        parts = (prediction.masks[:, :, 1:], prediction.iou_scores[:, :, 1:], prediction.object_score_logits)
        found += _as_found(*(part.numpy() for part in parts))
    return found


def find_in_picture_by_graphs(stages: Stages, processor: EdgeTamProcessor) -> list[Found]:
    """What graphs find in the place of `find_in_picture`."""
    pixel_values, (clicks, boxes) = _prompted_coins(processor)
    embeddings = stages.encode(pixel_values.numpy())
    found: list[Found] = []
    assert clicks.points is not None and clicks.labels is not None and boxes.boxes is not None
    no_points = (np.zeros((1, 1, 0, 2), np.float32), np.zeros((1, boxes.boxes.shape[1], 0), np.int64))
    no_boxes = np.zeros((1, 0, 4), np.float32)
    for given in ((clicks.points.numpy(), clicks.labels.numpy(), no_boxes), (*no_points, boxes.boxes.numpy())):
        found += _as_found(*stages.decode_prompts(embeddings, *given))
    return found


def _prompted_coins(processor: EdgeTamProcessor) -> tuple[torch.Tensor, tuple[Prompts, Prompts]]:
    """Pixel values of the sample picture, and prompts by clicks and by boxes."""
    with Image.open(SAMPLES / "coins.jpg") as picture:
        inputs = processor(
            images=picture,
            input_points=[[[[x, y]] for x, y, _ in COINS]],
            input_boxes=[[[x - radius, y - radius, x + radius, y + radius] for x, y, radius in COINS]],
            return_tensors="pt",
        )
    labels = torch.ones(inputs["input_points"].shape[:3], dtype=torch.long)
    clicks = Prompts(points=inputs["input_points"].float(), labels=labels)
    return inputs["pixel_values"], (clicks, Prompts(boxes=inputs["input_boxes"].float()))


def _as_found(masks: np.ndarray, iou_scores: np.ndarray, object_scores: np.ndarray) -> Iterator[Found]:
    """Masks (1, O, M, h, w) as logits, their scores (1, O, M) and those of their objects (1, O, 1), one by one."""
    for of_object, of_ious, score in zip(masks[0] > 0, iou_scores[0], object_scores[0]):
        yield from (Found(mask, float(iou), float(score[0])) for mask, iou in zip(of_object, of_ious))


def follow_three(model: Any, processor: Any) -> Iterator[Found]:
    """What is found of three objects on 24 frames: by a click, a box and, in the middle, a mask.

    One of them leaves the view and comes back, another is corrected in the middle, and in the end all are tracked
    back from there.
    """
    middle = FRAMES_PER_TURN // 2
    session = processor.init_video_session(draw_clip(FRAMES_PER_TURN))
    add = processor.add_inputs_to_inference_session
    add(session, 0, 1, input_points=[[[list(place_of(STAYING, 0))]]], input_labels=[[[1]]])
    add(session, 0, 2, input_boxes=[[box_of(LEAVING, 0)]])
    yield from _propagated(model, processor, session, max_frame_num_to_track=middle)
    add(session, middle, 3, input_masks=disc_of(COMING, middle))
    x, y = place_of(STAYING, middle)
    add(session, middle, 1, input_points=[[[[x, y], [x + 2 * STAYING[2], y]]]], input_labels=[[[1, 0]]])
    yield from _propagated(model, processor, session, start_frame_idx=middle)
    yield from _propagated(model, processor, session, start_frame_idx=middle, reverse=True)


def follow_one(model: Any, processor: Any, num_frames: int) -> Iterator[Found]:
    """What is found of one object on a long clip."""
    session = processor.init_video_session(draw_clip(num_frames), max_memory_frames=1)
    processor.add_inputs_to_inference_session(
        session, 0, 1, input_points=[[[list(place_of(STAYING, 0))]]], input_labels=[[[1]]]
    )
    yield from _propagated(model, processor, session)


def _propagated(model: Any, processor: Any, session: Any, **settings: Any) -> Iterator[Found]:
    for output in model.propagate_in_video_iterator(session, **settings):
        masks = processor.post_process_masks([output.pred_masks], [(VIEW, VIEW)])[0][:, 0].cpu().numpy()
        scores = zip(output.iou_scores.tolist(), output.object_score_logits.tolist())
        for mask, (iou_score, object_score_logit) in zip(masks, scores):
            yield Found(mask, iou_score, object_score_logit)
