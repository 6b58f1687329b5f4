"""What tracking writes is read back as what it was, also after the writer was killed."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgetam_hf.files.writing import write_json_whole
from edgetam_hf.formats import overlay_video, run_lengths
from edgetam_hf.formats.index_pictures import index_picture, read_numbered_masks, write_index_picture
from edgetam_hf.formats.overlay_video import OverlayVideo
from edgetam_hf.formats.tracks import Track, coco_annotations, youtube_vis_tracks
from edgetam_hf.found_objects import CutMask

NEEDS_AV = "writing video files needs PyAV"
NEEDS_COCO = "run lengths need pycocotools"

KILLED_WRITER = """
import os, signal, sys
import numpy as np
from edgetam_hf.formats.overlay_video import OverlayVideo

video = OverlayVideo(sys.argv[1], 32, 48, 10)
for level in range(35):
    video.write(np.full((32, 48, 3), 5 * level, np.uint8))
os.kill(os.getpid(), signal.SIGKILL)
"""


def read_video(path):
    """All frames of a video as one array (T, H, W, 3)."""
    av = pytest.importorskip("av", reason=NEEDS_AV)
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def random_masks(num_masks, height=12, width=17, seed=0):
    return np.random.default_rng(seed).random((num_masks, height, width)) > 0.5


# Videos.


def test_overlay_video_is_read_back(tmp_path):
    av = pytest.importorskip("av", reason=NEEDS_AV)
    pictures = np.stack([np.full((32, 48, 3), (8 * idx, 200, 100), np.uint8) for idx in range(25)])
    with OverlayVideo(tmp_path / "clip.mp4", 32, 48, 29.97) as video:
        for picture in pictures:
            video.write(picture)
    written = read_video(tmp_path / "clip.mp4")
    assert written.shape == pictures.shape
    assert np.abs(written.astype(int) - pictures).max() < 12
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == pytest.approx(29.97, abs=0.01)


def test_overlay_video_pads_odd_sides(tmp_path):
    picture = np.tile(np.linspace(0, 250, 31).astype(np.uint8)[None, :, None], (17, 1, 3))
    with OverlayVideo(tmp_path / "clip.mp4", 17, 31, 5) as video:
        video.write(picture)
    written = read_video(tmp_path / "clip.mp4")[0].astype(int)
    assert written.shape == (18, 32, 3)
    assert np.abs(written[:17, :31] - picture).max() < 12
    assert np.abs(written[:, 31] - written[:, 30]).max() < 12


def test_overlay_video_survives_a_kill(tmp_path):
    pytest.importorskip("av", reason=NEEDS_AV)
    command = [sys.executable, "-c", KILLED_WRITER, str(tmp_path / "clip.mp4")]
    run = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[1])
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    levels = read_video(tmp_path / "clip.mp4").mean((1, 2, 3))
    assert 30 <= len(levels) <= 35  # key frames lie 10 apart
    assert np.abs(levels - 5 * np.arange(len(levels))).max() < 4


def test_overlay_video_may_be_empty_and_closed_twice(tmp_path):
    pytest.importorskip("av", reason=NEEDS_AV)
    with OverlayVideo(tmp_path / "clip.mp4", 32, 48, 10) as video:
        video.close()
    with pytest.raises(ValueError, match="the video is closed"):
        video.write(np.zeros((32, 48, 3), np.uint8))


def test_overlay_video_rejects_pictures(tmp_path):
    pytest.importorskip("av", reason=NEEDS_AV)
    with OverlayVideo(tmp_path / "clip.mp4", 32, 48, 10) as video:
        with pytest.raises(ValueError, match=r"must be a uint8 array \(32, 48, 3\), got uint8 \(48, 32, 3\)"):
            video.write(np.zeros((48, 32, 3), np.uint8))
        with pytest.raises(ValueError, match="got float64"):
            video.write(np.zeros((32, 48, 3)))


@pytest.mark.parametrize("numbers", [(0, 48, 10), (32, 48, 0), (32, 48, float("nan"))])
def test_overlay_video_rejects_numbers(tmp_path, numbers):
    pytest.importorskip("av", reason=NEEDS_AV)
    with pytest.raises(ValueError, match="height, width and frame_rate must be positive"):
        OverlayVideo(tmp_path / "clip.mp4", *numbers)
    assert not (tmp_path / "clip.mp4").exists()


def test_overlay_video_needs_pyav(tmp_path, monkeypatch):
    monkeypatch.setattr(overlay_video, "av", None)
    with pytest.raises(ImportError, match="pip install av"):
        OverlayVideo(tmp_path / "clip.mp4", 32, 48, 10)


# Index pictures.


def test_index_picture_is_read_back(tmp_path):
    masks = random_masks(3)
    masks[1] &= ~masks[2]
    masks[0] &= ~masks[1] & ~masks[2]
    write_index_picture([masks[0], torch.from_numpy(masks[1]), masks[2]], [7, 255, 1], tmp_path / "0.png")
    read = read_numbered_masks(tmp_path / "0.png")
    assert all(mask.dtype == bool for mask in read.values())
    assert list(read) == [1, 7, 255] and np.array_equal([read[7], read[255], read[1]], masks)
    with Image.open(tmp_path / "0.png") as image:
        assert image.mode == "P" and set(np.unique(image)) == {0, 1, 7, 255}


def test_index_picture_lays_later_masks_on_top(tmp_path):
    masks = random_masks(2)
    write_index_picture(masks, [4, 2], tmp_path / "0.png")
    read = read_numbered_masks(tmp_path / "0.png")
    assert np.array_equal([read[4], read[2]], [masks[0] & ~masks[1], masks[1]])


def test_index_picture_numbers_from_one_by_default():
    masks = random_masks(2)
    assert np.array_equal(index_picture(masks), index_picture(masks, [1, 2]))


@pytest.mark.parametrize("numbers", [[0, 1], [1, 65536], [3, 3], [1]])
def test_index_picture_rejects_numbers(tmp_path, numbers):
    with pytest.raises(ValueError, match=r"2 masks need as many different numbers in 1\.\.65535, got \["):
        write_index_picture(random_masks(2), numbers, tmp_path / "0.png")
    assert not list(tmp_path.iterdir())


def test_index_picture_rejects_masks(tmp_path):
    with pytest.raises(ValueError, match="at least one and of one size"):
        write_index_picture([], [], tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"of one size, got \[\(12, 17\), \(6, 17\)\]"):
        write_index_picture([random_masks(1)[0], random_masks(1, height=6)[0]], [1, 2], tmp_path / "0.png")
    with pytest.raises(TypeError, match=r"mask must be boolean \(H, W\), got float32 .*compare logits with > 0"):
        write_index_picture([torch.zeros(4, 4)], [1], tmp_path / "0.png")


def test_read_numbered_masks_rejects_colours(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"must be a palette or grey picture of whole numbers.*, got mode RGB"):
        read_numbered_masks(tmp_path / "0.png")


# Run lengths and the files made of them.


@pytest.mark.parametrize("mask", [*random_masks(2), np.zeros((5, 3), bool), np.ones((1, 4), bool)])
def test_compressed_run_lengths_are_those_of_pycocotools(mask):
    coco_mask = pytest.importorskip("pycocotools.mask", reason=NEEDS_COCO)
    rle = run_lengths.compress(CutMask.of(mask))
    assert rle["counts"].encode() == coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
    assert np.array_equal(coco_mask.decode(json.loads(json.dumps(rle))), mask)
    assert rle["size"] == list(mask.shape)


def test_compress_needs_pycocotools(monkeypatch):
    monkeypatch.setattr(run_lengths, "coco_mask", None)
    with pytest.raises(ImportError, match="pip install pycocotools"):
        run_lengths.compress(CutMask.of(np.ones((2, 2), bool)))


@pytest.fixture
def tracks():
    """Two objects in three frames: one is absent from the second frame, the other appears in the last one."""
    pytest.importorskip("pycocotools", reason=NEEDS_COCO)
    masks = np.zeros((3, 12, 17), bool)
    masks[0, 2:5, 3:10] = masks[2, 4:6, 1:3] = True
    first, second = Track(object_id=4, category_id=2, score=np.float32(0.5)), Track(object_id=9)
    for mask in masks:
        first.append(mask)
    for mask in (None, masks[1], masks[0]):
        second.append(mask)
    return [first, second]


def test_youtube_vis_tracks_have_a_mask_or_none_per_frame(tracks):
    results = json.loads(json.dumps(youtube_vis_tracks(3, tracks)))
    assert [{key: row[key] for key in ("video_id", "category_id", "score")} for row in results] == [
        {"video_id": 3, "category_id": 2, "score": 0.5},
        {"video_id": 3, "category_id": 1, "score": 1.0},
    ]
    assert [[rle is not None for rle in row["segmentations"]] for row in results] == [[1, 0, 1], [0, 0, 1]]
    assert results[0]["segmentations"][0] == results[1]["segmentations"][2]
    assert youtube_vis_tracks(3, []) == []


def test_coco_annotations_are_loaded_by_pycocotools(tracks, tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason=NEEDS_COCO)
    names = {1: "cat", 2: "dog"}
    data = coco_annotations("clip", ["0.jpg", "1.jpg", "2.jpg"], (12, 17), tracks, names)
    write_json_whole(data, tmp_path / "clip.json")
    loaded = coco.COCO(str(tmp_path / "clip.json"))
    assert data["videos"] == [{"id": 1, "name": "clip", "length": 3, "height": 12, "width": 17}]
    assert [(i["file_name"], i["frame_id"]) for i in loaded.loadImgs([1, 2, 3])] == [
        ("0.jpg", 0),
        ("1.jpg", 1),
        ("2.jpg", 2),
    ]
    assert set(loaded.getImgIds(catIds=[2])) == {1, 3}
    rows = [(a["image_id"], a["track_id"], a["category_id"], a["bbox"], a["area"]) for a in data["annotations"]]
    assert rows == [
        (1, 4, 2, [3, 2, 7, 3], 21),
        (3, 4, 2, [1, 4, 2, 2], 4),
        (3, 9, 1, [3, 2, 7, 3], 21),
    ]
    mask = loaded.annToMask(loaded.loadAnns([2])[0])
    assert mask.sum() == 4 and mask[4:6, 1:3].all()


def test_tracks_reject_other_lengths(tracks):
    with pytest.raises(ValueError, match="each of the 2 frames, the track of object 4 has 3"):
        coco_annotations("clip", ["0.jpg", "1.jpg"], (12, 17), tracks)
    tracks[1].append()
    with pytest.raises(ValueError, match="each of the 3 frames, the track of object 9 has 4"):
        youtube_vis_tracks(1, tracks)


def test_write_json_whole_leaves_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "results.json"
    write_json_whole({"score": 1.5}, path)
    for unwritable in ({"a": [1] * 10000, "score": float("nan")}, {"score": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json_whole(unwritable, path)
    assert json.loads(path.read_text()) == {"score": 1.5}
    assert list(tmp_path.iterdir()) == [path]
