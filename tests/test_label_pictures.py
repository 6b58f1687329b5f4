"""Labelling of pictures: what prompts find, everything, and items that cannot be labelled."""

import hashlib
import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_models
import torch
from labelling import assert_fits, assert_same_rows, label, labeller_of, masks_of
from PIL import Image
from simulated_gpu import on_gpu

import edgetam_hf
from edgetam_hf import (
    EdgeTamImageProcessor,
    EdgeTamMaskGenerationPipeline,
    EdgeTamModel,
    nano_checkpoint,
    prompted_pictures,
)
from edgetam_hf.formats.run_lengths import compress
from edgetam_hf.found_objects import CutMask
from edgetam_hf.label.checkpoint_hash import checkpoint_hash
from edgetam_hf.label.fitted_prompts import fitted_prompts
from edgetam_hf.label.halves import label_in_halves
from edgetam_hf.label.items import PICTURE, Item, Prompt
from edgetam_hf.label.label_settings import LabelSettings
from edgetam_hf.label.labeller import PoisonError
from edgetam_hf.label.lazy_model import LazyModel
from edgetam_hf.loading import ModelChoice

SAMPLES = Path(edgetam_hf.__file__).with_name("samples")
LOOSE = {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.1, "stability_score_offset": 0.02, "crops_nms_thresh": 1.0}
CROPS = {"crops_n_layers": 1, "points_per_crop": 4, "crop_n_points_downscale_factor": 2}
SIZES = [(90, 120), (200, 70), (128, 128), (33, 250)]
CLICK = Prompt(1, points=((25, 30, 1),))


@pytest.fixture(scope="module")
def photos():
    """Pictures uint8 (H, W, 3) of different sizes."""
    photo = Image.open(SAMPLES / "cat.jpg")
    return [np.array(photo.resize((width, height))) for height, width in SIZES]


def item_of(pixels, name="a.png", prompts=(CLICK,), **settings):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **settings)
    return Item(name, data=file.getvalue(), prompts=tuple(prompts))


