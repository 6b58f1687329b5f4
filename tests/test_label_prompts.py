"""Boxes, points and masks of files come to the items that they are of; what cannot be is told at once."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from labelling import label, labeller_of
from test_label_sources import PICTURES, items_of, write_files, write_table, write_tar

pa = pytest.importorskip("pyarrow", reason="labelling needs pyarrow: pip install 'edgetam-hf[label]'")

import fsspec  # noqa: E402
from PIL import Image  # noqa: E402

from edgetam_hf.formats.index_pictures import index_picture  # noqa: E402
from edgetam_hf.formats.run_lengths import compress  # noqa: E402
from edgetam_hf.found_objects import CutMask  # noqa: E402
from edgetam_hf.label.items import CLIP, PICTURE, Item, Prompt, table_of  # noqa: E402
from edgetam_hf.label.prompts import PromptedSource, with_boxes, with_prompt_file  # noqa: E402
from edgetam_hf.label.sources import find_source  # noqa: E402

# What a detector found in two of five pictures, by name and in pixels, and its third box.
FOUND = {"a/1.jpg": [[1, 2, 3, 5], [0.5, 0, 4, 2.25]], "x.tif": [[2, 1, 3, 4]]}
EXPECTED = {
    "a/1.jpg": (
        Prompt(1, box=(1, 2, 3, 5), category="7", score=0.5),
        Prompt(2, box=(0.5, 0, 4, 2.25), category="8", score=0.25),
    ),
    "x.tif": (Prompt(1, box=(2, 1, 3, 4), category="7", score=0.125),),
}


@pytest.fixture
def folder(tmp_path):
    return write_files(tmp_path / "pictures", PICTURES)


def detections(label_of=str):
    """COCO's results for `EXPECTED`, the boxes of the pictures mixed."""
    entries = [
        {
            "image_id": label_of(name),
            "category_id": int(prompt.category),
            "bbox": [prompt.box[0], prompt.box[1], prompt.box[2] - prompt.box[0], prompt.box[3] - prompt.box[1]],
            "score": prompt.score,
        }
        for name, prompts in EXPECTED.items()
        for prompt in prompts
    ]
    return [entries[0], entries[2], entries[1]]


def write_json(path, content):
    path.write_text(json.dumps(content))
    return str(path)


def prompts_of(source, num_parts=1):
    return {item.name: item.prompts for item in items_of(source, num_parts) if item.prompts}


# Boxes.


LABELS = {
    "name": str,
    "without suffix": lambda name: str(Path(name).with_suffix("")),
    "base name": lambda name: Path(name).name,
    "stem": lambda name: Path(name).stem,
}


@pytest.mark.parametrize("form", LABELS)
def test_boxes_are_found_by_what_a_detector_calls_a_picture(form, folder, tmp_path):
    path = write_json(tmp_path / "boxes.json", detections(LABELS[form]))
    source = with_boxes(find_source(folder), path)
    assert prompts_of(source) == EXPECTED
    assert {item.name: item.data or item.address for item in items_of(source)}.keys() == PICTURES.keys()
    assert (source.num_items, source.kind, source.name) == (5, "picture", str(folder))


def test_boxes_of_a_detector_are_found_by_numbers_in_names(tmp_path):
    boxes = [{"image_id": 139, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]
    source = with_boxes(find_source(["x/000000000139.jpg", "x/1390.jpg"]), write_json(tmp_path / "b.json", boxes))
    assert list(prompts_of(source)) == [next(source.names())]


def test_boxes_of_a_detector_are_found_by_the_ids_of_coco(folder, tmp_path):
    images = [{"id": number, "file_name": name} for number, name in enumerate(PICTURES)]
    ids = {image["file_name"]: image["id"] for image in images}
    categories = [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}]
    dataset = write_json(tmp_path / "coco.json", {"images": images, "annotations": [], "categories": categories})
    path = write_json(tmp_path / "boxes.json", detections(ids.get))
    found = prompts_of(with_boxes(find_source(dataset, pictures=folder), path))
    assert {name: [prompt.box for prompt in prompts] for name, prompts in found.items()} == {
        name: [prompt.box for prompt in prompts] for name, prompts in EXPECTED.items()
    }
    assert [prompt.category for prompt in found["a/1.jpg"]] == ["cat", "dog"]


