"""Distillation: from EdgeTAM and from the SAM 2 models of Transformers."""

from copy import deepcopy

import pytest
import torch
import transformers
from edgetam_hf.training_edgetam import LossWeights, PromptSimulation
from small_models import make_model, make_native, make_native_video, make_video_model, random, small_video_config

from edgetam_hf.training.distillation import Distillation

SIZE = 128


def make_pictures():
    labels = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.int8)
    labels[:, :, 20:70, 30:90] = 1
    return {
        "pixel_values": random((2, 3, SIZE, SIZE)),
        "mask_labels": labels,
        "prompt_seeds": torch.arange(2),
    }


def make_clips(num_objects=2):
    labels = torch.zeros(1, 3, num_objects, SIZE, SIZE, dtype=torch.int8)
    for object_idx in range(num_objects):
        labels[:, :, object_idx, 20 + 20 * object_idx : 70 + 10 * object_idx, 30:90] = 1
    return {
        "pixel_values_videos": random((1, 3, 3, SIZE, SIZE)),
        "mask_labels": labels,
        "prompt_seeds": torch.tensor([4]),
    }


def small_sam2(size=SIZE, hidden_size=128):
    """A SAM 2 of Transformers of another width, that tracks."""
    config = transformers.Sam2VideoConfig(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "image_size": [size, size],
                "hidden_size": 8,
                "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 2, 2],
                "blocks_per_stage": [1, 1, 1, 1],
                "global_attention_blocks": [],
                "window_positional_embedding_background_size": [4, 4],
            },
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[size // 4] * 2, [size // 8] * 2, [size // 16] * 2],
            "fpn_hidden_size": hidden_size,
        },
        prompt_encoder_config={"hidden_size": hidden_size, "image_size": size},
        mask_decoder_config={"hidden_size": hidden_size, "mlp_dim": 64, "iou_head_hidden_dim": 32},
        image_size=size,
        memory_attention_hidden_size=hidden_size,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[size // 16] * 2,
        memory_encoder_hidden_size=hidden_size,
        mask_downsampler_embed_dim=hidden_size,
        memory_fuser_embed_dim=hidden_size,
        memory_fuser_intermediate_dim=64,
        memory_fuser_num_layers=1,
    )
    torch.manual_seed(0)
    return transformers.Sam2VideoModel(config).eval()


def test_student_that_is_its_teacher_has_nothing_to_learn_from_it():
    model, pictures = make_model(), make_pictures()
    with torch.no_grad():
        output = Distillation(model, deepcopy(model))(**pictures)
        alone = model(**pictures)
    assert output.loss_dict["features"].item() == pytest.approx(0.0, abs=1e-10)
    torch.testing.assert_close(output.loss, alone.loss)


def test_video_student_that_is_its_teacher_has_nothing_to_learn_from_it():
    model = make_video_model()
    with torch.no_grad():
        output = Distillation(model, deepcopy(model))(**make_clips())
    assert output.memory_embeddings[0]
    assert output.loss_dict["features"].item() < 1e-8 and output.loss_dict["memory"].item() < 1e-8


def test_native_teacher_of_the_same_weights_tracks_the_same_objects():
    """It remembers given masks less exactly, which is why the difference is not quite zero."""
    config = small_video_config(hidden_size=128)  # Transformers' own EdgeTAM wants memories narrower than the model
    model, clips, differences = make_video_model(config=config), make_clips(), []
    model.prompt_simulation = PromptSimulation(mask_share=1.0, max_prompted_frames=1)
    for other in (model, make_video_model(config=config, seed=1)):
        with torch.no_grad():
            differences.append(Distillation(model, make_native_video(other))(**clips).loss_dict)
    assert differences[0]["features"].item() < 1e-8
    assert 0 < differences[0]["memory"] < 0.02 * differences[1]["memory"]


