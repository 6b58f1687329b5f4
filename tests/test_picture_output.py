"""What is written of the objects of a picture: masks that are cut out, COCO, YOLO, pictures of objects."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgetam_hf.formats.picture_output import CocoDataset, OutputPlace, PictureResult, write_result
from edgetam_hf.formats.polygons import joined, rings_of, yolo_text
from edgetam_hf.formats.run_lengths import compress
from edgetam_hf.found_objects import CutMask, FoundObject

coco_mask = pytest.importorskip("pycocotools.mask", reason="run lengths need pycocotools: pip install pycocotools")
pytest.importorskip("skimage", reason="polygons need scikit-image: pip install scikit-image")
ROWS, COLUMNS = np.mgrid[:60, :90]


def disc(x, y, radius):
    return (COLUMNS - x) ** 2 + (ROWS - y) ** 2 < radius**2


MASKS = {
    "plain": disc(30, 30, 20),
    "hole": disc(30, 30, 20) & ~disc(30, 30, 9),
    "parts": disc(20, 20, 10) | disc(60, 40, 15) | disc(60, 5, 4),
    "island": disc(40, 30, 25) & ~disc(40, 30, 15) | disc(40, 30, 6),
    "border": disc(0, 0, 25) | disc(89, 59, 20),
    "all": np.ones((60, 90), bool),
    "pixel": (COLUMNS == 5) & (ROWS == 7),
    "line": ROWS == 59,
}


def filled(ring):
    """Boolean mask (60, 90) of the pixels whose centre lies in a ring (N, 2), by the even-odd rule."""
    inside, x, y = np.zeros((60, 90), bool), COLUMNS + 0.5, ROWS + 0.5
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0)):
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**36 - 1))
def test_cut_mask_keeps_every_mask(height, width, bits):
    mask = np.array([bits >> idx & 1 for idx in range(height * width)], bool).reshape(height, width)
    cut = CutMask.of(mask)
    assert np.array_equal(cut.full(), mask) and cut.area == mask.sum()
    assert sum(cut.run_lengths()["counts"]) == height * width
    expected = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    assert compress(cut) == {"size": [height, width], "counts": expected["counts"].decode()}


def test_cut_mask_keeps_only_its_box():
    cut = CutMask.placed(disc(30, 30, 5), 100, 200, 1000, 2000)
    assert cut.part.shape == (9, 9) and cut.box == [126, 226, 134, 234] and cut.part.base is None
    assert cut.full()[226:235, 126:135].sum() == cut.full().sum() == cut.area
    empty = CutMask.of(np.zeros((4, 5), bool))
    assert empty.box is None and empty.area == 0 and not empty.full().any()
    assert empty.run_lengths() == {"size": [4, 5], "counts": [20]}


@pytest.mark.parametrize("name", MASKS)
def test_yolo_polygon_fills_the_mask(name):
    mask = MASKS[name]
    (line,) = yolo_text([CutMask.of(mask)]).splitlines()
    label, *shares = line.split()
    shares = np.array(shares, float)
    assert label == "0" and shares.min() >= 0 and shares.max() <= 1
    actual = filled(shares.reshape(-1, 2) * (90, 60))
    assert (actual & mask).sum() / (actual | mask).sum() > 0.97


def test_yolo_joins_parts_and_holes_into_one_line_and_leaves_out_empty_masks():
    assert [len(rings_of(CutMask.of(MASKS[name]))) for name in ("plain", "hole", "parts", "island")] == [1, 2, 3, 3]
    text = yolo_text([CutMask.of(MASKS["parts"]), CutMask.of(np.zeros((60, 90), bool)), CutMask.of(MASKS["hole"])])
    assert len(text.splitlines()) == 2 and yolo_text([]) == ""
    ring = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    assert len(joined([ring, ring + 10])) == 4 + 4 + 2  # there and back


@pytest.fixture
def result(tmp_path):
    """Three overlapping objects of a picture, of which one covers another, and an empty one."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    masks = [MASKS["plain"], MASKS["plain"], MASKS["hole"], np.zeros((60, 90), bool)]
    objects = [
        FoundObject(number, CutMask.of(mask), 0.5, f"+{number},9", [(number, 9, 1)], facts={"present": True})
        for number, mask in enumerate(masks, start=1)
    ]
    return PictureResult(tmp_path / "dog.png", pixels, objects)


