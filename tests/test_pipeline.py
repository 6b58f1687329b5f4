"""Mask generation: equal to native's pipeline where native is right, and right where it is not."""

import base64
import logging
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from edgetam_hf.configuration_edgetam import EdgeTamConfig
from edgetam_hf.image_processing_edgetam import EdgeTamImageProcessor
from edgetam_hf.mask_generation_edgetam import Crop, StabilityFilter, candidates_of_crop, crops_of_picture, point_grid
from edgetam_hf.masks_edgetam import masks_to_rle, repair_masks
from edgetam_hf.modeling_edgetam import EdgeTamModel
from edgetam_hf.modeling_edgetam_video import EdgeTamVideoModel
from edgetam_hf.pipeline_edgetam import EdgeTamMaskGenerationPipeline, MaskGenerationOptions
from PIL import Image
from transformers import MaskGenerationPipeline

from edgetam_hf import base_edgetam, mask_generation_edgetam, nano_checkpoint, pipeline_edgetam

try:
    from transformers import Sam2ImageProcessor
except ImportError:  # the name up to Transformers 5.0
    from transformers import Sam2ImageProcessorFast as Sam2ImageProcessor

ROOT = Path(pipeline_edgetam.__file__).parent
NATIVE_CROPS_WORK = int(transformers.__version__.split(".")[0]) >= 5
# Random weights give neither confident nor stable masks.
ALL_MASKS = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "crops_nms_thresh": 0.95, "points_per_crop": 6}


