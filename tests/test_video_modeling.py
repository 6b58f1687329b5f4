"""The video model: native's keys and numbers, and stages that are functions of tensors alone."""

import copy
import inspect

import pytest
import torch
import transformers
from edgetam_hf.configuration_edgetam import EdgeTamVideoConfig
from edgetam_hf.image_processing_edgetam import EdgeTamImageProcessor
from edgetam_hf.modeling_edgetam import EdgeTamModel
from edgetam_hf.modeling_edgetam_video import EdgeTamVideoModel
from edgetam_hf.position_edgetam import grid_rotation, rotate
from edgetam_hf.prompts_edgetam import Prompts
from edgetam_hf.stages_edgetam_video import Memories
from safetensors.torch import load_file
from small_models import make_native_video, make_video_model, random, small_video_config
from torch import nn

FLAGS = {
    "enable_occlusion_spatial_embedding": True,
    "enable_temporal_pos_encoding_for_object_pointers": True,
}
CLICKS = {"input_points": [[[[25, 45]], [[70, 20], [90, 70]]]], "input_labels": [[[1], [1, 0]]]}


def track(model, processor, video, prompts):
    """Masks and, if the model tells them, scores of prompted objects on all frames, of ours or of native's model."""
    session = processor.init_video_session(video=video)
    for frame_idx, obj_ids, prompt in prompts:
        processor.add_inputs_to_inference_session(session, frame_idx=frame_idx, obj_ids=obj_ids, **prompt)
        model(session, frame_idx=frame_idx)
    outputs = list(model.propagate_in_video_iterator(session, 0))
    results = [torch.stack([output.pred_masks for output in outputs])]
    if "object_score_logits" in outputs[0]:  # native of Transformers 4 keeps them to itself
        # native's have one dimension more than its documentation says
        results.append(torch.stack([output.object_score_logits.flatten() for output in outputs]))
    return results


def native_processor(size):
    size = {"height": size, "width": size}
    pictures = EdgeTamImageProcessor(size=size)
    videos = transformers.Sam2VideoVideoProcessor(size=size)
    return transformers.Sam2VideoProcessor(image_processor=pictures, video_processor=videos, target_size=size["height"])


# Parameters and checkpoints


def test_default_model_has_the_keys_and_the_size_of_the_published_checkpoint():
    with torch.device("meta"):
        model = EdgeTamVideoModel(EdgeTamVideoConfig())
    assert len(model.state_dict()) == 984
    assert sum(parameter.numel() for parameter in model.parameters()) == 13_895_794


def test_model_with_both_flags_has_the_keys_and_the_size_of_native():
    with torch.device("meta"):
        model = EdgeTamVideoModel(EdgeTamVideoConfig(**FLAGS))
    assert len(model.state_dict()) == 987
    assert sum(parameter.numel() for parameter in model.parameters()) == 13_912_306


@pytest.mark.parametrize("flags", [{}, FLAGS], ids=["published", "native"])
def test_state_dict_has_the_names_and_shapes_of_native(flags):
    model = make_video_model(config=small_video_config(**flags))
    native = make_native_video(model)  # strict
    shapes = {name: tensor.shape for name, tensor in native.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("flags", [{}, FLAGS], ids=["published", "native"])
def test_checkpoints_are_loaded_whole_in_both_directions(flags, tmp_path):
    model = make_video_model(config=small_video_config(**flags))
    make_native_video(model).save_pretrained(tmp_path / "native")
    model.save_pretrained(tmp_path / "ours")
    for folder, model_class in (
        ("native", EdgeTamVideoModel),
        ("ours", EdgeTamVideoModel),
        ("ours", transformers.EdgeTamVideoModel),
    ):
        loaded, info = model_class.from_pretrained(tmp_path / folder, output_loading_info=True)
        assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0, msg=name)
    assert len(load_file(tmp_path / "ours" / "model.safetensors")) == len(model.state_dict())


def test_image_model_takes_its_part_of_a_video_folder(video_model, video_folder):
    image_model = EdgeTamModel.from_pretrained(video_folder)
    assert image_model.config.model_type == "edgetam"
    for name, tensor in image_model.state_dict().items():
        torch.testing.assert_close(tensor, video_model.state_dict()[name], rtol=0, atol=0, msg=name)


def test_from_pretrained_rejects_an_image_checkpoint(folder):
    with pytest.raises(ValueError, match=r"image checkpoint.* no memory for video.*yonigozlan/EdgeTAM-hf"):
        EdgeTamVideoModel.from_pretrained(folder)


@pytest.mark.parametrize("image_size", [96, (128, 160)])
def test_model_rejects_an_image_size_that_the_grid_does_not_divide(image_size):
    with pytest.raises(ValueError, match=r"image_size of a video model must be a multiple of 64"):
        EdgeTamVideoModel(small_video_config(image_size))


