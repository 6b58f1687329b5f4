"""Conversion: what goes there and back is bit-equal, and what does not map is named."""

import hashlib
import json
import os
import pickle
import resource
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from edgetam_hf.configuration_edgetam import EdgeTamConfig, EdgeTamVideoConfig
from edgetam_hf.modeling_edgetam import EdgeTamModel
from edgetam_hf.modeling_edgetam_video import EdgeTamVideoModel
from edgetam_hf.processing_edgetam_video import EdgeTamVideoProcessor
from safetensors.torch import load_file, save_file
from small_models import native_config, randomise, small_config, small_video_config
from tracking import CLICK, Tracker, assert_equal

from edgetam_cli import main
from edgetam_hf import conversion, nano_checkpoint
from edgetam_hf.conversion import CheckpointKeysError, convert, model_tensors, to_original, to_transformers
from edgetam_hf.original_names import PATTERNS, original_name

# Tensors of the original release, with their shapes, one of each part and of each rule of naming
ORIGINAL_SHAPES = {
    "image_encoder.trunk.body.stem.conv1.c.weight": (24, 3, 3, 3),
    "image_encoder.trunk.body.stages_2.blocks.13.token_mixer.conv.bn.num_batches_tracked": (),
    "image_encoder.trunk.body.stages_3.downsample.spatial_downsample.c.weight": (192, 1, 3, 3),
    "image_encoder.neck.convs.0.conv.weight": (256, 384, 1, 1),
    "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (2, 128),
    "sam_prompt_encoder.point_embeddings.3.weight": (1, 256),
    "sam_prompt_encoder.not_a_point_embed.weight": (1, 256),
    "sam_prompt_encoder.mask_downscaling.0.weight": (4, 1, 2, 2),
    "sam_prompt_encoder.mask_downscaling.1.weight": (4,),
    "sam_prompt_encoder.mask_downscaling.3.weight": (16, 4, 2, 2),
    "sam_prompt_encoder.mask_downscaling.4.bias": (16,),
    "sam_prompt_encoder.mask_downscaling.6.weight": (256, 16, 1, 1),
    "sam_mask_decoder.obj_score_token.weight": (1, 256),
    "sam_mask_decoder.transformer.layers.1.self_attn.out_proj.weight": (256, 256),
    "sam_mask_decoder.transformer.layers.0.cross_attn_image_to_token.out_proj.weight": (256, 128),
    "sam_mask_decoder.transformer.layers.0.norm4.weight": (256,),
    "sam_mask_decoder.transformer.layers.0.mlp.layers.0.weight": (2048, 256),
    "sam_mask_decoder.transformer.layers.0.mlp.layers.1.weight": (256, 2048),
    "sam_mask_decoder.transformer.final_attn_token_to_image.out_proj.weight": (256, 128),
    "sam_mask_decoder.transformer.norm_final_attn.bias": (256,),
    "sam_mask_decoder.output_upscaling.0.weight": (256, 64, 2, 2),
    "sam_mask_decoder.output_upscaling.1.weight": (64,),
    "sam_mask_decoder.output_upscaling.3.weight": (64, 32, 2, 2),
    "sam_mask_decoder.conv_s0.weight": (32, 256, 1, 1),
    "sam_mask_decoder.output_hypernetworks_mlps.3.layers.2.weight": (32, 256),
    "sam_mask_decoder.iou_prediction_head.layers.2.weight": (4, 256),
    "sam_mask_decoder.pred_obj_score_head.layers.2.weight": (1, 256),
    "memory_attention.layers.1.self_attn.out_proj.weight": (256, 256),
    "memory_attention.layers.1.cross_attn_image.k_proj.weight": (256, 64),
    "memory_attention.layers.1.linear1.weight": (2048, 256),
    "memory_attention.layers.1.linear2.weight": (256, 2048),
    "memory_attention.layers.1.norm3.weight": (256,),
    "memory_attention.norm.weight": (256,),
    "memory_encoder.mask_downsampler.encoder.0.weight": (4, 1, 3, 3),
    "memory_encoder.mask_downsampler.encoder.1.weight": (4,),
    "memory_encoder.mask_downsampler.encoder.9.weight": (256, 64, 3, 3),
    "memory_encoder.mask_downsampler.encoder.10.weight": (256,),
    "memory_encoder.mask_downsampler.encoder.12.weight": (256, 256, 1, 1),
    "memory_encoder.pix_feat_proj.weight": (256, 256, 1, 1),
    "memory_encoder.fuser.layers.1.dwconv.weight": (256, 1, 7, 7),
    "memory_encoder.fuser.layers.1.norm.weight": (256,),
    "memory_encoder.fuser.layers.1.pwconv1.weight": (1024, 256),
    "memory_encoder.fuser.layers.1.pwconv2.weight": (256, 1024),
    "memory_encoder.fuser.layers.1.gamma": (256,),
    "memory_encoder.out_proj.weight": (64, 256, 1, 1),
    "spatial_perceiver.latents": (256, 64),
    "spatial_perceiver.latents_2d": (256, 64),
    "spatial_perceiver.layers.1.attn.norm_x.weight": (64,),
    "spatial_perceiver.layers.1.attn.norm_latents.weight": (64,),
    "spatial_perceiver.layers.1.attn.to_q.weight": (64, 64),
    "spatial_perceiver.layers.1.attn.to_kv.weight": (128, 64),
    "spatial_perceiver.layers.1.attn.to_out.weight": (64, 64),
    "spatial_perceiver.layers.1.ff.0.weight": (64,),
    "spatial_perceiver.layers.1.ff.1.weight": (256, 64),
    "spatial_perceiver.layers.1.ff.3.weight": (64, 256),
    "spatial_perceiver.layers.1.self_attn.norm.weight": (64,),
    "spatial_perceiver.layers.1.self_attn.to_kv.weight": (128, 64),
    "spatial_perceiver.layers.1.self_ff.3.weight": (64, 256),
    "spatial_perceiver.norm.weight": (64,),
    "obj_ptr_proj.layers.0.weight": (256, 256),
    "obj_ptr_proj.layers.2.bias": (256,),
    "mask_downsample.weight": (1, 1, 4, 4),
    "maskmem_tpos_enc": (7, 1, 1, 64),
    "no_mem_embed": (1, 1, 256),
    "no_mem_pos_enc": (1, 1, 256),
    "no_obj_ptr": (1, 256),
}
KEYS_AND_VALUES = "spatial_perceiver.layers.0.self_attn.to_kv.weight"
GAUSSIAN_MATRIX = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


