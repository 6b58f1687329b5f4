"""The page follows everything in a video by the rules of Python, and what it finds can be stopped, undone and kept."""

import json
from dataclasses import asdict, fields

import javascript
import numpy as np
import pytest
import torch
from edgetam_hf.discovery_edgetam_video import uncovered_masks
from edgetam_hf.everything_edgetam_video import EverythingOptions, EverythingState, Known, look_at
from made_up_pages import VIDEO

from edgetam_hf.found_objects import CutMask

pytest_plugins = ["made_up_pages"]

HEIGHT, WIDTH = 24, 30
OPTIONS = {"every": 5, "max_objects": 6, "min_area": 0.01, "max_uncovered": 0.15, "merge_iou": 0.5, "max_absence": 3}


NOT_ON_THE_PAGE = ("search", "same_look", "other_look", "max_jump")  # which sees no features


def camel(name):
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def numbers(options):
    """Options by the names that the page has for them."""
    return {camel(one.name): getattr(options, one.name) for one in fields(options) if one.name not in NOT_ON_THE_PAGE}


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
        prompted = [obj_id for obj_id in ids if frame_idx % 20 == 19][-1:]  # of those that were found, the last one
        state = state.knows(prompted)
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
            state = state.discovered(dict.fromkeys(new_ids, Known((), (0, 0))), seen.uncovered)
            ids += new_ids
        frames.append(
            {
                "frameIdx": frame_idx,
                "found": [[obj_id, runs_of(mask)] for obj_id, mask in found.items()],
                "candidates": [runs_of(mask) for mask in candidates],
                "limit": limit,
                "prompted": prompted,
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
    assert found["options"] == numbers(EverythingOptions()) | {"every": 15}
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
    assert sum(is_due for _, _, is_due, *_ in outputs) > 4


def searched(page):
    """Frames that were searched."""
    return [options["frameIdx"] for _, options in page.calls("everything")]


def on_frame(page, frame_idx):
    """Names of the objects that have a mask on a frame."""
    page.page.fill("#frame-number", str(frame_idx + 1))
    page.page.press("#frame-number", "Enter")
    page.page.locator("#canvas").focus()
    page.settle()
    label = page.page.get_attribute("#canvas", "aria-label")
    return label.split("Masks: ")[1].removesuffix(".").split(", ") if "Masks: " in label else []


def test_page_follows_everything_and_takes_it_back_in_one_step(video_page):
    video_page.key("Shift+F")
    assert "Followed everything over 40 frames: 2 new objects, 0 ended, 2 go on" in video_page.text("#status")
    assert video_page.names() == ["Object 1", "Object 2"]
    assert searched(video_page) == [0, 15, 30]
    assert video_page.calls("addMasks") == [["addMasks", 0, [1, 2]]]
    assert on_frame(video_page, 39) == on_frame(video_page, 0) == ["Object 1", "Object 2"]
    video_page.key("Control+z")
    assert "Undone: following everything" in video_page.text("#status")
    assert video_page.names() == ["Object 1"] and on_frame(video_page, 39) == []
    assert [call[1] for call in video_page.calls("removeObject")] == [1, 2]
    video_page.key("Control+Shift+z")
    assert on_frame(video_page, 39) == ["Object 1", "Object 2"]
    assert video_page.calls("addMasks")[1:] == [["addMasks", 0, [1, 2]]]


def test_page_goes_on_with_everything_where_it_was_stopped(video_page):
    page = video_page.page
    page.evaluate("mock.wait = { 'frame 12': new Promise((go) => { mock.go = go; }) }")
    page.keyboard.press("Shift+F")
    page.wait_for_function("document.getElementById('progress').value === 12")
    assert video_page.text("#task-name") == "Following everything: 12 of 40"
    page.locator("#stop").click()
    page.keyboard.press("v")  # hides an object meanwhile
    page.evaluate("mock.go()")
    video_page.settle()
    assert "Stopped after 13 of 40 frames" in video_page.text("#status")
    assert page.input_value("#frame-number") == "13"
    video_page.key("Shift+F")
    assert "Followed everything over 27 frames" in video_page.text("#status")
    assert searched(video_page) == [0, 15, 30]
    assert [call[1]["start"] for call in video_page.calls("propagate")] == list(range(1, 40))
    video_page.key("Shift+F")
    assert video_page.text("#status") == "Everything was followed to the end."
    video_page.key("Control+z", "Control+z")
    assert on_frame(video_page, 12) == ["Object 1", "Object 2"] and on_frame(video_page, 13) == []
    video_page.key("Control+z")
    assert video_page.names() == ["Object 1"] and on_frame(video_page, 12) == []


def test_page_stops_a_search_as_if_it_had_not_begun(video_page):
    page = video_page.page
    page.evaluate("mock.wait = { everything: new Promise((go) => { mock.go = go; }) }")
    page.keyboard.press("Shift+F")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Looking for new objects')")
    page.locator("#stop").click()
    page.evaluate("mock.go(); mock.wait = null")
    video_page.settle()
    assert "Stopped after 0 of 40 frames" in video_page.text("#status")
    assert page.locator('[data-command="undo"]').is_disabled()
    video_page.key("Shift+F")
    assert searched(video_page) == [0, 0, 15, 30]
    assert video_page.names() == ["Object 1", "Object 2"]


def test_page_ends_what_is_lost_and_keeps_what_was_found(video_page, tmp_path):
    page = video_page.page
    video_page.click(260, 200)  # a user's object
    page.evaluate("mock.lost = { 1: 3, 2: 3, 3: 5 }")
    video_page.key("Shift+F")
    assert "4 new objects, 2 ended, 3 go on" in video_page.text("#status")  # two of them are found again
    assert video_page.names() == [f"Object {number}" for number in range(1, 6)]
    assert on_frame(video_page, 2) == ["Object 1", "Object 2", "Object 3"]
    assert on_frame(video_page, 39) == ["Object 1", "Object 4", "Object 5"]  # a user's object is never ended
    assert [call[1] for call in video_page.calls("removeObject")] == [2, 3]
    with page.expect_download() as download:
        video_page.key("Control+s")
    download.value.save_as(tmp_path / "clip.edgetam.json")
    video_page.open(VIDEO)
    page.set_input_files("#file", tmp_path / "clip.edgetam.json")
    page.wait_for_function("document.querySelectorAll('#objects li').length === 5")
    video_page.settle()
    assert on_frame(video_page, 2) == ["Object 1", "Object 2", "Object 3"]


def test_page_says_that_there_can_be_no_more_objects(video_page):
    video_page.page.evaluate("async () => { (await import('/page/everything_video.js')).OPTIONS.maxObjects = 1; }")
    video_page.key("Shift+F")
    assert video_page.text(".notice").startswith("1 objects are followed, the most at a time")
    assert video_page.page.locator(".notice").count() == 1
    assert searched(video_page) == [0]
    assert video_page.names() == ["Object 1"]


def test_page_tells_all_anew_after_following_everything_has_failed(video_page):
    video_page.page.evaluate("mock.fail.addMasks = 'There is no room left on the GPU.'")
    video_page.key("Shift+F")
    assert video_page.text(".notice") == "There is no room left on the GPU."
    assert video_page.names() == ["Object 1"]
    video_page.key("Shift+F")
    assert video_page.calls("reset")
    assert len(video_page.names()) == 2