@pytest.mark.parametrize("source", ["coco.json", "pictures"])
def test_boxes_may_be_those_of_the_annotations_of_a_dataset(source, folder, tmp_path):
    ids = {name: 10 + number for number, name in enumerate(PICTURES)}
    annotations = [{**entry, "id": number} for number, entry in enumerate(detections(ids.get))]
    annotations += [{"id": 7, "image_id": 12, "category_id": 7, "bbox": [0, 0, 5, 5], "iscrowd": 1}]
    annotations += [{"id": 8, "image_id": 12, "category_id": 7, "bbox": [1, 1, 3, 0], "segmentation": [[1, 1, 4, 1]]}]
    images = [{"id": number, "file_name": name} for name, number in ids.items()]
    path = write_json(tmp_path / "coco.json", {"images": images, "annotations": annotations})
    pictures = folder if source == "coco.json" else None
    assert prompts_of(with_boxes(find_source(tmp_path / source, pictures=pictures), path)) == EXPECTED


@pytest.mark.parametrize("has_scores", [True, False])
def test_boxes_of_yolo_are_shares_until_the_size_is_known(has_scores, folder, tmp_path):
    width, height = 16, 8
    lines = {}
    for name, prompts in EXPECTED.items():
        for prompt in prompts:
            x_min, y_min, x_max, y_max = prompt.box
            shares = [(x_min + x_max) / 2 / width, (y_min + y_max) / 2 / height, (x_max - x_min) / width]
            numbers = [*shares, (y_max - y_min) / height, *([prompt.score] if has_scores else [])]
            line = f"{prompt.category} {' '.join(map(repr, numbers))}\n"
            stem = name.rpartition(".")[0]
            lines[f"{stem}.txt"] = lines.get(f"{stem}.txt", b"") + line.encode()
    labels = write_files(tmp_path / "labels", {**lines, "b c/ü%20.txt": b"\n"})
    source = with_boxes(find_source(folder), str(labels))
    found = {item.name: item.in_pixels(height, width) for item in items_of(source)}
    for name, item in found.items():
        assert item.prompt_size is None
        for prompt, expected in zip(item.prompts, EXPECTED.get(name, ()), strict=True):
            assert prompt.box == pytest.approx(expected.box)
            assert (prompt.category, prompt.score) == (expected.category, expected.score if has_scores else None)
    write_files(labels, {"classes.txt": b"".join(b"class %d\n" % number for number in range(9))})
    named = prompts_of(with_boxes(find_source(folder), str(labels)))
    assert [prompt.category for prompt in named["a/1.jpg"]] == ["class 7", "class 8"]


@pytest.mark.parametrize("kind", [PICTURE, CLIP])
def test_labellers_bring_shares_to_pixels(kind, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 80, 3), np.uint8)
    write_files(tmp_path, {"x/0.png": b"", "x/1.png": b""})
    for number in range(2):
        Image.fromarray(pixels).save(tmp_path / f"x/{number}.png")
    address = str(tmp_path / ("x" if kind == CLIP else "x/0.png"))
    in_pixels = Item("x", kind, address, prompts=(Prompt(1, box=(20, 10, 60, 30)),))
    in_shares = Item("x", kind, address, prompts=(Prompt(1, box=(0.25, 0.25, 0.75, 0.75)),), prompt_size=(1, 1))
    rows = label(labeller_of("nano"), [in_pixels, in_shares])
    assert rows[0] == rows[1] and rows[0].item.prompts == in_pixels.prompts


def test_boxes_may_be_a_column_of_a_table(folder, tmp_path):
    paths = [f"pictures/{name}" for name in PICTURES]
    boxes = [FOUND.get(name) for name in PICTURES]
    types = (pa.list_(pa.list_(pa.float32())), pa.list_(pa.list_(pa.float64(), 4)))
    for kind in types:
        write_table(tmp_path / "t.parquet", {"path": paths, "boxes": pa.array(boxes, kind)}, row_group_size=2)
        source = with_boxes(find_source(tmp_path / "t.parquet"), "column:boxes")
        expected = {f"pictures/{name}": [tuple(box) for box in some] for name, some in FOUND.items()}
        assert {name: [prompt.box for prompt in some] for name, some in prompts_of(source, 3).items()} == expected
        assert "boxes of boxes" in source.description