def assert_bit_equal(actual, expected):
    assert actual.keys() == expected.keys()
    assert all(actual[key].dtype == expected[key].dtype and torch.equal(actual[key], expected[key]) for key in actual)


def zeros(config):
    """A complete state dict in the names of Transformers that takes no memory."""
    return {key: torch.zeros((), dtype=t.dtype).expand(t.shape) for key, t in model_tensors(config).items()}


@pytest.fixture(scope="module")
def original(video_model):
    """State dict of `video_model` under the names of the original release."""
    return to_original(video_model.state_dict(), video_model.config)


@pytest.fixture(scope="module")
def original_file(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "small.pt"
    torch.save({"model": original}, path)
    return path


@pytest.fixture
def release(monkeypatch):
    """Takes the small model for the release, so that the command line can convert it."""
    monkeypatch.setattr(conversion, "release_config", lambda names: small_video_config())


def run(capsys, *arguments):
    """Exit code, stdout and stderr of a call."""
    code = main(["convert", *map(str, arguments)])
    return code, *capsys.readouterr()


# Names


def test_names_of_the_original_release():
    shapes = {key: tuple(tensor.shape) for key, tensor in to_original(zeros(EdgeTamVideoConfig())).items()}
    assert {key: shapes.get(key) for key in ORIGINAL_SHAPES} == ORIGINAL_SHAPES


def test_every_row_of_names_is_of_use():
    config = EdgeTamVideoConfig(
        enable_occlusion_spatial_embedding=True, enable_temporal_pos_encoding_for_object_pointers=True
    )
    names = conversion._join(model_tensors(config))
    used = {next(pattern for _, pattern in PATTERNS if pattern.fullmatch(name)) for name in names}
    assert used == {pattern for _, pattern in PATTERNS}


def test_release_has_982_tensors_and_transformers_984():
    original = to_original(zeros(EdgeTamVideoConfig()))
    ours = to_transformers(original)
    assert (len(original), len(ours)) == (982, 984)
    assert {key: t.shape for key, t in ours.items()} == {
        key: t.shape for key, t in model_tensors(EdgeTamVideoConfig()).items()
    }


def test_image_part_has_833_tensors_and_transformers_831():
    original = to_original(zeros(EdgeTamConfig()))
    assert (len(original), len(to_transformers(original))) == (833, 831)


def test_original_name_rejects_an_unknown_name():
    with pytest.raises(ValueError, match=r"no name for encoder\.layer"):
        original_name("encoder.layer")


# There and back


def test_ours_to_original_and_back_is_bit_equal(video_model, original):
    assert_bit_equal(to_transformers(original, video_model.config), dict(video_model.state_dict()))


def test_original_to_ours_and_back_is_bit_equal(video_model, original):
    generator = torch.Generator().manual_seed(7)
    random = {
        key: torch.randn(t.shape, generator=generator)
        if t.is_floating_point()
        else torch.randint(9, t.shape, generator=generator)
        for key, t in original.items()
    }
    ours = to_transformers(random, video_model.config)
    assert_bit_equal(to_original(ours, video_model.config), random)
    perceiver = "spatial_perceiver.layers.0.self_attention"
    keys_and_values = torch.cat([ours[f"{perceiver}.k_proj.weight"], ours[f"{perceiver}.v_proj.weight"]])
    assert torch.equal(keys_and_values, random[KEYS_AND_VALUES])
    points = ours["prompt_encoder.point_embed.weight"]
    assert all(torch.equal(points[i], random[f"sam_prompt_encoder.point_embeddings.{i}.weight"][0]) for i in range(4))
    for matrix in (conversion.IMAGE_MATRIX, conversion.PROMPT_MATRIX):
        assert torch.equal(ours[matrix], random[GAUSSIAN_MATRIX])


def test_image_model_and_native_model_with_all_flags_go_there_and_back():
    image = randomise(EdgeTamModel(small_config()))
    assert_bit_equal(to_transformers(to_original(image.state_dict(), image.config), image.config), image.state_dict())
    config = small_video_config(
        enable_occlusion_spatial_embedding=True, enable_temporal_pos_encoding_for_object_pointers=True
    )
    native = randomise(transformers.EdgeTamVideoModel(native_config(config)))
    original = to_original(native.state_dict(), config)
    assert {"no_obj_embed_spatial", "obj_ptr_tpos_proj.weight"} < original.keys()
    assert_bit_equal(to_transformers(original, config), dict(native.state_dict()))


def test_release_config_follows_from_the_names():
    assert conversion.release_config(["sam_mask_decoder.iou_token.weight"]).model_type == "edgetam"
    plain = conversion.release_config(["memory_encoder.out_proj.bias"])
    assert plain.model_type == "edgetam_video" and not plain.enable_occlusion_spatial_embedding
    assert conversion.release_config(["memory_encoder.a", "no_obj_embed_spatial"]).enable_occlusion_spatial_embedding


def test_training_checkpoint_is_read_without_its_teacher(video_model, original):
    def rename(key):
        key = key.replace("image_encoder.neck.convs", "image_encoder.convs")
        key = key.replace("image_encoder", "backbone.vision_backbone").replace("memory_encoder", "maskmem_backbone")
        key = key.replace("memory_attention", "transformer.encoder")
        return key.replace("mlp.layers.0", "mlp.lin1").replace("mlp.layers.1", "mlp.lin2")

    raw = {f"module.{rename(key)}": tensor for key, tensor in original.items()}
    assert len(raw.keys() - original.keys()) > 200
    raw["backbone.teacher.trunk.patch_embed.proj.weight"] = torch.zeros(3)
    assert_bit_equal(to_transformers(raw, video_model.config), dict(video_model.state_dict()))
    raw["memory_encoder.out_proj.bias"] = original["memory_encoder.out_proj.bias"]
    with pytest.raises(ValueError, match=r"memory_encoder.out_proj.bias twice"):
        to_transformers(raw, video_model.config)


def test_to_original_copies_the_matrix_that_transformers_4_leaves_out(video_model, original):
    ours = dict(video_model.state_dict())
    del ours[conversion.PROMPT_MATRIX]
    assert_bit_equal(to_original(ours, video_model.config), original)


# Files


def test_folder_to_original_to_folder_is_bit_equal_and_tracks_alike(video_folder, video_model, clip, tmp_path):
    there = convert(video_folder, tmp_path / "small.pt")
    back = convert(tmp_path / "small.pt", tmp_path / "back", config=video_model.config)
    assert (there["num_read"], there["num_written"]) == (back["num_written"], back["num_read"])
    weights = [load_file(folder / "model.safetensors") for folder in (video_folder, tmp_path / "back")]
    assert_bit_equal(*weights)

    results = []
    for folder in (video_folder, tmp_path / "back"):
        processor = EdgeTamVideoProcessor.from_pretrained(folder)
        tracker = Tracker(EdgeTamVideoModel.from_pretrained(folder), processor, clip[:3])
        tracker.add(0, [1], **CLICK)
        results.append(tracker.track())
    assert_equal(*results)


def test_folder_is_complete_and_loads_in_transformers(original_file, video_folder, video_model, tmp_path):
    target = tmp_path / "empty"
    target.mkdir()
    convert(original_file, target, config=video_model.config)
    assert {path.name for path in video_folder.iterdir()} | {"provenance.json"} == {p.name for p in target.iterdir()}
    native, info = transformers.EdgeTamVideoModel.from_pretrained(target, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert_bit_equal(dict(native.state_dict()), dict(video_model.state_dict()))


def test_image_folder_is_converted_anew(folder, model, tmp_path):
    report = convert(folder, tmp_path / "again")
    assert report["kind"] == "image" and report["num_read"] == report["num_written"]
    assert_bit_equal(dict(EdgeTamModel.from_pretrained(tmp_path / "again").state_dict()), dict(model.state_dict()))


def test_folder_in_shards_without_processor_is_read(video_model, tmp_path):
    video_model.save_pretrained(tmp_path / "shards", max_shard_size="300KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    convert(tmp_path / "shards", tmp_path / "whole")
    assert_bit_equal(load_file(tmp_path / "whole" / "model.safetensors"), dict(video_model.state_dict()))
    assert EdgeTamVideoProcessor.from_pretrained(tmp_path / "whole").image_processor.size["height"] == 128


def test_hub_repository_is_read_with_its_revision(video_folder, video_model, tmp_path):
    repository = Path(os.environ["HF_HUB_CACHE"], "models--someone--EdgeTAM")
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abcd")
    shutil.copytree(video_folder, repository / "snapshots" / "0123abcd")
    convert("someone/EdgeTAM", tmp_path / "hub.pt")
    content = torch.load(tmp_path / "hub.pt", weights_only=True)
    assert (content["provenance"]["source"], content["provenance"]["revision"]) == ("someone/EdgeTAM", "0123abcd")
    assert_bit_equal(content["model"], to_original(video_model.state_dict(), video_model.config))


def test_provenance_is_kept(original_file, video_model, tmp_path):
    convert(original_file, tmp_path / "folder", config=video_model.config)
    provenance = json.loads((tmp_path / "folder" / "provenance.json").read_text())
    assert provenance["source"] == "small.pt" and provenance["format"] == "original"
    assert provenance["files"] == {"small.pt": hashlib.sha256(original_file.read_bytes()).hexdigest()}
    assert provenance["versions"].keys() == {"edgetam_hf", "torch", "transformers"} and provenance["date"]

    convert(tmp_path / "folder", tmp_path / "again.pt")
    stored = torch.load(tmp_path / "again.pt", weights_only=True)["provenance"]
    assert stored["source"] == "folder" and stored["earlier"] == provenance
    assert stored["files"].keys() == {"config.json", "model.safetensors"}


def test_plain_state_dict_is_read(original, original_file, video_model, tmp_path):
    torch.save(original, tmp_path / "plain.pth")
    convert(tmp_path / "plain.pth", tmp_path / "clean.pt", config=video_model.config)
    assert_bit_equal(torch.load(tmp_path / "clean.pt", weights_only=True)["model"], original)


def test_dtype_changes_floating_point_only(original_file, video_model, tmp_path):
    report = convert(original_file, tmp_path / "half", torch.float16, video_model.config)
    weights = load_file(tmp_path / "half" / "model.safetensors")
    assert report["dtype"] == "float16" and {t.dtype for t in weights.values()} == {torch.float16, torch.int64}
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float16"


def test_dtype_rejects_numbers_too_large(original, video_model, tmp_path):
    torch.save({**original, "no_mem_embed": torch.full((1, 1, 64), 1e6)}, tmp_path / "large.pt")
    with pytest.raises(ValueError, match=r"no_memory_embedding has numbers too large for torch.float16"):
        convert(tmp_path / "large.pt", tmp_path / "half", torch.float16, video_model.config)


# Keys that do not map


def test_to_transformers_rejects_keys_and_names_them_all(original, video_model):
    broken = {**original, "extra.weight": torch.zeros(2), "no_obj_ptr": torch.zeros(3), "maskmem_tpos_enc": [1]}
    del broken["no_mem_embed"], broken[KEYS_AND_VALUES]
    expected = (
        r"2 of another shape, 1 unknown, 2 missing, such as maskmem_tpos_enc \(expected \(7, 1, 1, 64\), got a list"
    )
    with pytest.raises(ValueError, match=expected) as caught:
        to_transformers(broken, video_model.config)
    lines = str(caught.value).splitlines()[1:]
    assert lines == [
        "shape: maskmem_tpos_enc (expected (7, 1, 1, 64), got a list)",
        "shape: no_obj_ptr (expected (1, 64), got (3,))",
        "unknown: extra.weight ((2,))",
        "missing: no_mem_embed ((1, 1, 64))",
        f"missing: {KEYS_AND_VALUES} ((128, 64))",
    ]


def test_to_original_rejects_keys_and_names_them_all(video_model):
    broken = {**video_model.state_dict(), "extra": torch.zeros(2)}
    del broken["no_memory_embedding"]
    broken["no_object_pointer"] = torch.zeros(1, 64, dtype=torch.int8)
    with pytest.raises(CheckpointKeysError, match=r"1 of another shape, 1 unknown, 1 missing, .* int8") as caught:
        to_original(broken, video_model.config)
    assert [p.key for p in caught.value.problems] == ["no_object_pointer", "extra", "no_memory_embedding"]


def test_to_original_rejects_two_different_matrices(video_model):
    state = {**video_model.state_dict(), conversion.IMAGE_MATRIX: torch.zeros(2, 32)}
    with pytest.raises(ValueError, match="different position matrices"):
        to_original(state, video_model.config)


def test_to_original_rejects_a_configuration_that_the_original_cannot_have():
    config = small_config()
    config.mask_decoder_config.iou_head_depth = 4
    with pytest.raises(ValueError, match="the original release has no model of this configuration"):
        to_original(zeros(config), config)


def test_to_transformers_rejects_another_model():
    expected = r"no checkpoint of EdgeTAM: none of its 2 keys is known, such as bert"
    with pytest.raises(CheckpointKeysError, match=expected) as caught:
        to_transformers({"bert.weight": torch.zeros(2), "cls.weight": torch.zeros(2)})
    assert [problem.key for problem in caught.value.problems] == ["bert.weight", "cls.weight"]
    with pytest.raises(ValueError, match="no checkpoint of EdgeTAM: it is empty"):
        to_transformers({})


# Damage


class Code:
    def __reduce__(self):
        return print, ("this ran",)


def save_with_code(path):
    torch.save({"model": {}, "epoch": Code()}, path)


def save_pickle_with_code(path):
    path.write_bytes(pickle.dumps(Code()))


def save_truncated(path):
    torch.save({"model": {"a": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:-900])


DAMAGED = {
    "code": (save_with_code, r"holds .*print beside tensors, which is not loaded because it could be code"),
    "pickle_with_code": (save_pickle_with_code, "could be code|was not written by torch.save"),
    "truncated": (save_truncated, "is truncated, or was not written by torch.save"),
    "web_page": (lambda path: path.write_bytes(b"<html>not found</html>"), "was not written by torch.save"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "a pickle is not enough"),
    "torchscript": (lambda path: torch.jit.script(torch.nn.Linear(1, 1)).save(path), "is a TorchScript archive"),
    "other_entry": (
        lambda path: torch.save({"state_dict": {"a": torch.zeros(2)}, "epoch": 3}, path),
        r"holds no state dict: .*got a dictionary of 'state_dict', 'epoch'",
    ),
    "empty": (lambda path: path.write_bytes(b""), "is truncated"),
    "list": (lambda path: torch.save([1], path), "holds a list, expected a dictionary"),
    "numbers": (lambda path: torch.save({"model": 3}, path), "holds no state dict"),
    "foreign": (lambda path: torch.save({"bert": torch.zeros(2)}, path), "none of its 1 keys is known, such as bert"),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", DAMAGED)
def test_convert_rejects_a_damaged_file(name, capsys, tmp_path):
    damage, message = DAMAGED[name]
    damage(tmp_path / "damaged.pt")
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "damaged.pt", tmp_path / "target")
    code, out, err = run(capsys, tmp_path / "damaged.pt", tmp_path / "target")
    assert code == 1 and len(err.splitlines()) == 1 and "this ran" not in out
    assert err.startswith("edgetam: error: ") and "damaged.pt" in err
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.pt"]


def edit_truncate(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def edit_key(folder):
    weights = load_file(folder / "model.safetensors")
    weights["extra"] = weights.pop("no_object_pointer")
    save_file(weights, folder / "model.safetensors")


def edit_model_type(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "sam2"}))


def edit_index(folder):
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def edit_processor(folder, text):
    for path in folder.glob("*processor_config.json"):
        path.write_text(text)


DAMAGED_FOLDERS = {
    "truncated": (edit_truncate, "model.safetensors is truncated"),
    "keys": (edit_key, r"1 unknown, 1 missing, such as extra \(\(1, 64\)\)"),
    "model_type": (edit_model_type, "model_type 'edgetam_video', got 'sam2'"),
    "no_weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "no_config": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "config": (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    "provenance": (lambda folder: (folder / "provenance.json").write_text("{"), "provenance.json is no JSON"),
    "index": (lambda folder: (folder / "model.safetensors.index.json").write_text("{}"), "has no weight_map"),
    "index_outside": (edit_index, "names nothing inside"),
    "index_list": (
        lambda folder: (folder / "model.safetensors.index.json").write_text("[]"),
        "index.json must hold an",
    ),
    "config_list": (lambda folder: (folder / "config.json").write_text("[]"), "config.json must hold an object"),
    "config_deep": (lambda folder: (folder / "config.json").write_text("[" * 100_000), "config.json is nested too"),
    "config_type": (lambda folder: edit_config(folder, _attn_implementation=7), "cannot be loaded, it is damaged"),
    "config_size": (lambda folder: edit_config(folder, memory_encoder_hidden_size=-1), "cannot be loaded, it is dam"),
    "config_number": (
        lambda folder: edit_config(folder, vision_config=5),
        r"config\.json: vision_config must be an object",
    ),
    "processor_list": (lambda folder: edit_processor(folder, "[]"), "cannot be loaded"),
    "processor_cut": (lambda folder: edit_processor(folder, "{"), "cannot be loaded"),
}


@pytest.mark.parametrize("name", DAMAGED_FOLDERS)
def test_convert_rejects_a_damaged_folder(name, video_folder, capsys, tmp_path):
    damage, message = DAMAGED_FOLDERS[name]
    shutil.copytree(video_folder, tmp_path / "damaged")
    damage(tmp_path / "damaged")
    with pytest.raises((ValueError, OSError), match=message):
        convert(tmp_path / "damaged", tmp_path / "target.pt")
    code, _, err = run(capsys, tmp_path / "damaged", tmp_path / "target.pt")
    assert code == 1 and len(err.splitlines()) == 1 and err.startswith("edgetam: error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_convert_rejects_a_target_in_use(original_file, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "old.pt").write_text("mine")
    with pytest.raises(ValueError, match="full is not empty"):
        convert(original_file, tmp_path / "full")
    with pytest.raises(ValueError, match=r"old\.pt already exists"):
        convert(original_file, tmp_path / "old.pt")
    with pytest.raises(OSError, match=r"no folder .*nowhere to write x to"):
        convert(original_file, tmp_path / "nowhere" / "x")
    assert (tmp_path / "full" / "mine.txt").read_text() == (tmp_path / "old.pt").read_text() == "mine"


def test_convert_rejects_sources_that_are_not_there(video_folder, tmp_path):
    with pytest.raises(OSError, match=r"no file .*nowhere\.pt"):
        convert(tmp_path / "nowhere.pt", tmp_path / "x")
    with pytest.raises(ValueError, match="name the folder"):
        convert(video_folder / "model.safetensors", tmp_path / "x")


@pytest.mark.parametrize("target", ["folder", "file.pt"])
def test_interrupted_write_leaves_nothing(original_file, video_model, monkeypatch, tmp_path, target):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(EdgeTamVideoProcessor, "save_pretrained", interrupt)
    monkeypatch.setattr(torch, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(original_file, tmp_path / target, config=video_model.config)
    assert not list(tmp_path.iterdir())


def limited_files(function, *arguments):
    """Calls a function that may write 50 kB to a file, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        return function(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("target", ["folder", "file.pt"])
def test_full_disk_leaves_nothing_and_is_told_in_one_line(original_file, release, capsys, tmp_path, target):
    code, _, err = limited_files(run, capsys, original_file, tmp_path / target)
    assert code == 1 and err.startswith(f"edgetam: error: could not write {tmp_path / target}: ")
    assert len(err.splitlines()) == 1 and "MB are free" in err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["folder", "file.pt"])
def test_convert_removes_what_a_killed_process_left_of_the_same_target(original_file, video_model, tmp_path, target):
    (tmp_path / f".writing_{target}_1").mkdir()
    (tmp_path / ".writing_other_1").touch()
    convert(original_file, tmp_path / target, config=video_model.config)
    assert {path.name for path in tmp_path.iterdir()} == {target, ".writing_other_1"}


# What is read without a configuration beside it


@pytest.mark.parametrize("name", ["video_folder", "folder"])
def test_model_of_any_size_goes_to_a_file_and_back(name, request, tmp_path):
    source = request.getfixturevalue(name)
    convert(source, tmp_path / "small.pt")
    convert(tmp_path / "small.pt", tmp_path / "back")
    assert_bit_equal(load_file(tmp_path / "back/model.safetensors"), load_file(Path(source, "model.safetensors")))
    before, after = (json.loads(Path(folder, "config.json").read_text()) for folder in (source, tmp_path / "back"))
    assert {k: v for k, v in after.items() if k != "auto_map"} == {k: v for k, v in before.items() if k != "auto_map"}


def test_embedded_checkpoint_goes_to_a_file_and_back(tmp_path):
    convert(nano_checkpoint(), tmp_path / "nano.pt")
    convert(tmp_path / "nano.pt", tmp_path / "back")
    assert_bit_equal(load_file(tmp_path / "back/model.safetensors"), load_file(nano_checkpoint() / "model.safetensors"))


def test_state_dict_of_transformers_is_converted(video_model, release, tmp_path):
    torch.save(video_model.state_dict(), tmp_path / "state.pt")
    torch.save({"model": video_model.state_dict()}, tmp_path / "nested.pt")
    for name in ("state", "nested"):
        convert(tmp_path / f"{name}.pt", tmp_path / name)
        assert_bit_equal(load_file(tmp_path / name / "model.safetensors"), dict(video_model.state_dict()))


def test_state_dict_of_another_size_says_what_to_name(video_model, original, capsys, tmp_path):
    for name, tensors in (("ours", video_model.state_dict()), ("original", original)):
        torch.save(tensors, tmp_path / f"{name}.pt")
        code, _, err = run(capsys, tmp_path / f"{name}.pt", tmp_path / "target")
        assert code == 1 and "of another shape" in err and "name the folder that save_pretrained wrote" in err


@pytest.mark.parametrize("stored", [5, [], {"model_type": "sam2"}, {}])
def test_convert_rejects_a_file_whose_configuration_is_none(original, stored, tmp_path):
    torch.save({"model": original, "transformers_config": stored}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match="transformers_config that is no configuration of EdgeTAM"):
        convert(tmp_path / "odd.pt", tmp_path / "target")


# The command


def test_command_prints_a_table(capsys, release, original_file, tmp_path):
    code, out, err = run(capsys, original_file, tmp_path / "folder")
    assert (code, err) == (0, "")
    head, row, _, target = out.splitlines()
    assert head.split()[:3] == ["checkpoint", "tensors", "read"] and row.split()[0] == "video"
    assert target == f"target: {tmp_path / 'folder'}"


def test_command_counts_what_it_dropped(capsys, release, original, video_model, tmp_path):
    torch.save({"model": {**original, "teacher.a": torch.zeros(1)}}, tmp_path / "raw.pt")
    code, out, _ = run(capsys, tmp_path / "raw.pt", tmp_path / "folder", "--json", "--dtype", "bfloat16")
    report = json.loads(out)
    assert code == 0 and report["dtype"] == "bfloat16" and report["num_teacher"] == 1
    assert report["num_read"] == len(original) + 1 and report["num_written"] == len(video_model.state_dict())
    assert report["num_parameters"] == sum(p.numel() for p in video_model.parameters())


def test_command_lists_every_key_that_does_not_map(capsys, release, original, tmp_path):
    broken = {**original, "extra": torch.zeros(2), "no_obj_ptr": torch.zeros(3)}
    del broken["no_mem_embed"]
    torch.save({"model": broken}, tmp_path / "broken.pt")
    code, out, err = run(capsys, tmp_path / "broken.pt", tmp_path / "folder")
    assert code == 1 and len(err.splitlines()) == 1 and "such as no_obj_ptr (expected (1, 64), got (3,))" in err
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["shape", "no_obj_ptr"],
        ["unknown", "extra"],
        ["missing", "no_mem_embed"],
    ]
    problems = json.loads(run(capsys, tmp_path / "broken.pt", tmp_path / "folder", "--json")[1])["problems"]
    assert [problem["key"] for problem in problems] == ["no_obj_ptr", "extra", "no_mem_embed"]
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pt"]


def test_command_explains_itself(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    assert "edgetam convert edgetam.pt EdgeTAM" in capsys.readouterr().out
