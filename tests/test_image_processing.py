"""Pictures and masks: equal to native where native is right, and what native cannot do."""

import io

import numpy as np
import pytest
import torch
from edgetam_hf.image_processing_edgetam import EdgeTamImageProcessor
from edgetam_hf.masks_edgetam import connected_component_areas, masks_to_boxes, masks_to_rle, repair_masks
from PIL import Image
from skimage.measure import label as skimage_label

try:
    from transformers import Sam2ImageProcessor
except ImportError:
    from transformers import Sam2ImageProcessorFast as Sam2ImageProcessor


SIZE = {"height": 64, "width": 64}
MASK_SIZE = {"height": 16, "width": 16}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def rgb(height=40, width=56, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def processor():
    return EdgeTamImageProcessor(size=SIZE)


@pytest.fixture
def native():
    return Sam2ImageProcessor(size=SIZE, mask_size=MASK_SIZE)


def pixels(processor, picture, **kwargs):
    return processor(picture, return_tensors="pt", **kwargs)["pixel_values"]


# Pictures that native reads correctly.


@pytest.mark.parametrize(
    "picture",
    [
        rgb(),
        rgb().transpose(2, 0, 1).copy(),
        torch.from_numpy(rgb()),
        Image.fromarray(rgb()),
        [Image.fromarray(rgb()), rgb(30, 31)],
        np.stack([rgb(seed=1), rgb(seed=2)]),
        [[Image.fromarray(rgb())], [Image.fromarray(rgb(9, 70))]],
    ],
    ids=["array", "channels_first", "tensor", "pil", "list", "batch", "nested"],
)
def test_preprocess_equals_native(processor, native, picture):
    ours, theirs = processor(picture, return_tensors="pt"), native(picture, return_tensors="pt")
    assert torch.equal(ours["pixel_values"], theirs["pixel_values"])
    assert torch.equal(ours["original_sizes"], theirs["original_sizes"])


def test_preprocess_equals_native_on_a_file(processor, native, tmp_path):
    path = tmp_path / "picture.jpg"
    Image.fromarray(rgb()).save(path)
    assert torch.equal(pixels(processor, str(path)), pixels(native, str(path)))
    assert torch.equal(pixels(processor, path), pixels(native, str(path)))


def test_preprocess_equals_native_with_settings_of_the_call(processor, native):
    settings = {"do_normalize": False, "size": {"height": 32, "width": 48}}
    assert torch.equal(pixels(processor, rgb(), **settings), pixels(native, rgb(), **settings))


def test_preprocess_equals_native_on_segmentation_maps(processor, native):
    maps = rgb()[..., 0]
    ours = processor(rgb(), segmentation_maps=maps, return_tensors="pt")["labels"]
    assert torch.equal(ours, native(rgb(), segmentation_maps=maps, return_tensors="pt")["labels"])
    assert ours.dtype == torch.int64 and ours.shape == (1, 16, 16)


def test_segmentation_maps_give_labels_for_every_kind_of_tensor(processor):
    maps = np.arange(40 * 56).reshape(40, 56) % 7
    expected = processor(rgb(), segmentation_maps=maps, return_tensors="pt")
    as_tensors, as_arrays = (processor(rgb(), segmentation_maps=maps, return_tensors=kind) for kind in (None, "np"))
    for name, tensor in expected.items():
        assert torch.equal(as_tensors[name], tensor) and isinstance(as_arrays[name], np.ndarray), name
        assert (as_arrays[name] == tensor.numpy()).all(), name


def test_resize_in_float_equals_the_original(processor):
    picture = torch.from_numpy(rgb()).permute(2, 0, 1)[None].float() / 255
    expected = torch.nn.functional.interpolate(picture, (64, 64), mode="bilinear", antialias=True)
    expected = (expected - MEAN[:, None, None]) / STD[:, None, None]
    in_float = pixels(processor, rgb(), resize_in_float=True)
    torch.testing.assert_close(in_float, expected, atol=1e-5, rtol=0)
    assert (in_float - pixels(processor, rgb())).abs().max() > 1e-3
    assert torch.equal(in_float, pixels(EdgeTamImageProcessor(size=SIZE, resize_in_float=True), rgb()))


def test_resize_in_float_is_saved(tmp_path):
    EdgeTamImageProcessor(size=SIZE, resize_in_float=True).save_pretrained(tmp_path)
    assert EdgeTamImageProcessor.from_pretrained(tmp_path).resize_in_float is True


# Pictures of other kinds.


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "CMYK", "1", "YCbCr", "HSV", "LAB"])
def test_preprocess_reads_mode(processor, mode):
    picture = Image.fromarray(rgb()).convert(mode)
    assert torch.equal(pixels(processor, picture), pixels(processor, picture.convert("RGB")))


