"""Mask generation, step by step: crops of a picture, grids of points on them, and the masks that are left of them.

A crop is searched with a grid of points. Of the masks of which the model is confident those stay that are stable, are
not cut by the crop, and have no better duplicate. Masks are upsampled in groups, and only inside the box of a group:
once to measure them, and again those that are among the results. On a CPU each mask is a group by itself.

Shapes: N masks, n masks of a group, (h, w) low-res masks of a crop, (H, W) the original picture. Points are (x, y) and
boxes (left, top, right, bottom), in pixels of the original picture, of a crop of it, or of the model input; every
docstring says which.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import nms

from .device_edgetam import fetch, send
from .masks_edgetam import extents_to_boxes, masks_to_boxes, remove_small_regions, repair_masks

MOST_CROP_LAYERS = 8  # the last of which has 65,536 crops
MOST_POINTS_PER_SIDE = 4096  # finer than the pixels of any model input
CROP_EDGE_TOLERANCE = 20.0  # pixels; as in SAM's automatic mask generator
# Interpolated values may exceed all values that they are made of by a rounding error, at most this part of the level.
ROUNDING = 1e-5
# A GPU measures masks together that have about this many pixels, 256 MB of float32.
MAX_PIXELS_AT_ONCE = 2**26
# Confident masks are measured together when they have about this many low-res pixels (128 MB of float32) or the crop
# is done, so that a GPU is waited for twice per group and not twice per batch of points.
MAX_PIXELS_PER_GROUP = 2**25
POINTS_PER_BATCH = 64  # or as many as the model decodes at once, if these are more

# The documentation writes the plural, the code of Transformers reads the singular; both work here.
OPTION_SPELLINGS = {"output_rle_masks": "output_rle_mask", "output_bboxes_masks": "output_bboxes_mask"}

# Options that say what to return and how to work; the others say how to search, and a checkpoint may bring its own.
RESULT_OPTIONS = {
    *("output_rle_mask", "output_bboxes_mask", "output_areas", "output_stability_scores", "output_points"),
    *("masks_on_demand", "timeout", "progress"),
}


class Crop(NamedTuple):
    """A part of the original picture: its box in pixels of the picture, and its layer (0 is the whole picture)."""

    left: int
    top: int
    right: int
    bottom: int
    layer: int = 0

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self[:4]

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


def crops_of_picture(height: int, width: int, num_layers: int, overlap_ratio: float) -> list[Crop]:
    """The whole picture, then for each layer i = 1..num_layers its 2**i x 2**i overlapping crops, column by column.

    In the first layer crops overlap by `overlap_ratio` of the picture's short side, and by half of that from each layer
    to the next.
    """
    crops = [Crop(0, 0, width, height)]
    for layer in range(1, num_layers + 1):
        num_per_side = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / num_per_side))
        crop_width = math.ceil((overlap * (num_per_side - 1) + width) / num_per_side)
        crop_height = math.ceil((overlap * (num_per_side - 1) + height) / num_per_side)
        for column, row in itertools.product(range(num_per_side), repeat=2):
            left, top = column * (crop_width - overlap), row * (crop_height - overlap)
            crop = Crop(left, top, min(left + crop_width, width), min(top + crop_height, height), layer)
            if crop.width > 0 and crop.height > 0:  # rounding leaves empty crops in pictures of a few pixels
                crops.append(crop)
    return crops


def point_grid(num_per_side: int, crop: Crop, input_height: int, input_width: int) -> torch.Tensor:
    """Points (num_per_side**2, 2) at the centres of an even grid over the crop, in pixels of the model input."""
    offset = 1 / (2 * num_per_side)
    positions = torch.linspace(offset, 1 - offset, num_per_side)
    y, x = torch.meshgrid(positions, positions, indexing="ij")
    points = torch.stack([x, y], dim=-1).flatten(0, 1) * torch.tensor([crop.width, crop.height])
    return points * torch.tensor([input_width / crop.width, input_height / crop.height])


def is_cut_by_crop(boxes: torch.Tensor, crop: Crop, picture: Crop) -> torch.Tensor:
    """Whether each box (N, 4), in pixels of the original picture, touches an edge of the crop inside the picture."""
    near_crop_edge = (boxes - boxes.new_tensor(crop.box)).abs() <= CROP_EDGE_TOLERANCE
    near_picture_edge = (boxes - boxes.new_tensor(picture.box)).abs() <= CROP_EDGE_TOLERANCE
    return (near_crop_edge & ~near_picture_edge).any(dim=-1)


def masks_at_once(device: torch.device, num_pixels: int) -> int:
    """How many masks of so many pixels make a group.

    A GPU is quickest with as many as its memory holds, and a CPU with one, of which it upsamples the least.
    """
    return 1 if device.type == "cpu" else max(1, MAX_PIXELS_AT_ONCE // num_pixels)


@dataclass(frozen=True)
class BoxedLogits:
    """Low-res logits of a group of masks inside a box, outside of which none exceeds `floor`.

    logits (n, h', w') begin at pixel (left, top) of the (height, width) low-res masks. Those at the edges of the box do
    not exceed `floor` either, unless they lie at the edges of the masks.
    """

    logits: torch.Tensor
    left: int
    top: int
    height: int
    width: int
    floor: float

    @classmethod
    def cut_out(cls, low_res_masks: torch.Tensor, level: float, num_at_once: int = 1) -> list["BoxedLogits"]:
        """Groups of `num_at_once` of the masks (N, h, w), for what exceeds `level` once they are upsampled."""
        height, width = low_res_masks.shape[1:]
        floor = level - ROUNDING * abs(level)
        (tensor,) = fetch([extents_to_boxes(*extents_above(low_res_masks, floor))])
        boxes, groups = tensor.tolist(), []
        for start in range(0, len(boxes), num_at_once):
            group = slice(start, start + num_at_once)
            lefts, tops, rights, bottoms = zip(*boxes[group], strict=True)
            left, top = max(min(lefts) - 1, 0), max(min(tops) - 1, 0)  # interpolation reaches one pixel further
            logits = low_res_masks[group, top : max(bottoms) + 2, left : max(rights) + 2].clone()
            groups.append(cls(logits, left, top, height, width, floor))
        return groups

    def chosen(self, rows: torch.Tensor) -> "BoxedLogits":
        """The masks at these rows, which are sorted and on the CPU, in the same box."""
        if len(rows) == len(self.logits):
            return self
        return replace(self, logits=self.logits[send(rows, self.logits.device)])

    def upsampled(self, height: int, width: int) -> tuple[torch.Tensor, int, int]:
        """Logits (n, H', W') where any exceed `floor` at the size (height, width), and the (left, top) of this part.

        Bilinear interpolation is linear interpolation along one axis and then along the other. Computed so, numbers are
        equal (to the bit, on a CPU, if the size has more than 128 rows and columns together: below that, PyTorch's
        bilinear interpolation adds in another order).
        """
        lines, left = self._stretched(self.logits, self.left, self.width, width)
        lines, top = self._stretched(lines.mT, self.top, self.height, height)
        return lines.mT, left, top

    def _stretched(self, lines: torch.Tensor, start: int, old_length: int, new_length: int) -> tuple[torch.Tensor, int]:
        """Lines (n, …, L), which begin at `start` of an axis, on a longer or shorter one; where they begin on it."""
        if old_length == new_length:  # exact also for infinite logits, which interpolation would turn into NaN
            return lines, start
        stop = start + lines.shape[2]
        padded = F.pad(lines, (start, old_length - stop), value=self.floor)
        stretched = stretch(padded, new_length)
        scale = new_length / old_length
        # not below 0, where the first pixel of a much shorter axis reaches over several of the longer one
        new_start = max(0, math.floor((start + 0.5) * scale - 0.5)) if start > 0 else 0
        new_stop = math.ceil((stop - 0.5) * scale - 0.5) + 1 if stop < old_length else new_length
        return stretched[..., new_start:new_stop], new_start


def stretch(lines: torch.Tensor, new_length: int) -> torch.Tensor:
    """Lines (n, …, L) with their last axis interpolated to another length."""
    if lines.device.type == "cpu":
        return F.interpolate(lines, new_length, mode="linear")
    # the same numbers; for "linear" CUDA has no more threads than a line has pixels, each of which does all lines
    return F.interpolate(lines[:, None], (lines.shape[1], new_length), mode="bilinear")[:, 0]


def extents_above(logits: torch.Tensor, level: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether any of the logits (N, H, W) exceeds a level in each column (N, W) and in each row (N, H)."""
    return logits.amax(dim=1) > level, logits.amax(dim=2) > level


