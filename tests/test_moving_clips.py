"""Clips of moving objects: what is drawn, that masks are what is seen, and the dataset that is written of them."""

import pickle

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("scipy")

from edgetam_hf import EdgeTamImageProcessor
from edgetam_hf.evaluation.scoring import report_scores, score_results
from edgetam_hf.evaluation.video_datasets import read_dataset
from edgetam_hf.training.clips import Clip
from edgetam_hf.training.dataset import ItemSettings, TrainingDataset
from recipes.nano import crops, cutouts, motions, moving
from recipes.nano.davis_folder import repeat_first_masks, write_clips

SIDE = 96  # of the composites
BRIGHTNESS = {"training": (0, 100), "held_out": (150, 255)}


def save_composites(folder, name, instances):
    rng = np.random.default_rng(0)
    pictures = rng.integers(*BRIGHTNESS[name], (*instances.shape, 3), dtype=np.uint8)
    np.save(folder / f"{name}_pictures.npy", pictures)
    np.save(folder / f"{name}_instances.npy", instances)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("composites")
    instances = np.zeros((3, SIDE, SIDE), np.uint8)
    instances[:, 10:40, 20:60] = 1
    instances[:, 30:80, 50:90] = 2
    instances[:, 50:, :30] = 3  # reaches the border: not whole
    for name in BRIGHTNESS:
        save_composites(folder, name, instances)
    return folder


@pytest.fixture(scope="module")
def source(data):
    return moving.MovingComposites(data, "training", 64)


def draw(source, seed, num_frames=6, max_objects=3):
    return source.draw(seed % len(source), num_frames, max_objects, np.random.default_rng(seed))


def assert_equal(clip, other):
    np.testing.assert_array_equal(clip.frames, other.frames)
    np.testing.assert_array_equal(clip.masks, other.masks)


def test_clip_is_the_same_for_the_same_generator(source):
    assert_equal(draw(source, 3), draw(source, 3))
    assert not np.array_equal(draw(source, 3).frames, draw(source, 6).frames)  # over the same background


def test_source_is_the_same_in_another_process(source):
    copied = pickle.dumps(source)
    assert len(copied) < 1000  # paths, no pictures
    assert_equal(draw(pickle.loads(copied), 5), draw(source, 5))


def test_what_enters_later_is_an_object_where_it_is_asked_for(data):
    entering = moving.MovingComposites(data, "training", 64, has_entering=True)
    assert pickle.loads(pickle.dumps(entering)).has_entering
    num_entered = 0
    for seed in range(20):
        clip = draw(entering, seed, 24, 8)
        shares = clip.masks.mean((2, 3))
        assert (shares.max(0) >= moving.SMALLEST_SHARE).all()
        num_entered += (shares[0] < moving.SMALLEST_SHARE).sum()
    assert num_entered > 0


@pytest.mark.parametrize("max_objects", [1, 2, 8])
def test_objects_are_disjoint_and_large_on_the_first_frame(source, max_objects):
    for seed in range(20):
        clip = draw(source, seed, 6, max_objects)
        assert len(clip.frames) == 6
        assert all(frame.shape == (64, 64, 3) and frame.dtype == np.uint8 for frame in clip.frames)
        assert clip.masks.dtype == bool
        assert clip.masks.shape[0] == 6 and clip.masks.shape[2:] == (64, 64)
        assert 1 <= clip.masks.shape[1] <= max_objects
        assert clip.masks.sum(1).max() <= 1
        assert clip.masks[0].mean((1, 2)).min() >= 0.01


def test_objects_leave_return_and_hide(source):
    clips = [draw(source, seed, 24) for seed in range(20)]
    areas = [of_object for clip in clips for of_object in clip.masks.sum((2, 3)).T]
    returned = [area for area in areas if area[np.flatnonzero(area == 0)[:1].sum() :].any() and not area.all()]
    half_gone = [area for area in areas if 0 < area[1:].min() < area[0] / 2]
    assert len(areas) / 10 < len(returned) < len(areas)
    assert len(areas) / 10 < len(half_gone) < len(areas)