def test_preprocess_drops_transparency(processor, recwarn):
    transparent = np.dstack([rgb(), np.zeros((40, 56), np.uint8)])
    assert torch.equal(pixels(processor, Image.fromarray(transparent)), pixels(processor, rgb()))
    assert torch.equal(pixels(processor, transparent), pixels(processor, rgb()))
    palette = Image.fromarray(rgb()).convert("P")
    opaque = pixels(processor, palette.convert("RGB"))
    palette.info["transparency"] = bytes(range(256))
    assert torch.equal(pixels(processor, palette), opaque)
    assert not recwarn.list


def test_preprocess_scales_16_bit_levels(processor):
    grey = rgb()[..., 0]
    deep = grey.astype(np.uint16) * 257
    expected = pixels(processor, grey)
    assert torch.equal(pixels(processor, Image.fromarray(deep)), expected)
    assert torch.equal(pixels(processor, Image.fromarray(deep.astype(np.int32))), expected)
    assert torch.equal(pixels(processor, deep), expected)
    assert torch.equal(pixels(processor, torch.from_numpy(deep)), expected)


def test_preprocess_reads_grey_and_bool_arrays(processor):
    grey = rgb()[..., 0]
    expected = pixels(processor, np.repeat(grey[..., None], 3, axis=2))
    for picture in (grey, grey[..., None], torch.from_numpy(grey), Image.fromarray(grey)):
        assert torch.equal(pixels(processor, picture), expected)
    binary = grey > 127
    assert torch.equal(pixels(processor, binary), pixels(processor, binary.astype(np.uint8) * 255))


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 7, 3), (7, 1, 3), (3, 1, 1), (3, 5, 5)])
def test_preprocess_reads_tiny_pictures(processor, shape, recwarn):
    encoded = processor(np.full(shape, 128, np.uint8), return_tensors="pt")
    expected = ((128 / 255 - MEAN) / STD)[:, None, None].expand(3, 64, 64)
    torch.testing.assert_close(encoded["pixel_values"][0], expected)
    assert not recwarn.list


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float16, np.float64, ">i4"])
def test_preprocess_reads_dtype(processor, dtype):
    torch.testing.assert_close(pixels(processor, rgb().astype(dtype)), pixels(processor, rgb()), atol=0.02, rtol=0)


def test_preprocess_leaves_pictures_unchanged(processor):
    picture = torch.from_numpy(rgb()).permute(2, 0, 1).float()
    before = picture.clone()
    processor([picture], return_tensors="pt")
    processor([picture], return_tensors="pt", do_resize=False, resize_in_float=True)
    assert torch.equal(picture, before)


def damaged_file():
    buffer = io.BytesIO()
    Image.fromarray(rgb(200, 200)).save(buffer, "PNG")
    return buffer.getvalue()[:2000]


def test_preprocess_rejects_truncated_picture(processor):
    picture = Image.open(io.BytesIO(damaged_file()))
    with pytest.raises(ValueError, match=r"images\[1\] cannot be decoded, its file is truncated"):
        processor([rgb(), picture])