def rows_of_groups(rows: torch.Tensor, groups: list[BoxedLogits]) -> Sequence[torch.Tensor]:
    """For each group the rows of its masks, from sorted rows (N,) of all groups one after the other."""
    sizes = torch.tensor([len(group.logits) for group in groups], dtype=torch.int64)
    ends = sizes.cumsum(dim=0)
    counts = torch.searchsorted(rows, ends).diff(prepend=ends.new_zeros(1))
    return (rows - (ends - sizes).repeat_interleave(counts)).split(counts.tolist())


class Masks(Sequence):
    """Boolean masks (H, W) of a picture: tensors on the CPU, each made when it is asked for.

    What is kept of a mask is the part inside a box, a bit for each pixel.
    """

    def __init__(self, height: int, width: int):
        self.height, self.width = height, width
        self._parts: list[tuple[np.ndarray, torch.Size, int, int]] = []

    def append(self, part: torch.Tensor, left: int = 0, top: int = 0) -> None:
        """Adds a mask that is bool (H', W') from (left, top) on and empty elsewhere."""
        self._parts.append((np.packbits(part.numpy()), part.shape, left, top))

    def chosen(self, indices: torch.Tensor) -> "Masks":
        """The masks at these indices, in their order."""
        masks = Masks(self.height, self.width)
        masks._parts = [self._parts[idx] for idx in indices.tolist()]
        return masks

    def part(self, idx: int) -> tuple[np.ndarray, int, int]:
        """Bool array (H', W') of a mask from (left, top) on, where it is not empty, and left and top."""
        bits, (height, width), left, top = self._parts[idx]
        return np.unpackbits(bits, count=height * width).reshape(height, width).view(bool), left, top

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, idx: Any) -> Any:
        if isinstance(idx, slice):
            return [self[i] for i in range(*idx.indices(len(self)))]
        part, left, top = self.part(idx)
        mask = torch.zeros(self.height, self.width, dtype=torch.bool)
        mask[top : top + part.shape[0], left : left + part.shape[1]] = torch.from_numpy(part)
        return mask


