"""Training data: clips of every kind of source, what augmentation does to them, items and batches."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import make_processor
from torch.utils.data import DataLoader

from edgetam_hf.drawing import index_picture
from edgetam_hf.evaluation.video_datasets import read_sequences
from edgetam_hf.training import coco_masks
from edgetam_hf.training.augmentation import Augmentation
from edgetam_hf.training.clips import Clip, VideoClips
from edgetam_hf.training.dataset import ItemSettings, TrainingDataset, collate
from edgetam_hf.training.masklet_videos import open_masklet_clips
from edgetam_hf.training.pictures import CocoPictures, IndexPictures, Sa1bPictures

HEIGHT, WIDTH, NUM_FRAMES = 48, 80, 9
NEEDS_COCO = "masks of COCO and SA-1B need pycocotools"
UNCHANGED = Augmentation(flip_probability=0, degrees=0, shear=0, jitter=0, grey_probability=0)


def mask_at(t, number):
    """Mask of object 1 or 2 at a time; object 2 is not there on the first two frames and the last one."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    if number == 1 or 2 <= t < NUM_FRAMES - 1:
        mask[5 + 20 * (number - 1) : 20 + 20 * (number - 1), 8 + 4 * t : 30 + 4 * t] = True
    return mask


def frame_at(t):
    """A frame whose blue tells the time."""
    frame = np.full((HEIGHT, WIDTH, 3), 20 * t, np.uint8)
    frame[mask_at(t, 1), 0], frame[mask_at(t, 2), 1] = 250, 250
    return frame