def test_preprocess_rejects_truncated_file(processor, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(damaged_file())
    with pytest.raises(ValueError, match=r"broken\.png' cannot be decoded, its file is truncated"):
        processor(str(path))


def test_preprocess_rejects_missing_file(processor):
    with pytest.raises(ValueError, match=r"no_such_file\.png' cannot be read"):
        processor("no_such_file.png")


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ([], "images is empty"),
        (np.zeros((0, 5, 3), np.uint8), "one non-empty picture"),
        (Image.new("RGB", (0, 5)), "empty"),
        (np.zeros(5, np.uint8), "2 or 3 dimensions"),
        (np.zeros((5, 6, 7), np.uint8), "with 1, 3 or 4 channels"),
        (np.full((5, 6, 3), np.nan), "NaN or infinite"),
        (np.full((5, 6), 90000.0), r"levels outside 0\.\.65535, 90000 to 90000.*do_rescale=False"),
        (np.random.default_rng(0).normal(size=(5, 6, 3)), r"levels outside 0\.\.65535.*do_rescale=False"),
        (np.full((5, 6), -1), "levels outside"),
        (np.zeros((3, 6, 3), np.uint8), r"\(3, 6, 3\), whose channels may be first or last: .*input_data_format"),
        (np.zeros((4, 6, 4), np.uint8), "channels may be first or last"),
        (torch.zeros(3, 6, 3), "channels may be first or last"),
        (Image.fromarray(np.full((4, 4), 70000, np.int32)), r"outside 0\.\.65535"),
    ],
    ids=[
        *("none", "no_rows", "no_columns", "1d", "7_channels", "nan", "large", "normalized", "negative"),
        *("rgb_either_way", "rgba_either_way", "tensor_either_way", "32_bit"),
    ],
)
def test_preprocess_rejects_picture(processor, picture, message):
    with pytest.raises(ValueError, match=message):
        processor(picture)


@pytest.mark.parametrize(
    "picture", [None, 3, {"image": 1}, [[1, 2], [3, 4]], np.array(["a"]), np.zeros((4, 4), complex)]
)
def test_preprocess_rejects_type(processor, picture):
    with pytest.raises(TypeError, match=r"images\[0\] must"):
        processor(picture)


def test_preprocess_rejects_maps_of_other_size(processor):
    with pytest.raises(ValueError, match="one per picture and of its size"):
        processor(rgb(), segmentation_maps=np.zeros((5, 5), np.uint8))
    with pytest.raises(ValueError, match="one per picture and of its size"):
        processor([rgb(), rgb()], segmentation_maps=[rgb()[..., 0]])


def test_preprocess_rejects_coloured_maps(processor):
    with pytest.raises(ValueError, match=r"segmentation_maps\[0\] must have shape \(height, width\)"):
        processor(rgb(), segmentation_maps=Image.fromarray(rgb()))


# Sizes.


def test_mask_size_follows_size(tmp_path):
    assert dict(EdgeTamImageProcessor().mask_size) == {"height": 256, "width": 256}
    processor = EdgeTamImageProcessor(size={"height": 32, "width": 96})
    assert dict(processor.mask_size) == {"height": 8, "width": 24}
    processor.save_pretrained(tmp_path)
    loaded = EdgeTamImageProcessor.from_pretrained(tmp_path, size=SIZE)
    assert dict(loaded.mask_size) == MASK_SIZE
    labels = processor(rgb(), segmentation_maps=rgb()[..., 0], size=SIZE, return_tensors="pt")["labels"]
    assert labels.shape == (1, 16, 16)


def test_mask_size_given_is_kept():
    processor = EdgeTamImageProcessor(size=SIZE, mask_size={"height": 5, "width": 6})
    assert dict(processor.mask_size) == {"height": 5, "width": 6}


def test_preprocess_makes_non_square_inputs():
    assert pixels(EdgeTamImageProcessor(size={"height": 32, "width": 96}), rgb()).shape == (1, 3, 32, 96)


@pytest.mark.parametrize("size", [{"shortest_edge": 64}, {"height": 0, "width": 64}, "large"])
def test_image_processor_rejects_size(size):
    with pytest.raises(ValueError, match="size"):
        EdgeTamImageProcessor(size=size)