def test_boxes_come_to_members_of_tars(tmp_path):
    write_tar(tmp_path / "t.tar", PICTURES)
    path = write_json(tmp_path / "boxes.json", [*detections(), {"image_id": "nowhere", "bbox": [0, 0, 1, 1]}])
    source = with_boxes(find_source(tmp_path / "t.tar"), path)
    assert prompts_of(source) == {f"t/{name}": some for name, some in EXPECTED.items()}


def test_prompted_source_can_be_shared_and_pickled(folder, tmp_path):
    source = with_boxes(find_source(folder), write_json(tmp_path / "boxes.json", detections()))
    assert isinstance(source, PromptedSource)
    copy = pickle.loads(pickle.dumps(source))
    expected = items_of(source)
    assert items_of(copy, 3) == expected
    assert [copy.prompts.attach(item) for item in items_of(source.source)] == expected
    buffers = []
    assert len(pickle.dumps(source.prompts, protocol=5, buffer_callback=buffers.append)) < 4000 and buffers


def test_items_with_prompts_are_rows_of_a_table(folder, tmp_path):
    source = with_boxes(find_source(folder), write_json(tmp_path / "boxes.json", detections()))
    items = [*items_of(source), Item("y", prompts=(Prompt(1, box=(0, 0, 0.5, 1)),), prompt_size=(1, 1))]
    assert [Item.from_row(row) for row in table_of(items).to_pylist()] == items


def test_description_tells_other_prompts_apart(folder, tmp_path):
    descriptions = [
        with_boxes(find_source(folder), write_json(tmp_path / "boxes.json", content)).description
        for content in (detections(), detections(), detections()[:2])
    ]
    assert descriptions[0] == descriptions[1] != descriptions[2]
    assert descriptions[0].startswith(f"{folder}, prompts of boxes.json (hash ")


def test_boxes_of_many_pictures_take_little_memory(tmp_path):
    count = 5000
    entries = [
        {"image_id": number % count, "category_id": number % 80, "bbox": [number, 0, 1, 1], "score": 0.5}
        for number in range(4 * count)
    ]
    source = find_source([f"{number:012d}.jpg" for number in range(count)])
    table = with_boxes(source, write_json(tmp_path / "boxes.json", entries)).prompts
    assert table.prompts.nbytes + table.keys.nbytes + table.labels.nbytes < 80 * len(entries)
    for number in (0, 1, 4321, count - 1):
        item = table.attach(Item(f"{number:012d}.jpg"))
        assert [prompt.box[0] for prompt in item.prompts] == [number + turn * count for turn in range(4)]
        assert [prompt.object for prompt in item.prompts] == [1, 2, 3, 4]