def prompts_in(pixels):
    """Prompts of every kind and mixture, in order of their objects."""
    height, width = pixels.shape[:2]
    mask = np.zeros((height, width), bool)
    mask[5 : height // 2, 10 : width // 2] = True
    box = (width * 0.25, height * 0.25, width * 0.7, height * 0.8)
    return (
        Prompt(1, points=((width * 0.3, height * 0.6, 1), (width * 0.9, height * 0.9, 0)), category="fur"),
        Prompt(2, box=box, category="head", score=0.9),
        Prompt(5, box=box, points=((width * 0.5, height * 0.5, 1),)),
        Prompt(6, mask=compress(CutMask.of(mask))),
        Prompt(7, points=((width, height, 1),)),
    )


def by_hand(model, pixels, prompts, is_multimask):
    """(mask, score) of the best mask of each object, by model and processor alone."""
    processor, best = small_models.make_processor(128), {}
    for prompt in prompts:
        points = [[[*point[:2]] for point in prompt.points or ()]]
        given = {"input_points": [points], "input_labels": [[[point[2] for point in prompt.points or ()]]]}
        given = given if prompt.points else {}
        if prompt.box is not None:
            given["input_boxes"] = [[prompt.box]]
        inputs = processor(images=pixels, return_tensors="pt", **given)
        with torch.no_grad():
            output = model(multimask_output=is_multimask, **inputs)
        masks = processor.post_process_masks(output.pred_masks, inputs["original_sizes"])[0][0]
        idx = output.iou_scores[0, 0].argmax()
        best[prompt.object] = masks[idx].numpy(), output.iou_scores[0, 0, idx].item()
    return best


@pytest.mark.parametrize("is_multimask", [False, True])
def test_picture_labeller_finds_what_model_and_processor_find(is_multimask, model, folder, photos):
    labeller = labeller_of(folder, is_multimask=is_multimask)
    items = [item_of(pixels, f"{idx}.png", prompts_in(pixels)) for idx, pixels in enumerate(photos)]
    for row, pixels in zip(label(labeller, items), photos, strict=True):
        prompts = [prompt for prompt in prompts_in(pixels) if prompt.mask is None]
        expected = by_hand(model, pixels, prompts, is_multimask)
        masks, rows = masks_of(row), {mask.object: mask for mask in row.masks}
        assert (row.height, row.width, row.num_frames) == (*pixels.shape[:2], 1)
        for number, (mask, score) in expected.items():
            if mask.any():
                np.testing.assert_array_equal(masks[number, 0], mask)
                assert rows[number].score == pytest.approx(score, abs=1e-5)
                assert_fits(rows[number], mask, row.height, row.width)
            assert (number in rows) == mask.any()
        assert {number: mask.category for number, mask in rows.items()}.items() <= {
            **dict.fromkeys(range(8)),
            1: "fur",
            2: "head",
        }.items()


def test_picture_labeller_refines_masks_as_the_command_does(model, folder, photos):
    pixels, processor = photos[0], small_models.make_processor(128)
    (prompt,) = (prompt for prompt in prompts_in(pixels) if prompt.mask)
    (row,) = label(labeller_of(folder), [item_of(pixels, prompts=[prompt])])
    embeddings = model.get_image_embeddings(processor(images=pixels, return_tensors="pt")["pixel_values"])
    mask = np.zeros(pixels.shape[:2], bool)
    mask[5:45, 10:60] = True
    finder = prompted_pictures.PromptedFinder(model, processor, False)
    (found,) = finder.find(embeddings, [prompted_pictures.PicturePrompt(mask=mask)], mask.shape)
    (masked,) = masks_of(row).values()
    np.testing.assert_array_equal(masked, found.mask.full())


@pytest.mark.parametrize("what", ["prompts", "everything"])
def test_labellers_find_the_same_in_a_batch_and_alone(what, photos):
    crops = {"points_per_crop": 6, "crops_n_layers": 1, "crop_n_points_downscale_factor": 2}
    labeller = labeller_of("nano", what=what, mask_generation=crops if what == "everything" else {})
    coins = np.array(Image.open(SAMPLES / "coins.jpg"))
    items = [item_of(pixels, f"{idx}.png", prompts_in(pixels)) for idx, pixels in enumerate([*photos[:2], coins])]
    alone = [row for item in items for row in label(labeller, [item])]
    assert_same_rows(label(labeller, items[::-1]), alone[::-1])
    assert sum(len(row.masks) for row in alone) > 10
    for mask, pixels in zip(alone[-1].masks, masks_of(alone[-1]).values(), strict=True):
        assert_fits(mask, pixels, *coins.shape[:2])


def test_picture_labeller_decodes_objects_in_parts(folder, photos, monkeypatch):
    items = [item_of(photos[0], prompts=prompts_in(photos[0]))]
    (whole,) = label(labeller_of(folder), items)
    monkeypatch.setattr(prompted_pictures, "OBJECTS_AT_ONCE", 2)
    monkeypatch.setattr(EdgeTamModel, "prompts_at_once", lambda *_: 2)
    assert_same_rows(label(labeller_of(folder), items), [whole])


@pytest.mark.parametrize("image_size", [None, 160])
@pytest.mark.parametrize("resize_in_float", [False, True])
def test_lazy_model_encodes_exactly_what_the_processor_makes(image_size, resize_in_float, folder, photos):
    lazy = LazyModel(ModelChoice(str(folder), image_size=image_size))
    lazy.image_processor.resize_in_float = resize_in_float
    seen = []
    model, _ = lazy.for_pictures
    encode, model.get_image_embeddings = (
        model.get_image_embeddings,
        lambda pixels: seen.append(pixels) or encode(pixels),
    )
    shrunk = [lazy.shrink(pixels) for pixels in photos]
    lazy.encode(shrunk)
    expected = lazy.image_processor(photos, return_tensors="pt")["pixel_values"]
    assert torch.equal(seen[0], expected)
    assert {one.dtype for one in shrunk} == {np.dtype(np.float32 if resize_in_float else np.uint8)}


@pytest.mark.parametrize("settings", [LOOSE, LOOSE | CROPS, LOOSE | {"min_mask_region_area": 30}, {}])
def test_everything_labeller_finds_what_the_pipeline_finds(settings, folder, photos):
    labeller = labeller_of(folder, what="everything", mask_generation={"points_per_crop": 4, **settings})
    rows = [label(labeller, [item_of(pixels, prompts=())])[0] for pixels in photos]  # alone, so equal to the last bit
    model, _ = labeller.labellers[PICTURE].model.for_pictures
    loaded = {"model": model, "image_processor": EdgeTamImageProcessor.from_pretrained(folder)}
    pipeline = EdgeTamMaskGenerationPipeline(**loaded)
    asked = {"output_stability_scores": True, "output_points": True, "output_rle_mask": "compressed"}
    for row, pixels in zip(rows, photos, strict=True):
        expected = pipeline(Image.fromarray(pixels), **asked, **{"points_per_crop": 4, **settings})
        columns = (expected[name].tolist() for name in ("scores", "stability_scores", "points"))
        masks = zip((mask.sum().item() for mask in expected["masks"]), expected["rle_mask"], *columns)
        masks = sorted((mask for mask in masks if mask[0]), key=lambda mask: -mask[0])
        found = [(mask.area, mask.counts, mask.score, mask.stability_score, mask.point) for mask in row.masks]
        assert found == [(area, rle["counts"], *others) for area, rle, *others in masks]
        assert [mask.object for mask in row.masks] == list(range(1, len(masks) + 1))
    assert any(row.masks for row in rows) or not settings


def test_labellers_are_pickled_without_the_model_and_prepare_without_it(folder, photos, monkeypatch):
    labeller = labeller_of(folder)
    monkeypatch.setattr(EdgeTamModel, "from_pretrained", None)
    prepared = labeller.prepare(item_of(photos[0]))
    assert len(pickle.dumps(prepared)) < 128 * 128 * 3 + 2000  # the bytes of the file are gone, too
    monkeypatch.undo()
    labeller.label([prepared])
    assert len(pickle.dumps(labeller)) < 3000
    everything = labeller_of(folder, what="everything", mask_generation=LOOSE | CROPS)
    everything.label([everything.prepare(item_of(photos[0]))])
    assert len(pickle.dumps(everything)) < 3000


def test_picture_labeller_turns_pictures_as_their_exif_data_say(folder, photos):
    pixels, exif = photos[1], Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    upright = item_of(np.rot90(pixels, -1), prompts=[Prompt(1, points=((150, 20, 1),))])
    turned = item_of(pixels, prompts=upright.prompts, exif=exif)
    one, other = label(labeller_of(folder), [upright, turned])
    assert one.masks == other.masks and (one.height, one.width) == (70, 200)


def test_rows_say_where_masks_come_from(folder, photos):
    labeller = labeller_of(folder, image_size=160, is_multimask=True)
    (row,) = label(labeller, [item_of(photos[0], "folder/a.png", ())])
    weights = (folder / "model.safetensors").read_bytes()
    assert row.checkpoint == hashlib.sha256(weights).hexdigest() == checkpoint_hash(str(folder))
    expected = {"what": "prompts", "is_multimask": True, "mask_generation": {}, "in_clips": {}}
    assert json.loads(row.settings) == {**expected, "dtype": None, "image_size": 160, "runtime": None}
    assert row.masks == [] and row.item == Item("folder/a.png", prompts=())
    assert labeller.provenance == (row.checkpoint, row.settings)


def test_settings_of_everything_are_those_of_the_checkpoint_unless_given():
    labeller = labeller_of("nano", what="everything", mask_generation={"points_per_crop": 8, "points_per_batch": 16})
    settings = json.loads(labeller.provenance.settings)
    search = settings["mask_generation"]
    of_nano = json.loads((nano_checkpoint() / "preprocessor_config.json").read_text())["mask_generation"]
    assert search.items() >= (of_nano | {"points_per_crop": 8}).items()
    assert "points_per_batch" not in search  # which changes no result
    assert labeller.labellers[PICTURE].options.points_per_batch == 16
    assert settings["in_clips"]["every"] == 5 and settings["in_clips"]["crops_n_layers"] == 0


def test_checkpoint_hash_tells_weights_apart(folder, model, tmp_path):
    assert checkpoint_hash("nano") == checkpoint_hash(str(nano_checkpoint())) != checkpoint_hash(str(folder))
    model.save_pretrained(tmp_path / "parts", max_shard_size="500KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    in_parts = checkpoint_hash(str(tmp_path / "parts"))
    assert len(in_parts) == 64 and in_parts == checkpoint_hash(str(tmp_path / "parts"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"what": "cats"}, "must be 'everything' or 'prompts', got 'cats'"),
        ({"mask_generation": {"points_per_crop": 3}}, "points_per_crop say how everything is searched"),
        ({"what": "everything", "is_multimask": True}, "leave multimask out"),
        (
            {"what": "everything", "mask_generation": {"points_per_crop": 0}},
            "`points_per_crop` must be between 1 and 4096",
        ),
        ({"what": "everything", "mask_generation": {"output_areas": True}}, "output_areas do not say how"),
        ({"what": "everything", "mask_generation": {"cats": True}}, "no option cats"),
        ({"in_clips": {"every": 3}}, "every say how everything is searched"),
        ({"what": "everything", "in_clips": {"every": 0}}, "every must be at least 1"),
        ({"what": "everything", "in_clips": {"cats": 3}}, "no option cats"),
    ],
)
def test_labellers_reject_wrong_settings(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        labeller_of("nano", **settings)


def test_labellers_reject_checkpoints_that_are_not_there(tmp_path):
    with pytest.raises(OSError, match="is no checkpoint"):
        labeller_of(tmp_path)
    LabelSettings("everything", mask_generation={"cats": 1})  # which only the labeller can know


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Prompt(1, box=(-5, 10, 20, 300)), Prompt(1, box=(0, 10, 20, 90))),
        (Prompt(1, box=(119, 89, 500, 500)), Prompt(1, box=(119, 89, 120, 90))),
        (Prompt(1, points=((0, 0, 1), (120, 90, 0))), Prompt(1, points=((0, 0, 1), (120, 90, 0)))),
    ],
)
def test_fitted_prompts_end_at_the_edges(given, expected):
    assert fitted_prompts((given,), (90, 120)) == [expected]