# Connected components.


def spiral(size):
    mask = np.zeros((size, size), bool)
    row, column, step = 0, 0, (0, 1)
    mask[0, 0] = True
    while True:
        for _ in range(2):
            ahead = [(row + k * step[0], column + k * step[1]) for k in (1, 2)]
            if all(0 <= r < size and 0 <= c < size for r, c in ahead[:1]) and not (
                all(0 <= v < size for v in ahead[1]) and mask[ahead[1]]
            ):
                break
            step = (step[1], -step[0])
        else:
            return mask
        row, column = ahead[0]
        mask[row, column] = True


def skimage_areas(mask):
    components = skimage_label(mask, connectivity=2)
    areas = np.bincount(components.ravel())
    areas[0] = 0
    return torch.from_numpy(areas[components])


@pytest.mark.parametrize("density", [0.05, 0.3, 0.45, 0.6, 0.95])
def test_connected_component_areas_equal_skimage(density):
    masks = torch.rand(3, 61, 83, generator=torch.Generator().manual_seed(0)) < density
    expected = torch.stack([skimage_areas(mask.numpy()) for mask in masks])
    assert torch.equal(connected_component_areas(masks), expected)


def test_connected_component_areas_follow_spirals():
    mask = spiral(65)
    both = torch.from_numpy(np.stack([mask, ~mask, mask[::-1].copy(), mask.T.copy()]))
    assert int(mask.sum()) > 1000 and skimage_areas(mask).max() == mask.sum()
    assert torch.equal(connected_component_areas(both), torch.stack([skimage_areas(m.numpy()) for m in both]))


def test_connected_component_areas_join_diagonals_but_not_masks():
    masks = torch.stack([torch.eye(5, dtype=torch.bool), torch.ones(5, 5, dtype=torch.bool)])
    assert connected_component_areas(masks)[0].diag().tolist() == [5] * 5
    assert connected_component_areas(masks)[1].unique().tolist() == [25]
    assert connected_component_areas(masks.logical_not())[1].unique().tolist() == [0]
    assert connected_component_areas(masks[:0]).shape == (0, 5, 5)


# Masks.


def test_post_process_masks_equals_native(processor, native):
    masks = torch.randn(2, 3, 2, 16, 16)
    sizes = [(40, 56), (31, 17)]
    for settings in (
        {},
        {"binarize": False},
        {"mask_threshold": 0.7},
        {"apply_non_overlapping_constraints": True},
        {"apply_non_overlapping_constraints": True, "binarize": False},
    ):
        expected = native.post_process_masks(masks.clone(), sizes, **settings)
        for given in (masks, list(masks), masks.numpy(), list(masks.numpy())):
            for given_sizes in (sizes, torch.tensor(sizes), np.array(sizes)):
                result = processor.post_process_masks(given, given_sizes, **settings)
                assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


def test_post_process_masks_of_no_object_are_none(processor):
    (masks,) = processor.post_process_masks(
        torch.zeros(1, 0, 3, 16, 16), [(40, 56)], apply_non_overlapping_constraints=True
    )
    assert masks.shape == (0, 3, 40, 56) and masks.dtype == torch.bool


def test_post_process_masks_leaves_inputs_unchanged(processor):
    masks = [np.random.randn(1, 1, 16, 16).astype(np.float32)]
    logits, before = masks[0], masks[0].copy()
    processor.post_process_masks(masks, [(40, 56)], max_hole_area=20, max_sprinkle_area=20)
    assert masks[0] is logits and (logits == before).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_post_process_masks_keeps_half_precision(processor, native, dtype):
    masks = torch.randn(1, 1, 1, 16, 16).to(dtype)
    (logits,) = processor.post_process_masks(masks, [(40, 56)], binarize=False)
    (in_float,) = processor.post_process_masks(masks.float(), [(40, 56)], binarize=False)
    assert logits.dtype == dtype == native.post_process_masks(masks, [(40, 56)], binarize=False)[0].dtype
    assert torch.equal(logits, in_float.to(dtype))
    assert torch.equal(processor.post_process_masks(masks, [(40, 56)])[0], in_float > 0)


