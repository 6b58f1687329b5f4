"""What the page makes of masks to follow everything in a video is what Python makes of them."""

import json
from dataclasses import asdict, fields

import javascript
import numpy as np
import pytest
import torch
from edgetam_hf.discovery_edgetam_video import uncovered_masks
from edgetam_hf.everything_edgetam_video import EverythingOptions, EverythingState, look_at

from edgetam_hf.found_objects import CutMask

HEIGHT, WIDTH = 24, 30
OPTIONS = {"every": 5, "max_objects": 6, "min_area": 0.01, "max_uncovered": 0.15, "merge_iou": 0.5, "max_absence": 3}


def camel(name):
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def numbers(options):
    """Options by the names that the page has for them."""
    return {camel(one.name): getattr(options, one.name) for one in fields(options) if one.name != "search"}


def runs_of(mask):
    return CutMask.of(np.asarray(mask)).run_lengths()["counts"]


class Boxes:
    """Boxes that wander, vanish and fall upon each other."""

    def __init__(self, seed):
        self.random, self.places = np.random.default_rng(seed), {}

    def mask(self, obj_id):
        """The next mask of an object, bool (HEIGHT, WIDTH)."""
        if obj_id not in self.places or self.random.random() < 0.05:
            others = list(self.places.values())
            is_twin = others and self.random.random() < 0.5
            self.places[obj_id] = others[self.random.integers(len(others))] if is_twin else self.box()
        left, top, width, height = self.places[obj_id]
        mask = np.zeros((HEIGHT, WIDTH), bool)
        if left + top < 38:  # some places are out of view
            mask[top : top + height, left : left + width] = True
        return mask

    def box(self):
        left, top = self.random.integers(0, (WIDTH, HEIGHT))
        return int(left), int(top), *map(int, self.random.integers(1, 14, 2))

    def candidates(self):
        """Masks of a search."""
        return [self.mask(f"candidate {number}") for number in range(8) if self.places.pop(f"candidate {number}", 1)]


def follow_in_python(seed, num_frames, options):
    """(frames of a job, what Python makes of each), for two objects of a user and those that are discovered."""
    boxes, state, ids = Boxes(seed), EverythingState().knows([1, 2]), [1, 2]
    frames, outputs = [], []
    for frame_idx in range(num_frames):
        found = {obj_id: boxes.mask(obj_id) for obj_id in ids}
        logits = torch.tensor(np.array([*found.values()])).float().reshape(-1, HEIGHT, WIDTH) * 2 - 1
        seen = look_at(ids, logits, options.merge_iou)
        state, dropped = state.after(frame_idx, seen, options)
        ids = [obj_id for obj_id in ids if obj_id not in dropped]
        is_due = state.is_due(seen, options) and len(ids) < options.max_objects
        covered = torch.tensor(np.any([found[obj_id] for obj_id in ids], axis=0)).reshape(HEIGHT, WIDTH)
        candidates, limit = boxes.candidates(), options.max_objects - len(ids)
        parts = []
        if is_due:
            masks = map(torch.from_numpy, candidates)
            parts = uncovered_masks(masks, covered, (HEIGHT, WIDTH), options, limit)
            new_ids = range(state.next_id, state.next_id + len(parts))
            state = state.discovered(new_ids, seen.uncovered).knows(new_ids)
            ids += new_ids
        frames.append(
            {
                "frameIdx": frame_idx,
                "found": [[obj_id, runs_of(mask)] for obj_id, mask in found.items()],
                "candidates": [runs_of(mask) for mask in candidates],
                "limit": limit,
                "ids": ids[len(ids) - len(parts) :],
            }
        )
        outputs.append((seen, dropped, is_due, [runs_of(part.unpack()) for part in parts], state))
    return frames, outputs


@pytest.mark.parametrize("seed", range(3))
def test_everything_on_the_page_follows_the_rules_of_python(seed, tmp_path):
    options = EverythingOptions(**OPTIONS)
    frames, outputs = follow_in_python(seed, 60, options)
    job = {"options": numbers(options), "size": {"width": WIDTH, "height": HEIGHT}, "frames": frames}
    (tmp_path / "job.json").write_text(json.dumps(job))
    script = javascript.WEB / "page" / "everything.js"
    found = json.loads(javascript.node(script, javascript.SOURCES, tmp_path / "job.json", package=None))
    assert found["options"] == numbers(EverythingOptions())
    for one, (seen, dropped, is_due, parts, state) in zip(found["outputs"], outputs, strict=True):
        assert one["seen"]["areas"] == [[obj_id, pytest.approx(area)] for obj_id, area in seen.areas.items()]
        assert one["seen"]["agreeing"] == [list(pair) for pair in seen.agreeing]
        assert one["seen"]["uncovered"] == pytest.approx(seen.uncovered)
        assert (one["dropped"], one["isSearched"], one["parts"]) == (dropped, is_due, parts)
        known = asdict(state)
        expected = {
            "frameIdx": known["frame_idx"],
            "discoveredAt": known["discovered_at"],
            "uncovered": pytest.approx(known["uncovered"]),
            "numUnseen": [[obj_id, num] for obj_id, num in known["num_unseen"].items()],
            "numAgreeing": [[*pair, num] for pair, num in known["num_agreeing"].items()],
        }
        assert one["state"] == expected
    all_dropped = [obj_id for _, dropped, *_ in outputs for obj_id in dropped]
    assert len(all_dropped) > 3 and not {1, 2} & {*all_dropped}
    assert sum(is_due for _, _, is_due, *_ in outputs) > 60 / options.every / 2
