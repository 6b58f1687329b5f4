"""Parts and incomplete checkpoints load as asked, and what the Trainer reads of the class says what it needs."""

import json

import pytest
import torch
from edgetam_hf.configuration_edgetam import EdgeTamConfig, EdgeTamVideoConfig, EdgeTamVisionConfig
from edgetam_hf.modeling_edgetam import EdgeTamModel, EdgeTamVisionModel
from safetensors.torch import load_file, save_file
from small_models import make_model, make_native, make_native_video, make_video_model, random, small_config

PICTURE = random((1, 3, 64, 64))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """By kind, a model and the folder of its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints")
    models = {"image": make_model(), "video": make_video_model()}
    models |= {"native": make_native(models["image"]), "native_video": make_native_video(models["video"])}
    models["vision"] = models["image"].vision_encoder
    for name, model in models.items():
        model.save_pretrained(folder / name)
    return {name: (model, folder / name) for name, model in models.items()}


@pytest.mark.parametrize("kind", ["image", "video", "native", "native_video", "vision"])
def test_vision_model_loads_the_image_encoder_of_any_checkpoint(folders, kind, capfd):
    model, folder = folders[kind]
    vision, info = EdgeTamVisionModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    expected = getattr(model, "vision_encoder", model)
    with torch.no_grad():
        maps, wanted = (m.eval()(PICTURE).fpn_hidden_states for m in (vision, expected))
    for actual, other in zip(maps, wanted, strict=True):
        torch.testing.assert_close(actual, other, atol=1e-4, rtol=0)
    assert "not initialized" not in capfd.readouterr().err


def test_vision_model_rejects_a_checkpoint_without_an_image_encoder(folders, tmp_path):
    save_file({"other.weight": torch.zeros(2)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((folders["image"][1] / "config.json").read_text())
    with pytest.raises(ValueError, match="not a complete EdgeTAM checkpoint"):
        EdgeTamVisionModel.from_pretrained(tmp_path)


def test_mismatched_and_missing_tensors_are_initialised_when_asked_for(folders, tmp_path):
    model, folder = folders["image"]
    tensors = load_file(folder / "model.safetensors")
    lost, narrow = "mask_decoder.conv_s0.weight", "mask_decoder.conv_s1.weight"
    del tensors[lost]
    tensors[narrow] = tensors[narrow][:3].clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    for options in ({}, {"ignore_mismatched_sizes": False}):
        with pytest.raises(ValueError, match=r"ignore_mismatched_sizes=True initialises them anew"):
            EdgeTamModel.from_pretrained(tmp_path, **options)
    loaded = EdgeTamModel.from_pretrained(tmp_path, ignore_mismatched_sizes=True)
    for name, tensor in loaded.state_dict().items():
        if name in (lost, narrow):
            assert tensor.isfinite().all() and 0.001 < tensor.std() < 0.1
        else:
            assert torch.equal(tensor, model.state_dict()[name])


def test_everything_is_initialised_where_no_checkpoint_is_named():
    config = small_config(64)
    model = EdgeTamModel.from_pretrained(None, config=config, state_dict={})
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert model.shared_image_embedding.positional_embedding.std() > 0.5


# Configuration


WRONG = {
    "list": ("[]", "must be a JSON object"),
    "null": ("null", "must be a JSON object"),
    "word": ('"edgetam"', "must be a JSON object"),
    "brackets": ("[" * 100_000 + "]" * 100_000, "must be a JSON object"),
    "nesting": ('{"model_type": "edgetam", "vision_config": ' + '{"a": ' * 50_000 + "1" + "}" * 50_001, "JSON object"),
    "vision_config": ('{"model_type": "edgetam", "vision_config": 5}', "vision_config .*must be .* got 5"),
}


@pytest.mark.parametrize("config_class", [EdgeTamConfig, EdgeTamVisionConfig])
@pytest.mark.parametrize("case", WRONG)
def test_configuration_rejects_json_of_the_wrong_kind(config_class, case, tmp_path):
    content, message = WRONG[case]
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        config_class.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"vision_config": []}, r"vision_config must be a dictionary of fields or a configuration, got \[\]"),
        ({"prompt_encoder_config": "x"}, "prompt_encoder_config must be a dictionary .* got 'x'"),
        ({"vision_config": {"backbone_config": 3}}, "backbone_config must be a dictionary .* got 3"),
        ({"vision_config": {"fpn_top_down_levels": 5}}, "fpn_top_down_levels must be a list, .* got 5"),
        ({"mask_decoder_config": {"hidden_size": "256"}}, "hidden_size must be an integer, such as 256, got '256'"),
        ({"mask_decoder_config": {"mlp_dim": True}}, "mlp_dim must be an integer, .* got True"),
        ({"initializer_range": None}, "initializer_range must be a number, .* got None"),
    ],
)
def test_configuration_rejects_fields_of_the_wrong_kind(fields, message):
    with pytest.raises(ValueError, match=message):
        EdgeTamConfig(**fields)


def test_video_configuration_rejects_fields_of_the_wrong_kind():
    with pytest.raises(ValueError, match="num_maskmem must be an integer"):
        EdgeTamVideoConfig(num_maskmem="7")
    with pytest.raises(ValueError, match="rope_parameters must be a dictionary"):
        EdgeTamVideoConfig(rope_parameters=5)


def test_backbone_configuration_has_attributes_and_is_written_as_a_dictionary():
    config = small_config(64)
    backbone = config.vision_config.backbone_config
    assert backbone.model_args == backbone["model_args"] and backbone.architecture == "repvit_m1"
    assert not hasattr(backbone, "nothing")
    fields = config.to_dict()["vision_config"]["backbone_config"]
    assert type(fields) is dict and fields == backbone.to_dict() == backbone
    assert json.loads(config.to_json_string())["vision_config"]["backbone_config"] == fields


# Outputs, as the Trainer and other tools read them


def test_vision_output_has_the_fields_of_native(folders):
    with torch.no_grad():
        output = folders["image"][0].vision_encoder(PICTURE, output_hidden_states=True)
    assert output.pooler_output is None and output.attentions is None
    assert list(output) == ["last_hidden_state", "hidden_states", "fpn_hidden_states", "fpn_position_encoding"]


def test_evaluation_keeps_neither_maps_nor_attentions(folders):
    ignored = folders["image"][0].config.keys_to_ignore_at_inference
    assert {"image_embeddings", "loss_dict"} <= set(ignored)
    assert not {"iou_scores", "pred_masks", "object_score_logits"} & set(ignored)
