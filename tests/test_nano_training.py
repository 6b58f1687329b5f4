"""Composites, prompts, losses and the resumable loop of the nano training, on tiny cases."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("skimage")
pytest.importorskip("tqdm")

from edgetam_hf.evaluation.clicks import largest_error
from recipes.nano import composites, losses, prompts, sprites, train
from recipes.nano.model import NanoTrainee, set_image_size


def make_sprite(seed):
    rng = np.random.default_rng(seed)
    sprite = np.zeros((70, 90, 4), np.uint8)
    sprite[10:60, 20:70, :3] = rng.integers(256, size=3)
    sprite[10:60, 20:70, 3] = 255
    return sprite


@pytest.fixture(scope="module")
def library():
    photograph = np.random.default_rng(0).integers(256, size=(300, 300, 3)).astype(np.uint8)
    return composites.Library([make_sprite(seed) for seed in range(5)], [photograph])


@pytest.fixture(scope="module")
def data(library, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    pairs = [composites.draw_composite(seed, library) for seed in range(4)]
    np.save(folder / "training_pictures.npy", np.stack([picture for picture, _ in pairs]))
    np.save(folder / "training_instances.npy", np.stack([instances for _, instances in pairs]))
    return folder


def test_composite_is_the_same_for_the_same_seed(library):
    first, again, other = (composites.draw_composite(seed, library) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_canvas_instances_agree_with_the_picture():
    canvas = composites.Canvas(np.zeros((256, 256, 3), np.float32))
    coverage = np.ones((40, 60), np.float32)
    canvas.place(np.full((40, 60, 3), 0.25, np.float32), coverage, (100, 100))
    canvas.place(np.full((40, 60, 3), 0.75, np.float32), coverage, (250, 110))  # reaches over the edge
    canvas.place(np.full((40, 60, 3), 0.5, np.float32), coverage, (110, 110))  # hides part of the first
    colors = {0: 0.0, 1: 0.25, 2: 0.75, 3: 0.5}
    for number, value in colors.items():
        assert np.all(canvas.picture[canvas.instances == number] == value)
    assert (canvas.instances == 3).sum() == 40 * 60
    assert 0 < (canvas.instances == 2).sum() < 40 * 60


def test_sprites_split_by_look():
    sprite_list = [make_sprite(seed) for seed in range(200)]
    held_out = {sprites._fingerprint(sprite) for sprite in sprite_list if sprites.is_held_out(sprite)}
    training = {sprites._fingerprint(sprite) for sprite in sprite_list if not sprites.is_held_out(sprite)}
    assert held_out and training and not held_out & training


def test_sprites_rejects_missing_clip_art(tmp_path):
    with pytest.raises(FileNotFoundError, match="openclipart-png"):
        sprites.load_sprites(held_out=False, directory=tmp_path)


def test_mask_loss_is_small_only_for_the_right_mask():
    targets = torch.zeros(1, 1, 8, 8)
    targets[..., 2:6, 2:6] = 1
    right = (20 * targets - 10)[:, :, None]
    for balance in (1.0, 0.5, 0.0):
        assert losses.mask_loss(right, targets, balance).item() < 1e-3
        assert losses.mask_loss(-right, targets, balance).item() > 1


def test_dense_loss_prefers_separate_embeddings():
    instances = torch.zeros(1, 8, 8, dtype=torch.uint8)
    instances[:, :, 4:] = 1
    anchors = losses.sample_anchors(instances, 16)
    apart = 5.0 * instances[:, None].float()
    boundary = 20 * losses.instance_boundaries(instances)[:, None] - 10
    right = losses.dense_loss(apart, boundary, torch.tensor(5.0), instances, anchors)
    wrong = losses.dense_loss(torch.zeros_like(apart), boundary, torch.tensor(5.0), instances, anchors)
    assert right < 0.1 < wrong


def test_prompts_lie_on_their_objects():
    torch.manual_seed(0)
    instances = torch.zeros(2, 64, 64, dtype=torch.uint8)
    instances[:, 8:28, 4:24], instances[:, 40:60, 30:60] = 1, 2
    drawn = prompts.draw_prompts(instances, 8)
    corners = {1: (4, 8, 23, 27), 2: (30, 40, 59, 59)}
    for picture_idx in range(2):
        for object_idx in range(8):
            number = 1 if drawn.targets[picture_idx, object_idx, 4, 3] == 1 else 2
            is_object = drawn.is_object[picture_idx, object_idx]
            for (x, y), label in zip(
                drawn.points[picture_idx, object_idx].long().tolist(),
                drawn.labels[picture_idx, object_idx].tolist(),
                strict=True,
            ):
                if label == 1:
                    assert instances[picture_idx, y, x] == (number if is_object else 0)
                elif label == 0:
                    assert instances[picture_idx, y, x] != number
            box = drawn.boxes[picture_idx, object_idx]
            assert box[0] == prompts.PADDING_LABEL or (box - torch.tensor(corners[number])).abs().max() < 6


def test_corrections_point_at_the_error():
    targets = torch.zeros(1, 2, 16, 16)
    targets[:, :, 4:12, 4:12] = 1
    logits = 20 * targets - 10
    logits[:, 0, 4:12, 8:12] = -10  # the right half is missing
    logits[:, 1, 4:12, 12:16] = 10  # too much to the right
    points, labels = prompts.draw_corrections(logits, targets)
    assert labels.tolist() == [[1, 0]]
    assert 32 <= points[0, 0, 0] < 48 <= points[0, 1, 0]


def test_largest_error_of_a_square():
    truth = np.zeros((20, 20), bool)
    truth[5:12, 3:10] = True
    assert largest_error(np.zeros_like(truth), truth) == ((6.0, 8.0), 1)
    assert largest_error(truth, truth) is None


def test_trainee_decodes_all_masks_at_both_sizes():
    trainee = NanoTrainee()
    assert sum(parameter.numel() for parameter in trainee.model.parameters()) < 2.5e6
    for size in (64, 128):
        set_image_size(trainee.model, size)
        embeddings = trainee.encode(torch.zeros(2, 3, size, size))
        masks, iou_scores, _ = trainee.decode(
            embeddings, torch.zeros(2, 3, 1, 2), torch.ones(2, 3, 1, dtype=torch.long), None, None
        )
        assert masks.shape == (2, 3, 4, size // 4, size // 4) and iou_scores.shape == (2, 3, 4)


def test_training_resumed_after_a_stop_ends_at_the_same_weights(data, tmp_path):
    phases = (
        train.Phase("dense", True, 64, 2, 0, 0.5),
        train.Phase("prompts", False, 64, 2, 2, 1.0),
    )
    settings = train.Settings(data, tmp_path / "whole", 1, phases, num_processes=1, max_steps=4)
    torch.manual_seed(1)
    train.train(settings)
    parts = replace(settings, output=tmp_path / "parts")
    parts.output.mkdir()
    stopped = train.Trainer(parts, 0)
    stopped.run(max_new_steps=3)
    train.train(parts, is_resumed=True)
    whole, resumed = (torch.load(s.output / "last.pt", weights_only=True) for s in (settings, parts))
    assert whole["progress"]["step"] == resumed["progress"]["step"] == 4
    for name, value in whole["averaged_model"].items():
        torch.testing.assert_close(resumed["averaged_model"][name], value, msg=name, rtol=0, atol=0)
    torch.testing.assert_close(resumed["flat"]["values"], whole["flat"]["values"], rtol=0, atol=0)


def test_training_starts_from_a_checkpoint(data, tmp_path):
    model = NanoTrainee().model
    model.save_pretrained(tmp_path / "start")
    phases = (train.Phase("prompts", False, 64, 2, 2, 1.0),)
    settings = train.Settings(data, tmp_path / "run", 1, phases, num_processes=1, start=tmp_path / "start", max_steps=1)
    started = train.Trainer(settings, 0).trainee.model.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(started[name], value, msg=name, rtol=0, atol=0)
    train.train(settings)
    trained = torch.load(settings.output / "last.pt", weights_only=True)
    assert trained["progress"]["step"] == 1