def write(picture, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    picture.save(path)


def write_video(layout, root, name="cat"):
    """The root of a dataset in a layout, with one video more; returns root."""
    frames, annotations, step = {
        "davis": ("JPEGImages/480p", "Annotations/480p", 1),
        "mose": ("JPEGImages", "Annotations", 1),
        "youtube-vos": ("JPEGImages", "Annotations", 5),
        "sa-v": ("JPEGImages_24fps", "Annotations_6fps", 4),
    }[layout]
    for t in range(NUM_FRAMES):
        number = f"{step * t:05d}"
        write(frame_at(t), root / frames / name / f"{number}.png")
        if layout == "sa-v":
            for object_id in (1, 2):
                mask = 255 * mask_at(t, object_id).astype(np.uint8)
                write(mask, root / annotations / name / f"{object_id:03d}" / f"{number}.png")
            for between in range(1, step):  # frames without annotations
                write(255 - frame_at(t), root / frames / name / f"{step * t + between:05d}.png")
        else:
            masks = {number: mask_at(t, number) for number in (1, 2)}
            write(index_picture(list(masks.values()), list(masks)), root / annotations / name / f"{number}.png")
    if layout == "davis":
        (root / "ImageSets/2017").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets/2017/train.txt").write_text(f"{name}\n")
    if layout == "youtube-vos":
        objects = {"1": {"frames": ["00000"]}, "2": {"frames": ["00010"]}}
        (root / "meta.json").write_text(json.dumps({"videos": {name: {"objects": objects}}}))
    return root


def open_video(layout, root, **settings):
    listing = "ImageSets/2017/train.txt" if layout == "davis" else None
    return VideoClips(read_sequences(layout, write_video(layout, root), listing=listing), **settings)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """`VideoClips` of one video in the layout of MOSE."""
    return open_video("mose", tmp_path_factory.mktemp("mose"))


def times_of(clip):
    """What the frames of a clip tell of the time."""
    return [int(frame[0, 0, 2]) // 20 for frame in clip.frames]


def assert_same_clip(actual, expected):
    np.testing.assert_array_equal(actual.frames, expected.frames)
    np.testing.assert_array_equal(actual.masks, expected.masks)


# Clips of videos.


@pytest.mark.parametrize("layout", ["davis", "youtube-vos", "sa-v"])
def test_video_clips_are_the_same_from_every_layout(layout, videos, tmp_path):
    source = open_video(layout, tmp_path)
    assert len(source) == 1
    for seed in range(5):
        clip, expected = (s.draw(0, 3, 2, np.random.default_rng(seed)) for s in (source, videos))
        assert_same_clip(clip, expected)
        assert clip.frames[0].shape == (HEIGHT, WIDTH, 3) and clip.frames[0].dtype == np.uint8


def test_video_clips_have_frames_in_order_and_their_masks(videos):
    strides = set()
    for seed in range(40):
        clip = videos.draw(0, 3, 2, np.random.default_rng(seed))
        times = times_of(clip)
        stride = times[1] - times[0]
        assert times[2] - times[1] == stride
        strides.add(stride)
        visible = [number for number in (1, 2) if mask_at(times[0], number).any()]
        np.testing.assert_array_equal(clip.masks, [[mask_at(t, number) for number in visible] for t in times])
    assert strides == {-3, -2, -1, 1, 2, 3}


def test_video_clips_take_the_stride_that_fits(videos):
    assert {abs(np.diff(times_of(videos.draw(0, 6, 2, np.random.default_rng(s)))))[0] for s in range(20)} == {1}
    everything = videos.draw(0, NUM_FRAMES, 2, np.random.default_rng(0))
    assert sorted(times_of(everything)) == list(range(NUM_FRAMES))
    assert {times_of(videos.draw(0, 1, 2, np.random.default_rng(s)))[0] for s in range(50)} == set(range(NUM_FRAMES))


def test_video_clips_without_reversal_go_forward(videos):
    source = VideoClips(videos.sequences, max_stride=2, reverse_probability=0)
    times = [times_of(source.draw(0, 3, 2, np.random.default_rng(seed))) for seed in range(30)]
    assert {start - end for start, _, end in times} == {-2, -4}


def test_video_clips_have_at_most_max_objects_seen_first(videos):
    chosen = []
    for seed in range(40):
        clip = videos.draw(0, 2, 1, np.random.default_rng(seed))
        assert clip.masks.shape == (2, 1, HEIGHT, WIDTH) and clip.masks[0, 0].any()
        chosen.append(next(n for n in (1, 2) if (clip.masks[0, 0] == mask_at(times_of(clip)[0], n)).all()))
    assert set(chosen) == {1, 2}


def test_video_clips_start_with_an_empty_mask_where_there_is_no_object(tmp_path):
    root = write_video("mose", tmp_path)
    for path in sorted(root.glob("Annotations/cat/*.png"))[:4]:
        write(np.zeros((HEIGHT, WIDTH), np.uint8), path)
    source = VideoClips(read_sequences("mose", root), reverse_probability=0)
    clips = [source.draw(0, 3, 2, np.random.default_rng(seed)) for seed in range(20)]
    assert {clip.masks.shape[1] > 0 for clip in clips if times_of(clip)[0] >= 4} == {True}
    assert {clip.masks.shape[1] for clip in clips if times_of(clip)[0] < 4} == {0}
    assert all(len(item["mask_labels"][0]) for item in make_dataset([source], num_frames=3))


def test_video_clips_pass_over_sequences_that_are_too_short(videos, tmp_path):
    write_video("mose", tmp_path, "ant")
    for path in sorted(tmp_path.glob("Annotations/ant/*.png"))[2:]:
        path.unlink()
    write_video("mose", tmp_path, "cat")
    source = VideoClips(read_sequences("mose", tmp_path))
    assert len(source) == 2
    for index in (0, 1):
        clip, expected = (s.draw(index, 3, 2, np.random.default_rng(7)) for s in (source, videos))
        assert_same_clip(clip, expected)
    with pytest.raises(
        ValueError, match="clip of 10 frames needs as many annotated ones, which none of 2 sequences has"
    ):
        source.draw(0, 10, 2, np.random.default_rng(0))


def test_video_clips_read_palette_and_grey_pictures_alike(videos, tmp_path):
    root = write_video("mose", tmp_path)
    for path in root.glob("Annotations/cat/*.png"):
        with Image.open(path) as picture:
            assert picture.mode == "P"
            write(np.array(picture), path)
        assert Image.open(path).mode == "L"
    clip, expected = (
        s.draw(0, 3, 2, np.random.default_rng(3)) for s in (VideoClips(read_sequences("mose", root)), videos)
    )
    assert_same_clip(clip, expected)


@pytest.mark.parametrize(
    "path, picture, message",
    [
        ("Annotations/cat/00000.png", np.zeros((9, 9), np.uint8), "must have the size of the video, 80x48, got 9x9"),
        ("Annotations/cat/00000.png", np.full((HEIGHT, WIDTH), 300, np.uint16), "object id 300: ids go up to 255"),
        ("Annotations/cat/00000.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8), "palette or grey picture"),
        ("JPEGImages/cat/00001.png", np.zeros((9, 9, 3), np.uint8), "frame 1 .* has 9x9 pixels, the first one 80x48"),
    ],
)
def test_video_clips_reject_pictures_that_do_not_fit(path, picture, message, tmp_path):
    root = write_video("mose", tmp_path)
    write(picture, root / path)
    source = VideoClips(read_sequences("mose", root))
    with pytest.raises(ValueError, match=message):
        source.draw(0, NUM_FRAMES, 2, np.random.default_rng(0))


def test_read_sequences_rejects_what_is_missing(tmp_path):
    root = write_video("mose", tmp_path / "mose")
    with pytest.raises(ValueError, match="has not the layout of SA-V: looked for JPEGImages_24fps, Annotations_6fps"):
        read_sequences("sa-v", root)
    with pytest.raises(ValueError, match=r"looked for .*found no lists/train\.txt"):
        read_sequences("mose", root, listing="lists/train.txt")
    (root / "JPEGImages/cat/00003.png").unlink()
    with pytest.raises(ValueError, match=r"lacks the frame of annotation .*00003\.png: looked in .*JPEGImages.cat"):
        read_sequences("mose", root)
    for path in root.glob("Annotations/cat/*.png"):
        path.unlink()
    with pytest.raises(ValueError, match="sequence cat has no annotation: looked for PNG files in"):
        read_sequences("mose", root)


def test_video_clips_reject_settings_out_of_range(videos):
    with pytest.raises(ValueError, match="one VideoSequence at least"):
        VideoClips([])
    for settings in ({"max_stride": 0}, {"reverse_probability": 2}):
        with pytest.raises(ValueError, match=r"max_stride must be at least 1 and reverse_probability in 0\.\.1, got"):
            VideoClips(videos.sequences, **settings)


# Videos with masklets.


def write_masklets(folder, encode=None, kind="manual", **changes):
    """The folder, with a video four times as slow, of which every fourth frame is annotated, as in SA-V."""
    av = pytest.importorskip("av", reason="reading a video file needs PyAV")
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(folder / "sav_000001.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "0", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        for t in range(4 * NUM_FRAMES):
            pixels = frame_at(t // 4) if t % 4 == 0 else 255 - frame_at(t // 4)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    masklet = [[(encode or compressed)(mask_at(t, number)) for number in (1, 2)] for t in range(NUM_FRAMES)]
    (folder / f"sav_000001_{kind}.json").write_text(json.dumps({"masklet_num": 2, "masklet": masklet, **changes}))
    return folder


@pytest.mark.parametrize("kind", ["manual", "auto"])
def test_clips_of_masklets_are_those_of_pictures(kind, videos, tmp_path):
    write_masklets(tmp_path / "sav_000", kind=kind)
    source = open_masklet_clips(tmp_path, kind)
    assert len(source) == 1
    for seed in range(5):
        clip, expected = (s.draw(0, 3, 2, np.random.default_rng(seed)) for s in (source, videos))
        np.testing.assert_array_equal(clip.masks, expected.masks)
        np.testing.assert_allclose(clip.frames, expected.frames, atol=4)  # YUV rounds colours


def test_masklets_are_not_kept_in_memory(tmp_path):
    source = open_masklet_clips(write_masklets(tmp_path))
    source.draw(0, 3, 2, np.random.default_rng(0))
    assert [vars(video).keys() for video in source.sequences.videos] == [{"json", "file"}]


def test_masklets_reject_what_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match="masklets must be one of manual, auto, got 'both'"):
        open_masklet_clips(tmp_path, "both")
    with pytest.raises(ValueError, match=r"looked for \*_manual\.json, found none"):
        open_masklet_clips(tmp_path)
    for number, (changes, message) in enumerate(
        [
            ({"masklet": None}, 'must have "masklet", a list of lists of run lengths'),
            ({"encode": lambda mask: run_lengths(mask[:9])}, r"object 0 on frame 0 must have .*\[48, 80\]"),
            ({"encode": lambda mask: {"size": [HEIGHT, WIDTH], "counts": "0a"}}, "run lengths that are damaged"),
            ({"masklet": [[compressed(mask_at(0, 1))]] * 99}, "has masks for frame 392, but .* has only 36 frames"),
        ]
    ):
        source = open_masklet_clips(write_masklets(tmp_path / str(number), **changes), reverse_probability=0)
        with pytest.raises(ValueError, match=message):
            source.draw(0, 9, 2, np.random.default_rng(0))
    (tmp_path / "0" / "sav_000001.mp4").unlink()
    with pytest.raises(ValueError, match=r"masklets without their video: looked for .*sav_000001\.mp4"):
        open_masklet_clips(tmp_path / "0")


# Pictures.


def run_lengths(mask):
    """Uncompressed run lengths of COCO."""
    changes = np.flatnonzero(np.diff(np.pad(mask.ravel(order="F").astype(int), 1)))
    runs = np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()
    return {"size": list(mask.shape), "counts": runs[:-1] if runs[-1] == 0 else runs}


def compressed(mask):
    coco_mask = pytest.importorskip("pycocotools.mask", reason=NEEDS_COCO)
    found = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": found["size"], "counts": found["counts"].decode()}


def polygon(t, number):
    (rows,), (columns,) = (np.nonzero(mask_at(t, number).any(axis)) for axis in (1, 0))
    left, top, right, bottom = (int(n) for n in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return [[left, top, right, top, right, bottom, left, bottom]]


def write_coco(folder, encode=None, **changes):
    """Arguments of `CocoPictures`: a picture with two objects and a crowd, one with one object, and an empty one."""
    pytest.importorskip("pycocotools", reason=NEEDS_COCO)
    images, annotations = [], []
    for image_id, (t, numbers) in enumerate([(3, (1, 2)), (4, (2,)), (5, ())]):
        write(frame_at(t), folder / "images" / f"{t}.png")
        images.append({"id": image_id, "file_name": f"{t}.png", "height": HEIGHT, "width": WIDTH})
        for number in numbers:
            segmentation = encode(mask_at(t, number)) if encode else polygon(t, number)
            annotations.append({"id": len(annotations), "image_id": image_id, "segmentation": segmentation})
    crowd = run_lengths(np.ones((HEIGHT, WIDTH), bool))
    annotations.append({"id": 99, "image_id": 0, "segmentation": crowd, "iscrowd": 1})
    (folder / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations, **changes}))
    return folder / "instances.json", folder / "images"


def write_sa1b(folder, masks):
    """Folder of SA-1B with one picture."""
    folder.mkdir(exist_ok=True)
    Image.fromarray(frame_at(3)).save(folder / "sa_7.jpg", quality=100, subsampling=0)
    data = {
        "image": {"image_id": 7, "width": WIDTH, "height": HEIGHT, "file_name": "sa_7.jpg"},
        "annotations": [{"id": i, "segmentation": compressed(mask)} for i, mask in enumerate(masks)],
    }
    (folder / "sa_7.json").write_text(json.dumps(data))
    return folder


def write_indices(root):
    """Folders images/ and masks/ with one picture."""
    write(frame_at(3), root / "images/3.png")
    write(index_picture([mask_at(3, 1), mask_at(3, 2)], [4, 9]), root / "masks/3.png")
    return root


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
    with pytest.raises(ValueError, match=r"instances\.json: annotation 17 must have as segmentation polygons"):
        CocoPictures(*write_coco(tmp_path, annotations=annotations))


def test_coco_rejects_damaged_run_lengths(tmp_path):
    annotations = [{"id": 0, "image_id": 0, "segmentation": {"size": [HEIGHT, WIDTH], "counts": "abc"}}]
    source = CocoPictures(*write_coco(tmp_path, annotations=annotations))
    with pytest.raises(ValueError, match="CocoPictures 0 has run lengths that are damaged"):
        source.draw(0, 1, 1, np.random.default_rng(0))


def test_coco_rejects_json_that_does_not_fit(tmp_path):
    path, images = write_coco(tmp_path)
    text = path.read_text()
    data = json.loads(text)
    cases = [
        (text[:-20], "is no JSON, or it is cut off"),
        ("[]", 'found no "images"'),
        (json.dumps({"images": data["images"]}), 'found no "annotations"'),
        (json.dumps({**data, "annotations": []}), "has no object, crowds left out"),
        (json.dumps({**data, "images": []}), 'is of image 0, which "images" lacks'),
        (json.dumps({**data, "images": [{"id": 0, "file_name": "3.png"}]}), 'no usable "height"'),
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


# Augmentation.


def scene(height=64, width=64, num_frames=2):
    """Frames (T, 3, H, W), whose red is the mask of the first object and whose green that of the second, and masks."""
    y, x = np.mgrid[:height, :width]
    first = (np.abs(y - 20) < 12) & (np.abs(x - 30) < 16)
    second = (y - 45) ** 2 + (x - 40) ** 2 < 150
    masks = torch.from_numpy(np.stack([[first, np.roll(second, 3 * t, 1)] for t in range(num_frames)])).byte()
    return torch.cat((masks, 0 * masks[:, :1]), 1).float(), masks


def test_move_does_to_masks_what_it_does_to_frames():
    frames, masks = scene()
    for seed in range(20):
        moved, moved_masks = Augmentation().move(frames, masks, (64, 100), np.random.default_rng(seed))
        assert moved_masks.dtype == torch.uint8 and not torch.equal(moved_masks, masks)
        colours = moved[:, :2]
        # between 0 and 1 lie only pixels on the outlines
        assert ((colours > 1e-3) & (colours < 1 - 1e-3)).float().mean() < 0.05
        assert moved_masks[colours > 1 - 1e-3].all() and not moved_masks[colours < 1e-3].any()
        assert ((colours > 0.5) != moved_masks).float().mean() < 0.01


def test_move_mirrors_frames_and_masks_alike():
    frames, masks = scene()
    mirror = Augmentation(flip_probability=1, degrees=0, shear=0)
    moved, moved_masks = mirror.move(frames, masks, (64, 64), np.random.default_rng(0))
    assert torch.equal(moved_masks, masks.flip(-1))
    torch.testing.assert_close(moved, frames.flip(-1), atol=1e-4, rtol=0)


def test_move_is_the_same_for_all_frames_of_a_clip():
    frames, masks = (tensor[:1].expand(3, -1, -1, -1) for tensor in scene())
    moved, moved_masks = Augmentation().move(frames, masks, (64, 64), np.random.default_rng(1))
    for tensor in (moved, moved_masks):
        assert torch.equal(tensor[0], tensor[1]) and torch.equal(tensor[0], tensor[2])


def test_move_turns_what_was_seen_before_resizing():
    y, x = (np.mgrid[:64, :64] + 0.5) / 64 - 0.5
    disc = torch.from_numpy(y**2 + (2 * x) ** 2 < 0.1).byte()[None, None]  # of a picture that was twice as wide
    turn, differences = Augmentation(flip_probability=0, degrees=90, shear=0), []
    for seed in range(5):
        frames = disc.float().expand(1, 3, -1, -1)
        _, moved = turn.move(frames, disc, (100, 200), np.random.default_rng(seed))
        assert (moved != disc).float().mean() < 0.01
        _, moved = turn.move(frames, disc, (100, 100), np.random.default_rng(seed))
        differences.append(float((moved != disc).float().mean()))
    assert max(differences) > 0.05


def test_colours_change_for_the_clip_and_for_each_frame():
    frames = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).mul(0.4).add(0.3).expand(30, -1, -1, -1)
    jitter = Augmentation(jitter=0.1, grey_probability=0)
    means = []
    for seed in range(20):
        changed = jitter.change_colours(frames, np.random.default_rng(seed))
        brightness = changed.mean((1, 2, 3)) / frames[0].mean()
        assert 0.9**2 - 1e-3 < brightness.min() < brightness.max() < 1.1**2 + 1e-3
        assert 0.04 < brightness.std() < 0.08  # of frames: 0.2 / sqrt(12) = 0.058
        means.append(float(brightness.mean()))
    assert 0.03 < np.std(means) < 0.09  # of clips
    assert torch.equal(UNCHANGED.change_colours(frames[:2], np.random.default_rng(0)), frames[:2])


def test_colours_go_in_a_clip_now_and_then():
    frames = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    grey = 0
    for seed in range(100):
        changed = Augmentation(grey_probability=0.25).change_colours(frames, np.random.default_rng(seed))
        is_grey = (changed.amax(1) - changed.amin(1)).amax((1, 2)) < 1e-6
        assert is_grey[0] == is_grey[1]
        grey += int(is_grey[0])
    assert 10 < grey < 40


@pytest.mark.parametrize("name", ["flip_probability", "degrees", "shear", "jitter", "grey_probability"])
def test_augmentation_rejects_settings_out_of_range(name):
    for value in (-0.1, 200):
        with pytest.raises(ValueError, match=f"{name} must be in 0"):
            Augmentation(**{name: value})


# Items and batches.


class OneClip:
    """Source that always gives the same clip."""

    def __init__(self, clip):
        self.clip, self.has_videos = clip, len(clip.frames) > 1

    def __len__(self):
        return 1

    def draw(self, index, num_frames, max_objects, rng):
        return self.clip


def make_dataset(sources, num_items=5, seed=0, weights=None, size=(64, 64), items_per_step=1, **settings):
    settings = ItemSettings(make_processor(*size).image_processor, **settings)
    return TrainingDataset(sources, num_items, settings, seed, weights, items_per_step)


def assert_same_items(actual, expected):
    assert len(actual) == len(expected) > 0
    for one, other in zip(actual, expected):
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])), name


