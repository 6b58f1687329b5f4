"""Checkpoints: native's are ours and ours are native's, wherever the weights lie, and damage is named."""

import copy
import json
import logging
import pickle
import shutil

import pytest
import torch
import transformers
from edgetam_hf.modeling_edgetam import EdgeTamModel
from safetensors.torch import load_file, save_file
from small_models import (
    assert_outputs_close,
    make_model,
    native_config,
    random,
    randomise,
    small_config,
    small_video_config,
)

POINTS = torch.tensor([[[[30.0, 40.0], [90, 20]]]])
BOXES = torch.tensor([[[10.0, 12, 60, 50]]])
PROMPT_MATRIX = "prompt_encoder.shared_embedding.positional_embedding"
IMAGE_MATRIX = "shared_image_embedding.positional_embedding"
# weights that are mapped from a file lie at other addresses, and sums over them round differently
ROUNDING = 1e-4


def predict(model):
    """Masks and scores of one picture with a click, a box and a mask."""
    pixel_values, masks = random((1, 3, *to_pair(model))), 5 * random((1, 1, 32, 32))
    boxes = BOXES.clone()  # native of Transformers 4 writes into it
    with torch.no_grad():
        return model(pixel_values=pixel_values, input_points=POINTS, input_boxes=boxes, input_masks=masks)


def to_pair(model):
    size = model.config.prompt_encoder_config.image_size
    return (size, size) if isinstance(size, int) else size


def load(folder, model_class=EdgeTamModel, **kwargs):
    """A model of which no tensor was missing, left over or of another shape."""
    model, info = model_class.from_pretrained(folder, output_loading_info=True, **kwargs)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