def test_differences_are_mean_squares_at_the_places_of_the_paper():
    model, teacher, clips = make_video_model(), make_video_model(seed=1), make_clips()
    model.prompt_simulation = PromptSimulation(mask_share=1.0, max_prompted_frames=1)
    with torch.no_grad():
        output = Distillation(model, teacher)(**clips)
        assert teacher.prompt_simulation != model.prompt_simulation
        teacher.prompt_simulation = model.prompt_simulation
        taught = teacher(**clips)
        features = (output.frame_embeddings - taught.frame_embeddings).square().mean()
        memory = [output.memory_embeddings[0][t] - taught.memory_embeddings[0][t] for t in (1, 2)]
    torch.testing.assert_close(output.loss_dict["features"], features)
    torch.testing.assert_close(output.loss_dict["memory"], torch.stack(memory).square().mean())
    parts = sum(output.loss_dict.values())
    torch.testing.assert_close(output.loss, parts)


def assert_learns(distillation, batch, terms):
    """The student comes closer to its teacher, and only it and the projections have changed."""
    before = deepcopy(distillation.teacher.state_dict())
    distillation.student.loss_weights = LossWeights(focal=0.0)
    optimizer = torch.optim.AdamW(distillation.parameters(), lr=1e-3)
    history = []
    distillation.train()
    for _ in range(15):
        output = distillation(**batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        history.append({name: output.loss_dict[name].item() for name in terms})
    for name in terms:
        assert history[-1][name] < 0.8 * history[0][name], name
    assert all(torch.equal(value, before[name]) for name, value in distillation.teacher.state_dict().items())
    assert {name.split(".")[0] for name in distillation.state_dict()} <= {"student", "projections"}


@pytest.mark.parametrize("teacher", ["edgetam", "native edgetam", "sam2"])
def test_image_student_learns_from_a_teacher(teacher):
    torch.manual_seed(0)
    model = make_model()
    model.prompt_simulation = PromptSimulation(num_corrections=0)
    other = make_model(seed=1)
    teachers = {"edgetam": lambda: other, "native edgetam": lambda: make_native(other), "sam2": small_sam2}
    assert_learns(Distillation(model, teachers[teacher]()), make_pictures(), ["features"])


@pytest.mark.parametrize("is_of_sam2", [False, True])
def test_video_student_learns_from_a_teacher(is_of_sam2):
    torch.manual_seed(0)
    model = make_video_model(config=small_video_config(memory_attention_dropout=0.0, memory_attention_rope_dropout=0.0))
    model.prompt_simulation = PromptSimulation(mask_share=1.0)
    teacher = small_sam2() if is_of_sam2 else make_video_model(seed=1)
    assert_learns(Distillation(model, teacher), make_clips(), ["features", "memory"])


@pytest.mark.parametrize("is_of_sam2", [False, True])
def test_pictures_among_clips_teach_no_memory(is_of_sam2):
    model = make_video_model()
    distillation = Distillation(model, small_sam2() if is_of_sam2 else make_video_model(seed=1))
    clips = make_clips()
    pictures = {name: value[:, :1] if value.dim() > 1 else value for name, value in clips.items()}
    output = distillation(**pictures)
    output.loss.backward()
    assert output.loss_dict["memory"] == 0 < output.loss_dict["features"]
    assert all(parameter.grad is None for parameter in model.memory_attention.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in model.vision_encoder.parameters())


def test_teacher_of_another_size_sees_pictures_in_its_own():
    model, teacher = make_video_model(), small_sam2(size=256)
    model.prompt_simulation = PromptSimulation(mask_share=1.0)
    output = Distillation(model, teacher)(**make_clips())
    output.loss.backward()
    assert all(output.loss_dict[name] > 0 for name in ("features", "memory"))


def test_only_the_student_is_saved(tmp_path):
    distillation = Distillation(make_model(), small_sam2())
    distillation.student.save_pretrained(tmp_path)
    loaded = type(distillation.student).from_pretrained(tmp_path)
    expected = distillation.student.state_dict()
    assert loaded.state_dict().keys() == expected.keys()


def test_distillation_rejects_teachers_that_cannot_teach():
    with pytest.raises(TypeError, match="must be a SAM 2 model of Transformers or an EdgeTAM, got Linear"):
        Distillation(make_model(), torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="EdgeTamModel, which has no memory_attention"):
        Distillation(make_video_model(), make_model())