@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "disk"}, {"": "cpu", "memory_attention": "disk"}], ids=str)
def test_device_map_changes_no_result(video_model, video_folder, video_processor, clip, device_map, tmp_path):
    loaded = EdgeTamVideoModel.from_pretrained(video_folder, device_map=device_map, offload_folder=tmp_path)
    expected, actual = (
        track(model, video_processor, clip[:3], [(0, [1, 2], CLICKS)]) for model in (video_model, loaded)
    )
    for one, other in zip(actual, expected):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


# Native's numbers


@pytest.mark.parametrize("flags", [{}, FLAGS], ids=["published", "native"])
def test_tracking_equals_native(video_processor, clip, flags):
    # native can split object pointers only if they are wider than the memory
    model = make_video_model(config=small_video_config(hidden_size=128, **flags))
    one, two = (
        {"input_points": [[[[25, 45]]]], "input_labels": [[[1]]]},
        {"input_boxes": [[[10, 30, 40, 60]]]},
    )
    prompts = [(0, 1, one), (0, 2, two)]
    ours = track(model, video_processor, clip, prompts)
    native = track(make_native_video(model), native_processor(128), list(clip), prompts)
    for actual, expected in zip(ours, native):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("attn_implementation", ["eager", "flex_attention"])
def test_attention_implementation_changes_no_result(
    video_model, video_folder, video_processor, clip, attn_implementation
):
    other = EdgeTamVideoModel.from_pretrained(video_folder, attn_implementation=attn_implementation)
    assert other.memory_attention.config._attn_implementation == attn_implementation
    expected, actual = (
        track(model, video_processor, clip[:3], [(0, [1, 2], CLICKS)]) for model in (video_model, other)
    )
    for one, other in zip(actual, expected):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_rotation_turns_pairs_of_channels_by_place():
    states = random((1, 1, 6, 8))
    pairs = torch.view_as_complex(states.unflatten(-1, (4, 2)).contiguous())
    x, y = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 0, 0, 1, 1, 1])
    frequency = torch.tensor([1.0, 10000.0**-0.5])
    turn = torch.cat((x[:, None] * frequency, y[:, None] * frequency), dim=-1)
    expected = torch.view_as_real(pairs * torch.polar(torch.ones_like(turn), turn)).flatten(-2)
    torch.testing.assert_close(rotate(states, grid_rotation(2, 3, 8, 10000.0, states.device)), expected)


# Stages


def stages(model, pixel_values, points, labels):
    """Masks on the second of two frames, the first of which was clicked: all stages chained by hand."""
    first, second = (model.get_frame_embeddings(frame[None]) for frame in pixel_values)
    count = len(points)
    is_ambiguous, is_prompted = torch.ones(count, dtype=torch.bool), torch.ones(count, dtype=torch.bool)
    conditioned = model.forget_memory(first[-1]).expand(count, -1, -1, -1)
    clicked = model.decode_objects(first, conditioned, Prompts(points, labels), is_ambiguous)
    memory = model.encode_memory(first[-1], clicked.masks, clicked.object_score_logits, is_prompted)
    memories = Memories(
        features=memory[:, None],
        time_idx=torch.full((count, 1), model.config.num_maskmem - 1),
        pointers=clicked.pointers[:, None],
        pointer_offsets=torch.full((count, 1), 1.0),
    )
    conditioned = model.attend_to_memory(second[-1], memories)
    return model.decode_objects(second, conditioned, Prompts(), is_ambiguous)


@pytest.fixture
def stage_inputs():
    points = torch.tensor([[[[30.0, 64.0]]], [[[90.0, 20.0]]]])
    return random((2, 3, 128, 128)), points, torch.ones(2, 1, 1, dtype=torch.long)


def test_stages_by_hand_equal_a_session(video_model, video_processor, stage_inputs):
    pixel_values, points, labels = stage_inputs
    session = video_processor.init_video_session()
    video_processor.add_inputs_to_inference_session(
        session, 0, [1, 2], input_points=points[:, 0][None], input_labels=labels[:, 0][None], original_size=(128, 128)
    )
    for frame in pixel_values:
        output = video_model(session, frame=frame)
    with torch.no_grad():
        expected = stages(video_model, pixel_values, points, labels)
    torch.testing.assert_close(output.pred_masks[:, 0], expected.masks, rtol=0, atol=1e-5)


def test_gradients_flow_through_memory_to_the_first_frame(video_model, stage_inputs):
    model = copy.deepcopy(video_model).train()
    pixel_values, points, labels = stage_inputs
    pixel_values.requires_grad_()
    stages(model, pixel_values, points, labels).masks.sum().backward()
    assert pixel_values.grad[0].abs().sum() > 0
    parts = ("memory_attention", "memory_encoder", "spatial_perceiver", "object_pointer_proj", "vision_encoder")
    for part in parts:
        for name, parameter in getattr(model, part).named_parameters():
            # one frame has one latent per window, so nothing is compared in that branch's attention to itself
            assert parameter.grad is not None and parameter.grad.isfinite().all(), f"{part}.{name}"
    assert model.memory_temporal_positional_encoding.grad.abs().sum() > 0


