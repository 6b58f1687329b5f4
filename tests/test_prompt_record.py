"""The record of prompts: stacked, padded, joined, scaled and transposed, and what the encoder makes of it."""

import pytest
import torch
from edgetam_hf.prompts_edgetam import Prompts
from small_models import make_model, random
from torch.utils import _pytree as pytree


def make_prompts(batch_size=2, num_objects=3, num_points=2, seed=0):
    """Clicks, all on the object."""
    points = 64 + 30 * random((batch_size, num_objects, num_points, 2), seed)
    return Prompts(points, torch.ones(batch_size, num_objects, num_points).long())


def test_empty_prompts_are_of_one_object():
    assert Prompts().is_empty and Prompts().num_objects == 1 and Prompts().named_inputs() == {}
    assert not make_prompts().is_empty and make_prompts().num_objects == 3
    assert Prompts(boxes=torch.zeros(1, 4, 4), masks=torch.zeros(1, 1, 8, 8)).num_objects == 4


def test_prompts_are_a_tree_of_tensors():
    prompts = make_prompts()
    leaves, structure = pytree.tree_flatten(prompts)
    assert [leaf for leaf in leaves if leaf is not None] == [prompts.points, prompts.labels]
    assert pytree.tree_unflatten(leaves, structure) == prompts
    assert list(prompts.named_inputs()) == ["input_points", "input_labels"]


def test_stack_pads_points():
    first, second = make_prompts(1, 3, 2), make_prompts(1, 3, 4, seed=1)
    stacked = Prompts.stack([first, second])
    assert stacked.points.shape == (2, 3, 4, 2) and stacked.boxes is None
    assert torch.equal(stacked.points[0, :, :2], first.points[0]) and stacked.points[0, :, 2:].eq(-10).all()
    assert stacked.labels.tolist() == [[[1, 1, -10, -10]] * 3, [[1] * 4] * 3]
    masks = [Prompts(masks=random((1, 2, 8, 8), seed)) for seed in range(3)]
    assert torch.equal(Prompts.stack(masks).masks, torch.cat([one.masks for one in masks]))


def test_add_points_comes_after_earlier_ones():
    first, second = make_prompts(num_points=2), make_prompts(num_points=1, seed=1)
    joined = first.add_points(second.points, second.labels)
    assert torch.equal(joined.points, torch.cat((first.points, second.points), dim=2)) and joined.labels.shape[2] == 3
    assert Prompts().add_points(second.points, second.labels) == second


def test_scale_leaves_padding_and_labels():
    points, boxes = torch.tensor([[[[3.0, 4.0], [-10, -10]]]]), torch.tensor([[[1.0, 2, 3, 4]]])
    scaled = Prompts(points, torch.tensor([[[1, -10]]]), boxes).scale(torch.tensor([[2.0, 10.0]]))
    assert scaled.points.tolist() == [[[[6, 40], [-10, -10]]]] and scaled.boxes.tolist() == [[[2, 20, 6, 40]]]
    assert scaled.labels.tolist() == [[[1, -10]]]
    padding = Prompts(boxes=torch.full((1, 1, 4), -10.0))
    assert padding.scale(torch.tensor([[2.0, 10.0]])).boxes.eq(-10).all()


def test_transpose_swaps_pictures_and_objects():
    prompts = make_prompts()._replace(masks=random((2, 3, 8, 8)))
    swapped = prompts.transpose()
    assert swapped.points.shape == (3, 2, 2, 2) and swapped.masks.shape == (3, 2, 8, 8)
    assert all(torch.equal(one, other) for one, other in zip(swapped.transpose().map(lambda p: p)[:2], prompts[:2]))


@torch.no_grad()
@pytest.mark.parametrize("num_more", [1, 3])
def test_padding_changes_no_mask(num_more):
    model, prompts = make_model(), make_prompts(1)
    image_embeddings = model.get_image_embeddings(random((1, 3, 128, 128)))
    padded = prompts.pad_points(2 + num_more)
    actual, expected = (model.decode_prompts(image_embeddings, one).masks for one in (padded, prompts))
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_stacked_prompts_give_what_each_gives_alone():
    model, pictures = make_model(), random((2, 3, 128, 128))
    each = [make_prompts(1, 2, 1), make_prompts(1, 2, 3, seed=1)]
    together = model.decode_prompts(model.get_image_embeddings(pictures), Prompts.stack(each)).masks
    for idx, prompts in enumerate(each):
        alone = model.decode_prompts(model.get_image_embeddings(pictures[idx : idx + 1]), prompts).masks
        torch.testing.assert_close(together[idx : idx + 1], alone, atol=1e-4, rtol=0)
