"""What Transformers' own EdgeTAM does wrong on video, and is right here; every test is named after one defect.

a  a correction of a tracked frame is lost when tracking starts again
b  the previous mask is not fed with a new click on its frame
c  a refinement of a conditioning frame after tracking sees no memory
d  a given mask gets the object pointer of an ambiguous prompt
e  a given mask is remembered at full resolution, not as the low-res logits that tracking has
f  prompts in several calls ahead of the first look fail or get lost, and the caller's list of ids is emptied
g  tracking from before a prompt makes conditioning frames of the frames without one
h  padding of ragged prompts is attended to, and counts as a click
i  a session never forgets anything
j  the spatial perceiver takes one object at a time
k  tracking is under inference mode: no training, no compiling, no export (the last two: test_video_modeling.py)
l  the default configuration is another model
o  no predicted IoU, no removal of objects, no stream ahead of the first prompt, one kind of prompt per call
p  another input size takes four fields of the configuration

The letters m, n and q are about pictures: test_pipeline.py, test_image_processing.py and test_modeling.py.
"""

import copy

import numpy as np
import pytest
import torch
from edgetam_hf.configuration_edgetam import EdgeTamVideoConfig
from edgetam_hf.prompts_edgetam import Prompts
from small_models import make_video_model, make_video_processor, random
from tracking import BOX, CLICK, CORRECTION, OTHER_CLICK, Tracker, assert_equal, differ, of_object, square


def test_defect_a_correction_survives_propagation_and_changes_later_frames(make_tracker):
    tracker = make_tracker()
    tracker.add(0, 1, **CLICK)
    before = tracker.track()
    tracker.add(5, 1, **CORRECTION)
    corrected = tracker.show(5)
    after = tracker.track(0)
    assert_equal(after[:5], before[:5])
    assert_equal(after[5:6], [corrected])
    assert differ(after[5:6], before[5:6]) and differ(after[6:], before[6:])


def test_defect_b_previous_mask_is_fed_with_a_new_click(make_tracker, video_model):
    tracker = make_tracker()
    tracker.add(0, 1, **CLICK)
    previous = tracker.show(0).pred_masks
    tracker.add(0, 1, **CORRECTION, clear_old_inputs=False)
    prompt = tracker.session.objects[1].prompts[0][-1]
    with torch.no_grad():
        frame_embeddings = video_model.get_frame_embeddings(tracker.session.get_frame(0)[None])
        conditioned = video_model.forget_memory(frame_embeddings[-1])
        with_mask, without = (
            video_model.decode_objects(
                frame_embeddings, conditioned, prompt.clicks._replace(masks=mask), torch.tensor([False])
            ).masks
            for mask in (previous.clamp(-32, 32), None)
        )
    found = tracker.show(0).pred_masks[:, 0]
    torch.testing.assert_close(found, with_mask, rtol=0, atol=1e-5)
    assert (found - without).abs().max() > 1e-2


def test_defect_c_refinement_of_a_conditioning_frame_sees_memory_and_stays_one(make_tracker, video_model):
    tracker, fresh = make_tracker(), make_tracker()
    for one in (tracker, fresh):
        one.add(0, 1, **CLICK)
    before = tracker.track()
    fresh.show(0)
    for one in (tracker, fresh):
        one.add(0, 1, **CORRECTION, clear_old_inputs=False)
    refined = tracker.show(0)
    assert differ([refined], [fresh.show(0)])
    after = tracker.track()
    assert_equal(after[:1], [refined])
    assert differ(after[1:], before[1:]) and sorted(tracker.session.objects[1].conditioning) == [0]


@torch.no_grad()
def test_defect_d_pointer_of_a_given_mask_is_that_of_the_single_mask(video_model, clip, make_tracker):
    frame_embeddings = video_model.get_frame_embeddings(make_tracker().session.get_frame(0)[None])
    masks = torch.zeros(1, 128, 128, dtype=torch.bool)
    masks[:, 30:80, 20:90] = True
    dense = video_model.mask_downsample(masks[:, None].float())
    single, several = (
        video_model.decode_objects(
            frame_embeddings, frame_embeddings[-1], Prompts(masks=dense), torch.tensor([flag])
        ).pointers
        for flag in (False, True)
    )
    pointers = video_model.adopt_masks(frame_embeddings, masks).pointers
    torch.testing.assert_close(pointers, single, rtol=0, atol=1e-5)
    assert (pointers - several).abs().max() > 1e-2