@pytest.fixture
def messages(caplog, monkeypatch):
    """What Transformers logs, and prints to stderr beside it."""
    monkeypatch.setattr(transformers.utils.logging.get_logger("transformers"), "propagate", True)
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.fixture(scope="module")
def native_folder(native, tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    native.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def native_video(tmp_path_factory):
    """A native video model with random weights and the folder it is saved in."""
    folder = tmp_path_factory.mktemp("native_video")
    config = native_config(small_video_config())
    config.enable_occlusion_spatial_embedding = True
    config.enable_temporal_pos_encoding_for_object_pointers = True
    model = randomise(transformers.EdgeTamVideoModel(config))
    model.save_pretrained(folder)
    return model, folder


def edit_weights(source, folder, edit):
    """A copy of a checkpoint whose tensors went through `edit`."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


# Ours = native


def test_native_checkpoint_is_loaded_whole(native_folder):
    assert_outputs_close(
        predict(load(native_folder)), predict(load(native_folder, transformers.EdgeTamModel)), ROUNDING
    )


def test_native_sharded_checkpoint_is_loaded_whole(native, tmp_path):
    native.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    assert_outputs_close(predict(load(tmp_path)), predict(load(tmp_path, transformers.EdgeTamModel)), ROUNDING)


def test_native_video_checkpoint_gives_its_image_part(native_video):
    video, folder = native_video
    model = load(folder)
    assert model.config.model_type == "edgetam"
    state = video.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    image = transformers.EdgeTamModel(native_config(model.config)).eval()
    image.load_state_dict(model.state_dict())
    assert_outputs_close(predict(model), predict(image), ROUNDING)


def test_ours_is_loaded_whole_by_native(model, folder):
    native = load(folder, transformers.EdgeTamModel)
    assert_outputs_close(predict(native), predict(load(folder)), ROUNDING)
    state = native.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_state_dict_has_the_names_of_native(model, native):
    ours, theirs = model.state_dict(), native.state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }


def test_saved_equals_loaded(model, folder, tmp_path):
    loaded = load(folder)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    loaded.save_pretrained(tmp_path)
    assert_outputs_close(predict(load(tmp_path)), predict(loaded), ROUNDING)


@pytest.mark.parametrize("device_map", [None, "cpu", {"": "disk"}])
def test_checkpoint_of_transformers_4_gets_the_position_matrix_of_the_image(
    model, native_folder, tmp_path, messages, device_map
):
    """Transformers 4 leaves the matrix of the prompts out of what it saves."""
    v4_folder = edit_weights(native_folder, tmp_path / "v4", lambda tensors: tensors.pop(PROMPT_MATRIX, None))
    loaded = load(v4_folder, device_map=device_map, offload_folder=tmp_path / "offloaded")
    assert_outputs_close(predict(loaded), predict(model), 1e-3)
    assert not [record for record in messages.records if record.name.startswith("transformers")]
    if device_map is None:
        matrix = model.state_dict()[IMAGE_MATRIX]
        assert all(torch.equal(loaded.state_dict()[name], matrix) for name in (IMAGE_MATRIX, PROMPT_MATRIX))
        loaded.save_pretrained(tmp_path / "again")
        assert torch.equal(load(tmp_path / "again").state_dict()[PROMPT_MATRIX], matrix)


def test_position_matrix_of_the_prompts_is_kept_where_it_differs(folder, tmp_path):
    matrix = random((2, 32), seed=5)
    other = edit_weights(folder, tmp_path / "other", lambda tensors: tensors.update({PROMPT_MATRIX: matrix}))
    state = load(other).state_dict()
    assert torch.equal(state[PROMPT_MATRIX], matrix) and not torch.equal(state[IMAGE_MATRIX], matrix)


def test_new_model_shares_one_position_matrix():
    state = EdgeTamModel(small_config(64)).state_dict()
    assert torch.equal(state[PROMPT_MATRIX], state[IMAGE_MATRIX]) and state[IMAGE_MATRIX].std() > 0.5


def test_loading_is_silent(folder, native_folder, native_video, messages, capfd):
    for source in (folder, native_folder, native_video[1]):
        EdgeTamModel.from_pretrained(source)
    assert not messages.records
    assert "not initialized" not in capfd.readouterr().err


# Settings of from_pretrained


@pytest.mark.parametrize("image_size, side", [(64, (64, 64)), ([96, 160], (96, 160))])
def test_image_size_can_be_changed_while_loading(folder, native_video, image_size, side):
    for source in (folder, native_video[1]):
        model = load(source, image_size=image_size)
        assert to_pair(model) == tuple(side) or list(to_pair(model)) == list(side)
        assert predict(model).pred_masks.shape[-2:] == (side[0] // 4, side[1] // 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtype_can_be_changed_while_loading(model, folder, dtype):
    loaded = load(folder, dtype=dtype)
    dtypes = {name: parameter.dtype for name, parameter in loaded.named_parameters()}
    assert all(found == (torch.float32 if ".bn." in name else dtype) for name, found in dtypes.items())
    assert loaded.dtype == loaded.config.dtype == dtype


DEVICE_MAPS = {
    "auto": "auto",
    "cpu": "cpu",
    "root_on_cpu": {"": "cpu"},
    "all_on_disk": {"": "disk"},
    "encoder_on_disk": {
        "": "cpu",
        "vision_encoder": "disk",
    },
    "parts_on_disk": {
        "shared_image_embedding": "disk",
        "vision_encoder.backbone": "cpu",
        "vision_encoder.neck": "disk",
        "prompt_encoder": "disk",
        "mask_decoder": "cpu",
        "no_memory_embedding": "disk",
    },
}


@pytest.mark.parametrize("name", DEVICE_MAPS)
def test_device_map_changes_no_result(folder, tmp_path, name):
    reference = load(folder)
    before = copy.deepcopy(DEVICE_MAPS[name])
    loaded = load(folder, device_map=DEVICE_MAPS[name], offload_folder=tmp_path)
    assert DEVICE_MAPS[name] == before
    assert any(parameter.is_meta for parameter in loaded.parameters()) == ("disk" in name)
    pixel_values = random((1, 3, 128, 128))
    with torch.no_grad():
        for actual, expected in zip(
            loaded.get_image_embeddings(pixel_values), reference.get_image_embeddings(pixel_values), strict=True
        ):
            torch.testing.assert_close(actual, expected, atol=ROUNDING, rtol=0)
        prompts = {"input_points": POINTS, "input_boxes": BOXES}
        actual, expected = loaded.get_prompt_embeddings(**prompts), reference.get_prompt_embeddings(**prompts)
        torch.testing.assert_close(actual, expected, atol=ROUNDING, rtol=0)
    assert_outputs_close(predict(loaded), predict(reference), ROUNDING)


# Copies


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copy_is_equal_and_independent(duplicate):
    model = make_model(128)
    before = predict(model)
    twin = duplicate(model)
    assert_outputs_close(predict(twin), before, ROUNDING)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert_outputs_close(predict(model), before, ROUNDING)


# Damage


def test_from_pretrained_rejects_a_truncated_file(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "truncated")
    weights = tmp_path / "truncated" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"truncated are truncated or not in safetensors format .*save them again"):
        EdgeTamModel.from_pretrained(tmp_path / "truncated")


def test_from_pretrained_rejects_a_file_of_another_format(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").write_bytes(b"<html>not found</html>" * 10)
    with pytest.raises(ValueError, match="truncated or not in safetensors format"):
        EdgeTamModel.from_pretrained(tmp_path / "other")


def test_from_pretrained_rejects_a_folder_without_weights(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(OSError, match=r"no file named .*model\.safetensors"):
        EdgeTamModel.from_pretrained(tmp_path)


def test_from_pretrained_rejects_a_missing_folder(tmp_path):
    with pytest.raises((OSError, ValueError), match="nowhere"):
        EdgeTamModel.from_pretrained(tmp_path / "nowhere")


def test_from_pretrained_rejects_the_configuration_of_another_model(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "sam2")
    fields = json.loads((folder / "config.json").read_text())
    (tmp_path / "sam2" / "config.json").write_text(json.dumps({**fields, "model_type": "sam2"}))
    with pytest.raises(ValueError, match="model_type 'edgetam', got 'sam2'"):
        EdgeTamModel.from_pretrained(tmp_path / "sam2")


def test_from_pretrained_rejects_missing_tensors(folder, tmp_path):
    lost = "mask_decoder.conv_s0.weight"
    broken = edit_weights(folder, tmp_path / "broken", lambda tensors: tensors.pop(lost))
    with pytest.raises(ValueError, match=rf"not a complete EdgeTAM checkpoint: 1 tensors are missing, .* {lost}"):
        EdgeTamModel.from_pretrained(broken)


def test_from_pretrained_rejects_the_weights_of_another_model(folder, tmp_path):
    def replace_all(tensors):
        tensors.clear()
        tensors["encoder.layer.0.weight"] = torch.zeros(4, 4)

    other = edit_weights(folder, tmp_path / "other", replace_all)
    with pytest.raises(ValueError, match="not a complete EdgeTAM checkpoint"):
        EdgeTamModel.from_pretrained(other)


def test_from_pretrained_rejects_tensors_of_another_shape(folder, tmp_path):
    wide = small_config(128)
    wide.mask_decoder_config.mlp_dim = 256
    shutil.copytree(folder, tmp_path / "wide")
    wide.save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match=r"another shape, the first is mask_decoder.*, expected \(256"):
        EdgeTamModel.from_pretrained(tmp_path / "wide")