@dataclass
class MaskCandidates:
    """Masks that passed the filters, and what is known of them. Tensors are on the CPU, except for the logits.

    scores (N,): predicted IoU. stability_scores (N,): IoU of the mask cut above and below the threshold. points (N, 2):
    what prompted each mask, (x, y). boxes (N, 4): integers, right and bottom included. Points and boxes are in pixels
    of the original picture. groups: the logits, of these masks and of others; crops: the crop of each group. rows (N,):
    which masks these are of all that the groups have, one group after the other.
    """

    scores: torch.Tensor
    stability_scores: torch.Tensor
    points: torch.Tensor
    boxes: torch.Tensor
    rows: torch.Tensor
    groups: list[BoxedLogits]
    crops: list[Crop]

    @classmethod
    def joined(cls, parts: list["MaskCandidates"]) -> "MaskCandidates":
        """All candidates of the parts, in order."""
        num_rows = (sum(len(group.logits) for group in part.groups) for part in parts)
        starts = itertools.accumulate(num_rows, initial=0)
        parts = [replace(part, rows=part.rows + start) for part, start in zip(parts, starts)]
        columns: list[list[Any]] = [[getattr(part, field.name) for part in parts] for field in fields(cls)]
        whole: list[Any] = [torch.cat(c) if torch.is_tensor(c[0]) else list(itertools.chain(*c)) for c in columns]
        return cls(*whole)

    def chosen(self, indices: torch.Tensor) -> "MaskCandidates":
        """The candidates at these indices, in their order."""
        return replace(
            self,
            scores=self.scores[indices],
            stability_scores=self.stability_scores[indices],
            points=self.points[indices],
            boxes=self.boxes[indices],
            rows=self.rows[indices],
        )

    def without_duplicates(self, max_overlap: float) -> "MaskCandidates":
        """Best score first, without those whose boxes overlap that of a better one with an IoU above `max_overlap`."""
        return self.chosen(nms(self.boxes.float(), self.scores, max_overlap))

    def masks(self, height: int, width: int, mask_threshold: float) -> Masks:
        """N masks of a picture of this size."""
        masks, order = Masks(height, width), self.rows.argsort()
        rows_by_group = rows_of_groups(self.rows[order], self.groups)
        for group, crop, rows in zip(self.groups, self.crops, rows_by_group, strict=True):
            if len(rows) > 0:
                logits, left, top = group.chosen(rows).upsampled(crop.height, crop.width)
                for part in fetch([logits > mask_threshold])[0]:
                    masks.append(part, crop.left + left, crop.top + top)
        return masks.chosen(order.argsort())