@torch.no_grad()
def test_defect_e_given_mask_is_remembered_as_its_low_resolution_logits(video_model, clip, make_tracker):
    tracker = make_tracker()
    mask = np.zeros((90, 120), bool)
    mask[20:70:3] = True  # stripes, which a quarter of the resolution does not show
    tracker.add(0, 1, input_masks=mask)
    tracker.show(0)
    result, prompt = tracker.session.objects[1].staged[0], tracker.session.objects[1].prompts[0][-1]
    frame_embedding = video_model.get_frame_embeddings(tracker.session.get_frame(0)[None])[-1]
    flags = torch.tensor([True])
    remembered = video_model.encode_memory(frame_embedding, result.mask[None], torch.tensor([10.0]), flags)
    torch.testing.assert_close(result.memory[None], remembered, rtol=0, atol=1e-5)
    direct = video_model.memory_encoder(frame_embedding, prompt.mask[None, None].float() * 20 - 10)
    assert (video_model.spatial_perceiver(direct) - remembered).abs().max() > 1e-2


def test_defect_f_prompts_in_any_order_and_with_or_without_a_look_give_the_same(make_tracker, clip):
    prompts = [
        (0, 1, CLICK),
        (0, 2, BOX),
        (5, 1, OTHER_CLICK),
        (3, 3, {"input_masks": square(clip, 3)}),
        (5, 2, CLICK),
    ]

    def outputs(order, is_shown):
        tracker = make_tracker()
        for idx in order:
            frame_idx, obj_id, prompt = prompts[idx]
            tracker.add(frame_idx, obj_id, **prompt)
            if is_shown:
                tracker.show(frame_idx)
        tracked = tracker.track(0)
        return [of_object(tracked, obj_id) for obj_id in (1, 2, 3)]

    expected = outputs(range(5), is_shown=True)
    for order, is_shown in ((range(5), False), ((4, 3, 2, 1, 0), True), ((2, 0, 4, 1, 3), False)):
        for one, other in zip(outputs(order, is_shown), expected):
            assert_equal(one, other)


def test_defect_g_frames_ahead_of_a_prompt_do_not_become_conditioning_frames(make_tracker):
    tracker, shown = make_tracker(), make_tracker()
    for one in (tracker, shown):
        one.add(3, 1, **CLICK)
    shown.show(3)
    outputs = tracker.track(0)
    assert sorted(tracker.session.objects[1].conditioning) == [3]
    assert_equal(outputs, shown.track(0))


def test_defect_h_padding_of_ragged_prompts_counts_for_nothing(make_tracker):
    together = make_tracker()
    points, labels = [[[25, 45]], [[70, 20], [90, 70], [9, 9]]], [[1], [1, 0, 0]]
    together.add(0, [1, 2], input_points=[points], input_labels=[labels])
    together = together.track()
    for idx in range(2):
        alone = make_tracker()
        alone.add(0, idx + 1, input_points=[[points[idx]]], input_labels=[[labels[idx]]])
        assert_equal(of_object(together, idx + 1), alone.track())


def test_defect_i_session_keeps_what_the_bank_reaches_and_nothing_else(make_tracker, clip):
    tracker = make_tracker(video=None)
    tracker.add(0, 1, **CLICK)
    tracker.add(0, 2, **BOX)
    tracker.stream(clip[list(range(12)) * 3])
    for tracked_object in tracker.session.objects.values():
        assert sorted(tracked_object.conditioning) == [0]
        # the last frame can be corrected, which looks back at 15 frames and at the memory of 6
        assert sorted(tracked_object.tracked) == list(range(20, 36))
        assert [t for t, result in tracked_object.tracked.items() if result.memory is not None] == list(range(29, 36))
        assert [t for t, result in tracked_object.tracked.items() if result.mask is not None] == [35]
        assert len(tracked_object.directions) == 1
    assert list(tracker.session.image_embeddings) == [35]


