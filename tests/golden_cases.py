"""Cases of the original release, with its outputs and tolerances, for any model; see golden/README.md.

A model is asked for by its image size: `make_model(size)`, which returns the same one each time.
"""

import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from edgetam_hf.image_processing_edgetam import EdgeTamImageProcessor
from edgetam_hf.processing_edgetam import EdgeTamProcessor
from edgetam_hf.processing_edgetam_video import EdgeTamVideoProcessor
from edgetam_hf.video_processing_edgetam import EdgeTamVideoVideoProcessor
from PIL import Image
from safetensors.torch import load_file

GOLDEN = Path(__file__).with_name("golden")
sys.path.insert(0, str(GOLDEN))

import reference_inputs  # noqa: E402

CASES = {case["id"]: case for case in json.loads((GOLDEN / "cases.json").read_text())["cases"]}
VIDEO_DOCUMENT = json.loads((GOLDEN / "video_cases.json").read_text())
VIDEO_CASES = {case["id"]: case for case in VIDEO_DOCUMENT["cases"]}
# the original drops a refinement of a conditioning frame when tracking starts; with its option
# add_all_frames_to_correct_as_cond it is kept, which is what we do always
KEPT = "video/refine_conditioning_frame_kept"
VIDEOS = [name for name, case in VIDEO_CASES.items() if case["kind"] == "video" and case.get("alternative") != KEPT]

clip = cache(reference_inputs.clip)
clip_masks = cache(reference_inputs.clip_masks)


# Pictures


def cases_of_kind(kind):
    return [name for name, case in CASES.items() if case["kind"] == kind]


@cache
def reference():
    return load_file(GOLDEN / "reference.safetensors")


@cache
def make_processor(size):
    """A processor with the original's order of steps: pixels become floats before they are resized."""
    return EdgeTamProcessor(EdgeTamImageProcessor(size={"height": size, "width": size}, resize_in_float=True))


@cache
@torch.no_grad()
def image_embeddings(make_model, picture, size):
    pixel_values = reference_inputs.image_pixel_values(reference_inputs.image(picture), size)
    return make_model(size).get_image_embeddings(pixel_values)


def expected_tensors(case):
    prefix = case.get("same_as", case["id"]) + "/"
    return {name.removeprefix(prefix): value for name, value in reference().items() if name.startswith(prefix)}


def assert_within(case, kind, actual, expected):
    torch.testing.assert_close(
        actual.float(), expected.float(), atol=case["tolerance"][kind], rtol=0.0, msg=lambda m: f"{kind}: {m}"
    )


def assert_same_masks(case, actual, expected):
    """Every pair of binary masks (…, height, width) has at least the recorded IoU; two empty masks agree."""
    intersection, union = ((actual & expected).sum((-2, -1)), (actual | expected).sum((-2, -1)))
    iou = torch.where(union > 0, intersection / union.clamp(min=1), 1.0)
    assert iou.min() >= case["tolerance"]["miou"]


def model_inputs(case, make_model):
    """Keyword arguments of the model for the prompt of a case, in the way that the case asks for."""
    prompt, size = case["prompt"], case["image_size"]
    picture = reference_inputs.image(case["input"])
    prompts = {}
    if "points" in prompt:
        prompts = {"input_points": [prompt["points"]], "input_labels": [prompt["labels"]]}
    if "boxes" in prompt:
        prompts["input_boxes"] = [prompt["boxes"]]
    processor = make_processor(size)
    if case.get("end_to_end"):
        return dict(processor(images=picture, return_tensors="pt", **prompts))
    inputs = processor(original_sizes=[picture.shape[:2]], return_tensors="pt", **prompts) if prompts else {}
    inputs = dict(inputs, image_embeddings=image_embeddings(make_model, case["input"], size))
    if "mask_from" in prompt:
        source = expected_tensors(CASES[prompt["mask_from"]])
        best_mask = source["logits"][0, source["iou"][0].argmax()]
        inputs["input_masks"] = best_mask.clamp(-32, 32)[None, None]
    return inputs