def test_clips_become_items_of_training(source):
    settings = ItemSettings(EdgeTamImageProcessor(size={"height": 64, "width": 64}), num_frames=3, max_objects=2)
    dataset = TrainingDataset([source], 4, settings)
    for item in (dataset[index] for index in range(4)):
        assert item["pixel_values_videos"].shape == (3, 3, 64, 64)
        assert item["mask_labels"].shape[0] == 3 and 1 <= item["mask_labels"].shape[1] <= 2
        assert item["mask_labels"][0].flatten(1).any(1).all()


def test_splits_share_no_pixels_and_nothing_shows_beyond_the_background(data):
    for split in moving.SPLITS:
        low, high = BRIGHTNESS[split.replace("-", "_")]
        source = moving.MovingComposites(data, split, 48)
        frames = np.stack([draw(source, seed, 12).frames for seed in range(6)])
        assert low <= frames.min() and frames.max() <= high


def test_paths_are_smooth_and_no_faster_than_their_pace():
    fastest = max(0.05, motions.LEAVING_PACES[1])
    for seed in range(50):
        paths = motions.draw_paths(np.random.default_rng(seed), [0.1, 0.3, 0.2], 24, 0.05)
        steps = np.diff(paths, axis=1)
        assert np.abs(steps).max() <= fastest
        assert np.abs(np.diff(steps, axis=1)).max() <= fastest**2 / 0.4  # of a sine of the smallest amplitude


def test_paths_meet():
    # two that move by themselves are seldom near each other for a moment
    nearest = []
    for seed in range(100):
        first, second = motions.draw_paths(np.random.default_rng(seed), [0.05, 0.05], 12, 0.004)
        nearest.append(np.linalg.norm(first - second, axis=1).min())
    assert 0.35 < np.mean(np.array(nearest) < 0.06) < 0.8


# What is painted.


def flat_sprite(color, width, height):
    bands = [Image.new("L", (width, height), value) for value in (*color, 255)]
    return Image.merge("RGBX", bands)


def pose(center, angle=0.0, scale=(1.0, 1.0), size=(20, 10)):
    return motions.pose_matrices(size, np.array([center]), np.array([angle]), np.array([scale]))[0]


def test_paint_gives_the_visible_part_of_each_sprite():
    canvas = Image.new("RGB", (60, 50), (9, 9, 9))
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    sprites = [flat_sprite(color, 20, 10) for color in colors]
    poses = [pose((30, 20)), pose((35, 25), np.pi / 2), pose((58, 45), scale=(-2, 1))]
    numbers = moving.paint(canvas, sprites, poses)
    expected = np.zeros((50, 60), np.uint8)
    expected[15:25, 20:40] = 1
    expected[15:35, 30:40] = 2  # turned, and before the first
    expected[40:50, 38:60] = 3  # twice as wide, in part beyond the border
    np.testing.assert_array_equal(numbers, expected)
    np.testing.assert_array_equal(np.asarray(canvas), np.array([(9, 9, 9), *colors], np.uint8)[expected])


def test_paint_takes_a_sprite_to_where_its_pose_says():
    sprite, turned = flat_sprite((255, 255, 255), 20, 10), pose((30.3, 24.6), 0.5, (1.5, 2.0))
    numbers = moving.paint(Image.new("RGB", (60, 50)), [sprite], [turned])
    y, x = np.mgrid[:50, :60] + 0.5
    inverse = np.linalg.inv(np.vstack([turned, [0, 0, 1]]))
    inside = np.einsum("ij,jyx->iyx", inverse[:2, :2], np.stack([x, y])) + inverse[:2, 2, None, None]
    expected = ((inside >= 0) & (inside < np.array([20, 10])[:, None, None])).all(0)
    np.testing.assert_array_equal(numbers == 1, expected)


def test_paint_leaves_out_what_lies_beyond_the_picture():
    canvas = Image.new("RGB", (60, 50))
    assert not moving.paint(canvas, [flat_sprite((255, 255, 255), 20, 10)], [pose((-11, 25))]).any()
    assert not np.asarray(canvas).any()


