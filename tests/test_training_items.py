"""Items and batches of training data."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from training_sources import HEIGHT, UNCHANGED, WIDTH, frame_at, make_dataset, mask_at, write_indices

from edgetam_hf.training.augmentation import Augmentation
from edgetam_hf.training.clips import Clip
from edgetam_hf.training.dataset import collate
from edgetam_hf.training.pictures import IndexPictures
from edgetam_hf.training.videos import VideoClips


class OneClip:
    """Source that always gives the same clip."""

    def __init__(self, clip):
        self.clip, self.has_videos = clip, len(clip.frames) > 1

    def __len__(self):
        return 1

    def draw(self, index, num_frames, max_objects, rng):
        return self.clip


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