def box_of(**values):
    return {"image_id": "x.tif", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5, **values}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "b.json is no JSON, or it is cut off"),
        ("3", 'b.json must be a list of {"image_id", .* got 3'),
        ("{}", "b.json is no dataset of COCO"),
        ('{"images": []}', 'b.json must be a list of {"image_id", .* got None'),
        ([box_of(), {"bbox": [0, 0, 1, 1]}], "b.json must be a list of .* got {'bbox'"),
        ([box_of(bbox=[0, 0, 1])], r"b.json must be a list of .* got {'image_id': 'x.tif'"),
        ([box_of(bbox=["0", 0, 1, 1])], "b.json must be a list of "),
        ([box_of(image_id=None)], "b.json must be a list of "),
        ([box_of(score="high")], "b.json must be a list of "),
        ([box_of(category_id=[1])], "b.json must be a list of "),
        ([box_of(bbox=[0, 0, 10**400, 1])], "b.json must be a list of "),
        ([box_of(bbox=[0, 0, 1e39, 1])], r"b.json has a box of 'x.tif' from \(0, 0\) to \(inf, 1\)"),
        ([box_of(image_id="\ud800")], "b.json has a number or a text that cannot be kept"),
        (
            [box_of(), box_of(bbox=[2, 1, -1, 1])],
            r"b.json has a box of 'x.tif' from \(2, 1\) to \(1, 2\): expected finite",
        ),
        ([box_of(bbox=[2, 1, 3, 0])], r"b.json has a box of 'x.tif' from \(2, 1\) to \(5, 1\): expected finite"),
        ([box_of(bbox=[float("nan"), 1, 3, 1])], r"b.json has a box of 'x.tif' from \(nan, 1\) to \(nan, 2\)"),
        ([box_of(bbox=[1, 1, float("inf"), 1])], r"b.json has a box of 'x.tif' from \(1, 1\) to \(inf, 2\)"),
        (
            [box_of(image_id=str(number)) for number in range(10, 15)],
            "has prompts of 5 items that .*/pictures does not have: '1.', '1.', '1.', …$",
        ),
        ([box_of(image_id="x"), box_of()], "b.json has prompts of 1 items that .*/pictures does not have: 'x'"),
    ],
)
def test_with_boxes_rejects_json_that_is_wrong(content, message, folder, tmp_path):
    (tmp_path / "b.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message):
        with_boxes(find_source(folder), str(tmp_path / "b.json"))


def test_with_boxes_rejects_labels_of_several_pictures(folder, tmp_path):
    write_files(folder, {"b c/x.png": b""})
    path = write_json(tmp_path / "b.json", [box_of(image_id="x")])
    with pytest.raises(
        ValueError, match=r"b.json has prompts of 'x', which may be 'b c/x.png' or 'x.tif' of .*: write"
    ):
        with_boxes(find_source(folder), path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "labels has no boxes of YOLO: expected a file NAME.txt for each picture"),
        (
            {"x.txt": b"0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1"},
            "x.txt, line 2 must be `class x y width height` .* got '0 0.5 0.5 0.1'",
        ),
        ({"x.txt": b"0 0.1 0.1 0.2 0.1 0.2 0.2"}, "x.txt, line 1 must be `class x y width height`"),
        ({"x.txt": b"0 a 0.1 0.2 0.1"}, "x.txt, line 1 must be `class x y width height`"),
        ({"x.txt": b"\xff"}, "x.txt is no text in UTF-8"),
        ({"x.txt": b"0 0.5 0.5 -0.1 0.1"}, r"labels has a box of 'x' from \(0.55, 0.45\) to \(0.45, 0.55\)"),
        ({"x.txt": b"0 nan 0.5 0.1 0.1"}, r"labels has a box of 'x' from \(nan, "),
        ({"y.txt": b"0 0.5 0.5 0.1 0.1"}, r"labels has prompts of 1 items that .*/pictures does not have: 'y'"),
    ],
)
def test_with_boxes_rejects_yolo_files_that_are_wrong(files, message, folder, tmp_path):
    (tmp_path / "labels").mkdir()
    write_files(tmp_path / "labels", files)
    with pytest.raises(ValueError, match=message):
        with_boxes(find_source(folder), str(tmp_path / "labels"))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([[[0, 0, 1, 1]], [[0, 0, 1]]], r"row 1 of .*t.parquet, column boxes has boxes \[\[0"),
        ([[[0, 0, 1, 1]], [[0, 0, 1, 1], [2, 0, 1, 1]]], r"row 1 of .*t.parquet, column boxes has the box \[2.0, 0.0"),
        ([[[0, 0, 1, float("nan")]], None], r"row 0 of .*t.parquet, column boxes has the box \[0.0, 0.0, 1.0, nan\]"),
        (["box", "box"], r"row 0 of .*t.parquet, column boxes has boxes box"),
        ([[1.0], [2.0]], r"row 0 of .*t.parquet, column boxes has boxes \[1.0\]"),
    ],
)
def test_with_boxes_rejects_columns_that_are_wrong(column, message, tmp_path):
    write_table(tmp_path / "t.parquet", {"path": ["a.jpg", "b.jpg"], "boxes": column})
    with pytest.raises(ValueError, match=message):
        with_boxes(find_source(tmp_path / "t.parquet"), "column:boxes")


