"""Pictures with masks, as clips of one frame: COCO, SA-1B and pictures of indices."""

import json
import re

import numpy as np
import pytest
from training_sources import (
    HEIGHT,
    WIDTH,
    assert_same_clip,
    compressed,
    frame_at,
    mask_at,
    polygon,
    run_lengths,
    write,
    write_coco,
    write_indices,
    write_sa1b,
)

from edgetam_hf.training import coco_masks
from edgetam_hf.training.masklet_videos import open_masklet_clips
from edgetam_hf.training.pictures import CocoPictures, IndexPictures, Sa1bPictures


@pytest.mark.parametrize("encode", [None, run_lengths, compressed])
def test_coco_masks_are_the_same_in_every_encoding(encode, tmp_path):
    source = CocoPictures(*write_coco(tmp_path, encode))
    assert len(source) == 2  # not the one without objects
    clip = source.draw(0, 1, 10, np.random.default_rng(0))
    np.testing.assert_array_equal(clip.frames, [frame_at(3)])
    np.testing.assert_array_equal(clip.masks, [[mask_at(3, 1), mask_at(3, 2)]])  # not the crowd
    np.testing.assert_array_equal(source.draw(1, 1, 10, np.random.default_rng(0)).masks, [[mask_at(4, 2)]])


def test_coco_unites_the_polygons_of_an_object(tmp_path):
    both = [{"id": 0, "image_id": 0, "segmentation": polygon(3, 1) + polygon(3, 2)}]
    clip = CocoPictures(*write_coco(tmp_path, annotations=both)).draw(0, 1, 10, np.random.default_rng(0))
    np.testing.assert_array_equal(clip.masks[0, 0], mask_at(3, 1) | mask_at(3, 2))


def test_sa1b_masks_are_those_that_do_not_fill_the_picture(tmp_path):
    masks = [mask_at(3, 1), np.ones((HEIGHT, WIDTH), bool), mask_at(3, 2), np.zeros((HEIGHT, WIDTH), bool)]
    source = Sa1bPictures(write_sa1b(tmp_path, masks))
    clip = source.draw(0, 1, 10, np.random.default_rng(0))
    np.testing.assert_array_equal(clip.masks, [[mask_at(3, 1), mask_at(3, 2)]])
    assert np.abs(clip.frames[0].astype(int) - frame_at(3)).mean() < 3


def test_index_pictures_give_the_clip_of_coco(tmp_path):
    sources = IndexPictures(write_indices(tmp_path)), CocoPictures(*write_coco(tmp_path / "coco"))
    for max_objects in (1, 2):
        clips = [source.draw(0, 1, max_objects, np.random.default_rng(5)) for source in sources]
        assert_same_clip(*clips)
        assert clips[0].masks.shape[1] == max_objects


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[0, 0, 9, 9]],
        [[0, 0, 9, 9, 0, "9"]],
        [[0, 0, 9, 9, 0, float("nan")]],
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        {"size": [9, 9], "counts": [81]},
        {"size": [HEIGHT, WIDTH], "counts": [5, 6]},
        {"size": [HEIGHT, WIDTH], "counts": [-5, HEIGHT * WIDTH + 5]},
        {"counts": "abc"},
    ],
)
def test_coco_rejects_segmentations_that_are_none(segmentation, tmp_path):
    annotations = [{"id": 17, "image_id": 0, "segmentation": segmentation}]
    with pytest.raises(
        ValueError,
        match=r"instances\.json: annotation 17 (must have as segm|has run lengths)",
    ):
        CocoPictures(*write_coco(tmp_path, annotations=annotations))


def test_coco_rejects_damaged_run_lengths(tmp_path):
    annotations = [{"id": 0, "image_id": 0, "segmentation": {"size": [HEIGHT, WIDTH], "counts": "abc"}}]
    with pytest.raises(ValueError, match=r"instances\.json: annotation 0 has run lengths that are damaged"):
        CocoPictures(*write_coco(tmp_path, annotations=annotations))