def test_fitted_prompts_join_what_is_said_of_an_object():
    points, box = ((5, 6, 1),), (1, 2, 30, 40)
    given = (Prompt(2, points=points), Prompt(1, box=box), Prompt(2, box=box, points=points, category="cat"))
    both = Prompt(2, box=box, points=points + points, category="cat")
    assert fitted_prompts(given, (90, 120)) == [both, Prompt(1, box=box)]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(3, box=(120, 0, 130, 10)), "box 120,0,130,10 of object 3 lies outside: the picture is 120 wide and 90"),
        (Prompt(3, box=(-9, 0, 0, 10)), "lies outside"),
        (Prompt(3, box=(9, 5, 3, 10)), "must have x_min <= x_max"),
        (Prompt(3, box=(9, float("nan"), 30, 10)), "all finite"),
        (Prompt(3, points=((5, 5, 1), (121, 5, 1))), "the point 121,5 of object 3 lies outside"),
        (Prompt(3, points=((5, float("nan"), 1),)), "lies outside"),
        (Prompt(3, points=((5, 5, 2),)), "must have label 1, on the object, or 0, off it, got 2"),
        (Prompt(3, mask={"size": [9, 8], "counts": "X"}), "mask of object 3 is 8 wide and 9 high, but the picture"),
        (Prompt(3, mask={"size": [90, 120], "counts": "X"}), "damaged"),
        (Prompt(3, mask=compress(CutMask.of(np.zeros((90, 120), bool)))), "the mask of object 3 is empty"),
        (Prompt(3, frame=1, box=(1, 1, 2, 2)), "object 3 has a prompt on frame 1, but there is only frame 0"),
        (Prompt(3), "without a box, points or a mask"),
        (Prompt(1, box=(1, 1, 2, 2)), "object 1 has two of box"),
    ],
)
def test_picture_labeller_sets_aside_prompts_that_do_not_fit(prompt, message, folder, photos):
    first = Prompt(1, box=(1, 1, 20, 20))
    with pytest.raises(PoisonError, match=message):
        found = label(labeller_of(folder), [item_of(photos[0], prompts=[first, prompt])])
        raise found[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a.png cannot be read, it is not a picture .* empty, 0 bytes"),
        (b"nonsense", "a.png cannot be read, it is not a picture"),
        (None, "a.png has neither an address nor data"),
    ],
)
def test_picture_labeller_sets_aside_files_that_are_none(data, message, folder):
    with pytest.raises(PoisonError, match=message):
        labeller_of(folder).prepare(Item("a.png", data=data))