@pytest.mark.parametrize("masks", [[[[1.0, 2.0]]], [None], "masks", None, 3, torch.tensor(1.0), [np.zeros(3, object)]])
def test_post_process_masks_rejects_what_is_no_tensor(processor, masks):
    with pytest.raises(TypeError, match=r"masks.* must .*(tensor|floating-point logits)"):
        processor.post_process_masks(masks, [(40, 56), (1, 1), (2, 2)])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"mask_threshold": "0"}, TypeError, "mask_threshold must be a number, got '0'"),
        ({"mask_threshold": float("nan")}, ValueError, "mask_threshold must be finite, got nan"),
        ({"binarize": "no"}, TypeError, "binarize must be True or False, got 'no'"),
        ({"max_hole_area": -1}, ValueError, "max_hole_area must be at least 0, got -1"),
        ({"max_sprinkle_area": [3]}, TypeError, "max_sprinkle_area must be a number"),
        ({"max_sprinkle_area": torch.ones(2)}, TypeError, "max_sprinkle_area must be a number"),
        ({"max_hole_area": torch.ones(1, device="meta")}, TypeError, "max_hole_area must be a plain tensor"),
        (
            {"apply_non_overlapping_constraints": 2},
            TypeError,
            "constraints must be True or False, got 2",
        ),
    ],
)
def test_post_process_masks_rejects_settings(processor, settings, error, message):
    with pytest.raises(error, match=message):
        processor.post_process_masks(torch.zeros(1, 1, 1, 4, 4), [(40, 56)], **settings)


def test_post_process_masks_accepts_no_objects(processor):
    assert processor.post_process_masks(torch.zeros(1, 0, 3, 16, 16), [(40, 56)])[0].shape == (0, 3, 40, 56)


def disc_with_hole_and_sprinkle():
    logits = torch.full((1, 1, 1, 64, 64), -5.0)
    logits[..., 10:40, 10:40] = 5.0
    logits[..., 20:23, 20:23] = -5.0  # a hole of 9
    logits[..., 50:52, 50:52] = 5.0  # a sprinkle of 4
    return logits


@pytest.mark.parametrize(("area", "filled"), [(8, False), (9, True)])
def test_post_process_masks_fills_holes(processor, area, filled):
    (mask,) = processor.post_process_masks(disc_with_hole_and_sprinkle(), [(64, 64)], max_hole_area=area)
    assert bool(mask[..., 20:23, 20:23].all()) is filled
    assert mask[..., 50:52, 50:52].all() and not mask[..., 0:9, :].any()


@pytest.mark.parametrize(("area", "removed"), [(3, False), (4, True)])
def test_post_process_masks_removes_sprinkles(processor, area, removed):
    (mask,) = processor.post_process_masks(disc_with_hole_and_sprinkle(), [(64, 64)], max_sprinkle_area=area)
    assert bool(mask[..., 50:52, 50:52].any()) is not removed
    assert not mask[..., 20:23, 20:23].any() and mask[..., 30, 30].all()


def test_repair_masks_moves_only_small_components_to_the_original_logits():
    logits = disc_with_hole_and_sprinkle()
    repaired = repair_masks(logits, mask_threshold=1.0, max_hole_area=9, max_sprinkle_area=4)
    assert (repaired[..., 20:23, 20:23] == 11.0).all() and (repaired[..., 50:52, 50:52] == -9.0).all()
    assert int((repaired != logits).sum()) == 13