@pytest.mark.parametrize("is_frozen", [False, True], ids=["learning", "frozen"])
def test_gradients_of_clips_reach_every_frame(is_frozen):
    model = make_video_model(64).train(not is_frozen).requires_grad_(not is_frozen)
    clips, labels = random((1, 2, 3, 64, 64)).requires_grad_(), torch.zeros(1, 2, 1, 64, 64)
    labels[..., 20:40, 20:40] = 1
    model(pixel_values_videos=clips, mask_labels=labels, prompt_seeds=torch.tensor([1])).loss.backward()
    assert (clips.grad.abs().sum((2, 3, 4)) > 0).all()


def test_gradient_checkpointing_gives_the_same_gradients(video_model, stage_inputs):
    gradients = []
    for is_checkpointing in (False, True):
        model = copy.deepcopy(video_model).train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
            if hasattr(module, "dropout"):
                module.dropout = 0.0
        if is_checkpointing:
            model.gradient_checkpointing_enable()
        stages(model, *stage_inputs).masks.sum().backward()
        gradients.append(model.spatial_perceiver.latents_1d.grad)
    torch.testing.assert_close(*gradients)


def test_given_mask_decides_the_score_and_the_pointer(video_model):
    with torch.no_grad():
        frame_embeddings = video_model.get_frame_embeddings(random((1, 3, 128, 128)))
        masks = torch.zeros(2, 128, 128, dtype=torch.bool)
        masks[0, 20:88, 32:100] = True
        prediction = video_model.adopt_masks(frame_embeddings, masks)
    assert prediction.object_score_logits.tolist() == [10.0, -10.0]
    assert prediction.iou_scores.tolist() == [1.0, 1.0]
    assert torch.equal(prediction.masks[0] > 0, masks[0, 2::4, 2::4])
    assert torch.equal(prediction.pointers[1:], video_model.no_object_pointer)
    assert not torch.equal(prediction.pointers[:1], video_model.no_object_pointer)


@pytest.mark.parametrize("stage", ["get_frame_embeddings", "attend_to_memory", "decode_objects", "encode_memory"])
def test_stage_is_not_compiled_again_once_the_bank_is_full(video_processor, clip, stage):
    config = small_video_config(num_maskmem=3, max_object_pointers_in_encoder=4)
    expected_model, model = make_video_model(config=config), make_video_model(config=config)
    counts = []

    def count(graph, example_inputs):
        counts.append(graph)
        return graph

    setattr(model, stage, torch.compile(getattr(model, stage), backend=count, fullgraph=True))
    outputs, num_graphs = [], []
    for one in (model, expected_model):
        session = video_processor.init_video_session(video=clip)
        video_processor.add_inputs_to_inference_session(session, 0, [1, 2], **CLICKS)
        outputs.append([])
        for output in one.propagate_in_video_iterator(session):
            outputs[-1].append(output.pred_masks)
            num_graphs.append(len(counts))
    assert num_graphs[11] > 0 and num_graphs[6] == num_graphs[11]
    torch.testing.assert_close(torch.stack(outputs[0]), torch.stack(outputs[1]), rtol=0, atol=1e-4)


class Stage(nn.Module):
    """A stage as a module, which is what export takes."""

    def __init__(self, model, name):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, *inputs):
        return getattr(self.model, self.name)(*inputs)


@torch.no_grad()
def test_stages_can_be_exported(video_model):
    pixel_values = random((1, 3, 128, 128))
    frame_embeddings = video_model.get_frame_embeddings(pixel_values)
    memories = Memories(
        random((2, 3, 24, 64)), torch.tensor([[6, 0, 1], [6, 2, 3]]), random((2, 4, 64)), torch.ones(2, 4)
    )
    conditioned = random((2, 64, 8, 8))
    flags, points = torch.tensor([True, False]), random((2, 1, 2, 2))
    inputs = {
        "get_frame_embeddings": (pixel_values,),
        "attend_to_memory": (frame_embeddings[-1], memories),
        "decode_objects": (frame_embeddings, conditioned, Prompts(points, torch.ones(2, 1, 2).long()), flags),
        "adopt_masks": (frame_embeddings, random((2, 128, 128)) > 0),
        "encode_memory": (frame_embeddings[-1], random((2, 32, 32)), torch.ones(2), flags),
    }
    for name, arguments in inputs.items():
        stage = Stage(video_model, name).eval()
        exported = torch.export.export(stage, arguments).module()
        for actual, expected in zip(exported(*arguments), stage(*arguments)):
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5, msg=name)


def test_main_input_is_an_argument_of_forward():
    assert EdgeTamVideoModel.main_input_name in inspect.signature(EdgeTamVideoModel.forward).parameters