def assert_image_embeddings(name, make_model):
    """Those of a case equal the original's."""
    case = CASES[name]
    expected = expected_tensors(case)
    for level, (channel_step, step) in enumerate(((4, 16), (4, 8), (8, 4))):
        feature_map = image_embeddings(make_model, case["input"], case["image_size"])[level]
        assert_within(case, "features", feature_map[:, ::channel_step, ::step, ::step], expected[f"map{level}"])
        statistics = case["statistics"][level]
        actual = torch.stack((feature_map.double().mean(), feature_map.double().std()))
        assert_within(case, "statistics", actual, torch.tensor([statistics["mean"], statistics["std"]]))


@torch.no_grad()
def assert_masks(name, make_model):
    """Masks and scores of a case equal the original's."""
    case = CASES[name]
    expected, step = expected_tensors(case), case["logits_stride"]
    output = make_model(case["image_size"])(
        **model_inputs(case, make_model), multimask_output=case["prompt"]["multimask"]
    )
    logits = output.pred_masks[0, ..., ::step, ::step]
    conventions = ("", "_padded") if case["prompt"].get("both_conventions") else ("",)
    nearest = min(conventions, key=lambda suffix: (logits - expected["logits" + suffix]).abs().max())

    assert_within(case, "logits", logits, expected["logits" + nearest])
    assert_within(case, "iou", output.iou_scores[0], expected["iou" + nearest])
    assert_within(case, "object_score", output.object_score_logits[0], expected["object_score" + nearest])
    assert_same_masks(case, logits > 0, expected["logits" + nearest] > 0)
    if nearest == "":
        assert_same_masks(case, *best_masks_at_picture_size(case, output, expected))


def best_masks_at_picture_size(case, output, expected):
    """Our binary mask (objects, height, width) of the reference's highest IoU, and the reference's."""
    height, width = reference_inputs.image(case["input"]).shape[:2]
    masks = make_processor(case["image_size"]).post_process_masks([output.pred_masks[0]], [[height, width]])[0]
    best_idx = expected["iou"].argmax(1)
    bits = np.unpackbits(expected["mask_bits"].numpy(), axis=-1)[:, : height * width]
    original = torch.from_numpy(bits).bool().unflatten(-1, (height, width))
    return masks[torch.arange(len(masks)), best_idx], original


# Video


@cache
def video_reference():
    return load_file(GOLDEN / "video_reference.safetensors")


def remember_frames(model):
    """The model; what its image encoder makes of a frame is computed once for all cases."""
    encode, known = model.get_frame_embeddings, {}

    def get_frame_embeddings(pixel_values):
        key = pixel_values.numpy().tobytes()
        if key not in known:
            known[key] = encode(pixel_values)
        return known[key]

    model.get_frame_embeddings = get_frame_embeddings
    return model


@cache
def make_video_processor(size):
    """A processor that resizes frames as the original does."""
    size = {"height": size, "width": size}
    return EdgeTamVideoProcessor(
        EdgeTamImageProcessor(size=size), EdgeTamVideoVideoProcessor(size=size, resize_with_pil=True)
    )


@cache
def video_pixel_values(size):
    return reference_inputs.video_pixel_values(clip(), size)


