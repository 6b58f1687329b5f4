"""Configurations: EdgeTAM by default, one image size, and JSON that ours and native's classes read alike."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import transformers
from edgetam_hf.configuration_edgetam import (
    EdgeTamConfig,
    EdgeTamMaskDecoderConfig,
    EdgeTamPromptEncoderConfig,
    EdgeTamVideoConfig,
    EdgeTamVisionConfig,
    to_height_and_width,
)
from edgetam_hf.modeling_edgetam import EdgeTamModel, EdgeTamVisionModel
from small_models import native_config

DATA = Path(__file__).with_name("data")
SUB_CONFIGS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
OURS = {"image": EdgeTamConfig, "video": EdgeTamVideoConfig}
NATIVE = {"image": transformers.EdgeTamConfig, "video": transformers.EdgeTamVideoConfig}
# What only one version of Transformers, only one side, or only the folder it was read from decides
BOOKKEEPING = {"transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype", "auto_map"}
BOOKKEEPING |= {"custom_pipelines", "_attn_implementation_autoset", "tie_word_embeddings"}


def native_json(kind):
    return json.loads((DATA / f"native_config_{kind}_5.23.json").read_text())


def all_fields(config):
    """The fields of a configuration as JSON holds them."""
    return json.loads(config.to_json_string(use_diff=False))


def significant(fields):
    """The fields of a saved configuration that describe a model."""
    fields = {name: value for name, value in fields.items() if name not in BOOKKEEPING}
    return {name: significant(value) if isinstance(value, dict) else value for name, value in fields.items()}


def assert_contains(actual, expected, path="config"):
    """Every field of `expected` is in `actual` with the same value."""
    for name, value in significant(expected).items():
        assert name in actual, f"{path}.{name} is missing"
        if isinstance(value, dict):
            assert_contains(actual[name], value, f"{path}.{name}")
        else:
            assert actual[name] == value, f"{path}.{name}"


def saved(config, folder):
    config.save_pretrained(folder)
    return json.loads((folder / "config.json").read_text())


# Defaults


def test_defaults_are_edgetam():
    config = EdgeTamConfig()
    assert config.image_size == 1024 and config.prompt_encoder_config.image_size == 1024
    assert config.vision_config.backbone_widths == (48, 96, 192, 384)
    assert config.vision_config.backbone_depths == (2, 2, 14, 2)
    assert config.vision_config.backbone_channel_list == [384, 192, 96, 48]
    assert config.vision_config.backbone_feature_sizes == [[256, 256], [128, 128], [64, 64]]


def test_default_model_has_the_size_of_edgetam():
    model = EdgeTamModel(EdgeTamConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 9_120_641
    assert len(model.state_dict()) == 831


@pytest.mark.parametrize("kind", OURS)
def test_defaults_equal_native_json(kind):
    expected = native_json(kind)
    # native's own defaults turn on what the published EdgeTAM does not have
    flags = ("enable_occlusion_spatial_embedding", "enable_temporal_pos_encoding_for_object_pointers")
    expected = {name: value for name, value in expected.items() if name not in flags}
    backbone = expected["vision_config"].pop("backbone_config")
    fields = all_fields(OURS[kind]())
    assert_contains(fields, expected)
    for name in ("architecture", "num_classes", "label_names", "model_args", "model_type"):
        assert fields["vision_config"]["backbone_config"][name] == backbone[name]


# Image size


@pytest.mark.parametrize(
    "image_size, expected", [(512, (512, 512)), ([256, 512], (256, 512)), ((64, 96), (64, 96)), ([32, 32], (32, 32))]
)
def test_image_size_sets_every_derived_size(image_size, expected):
    height, width = expected
    for config_class in (EdgeTamConfig, EdgeTamVideoConfig):
        config = config_class(image_size=image_size)
        assert to_height_and_width(config.image_size) == expected
        assert config.image_size == (height if height == width else [height, width])
        assert config.prompt_encoder_config.image_size == config.image_size
        sizes = [[height // stride, width // stride] for stride in (4, 8, 16)]
        assert config.vision_config.backbone_feature_sizes == sizes
    assert config.memory_attention_rope_feat_sizes == [height // 16, width // 16]
    assert config.to_dict()["memory_attention_rope_feat_sizes"] == [height // 16, width // 16]


def test_image_size_can_be_set_later_or_follows_the_prompt_encoder():
    config = EdgeTamConfig(prompt_encoder_config={"image_size": 256})
    assert config.image_size == 256 and config.vision_config.backbone_feature_sizes[-1] == [16, 16]
    config.image_size = (128, 64)
    assert config.image_size == [128, 64] and config.vision_config.backbone_feature_sizes[0] == [32, 16]


@pytest.mark.parametrize("kind", OURS)
def test_image_size_survives_saving(kind, tmp_path):
    OURS[kind](image_size=(64, 96)).save_pretrained(tmp_path)
    assert OURS[kind].from_pretrained(tmp_path).image_size == [64, 96]
    assert OURS[kind].from_pretrained(tmp_path, image_size=128).image_size == 128


@pytest.mark.parametrize(
    "image_size", [100, 1000, 0, -32, (64, 0), (64, 100), (64,), (64, 64, 64), [], "512", 512.0, True, (True, 32)]
)
def test_image_size_rejects(image_size):
    for make in (
        lambda: EdgeTamConfig(image_size=image_size),
        lambda: EdgeTamConfig(prompt_encoder_config={"image_size": image_size}),
        lambda: setattr(EdgeTamConfig(), "image_size", image_size),
    ):
        with pytest.raises(ValueError, match="image_size must be a positive multiple of 32"):
            make()


# Ours = native


@pytest.mark.parametrize("kind", OURS)
def test_native_json_is_read_with_every_field(kind, tmp_path):
    fields = native_json(kind)
    (tmp_path / "config.json").write_text(json.dumps(fields))
    config = OURS[kind].from_pretrained(tmp_path)
    assert_contains(all_fields(config), fields)
    for name in SUB_CONFIGS:
        assert getattr(config, name).model_type == fields[name]["model_type"]


@pytest.mark.parametrize("kind", OURS)
def test_native_object_is_read_with_every_field(kind, tmp_path):
    """What the native class of the running Transformers saves, whatever its version."""
    fields = native_json(kind)
    fields["mask_decoder_config"]["dynamic_multimask_stability_thresh"] = 0.5
    fields["prompt_encoder_config"]["image_size"] = 512
    fields["vision_config"]["backbone_feature_sizes"] = [[128, 128], [64, 64], [32, 32]]
    if kind == "video":
        fields.update(image_size=512, memory_attention_rope_feat_sizes=[32, 32], num_maskmem=4)
    native = NATIVE[kind](**deepcopy({name: fields[name] for name in fields if name != "model_type"}))
    config = OURS[kind].from_dict(saved(native, tmp_path))
    assert_contains(all_fields(config), {name: fields[name] for name in SUB_CONFIGS})
    assert config.image_size == 512 and config.mask_decoder_config.dynamic_multimask_stability_thresh == 0.5
    assert kind == "image" or config.num_maskmem == 4


@pytest.mark.parametrize("kind", OURS)
def test_ours_is_read_by_native_with_every_field(kind, tmp_path):
    ours = OURS[kind](image_size=256, mask_decoder_config={"dynamic_multimask_via_stability": False})
    ours.save_pretrained(tmp_path)
    native = all_fields(NATIVE[kind].from_pretrained(tmp_path))
    fields = json.loads((tmp_path / "config.json").read_text())
    rope = fields.pop("rope_parameters", None)
    for name in SUB_CONFIGS:
        if native[name]["model_type"] == "":  # transformers 4 has no types of the prompt encoder and mask decoder
            del fields[name]["model_type"]
    assert_contains(native, fields)
    if kind == "video":  # transformers 4 has one number instead
        theta = native["rope_parameters"]["rope_theta"] if "rope_parameters" in native else None
        assert rope["rope_theta"] == (theta or native["memory_attention_rope_theta"])


@pytest.mark.parametrize("kind", OURS)
def test_native_sub_configs_are_read(kind):
    native = native_config(OURS[kind](image_size=256))
    parts = {name: getattr(native, name) for name in SUB_CONFIGS}
    config = OURS[kind](**parts)
    assert config.image_size == 256
    for name in SUB_CONFIGS:
        assert type(getattr(config, name)) is OURS[kind].sub_configs[name]
        assert getattr(config, name).model_type == parts[name].model_type


def test_rope_theta_is_read_under_both_names():
    of_version_4 = EdgeTamVideoConfig(memory_attention_rope_theta=500.0)
    assert of_version_4.rope_parameters == {"rope_type": "axial", "rope_theta": 500.0}
    of_version_5 = EdgeTamVideoConfig(rope_parameters={"rope_type": "axial", "rope_theta": 600.0})
    assert of_version_5.rope_parameters["rope_theta"] == 600.0


@pytest.mark.parametrize("kind", OURS)
def test_saving_and_loading_keeps_every_field(kind, tmp_path):
    config = OURS[kind](image_size=(64, 128), initializer_range=0.5, mask_decoder_config={"mlp_dim": 64})
    fields = saved(config, tmp_path)
    loaded = OURS[kind].from_pretrained(tmp_path)
    assert_contains(all_fields(loaded), fields)
    assert loaded.initializer_range == 0.5
    assert deepcopy(loaded).to_dict() == loaded.to_dict()


@pytest.mark.parametrize("kind", OURS)
def test_saved_json_names_the_remote_code(kind, tmp_path):
    fields = saved(OURS[kind](), tmp_path)
    name = type(OURS[kind]()).__name__
    assert fields["auto_map"]["AutoConfig"] == f"configuration_edgetam.{name}"
    assert fields["auto_map"]["AutoModelForMaskGeneration"] == "modeling_edgetam.EdgeTamModel"
    assert "custom_pipelines" not in fields
    assert OURS[kind](custom_pipelines={"mask-generation": {"impl": "other.Pipeline"}}).custom_pipelines == {}


# Backbone


@pytest.mark.parametrize("architecture", ["repvit_m1", "repvit_m1.dist_in1k", "repvit_m1.dist_450e_in1k"])
def test_backbone_is_read_with_and_without_a_tag(architecture):
    vision = EdgeTamVisionConfig(backbone_config={"architecture": architecture})
    assert vision.backbone_config["architecture"] == architecture
    assert vision.backbone_widths == (48, 96, 192, 384)


def test_backbone_is_read_from_a_timm_wrapper_config():
    wrapper = transformers.TimmWrapperConfig(
        architecture="repvit_m1", model_args={"embed_dim": [8, 16, 24, 32], "depth": [1, 1, 2, 1]}
    )
    for vision in (EdgeTamVisionConfig(wrapper), EdgeTamConfig({"backbone_config": wrapper}).vision_config):
        assert vision.backbone_widths == (8, 16, 24, 32) and vision.backbone_depths == (1, 1, 2, 1)
        assert vision.backbone_channel_list == [32, 24, 16, 8]
        assert vision.backbone_config["model_type"] == "timm_wrapper"
    assert len(EdgeTamVisionModel(vision).backbone.timm_model.stages_2.blocks) == 2


def test_backbone_keeps_extra_keys(tmp_path):
    extra = {"num_classes": 7, "label_names": ["a"], "pretrained_cfg": {"crop_pct": 0.95}, "do_pooling": False}
    config = EdgeTamConfig({"backbone_config": {"architecture": "repvit_m1", **extra}})
    backbone = saved(config, tmp_path)["vision_config"]["backbone_config"]
    assert {name: backbone[name] for name in extra} == extra


def test_backbone_arguments_of_the_caller_stay_as_they_are():
    backbone = {"architecture": "repvit_m1", "model_args": {"depth": [1, 1, 1, 1]}}
    before = deepcopy(backbone)
    EdgeTamConfig({"backbone_config": backbone}, image_size=64)
    assert backbone == before


@pytest.mark.parametrize("architecture", ["resnet50", "repvit_m2", "hiera_tiny_224.mae", None])
def test_backbone_rejects_other_architectures(architecture):
    with pytest.raises(ValueError, match=rf"must be one of repvit_m1, got {architecture}"):
        EdgeTamVisionConfig(backbone_config={"architecture": architecture})


def test_vision_config_rejects_channels_that_are_not_the_backbones():
    with pytest.raises(ValueError, match=r"from stride 32 to 4, \[384, 192, 96, 48\], got \[384, 192\]"):
        EdgeTamVisionConfig(backbone_channel_list=[384, 192])


# Other models


def test_image_config_is_read_from_a_video_config(tmp_path):
    EdgeTamVideoConfig(image_size=512, mask_decoder_config={"mlp_dim": 64}).save_pretrained(tmp_path)
    config = EdgeTamConfig.from_pretrained(tmp_path)
    assert type(config) is EdgeTamConfig and config.model_type == "edgetam"
    assert config.image_size == 512 and config.mask_decoder_config.mlp_dim == 64
    fields = saved(config, tmp_path / "again")
    assert fields["model_type"] == "edgetam" and "num_maskmem" not in fields
    types = [fields[name]["model_type"] for name in SUB_CONFIGS]
    assert types == ["edgetam_vision_model", "edgetam_prompt_encoder", "edgetam_mask_decoder"]


def test_image_config_is_read_from_native_video_json(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(native_json("video")))
    config = EdgeTamConfig.from_pretrained(tmp_path)
    assert config.to_dict()["model_type"] == "edgetam" and not hasattr(config, "num_maskmem")
    assert config.mask_decoder_config.model_type == EdgeTamMaskDecoderConfig.model_type
    assert config.prompt_encoder_config.model_type == EdgeTamPromptEncoderConfig.model_type


@pytest.mark.parametrize("config_class", [EdgeTamConfig, EdgeTamVideoConfig])
@pytest.mark.parametrize("model_type", ["sam2", "bert", None])
def test_config_rejects_other_model_types(config_class, model_type, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type} if model_type else {}))
    message = f"model_type '{config_class.model_type}', got {model_type!r}; load this checkpoint with"
    with pytest.raises(ValueError, match=message):
        config_class.from_pretrained(tmp_path)


def test_video_config_rejects_an_image_config(tmp_path):
    EdgeTamConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"image checkpoint, .*no memory for video; .* yonigozlan/EdgeTAM-hf"):
        EdgeTamVideoConfig.from_pretrained(tmp_path)