def test_coco_rejects_json_that_does_not_fit(tmp_path):
    path, images = write_coco(tmp_path)
    text = path.read_text()
    data = json.loads(text)
    cases = [
        (text[:-20], "is no JSON, or it is cut off"),
        ("[]", "must hold an object {…} of JSON, got a list"),
        ("[" * 100_000, "nested too deeply"),
        (json.dumps({"images": data["images"]}), 'found no "annotations"'),
        (json.dumps({**data, "annotations": []}), "has no object, crowds left out"),
        (json.dumps({**data, "images": []}), 'is of image 0, which "images" lacks'),
        (json.dumps({**data, "images": [{"id": 0, "file_name": "3.png"}]}), 'no usable "height"'),
        (json.dumps({**data, "images": [{**data["images"][0], "height": 0}]}), "image 0 has no pixels"),
        (json.dumps({**data, "images": [*data["images"], data["images"][1]]}), "has several images of the id 1"),
        (json.dumps({**data, "annotations": [{"id": 5, "image_id": [0]}]}), r"annotation 5 is of image \[0\]"),
    ]
    for content, message in cases:
        path.write_text(content)
        with pytest.raises(ValueError, match=f"instances.json.*{message}"):
            CocoPictures(path, images)
    with pytest.raises(ValueError, match=r"none\.json cannot be read: No such file"):
        CocoPictures(tmp_path / "none.json", images)


def test_coco_rejects_pictures_that_are_missing_or_of_another_size(tmp_path):
    path, images = write_coco(tmp_path)
    write(np.zeros((9, 9, 3), np.uint8), images / "3.png")
    with pytest.raises(ValueError, match=r"3\.png has 9x9 pixels, its masks in .*instances\.json have 80x48"):
        CocoPictures(path, images).draw(0, 1, 1, np.random.default_rng(0))
    (images / "3.png").unlink()
    message = f"instances.json names a picture that is missing: looked for {re.escape(str(images / '3.png'))}"
    with pytest.raises(ValueError, match=message):
        CocoPictures(path, images)


def test_sa1b_rejects_what_does_not_fit(tmp_path):
    root = write_sa1b(tmp_path / "sa", [mask_at(3, 1)])
    text = (root / "sa_7.json").read_text()
    cases = [
        (text[:-20], r"sa_7\.json is no JSON, or it is cut off"),
        ("{}", r'sa_7\.json must have "image" with "height" and "width", and a list "annotations"'),
        (
            text.replace('"height": 48', '"height": 47'),
            r"sa_7\.jpg has 80x48 pixels, its masks in .*sa_7\.json have 80x47",
        ),
        (text.replace('"size": [48, 80]', '"size": [9, 9]'), r"sa_7\.json: annotation 0 must have as segmentation"),
    ]
    for content, message in cases:
        (root / "sa_7.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            Sa1bPictures(root).draw(0, 1, 1, np.random.default_rng(0))
    (root / "sa_7.json").unlink()
    with pytest.raises(ValueError, match=r"has no sa_7\.json: every picture needs one with its masks"):
        Sa1bPictures(root)
    with pytest.raises(
        ValueError, match=r"not the layout of SA-1B: looked for sa_\*\.jpg and sa_\*\.json, found neither"
    ):
        Sa1bPictures(tmp_path)


def test_index_pictures_reject_clips_and_pictures_without_masks(tmp_path):
    root = write_indices(tmp_path)
    with pytest.raises(ValueError, match="a picture is a clip of one frame, got num_frames=2"):
        IndexPictures(root).draw(0, 2, 1, np.random.default_rng(0))
    write(frame_at(4), root / "images/4.png")
    with pytest.raises(ValueError, match="has no picture 4: every picture needs one with its masks"):
        IndexPictures(root)


def test_pictures_with_run_lengths_need_pycocotools(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_masks, "coco_mask", None)
    makers = (CocoPictures, "a.json", tmp_path), (Sa1bPictures, tmp_path), (open_masklet_clips, tmp_path)
    for make, *arguments in makers:
        with pytest.raises(ImportError, match="pip install pycocotools"):
            make(*arguments)