def test_cutouts_are_whole_instances_without_their_borders(data):
    pictures, instances = (np.load(data / f"training_{name}.npy") for name in ("pictures", "instances"))
    sprites = list(cutouts.cut_out(pictures[0], instances[0]))
    assert len(sprites) == 2  # the third reaches the border
    for sprite, number in zip(sprites, (1, 2), strict=True):
        pixels = np.array(sprite)
        rows, columns = np.nonzero(instances[0] == number)
        top, left = rows.min() - 1, columns.min() - 1
        height, width = pixels.shape[:2]
        np.testing.assert_array_equal(pixels[..., :3], pictures[0][top : top + height, left : left + width])
        around = np.pad(instances[0] == number, 1)
        inner = np.all([np.roll(around, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)], 0)[1:-1, 1:-1]
        np.testing.assert_array_equal(pixels[..., 3] == 255, inner[top : top + height, left : left + width])


def test_rows_are_read_as_from_the_memory_map(data):
    mapped = np.load(data / "held_out_pictures.npy", mmap_mode="r")
    np.testing.assert_array_equal(cutouts.read_rows(mapped, 1, 3), mapped[1:3])


# The dataset.


def test_command_writes_clips_that_read_back_equal(data, tmp_path):
    options = ["--data", str(data), "--clips", "3", "--frames", "4", "--size", "48", "--objects", "2", "--seed", "7"]
    moving.main(["--output", str(tmp_path / "moving"), *options])
    source = moving.MovingComposites(data, "held-out", 48)
    sequences = read_dataset("davis", tmp_path / "moving")
    assert [sequence.name for sequence in sequences] == ["0000", "0001", "0002"]
    for number, sequence in enumerate(sequences):
        rng = np.random.default_rng((7, number))
        clip = source.draw(int(rng.integers(len(source))), 4, 2, rng)
        assert sequence.object_ids == list(range(1, clip.masks.shape[1] + 1))
        assert len(sequence.frames) == 4
        for frame_idx, masks in enumerate(clip.masks):
            found = sequence.read_masks(frame_idx)
            empty = np.zeros((48, 48), bool)
            np.testing.assert_array_equal([found.get(n, empty) for n in sequence.object_ids], masks)
            difference = sequence.frames[frame_idx].permute(1, 2, 0).numpy() - clip.frames[frame_idx].astype(float)
            assert np.abs(difference).mean() < 25  # noise, which JPEG does not keep


def square_clip(offsets):
    masks = np.zeros((len(offsets), 1, 40, 40), bool)
    for mask, offset in zip(masks, offsets, strict=True):
        mask[0, 5:15, offset : offset + 10] = True
    return Clip([np.repeat(of_frame[0, ..., None], 3, 2) * np.uint8(200) for of_frame in masks], masks)


@pytest.mark.parametrize("offsets, j", [([4] * 5, 1.0), ([4, 9, 9, 9, 9], 1 / 3), ([4, 20, 20, 20, 20], 0.0)])
def test_baseline_repeats_the_first_masks(offsets, j, tmp_path):
    write_clips([square_clip(offsets)], tmp_path / "data")
    sequences = read_dataset("davis", tmp_path / "data")
    repeat_first_masks(sequences, tmp_path / "repeated")
    total = report_scores(score_results(sequences, tmp_path / "repeated"))["total"]
    assert total["J_mean"] == pytest.approx(j)
    assert (total["F_mean"] == 1) == (j == 1)


def test_command_prints_the_baseline(tmp_path, capsys):
    write_clips([square_clip([4] * 5)], tmp_path / "data")
    moving.main(["--baseline", str(tmp_path / "data"), "--output", str(tmp_path / "repeated")])
    assert capsys.readouterr().out.startswith("J&F 100.0, J_mean 100.0")