class VideoCase:
    """A case that is being run: what was called, compared with what the original returned."""

    def __init__(self, name, make_model):
        self.case = VIDEO_CASES[name]
        self.source = VIDEO_CASES[self.case.get("same_as", name)]
        self.size = self.case["image_size"]
        self.is_stream = self.case.get("mode") == "streaming"
        self.model, self.processor = make_model(self.size), make_video_processor(self.size)
        frames = None if self.is_stream else [Image.fromarray(frame) for frame in clip()]
        self.session = self.processor.init_video_session(video=frames)

    def run(self):
        for step_idx, step in enumerate(self.case["steps"]):
            if step["op"] == "propagate":
                self.propagate(step_idx, step)
                continue
            self.add_prompt(step)
            if step["forward"] and not self.is_stream:
                output = self.model(self.session, frame_idx=step["frame"], reverse=step["reverse"])
                row = output.object_ids.index(step["object"])
                self.assert_logits(output.pred_masks[row], self.expected(step_idx, "logits"))
                self.assert_within(
                    "object_score", output.object_score_logits[row], self.expected(step_idx, "score").reshape(())
                )

    def add_prompt(self, step):
        prompts = {}
        if "mask" in step:
            prompts["input_masks"] = clip_masks()[step["frame"], step["mask"]]
        if "points" in step:
            prompts |= {"input_points": [[step["points"]]], "input_labels": [[step["labels"]]]}
        if "box" in step:
            prompts["input_boxes"] = [[step["box"]]]
        if self.is_stream:
            prompts["original_size"] = clip().shape[1:3]
        self.processor.add_inputs_to_inference_session(
            self.session, step["frame"], step["object"], clear_old_inputs=step["clear_old"], **prompts
        )

    def outputs(self, step):
        if self.is_stream:
            frames = video_pixel_values(self.size)[: step["max_frames"] + 1]
            return [self.model(self.session, frame=frame) for frame in frames]
        return list(
            self.model.propagate_in_video_iterator(
                self.session, step["start"], max_frame_num_to_track=step["max_frames"], reverse=step["reverse"]
            )
        )

    def propagate(self, step_idx, step):
        outputs = self.outputs(step)
        assert [output.frame_idx for output in outputs] == self.source["steps"][step_idx]["frames"]
        saved = [next(output for output in outputs if output.frame_idx == frame) for frame in step["save"]]
        masks = torch.stack([output.pred_masks[:, 0] for output in saved])
        self.assert_logits(masks, self.expected(step_idx, "logits"))
        scores = torch.stack([output.object_score_logits for output in outputs])
        self.assert_within("object_score", scores, self.expected(step_idx, "scores"))
        self.assert_video_masks(step_idx, saved)

    def assert_video_masks(self, step_idx, saved):
        is_exclusive = bool(self.case.get("non_overlap"))
        height, width = clip().shape[1:3]
        masks = torch.stack(
            [
                self.processor.post_process_masks(
                    [output.pred_masks],
                    [[height, width]],
                    binarize=False,
                    apply_non_overlapping_constraints=is_exclusive,
                )[0][:, 0]
                for output in (saved if is_exclusive else saved[-1:])
            ]
        )
        bits = np.unpackbits(self.expected(step_idx, "video_bits").numpy(), axis=-1)[..., : height * width]
        self.assert_same_masks(masks > 0, torch.from_numpy(bits).bool().unflatten(-1, (height, width)))
        if is_exclusive:  # nearly equal logits may go to either object
            difference = (masks[..., ::6, ::6] - self.expected(step_idx, "video_logits")).abs().flatten()
            assert torch.quantile(difference, 0.99) <= self.case["tolerance"]["video_logits"]

    def expected(self, step_idx, name):
        return video_reference()[f"{self.source['id']}/step{step_idx}/{name}"]

    def assert_logits(self, actual, expected):
        actual = actual[..., :: self.case["logits_stride"], :: self.case["logits_stride"]]
        self.assert_within("logits", actual, expected)
        self.assert_same_masks(actual > 0, expected > 0)

    def assert_within(self, kind, actual, expected):
        torch.testing.assert_close(
            actual, expected, atol=self.case["tolerance"][kind], rtol=0.0, msg=lambda m: f"{kind}: {m}"
        )

    def assert_same_masks(self, actual, expected):
        """Every pair of binary masks (…, height, width) has at least the recorded IoU; two empty masks agree."""
        intersection, union = ((actual & expected).sum((-2, -1)), (actual | expected).sum((-2, -1)))
        iou = torch.where(union > 0, intersection / union.clamp(min=1), 1.0)
        assert iou.min() >= self.case["tolerance"]["miou"]