@torch.no_grad()
def test_defect_j_perceiver_takes_several_objects(video_model):
    memory = random((3, 64, 8, 8))
    together = video_model.spatial_perceiver(memory)
    alone = torch.cat([video_model.spatial_perceiver(of_one[None]) for of_one in memory])
    assert together.shape == (3, 24, 64)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_defect_k_session_passes_gradients_in_training_mode_and_grows_no_graph_otherwise(video_model, make_tracker):
    model = copy.deepcopy(video_model)
    for is_training in (False, True):
        tracker = make_tracker(model=model.train(is_training))
        tracker.add(0, [1, 2], input_points=[[[[25, 45]], [[70, 20]]]])
        *_, output = tracker.track(max_frame_num_to_track=1)
        assert output.pred_masks.requires_grad == is_training
    output.pred_masks.sum().backward()
    assert all(parameter.grad is not None for parameter in model.memory_encoder.parameters())


def test_defect_l_default_configuration_is_edgetam():
    config = EdgeTamVideoConfig()
    assert config.vision_config.backbone_config["architecture"] == "repvit_m1"
    assert config.vision_config.backbone_widths == (48, 96, 192, 384)
    assert not config.enable_occlusion_spatial_embedding
    assert not config.enable_temporal_pos_encoding_for_object_pointers


def test_defect_o_output_tells_predicted_iou_and_visibility_of_every_object(make_tracker, clip):
    tracker = make_tracker()
    tracker.add(0, [1, 2], input_masks=[square(clip), np.zeros((90, 120), bool)])
    output = tracker.show(0)
    assert output.iou_scores.tolist() == [1.0, 1.0] and output.object_score_logits.tolist() == [10.0, -10.0]
    output = tracker.track()[-1]
    assert output.iou_scores.shape == output.object_score_logits.shape == (2,)
    assert ((output.iou_scores > 0) & (output.iou_scores < 1)).all()


def test_defect_o_objects_of_one_call_may_have_prompts_of_different_kinds(make_tracker, clip):
    together, apart = make_tracker(), make_tracker()
    together.add(
        0,
        [1, 2, 3],
        input_points=[[[[25, 45]], None, [[70, 20]]]],
        input_boxes=[[None, None, [50, 5, 90, 40]]],
        input_masks=[None, square(clip), None],
    )
    apart.add(0, 1, input_points=[[[[25, 45]]]])
    apart.add(0, 2, input_masks=square(clip))
    apart.add(0, 3, input_points=[[[[70, 20]]]], input_boxes=[[[50, 5, 90, 40]]])
    assert_equal(together.track(), apart.track())


def test_defect_o_remove_object_leaves_the_others_as_they_are(make_tracker):
    tracker, alone = make_tracker(), make_tracker()
    for obj_id, prompt in ((7, CLICK), (3, BOX), (5, OTHER_CLICK)):
        tracker.add(0, obj_id, **prompt)
    tracker.track(max_frame_num_to_track=4)
    tracker.session.remove_object(3)
    rest = tracker.track(5)
    assert rest[0].object_ids == [7, 5] == tracker.session.obj_ids
    alone.add(0, 5, **OTHER_CLICK)
    assert_equal(of_object(rest, 5), alone.track()[5:])


def test_defect_o_stream_goes_on_before_the_first_prompt(make_tracker, clip):
    tracker, whole = make_tracker(video=None), make_tracker()
    empty = tracker.stream(clip[:3])
    assert [output.frame_idx for output in empty] == [0, 1, 2]
    assert all(output.object_ids == [] and output.pred_masks.shape == (0, 1, 32, 32) for output in empty)
    for one in (tracker, whole):
        one.add(3, 1, **CLICK)
    assert_equal(tracker.stream(clip[3:]), whole.track(3))


@pytest.mark.parametrize("image_size", [256, (128, 256)])
def test_defect_p_image_size_alone_sets_a_size(clip, image_size):
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    tracker = Tracker(make_video_model(image_size), make_video_processor(height, width), clip)
    tracker.add(0, 1, **CLICK)
    outputs = tracker.track(max_frame_num_to_track=2)
    assert outputs[-1].pred_masks.shape == (1, 1, height // 4, width // 4)
    masks = tracker.processor.post_process_masks([outputs[-1].pred_masks], [[90, 120]])[0]
    assert masks.shape == (1, 1, 90, 120) and masks.dtype == torch.bool
