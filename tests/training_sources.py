"""Training data of every kind: two rectangles that move to the right, under a blue that tells the time."""

import json

import numpy as np
import pytest
from PIL import Image
from small_models import make_processor

from edgetam_hf.evaluation.video_datasets import read_sequences
from edgetam_hf.formats.index_pictures import index_picture
from edgetam_hf.training.augmentation import Augmentation
from edgetam_hf.training.dataset import ItemSettings, TrainingDataset
from edgetam_hf.training.videos import VideoClips

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


def times_of(clip):
    """What the frames of a clip tell of the time."""
    return [int(frame[0, 0, 2]) // 20 for frame in clip.frames]


def assert_same_clip(actual, expected):
    np.testing.assert_array_equal(actual.frames, expected.frames)
    np.testing.assert_array_equal(actual.masks, expected.masks)


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


# Items.


def make_dataset(sources, num_items=5, seed=0, weights=None, size=(64, 64), items_per_step=1, **settings):
    settings = ItemSettings(make_processor(*size).image_processor, **settings)
    return TrainingDataset(sources, num_items, settings, seed, weights, items_per_step)
