"""The stages of pictures and of tracking on arrays, each computed by graphs.

    frame -> image embeddings, once for all objects -> attend to memory -> decode masks -> encode memory

Shapes: B pictures, O objects, N points, F remembered frames, P object pointers, (H, W) the model input in pixels,
(h, w) = (H / 16, W / 16) the image embedding, C channels of the model, K latents of m channels that a frame leaves in
memory. Points are (x, y) and boxes (x_min, y_min, x_max, y_max), in pixels of the model input. All numbers are float32.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .folder import ExportedFolder
from .runtimes import Graph

NUMBERS_AT_ONCE = 2**22  # of a map of stride 16, for so many objects that are computed together
NOT_A_POINT_LABEL = -1
EMBEDDINGS = ("image_embeddings.0", "image_embeddings.1", "image_embeddings.2")


class Memories(NamedTuple):
    """What objects remember on one frame; all of them remember equally many frames and pointers.

    features: (O, F, K, m), what `encode_memory` made of F frames.
    time_idx: int64 (O, F), rows of the temporal encoding: distance - 1, and the last row for conditioning frames.
    pointers: (O, P, C), object pointers; P may be 0.
    pointer_offsets: (O, P), distance of each pointer in time, 1 at the farthest that tracked frames have.
    """

    features: np.ndarray
    time_idx: np.ndarray
    pointers: np.ndarray
    pointer_offsets: np.ndarray


class Prompts(NamedTuple):
    """What objects are decoded from; see `Stages.decode`.

    points: (O, N, 2) and labels: int64 (O, N), 1 on the object, 0 off it, 2 and 3 corners of a box, which are ahead of
    clicks, -1 no position, -10 padding; masks: logits (O, 4h, 4w) of earlier masks, or None.
    """

    points: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None

    @classmethod
    def nothing(cls, num_objects: int) -> "Prompts":
        """Of objects that are tracked: a point without a position, as the model has it where nothing is prompted."""
        return cls(np.zeros((num_objects, 1, 2), np.float32), np.full((num_objects, 1), NOT_A_POINT_LABEL, np.int64))


class Prediction(NamedTuple):
    """What is predicted of objects on a frame.

    masks: low-res logits (O, 4h, 4w), -1024 of objects that are absent; iou_scores, object_score_logits: (O,);
    pointers: (O, C).
    """

    masks: np.ndarray
    iou_scores: np.ndarray
    object_score_logits: np.ndarray
    pointers: np.ndarray


class Candidates(NamedTuple):
    """Masks (…, 4h, 4w) as logits, their iou_scores (…,), and object_score_logits of the objects."""

    masks: np.ndarray
    iou_scores: np.ndarray
    object_score_logits: np.ndarray


class Stages:
    """The parts of an exported model as functions of arrays, which keep no state.

    Args:
        folder: what is exported.
        graph: function from the name of a graph to the graph.
    """

    def __init__(self, folder: ExportedFolder, graph: Callable[[str], Graph]):
        self.folder, self.graph = folder, graph
        height, width = folder.image_size
        self.num_at_once = max(1, NUMBERS_AT_ONCE // (folder.num_channels * (height // 16) * (width // 16)))

    def encode(self, pixel_values: np.ndarray) -> list[np.ndarray]:
        """Maps of stride 4, 8 and 16, of C / 8, C / 4 and C channels, of pictures or frames (B, 3, H, W)."""
        return self._run("vision_encoder", {"pixel_values": pixel_values}, EMBEDDINGS)

    def decode_prompts(
        self, image_embeddings: Sequence[np.ndarray], points: np.ndarray, labels: np.ndarray, boxes: np.ndarray
    ) -> Candidates:
        """Three masks (B, O, 3, 4h, 4w) of every prompted object of pictures.

        Args:
            image_embeddings: of `encode`.
            points, labels: clicks (B, O, N, 2) and int64 (B, O, N); see `Prompts`. Without any (B, 1, 0, 2), (B, O, 0).
            boxes: (B, O, 4), where one of -10 only is none; without any (B, 0, 4).
        """
        names, count = ("pred_masks", "iou_scores", "object_score_logits"), max(labels.shape[1], boxes.shape[1])
        parts = []
        for start in range(0, count, self.num_at_once):
            part = slice(start, start + self.num_at_once)
            inputs = {
                "input_points": points[:, part] if points.shape[2] else points[:, :1],
                "input_labels": labels[:, part],
                "input_boxes": boxes[:, part],
                **dict(zip(EMBEDDINGS, image_embeddings)),
            }
            parts.append(self._run("prompt_encoder_mask_decoder", inputs, names))
        return Candidates(*(np.concatenate(of_parts, axis=1) for of_parts in zip(*parts)))

    def attend(self, frame_embedding: np.ndarray, memories: Memories) -> np.ndarray:
        """The map of stride 16 of a frame, (1, C, h, w), as seen by objects that remember something: (O, C, h, w)."""
        self._check_tracking()

        def compute(*memories: np.ndarray) -> list[np.ndarray]:
            inputs = {"frame_embedding": frame_embedding, **dict(zip(Memories._fields, memories))}
            return self._run("memory_attention", inputs, ["conditioned"])

        return self._in_pieces(compute, *memories)[0]

    def decode(
        self,
        frame_embeddings: Sequence[np.ndarray],
        conditioned: np.ndarray,
        prompts: Prompts,
        is_ambiguous: np.ndarray,
    ) -> Prediction:
        """What is predicted of prompted or tracked objects.

        Args:
            frame_embeddings: of `encode`, batch size 1.
            conditioned: (O, C, h, w), the map of stride 16 after `attend`, or as it is for objects without a memory.
            prompts: of the objects; `Prompts.nothing` for tracked ones.
            is_ambiguous: bool (O,), whether to choose the best of three masks, or to take the single one.
        """
        self._check_tracking()
        names = ("pred_masks", "iou_scores", "object_score_logits", "pointers")
        return Prediction(*self._decode(frame_embeddings, conditioned, prompts, is_ambiguous, names))

    def decode_candidates(
        self, frame_embeddings: Sequence[np.ndarray], prompts: Prompts, has_three: bool
    ) -> Candidates:
        """Masks (O, M, 4h, 4w) of objects of one picture: three of each, or the single one.

        Args:
            frame_embeddings: of `encode`, batch size 1.
            prompts: of the objects.
            has_three: whether M is 3, or 1.
        """
        count = len(prompts.labels)
        conditioned = np.broadcast_to(frame_embeddings[-1], (count, *frame_embeddings[-1].shape[1:]))
        names = ("candidate_masks", "candidate_iou_scores", "iou_scores", "object_score_logits")
        found = self._decode(frame_embeddings, conditioned, prompts, np.zeros(count, bool), names)
        masks, iou_scores, chosen_score, object_scores = found
        if has_three:
            return Candidates(masks[:, 1:], iou_scores[:, 1:], object_scores)
        # a model may take one of the three where the single mask is not stable; its score tells which it has taken
        chosen = np.abs(iou_scores - chosen_score[:, None]).argmin(axis=1)
        rows = np.arange(count)
        return Candidates(masks[rows, chosen][:, None], iou_scores[rows, chosen][:, None], object_scores)

    def adopt(self, frame_embeddings: Sequence[np.ndarray], masks: np.ndarray) -> Prediction:
        """What stands for a prediction where masks are given, bool (O, H, W); an empty one: the object is absent."""
        self._check_tracking()
        names = ("conditioned", "mask_prompts", "pred_masks", "object_score_logits", "no_object_pointer")

        def compute(masks: np.ndarray) -> list[np.ndarray]:
            inputs = {"frame_embedding": frame_embeddings[-1], "masks": masks.astype(np.float32)}
            conditioned, mask_prompts, logits, scores, no_pointer = self._run("mask_adopter", inputs, names)
            prompts = Prompts.nothing(len(masks))._replace(masks=mask_prompts)
            is_ambiguous = np.zeros(len(masks), bool)
            (pointers,) = self._decode(frame_embeddings, conditioned, prompts, is_ambiguous, ["pointers"])
            pointers = np.where((scores > 0)[:, None], pointers, no_pointer)
            return [logits, np.ones_like(scores), scores, pointers]

        return Prediction(*self._in_pieces(compute, masks))

    def encode_memory(
        self,
        frame_embedding: np.ndarray,
        masks: np.ndarray,
        object_score_logits: np.ndarray,
        is_prompted: np.ndarray,
    ) -> np.ndarray:
        """Memory (O, K, m) that a frame leaves.

        Args:
            frame_embedding: (1, C, h, w), the last of `encode`.
            masks: low-res logits (O, 4h, 4w).
            object_score_logits: (O,).
            is_prompted: bool (O,), whether the masks answer prompts.
        """
        self._check_tracking()
        names = ("masks", "object_score_logits", "is_prompted")

        def compute(*of_objects: np.ndarray) -> list[np.ndarray]:
            inputs = {"frame_embedding": frame_embedding, **dict(zip(names, of_objects))}
            return self._run("memory_encoder", inputs, ["features"])

        return self._in_pieces(compute, masks, object_score_logits, is_prompted)[0]

    def _decode(
        self,
        frame_embeddings: Sequence[np.ndarray],
        conditioned: np.ndarray,
        prompts: Prompts,
        is_ambiguous: np.ndarray,
        names: Sequence[str],
    ) -> list[np.ndarray]:
        """Outputs of the object decoder; see `decode`."""
        count, has_mask = len(conditioned), prompts.masks is not None
        masks = prompts.masks
        if masks is None:
            masks = np.broadcast_to(np.float32(0), (count, *self.folder.mask_size))

        def compute(*of_objects: np.ndarray) -> list[np.ndarray]:
            inputs = dict(zip(("conditioned", "points", "labels", "masks", "is_ambiguous"), of_objects))
            inputs["has_mask"] = np.full(len(of_objects[0]), has_mask)
            inputs.update(zip(EMBEDDINGS, frame_embeddings[:2]))
            return self._run("object_decoder", inputs, names)

        return self._in_pieces(compute, conditioned, prompts.points, prompts.labels, masks, is_ambiguous)

    def _in_pieces(self, compute: Callable[..., list[np.ndarray]], *arrays: np.ndarray) -> list[np.ndarray]:
        """`compute(*arrays)`, for a few objects at a time, so that memory does not grow with their number."""
        starts = range(0, len(arrays[0]), self.num_at_once)
        parts = [compute(*(array[start : start + self.num_at_once] for array in arrays)) for start in starts]
        return parts[0] if len(parts) == 1 else [np.concatenate(of_parts) for of_parts in zip(*parts)]

    def _run(self, name: str, inputs: dict[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        return self.graph(name)({key: np.ascontiguousarray(array) for key, array in inputs.items()}, outputs)

    def _check_tracking(self) -> None:
        if self.folder.tracking is None:
            raise ValueError(f"{self.folder.path} is exported for pictures only: export a video model to track")