@pytest.mark.parametrize(
    ("masks", "sizes", "error", "message"),
    [
        (torch.zeros(2, 1, 1, 4, 4), [(8, 8)], ValueError, "equal lengths, got 2 and 1"),
        (torch.zeros(1, 1, 4, 4), [(8, 8)], ValueError, r"\(objects, masks, height, width\), got \(1, 4, 4\)"),
        (torch.zeros(1, 1, 1, 4, 4, dtype=torch.bool), [(8, 8)], TypeError, "floating-point logits"),
        (["mask"], [(8, 8)], TypeError, r"masks\[0\] must be a tensor or an array"),
        (torch.zeros(1, 1, 1, 4, 4), [(8, 0)], ValueError, "whole numbers of pixels"),
        (torch.zeros(1, 1, 1, 4, 4), (8, 8), ValueError, r"shape \(batch_size, 2\)"),
    ],
)
def test_post_process_masks_rejects_input(processor, masks, sizes, error, message):
    with pytest.raises(error, match=message):
        processor.post_process_masks(masks, sizes)


# Mask generation.


def test_generate_crop_boxes_equals_native_on_a_square_picture(processor, native):
    picture = Image.fromarray(rgb(48, 48))
    ours = processor.generate_crop_boxes(picture, 64, points_per_crop=5)
    theirs = native.generate_crop_boxes(picture, 64, points_per_crop=5)
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[3], theirs[3])
    torch.testing.assert_close(ours[1], theirs[1])
    assert torch.equal(ours[2][0], theirs[2][0])


@pytest.mark.parametrize("target_size", [64, (64, 96), {"height": 64, "width": 96}])
@pytest.mark.parametrize("picture_size", [(90, 30), (30, 90)])
def test_generate_crop_boxes_covers_the_model_input(target_size, picture_size):
    processor = EdgeTamImageProcessor(size={"height": 32, "width": 48})
    boxes, points, crops, labels = processor.generate_crop_boxes(
        rgb(*picture_size), target_size, crop_n_layers=1, points_per_crop=4
    )
    assert boxes.shape == (5, 4) and points.shape == (1, 16, 5, 2) and labels.shape == (1, 16, 5)
    torch.testing.assert_close(points[0].amin(0), torch.tensor([[12.0, 8.0]]).expand(5, 2))
    torch.testing.assert_close(points[0].amax(0), torch.tensor([[84.0, 56.0]]).expand(5, 2))
    assert [tuple(c.shape[-2:]) for c in crops] == [(b[3] - b[1], b[2] - b[0]) for b in boxes.int().tolist()]
    covered = torch.zeros(picture_size, dtype=torch.bool)
    for left, top, right, bottom in boxes[1:].int().tolist():
        covered[top:bottom, left:right] = True
    assert covered.all()


def test_generate_crop_boxes_repeats_points_of_coarser_grids(processor):
    arguments = {"crop_n_layers": 1, "points_per_crop": 4, "crop_n_points_downscale_factor": 2}
    _, points, _, _ = processor.generate_crop_boxes(rgb(), 64, **arguments)
    assert points.shape == (1, 16, 5, 2)
    assert [len(points[0, :, i].unique(dim=0)) for i in range(5)] == [16, 4, 4, 4, 4]


def test_generate_crop_boxes_accepts_a_tiny_picture(processor):
    boxes, _, crops, _ = processor.generate_crop_boxes(rgb(1, 1), 64, crop_n_layers=2)
    assert len(boxes) == len(crops) and all(crop.numel() for crop in crops)


def test_generate_crop_boxes_rejects_lists(processor):
    with pytest.raises(ValueError, match="one picture, got a list of 2"):
        processor.generate_crop_boxes([rgb(), rgb()], 64)


def test_generate_crop_boxes_rejects_no_points(processor):
    with pytest.raises(ValueError, match="points_per_crop must be between 1 and 4096"):
        processor.generate_crop_boxes(rgb(), 64, points_per_crop=0)


def blocks():
    logits = torch.full((3, 1, 60, 50), -8.0)
    logits[0, 0, 5:30, 5:30] = 8.0
    logits[1, 0, 25:45, 25:40] = 8.0
    logits[2, 0, 25:45, 25:40] = 0.1  # unstable
    return logits


