"""What augmentation does to frames and their masks."""

import numpy as np
import pytest
import torch
from training_sources import UNCHANGED

from edgetam_hf.training.augmentation import Augmentation


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