def test_write_result_writes_each_object_whole(result, tmp_path):
    place = OutputPlace(result.path, tmp_path / "new" / "out" / "dog_segment.png")
    written = write_result(result, place, ["overlay", "index", "masks", "cutouts", "yolo"])
    assert written.pop("hidden") == [1]  # beneath the second one
    assert {kind: str(Path(path).relative_to(tmp_path / "new" / "out")) for kind, path in written.items()} == {
        "overlay": "dog_segment.png",
        "mask": "dog_segment_mask.png",
        "masks": "dog_segment_objects",
        "cutouts": "dog_segment_cutouts",
        "yolo": "labels/dog.txt",
    }
    assert sorted(path.name for path in place.path("masks").iterdir()) == ["1.png", "2.png", "3.png", "4.png"]
    for found in result.objects:
        mask = np.asarray(Image.open(place.path("masks") / f"{found.number}.png").convert("L"))
        assert np.array_equal(mask, found.mask.full() * 255)
    assert sorted(path.name for path in place.path("cutouts").iterdir()) == ["1.png", "2.png", "3.png"]
    cutout = np.asarray(Image.open(place.path("cutouts") / "3.png"))
    assert np.array_equal(cutout[..., :3], result.pixels[11:50, 11:50])
    assert np.array_equal(cutout[..., 3] > 0, MASKS["hole"][11:50, 11:50])


def test_write_result_removes_objects_of_an_earlier_call_and_nothing_else(result, tmp_path):
    place = OutputPlace(result.path, tmp_path / "dog.png")
    write_result(result, place, ["masks"])
    (place.path("masks") / "notes.png").write_text("mine")
    result.objects = result.objects[:2]
    write_result(result, place, ["masks"])
    assert sorted(path.name for path in place.path("masks").iterdir()) == ["1.png", "2.png", "notes.png"]


def test_write_result_writes_a_single_format_to_the_very_path(result, tmp_path):
    place = OutputPlace(result.path, tmp_path / "mine.txt", "yolo")
    assert write_result(result, place, ["yolo"]) == {"yolo": str(tmp_path / "mine.txt")}
    assert len((tmp_path / "mine.txt").read_text().splitlines()) == 3


def test_coco_dataset_is_read_by_pycocotools(result, tmp_path, capsys):
    from pycocotools.coco import COCO

    dataset = CocoDataset()
    dataset.add(result)
    dataset.add(PictureResult(tmp_path / "empty.png", result.pixels, []))
    dataset.write(tmp_path / "new" / "coco.json")
    coco = COCO(str(tmp_path / "new" / "coco.json"))
    assert coco.getImgIds() == [1, 2] and coco.getAnnIds(imgIds=2) == []
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=1))
    assert [annotation["object"] for annotation in annotations] == [1, 2, 3]  # without the empty one
    for annotation, mask in zip(annotations, (MASKS["plain"], MASKS["plain"], MASKS["hole"])):
        assert np.array_equal(coco.annToMask(annotation), mask) and annotation["area"] == mask.sum()
        assert annotation["bbox"] == [11, 11, 39, 39] == coco_mask.toBbox(annotation["segmentation"]).tolist()
        assert (annotation["score"], annotation["predicted_iou"], annotation["present"]) == (0.5, 0.5, True)
        assert annotation["point_coords"] == [[annotation["object"], 9]] and annotation["point_labels"] == [1]
    assert json.loads((tmp_path / "new" / "coco.json").read_text())["categories"] == [{"id": 1, "name": "object"}]