class StabilityFilter(NamedTuple):
    """Masks, cut at `mask_threshold`, stay if their stability score exceeds `lowest_score`; all stay if that is 0.

    The stability score is the IoU of the mask cut `offset` above and `offset` below the threshold.
    """

    mask_threshold: float
    offset: float
    lowest_score: float


def candidates_of_crop(
    low_res_masks: torch.Tensor,
    scores: torch.Tensor,
    points: torch.Tensor,
    crop: Crop,
    picture: Crop,
    stability: StabilityFilter,
) -> MaskCandidates:
    """The stable masks that the crop does not cut off.

    Args:
        low_res_masks: float32 logits (N, h, w) of the crop, at any size.
        scores, points: (N,) and (N, 2) on the CPU; see `MaskCandidates`.
        crop, picture: in pixels of the original picture.
        stability: what makes a mask stable.
    """
    num_at_once = masks_at_once(low_res_masks.device, max(crop.height * crop.width, low_res_masks[:1].numel()))
    groups = BoxedLogits.cut_out(low_res_masks, stability.mask_threshold - stability.offset, num_at_once)
    numbers, lefts_and_tops = [], []
    for group in groups:
        logits, left, top = group.upsampled(crop.height, crop.width)
        numbers.append(_measure(logits, stability.mask_threshold, stability.offset))
        lefts_and_tops.extend([(left, top)] * len(logits))
    measured = torch.cat([torch.zeros(0, 6, dtype=torch.int64), *fetch(numbers)])
    corners = torch.tensor(lefts_and_tops, dtype=torch.int64).view(-1, 2)

    intersection, union, boxes = measured[:, 0], measured[:, 1], measured[:, 2:]
    stability_scores = intersection / union  # NaN for an empty mask, which no threshold lets pass
    is_empty = (boxes < 0).any(dim=1, keepdim=True)
    boxes = torch.where(is_empty, 0, boxes + corners.repeat(1, 2)) + torch.tensor(crop.box)[[0, 1, 0, 1]]
    is_kept = ~is_cut_by_crop(boxes, crop, picture)
    if stability.lowest_score > 0:
        is_kept &= stability_scores > stability.lowest_score
    kept = is_kept.nonzero().flatten()
    kept_of_groups = zip(groups, rows_of_groups(kept, groups), strict=True)
    groups = [group.chosen(rows) for group, rows in kept_of_groups if len(rows) > 0]
    return MaskCandidates(
        scores=scores[kept],
        stability_scores=stability_scores[kept],
        points=points[kept],
        boxes=boxes[kept],
        rows=torch.arange(len(kept)),
        groups=groups,
        crops=[crop] * len(groups),
    )


