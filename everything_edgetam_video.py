"""Everything in a video: what is asked of it, what is known of the objects that were discovered, and which of them go.

Nothing here computes with the model. Shapes: O objects, (4h, 4w) low-res masks. Areas are shares of the picture.
"""

import math
import operator
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from .device_edgetam import fetch, send
from .mask_generation_edgetam import RESULT_OPTIONS, MaskGenerationOptions
from .settings_edgetam import as_count, as_number

Look = tuple[float, ...]  # a unit vector, see `looks_of`
Place = tuple[float, float]  # x, y in shares of the picture's width and height


class Known(NamedTuple):
    """By what an object is known again: its look when it was discovered, and the place where it was last seen."""

    look: Look
    place: Place


@dataclass(frozen=True)
class EverythingOptions:
    """What discovering and following everything is asked, checked; see `EverythingCalls.track_everything`.

    search: how a frame is searched for masks.
    """

    every: int = 5
    max_objects: int = 64
    max_covered: float = 0.5
    min_area: float = 0.002
    max_area: float = 0.8
    max_uncovered: float = 0.2
    merge_iou: float = 0.7
    merge_frames: int = 3
    max_absence: int = 30
    same_look: float = 0.9
    other_look: float = 0.3
    max_jump: float = 0.25
    search: MaskGenerationOptions = field(default_factory=MaskGenerationOptions)

    def __post_init__(self) -> None:
        read: dict[str, Any] = {"max_absence": as_count(self.max_absence, "max_absence")}
        for name in ("every", "max_objects", "merge_frames"):
            read[name] = as_count(getattr(self, name), name, lowest=1)
        for name in ("max_covered", "min_area", "max_area", "max_uncovered", "merge_iou"):
            read[name] = as_number(getattr(self, name), name, lowest=0, highest=1)
        for name in ("same_look", "other_look", "max_jump"):
            read[name] = as_number(getattr(self, name), name, lowest=0, highest=1)
        if read["min_area"] > read["max_area"]:
            raise ValueError(
                f"min_area must not exceed max_area, or no mask can be an object, got {read['min_area']:g} and "
                f"{read['max_area']:g}"
            )
        vars(self).update(read)  # a frozen dataclass takes values only so

    def is_seen(self, area: float) -> bool:
        """Whether a mask with this share of the picture can show an object."""
        return area > 0 and self.min_area <= area <= self.max_area

    @classmethod
    def read(cls, given: dict[str, Any], of_checkpoint: dict[str, Any] | None) -> "EverythingOptions":
        """The options that are given, those of mask generation among them; what is not is the checkpoint's or default.

        Crops are not taken over from the checkpoint: they would encode parts of the frame anew.

        Raises:
            TypeError, ValueError: for unknown names and wrong values.
        """
        own = [option.name for option in fields(cls) if option.name != "search"]
        of_search = [option.name for option in fields(MaskGenerationOptions) if option.name not in RESULT_OPTIONS]
        if unknown := sorted(set(given) - {*own, *of_search}):
            raise TypeError(
                f"discovery has no option {', '.join(unknown)}; it accepts {', '.join(own)}, and of mask generation "
                f"{', '.join(of_search)}"
            )
        search = MaskGenerationOptions.of_checkpoint(of_checkpoint).updated(
            {"crops_n_layers": 0, **{name: value for name, value in given.items() if name in of_search}}
        )
        return cls(**{name: value for name, value in given.items() if name in own}, search=search)


class Seen(NamedTuple):
    """What the masks of a frame show.

    areas, places: of each object, by id; agreeing: pairs (older, younger) of objects whose masks agree; uncovered: the
    area that no mask covers.
    """

    areas: dict[int, float]
    places: dict[int, Place]
    agreeing: list[tuple[int, int]]
    uncovered: float


def look_at(object_ids: Sequence[int], masks: torch.Tensor, merge_iou: float) -> Seen:
    """What masks show of objects, the oldest first, as low-res logits (O, 4h, 4w); agreement is an IoU of merge_iou."""
    is_on = masks.flatten(1) > 0
    pixels, num_pixels = is_on.float(), is_on.shape[1]
    areas, shared = pixels.sum(dim=1), pixels @ pixels.mT
    union = areas[:, None] + areas - shared
    agrees = ((union > 0) & (shared >= merge_iou * union)).triu(diagonal=1)
    num_covered = is_on.any(dim=0).sum()[None]
    parts = [areas, agrees.to(areas.dtype), num_covered.to(areas.dtype), middles(masks > 0)]
    areas, agrees, num_covered, places = fetch(parts)
    return Seen(
        areas=dict(zip(object_ids, (areas / num_pixels).tolist())),
        places={obj_id: (x, y) for obj_id, (x, y) in zip(object_ids, places.tolist())},
        agreeing=[(object_ids[older], object_ids[younger]) for older, younger in agrees.nonzero().tolist()],
        uncovered=1 - num_covered.item() / num_pixels,
    )


def looks_of(features: torch.Tensor, masks: Sequence[torch.Tensor]) -> list[Look]:
    """How objects look: the mean of features (1, C, h, w) in each mask (H, W) less that of the picture, of length 1.

    All zeros for an empty mask.
    """
    if not masks:
        return []
    size, pixels = features.shape[-2:], features[0].flatten(1).float()
    resized = [F.interpolate(mask[None, None].float(), size, mode="area").flatten() for mask in masks]
    weights = send(torch.stack(resized), features.device)
    means = (weights @ pixels.mT) / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
    looks = F.normalize(means - pixels.mean(dim=1), dim=1)
    (looks,) = fetch([torch.where(weights.any(dim=1, keepdim=True), looks, 0)])
    return [tuple(look) for look in looks.tolist()]