def test_picture_labeller_sets_aside_files_that_are_cut_off_or_missing_and_bombs(folder, photos, tmp_path, monkeypatch):
    labeller, whole = labeller_of(folder), item_of(photos[0])
    with pytest.raises(PoisonError, match="truncated or damaged"):
        labeller.prepare(replace(whole, data=whole.data[:2000]))
    with pytest.raises(PoisonError, match=r"missing\.png cannot be read"):
        labeller.prepare(Item("missing.png", address=str(tmp_path / "missing.png")))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(PoisonError, match="decompression bomb"):
        labeller.prepare(whole)


def test_labellers_reject_other_kinds(folder):
    with pytest.raises(PoisonError, match="must be one of picture, clip, got song"):
        labeller_of(folder).prepare(Item("a.mp3", "song", "a.mp3"))


class Hungry:
    """What finds the negatives of numbers, but of so many only at once, and of 13 never."""

    def __init__(self, error, most):
        self.error, self.most, self.sizes = error, most, []

    def __call__(self, prepared):
        self.sizes.append(len(prepared))
        if len(prepared) > self.most or 13 in prepared:
            raise self.error
        return [-number for number in prepared]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "does not fit into memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "does not fit into memory"),
        (MemoryError(), "does not fit into memory"),
        (ValueError("mask 13 is\nwrong"), "mask 13 is"),
        (KeyError("thirteen"), "KeyError: 'thirteen'"),
        (PoisonError("too unlucky"), "^too unlucky$"),
    ],
)
def test_label_in_halves_loses_only_what_fails_alone(error, reason):
    find = Hungry(error, most=2)
    found = label_in_halves(find, [1, 2, 3, 13, 5, 6, 7])
    assert found[:3] + found[4:] == [-1, -2, -3, -5, -6, -7]
    with pytest.raises(PoisonError, match=reason):
        raise found[3]
    assert "\n" not in str(found[3])
    assert find.sizes == [7, 3, 1, 2, 4, 2, 1, 1, 2] and label_in_halves(find, []) == []