def test_with_boxes_rejects_what_is_not_there(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*b.json"):
        with_boxes(find_source(folder), str(tmp_path / "b.json"))
    with pytest.raises(ValueError, match="has no column boxes: only Parquet has columns"):
        with_boxes(find_source(folder), "column:boxes")
    write_table(tmp_path / "t.parquet", {"path": ["a.jpg"]})
    with pytest.raises(ValueError, match="has no column boxes: its columns are path"):
        with_boxes(find_source(tmp_path / "t.parquet"), "column:boxes")


# Files of prompts.


def mask(height, width):
    found = np.zeros((height, width), bool)
    found[1:3, 2:] = True
    return found


def test_prompt_file_has_points_boxes_and_masks(tmp_path):
    compressed = compress(CutMask.of(mask(4, 5)))
    Image.fromarray(mask(4, 5).astype(np.uint8) * 7).save(tmp_path / "mask.png")
    plain = {"size": [4, 5], "counts": [9, 2, 2, 2, 2, 2, 1]}
    content = {
        "a": [[[1, 2, 1], [3, 4.5, 0]], [[5, 6, 1]]],
        "clip": [
            {"object": 3, "box": [1, 2, 3, 4], "category": "cow", "score": 0.5},
            {"object": 3, "frame": 7, "mask": "mask.png"},
            {"object": 4, "frame": 2, "mask": compressed, "points": [[0, 0, 1]]},
            {"mask": plain},
        ],
        "none": [],
    }
    path = write_json(tmp_path / "p.json", content)
    source = with_prompt_file(find_source([Item("a.jpg"), Item("x/clip.mp4"), Item("none"), Item("other")]), path)
    assert {item.name: item.prompts for item in items_of(source)} == {
        "a.jpg": (Prompt(1, points=((1, 2, 1), (3, 4.5, 0))), Prompt(2, points=((5, 6, 1),))),
        "x/clip.mp4": (
            Prompt(3, box=(1, 2, 3, 4), category="cow", score=0.5),
            Prompt(3, 7, mask=compressed),
            Prompt(4, 2, mask=compressed, points=((0, 0, 1),)),
            Prompt(4, mask=compressed),
        ),
        "none": (),
        "other": (),
    }
    assert {item.prompt_size for item in items_of(source)} == {None}


def test_prompt_file_may_be_anywhere():
    memory = fsspec.filesystem("memory")
    memory.pipe("/prompts/p.json", json.dumps({"a": [[[1, 2, 1]]]}).encode())
    source = with_prompt_file(find_source([Item("a.jpg")]), "memory://prompts/p.json")
    assert prompts_of(source) == {"a.jpg": (Prompt(1, points=((1, 2, 1),)),)}


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (3, "'a' must have a list of prompts, got 3"),
        ([3], "'a', prompt 1 must be a list of points .* got 3"),
        ([[[1, 2]]], r"'a', prompt 1 must have points \[\[x, y, label\], …\] with label 1 .* got \[\[1, 2\]\]"),
        ([[[1, 2, 3]]], "'a', prompt 1 must have points"),
        ([[[float("nan"), 2, 1]]], "'a', prompt 1 must have points"),
        ([[]], "'a', prompt 1 must have points"),
        ([{"frame": 1}], "'a', prompt 1 must be a list of points"),
        ([{"box": [0, 0, 1, 1], "colour": 1}], "'a', prompt 1 must be a list of points"),
        ([{"box": [0, 0, 1, 1]}, {"box": [2, 0, 1, 1]}], r"'a', prompt 2 has the box \[2.0, 0.0, 1.0, 1.0\]: expected"),
        ([{"box": [0, 0, 1]}], r"'a', prompt 1 has boxes \[\[0, 0, 1\]\]: expected"),
        ([{"box": [0, 0, 1, 1], "frame": -1}], "'a', prompt 1 must have as \"frame\" a whole number from 0 on, got -1"),
        ([[[10**400, 2, 1]]], "'a', prompt 1 must have points"),
        ([{"box": [0, 0, 1, 1], "object": True}], "'a', prompt 1 must have as \"object\" a whole number from 1 on"),
        ([{"box": [0, 0, 1, 1], "score": "x"}], "'a', prompt 1 must have a number as \"score\", got 'x'"),
        ([{"mask": {"size": [2, 2], "counts": [1]}}], "'a', prompt 1, mask has run lengths that are damaged"),
        ([{"mask": 4}], "'a', prompt 1, mask must be run lengths"),
        ([{"mask": "../m.png"}], "'a', prompt 1 names an item '../m.png'"),
    ],
)
def test_prompt_file_rejects_prompts_that_are_wrong(prompts, message, tmp_path):
    path = write_json(tmp_path / "p.json", {"a": prompts})
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        with_prompt_file(find_source([Item("a")]), path)