def _measure(logits: torch.Tensor, mask_threshold: float, offset: float) -> torch.Tensor:
    """Integers (n, 6): pixels above the raised and the lowered threshold, and the box, -1s for an empty mask."""
    levels = mask_threshold + offset, mask_threshold - offset
    areas = [(logits > level).sum(dim=(1, 2), dtype=torch.int32) for level in levels]
    columns, rows = extents_above(logits, mask_threshold)
    boxes = torch.where(rows.any(dim=1, keepdim=True), extents_to_boxes(columns, rows), -1)
    return torch.cat([torch.stack(areas, dim=1), boxes], dim=1)


def without_small_regions(
    candidates: MaskCandidates, masks: Sequence, min_area: float, max_overlap: float
) -> tuple[MaskCandidates, Sequence]:
    """Candidates and masks after `remove_small_regions`, and without the duplicates that it makes.

    Of duplicates the one that was not changed stays, as in SAM's automatic mask generator.
    """
    if not masks:
        return candidates, masks
    cleaned, is_unchanged, boxes = Masks(*masks[0].shape), [], []
    for mask in masks:
        clean = remove_small_regions(mask, min_area)
        is_unchanged.append(torch.equal(clean, mask))
        boxes.append(masks_to_boxes(clean[None])[0])
        left, top, right, bottom = boxes[-1].tolist()
        cleaned.append(clean[top : bottom + 1, left : right + 1], left, top)
    candidates.boxes = torch.stack(boxes)
    ranks = torch.tensor(is_unchanged, dtype=torch.float32)
    kept = nms(candidates.boxes.float(), ranks, max_overlap).sort().values  # best score first again
    return candidates.chosen(kept), cleaned.chosen(kept)