def test_label_in_halves_rejects_a_broken_device():
    with pytest.raises(RuntimeError, match="CUDA error"):
        label_in_halves(Hungry(RuntimeError("CUDA error: an illegal memory access was encountered"), 0), [1, 2])


def test_picture_labeller_halves_batches_that_do_not_fit(folder, photos, monkeypatch):
    labeller = labeller_of(folder)
    items = [item_of(pixels, f"{idx}.png", prompts_in(pixels)) for idx, pixels in enumerate(photos)]
    expected, sizes, encode = label(labeller, items), [], LazyModel.encode

    def hungry(model, shrunk):
        sizes.append(len(shrunk))
        if len(shrunk) > 2:
            raise RuntimeError("out of memory")
        return encode(model, shrunk)

    monkeypatch.setattr(LazyModel, "encode", hungry)
    assert_same_rows(label(labeller, items), expected)
    assert sizes == [4, 2, 2]
    monkeypatch.setattr(LazyModel, "for_pictures", property(lambda model: 1 / 0))
    with pytest.raises(ZeroDivisionError):  # an error of loading costs no item
        labeller.label([labeller.prepare(items[0])])


@pytest.mark.parametrize("what", ["prompts", "everything"])
def test_labellers_find_the_same_on_a_gpu(what, gpu, folder, photos):
    search = LOOSE | CROPS if what == "everything" else {}
    labeller = labeller_of(folder, what=what, mask_generation=search).labellers[PICTURE]
    items = [item_of(pixels, f"{idx}.png", prompts_in(pixels)) for idx, pixels in enumerate(photos[:2])]
    prepared = [labeller.prepare(item) for item in items]
    on_cpu = [labeller.finish(found) for found in labeller.label(prepared)]
    model, processor = labeller.model.for_pictures
    labeller.model.for_pictures = on_gpu(model), processor
    if what == "everything":
        labeller.generator.model, labeller.generator.device = labeller.model.for_pictures[0], torch.device("cuda")
    prepare_input = labeller.model.image_processor

    def prepare_on_cpu(images, **settings):  # torchvision asks for a device that is there
        pixel_values = prepare_input(images=images.cpu(), **settings)["pixel_values"]
        return {"pixel_values": pixel_values.to("cuda")}

    labeller.model.image_processor = prepare_on_cpu
    with gpu:
        found = labeller.label(prepared)
        assert not [one for one in found if isinstance(one, PoisonError)], found
    assert_same_rows([labeller.finish(one) for one in found], on_cpu)