def test_filter_masks_equals_native_on_the_whole_picture(processor, native):
    scores = torch.tensor([[0.95], [0.9], [0.99]])
    ours = processor.filter_masks(blocks(), scores, (60, 50), [0, 0, 50, 60])
    theirs = native.filter_masks(blocks(), scores, (60, 50), [0, 0, 50, 60])
    assert ours[0] == theirs[0] and len(ours[0]) == 2
    assert torch.equal(ours[1], theirs[1]) and torch.equal(ours[2], theirs[2])


def test_filter_masks_gives_boxes_in_the_picture(processor):
    scores = torch.full((3, 1), 0.95)
    rles, _, boxes = processor.filter_masks(blocks(), scores, (200, 200), torch.tensor([100.0, 80.0, 150.0, 140.0]))
    assert boxes.tolist() == [] and rles == []  # 20 pixels from the crop's edge: cut off by it
    logits = torch.full((1, 1, 100, 100), -8.0)
    logits[0, 0, 40:60, 30:70] = 8.0
    rles, kept, boxes = processor.filter_masks(logits, scores[:1], (300, 200), [50, 100, 150, 200])
    assert boxes.tolist() == [[80, 140, 119, 159]] and kept.tolist() == pytest.approx([0.95])
    masks, _, _, _ = processor.post_process_for_mask_generation(rles, kept, boxes, 0.7)
    assert masks_to_boxes(masks[0][None]).tolist() == boxes.tolist() and masks[0].shape == (300, 200)


def test_filter_masks_accepts_no_masks(processor):
    rles, scores, boxes = processor.filter_masks(blocks(), torch.zeros(3, 1), (60, 50), [0, 0, 50, 60])
    assert rles == [] and scores.shape == (0,) and boxes.shape == (0, 4)


def test_filter_masks_keeps_infinite_logits(processor):
    logits = torch.where(blocks() > 0, torch.inf, -torch.inf)
    rles, _, boxes = processor.filter_masks(logits, torch.ones(3, 1), (60, 50), [0, 0, 50, 60])
    assert rles == processor.filter_masks(logits.clamp(-9, 9), torch.ones(3, 1), (60, 50), [0, 0, 50, 60])[0]
    assert boxes[0].tolist() == [5, 5, 29, 29]


@pytest.mark.parametrize("box", [[0, 0, 40, 60], [10, 0, 60, 60], [-1, 0, 49, 60]])
def test_filter_masks_rejects_a_crop_outside_the_picture_or_of_another_size(processor, box):
    with pytest.raises(ValueError, match=r"cropped_box_image must lie in the picture of size \(60, 50\)"):
        processor.filter_masks(blocks(), torch.ones(3, 1), (60, 50), box)


def test_filter_masks_rejects_other_number_of_scores(processor):
    with pytest.raises(ValueError, match=r"iou_scores must have shape \(3, 1\), .* got \(2, 1\)"):
        processor.filter_masks(blocks(), torch.zeros(2, 1), (60, 50), [0, 0, 50, 60])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_filter_masks_gives_scores_that_suppression_takes_in_half_precision(processor, dtype):
    masks, scores, boxes = processor.filter_masks(
        blocks().to(dtype), torch.ones(3, 1, dtype=dtype), (60, 50), [0, 0, 50, 60], stability_score_thresh=0.0
    )
    assert scores.dtype == torch.float32 and len(masks) > 0
    kept, *_ = processor.post_process_for_mask_generation(masks, scores, boxes, 0.7)
    assert len(kept) > 0


def test_masks_to_rle_encodes_columns():
    masks = torch.zeros(3, 2, 3, dtype=torch.bool)
    masks[1] = True
    masks[2, 0, 0] = masks[2, 1, 2] = True
    assert [rle["counts"] for rle in masks_to_rle(masks)] == [[6], [0, 6], [0, 1, 4, 1]]
    assert masks_to_rle(masks)[0]["size"] == [2, 3]


def test_masks_to_boxes_of_empty_mask_is_zero():
    masks = torch.zeros(2, 6, 7, dtype=torch.bool)
    masks[1, 2, 3] = True
    assert masks_to_boxes(masks).tolist() == [[0, 0, 0, 0], [3, 2, 3, 2]]