def test_prompt_file_rejects_files_that_are_wrong(tmp_path):
    source = find_source([Item("a")])
    with pytest.raises(ValueError, match=r"p.json has a number or a text that cannot be kept"):
        with_prompt_file(source, write_json(tmp_path / "p.json", {"a": [{"box": [0, 0, 1, 1], "frame": 2**40}]}))
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder nothing.json"):
        with_prompt_file(source, "nothing.json")
    with pytest.raises(ValueError, match=r"p.json must hold an object"):
        with_prompt_file(source, write_json(tmp_path / "p.json", []))
    with pytest.raises(OSError, match=r"m.png cannot be read: "):
        with_prompt_file(source, write_json(tmp_path / "p.json", {"a": [{"mask": "m.png"}]}))
    with pytest.raises(ValueError, match=r"p.json has prompts of 1 items that items does not have: 'b'"):
        with_prompt_file(source, write_json(tmp_path / "p.json", {"b": []}))


# Folders of masks.


def write_index(path, numbers):
    path.parent.mkdir(parents=True, exist_ok=True)
    indices = np.zeros((4, 5), np.uint8)
    for number in numbers:
        indices[number, 1:] = number
    index_picture([indices == number for number in numbers], numbers).save(path)
    return [compress(CutMask.of(indices == number)) for number in numbers]


def test_masks_are_on_frames_of_folders_and_videos(tmp_path):
    frames = [f"bear/{name}" for name in ("f2.jpg", "f10.jpg", "f9.jpg", ".hidden.jpg", "notes.txt")]
    write_files(tmp_path / "clips", dict.fromkeys(frames, b""))
    write_files(tmp_path / "videos", {"a/cow.mp4": b"", "b.mp4": b""})
    last, first = write_index(tmp_path / "m/bear/f10.png", [1, 3]), write_index(tmp_path / "m/bear/f2.png", [3])
    source = with_prompt_file(find_source(tmp_path / "clips", is_clips=True), str(tmp_path / "m"))
    assert prompts_of(source) == {
        "bear": (Prompt(1, 2, mask=last[0]), Prompt(3, 2, mask=last[1]), Prompt(3, 0, mask=first[0]))
    }
    masks = write_index(tmp_path / "n/cow/00012.png", [2])
    source = with_prompt_file(find_source(tmp_path / "videos"), str(tmp_path / "n"))
    assert prompts_of(source) == {"a/cow.mp4": (Prompt(2, 12, mask=masks[0]),)}


def test_masks_may_be_of_pictures(folder, tmp_path):
    masks = write_index(tmp_path / "m/a/1.png", [1, 2])
    source = with_prompt_file(find_source(folder), str(tmp_path / "m"))
    assert prompts_of(source) == {"a/1.jpg": (Prompt(1, mask=masks[0]), Prompt(2, mask=masks[1]))}


def test_masks_reject_folders_that_are_wrong(tmp_path):
    write_files(tmp_path / "clips", {"bear/0.jpg": b"", "cow.txt": b""})
    source = find_source(tmp_path / "clips", is_clips=True)
    (tmp_path / "m").mkdir()
    with pytest.raises(ValueError, match=r"m must have masks as CLIP/FRAME.png, found none"):
        with_prompt_file(source, str(tmp_path / "m"))
    write_index(tmp_path / "m/bear/1.png", [1])
    with pytest.raises(ValueError, match=r"m/bear/1.png is the mask of a frame that clip bear does not have"):
        with_prompt_file(source, str(tmp_path / "m"))
    (tmp_path / "m/bear/1.png").rename(tmp_path / "m/0.png")
    with pytest.raises(ValueError, match=r"m must have masks as CLIP/FRAME.png, found 0.png"):
        with_prompt_file(source, str(tmp_path / "m"))
    write_index(tmp_path / "n/cow/1.png", [1])
    with pytest.raises(ValueError, match=r"n has prompts of 1 items that .* does not have: 'cow'"):
        with_prompt_file(source, str(tmp_path / "n"))
    write_files(tmp_path / "o", {"bear/0.png": b"no picture"})
    with pytest.raises(ValueError, match=r"o/bear/0.png"):
        with_prompt_file(source, str(tmp_path / "o"))