def test_dataset_is_written_whole_or_not_at_all(tmp_path):
    def failing():
        yield square_clip([4] * 3)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_clips(failing(), tmp_path / "data")
    assert not list(tmp_path.iterdir())
    (tmp_path / "data").mkdir()  # an empty one may be there
    write_clips([square_clip([4] * 3)], tmp_path / "data")
    assert len(read_dataset("davis", tmp_path / "data")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_tempo_scales_all_speeds(data):
    clips = [draw(moving.MovingComposites(data, "training", 64, tempo=tempo), 3, num_frames=9) for tempo in (0, 0.5, 1)]
    assert all((frame == clips[0].frames[0]).all() for frame in clips[0].frames)
    assert (clips[0].masks == clips[0].masks[:1]).all()
    assert_equal(clips[2], draw(moving.MovingComposites(data, "training", 64), 3, num_frames=9))
    assert not (clips[1].masks == clips[1].masks[:1]).all()
    for seed in range(20):  # half as fast, frame 8 is where frame 4 was
        slow, fast = (
            motions.draw_paths(np.random.default_rng(seed), [0.1], 9, 0.02 * tempo, tempo)[0] for tempo in (0.5, 1)
        )
        np.testing.assert_allclose(slow[::2], fast[:5])
    with pytest.raises(ValueError, match="tempo must not be negative, got -1"):
        moving.MovingComposites(data, "training", 64, tempo=-1)


# Pictures of the same composites.


def test_pictures_show_the_objects_of_their_masks(tmp_path):
    instances = np.zeros((3, SIDE, SIDE), np.uint8)
    instances[:, 10:60, 20:70], instances[:, 80:, :], instances[:, 0, :3] = 1, 2, 3
    np.save(tmp_path / "training_instances.npy", instances)
    np.save(tmp_path / "training_pictures.npy", np.repeat(100 * instances[..., None].clip(0, 2), 3, axis=-1))
    source, counts = crops.CompositePictures(tmp_path, size=SIDE), set()
    for seed in range(20):
        clip = draw(source, seed, num_frames=1)
        (frame,), (masks,) = clip.frames, clip.masks
        assert frame.shape == (SIDE, SIDE, 3) and masks.shape[1:] == (SIDE, SIDE)
        assert np.mean(masks.any(0) == (frame[..., 0] > 50)) > 0.95  # borders blur where the picture is a crop
        assert (masks.sum((1, 2)) >= 0.002 * SIDE**2).all() and masks.sum(0).max(initial=0) <= 1
        counts.add(len(masks))
    assert counts <= {1, 2} and 2 in counts
    assert len(draw(source, 0, num_frames=1, max_objects=1).masks[0]) == 1
    with pytest.raises(ValueError, match="a picture is a clip of one frame, got num_frames=2"):
        draw(source, 0, num_frames=2)


# Bad input.


def test_command_rejects_a_folder_with_files(data, tmp_path, capsys):
    (tmp_path / "kept.txt").write_text("mine")
    for arguments in (["--data", str(data), "--clips", "1"], ["--baseline", str(tmp_path / "data")]):
        write_clips([square_clip([4] * 3)], tmp_path / "data") if "--baseline" in arguments else None
        with pytest.raises(SystemExit):
            moving.main(["--output", str(tmp_path), *arguments])
        assert "is not empty: choose another one" in capsys.readouterr().err
    assert (tmp_path / "kept.txt").read_text() == "mine"


@pytest.mark.parametrize("option", ["--clips", "--frames", "--size", "--objects"])
def test_command_rejects_zeros(option, data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        moving.main(["--data", str(data), "--output", str(tmp_path / "moving"), option, "0"])
    assert "must be at least 1" in capsys.readouterr().err


def test_source_rejects_a_folder_without_composites(tmp_path):
    with pytest.raises(ValueError, match="no held-out composites: render them with"):
        moving.MovingComposites(tmp_path, "held-out")


def test_source_rejects_an_unknown_split(data):
    with pytest.raises(ValueError, match="split must be one of training, held-out, got 'test'"):
        moving.MovingComposites(data, "test")


def test_source_rejects_composites_without_whole_objects(tmp_path):
    save_composites(tmp_path, "training", np.ones((2, SIDE, SIDE), np.uint8))
    with pytest.raises(ValueError, match=r"training_pictures\.npy: none of 2 composites has an object"):
        moving.MovingComposites(tmp_path)
