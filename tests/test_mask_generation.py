"""Mask generation equals the straightforward computation, which draws and upsamples everything, and cleans masks."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from edgetam_hf.mask_generation_edgetam import (
    BoxedLogits,
    Crop,
    MaskCandidates,
    StabilityFilter,
    candidates_of_crop,
    crops_of_picture,
    is_cut_by_crop,
    masks_at_once,
    point_grid,
    stretch,
    without_small_regions,
)
from edgetam_hf.masks_edgetam import masks_to_boxes, masks_to_rle, remove_small_regions, repair_masks
from edgetam_hf.pipeline_edgetam import MaskGenerationOptions
from PIL import Image
from simulated_gpu import on_gpu
from small_models import make_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision.ops import nms

import edgetam_hf
from edgetam_hf import (
    EdgeTamImageProcessor,
    EdgeTamMaskGenerationPipeline,
    EdgeTamModel,
    mask_generation_edgetam,
    nano_checkpoint,
    pipeline_edgetam,
)

SAMPLES = Path(edgetam_hf.__file__).with_name("samples")
LOOSE = {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.1, "stability_score_offset": 0.02, "crops_nms_thresh": 1.0}
CROPS = {"crops_n_layers": 1, "points_per_crop": 4, "crop_n_points_downscale_factor": 2}
REPAIRS = {"max_hole_area": 8, "max_sprinkle_area": 8}


@torch.no_grad()
def straightforward(generator, picture, **given):
    """Masks, scores, boxes and stability scores by drawing and upsampling all masks of all points."""
    options, model = generator.options.updated(given), generator.model
    whole, *others = crops_of_picture(picture.height, picture.width, options.crops_n_layers, options.crop_overlap_ratio)
    found = []
    for crop in (whole, *others):
        pixel_values = generator.pixel_values_of_crop(np.asarray(picture), crop)
        image_embeddings = model.get_image_embeddings(pixel_values)
        points = point_grid(options.points_per_side(crop.layer), crop, *pixel_values.shape[-2:])
        for batch in points.split(options.points_per_batch or len(points)):
            output = model(image_embeddings=image_embeddings, input_points=batch[None, :, None])
            repairs = options.max_hole_area or 0, options.max_sprinkle_area or 0
            logits = repair_masks(output.pred_masks[0].flatten(0, 1), options.mask_threshold, *repairs)
            logits = F.interpolate(logits[:, None], (crop.height, crop.width), mode="bilinear")[:, 0]
            scores = output.iou_scores[0].flatten()
            higher, lower = (options.mask_threshold + sign * options.stability_score_offset for sign in (1, -1))
            stability = (logits > higher).sum((1, 2)) / (logits > lower).sum((1, 2))
            masks = logits > options.mask_threshold
            boxes = masks_to_boxes(masks) + torch.tensor([crop.left, crop.top, crop.left, crop.top])
            kept = ~is_cut_by_crop(boxes, crop, whole)
            kept &= (scores > options.pred_iou_thresh) | (options.pred_iou_thresh == 0)
            kept &= (stability > options.stability_score_thresh) | (options.stability_score_thresh == 0)
            margins = (crop.left, whole.right - crop.right, crop.top, whole.bottom - crop.bottom)
            found.append([part[kept] for part in (F.pad(masks, margins), scores, boxes, stability)])
    masks, scores, boxes, stability = (torch.cat(parts) for parts in zip(*found))
    kept = nms(boxes.float(), scores, options.crops_nms_thresh)
    return {
        "masks": masks[kept],
        "scores": scores[kept],
        "bounding_boxes": boxes[kept],
        "stability_scores": stability[kept],
    }


def assert_equals_the_straightforward(generator, picture, **options):
    expected = straightforward(generator, picture, **options)
    actual = generator(picture, output_bboxes_mask=True, output_stability_scores=True, output_areas=True, **options)
    assert len(actual["masks"]) > 0
    assert torch.equal(torch.stack(actual["masks"]), expected["masks"])
    assert torch.equal(actual["scores"], expected["scores"])
    assert torch.equal(actual["bounding_boxes"], expected["bounding_boxes"])
    assert actual["stability_scores"].equal(expected["stability_scores"]) or options["stability_score_thresh"] == 0
    assert torch.equal(actual["areas"], expected["masks"].sum((1, 2)))


@pytest.fixture(scope="module")
def nano():
    model = EdgeTamModel.from_pretrained(nano_checkpoint())
    image_processor = EdgeTamImageProcessor.from_pretrained(nano_checkpoint())
    return EdgeTamMaskGenerationPipeline(model=model, image_processor=image_processor, device="cpu")


@pytest.fixture(scope="module")
def small():
    """A pipeline of a small random model, whose masks are neither confident nor stable."""
    image_processor = EdgeTamImageProcessor(size={"height": 128, "width": 128})
    return EdgeTamMaskGenerationPipeline(model=make_model(), image_processor=image_processor, device="cpu")


def make_picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height))


@pytest.mark.parametrize(
    "options",
    [
        {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.6},
        {"pred_iou_thresh": 0.6, "stability_score_thresh": 0.7, **CROPS, "points_per_crop": 6},
        {"pred_iou_thresh": 0.6, "stability_score_thresh": 0.7, "mask_threshold": -1.5, **REPAIRS},
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "points_per_crop": 3, "mask_threshold": 2.0},
    ],
)
@pytest.mark.parametrize("sample", ["cat", "coins"])
def test_pipeline_equals_the_straightforward_computation_on_photographs(nano, sample, options):
    if sample == "coins":
        data = pytest.importorskip("skimage.data", reason="the coins come from scikit-image")
        picture = Image.fromarray(data.coins()).convert("RGB")
    else:
        picture = Image.open(SAMPLES / "cat.jpg").convert("RGB")
    assert_equals_the_straightforward(nano, picture, **{"points_per_crop": 8, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0},
        {"stability_score_offset": 0.0, "stability_score_thresh": 0.0},
        {"mask_threshold": -0.3, "crops_nms_thresh": 0.98},
        {"mask_threshold": 0.3, **REPAIRS},
        CROPS,
        {**CROPS, **REPAIRS, "mask_threshold": -0.1},
    ],
)
@pytest.mark.parametrize("width, height", [(128, 128), (211, 97), (61, 203), (40, 31), (1, 150), (9, 7)])
def test_pipeline_equals_the_straightforward_computation_with_a_random_model(small, width, height, options):
    options = {"points_per_crop": 6, "points_per_batch": 20, **LOOSE, **options}
    assert_equals_the_straightforward(small, make_picture(width, height), **options)


@pytest.mark.parametrize("height, width", [(90, 200), (7, 300), (300, 7), (64, 64), (40, 40), (8, 6), (3, 1)])
@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_boxed_logits_hold_all_that_exceeds_the_level(height, width, level):
    masks = torch.randn(6, 32, 32, generator=torch.Generator().manual_seed(0)) - 9
    masks[0, 5:9, 20:25] = masks[1, 0, 3] = masks[2, 31, 31] = masks[3, :, 16] = masks[4] = 5.0
    masks[5, 2:9, 2:9] = 5.0  # on a picture of few pixels it begins in the first
    masks[0, 6, 21] = level  # a hole that is exactly at the level
    full = F.interpolate(masks[:, None], (height, width), mode="bilinear")[:, 0]
    for boxed, expected in zip(BoxedLogits.cut_out(masks, level), full, strict=True):
        (part,), left, top = boxed.upsampled(height, width)
        pasted = torch.full((height, width), level)
        pasted[top : top + part.shape[0], left : left + part.shape[1]] = part
        assert torch.equal(pasted > level, expected > level)
        torch.testing.assert_close(pasted.clamp(min=level), expected.clamp(min=level))


def candidates_by_groups(num_at_once, monkeypatch, crop, lowest_score):
    """Candidates of masks of any size, one of them empty, that are measured so many at once, and their masks."""
    masks = torch.randn(11, 9, 9, generator=torch.Generator().manual_seed(0)) * 5
    masks = F.interpolate(masks[:, None], (32, 32), mode="bicubic")[:, 0]
    masks[::3, :, :20] = masks[4] = -9.0
    monkeypatch.setattr(mask_generation_edgetam, "masks_at_once", lambda device, num_pixels: num_at_once)
    stability = StabilityFilter(0.1, 0.5, lowest_score)
    found = candidates_of_crop(masks, torch.arange(11) / 11, torch.zeros(11, 2), crop, crop, stability)
    whole = MaskCandidates.joined([found, found])
    return whole, whole.chosen(torch.tensor([3, 1, 8])).masks(crop.bottom, crop.right, 0.1)


@pytest.mark.parametrize("num_at_once", [3, 50])
@pytest.mark.parametrize("lowest_score", [0.0, 0.4])
@pytest.mark.parametrize("width, height", [(5, 5), (9, 7), (32, 32), (211, 97), (300, 1500)])
def test_candidates_do_not_depend_on_how_many_are_measured_at_once(
    monkeypatch, width, height, lowest_score, num_at_once
):
    crop = Crop(40, 30, 40 + width, 30 + height)
    expected, expected_masks = candidates_by_groups(1, monkeypatch, crop, lowest_score)
    found, masks = candidates_by_groups(num_at_once, monkeypatch, crop, lowest_score)
    assert len(found.groups) < len(expected.groups) and len(found.scores) > 8
    for name in ("scores", "boxes", "rows"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    torch.testing.assert_close(found.stability_scores, expected.stability_scores, rtol=0, atol=0, equal_nan=True)
    assert len(masks) == 3 and all(map(torch.equal, masks, expected_masks))


@pytest.mark.parametrize("num_at_once", [7, 1000])
def test_pipeline_does_not_depend_on_how_many_masks_are_measured_at_once(small, monkeypatch, num_at_once):
    picture, outputs = make_picture(150, 100), {"output_bboxes_mask": True, "output_stability_scores": True}
    options = {**LOOSE, **CROPS, **REPAIRS, **outputs}
    expected = small(picture, **options)
    monkeypatch.setattr(mask_generation_edgetam, "masks_at_once", lambda device, num_pixels: num_at_once)
    found = small(picture, **options)
    assert len(found["masks"]) > 3 and all(map(torch.equal, found["masks"], expected["masks"]))
    for name in ("scores", "bounding_boxes", "stability_scores"):
        assert torch.equal(found[name], expected[name])


def test_candidates_are_measured_in_groups_on_a_gpu(gpu, monkeypatch):
    masks = F.interpolate(torch.randn(1, 11, 9, 9, generator=torch.Generator().manual_seed(0)) * 5, (32, 32))[0]
    masks *= torch.arange(1, 12)[:, None, None] % 4  # flat ones are not stable
    crop, stability, found = Crop(0, 0, 211, 97), StabilityFilter(0.1, 0.5, 0.7), []
    monkeypatch.setattr(mask_generation_edgetam, "MAX_PIXELS_AT_ONCE", 4 * 211 * 97)
    for device in ("cpu", "cuda"):
        with gpu:
            low_res_masks = masks.to(device, non_blocking=True)
            candidates = candidates_of_crop(low_res_masks, torch.rand(11), torch.zeros(11, 2), crop, crop, stability)
            found.append((candidates, list(candidates.masks(97, 211, 0.1))))
    (expected, expected_masks), (actual, actual_masks) = found
    assert len(gpu.waits) == 2 + len(actual.groups) and 1 < len(actual.groups) < len(expected.groups) < 11
    assert torch.equal(actual.boxes, expected.boxes)
    assert torch.equal(actual.stability_scores, expected.stability_scores)
    assert all(map(torch.equal, actual_masks, expected_masks))


def test_lines_are_stretched_alike_on_a_gpu(gpu):
    for num_lines, old_length, new_length in ((1, 64, 5), (7, 32, 97), (40, 64, 384), (300, 256, 200)):
        lines = torch.randn(3, num_lines, old_length, generator=torch.Generator().manual_seed(0))
        with gpu:
            stretched = stretch(lines.to("cuda"), new_length).cpu()
        assert torch.equal(stretched, stretch(lines, new_length))


def test_groups_of_masks_and_prompts_fill_a_gpu(gpu):
    assert masks_at_once(torch.device("cpu"), 10) == 1
    with gpu:
        assert masks_at_once(torch.device("cuda"), 2**20) == 64
        assert masks_at_once(torch.device("cuda"), 2**40) == 1
        for side, num_prompts in ((64, 64), (16, 1024), (1024, 16)):
            assert EdgeTamModel.prompts_at_once([torch.zeros(1, 1, side, side, device="cuda")]) == num_prompts


@torch.no_grad()
def test_confident_masks_are_those_of_forward(model, pictures, monkeypatch):
    drawn, draw_masks = [], model.mask_decoder.draw_masks
    image_embeddings = model.get_image_embeddings(pictures[:1])
    points = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) * 128
    output = model(image_embeddings=image_embeddings, input_points=points[None, :, None])
    monkeypatch.setattr(model.mask_decoder, "draw_masks", lambda p, *args: drawn.append(len(p)) or draw_masks(p, *args))
    all_scores = output.iou_scores[0]
    for thresh in (0.0, all_scores.flatten().kthvalue(100).values.item(), 1.0):
        masks, scores, point_idx = model.confident_masks(image_embeddings, points, thresh)
        is_confident = all_scores > thresh
        torch.testing.assert_close(masks, output.pred_masks[0][is_confident])
        torch.testing.assert_close(scores, all_scores[is_confident])
        assert torch.equal(point_idx, is_confident.nonzero()[:, 0])
        assert sum(drawn) == is_confident.any(1).sum()
        drawn.clear()
    assert masks.shape == (0, 32, 32)


@pytest.mark.parametrize("num_groups", [1, 6])
@torch.no_grad()
def test_pipeline_waits_once_for_a_batch_of_points_and_thrice_for_a_group_of_masks(small, gpu, monkeypatch, num_groups):
    options = MaskGenerationOptions(points_per_crop=6, points_per_batch=6, **LOOSE)
    picture = small.preprocess(make_picture(150, 100))
    with sdpa_kernel(SDPBackend.MATH):
        expected = small.postprocess(small._forward(picture, options), options)["masks"]
    monkeypatch.setattr(small, "model", on_gpu(small.model))
    monkeypatch.setattr(small, "device", torch.device("cuda"))
    monkeypatch.setattr(mask_generation_edgetam, "MAX_PIXELS_PER_GROUP", 0 if num_groups == 6 else 2**25)
    with gpu:
        masks = small.postprocess(small._forward(picture, options), options)["masks"]
    assert len(gpu.waits) == 6 + 3 * num_groups
    assert len(masks) == len(expected) > 20
    for mask, other in zip(masks, expected, strict=True):
        assert mask.device.type == "cpu" and torch.equal(mask, other)


@torch.no_grad()
def test_simulated_gpu_counts_waits(gpu):
    with gpu:
        numbers = torch.arange(4, device="cuda")
        on_host = torch.arange(2)
        for wait in (
            lambda: numbers.cpu(),
            lambda: on_host.to("cuda"),
            lambda: numbers.sum().item(),
            lambda: numbers[numbers > 1],
            lambda: numbers[on_host],
            lambda: numbers.unique(),
        ):
            wait()
            assert len(gpu.waits) == 1
            gpu.waits.clear()
        (numbers[on_host.to("cuda", non_blocking=True)] + numbers[1:3]).float()
        assert not gpu.waits


def test_pipeline_returns_what_is_known_of_the_masks(small):
    picture = make_picture(150, 100)
    options = {"points_per_crop": 4, **LOOSE, **CROPS}
    plain = small(picture, **options)
    assert plain.keys() == {"masks", "scores"}
    result = small(picture, output_areas=True, output_stability_scores=True, output_points=True, **options)
    assert result.keys() == {"masks", "scores", "areas", "stability_scores", "points"}
    assert torch.equal(torch.stack(result["masks"]), torch.stack(plain["masks"]))
    assert result["areas"].tolist() == [mask.sum() for mask in result["masks"]]
    assert (result["stability_scores"] > LOOSE["stability_score_thresh"]).all()
    assert result["points"].shape == (len(result["masks"]), 2)


def test_pipeline_points_are_pixels_of_the_picture(small):
    options = {"points_per_crop": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "crops_nms_thresh": 1.0}
    points = small(make_picture(200, 100), output_points=True, **options)["points"]
    assert sorted(set(map(tuple, points.tolist()))) == [(50, 25), (50, 75), (150, 25), (150, 75)]


def test_pipeline_compresses_run_lengths(small):
    coco_mask = pytest.importorskip("pycocotools.mask", reason="compressed run lengths need pycocotools")
    result = small(make_picture(150, 100), output_rle_mask="compressed", output_areas=True, points_per_crop=4, **LOOSE)
    for mask, rle_mask in zip(result["masks"], result["rle_mask"], strict=True):
        assert isinstance(rle_mask["counts"], str)
        assert np.array_equal(coco_mask.decode(rle_mask), mask.numpy())


def test_pipeline_compressed_run_lengths_need_pycocotools(small, monkeypatch):
    monkeypatch.setattr(pipeline_edgetam, "coco_mask", None)
    with pytest.raises(ImportError, match="pip install pycocotools"):
        small(make_picture(50, 40), output_rle_masks="compressed")


@pytest.mark.parametrize("min_area", [1, 2, 5, 30, 400, 10**6])
@pytest.mark.parametrize("density", [0.1, 0.4, 0.6, 0.9])
def test_remove_small_regions_equals_skimage(density, min_area):
    measure = pytest.importorskip("skimage.measure", reason="the expected regions come from scikit-image")

    def areas(mask):
        labels = measure.label(mask.numpy(), connectivity=2)
        return torch.from_numpy(np.where(labels > 0, np.bincount(labels.ravel())[labels], 0))

    for seed in range(6):
        mask = torch.zeros(30, 40, dtype=torch.bool)
        top, left, bottom, right = ((0, 0, 30, 40), (2, 3, 20, 30), (0, 5, 30, 35), (1, 1, 29, 39))[seed % 4]
        noise = torch.rand(bottom - top, right - left, generator=torch.Generator().manual_seed(seed))
        mask[top:bottom, left:right] = noise < density
        expected = mask | (~mask & (areas(~mask) < min_area))
        of_expected = areas(expected)
        expected &= of_expected >= min(min_area, of_expected.max())
        assert torch.equal(remove_small_regions(mask, min_area), expected)


def test_remove_small_regions_keeps_an_empty_mask_and_the_largest_region():
    mask = torch.zeros(20, 30, dtype=torch.bool)
    assert not remove_small_regions(mask, 5).any()
    mask[3:6, 4:7] = mask[10, 20] = True
    cleaned = remove_small_regions(mask, 100)
    assert cleaned.sum() == 9 and cleaned[3:6, 4:7].all()


def test_without_small_regions_prefers_unchanged_duplicates():
    masks = [torch.zeros(40, 40, dtype=torch.bool) for _ in range(3)]
    masks[0][5:15, 5:15] = masks[1][5:15, 5:15] = masks[2][20:30, 20:30] = True
    masks[0][38, 38] = True  # a speck, without which the first is the second
    candidates = MaskCandidates(
        scores=torch.tensor([0.9, 0.8, 0.7]),
        stability_scores=torch.ones(3),
        points=torch.zeros(3, 2),
        boxes=torch.cat([masks_to_boxes(mask[None]) for mask in masks]),
        rows=torch.arange(3),
        groups=[],
        crops=[],
    )
    kept, cleaned = without_small_regions(candidates, masks, min_area=4, max_overlap=0.7)
    assert kept.scores.tolist() == pytest.approx([0.8, 0.7])
    assert kept.boxes.tolist() == [[5, 5, 14, 14], [20, 20, 29, 29]]
    assert torch.equal(cleaned[0], masks[1])


def test_pipeline_removes_small_regions_of_results(small):
    picture, options = make_picture(150, 100), {"points_per_crop": 6, **LOOSE}
    plain = small(picture, **options)
    cleaned = small(picture, min_mask_region_area=60, output_rle_mask=True, output_areas=True, **options)
    assert any(not torch.equal(remove_small_regions(mask, 60), mask) for mask in plain["masks"])
    for mask, area, rle_mask in zip(cleaned["masks"], cleaned["areas"], cleaned["rle_mask"], strict=True):
        assert torch.equal(remove_small_regions(mask, 60), mask)
        assert mask.sum() == area and masks_to_rle(mask[None]) == [rle_mask]
    assert (cleaned["scores"].diff() <= 0).all()


def test_pipeline_shows_progress_over_pictures(small, capfd):
    pictures = [make_picture(50, 40, seed) for seed in range(3)]
    options = {"points_per_crop": 2, **LOOSE}
    results = small(pictures, progress=True, **options)
    assert isinstance(results, list) and "3/3" in capfd.readouterr().err
    lazily = small((picture for picture in pictures), progress=True, **options)
    assert [len(result["scores"]) for result in lazily] == [len(result["scores"]) for result in results]
    assert "3picture" in capfd.readouterr().err
    small(pictures, **options)
    assert capfd.readouterr().err == ""