def make_model(image_size=128):
    """A small EdgeTamModel with random weights, large enough that prompts decide the masks."""
    backbone_config = {
        "architecture": "repvit_m1",
        "model_args": {"embed_dim": [16, 32, 64, 128], "depth": [2, 2, 2, 2]},
    }
    config = EdgeTamConfig(
        vision_config={"backbone_config": backbone_config, "fpn_hidden_size": 64},
        prompt_encoder_config={"hidden_size": 64},
        mask_decoder_config={"hidden_size": 64, "mlp_dim": 128, "iou_head_hidden_dim": 64},
        image_size=image_size,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = EdgeTamModel(config).eval()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data = torch.randn(parameter.shape) * (0.8 / parameter[0].numel()) ** 0.5
    return model


def make_image_processor(height=128, width=128, image_processor_class=EdgeTamImageProcessor):
    size, mask_size = {"height": height, "width": width}, {"height": height // 4, "width": width // 4}
    return image_processor_class(size=size, mask_size=mask_size)


def make_picture(width, height, seed=0):
    """Discs of random colours on noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    for _ in range(6):
        center_x, center_y, radius = rng.integers(0, width), rng.integers(0, height), rng.integers(5, height // 3)
        pixels[(x - center_x) ** 2 + (y - center_y) ** 2 < radius**2] = rng.integers(0, 255, 3)
    return Image.fromarray(pixels.astype(np.uint8))


def assert_equal_results(actual, expected):
    assert len(actual["masks"]) == len(expected["masks"]) > 0
    assert torch.equal(actual["scores"], expected["scores"])
    assert all(torch.equal(mask, other) for mask, other in zip(actual["masks"], expected["masks"], strict=True))


def assert_close_results(actual, expected):
    """Equal up to the rounding of another batch size or of weights that lie elsewhere in memory."""
    assert len(actual["masks"]) == len(expected["masks"]) > 0
    torch.testing.assert_close(actual["scores"], expected["scores"])
    differs = torch.stack(actual["masks"]) ^ torch.stack(expected["masks"])
    assert differs.float().mean() < 1e-3


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def generator(model):
    """As users of a model object make it, with all masks kept by default."""
    return transformers.pipeline(
        "mask-generation",
        model=model,
        image_processor=make_image_processor(),
        pipeline_class=EdgeTamMaskGenerationPipeline,
        device="cpu",
        **ALL_MASKS,
    )


@pytest.fixture
def prompted_points(model, monkeypatch):
    """The list of all points (P, 2) that the model is prompted with, in pixels of the model input."""
    all_points, confident_masks = [], type(model).confident_masks

    def recording(self, image_embeddings, points, *args):
        all_points.extend(points.unbind())
        return confident_masks(self, image_embeddings, points, *args)

    monkeypatch.setattr(type(model), "confident_masks", recording)
    return all_points


@pytest.mark.parametrize("side", [150, 128, 61])
@pytest.mark.parametrize("stability_score_thresh, crops_nms_thresh", [(0.0, 1.0), (0.0, 0.9), (0.8, 0.99)])
def test_pipeline_equals_native_on_a_square_picture(model, side, stability_score_thresh, crops_nms_thresh):
    image_processor = make_image_processor(image_processor_class=Sam2ImageProcessor)
    options = {"pred_iou_thresh": 0.3, "stability_score_thresh": stability_score_thresh, "stability_score_offset": 0.02}
    options.update(crops_nms_thresh=crops_nms_thresh, points_per_crop=6, points_per_batch=12, mask_threshold=0.01)
    options.update(output_rle_mask=True, output_bboxes_mask=True)
    pipelines = [
        pipeline_class(model=model, image_processor=image_processor, task="mask-generation", device="cpu")
        for pipeline_class in (EdgeTamMaskGenerationPipeline, MaskGenerationPipeline)
    ]
    ours, native = (generator(make_picture(side, side), **options) for generator in pipelines)
    assert_equal_results(ours, native)
    assert ours.keys() == native.keys()
    assert ours["rle_mask"] == native["rle_mask"]
    assert torch.equal(ours["bounding_boxes"], native["bounding_boxes"])
    assert ours["bounding_boxes"].dtype == native["bounding_boxes"].dtype
    assert ours["masks"][0].dtype == native["masks"][0].dtype == torch.bool


@pytest.mark.skipif(not NATIVE_CROPS_WORK, reason="native's crops raise before Transformers 5")
def test_pipeline_equals_native_with_crops(model):
    image_processor = make_image_processor(image_processor_class=Sam2ImageProcessor)
    options = {**ALL_MASKS, "crops_n_layers": 1, "crop_overlap_ratio": 0.2, "points_per_crop": 4}
    pipelines = [
        pipeline_class(model=model, image_processor=image_processor, task="mask-generation", device="cpu")
        for pipeline_class in (EdgeTamMaskGenerationPipeline, MaskGenerationPipeline)
    ]
    assert_equal_results(*(generator(make_picture(150, 150), **options) for generator in pipelines))


def test_pipeline_equals_with_native_image_processor(generator, model):
    picture = make_picture(150, 100)
    native = make_image_processor(image_processor_class=Sam2ImageProcessor)
    other = EdgeTamMaskGenerationPipeline(model=model, image_processor=native, device="cpu", **ALL_MASKS)
    options = {"max_hole_area": 5, "max_sprinkle_area": 5, "crops_n_layers": 1, "points_per_crop": 3}
    assert_equal_results(generator(picture, **options), other(picture, **options))


@pytest.mark.parametrize("width, height", [(90, 60), (40, 160)])
def test_pipeline_prompts_the_whole_picture(generator, prompted_points, width, height):
    generator(make_picture(width, height), points_per_crop=4)
    positions = (torch.arange(4) + 0.5) * 32
    expected = torch.stack([positions.repeat(4), positions.repeat_interleave(4)], dim=1)
    torch.testing.assert_close(torch.stack(prompted_points), expected)


def test_pipeline_prompts_the_whole_of_each_crop(generator, prompted_points):
    generator(make_picture(90, 60), points_per_crop=4, crops_n_layers=1, crop_n_points_downscale_factor=2)
    assert len(prompted_points) == 16 + 4 * 4
    for crop_points in torch.stack(prompted_points[16:]).split(4):
        torch.testing.assert_close(crop_points, torch.tensor([[32.0, 32], [96, 32], [32, 96], [96, 96]]))


def test_pipeline_covers_a_model_input_that_is_not_square():
    image_processor = make_image_processor(64, 96)
    generator = EdgeTamMaskGenerationPipeline(model=make_model((64, 96)), image_processor=image_processor, device="cpu")
    result = generator(make_picture(50, 70), **ALL_MASKS)
    assert result["masks"][0].shape == (70, 50)
    points = point_grid(8, Crop(0, 0, 50, 70), 64, 96)
    assert points.min(0).values.tolist() == [6, 4]
    assert points.max(0).values.tolist() == [90, 60]


def test_crops_of_picture_cover_it_and_overlap():
    crops = crops_of_picture(60, 90, num_layers=2, overlap_ratio=0.25)
    assert [crop.layer for crop in crops] == [0] + 4 * [1] + 16 * [2]
    assert crops[0].box == (0, 0, 90, 60)
    for layer, overlap in ((1, 15), (2, 7)):
        in_layer = [crop for crop in crops if crop.layer == layer]
        covered = torch.zeros(60, 90, dtype=torch.bool)
        for crop in in_layer:
            covered[crop.top : crop.bottom, crop.left : crop.right] = True
        assert covered.all()
        assert in_layer[0].bottom - in_layer[1].top == overlap
        assert in_layer[0].right - in_layer[2**layer].left == overlap


def test_crops_of_picture_are_never_empty():
    assert all(crop.width > 0 and crop.height > 0 for crop in crops_of_picture(3, 5, num_layers=3, overlap_ratio=0.3))


WHOLE = Crop(0, 0, 64, 64)
KEEP_ALL = StabilityFilter(mask_threshold=0.0, offset=1.0, lowest_score=0.0)


def logits_of_boxes(*boxes, size=64):
    """Logits (N, size, size): 5 inside a box (left, top, right, bottom), right and bottom excluded, and -5 outside."""
    logits = torch.full((len(boxes), size, size), -5.0)
    for mask, (left, top, right, bottom) in zip(logits, boxes, strict=True):
        mask[top:bottom, left:right] = 5
    return logits


def candidates(logits, crop=WHOLE, picture=WHOLE, stability=KEEP_ALL):
    """Candidates whose scores fall from 0.9 in steps of 0.1."""
    scores = 0.9 - torch.arange(len(logits)) / 10
    return candidates_of_crop(logits, scores, torch.zeros(len(logits), 2), crop, picture, stability)


def test_candidates_of_crop_have_boxes_and_masks_of_the_picture():
    crop, picture = Crop(100, 50, 164, 114), Crop(0, 0, 300, 200)
    found = candidates(logits_of_boxes((22, 23, 42, 40)), crop, picture)
    assert found.boxes.tolist() == [[122, 73, 141, 89]]
    expected = torch.zeros(200, 300, dtype=torch.bool)
    expected[73:90, 122:142] = True
    assert torch.equal(found.masks(200, 300, 0.0)[0], expected)


def test_candidates_of_crop_drop_masks_cut_by_the_crop():
    picture = Crop(0, 0, 200, 64)
    logits = logits_of_boxes((0, 0, 30, 64), (30, 0, 60, 64))  # touching only picture edges, or an inner crop edge
    assert candidates(logits, WHOLE, picture).scores.tolist() == pytest.approx([0.9])
    assert len(candidates(logits, WHOLE, WHOLE).scores) == 2


def test_candidates_of_crop_drop_unstable_and_empty_masks():
    logits = logits_of_boxes((10, 10, 20, 20), (10, 10, 20, 20), (0, 0, 0, 0))
    logits[1, 30:40, 30:40] = 0.5  # foreground that vanishes when the threshold rises by 1
    assert candidates(logits, stability=MaskGenerationOptions().stability).scores.tolist() == pytest.approx([0.9])
    found = candidates(logits, stability=KEEP_ALL._replace(mask_threshold=0.7))
    assert found.boxes.tolist() == [[10, 10, 19, 19], [10, 10, 19, 19], [0, 0, 0, 0]]
    assert found.stability_scores[:2].tolist() == [1.0, 0.5]
    assert found.stability_scores[2].isnan()


def test_repair_masks_fills_holes_and_removes_sprinkles():
    logits = logits_of_boxes((10, 10, 40, 40))
    clean = logits > 0
    logits[0, 20:22, 20:22] = -5
    logits[0, 50:53, 50] = 5
    for max_hole_area, max_sprinkle_area, is_clean in ((4, 3, True), (3, 3, False), (4, 2, False), (0, 0, False)):
        assert torch.equal(repair_masks(logits, 0.0, max_hole_area, max_sprinkle_area) > 0, clean) == is_clean


def rle_to_mask(rle_mask):
    """The boolean mask (H, W) of an uncompressed run-length encoding."""
    height, width = rle_mask["size"]
    is_set = np.arange(len(rle_mask["counts"])) % 2 == 1
    columns = np.repeat(is_set, rle_mask["counts"]).reshape(width, height)
    return torch.from_numpy(np.ascontiguousarray(columns.T))


def test_run_lengths_give_their_masks_back():
    masks = torch.rand(4, 7, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    masks[0], masks[1] = False, True
    rle_masks = masks_to_rle(masks)
    assert rle_masks[0] == {"size": [7, 5], "counts": [35]}
    assert rle_masks[1] == {"size": [7, 5], "counts": [0, 35]}
    assert all(torch.equal(rle_to_mask(rle), mask) for rle, mask in zip(rle_masks, masks, strict=True))


def test_pipeline_keeps_the_best_of_masks_with_overlapping_boxes(generator):
    picture = make_picture(150, 100)
    results = [generator(picture, crops_nms_thresh=threshold) for threshold in (0.5, 1.0)]
    assert 0 < len(results[0]["masks"]) < len(results[1]["masks"]) == 3 * 36
    assert results[0]["scores"][0] == results[1]["scores"].max()
    assert (results[0]["scores"].diff() <= 0).all()


def test_pipeline_keeps_scores_above_the_threshold(generator):
    picture = make_picture(150, 100)
    scores = generator(picture, crops_nms_thresh=1.0)["scores"]
    threshold = scores[10].item()
    assert torch.equal(generator(picture, crops_nms_thresh=1.0, pred_iou_thresh=threshold)["scores"], scores[:10])


def test_pipeline_result_does_not_depend_on_batches(generator, monkeypatch):
    picture = make_picture(150, 100)
    expected = generator(picture, points_per_batch=None)
    monkeypatch.setattr(mask_generation_edgetam, "MAX_PIXELS_PER_GROUP", 1)
    monkeypatch.setattr(base_edgetam, "num_at_once", lambda width, dtype: 5)
    for points_per_batch in (7, 1000):
        result = generator(picture, points_per_batch=points_per_batch)
        assert_close_results(result, expected)


@pytest.mark.parametrize("suffix", ["", "s"])
def test_pipeline_returns_rle_and_boxes_by_either_spelling(generator, suffix):
    picture = make_picture(150, 100)
    assert generator(picture).keys() == {"masks", "scores"}
    result = generator(picture, **{f"output_rle_mask{suffix}": True, f"output_bboxes_mask{suffix}": True})
    assert result.keys() == {"masks", "scores", "rle_mask", "bounding_boxes"}
    for mask, rle_mask, box in zip(result["masks"], result["rle_mask"], result["bounding_boxes"], strict=True):
        assert torch.equal(rle_to_mask(rle_mask), mask)
        y, x = mask.nonzero().unbind(1)
        assert box.tolist() == [x.min(), y.min(), x.max(), y.max()]


def test_pipeline_returns_nothing_when_no_mask_survives(generator):
    result = generator(make_picture(50, 40), pred_iou_thresh=1.0, output_rle_masks=True, output_bboxes_masks=True)
    assert result["masks"] == result["rle_mask"] == []
    assert result["scores"].shape == (0,)
    assert result["bounding_boxes"].shape == (0, 4)


def test_pipeline_options_given_first_are_defaults_of_calls(model):
    generator = EdgeTamMaskGenerationPipeline(
        model=model, image_processor=make_image_processor(), device="cpu", output_rle_mask=True, **ALL_MASKS
    )
    picture = make_picture(50, 40)
    assert "rle_mask" in generator(picture)
    assert "rle_mask" not in generator(picture, output_rle_masks=False)
    assert "rle_mask" in generator(picture)
    with pytest.raises(ValueError, match="leaves no point of `points_per_crop=6` in crop layer 1"):
        generator(picture, crops_n_layers=1, crop_n_points_downscale_factor=7)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"points_per_batch": 0}, ValueError, "`points_per_batch` must be at least 1, got 0"),
        ({"points_per_batch": 2.5}, TypeError, "`points_per_batch` must be an integer, got 2.5"),
        ({"points_per_batch": True}, TypeError, "`points_per_batch` must be an integer, got True"),
        ({"points_per_crop": 0}, ValueError, "`points_per_crop` must be between 1 and 4096, got 0"),
        ({"points_per_crop": 10**9}, ValueError, "`points_per_crop` must be between 1 and 4096, got 1000000000"),
        ({"points_per_crop": None}, TypeError, "`points_per_crop` must be an integer, got None"),
        ({"crops_n_layers": -1}, ValueError, "`crops_n_layers` must be between 0 and 8, got -1"),
        ({"crop_overlap_ratio": 1.5}, ValueError, "`crop_overlap_ratio` must be between 0 and 1"),
        ({"crop_n_points_downscale_factor": 0}, ValueError, "`crop_n_points_downscale_factor` must be at least 1"),
        ({"pred_iou_thresh": 88}, ValueError, "`pred_iou_thresh` must be between 0 and 1, got 88"),
        ({"stability_score_thresh": float("nan")}, ValueError, "`stability_score_thresh` must be between 0 and 1"),
        ({"stability_score_offset": -1}, ValueError, "`stability_score_offset` must be at least 0"),
        ({"crops_nms_thresh": "0.7"}, TypeError, "`crops_nms_thresh` must be a number, got '0.7'"),
        ({"mask_threshold": None}, TypeError, "`mask_threshold` must be a number, got None"),
        ({"mask_threshold": float("nan")}, ValueError, "`mask_threshold` must be a number, got nan"),
        ({"mask_threshold": 10**400}, ValueError, "`mask_threshold` must be a number below 2e\\+308, got 10000"),
        ({"max_hole_area": -1}, ValueError, "`max_hole_area` must be at least 0"),
        ({"max_sprinkle_area": -1}, ValueError, "`max_sprinkle_area` must be at least 0"),
        ({"output_rle_mask": "yes"}, TypeError, '`output_rle_mask` must be True, False or "compressed", got'),
        ({"output_rle_mask": True, "output_rle_masks": True}, TypeError, "are the same option"),
        ({"points_per_side": 32}, TypeError, "no option points_per_side; it accepts points_per_batch, points_per_crop"),
    ],
)
def test_pipeline_rejects_options(generator, model, monkeypatch, options, error, message):
    monkeypatch.setattr(model, "get_image_embeddings", lambda *args: pytest.fail("computed before checking"))
    with pytest.raises(error, match=message):
        generator(make_picture(50, 40), **options)
    with pytest.raises(error, match=message):
        EdgeTamMaskGenerationPipeline(model=model, image_processor=make_image_processor(), device="cpu", **options)


def test_pipeline_takes_numbers_of_any_kind_and_size(generator):
    picture = make_picture(50, 40)
    given = {"points_per_batch": 10**30, "mask_threshold": 2**70, "stability_score_offset": 2**70}
    assert not any(mask.any() for mask in generator(picture, **given)["masks"])
    plain = {"points_per_crop": 3, "pred_iou_thresh": 0.5, "min_mask_region_area": 4.0}
    options = MaskGenerationOptions(np.int64(7), np.int32(3), pred_iou_thresh=np.float32(0.5), min_mask_region_area=4)
    assert options == MaskGenerationOptions(7, **plain)
    assert {type(getattr(options, name)) for name in plain} == {int, float}


def test_pipeline_batched_equals_one_by_one(generator):
    pictures = [make_picture(150, 100), make_picture(64, 64, seed=1), make_picture(40, 90, seed=2)]
    expected = [generator(picture) for picture in pictures]

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return len(pictures)

        def __getitem__(self, idx):
            return pictures[idx]

    for results in (
        generator(pictures),
        generator(tuple(pictures)),
        generator(pictures, batch_size=2),
        generator(Pictures(), batch_size=2),
        generator((picture for picture in pictures), batch_size=2),
    ):
        for result, other in zip(results, expected, strict=True):
            assert_equal_results(result, other)
    assert generator([]) == []


def test_pipeline_reads_paths_and_base64(generator, tmp_path):
    picture = make_picture(50, 40)
    picture.save(tmp_path / "picture.png")
    encoded = base64.b64encode((tmp_path / "picture.png").read_bytes()).decode()
    for source in (tmp_path / "picture.png", str(tmp_path / "picture.png"), encoded):
        assert_equal_results(generator(source), generator(picture))
    assert_equal_results(generator([tmp_path / "picture.png"], num_workers=1)[0], generator(picture))


def test_pipeline_rejects_unreadable_images(generator, tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    make_picture(50, 40).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    for name in ("text.png", "cut.png"):
        with pytest.raises(ValueError, match=f"{name}' cannot be "):
            generator(tmp_path / name)
    with pytest.raises(ValueError, match=r"missing\.png' cannot be read: No such file"):
        generator(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="is empty"):
        generator(Image.new("RGB", (0, 4)))
    with pytest.raises(TypeError, match="image"):
        generator(5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pipeline_runs_in_half_precision(dtype):
    generator = EdgeTamMaskGenerationPipeline(
        model=make_model().to(dtype), image_processor=make_image_processor(), device="cpu", **ALL_MASKS
    )
    result = generator(make_picture(50, 40), max_hole_area=3)
    assert len(result["masks"]) > 0
    assert result["scores"].dtype == torch.float32
    assert result["masks"][0].dtype == torch.bool


def test_pipeline_rejects_other_models(model):
    with pytest.raises(TypeError, match="needs EdgeTamModel or EdgeTamVideoModel, got EdgeTamVisionModel"):
        EdgeTamMaskGenerationPipeline(model=model.vision_encoder, image_processor=make_image_processor(), device="cpu")
    with pytest.raises(TypeError, match="give `image_processor`"):
        EdgeTamMaskGenerationPipeline(model=model, device="cpu")


def test_pipeline_takes_a_video_model():
    settings = {"image_processor": EdgeTamImageProcessor.from_pretrained(nano_checkpoint()), "device": "cpu"}
    picture, options = make_picture(150, 100), {"points_per_crop": 8, "crops_n_layers": 0}
    models = (kind.from_pretrained(nano_checkpoint()) for kind in (EdgeTamModel, EdgeTamVideoModel))
    of_image, of_video = (EdgeTamMaskGenerationPipeline(model=model, **settings) for model in models)
    assert_equal_results(of_video(picture, **options), of_image(picture, **options))


def test_pipeline_shows_progress_only_when_asked(generator, capfd):
    generator(make_picture(50, 40))
    assert capfd.readouterr().err == ""
    generator(make_picture(50, 40), progress=True)
    assert "36/36" in capfd.readouterr().err


def test_pipeline_is_quiet(generator, caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        for _ in range(2):
            generator([make_picture(50, 40)], crops_n_layers=1, points_per_crop=2, batch_size=2)
    assert not caplog.records


REMOTE_CODE_CHECK = """
import sys
sys.modules["edgetam_hf"] = None  # importing it fails
import torch
from transformers import pipeline
generator = pipeline("mask-generation", model="saved", trust_remote_code=True, device="cpu")
assert type(generator).__module__.startswith("transformers_modules."), type(generator).__module__
assert type(generator.model).__module__.startswith("transformers_modules."), type(generator.model).__module__
assert type(generator.image_processor).__module__.startswith("transformers_modules.")
assert type(generator).__name__ == "EdgeTamMaskGenerationPipeline"
torch.save(generator("picture.png", points_per_crop=6, crops_nms_thresh=0.95, pred_iou_thresh=0.0,
                     stability_score_thresh=0.0), "result.pt")
"""


def test_pipeline_loads_from_a_folder_without_the_package(generator, model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    generator.image_processor.save_pretrained(tmp_path / "saved")
    for file in ROOT.glob("*_edgetam*.py"):
        shutil.copy(file, tmp_path / "saved")
    picture = make_picture(50, 40)
    picture.save(tmp_path / "picture.png")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    check = subprocess.run(
        [sys.executable, "-c", REMOTE_CODE_CHECK], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr
    assert "Warning" not in check.stderr
    assert_close_results(torch.load(tmp_path / "result.pt"), generator(picture))


# What a checkpoint brings along.


def test_pipeline_takes_the_options_of_the_checkpoint_unless_others_are_given(model, tmp_path):
    wanted = {"points_per_crop": 3, "pred_iou_thresh": 0.25}
    EdgeTamImageProcessor(size={"height": 128, "width": 128}, mask_generation=wanted).save_pretrained(tmp_path)
    image_processor = EdgeTamImageProcessor.from_pretrained(tmp_path)
    assert image_processor.mask_generation == wanted
    generator = EdgeTamMaskGenerationPipeline(model=model, image_processor=image_processor, pred_iou_thresh=0.5)
    assert generator.options == MaskGenerationOptions(points_per_crop=3, pred_iou_thresh=0.5)
    picture, given = make_picture(60, 50), {"stability_score_thresh": 0.0, "points_per_crop": 4, "pred_iou_thresh": 0.0}
    plain = EdgeTamMaskGenerationPipeline(model=model, image_processor=make_image_processor())
    assert_equal_results(generator(picture, **given), plain(picture, **given))

    native = Sam2ImageProcessor.from_pretrained(tmp_path)  # reads the folder, and keeps what it does not know
    native.save_pretrained(tmp_path)
    assert EdgeTamImageProcessor.from_pretrained(tmp_path).mask_generation == wanted
    assert EdgeTamMaskGenerationPipeline(model=model, image_processor=native).options.points_per_crop == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 3}, "`mask_generation` of the image processor is wrong: mask generation has no option points"),
        (
            {"pred_iou_thresh": 2},
            "image processor is wrong: `pred_iou_thresh` must be between",
        ),
        ({"output_rle_masks": True}, "output_rle_mask cannot be set by a checkpoint"),
    ],
)
def test_pipeline_rejects_options_of_the_checkpoint(model, options, message):
    image_processor = EdgeTamImageProcessor(size={"height": 128, "width": 128}, mask_generation=options)
    with pytest.raises(ValueError, match=message):
        EdgeTamMaskGenerationPipeline(model=model, image_processor=image_processor)
    with pytest.raises(TypeError, match="mask_generation must be a dictionary"):
        EdgeTamImageProcessor(mask_generation=[options])


def test_pipeline_names_an_option_as_it_was_given(generator):
    with pytest.raises(TypeError, match="`output_bboxes_masks` must be True or False, got 3"):
        generator(make_picture(50, 40), output_bboxes_masks=3)


def test_embedded_checkpoint_finds_the_eyes_and_the_nose_of_its_cat():
    folder = nano_checkpoint()
    generator = EdgeTamMaskGenerationPipeline(
        model=EdgeTamModel.from_pretrained(folder), image_processor=EdgeTamImageProcessor.from_pretrained(folder)
    )
    # crops find more, and take longer
    found = generator(folder.parent / "samples" / "cat.jpg", crops_n_layers=0)["masks"]
    assert 3 <= len(found) < 20
    for x, y in ((172, 117), (324, 135), (262, 242)):  # left eye, right eye and nose
        assert any(mask[y, x] and mask.float().mean() < 0.05 for mask in found), (x, y)


# Masks that do not fill the memory.


@pytest.mark.parametrize("options", [{}, {"min_mask_region_area": 30}, {"crops_n_layers": 1, "points_per_crop": 4}])
def test_masks_on_demand_equal_the_masks(generator, options):
    picture = make_picture(90, 70)
    outputs = {"output_rle_masks": True, "output_areas": True, **options}
    at_once, on_demand = generator(picture, **outputs), generator(picture, masks_on_demand=True, **outputs)
    assert isinstance(at_once["masks"], list) and not isinstance(on_demand["masks"], list)
    assert_equal_results(on_demand, at_once)
    assert on_demand["rle_mask"] == at_once["rle_mask"] and torch.equal(on_demand["areas"], at_once["areas"])
    assert torch.equal(on_demand["masks"][-1], at_once["masks"][-1])
    assert len(on_demand["masks"][:2]) == 2
    with pytest.raises(IndexError):
        on_demand["masks"][len(at_once["masks"])]


def test_pipeline_reads_arrays_and_takes_pil_pictures_as_their_pixels_lie(generator):
    picture = make_picture(50, 40)
    expected = generator(picture)
    for pixels in (np.array(picture), torch.from_numpy(np.array(picture)), np.array(picture) / 255):
        assert_equal_results(generator(pixels), expected)
    turned = picture.copy()
    turned.getexif()[0x0112] = 6
    assert_equal_results(generator(turned), expected)