@dataclass(frozen=True)
class MaskGenerationOptions:
    """All options of mask generation, checked. `EdgeTamMaskGenerationPipeline.__call__` says what each does."""

    points_per_batch: int | None = None
    points_per_crop: int = 32
    crops_n_layers: int = 0
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: float = 1
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1
    mask_threshold: float = 0
    max_hole_area: float | None = None
    max_sprinkle_area: float | None = None
    crops_nms_thresh: float = 0.7
    min_mask_region_area: float = 0
    output_rle_mask: bool | str = False
    output_bboxes_mask: bool = False
    output_areas: bool = False
    output_stability_scores: bool = False
    output_points: bool = False
    masks_on_demand: bool = False
    timeout: float | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        if self.points_per_batch is not None:
            self._check_number("points_per_batch", Integral, lowest=1)
        self._check_number("points_per_crop", Integral, lowest=1, highest=MOST_POINTS_PER_SIDE)
        self._check_number("crops_n_layers", Integral, lowest=0, highest=MOST_CROP_LAYERS)
        self._check_number("crop_n_points_downscale_factor", Real, lowest=1)
        self._check_number("stability_score_offset", Real, lowest=0)
        self._check_number("mask_threshold", Real)
        self._check_number("min_mask_region_area", Real, lowest=0)
        for name in ("crop_overlap_ratio", "pred_iou_thresh", "stability_score_thresh", "crops_nms_thresh"):
            self._check_number(name, Real, lowest=0, highest=1)
        for name in ("max_hole_area", "max_sprinkle_area", "timeout"):
            if getattr(self, name) is not None:
                self._check_number(name, Real, lowest=0)
        for name in RESULT_OPTIONS - {"output_rle_mask", "timeout"}:
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"`{name}` must be True or False, got {getattr(self, name)!r}")
        if not isinstance(self.output_rle_mask, bool) and self.output_rle_mask != "compressed":
            raise TypeError(f'`output_rle_mask` must be True, False or "compressed", got {self.output_rle_mask!r}')
        if self.points_per_side(self.crops_n_layers) < 1:
            raise ValueError(
                f"`crop_n_points_downscale_factor={self.crop_n_points_downscale_factor}` leaves no point of "
                f"`points_per_crop={self.points_per_crop}` in crop layer {self.crops_n_layers}"
            )

    def _check_number(self, name: str, kind: type, lowest: float = -math.inf, highest: float = math.inf) -> None:
        value = getattr(self, name)
        is_of_kind = isinstance(value, kind) and not isinstance(value, bool)
        if not is_of_kind:
            expected = "an integer" if kind is Integral else "a number"
            raise TypeError(f"`{name}` must be {expected}, got {value!r}")
        if not lowest <= value <= highest:  # false for NaN too
            expected = f"at least {lowest}" if highest == math.inf else f"between {lowest} and {highest}"
            expected = "a number" if lowest == -math.inf else expected
            raise ValueError(f"`{name}` must be {expected}, got {value!r}")
        try:
            vars(self)[name] = int(value) if kind is Integral else float(value)  # a frozen dataclass takes values so
        except OverflowError as error:  # a whole number of hundreds of digits
            most = torch.finfo(torch.float64).max
            raise ValueError(f"`{name}` must be a number below {most:.0e}, got {value!r}") from error

    @property
    def stability(self) -> StabilityFilter:
        """Which masks are stable."""
        return StabilityFilter(self.mask_threshold, self.stability_score_offset, self.stability_score_thresh)

    def points_per_side(self, layer: int) -> int:
        """Number of points along each side of the grid on a crop of this layer; layer 0 is the whole picture."""
        return int(self.points_per_crop / self.crop_n_points_downscale_factor**layer)

    def crops(self, height: int, width: int) -> list[Crop]:
        """The crops of a picture that are searched, the whole picture first."""
        return crops_of_picture(height, width, self.crops_n_layers, self.crop_overlap_ratio)

    def num_points(self, height: int, width: int) -> int:
        """Number of points that prompt on a picture."""
        return sum(self.points_per_side(crop.layer) ** 2 for crop in self.crops(height, width))

    def updated(self, given: dict) -> "MaskGenerationOptions":
        """A copy with the `given` options, by any of their spellings, in place of its own."""
        for plural, singular in OPTION_SPELLINGS.items():
            if plural in given and singular in given:
                raise TypeError(f"`{plural}` and `{singular}` are the same option: give one of them")
        accepted = [field.name for field in fields(self)]
        unknown = sorted(set(given) - {*accepted, *OPTION_SPELLINGS})
        if unknown:
            raise TypeError(f"mask generation has no option {', '.join(unknown)}; it accepts {', '.join(accepted)}")
        spellings = {OPTION_SPELLINGS.get(name, name): name for name in given}
        try:
            return replace(self, **{name: given[spelling] for name, spelling in spellings.items()})
        except (TypeError, ValueError) as error:  # named as it was given
            message = str(error)
            for name, spelling in spellings.items():
                message = message.replace(f"`{name}`", f"`{spelling}`")
            raise type(error)(message) from error

    @classmethod
    def of_checkpoint(cls, options: dict | None) -> "MaskGenerationOptions":
        """The defaults, with the options that a checkpoint has in its `preprocessor_config.json`."""
        try:
            if unfit := sorted(RESULT_OPTIONS & {OPTION_SPELLINGS.get(name, name) for name in options or {}}):
                raise ValueError(f"{', '.join(unfit)} cannot be set by a checkpoint, but when the pipeline is called")
            return cls().updated(options or {})
        except (TypeError, ValueError) as error:
            raise ValueError(f"`mask_generation` of the image processor is wrong: {error}") from error


