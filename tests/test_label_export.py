"""Labels in the formats of the field: what is written is read back by pycocotools, our own readers and other means."""

import json
import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from training_sources import HEIGHT, NUM_FRAMES, WIDTH, compressed, frame_at, mask_at, write, write_masklets

import edgetam_cli
from edgetam_cli import label_export, main

NEEDS_LABEL = "exporting labels needs pyarrow and pycocotools: pip install 'edgetam-hf[label]'"
pa = pytest.importorskip("pyarrow", reason=NEEDS_LABEL)
coco_mask = pytest.importorskip("pycocotools.mask", reason=NEEDS_LABEL)

import pyarrow.parquet as pq  # noqa: E402

from edgetam_hf.evaluation.video_datasets import read_mask_files  # noqa: E402
from edgetam_hf.formats.polygons import yolo_text  # noqa: E402
from edgetam_hf.found_objects import CutMask  # noqa: E402
from edgetam_hf.label.export import EXPORT_FORMATS, export_labels  # noqa: E402
from edgetam_hf.label.finished import finished_files  # noqa: E402
from edgetam_hf.label.items import CLIP, Item, Prompt  # noqa: E402
from edgetam_hf.label.place import Place  # noqa: E402
from edgetam_hf.label.rows import ROW_SCHEMA, MaskRow, Row, table_of_rows  # noqa: E402
from edgetam_hf.training.masklet_videos import open_masklet_clips  # noqa: E402
from edgetam_hf.training.pictures import CocoPictures, Sa1bPictures  # noqa: E402

RUN = {"checkpoint": "abc", "settings": json.dumps({"threshold": 0.5})}


def mask_row(number, mask, frame=0, score=0.75, **others):
    rle = compressed(mask)
    return MaskRow(number, frame, rle["counts"], score, coco_mask.toBbox(rle).tolist(), int(mask.sum()), **others)


def picture_row(name, t=3, numbers=(1, 2), **others):
    masks = [mask_row(number, mask_at(t, number), **others) for number in numbers]
    return Row(Item(name), HEIGHT, WIDTH, masks, **RUN)


