"""The models' own losses: simulated prompts, pictures, clips, and that they learn from them."""

import pytest
import torch
import torch.nn.functional as F
from edgetam_hf.mask_decoder_edgetam import MaskPrediction
from edgetam_hf.prompts_edgetam import Prompts
from edgetam_hf.training_edgetam import (
    LossWeights,
    PromptSimulation,
    PromptSimulator,
    balanced_cross_entropy,
    cell_coverage,
    dice_loss,
    focal_loss,
    mask_iou,
    segmentation_losses,
)
from small_models import make_model, make_video_model, make_video_processor, random

SIZE = 128
CLICKS = PromptSimulation(box_share=0.0, mask_share=0.0, num_corrections=2)


def make_labels(*leading):
    """int8 (*leading, SIZE, SIZE): rectangles, each elsewhere."""
    labels = torch.zeros(*leading, SIZE, SIZE, dtype=torch.int8)
    for idx, mask in enumerate(labels.view(-1, SIZE, SIZE)):
        mask[8 + 4 * idx : 60 + 4 * idx, 16:80] = 1
    return labels


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def assert_gradients_equal(actual, expected):
    assert actual.keys() == expected.keys()
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in actual.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5 * largest.item(), rtol=1e-3, msg=name)


def freeze_statistics(model):
    """The model in training mode with batch normalisation as in eval mode, so that pictures do not influence others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".bn." not in name)
    return model.train()


# losses


def test_losses_of_hard_targets_are_the_formulas_of_their_papers():
    logits, targets = random((3, 50)), (random((3, 50), 1) > 0).float()
    p = logits.sigmoid()
    p_true = torch.where(targets > 0, p, 1 - p)
    alpha = torch.where(targets > 0, 0.25, 0.75)
    torch.testing.assert_close(focal_loss(logits, targets), -(alpha * (1 - p_true) ** 2 * p_true.log()).mean(-1))
    dice = 1 - (2 * (p * targets).sum(-1) + 1) / (p.sum(-1) + targets.sum(-1) + 1)
    torch.testing.assert_close(dice_loss(logits, targets), dice)


def test_balanced_cross_entropy_is_half_that_of_the_object():
    logits = torch.tensor([0.3, -2.0, 1.5, 0.7])
    on, off = F.softplus(-logits[:1]).mean(), F.softplus(logits[1:]).mean()
    torch.testing.assert_close(balanced_cross_entropy(logits, torch.tensor([1.0, 0, 0, 0])), (on + off) / 2)


def test_iou_of_thresholded_logits():
    logits = torch.tensor([[1.0, 1, -1, -1], [-1, -1, -1, -1], [1, -1, -1, -1]])
    targets = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    assert mask_iou(logits, targets).tolist() == [pytest.approx(1 / 3), 1.0, 0.0]


def test_coverage_is_the_mean_of_cells():
    masks = torch.zeros(2, 3, 8, 8)
    masks[1, 2, :4, :2] = 1
    coverage = cell_coverage(masks)
    assert coverage.shape == (2, 3, 2, 2)
    assert coverage[1, 2].tolist() == [[0.5, 0.0], [0.0, 0.0]]


def make_prediction(targets):
    """Four masks of one object: the third is right, the others are noise."""
    masks = random((1, 1, 4, *targets.shape[-2:])).requires_grad_()
    with torch.no_grad():
        masks[:, :, 2] = 20 * targets - 10
    return MaskPrediction(masks, torch.full((1, 1, 4), 0.5), None, torch.zeros(1, 1, 1), ())


@pytest.mark.parametrize("is_ambiguous, taught", [(True, [2]), (False, [0])])
def test_mask_loss_teaches_the_best_of_several_or_the_single_mask(is_ambiguous, taught):
    targets = torch.zeros(1, 1, 8, 8)
    targets[..., 2:6, 2:6] = 1
    prediction = make_prediction(targets)
    losses = segmentation_losses(prediction, targets, torch.tensor([[is_ambiguous]]), LossWeights(cross_entropy=1.0))
    (losses["focal"] + losses["dice"] + losses["cross_entropy"]).sum().backward()
    assert prediction.masks.grad.abs().flatten(3).sum(-1).nonzero()[:, 2].tolist() == taught
    # predicted IoU of 0.5: the perfect mask is off by 0.5, the others by what they miss
    ious = mask_iou(prediction.masks.flatten(3), targets.flatten(2)[:, :, None].expand(-1, -1, 4, -1))[0, 0]
    used = ious[1:] if is_ambiguous else ious[:1]
    assert losses["iou"].item() == pytest.approx((used - 0.5).abs().mean().item(), abs=1e-6)


def test_absent_object_teaches_its_score_alone():
    targets = torch.zeros(1, 1, 8, 8)
    losses = segmentation_losses(make_prediction(targets), targets, torch.tensor([[True]]), LossWeights())
    assert [losses[name].item() for name in ("focal", "dice", "iou")] == [0.0, 0.0, 0.0]
    assert losses["object_score"].item() == pytest.approx(torch.tensor(2.0).log().item())


def test_scores_learn_without_any_loss_of_masks():
    targets = torch.zeros(1, 1, 8, 8)
    targets[..., 2:6, 2:6] = 1
    weights = LossWeights(focal=0.0, dice=0.0)
    losses = segmentation_losses(make_prediction(targets), targets, torch.tensor([[True]]), weights)
    assert losses.keys() == {"iou", "object_score"} and losses["iou"] > 0


# simulated users


def simulate(masks, seeds=range(40), **settings):
    simulator = PromptSimulator(PromptSimulation(**settings), seeds, (SIZE, SIZE))
    return simulator, simulator.first_prompts(masks.expand(len(seeds), -1, -1, -1))


def test_first_click_is_anywhere_on_the_object():
    masks = make_labels(1, 2) > 0
    _, (points, labels, _, _) = simulate(masks, box_share=0.0)
    x, y = points[:, :, 0].round().long().unbind(-1)
    for object_idx in range(2):
        assert masks[0, object_idx][y[:, object_idx], x[:, object_idx]].all()
    assert labels[..., 0].eq(1).all() and labels[..., 1].eq(-10).all()
    assert x.max() - x.min() > 45 and y[:, 0].max() - y[:, 0].min() > 35  # of 64 and 52


def test_boxes_lie_within_a_tenth_of_the_true_ones():
    masks = make_labels(1, 1) > 0
    _, (points, labels, _, _) = simulate(masks, box_share=1.0)
    assert labels.eq(torch.tensor([2, 3])).all()
    noise = points[:, 0] - torch.tensor([[16.0, 8.0], [79.0, 59.0]])
    assert (noise.abs() <= torch.tensor([6.3, 5.1]) + 1e-4).all() and noise.abs().max() > 4


def test_empty_mask_gets_a_click_beside_it():
    _, (_, labels, _, _) = simulate(torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool), box_share=0.5)
    assert labels[..., 0].eq(0).all() and labels[..., 1].eq(-10).all()


def test_correction_lies_in_the_error():
    coverage = cell_coverage(make_labels(1, 1)).expand(40, -1, -1, -1)
    logits = torch.full_like(coverage, -1.0)
    logits[..., 4:12, 2:10] = 1  # misses a part, and spills over
    simulator, _ = simulate(make_labels(1, 1) > 0, truth_click_share=0.0)
    points, labels, _, _ = simulator.correct(Prompts(), logits, coverage)
    column, row = (points[:, 0, 0] // 4).long().unbind(-1)
    actual, predicted = coverage[0, 0, row, column] > 0.5, logits[0, 0, row, column] > 0
    assert (actual != predicted).all() and torch.equal(labels[:, 0, 0], actual.long())
    assert labels.any() and not labels.all()


def test_correction_joins_earlier_clicks_and_brings_the_mask():
    coverage = cell_coverage(make_labels(1, 1)).expand(40, -1, -1, -1)
    simulator, prompts = simulate(make_labels(1, 1) > 0)
    corrected = simulator.correct(prompts, 100 * coverage - 50, coverage)
    assert torch.equal(corrected.points[:, :, :2], prompts.points) and corrected.points.shape == (40, 1, 3, 2)
    assert torch.equal(corrected.labels[:, :, :2], prompts.labels) and corrected.boxes is None
    assert torch.equal(corrected.masks, (100 * coverage - 50).clamp(-32, 32))


def test_correction_of_a_right_mask_is_a_click_beside_it():
    coverage = cell_coverage(make_labels(1, 1)).expand(40, -1, -1, -1)
    simulator, _ = simulate(make_labels(1, 1) > 0, truth_click_share=0.0)
    points, labels, _, _ = simulator.correct(Prompts(), (coverage > 0.5).float() - 0.5, coverage)
    column, row = (points[:, 0, 0] // 4).long().unbind(-1)
    assert not labels.any() and not (coverage[0, 0, row, column] > 0.5).any()


def test_prompts_of_a_picture_do_not_depend_on_its_batch():
    masks = make_labels(3, 2) > 0
    together = PromptSimulator(PromptSimulation(), [5, 6, 7], (SIZE, SIZE)).first_prompts(masks)
    for idx in range(3):
        alone = PromptSimulator(PromptSimulation(), [5 + idx], (SIZE, SIZE)).first_prompts(masks[idx : idx + 1])
        assert all(torch.equal(one[0], several[idx]) for one, several in zip(alone[:2], together[:2]))


@pytest.mark.parametrize("num_frames", [1, 2, 3, 8])
def test_plan_of_a_clip_leaves_frames_to_track(num_frames):
    plans = [PromptSimulator(PromptSimulation(), [s], (SIZE, SIZE)).plan_clip(num_frames) for s in range(60)]
    for plan in plans:
        assert 0 in plan.prompted and len(plan.prompted) <= min(2, max(num_frames - 1, 1))
        assert not (plan.has_masks and plan.corrected)
        assert plan.has_masks or len(plan.prompted) <= len(plan.corrected) <= 2
        assert all(0 <= t < num_frames for t in (*plan.prompted, *plan.corrected))
    assert any(plan.has_masks for plan in plans) == (num_frames > 1)
    assert {len(plan.corrected) for plan in plans if not plan.has_masks} == ({1, 2} if num_frames > 1 else {1})


@pytest.mark.parametrize(
    "settings", [{"box_share": 1.5}, {"single_mask_share": 2}, {"num_corrections": -1}, {"max_prompted_frames": 0}]
)
def test_simulation_rejects_impossible_settings(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        PromptSimulation(**settings)


# pictures


@pytest.mark.parametrize("share, taught", [(0.0, {1, 2, 3}), (1.0, {0})])
def test_a_click_teaches_several_masks_or_the_single_one(share, taught):
    model = make_model()
    model.prompt_simulation = PromptSimulation(num_corrections=0, box_share=0, single_mask_share=share)
    inputs = {"pixel_values": random((1, 3, SIZE, SIZE)), "mask_labels": make_labels(1, 2)}
    model(**inputs, prompt_seeds=torch.arange(1)).loss.backward()
    changed = set()
    for mask_idx, head in enumerate(model.mask_decoder.output_hypernetworks_mlps):
        if any(p.grad is not None and p.grad.any() for p in head.parameters()):
            changed.add(mask_idx)
    assert changed and changed <= taught


def test_image_model_learns_a_batch():
    torch.manual_seed(0)
    model, pixels, labels = make_model().train(), random((2, 3, SIZE, SIZE)), make_labels(2, 2)
    model.prompt_simulation = CLICKS
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-3), []
    for _ in range(12):
        loss = model(pixel_values=pixels, mask_labels=labels, prompt_seeds=torch.arange(2)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_image_loss_of_a_batch_is_the_mean_of_its_pictures():
    model, pixels, labels = freeze_statistics(make_model()), random((2, 3, SIZE, SIZE)), make_labels(2, 3)
    labels[1, 2] = -1  # padding
    model.prompt_simulation = CLICKS
    model(pixel_values=pixels, mask_labels=labels, prompt_seeds=torch.tensor([3, 4])).loss.backward()
    together = gradients(model)
    model.zero_grad()
    for idx, num_objects in ((0, 3), (1, 2)):
        loss = model(
            pixel_values=pixels[idx : idx + 1],
            mask_labels=labels[idx : idx + 1, :num_objects],
            prompt_seeds=torch.tensor([3 + idx]),
        ).loss
        (loss / 2).backward()
    assert_gradients_equal(gradients(model), together)


def test_image_loss_of_given_prompts_is_that_of_the_masks_returned():
    model, labels = make_model(), make_labels(1, 1)
    prompts = {"input_points": torch.tensor([[[[40.0, 30.0]]]]), "input_labels": torch.ones(1, 1, 1)}
    inputs = {"pixel_values": random((1, 3, SIZE, SIZE)), **prompts, "multimask_output": False}
    model.mask_decoder.config.dynamic_multimask_via_stability = False
    with torch.no_grad():
        output = model(**inputs, mask_labels=labels)
        logits, targets = output.pred_masks[0, 0].flatten(1), cell_coverage(labels)[0].flatten(1)
        score = F.binary_cross_entropy_with_logits(output.object_score_logits[0, 0], torch.ones(1))
        error = (output.iou_scores[0, 0] - mask_iou(logits, targets)).abs()
        expected = 20 * focal_loss(logits, targets) + dice_loss(logits, targets) + error + score
        plain = model(**inputs)
    torch.testing.assert_close(output.loss, expected[0])
    assert plain.loss is None and torch.equal(plain.pred_masks, output.pred_masks)
    torch.testing.assert_close(sum(output.loss_dict.values()), output.loss)


def test_frozen_encoder_keeps_statistics_and_computes_no_gradients():
    model = make_model()
    model.vision_encoder.requires_grad_(False)
    model.mask_decoder.conv_s0.requires_grad_(False)
    model.mask_decoder.conv_s1.requires_grad_(False)
    before = {name: value.clone() for name, value in model.vision_encoder.state_dict().items()}
    output = model.train()(pixel_values=random((1, 3, SIZE, SIZE)), mask_labels=make_labels(1, 1))
    assert not output.image_embeddings[0].requires_grad
    output.loss.backward()
    assert model.mask_decoder.mask_tokens.weight.grad.any()
    after = model.vision_encoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_statistics_of_what_is_not_frozen_move():
    model = make_model().train()
    norm = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    before = norm.running_mean.clone()
    model(pixel_values=random((1, 3, SIZE, SIZE)), mask_labels=make_labels(1, 1))
    assert not torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("shape", [(1, SIZE, SIZE), (2, 1, SIZE, SIZE), (1, 1, SIZE, SIZE // 4)])
def test_image_model_rejects_labels_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"mask_labels must have shape \(batch_size 1, num_objects, 128, 128\)"):
        make_model()(pixel_values=random((1, 3, SIZE, SIZE)), mask_labels=torch.zeros(shape))


def test_image_model_rejects_labels_of_other_objects_than_prompted():
    with pytest.raises(ValueError, match="each of the 1 prompted objects, got 2"):
        make_model()(
            pixel_values=random((1, 3, SIZE, SIZE)),
            input_boxes=torch.tensor([[[1.0, 2, 30, 40]]]),
            mask_labels=make_labels(1, 2),
        )


def test_image_model_rejects_too_few_seeds():
    with pytest.raises(ValueError, match="prompt_seeds must be a tensor of 2 integers"):
        make_model()(
            pixel_values=random((2, 3, SIZE, SIZE)), mask_labels=make_labels(2, 1), prompt_seeds=torch.tensor([1])
        )


# clips


def make_clips(batch_size=1, num_frames=3, num_objects=2):
    return {
        "pixel_values_videos": random((batch_size, num_frames, 3, SIZE, SIZE)),
        "mask_labels": make_labels(batch_size, num_frames, num_objects),
        "prompt_seeds": torch.arange(batch_size) + 1,
    }


def test_video_model_learns_a_batch():
    torch.manual_seed(0)
    model, clips = make_video_model().train(), make_clips()
    model.prompt_simulation = PromptSimulation(mask_share=0.0, num_corrections=1)
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-3), []
    for _ in range(12):
        loss = model(**clips).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_gradients_reach_the_memory_through_frames():
    """Only memory can tell the third frame of the masks of the first: all its parts learn from that."""
    model, clips = make_video_model().train(), make_clips()
    model.prompt_simulation = PromptSimulation(mask_share=1.0, max_prompted_frames=1)
    model(**clips).loss.backward()
    reached = gradients(model)
    for part in ("memory_attention", "memory_encoder", "spatial_perceiver", "object_pointer_proj", "vision_encoder"):
        names = [name for name, _ in model.named_parameters() if name.startswith(part)]
        assert set(names) <= reached.keys(), sorted(set(names) - reached.keys())
    assert "memory_temporal_positional_encoding" in reached


def test_video_loss_of_a_batch_is_the_mean_of_its_clips():
    model, clips = freeze_statistics(make_video_model()), make_clips(batch_size=2)
    for module in model.memory_attention.modules():
        module.dropout = 0.0
    clips["mask_labels"][1, :, 1] = -1
    model.prompt_simulation = PromptSimulation(num_corrections=1)
    model(**clips).loss.backward()
    together = gradients(model)
    model.zero_grad()
    for idx, num_objects in ((0, 2), (1, 1)):
        part = {name: value[idx : idx + 1] for name, value in clips.items()}
        part["mask_labels"] = part["mask_labels"][:, :, :num_objects]
        (model(**part).loss / 2).backward()
    assert_gradients_equal(gradients(model), together)


def test_clip_with_masks_is_tracked_as_a_session_tracks_it():
    """In eval mode a clip whose first masks are given is found as a session with these masks finds it."""
    model, clips = make_video_model(), make_clips(num_frames=4, num_objects=1)
    model.prompt_simulation = PromptSimulation(mask_share=1.0, max_prompted_frames=1)
    processor = make_video_processor(SIZE)
    session = processor.init_video_session(inference_device="cpu")
    with torch.no_grad():
        learnt = model(**clips).pred_masks[0, :, 0]
        for t, frame in enumerate(clips["pixel_values_videos"][0]):
            if t == 0:
                processor.add_inputs_to_inference_session(
                    session, 0, 1, input_masks=clips["mask_labels"][0, 0, 0] > 0, original_size=(SIZE, SIZE)
                )
            tracked = model(session, frame=frame).pred_masks[0, 0]
            torch.testing.assert_close(tracked, learnt[t], atol=1e-4, rtol=1e-4)


def test_memory_embeddings_are_those_of_tracked_frames():
    model, clips = make_video_model(), make_clips(num_frames=4)
    with torch.no_grad():
        output = model(**clips)
    (tracked,) = output.memory_embeddings
    assert 0 not in tracked and tracked
    assert all(embedding.shape == (2, 64, 8, 8) for embedding in tracked.values())
    assert output.pred_masks.shape == (1, 4, 2, 32, 32) and output.object_score_logits.shape == (1, 4, 2)


def test_gradient_checkpointing_changes_nothing():
    model, clips = freeze_statistics(make_video_model()), make_clips()
    model.prompt_simulation = PromptSimulation(num_corrections=1)
    torch.manual_seed(0)
    model(**clips).loss.backward()
    expected = gradients(model)
    model.zero_grad()
    model.gradient_checkpointing_enable()
    torch.manual_seed(0)
    model(**clips).loss.backward()
    assert_gradients_equal(gradients(model), expected)


def test_video_model_rejects_clips_that_do_not_fit():
    model, clips = make_video_model(), make_clips()
    with pytest.raises(ValueError, match=r"pixel_values_videos must have shape \(batch_size, num_frames, 3"):
        model(pixel_values_videos=clips["pixel_values_videos"][0], mask_labels=clips["mask_labels"])
    with pytest.raises(ValueError, match="batch_size 1, num_frames 3, num_objects, 128, 128"):
        model(pixel_values_videos=clips["pixel_values_videos"], mask_labels=clips["mask_labels"][:, :2])
    with pytest.raises(ValueError, match="to learn from"):
        model(object(), **clips)