def test_item_of_a_picture_is_what_the_processor_makes(tmp_path):
    source = IndexPictures(write_indices(tmp_path))
    for augmentation in (None, UNCHANGED):
        dataset = make_dataset([source], size=(64, 96), augmentation=augmentation)
        item = dataset[0]
        expected = dataset.settings.image_processor(images=frame_at(3), return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(item["pixel_values"], expected, atol=2e-4, rtol=0)
        assert item["pixel_values"].dtype == torch.float32 and item["mask_labels"].dtype == torch.int8
        assert item["mask_labels"].shape == (2, 64, 96) and set(item["mask_labels"].unique().tolist()) == {0, 1}
        np.testing.assert_allclose(item["mask_labels"].float().mean((1, 2)), mask_at(3, 1).mean(), atol=0.01)
        assert isinstance(item["prompt_seeds"], int)


def test_item_of_a_clip_has_frames_and_their_masks(videos):
    dataset = make_dataset([videos], size=(HEIGHT, WIDTH), num_frames=3)
    for item in dataset:
        frames, labels = item["pixel_values_videos"], item["mask_labels"]
        assert frames.shape == (3, 3, HEIGHT, WIDTH) and labels.shape[0] == 3 and labels.shape[2:] == (HEIGHT, WIDTH)
        assert labels[0].flatten(1).any(1).all()
        for t, frame in enumerate(frames):
            for mask in labels[t][labels[t].flatten(1).any(1)]:
                number = 1 if mask[12].any() else 2
                np.testing.assert_array_equal(mask.bool(), frame[number - 1] > 2)


def test_item_has_masks_where_resizing_puts_the_frame():
    mask = np.zeros((1, 1, 256, 256), bool)
    mask[..., 66:150, 31:97] = True
    frame = np.repeat(255 * mask[0, 0, :, :, None].astype(np.uint8), 3, axis=2)
    item = make_dataset([OneClip(Clip([frame], mask))])[0]
    half = (item["pixel_values"].amin() + item["pixel_values"].amax()) / 2
    found = (item["pixel_values"][0] > half) != item["mask_labels"][0].bool()
    rows, columns = (torch.nonzero(item["mask_labels"][0].any(dim))[:, 0] for dim in (1, 0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (16, 36, 8, 23)
    assert found.sum() <= len(rows)


def test_items_depend_on_seed_and_index_alone(videos):
    settings = {"num_frames": 2, "augmentation": Augmentation()}
    dataset = make_dataset([videos], **settings)
    items = list(dataset)
    state = torch.get_rng_state()
    assert_same_items([dataset[4], dataset[1]], [items[4], items[1]])
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_items(list(make_dataset([videos], num_items=9, **settings))[:5], items)
    others = list(make_dataset([videos], seed=1, **settings))
    seeds = {item["prompt_seeds"] for item in items + others}
    assert len(seeds) == 10 and not torch.equal(items[0]["pixel_values_videos"], items[1]["pixel_values_videos"])


def test_batches_do_not_depend_on_the_number_of_workers(videos, tmp_path):
    sources = [videos, VideoClips(videos.sequences, max_stride=1)]
    dataset = make_dataset(sources, num_frames=2, augmentation=Augmentation())
    loaders = [DataLoader(dataset, 2, collate_fn=collate, num_workers=number) for number in (0, 2)]
    assert_same_items(*map(list, loaders))


def test_sources_are_mixed_by_their_weights():
    mask = np.ones((1, 1, 8, 8), bool)
    sources = [OneClip(Clip([np.full((8, 8, 3), level, np.uint8)], mask)) for level in (0, 255)]
    for weights, expected in ((None, 0.5), ((3, 1), 0.25)):
        dataset = make_dataset(sources, num_items=60, weights=weights, size=(32, 32))
        assert np.mean([item["pixel_values"].mean() > 0 for item in dataset]) == pytest.approx(expected, abs=0.15)


def test_a_step_learns_from_clips_or_from_pictures(videos):
    picture = OneClip(Clip([np.zeros((8, 8, 3), np.uint8)], np.ones((1, 1, 8, 8), bool)))
    arguments = {"num_items": 120, "weights": (1, 3), "size": (32, 32), "items_per_step": 3}
    dataset = make_dataset([picture, videos], num_frames=2, **arguments)
    lengths = np.array([len(item["pixel_values_videos"]) for item in dataset]).reshape(40, 3)
    assert (lengths == lengths[:, :1]).all() and np.mean(lengths == 1) == pytest.approx(0.25, abs=0.15)
    assert all("pixel_values" in item for item in make_dataset([picture, videos], **arguments))


def test_items_drop_objects_that_left_the_first_frame():
    masks = np.zeros((2, 2, 64, 64), bool)
    masks[:, 0, 20:40, 20:40] = masks[:, 1, :2, :2] = True  # a corner, which turning cuts off
    source = OneClip(Clip([np.zeros((64, 64, 3), np.uint8)] * 2, masks))
    items = list(make_dataset([source], num_items=20, num_frames=2, augmentation=Augmentation()))
    assert {item["mask_labels"].shape[1] for item in items} == {1, 2}
    assert all(item["mask_labels"][0].flatten(1).any(1).all() for item in items)


def test_items_are_drawn_again_until_there_is_an_object():
    frame = np.zeros((16, 16, 3), np.uint8)
    empty, full = (OneClip(Clip([frame], np.full((1, 1, 16, 16), value))) for value in (False, True))
    none = OneClip(Clip([frame], np.zeros((1, 0, 16, 16), bool)))
    assert all(item["mask_labels"].all() for item in make_dataset([empty, full, none]))
    with pytest.raises(
        ValueError, match="none of 20 clips had an object on its first frame, the last one was of OneClip"
    ):
        make_dataset([empty, none])[0]


def test_collate_fills_up_with_objects_of_minus_one(videos):
    for axis, num_frames in ((0, None), (1, 2)):
        dataset = make_dataset([videos], num_items=8, num_frames=num_frames)
        items = list(dataset)
        one, two = (next(i for i in items if i["mask_labels"].shape[axis] == count) for count in (1, 2))
        batch = collate([one, two])
        labels = batch["mask_labels"].movedim(1 + axis, 1)
        assert torch.equal(labels[0, 0], one["mask_labels"].select(axis, 0)) and (labels[0, 1] == -1).all()
        assert torch.equal(batch["mask_labels"][1], two["mask_labels"]) and batch["mask_labels"].dtype == torch.int8
        assert batch["prompt_seeds"].tolist() == [one["prompt_seeds"], two["prompt_seeds"]]
        name = "pixel_values" if num_frames is None else "pixel_values_videos"
        assert torch.equal(batch[name], torch.stack([one[name], two[name]]))


def test_dataset_rejects_settings_out_of_range(videos):
    for arguments, message in (
        ({"sources": []}, "sources must be at least one"),
        ({"num_items": 0}, "num_items must be at least 1"),
        ({"seed": -1}, "seed at least 0"),
        ({"weights": [1, 2]}, "a positive number for each of 1 sources"),
        ({"weights": [0]}, "a positive number for each"),
        ({"num_frames": 0}, "num_frames must be at least 1"),
        ({"max_objects": 0}, "max_objects must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make_dataset(**{"sources": [videos], **arguments})
    with pytest.raises(IndexError, match=r"index must be in 0\.\.4, got 5"):
        make_dataset([videos])[5]


def test_batches_are_what_the_models_learn_from(videos, model, video_model):
    for learner, num_frames in ((model, None), (video_model, 2)):
        dataset = make_dataset([videos], 8, size=(128, 128), num_frames=num_frames, augmentation=Augmentation())
        fewest, *_, most = sorted(dataset, key=lambda item: item["mask_labels"].shape[-3])
        batch = collate([fewest, most])
        assert set(batch["mask_labels"].unique().tolist()) == {-1, 0, 1}
        assert learner(**batch).loss.isfinite()
