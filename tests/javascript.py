"""What the tests of edgetam.js share: Node and its packages, tasks for `web/steps.js`, and the same tasks in Python."""

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from edgetam_hf.memory_selection_edgetam import MemorySelection

import edgetam_hf

WEB = Path(__file__).parent / "web"
SOURCES = Path(edgetam_hf.__file__).parent / "web"
OLDEST_NODE = 20
MODULES = Path(os.environ.get("EDGETAM_NODE_MODULES", WEB / "node_modules"))


class FoundMask(NamedTuple):
    """A mask bool (height, width), with its scores."""

    mask: np.ndarray
    iou_score: float
    object_score_logit: float


def needs_package(name):
    """Skips the test where an npm package is missing."""
    if not (MODULES / name).exists():
        pytest.skip(f"the npm package {name} is missing: run npm install in tests/web, or set EDGETAM_NODE_MODULES")


def node(*arguments, package="onnxruntime-web", env=None):
    """What a script for Node prints; skips the test where Node or a package, if it needs one, is missing."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"Node {OLDEST_NODE} or newer is needed, here is {version}")
    if package is not None:
        needs_package(package)
    done = subprocess.run(["node", *map(str, arguments)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_in_node(tasks, folder, **settings):
    """What `web/steps.js` finds for tasks; the folder is for files in between.

    With `device="webgpu"` there seems to be a GPU, which fails after `numRuns` runs of graphs.
    """
    job = folder / "job.json"
    job.write_text(json.dumps({"modules": str(MODULES), "tasks": tasks, "device": "wasm", **settings}))
    return [read_found(found, task["size"]) for found, task in zip(json.loads(node(WEB / "node.js", job)), tasks)]


def read_found(found, size):
    """The outputs of a task with masks in place of bits."""
    assert "outputs" in found, found

    def read(described):
        if isinstance(described, dict) and "pixels" in described:
            bits = np.frombuffer(base64.b64decode(described["pixels"]), np.uint8)
            pixels = np.unpackbits(bits, bitorder="little", count=size["width"] * size["height"])
            mask = pixels.reshape(size["height"], size["width"]).astype(bool)
            return FoundMask(mask, described["iouScore"], described["objectScoreLogit"])
        if isinstance(described, dict):
            return {name: read(value) for name, value in described.items()}
        return [read(value) for value in described] if isinstance(described, list) else described

    return read(found["outputs"])


def make_task(model_folder, frames, path, **task):
    """A task on frames uint8 (T, height, width, 3), whose pixels are written to a path."""
    path.write_bytes(frames.tobytes())
    size = {"width": frames.shape[2], "height": frames.shape[1]}
    return {"folder": str(model_folder), "pixels": str(path), "size": size, "numFrames": len(frames), **task}


NAMES = {"points": "input_points", "labels": "input_labels", "boxes": "input_boxes"}
SETTINGS = {
    "maxMemoryFrames": "max_memory_frames",
    "maxCachedFrames": "max_vision_features_cache_size",
    "maxObjectsPerBatch": "max_objects_per_batch",
    "memorySelection": "memory_selection",
}


def read_setting(value):
    """A setting as Python has it: that of a memory may be an object of values."""
    if not isinstance(value, dict):
        return value
    return MemorySelection(**{re.sub("[A-Z]", lambda part: f"_{part[0].lower()}", key): value[key] for key in value})


class PythonSession:
    """A session that takes the steps of a task, and gives the outputs as `web/steps.js` does."""

    def __init__(self, model, processor, frames, task):
        self.model, self.processor, self.frames, self.outputs = model, processor, frames, []
        self.size = frames.shape[1:3]
        settings = {SETTINGS[name]: read_setting(value) for name, value in task.get("settings", {}).items()}
        self.session = processor.init_video_session(None if task.get("isStream") else frames, **settings)

    def run(self, steps):
        for name, *values in steps:
            try:
                getattr(self, name)(*values)
            except (ValueError, TypeError) as error:
                self.outputs.append({"error": str(error)})
        return self.outputs

    def add(self, frame_idx, ids, prompts):
        prompts = dict(prompts)
        given = {NAMES[name]: [value] for name, value in prompts.items() if name in NAMES}
        if "masks" in prompts:
            masks = prompts["masks"]
            given["input_masks"] = [None if m is None else np.array(m, bool).reshape(self.size) for m in masks]
        self.processor.add_inputs_to_inference_session(
            self.session,
            frame_idx,
            ids,
            original_size=self.size,
            clear_old_inputs=not prompts.get("joinEarlier", False),
            **given,
        )

    def clear(self, frame_idx, obj_id):
        self.session.clear_prompts(frame_idx, obj_id)

    def remove(self, obj_id):
        self.session.remove_object(obj_id)

    def reset(self):
        self.session.reset_inference_session()

    def segment(self, frame_idx, options=None):
        self._note(self.model(self.session, frame_idx=frame_idx, **(options or {})))

    def receive(self, idx):
        pixel_values = self.processor(images=self.frames[idx], return_tensors="pt")["pixel_values"]
        self._note(self.model(self.session, frame=pixel_values[0]))

    def propagate(self, options=None):
        names = {"start": "start_frame_idx", "count": "max_frame_num_to_track", "reverse": "reverse"}
        settings = {names[name]: value for name, value in (options or {}).items()}
        for output in self.model.propagate_in_video_iterator(self.session, **settings):
            self._note(output)

    def _note(self, output):
        masks = self.processor.post_process_masks([output.pred_masks], [self.size])[0][:, 0].numpy()
        scores = zip(output.iou_scores.tolist(), output.object_score_logits.tolist())
        found = [FoundMask(mask, *score) for mask, score in zip(masks, scores)]
        pairs = [[obj_id, mask] for obj_id, mask in zip(output.object_ids, found)]
        self.outputs.append({"frameIdx": output.frame_idx, "masks": pairs})


def run_in_python(model, processor, frames, task):
    """What PyTorch finds in the steps of a task."""
    with torch.no_grad():
        return PythonSession(model, processor, frames, task).run(task["steps"])


def intersection_over_union(one, other):
    """IoU of two masks; 1 of two empty ones."""
    union = (one | other).sum()
    return (one & other).sum() / union if union else 1.0


def assert_same_outputs(actual, expected, least=0.999):
    """Outputs of the same frames and objects, whose masks agree."""
    assert [output.get("frameIdx") for output in actual] == [output.get("frameIdx") for output in expected]
    for one, other in zip(actual, expected):
        assert ("error" in one) == ("error" in other), (one, other)
        if "error" in one:
            continue
        where = f"frame {one['frameIdx']}"
        assert [obj_id for obj_id, _ in one["masks"]] == [obj_id for obj_id, _ in other["masks"]], where
        for (obj_id, found), (_, wanted) in zip(one["masks"], other["masks"]):
            assert_same_mask(found, wanted, f"{where}, object {obj_id}", least)


def assert_same_mask(found, wanted, where, least=0.999):
    """Masks that agree, and scores that are equal up to rounding."""
    assert intersection_over_union(found.mask, wanted.mask) >= least, where
    np.testing.assert_allclose(found[1:], wanted[1:], atol=1e-2, err_msg=where)