def clip_row(name, step=1, **others):
    """A clip of both objects, each of whose frames stands for `step` equal ones."""
    times = [(frame, frame // step) for frame in range(NUM_FRAMES * step)]
    masks = [
        mask_row(number, mask_at(t, number), frame, category=f"kind {number}")
        for number in (1, 2)
        for frame, t in times
        if mask_at(t, number).any()
    ]
    return Row(Item(name, CLIP), HEIGHT, WIDTH, masks, **RUN, num_frames=len(times), **others)


def folder_row(name):
    return clip_row(name, frame_names=[f"f{t}.jpg" for t in range(NUM_FRAMES)])


def write_labels(out, rows, num_files=1):
    """The folder of labels, with the rows shared out among files."""
    (out / "rows").mkdir(parents=True)
    (out / "label.json").write_text("{}")
    for idx in range(num_files):
        table = table_of_rows([row.to_row() for row in rows[idx::num_files]])
        pq.write_table(table, out / "rows" / f"part{idx:03d}_0.parquet")
    return out


def export(rows, format, tmp_path, name="labels", num_files=1):
    """(report, path) of rows that are written as labels and then exported."""
    out, output = tmp_path / name, tmp_path / (f"{name}.json" if EXPORT_FORMATS[format].is_file else f"{name}_{format}")
    return export_labels(write_labels(out, rows, num_files), format, output), output


def masks_of(row):
    """Masks by (number, frame)."""
    size = [row.height, row.width]
    return {
        (mask.object, mask.frame): coco_mask.decode({"size": size, "counts": mask.counts}) > 0 for mask in row.masks
    }


PICTURES = [picture_row("b.jpg"), picture_row("photos/a.png", 4, (2,), category="crab"), picture_row("z.jpg", 5, ())]


# COCO.


def test_coco_of_pictures_is_read_by_pycocotools_and_scores_all(tmp_path, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    report, path = export(PICTURES, "coco", tmp_path)
    assert (report["pictures"], report["clips"], report["masks"]) == (3, 0, 3)
    assert report["categories"] == ["crab", "object"]
    exported = COCO(str(path))
    images = exported.loadImgs(exported.getImgIds())
    assert {image["id"]: image["file_name"] for image in images} == {1: "b.jpg", 2: "photos/a.png", 3: "z.jpg"}
    info = exported.dataset["info"]
    assert info["checkpoint"] == "abc" and info["settings"] == {"threshold": 0.5}

    truth = {"images": images, "categories": exported.dataset["categories"], "annotations": []}
    for image_id, t, number, category_id in [(1, 3, 1, 2), (1, 3, 2, 2), (2, 4, 2, 1)]:
        rle = compressed(mask_at(t, number))
        known = {"segmentation": dict(rle), "area": int(coco_mask.area(rle)), "bbox": coco_mask.toBbox(rle).tolist()}
        ids = {"id": len(truth["annotations"]) + 1, "image_id": image_id, "category_id": category_id, "iscrowd": 0}
        truth["annotations"].append({**known, **ids})
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    truth = COCO(str(tmp_path / "truth.json"))
    scores = COCOeval(truth, truth.loadRes(exported.dataset["annotations"]), "segm")
    scores.evaluate(), scores.accumulate(), scores.summarize()
    assert scores.stats[0] == 1.0
    truths = json.loads((tmp_path / "truth.json").read_text())["annotations"]
    for known, found in zip(truths, exported.dataset["annotations"], strict=True):
        assert known == {name: found[name] for name in known}
        assert (found["score"], found["object"]) == (0.75, 2 if found["id"] == 3 else found["id"])


def test_coco_of_pictures_can_be_trained_on(tmp_path):
    _, path = export(PICTURES, "coco", tmp_path)
    for name, t in (("b.jpg", 3), ("photos/a.png", 4), ("z.jpg", 5)):
        write(frame_at(t), tmp_path / "images" / name)
    source = CocoPictures(path, tmp_path / "images")
    clip = source.draw(0, 1, 9, np.random.default_rng(0))
    np.testing.assert_array_equal(clip.masks[0], [mask_at(3, 1), mask_at(3, 2)])


def test_coco_has_frames_of_clips_as_images(tmp_path):
    rows = [folder_row("b/dance"), clip_row("a.mp4", frame_rate=24.0)]
    report, path = export(rows, "coco", tmp_path)
    assert (report["pictures"], report["clips"]) == (0, 2)
    data = json.loads(path.read_text())
    videos = {video["id"]: (video["name"], video["length"]) for video in data["videos"]}
    assert videos == {1: ("a.mp4", NUM_FRAMES), 2: ("b/dance", NUM_FRAMES)}
    images = {image["id"]: image for image in data["images"]}
    assert sorted(images) == list(range(1, 2 * NUM_FRAMES + 1))
    assert (images[1]["file_name"], images[NUM_FRAMES + 2]["file_name"]) == ("a/00000.png", "b/dance/f1.jpg")
    assert len({annotation["id"] for annotation in data["annotations"]}) == sum(len(row.masks) for row in rows)
    for annotation in data["annotations"]:
        image = images[annotation["image_id"]]
        assert annotation["video_id"] == image["video_id"]
        mask = coco_mask.decode(annotation["segmentation"])
        np.testing.assert_array_equal(mask, mask_at(image["frame_id"], annotation["track_id"]))


def test_coco_does_not_depend_on_how_rows_were_shared_out(tmp_path):
    rows = [picture_row(f"{idx}.jpg", idx % NUM_FRAMES, category=f"kind {idx % 3}") for idx in range(8)]
    rows += [clip_row("5.mp4"), clip_row("55.mp4")]
    found = []
    for name, order, num_files in (("one", rows, 1), ("many", rows[::-1], 4)):
        data = json.loads(export(order, "coco", tmp_path, name, num_files)[1].read_text())
        found.append({key: sorted(value, key=lambda of: of["id"]) for key, value in data.items() if key != "info"})
    assert found[0] == found[1]
    assert [image["file_name"] for image in found[0]["images"]][:2] == ["0.jpg", "1.jpg"]


def test_coco_tells_points_and_stability_and_leaves_out_empty_masks(tmp_path):
    empty = mask_row(3, np.zeros((HEIGHT, WIDTH), bool))
    found = mask_row(1, mask_at(3, 1), point=[20.0, 9.0], stability_score=0.5)
    prompts = (Prompt(2, points=((30.0, 30.0, 1), (1.0, 1.0, 0))), Prompt(1, box=(0, 0, 9, 9)))
    row = Row(Item("a.jpg", prompts=prompts), HEIGHT, WIDTH, [empty, found, mask_row(2, mask_at(3, 2))], **RUN)
    report, path = export([row], "coco", tmp_path)
    first, second = json.loads(path.read_text())["annotations"]
    assert report["masks"] == 2 and (first["object"], second["object"]) == (1, 2)
    assert first["point_coords"] == [[20, 9]] and first["stability_score"] == 0.5
    assert second["point_coords"] == [[30, 30]] and "stability_score" not in second


# Files of their own.


def test_sa_1b_is_read_by_our_training(tmp_path):
    rows = [picture_row("sa_7.jpg", stability_score=0.9, point=[20.0, 9.0]), picture_row("sa_9.jpg", 4, (2,))]
    _, folder = export(rows, "sa-1b", tmp_path)
    for name, t in (("sa_7", 3), ("sa_9", 4)):
        write(frame_at(t), folder / f"{name}.jpg")
    source = Sa1bPictures(folder)
    for index, row in enumerate(rows):
        clip = source.draw(index, 1, 9, np.random.default_rng(0))
        np.testing.assert_array_equal(clip.masks[0], list(masks_of(row).values()))
    data = json.loads((folder / "sa_7.json").read_text())
    assert data["image"] == {"image_id": 1, "width": WIDTH, "height": HEIGHT, "file_name": "sa_7.jpg"}
    known = {"id", "segmentation", "bbox", "area", "predicted_iou", "stability_score", "point_coords", "crop_box"}
    assert data["annotations"][0].keys() == known and data["annotations"][0]["crop_box"] == [0, 0, WIDTH, HEIGHT]


def test_sa_v_is_read_by_our_training(tmp_path):
    row = clip_row("sav_000001.mp4", step=4, frame_rate=24.0)
    _, folder = export([row], "sa-v", tmp_path)
    data = json.loads((folder / "sav_000001_auto.json").read_text())
    assert (data["video_id"], data["video_frame_count"], data["video_duration"]) == ("sav_000001", 36, 1.5)
    assert data["masklet_id"] == [1, 2] and data["masklet_first_appeared_frame"] == [0, 8]
    assert data["masklet_visibility_changes"] == [0, 1] and data["masklet_num"] == 2
    assert data["masklet_size_abs"] == [mask_at(3, number).sum() for number in (1, 2)]

    shutil.copy(write_masklets(tmp_path / "video") / "sav_000001.mp4", folder)
    exported, known = open_masklet_clips(folder, "auto"), open_masklet_clips(tmp_path / "video")
    for of_exported, of_known in zip(exported.sequences, known.sequences, strict=True):
        assert of_exported.annotations == of_known.annotations
        for t in of_known.annotations:
            np.testing.assert_equal(of_exported.read_masks(t), of_known.read_masks(t))


def test_sa_v_of_a_clip_without_objects_has_empty_frames(tmp_path):
    _, folder = export([Row(Item("a", CLIP), HEIGHT, WIDTH, [], **RUN, num_frames=6)], "sa-v", tmp_path)
    data = json.loads((folder / "a_auto.json").read_text())
    assert data["masklet"] == [[], []] and data["masklet_num"] == 0 and data["video_duration"] is None


def test_youtube_vis_has_a_mask_or_null_for_each_frame(tmp_path):
    rows = [folder_row("dance"), clip_row("a.mp4")]
    _, path = export(rows, "youtube-vis", tmp_path)
    data = json.loads(path.read_text())
    names = {video["id"]: video["file_names"] for video in data["videos"]}
    assert names[1][1] == "a/00001.png" and names[2][1] == "dance/f1.jpg"
    assert len({annotation["id"] for annotation in data["annotations"]}) == 4
    categories = {category["id"]: category["name"] for category in data["categories"]}
    for annotation in data["annotations"]:
        number, length = annotation["object"], annotation["length"]
        assert categories[annotation["category_id"]] == f"kind {number}" and annotation["score"] == 0.75
        assert length == NUM_FRAMES == len(names[annotation["video_id"]])
        columns = (annotation[name] for name in ("segmentations", "bboxes", "areas"))
        for t, (rle, box, area) in enumerate(zip(*columns, strict=True)):
            mask = np.zeros((HEIGHT, WIDTH)) if rle is None else coco_mask.decode(rle)
            np.testing.assert_array_equal(mask, mask_at(t, number))
            assert (box, area) == ((None, None) if rle is None else (coco_mask.toBbox(rle).tolist(), mask.sum()))


def test_yolo_polygons_fill_the_masks(tmp_path):
    draw = pytest.importorskip("skimage.draw", reason="polygons need scikit-image: pip install scikit-image")
    _, folder = export(PICTURES, "yolo-seg", tmp_path)
    yaml = pytest.importorskip("yaml", reason="reading data.yaml needs PyYAML")
    assert yaml.safe_load((folder / "data.yaml").read_text()) == {
        **{"train": "images", "val": "images"},
        "names": {0: "crab", 1: "object"},
    }
    for row in PICTURES:
        masks = list(masks_of(row).values())
        text = (folder / "labels" / row.item.name).with_suffix(".txt").read_text()
        classes = [0 if mask.category else 1 for mask in row.masks]
        assert text == yolo_text([CutMask.of(mask) for mask in masks], classes)
        for line, mask in zip(text.splitlines(), masks, strict=True):
            ring = np.array(line.split()[1:], float).reshape(-1, 2) * (WIDTH, HEIGHT)
            filled = draw.polygon2mask((HEIGHT, WIDTH), ring[:, ::-1] - 0.5)
            assert (filled & mask).sum() / (filled | mask).sum() > 0.95


def test_masks_are_index_pictures(tmp_path):
    _, folder = export([*PICTURES, folder_row("dance"), clip_row("c/a.mp4")], "masks", tmp_path)
    for row in PICTURES:
        path = (folder / row.item.name).with_suffix(".png")
        masks = {number: mask for (number, _), mask in masks_of(row).items()}
        np.testing.assert_equal(read_mask_files({None: path}, (HEIGHT, WIDTH)), masks)
    for t in range(NUM_FRAMES):
        masks = {number: mask_at(t, number) for number in (1, 2) if mask_at(t, number).any()}
        for path in (folder / "dance" / f"f{t}.png", folder / "c" / "a" / f"{t:05d}.png"):
            np.testing.assert_equal(read_mask_files({None: path}, (HEIGHT, WIDTH)), masks)


def test_masks_have_16_bits_beyond_255_objects_and_small_ones_on_top(tmp_path):
    masks = [mask_row(300, mask_at(3, 1)), mask_row(1, np.ones((HEIGHT, WIDTH), bool))]
    _, folder = export([Row(Item("v1.2.jpg"), HEIGHT, WIDTH, masks, **RUN)], "masks", tmp_path)
    indices = np.array(Image.open(folder / "v1.2.png"))
    assert indices.dtype == np.uint16
    np.testing.assert_array_equal(indices, np.where(mask_at(3, 1), 300, 1))


# What is read.


def test_rows_are_what_was_written():
    row = clip_row("a.mp4", frame_rate=24.0)
    read = Row.from_row(table_of_rows([row.to_row()]).to_pylist()[0])
    assert read == row


def test_export_leaves_out_files_that_are_not_finished(tmp_path, capsys):
    out = write_labels(tmp_path / "labels", PICTURES, num_files=3)
    (out / "done").mkdir(), (out / "errors").mkdir()
    (out / "done" / "part001.pending.parquet").write_bytes(b"")
    (out / "done" / "part002.parquet").write_bytes(b"")
    (out / "rows" / ".writing_part.parquet").write_bytes(b"unfinished")
    (out / "errors" / "1.json").write_text("{}")
    files, num_unfinished = finished_files(Place.of(out))
    assert [file.path.rsplit("/")[-1] for file in files] == ["part000_0.parquet", "part002_0.parquet"]
    assert num_unfinished == 1
    arguments = ["label-export", str(out), "--format", "coco", "--output"]
    assert main([*arguments, str(tmp_path / "a.json")]) == 0
    text = capsys.readouterr().out
    assert "left out: 1 files of rows" in text and "not labelled: 1, see" in text
    assert main([*arguments, str(tmp_path / "b.json"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["pictures"], report["unfinished_files"], report["errors"]) == (2, 1, 1)


def test_export_reads_labels_at_an_address(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    write_labels(tmp_path / "labels", PICTURES)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "labels"), "/bucket/labels", recursive=True)
    report = export_labels("memory://bucket/labels", "masks", tmp_path / "masks")
    assert report["pictures"] == 3 and (tmp_path / "masks" / "photos" / "a.png").is_file()
    memory.rm("/bucket", recursive=True)


def test_export_needs_no_more_memory_for_more_rows(tmp_path):
    peaks, row = [], picture_row("a.jpg")
    for num_rows in (100, 1100):
        out = write_labels(tmp_path / str(num_rows), [replace(row, item=Item(f"{idx}.jpg")) for idx in range(num_rows)])
        tracemalloc.start()
        export_labels(out, "coco", tmp_path / f"{num_rows}.json")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1000 * 200  # bytes: some numbers for each row, and nothing of its masks
    assert len(json.loads((tmp_path / "1100.json").read_text())["annotations"]) == 2200


def test_formats_are_those_of_the_command_line():
    assert tuple(EXPORT_FORMATS) == label_export.FORMATS
    assert "label-export" in edgetam_cli.COMMANDS


# Bad input.


def assert_refused(capsys, message, *arguments):
    """The command ends with one line that has the message."""
    assert main(["label-export", *map(str, arguments), "--json"]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error, error


@pytest.mark.parametrize("format", ["sa-1b", "yolo-seg", "sa-v", "youtube-vis"])
def test_export_rejects_items_of_another_kind(tmp_path, capsys, format):
    out = write_labels(tmp_path / "labels", [picture_row("a.jpg"), clip_row("b.mp4")])
    kind = "clip" if format in ("sa-1b", "yolo-seg") else "picture"
    output = tmp_path / "o.json"
    assert_refused(capsys, f"has {kind}s: take one of coco", out, "--format", format, "--output", output)
    assert not output.exists()


@pytest.mark.parametrize(
    "rows, format, message",
    [
        (
            [picture_row("a.jpg"), picture_row("a.png")],
            "sa-1b",
            "a.jpg and a.png would both be written as a: label",
        ),
        ([clip_row("a.mp4"), clip_row("a.mov")], "coco", "a.mov and a.mp4 would both be written as a"),
        ([folder_row("a"), picture_row("a.png")], "masks", "a and a.png would both be written as a"),
        ([picture_row("a.jpg"), picture_row("a.jpg")], "coco", "a.jpg was labelled twice"),
        ([picture_row("../a.jpg")], "masks", "'../a.png' names nothing inside"),
        ([], "coco", "has no finished rows yet"),
    ],
)
def test_export_rejects_names_that_are_no_files(tmp_path, capsys, rows, format, message):
    out = write_labels(tmp_path / "labels", rows)
    assert_refused(capsys, message, out, "--format", format, "--output", tmp_path / "o.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels"]


def test_export_keeps_suffixes_of_pictures_in_coco(tmp_path):
    _, path = export([picture_row("a.jpg"), picture_row("a.png")], "coco", tmp_path)
    assert [image["file_name"] for image in json.loads(path.read_text())["images"]] == ["a.jpg", "a.png"]


def test_export_rejects_other_folders(tmp_path, capsys):
    (tmp_path / "other").mkdir()
    for name in ("other", "missing"):
        message = f"{tmp_path / name} has no label.json: expected the folder"
        assert_refused(capsys, message, tmp_path / name, "--format", "coco", "--output", tmp_path / "o.json")


def test_export_rejects_outputs_that_cannot_be(tmp_path, capsys):
    out = write_labels(tmp_path / "labels", PICTURES)
    (tmp_path / "there.json").write_text("mine")
    for format, output, message in [
        ("coco", tmp_path / "there.json", "is there already"),
        ("coco", tmp_path / "folder", "must be a file .json"),
        ("coco", tmp_path / "no" / "o.json", "there is no folder"),
        ("masks", tmp_path / "labels", "is not empty"),
        ("masks", tmp_path / "there.json", "is a file, expected a new or empty folder"),
        ("masks", "s3://bucket/masks", "must be a path on this machine"),
    ]:
        assert_refused(capsys, message, out, "--format", format, "--output", output)
    assert (tmp_path / "there.json").read_text() == "mine"


def damage(table, **changes):
    row = {**table.to_pylist()[0], **changes}
    return pa.Table.from_pylist([row, *table.to_pylist()[1:]], schema=ROW_SCHEMA)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_frames": 0}, "'b.jpg' is a picture of 0 frames"),
        ({"num_frames": None}, "it has a row without num_frames"),
        ({"name": None}, "it has a row without name"),
        ({"kind": "sound"}, "'b.jpg' is a sound of 1 frames"),
        ({"masks": None}, "it has a row without masks"),
        ({"frame_names": ["a", "b"]}, "b.jpg has 1 frames and 2 names"),
        ({"masks": [{**vars(PICTURES[0].masks[0]), "frame": 5}]}, "mask on frame 5 of 1"),
        ({"masks": [{**vars(PICTURES[0].masks[0]), "score": None}]}, "a mask without run lengths, a score"),
        ({"masks": [{**vars(PICTURES[0].masks[0]), "bbox": []}]}, "a mask without run lengths, a score"),
    ],
)
def test_export_rejects_damaged_rows(tmp_path, capsys, changes, message):
    out = write_labels(tmp_path / "labels", PICTURES)
    path = out / "rows" / "part000_0.parquet"
    pq.write_table(damage(pq.read_table(path), **changes), path)
    before = sorted(tmp_path.rglob("*"))
    for format, output in (("coco", "o.json"), ("masks", "o")):
        assert_refused(capsys, "is damaged, or no file of rows", out, "--format", format, "--output", tmp_path / output)
    with pytest.raises(ValueError, match=message):
        export_labels(out, "coco", tmp_path / "o.json")
    assert sorted(tmp_path.rglob("*")) == before


def test_export_rejects_damaged_run_lengths(tmp_path, capsys):
    out = write_labels(tmp_path / "labels", [picture_row("a.jpg"), picture_row("b.jpg")])
    path = out / "rows" / "part000_0.parquet"
    pq.write_table(damage(pq.read_table(path), height=9), path)
    for format in ("masks", "yolo-seg"):
        message = "object 1 of a.jpg has run lengths that are damaged"
        assert_refused(capsys, message, out, "--format", format, "--output", tmp_path / "o")
        assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("cut", [0, 20, -20])
def test_export_rejects_damaged_files(tmp_path, capsys, cut):
    out = write_labels(tmp_path / "labels", PICTURES, num_files=2)
    path = out / "rows" / "part001_0.parquet"
    path.write_bytes(path.read_bytes()[:cut])
    message = f"{path} is damaged, or no file of rows"
    assert_refused(capsys, message, out, "--format", "coco", "--output", tmp_path / "o.json")
    pq.write_table(pa.table({"name": [1]}), path)
    message += ": it has no column 'id' of string"
    assert_refused(capsys, message, out, "--format", "coco", "--output", tmp_path / "o.json")


@pytest.mark.parametrize("format", ["coco", "youtube-vis", "sa-v", "masks"])
def test_export_on_a_full_disk_leaves_nothing(tmp_path, capsys, monkeypatch, format):
    out = write_labels(tmp_path / "labels", [clip_row("a.mp4")])
    before = sorted(tmp_path.rglob("*"))

    def full(*arguments, **others):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgetam_hf.label.export_json.json.dumps", full)
    monkeypatch.setattr("edgetam_hf.label.export_folders.new_file", full)
    output = tmp_path / "o.json"
    message = f"could not write {output}: No space left on device ("
    assert_refused(capsys, message, out, "--format", format, "--output", output)
    assert sorted(tmp_path.rglob("*")) == before