def middles(masks: torch.Tensor) -> torch.Tensor:
    """The mean (x, y) of the pixels of masks (O, h, w), in shares of width and height, as (O, 2); zeros where empty."""
    sums = []
    for other_axis, size in ((1, masks.shape[2]), (2, masks.shape[1])):
        centers = (torch.arange(size, device=masks.device) + 0.5) / size
        sums.append(masks.sum(dim=other_axis).float() @ centers)
    return torch.stack(sums, dim=1) / masks.flatten(1).sum(dim=1, keepdim=True).clamp(min=1)


def likeness(look: Look, other: Look) -> float:
    """How alike two looks are, at most 1."""
    return sum(map(operator.mul, look, other))


def recognized(found: Sequence[Known], missed: dict[int, Known], options: EverythingOptions) -> list[int | None]:
    """For each object that is found the missed one that it is, if any: those most alike first."""
    pairs = [
        (likeness(one.look, other.look), idx, obj_id)
        for idx, one in enumerate(found)
        for obj_id, other in missed.items()
        if math.dist(one.place, other.place) <= options.max_jump
    ]
    obj_ids: list[int | None] = [None] * len(found)
    for alike, idx, obj_id in sorted(pairs, key=lambda pair: -pair[0]):
        if alike > options.same_look and obj_ids[idx] is None and obj_id not in obj_ids:
            obj_ids[idx] = obj_id
    return obj_ids


@dataclass(frozen=True)
class EverythingState:
    """What a session knows of its objects to follow everything. It never changes: a new one takes its place.

    next_id: of the next object that is discovered, above all that there ever were. frame_idx: the last frame that was
    followed, and discovered_at: the last that was searched. uncovered: the smallest area without a mask since then.
    num_unseen: for each object that was discovered, on how many frames up to now it was not seen; known: by what it is
    known again.
    num_agreeing: for each pair (older, younger) of objects whose masks agree now, since how many frames they do.
    """

    next_id: int = 1
    frame_idx: int | None = None
    discovered_at: int | None = None
    uncovered: float = 1.0
    num_unseen: dict[int, int] = field(default_factory=dict)
    known: dict[int, Known] = field(default_factory=dict)
    num_agreeing: dict[tuple[int, int], int] = field(default_factory=dict)

    def knows(self, obj_ids: Collection[int]) -> "EverythingState":
        """The state once a user has prompted or removed objects: their ids are in use, and they are let alone."""
        return replace(
            self,
            next_id=max([self.next_id, *(obj_id + 1 for obj_id in obj_ids)]),
            num_unseen={obj_id: num for obj_id, num in self.num_unseen.items() if obj_id not in obj_ids},
            known={obj_id: known for obj_id, known in self.known.items() if obj_id not in obj_ids},
            num_agreeing={pair: num for pair, num in self.num_agreeing.items() if not {*pair} & {*obj_ids}},
        )

    def after(self, frame_idx: int, seen: Seen, options: EverythingOptions) -> tuple["EverythingState", list[int]]:
        """The state after a frame, and the ids of the objects that are to be dropped there.

        Only objects that were discovered are dropped: those unseen for too long, and of two that agree the younger one,
        or the older one where a user has prompted the other.
        """
        unseen = {
            obj_id: 0 if options.is_seen(seen.areas.get(obj_id, 0)) else num_unseen + 1
            for obj_id, num_unseen in self.num_unseen.items()
        }
        agreeing = {pair: self.num_agreeing.get(pair, 0) + 1 for pair in seen.agreeing}
        dropped = [obj_id for obj_id, num_unseen in unseen.items() if num_unseen > options.max_absence]
        for (older, younger), num_agreeing in agreeing.items():
            if num_agreeing >= options.merge_frames and older not in dropped and younger not in dropped:
                dropped.extend([obj_id for obj_id in (younger, older) if obj_id in unseen][:1])
        state = replace(
            self,
            frame_idx=frame_idx,
            uncovered=min(self.uncovered, seen.uncovered),
            num_unseen={obj_id: num for obj_id, num in unseen.items() if obj_id not in dropped},
            known={
                obj_id: self.known[obj_id] if num else self.known[obj_id]._replace(place=seen.places[obj_id])
                for obj_id, num in unseen.items()
                if obj_id not in dropped
            },
            num_agreeing={pair: num for pair, num in agreeing.items() if not {*pair} & {*dropped}},
        )
        return state, dropped

    def is_due(self, seen: Seen, options: EverythingOptions) -> bool:
        """Whether the last frame is to be searched: in its turn, or as much of the picture has lost its masks."""
        if self.frame_idx is None or self.discovered_at is None:
            return True
        is_late = abs(self.frame_idx - self.discovered_at) >= options.every
        return is_late or seen.uncovered - self.uncovered > options.max_uncovered

    def discovered(self, found: dict[int, Known], uncovered: float) -> "EverythingState":
        """The state after the last frame was searched, where these objects were found and this area is uncovered."""
        return replace(
            self.knows([*found]),
            discovered_at=self.frame_idx,
            uncovered=uncovered,
            num_unseen={**self.num_unseen, **dict.fromkeys(found, 0)},
            known={**self.known, **found},
        )
