"""Exported models with tensors of PyTorch: what sessions, pipelines and commands take in place of a PyTorch model.

Graphs take and return NumPy arrays, sessions and processors tensors on the CPU; here one becomes the other, without
copies.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import edgetam_runtime
from edgetam_runtime.stages import Prompts as StagePrompts

from ..checks_edgetam import check_image_embeddings, check_tensor, read_prompts
from ..configuration_edgetam import EdgeTamConfig, EdgeTamVideoConfig
from ..everything_calls_edgetam_video import EverythingCalls
from ..modeling_edgetam import EdgeTamImageSegmentationOutput
from ..prompts_edgetam import BOX_CORNER_LABELS, NOT_A_POINT_LABEL, PADDING_LABEL, Prompts
from ..settings_edgetam import as_flag
from ..stages_edgetam_video import Memories, ObjectPrediction
from ..tracking_edgetam import EdgeTamVideoSegmentationOutput, find_objects


class ExportedEdgeTam(EverythingCalls, nn.Module):
    """An exported model in place of `EdgeTamModel`, and where it is exported for video of `EdgeTamVideoModel`.

        model = ExportedEdgeTam.from_pretrained("exported")
        model(pixel_values=…, input_points=…)               # masks in pictures
        model(session, frame_idx=0)                         # masks on a frame of a session

    It is the `TrackingModel` that tracking asks for, so that sessions and all that is made of them work as they do
    with a PyTorch model. Its tensors are float32 on the CPU, wherever graphs are computed, and it cannot be trained.

    Args:
        stages: the graphs.
        config: the configuration of the model that was exported.
    """

    # transformers<5: pipelines ask from which framework a model is, and know PyTorch's by `nn.Module`

    def __init__(self, stages: edgetam_runtime.Stages, config: EdgeTamConfig):
        super().__init__()
        self.stages, self.config = stages, config
        self.eval()

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, runtime: str | None = None, device: str = "cpu", dtype: str = "float32"
    ) -> "ExportedEdgeTam":
        """The model of a folder that `edgetam export` has written; see `edgetam_runtime.load`."""
        stages = edgetam_runtime.load_stages(folder, runtime, device, dtype)
        fields = stages.folder.read_json("config.json")
        tracking = stages.folder.tracking
        config = EdgeTamConfig(**_without_kind(fields))
        if tracking is not None:
            config = EdgeTamVideoConfig(**{**_without_kind(fields), **tracking})
        return cls(stages, config)

    @property
    def device(self) -> torch.device:
        """Of the tensors that it takes and returns: the CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensors that it takes and returns: float32."""
        return torch.float32

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the model input in pixels."""
        return self.stages.folder.image_size

    @property
    def mask_size(self) -> tuple[int, int]:
        """(4h, 4w), the size of low-res mask logits."""
        return self.stages.folder.mask_size

    def to(self, *arguments: Any, **settings: Any) -> "ExportedEdgeTam":
        """The model itself; raises a ValueError for another device or dtype than it has."""
        device, dtype, *_ = torch._C._nn._parse_to(*arguments, **settings)
        if (device or self.device).type != "cpu" or (dtype or self.dtype) != self.dtype:
            raise ValueError(
                "an exported model takes tensors of float32 on the CPU: choose where and how it computes when it is "
                "loaded, ExportedEdgeTam.from_pretrained(folder, device=…, dtype=…)"
            )
        return self

    def forward(
        self,
        inference_session: Any = None,
        frame_idx: int | None = None,
        frame: torch.Tensor | None = None,
        reverse: bool = False,
        return_dict: bool | None = None,
        **picture: Any,
    ) -> EdgeTamVideoSegmentationOutput | EdgeTamImageSegmentationOutput | tuple[Any, ...]:
        """Masks of a session on one frame, as `EdgeTamVideoModel.forward`; without one those of pictures.

        For pictures, give the tensors by their names; see `find_in_pictures`.
        """
        return_dict = True if return_dict is None else as_flag(return_dict, "return_dict")
        if inference_session is not None:
            found: Any = self.find_on_frame(inference_session, frame_idx, frame, reverse)
        else:
            found = self.find_in_pictures(**picture)
        return found if return_dict else found.to_tuple()

    # Pictures

    def get_image_embeddings(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """List of the maps of stride 4, 8 and 16 of pictures (B, 3, H, W)."""
        check_tensor("pixel_values", pixel_values, "(batch_size, channels, height, width)", 4)
        if tuple(pixel_values.shape[1:]) != (3, *self.image_size) or len(pixel_values) == 0:
            height, width = self.image_size
            raise ValueError(
                f"pixel_values must have shape (batch_size, 3, {height}, {width}), for which the model was exported, "
                f"got {tuple(pixel_values.shape)}; resize with the processor of its folder"
            )
        return _tensors(self.stages.encode(_array(pixel_values)))

    def find_in_pictures(
        self,
        pixel_values: torch.Tensor | None = None,
        input_points: torch.Tensor | None = None,
        input_labels: torch.Tensor | None = None,
        input_boxes: torch.Tensor | None = None,
        input_masks: torch.Tensor | None = None,
        image_embeddings: list[torch.Tensor] | None = None,
        multimask_output: bool = True,
        original_sizes: torch.Tensor | None = None,
        reshaped_input_sizes: torch.Tensor | None = None,
    ) -> EdgeTamImageSegmentationOutput:
        """Masks of every prompted object, as `EdgeTamModel.forward`; see there for shapes and errors."""
        if (pixel_values is None) == (image_embeddings is None):
            given = "neither" if pixel_values is None else "both"
            raise ValueError(f"exactly one of pixel_values and image_embeddings must be given, got {given}")
        if pixel_values is not None:
            embeddings: Sequence[torch.Tensor] = self.get_image_embeddings(pixel_values)
        else:
            self._check_image_embeddings(image_embeddings)
            embeddings = image_embeddings or ()
        prompts = self._read_prompts(
            Prompts(points=input_points, labels=input_labels, boxes=input_boxes, masks=input_masks), len(embeddings[-1])
        )
        if multimask_output and prompts.masks is None and not prompts.is_empty:
            found = self._three_of_each(embeddings, prompts)
        else:
            found = self._by_picture(embeddings, prompts, multimask_output)
        masks, iou_scores, object_score_logits = _tensors(found)
        return EdgeTamImageSegmentationOutput(
            iou_scores=iou_scores,
            pred_masks=masks,
            object_score_logits=object_score_logits,
            image_embeddings=tuple(embeddings),
        )

    def _three_of_each(self, embeddings: Sequence[torch.Tensor], prompts: Prompts) -> edgetam_runtime.Candidates:
        """Masks (B, O, 3, 4h, 4w) of clicks and boxes."""
        batch_size, num_objects = len(embeddings[-1]), prompts.num_objects
        no_clicks = torch.zeros(batch_size, 1, 0, 2), torch.zeros(batch_size, num_objects, 0, dtype=torch.long)
        points, labels = (prompts.points, prompts.labels) if prompts.points is not None else no_clicks
        boxes = torch.zeros(batch_size, 0, 4) if prompts.boxes is None else prompts.boxes
        assert points is not None and labels is not None
        return self.stages.decode_prompts(
            _arrays(embeddings), _array(points), _array(labels).astype(np.int64), _array(boxes)
        )

    def _by_picture(
        self, embeddings: Sequence[torch.Tensor], prompts: Prompts, multimask_output: bool
    ) -> edgetam_runtime.Candidates:
        """Masks (B, O, M, 4h, 4w) of any prompts, picture by picture."""
        points, labels = _with_corners(prompts, len(embeddings[-1]))
        found = []
        for idx in range(len(points)):
            masks = None if prompts.masks is None else self._low_res(prompts.masks[idx], points.shape[1])
            of_picture = StagePrompts(_array(points[idx]), _array(labels[idx]), masks)
            maps = [_array(feature_map[idx : idx + 1]) for feature_map in embeddings]
            found.append(self.stages.decode_candidates(maps, of_picture, multimask_output))
        logits, iou_scores, scores = (np.stack(parts) for parts in zip(*found))
        return edgetam_runtime.Candidates(logits, iou_scores, scores[..., None])

    def _low_res(self, masks: torch.Tensor, num_objects: int) -> np.ndarray:
        """Logits (O, 4h, 4w) of mask prompts (O, height, width), or of one for all objects."""
        masks = masks.float()
        if tuple(masks.shape[-2:]) != self.mask_size:
            settings: dict[str, Any] = {"mode": "bilinear", "align_corners": False, "antialias": True}
            masks = nn.functional.interpolate(masks[None], self.mask_size, **settings)[0]
        return _array(masks.expand(num_objects, -1, -1))

    def prompts_at_once(self, image_embeddings: Sequence[torch.Tensor]) -> int:
        """How many prompts on one picture are decoded at once."""
        return self.stages.num_at_once

    def confident_masks(
        self, image_embeddings: Sequence[torch.Tensor], points: torch.Tensor, pred_iou_thresh: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Masks of clicks whose predicted IoU exceeds a threshold; see `EdgeTamModel.confident_masks`."""
        self._check_image_embeddings(image_embeddings)
        check_tensor("points", points, "(num_points, 2)", 2)
        threshold, parts = pred_iou_thresh if pred_iou_thresh > 0 else -1.0, []
        for start, part in _numbered(points.split(self.stages.num_at_once)):
            prompts = self._read_prompts(Prompts(part[None, :, None]), 1)
            found = self._three_of_each(image_embeddings, prompts)
            is_confident = found.iou_scores[0] > threshold
            masks, scores = found.masks[0][is_confident], found.iou_scores[0][is_confident]
            parts.append((masks, scores, start + is_confident.nonzero()[0]))
        masks, scores, point_idx = _tensors(np.concatenate(of_parts) for of_parts in zip(*parts))
        return masks, scores, point_idx

    def _read_prompts(self, prompts: Prompts, batch_size: int) -> Prompts:
        return read_prompts(prompts, batch_size, self.config.prompt_encoder_config.num_point_embeddings - 1)

    def _check_image_embeddings(self, image_embeddings: Any) -> None:
        (height, width), channels = self.mask_size, self.stages.folder.num_channels
        expected = [(channels // n, height // s, width // s) for n, s in ((8, 1), (4, 2), (1, 4))]
        check_image_embeddings(image_embeddings, expected, self.dtype)

    # Tracking; see `TrackingModel` for these

    def _find_objects(self, *arguments: Any, **settings: Any) -> EdgeTamVideoSegmentationOutput:
        with torch.no_grad():
            return find_objects(self, *arguments, **settings)

    def get_frame_embeddings(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """List of the maps of stride 4, 8 and 16 of frames; those of graphs are the same as of pictures."""
        return self.get_image_embeddings(pixel_values)

    def forget_memory(self, frame_embedding: torch.Tensor) -> torch.Tensor:
        """The map of stride 16 as it is: that of the encoder's graph has seen that there is no memory."""
        return frame_embedding

    def attend_to_memory(self, frame_embedding: torch.Tensor, memories: Memories) -> torch.Tensor:
        """The map of stride 16, (O, C, h, w), as seen by objects that remember something."""
        of_objects = edgetam_runtime.Memories(*_arrays(memories))
        return torch.from_numpy(self.stages.attend(_array(frame_embedding), of_objects))

    def decode_objects(
        self,
        frame_embeddings: list[torch.Tensor],
        conditioned: torch.Tensor,
        prompts: Prompts,
        is_ambiguous: torch.Tensor,
    ) -> ObjectPrediction:
        """`ObjectPrediction` of prompted or tracked objects."""
        points, labels = _with_corners(prompts, len(conditioned))
        masks = None if prompts.masks is None else _array(prompts.masks[:, 0])
        of_objects = StagePrompts(_array(points[:, 0]), _array(labels[:, 0]), masks)
        maps = _arrays(frame_embeddings)
        return ObjectPrediction(
            *_tensors(self.stages.decode(maps, _array(conditioned), of_objects, _array(is_ambiguous)))
        )

    def adopt_masks(self, frame_embeddings: list[torch.Tensor], masks: torch.Tensor) -> ObjectPrediction:
        """`ObjectPrediction` of objects whose masks are given."""
        return ObjectPrediction(*_tensors(self.stages.adopt(_arrays(frame_embeddings), _array(masks))))

    def encode_memory(
        self,
        frame_embedding: torch.Tensor,
        masks: torch.Tensor,
        object_score_logits: torch.Tensor,
        is_prompted: torch.Tensor,
    ) -> torch.Tensor:
        """Memory (O, K, m) that a frame leaves."""
        of_objects = _arrays((frame_embedding, masks, object_score_logits, is_prompted))
        return torch.from_numpy(self.stages.encode_memory(*of_objects))


def _without_kind(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration without those that are of the folder and not of the model."""
    return {name: value for name, value in fields.items() if name not in ("edgetam_export", "model_type")}


def _with_corners(prompts: Prompts, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (B, O, N, 2) and labels (B, O, N): the corners of boxes, then clicks; else a point without a position."""
    points, labels = [], []
    if prompts.boxes is not None:
        is_padding = (prompts.boxes == PADDING_LABEL).all(dim=-1, keepdim=True)
        points.append(prompts.boxes.float().unflatten(-1, (2, 2)))
        labels.append(torch.where(is_padding, PADDING_LABEL, torch.tensor(BOX_CORNER_LABELS)))
    if prompts.points is not None and prompts.labels is not None:
        points.append(prompts.points.float())
        labels.append(prompts.labels.long())
    if not points:
        points.append(torch.zeros(batch_size, prompts.num_objects, 1, 2))
        labels.append(torch.full((batch_size, prompts.num_objects, 1), NOT_A_POINT_LABEL))
    return torch.cat(points, dim=2), torch.cat(labels, dim=2)


def _numbered(parts: Iterable[torch.Tensor]) -> Iterable[tuple[int, torch.Tensor]]:
    """Each part with the number of rows ahead of it."""
    start = 0
    for part in parts:
        yield start, part
        start += len(part)


def _array(tensor: torch.Tensor) -> np.ndarray:
    """The array of a tensor, which shares its memory; floating point numbers become float32."""
    if tensor.device.type != "cpu":
        raise ValueError(f"an exported model takes tensors on the CPU, got one on {tensor.device}: use tensor.cpu()")
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _arrays(tensors: Iterable[torch.Tensor]) -> list[np.ndarray]:
    return [_array(tensor) for tensor in tensors]


def _tensors(arrays: Iterable[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]