class GridModel(Protocol):
    """What a search asks of a model; see `EdgeTamBaseModel.confident_masks`."""

    @property
    def device(self) -> torch.device: ...

    @property
    def image_size(self) -> tuple[int, int]: ...

    def prompts_at_once(self, image_embeddings: Sequence[torch.Tensor]) -> int: ...

    def confident_masks(
        self, image_embeddings: Sequence[torch.Tensor], points: torch.Tensor, pred_iou_thresh: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]: ...


class CandidateSearch:
    """A search of a picture for stable masks, batch by batch: going through it searches, and gives numbers of points.

    It may be left after any batch: the candidates are those that were found until then.

    Args:
        embeddings_of: image embeddings of a crop of the picture.
        size: (H, W) of the picture.
    """

    def __init__(
        self,
        model: GridModel,
        embeddings_of: Callable[[Crop], list[torch.Tensor]],
        size: tuple[int, int],
        options: MaskGenerationOptions,
    ):
        self._model, self._embeddings_of, self._options = model, embeddings_of, options
        self._crops = options.crops(*size)
        self._crop = self._crops[0]  # that is searched
        self._group: list[tuple[torch.Tensor, ...]] = []  # its masks that are not measured yet
        self._found: list[MaskCandidates] = []

    def __iter__(self) -> Iterator[int]:
        options, (height, width) = self._options, self._model.image_size
        for crop in self._crops:
            self._crop = crop
            embeddings = self._embeddings_of(crop)
            points = point_grid(options.points_per_side(crop.layer), crop, height, width)
            scale = torch.tensor([crop.width / width, crop.height / height])
            suitable = max(POINTS_PER_BATCH, self._model.prompts_at_once(embeddings))
            for batch in points.split(min(options.points_per_batch or suitable, len(points))):
                masks, scores, point_idx = self._model.confident_masks(
                    embeddings, send(batch, self._model.device), options.pred_iou_thresh
                )
                places = batch[point_idx] * scale + torch.tensor([crop.left, crop.top])
                self._group.append((masks.float(), scores, places))
                if sum(masks.numel() for masks, *_ in self._group) >= MAX_PIXELS_PER_GROUP:
                    self._measure()
                yield len(batch)
            self._measure()

    def candidates(self) -> MaskCandidates:
        """The stable masks that were found, duplicates among them."""
        self._measure()
        return MaskCandidates.joined(self._found)

    def _measure(self) -> None:
        """Keeps the stable masks of the group."""
        if not self._group:
            return
        masks, scores, points = map(torch.cat, zip(*self._group, strict=True))
        self._group, options = [], self._options
        # searching for small regions waits for the device many times, but only for those who ask for it
        masks = repair_masks(masks, options.mask_threshold, options.max_hole_area or 0, options.max_sprinkle_area or 0)
        self._found.append(candidates_of_crop(masks, scores, points, self._crop, self._crops[0], options.stability))


def find_candidates(search: CandidateSearch, report: Callable[[int], Any] = lambda num_points: None) -> MaskCandidates:
    """The candidates of a whole search; `report` is told of the number of points of each batch of them."""
    for num_points in search:
        report(num_points)
    return search.candidates()


def best_masks(
    candidates: MaskCandidates, size: tuple[int, int], options: MaskGenerationOptions
) -> tuple[MaskCandidates, Sequence]:
    """The candidates without duplicates, best score first, and their masks, bool (H, W) of a picture of that size."""
    candidates = candidates.without_duplicates(options.crops_nms_thresh)
    masks: Sequence = candidates.masks(*size, options.mask_threshold)
    if options.min_mask_region_area > 0:
        return without_small_regions(candidates, masks, options.min_mask_region_area, options.crops_nms_thresh)
    return candidates, masks
