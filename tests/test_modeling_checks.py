"""Whatever is given to the models: a result, or a ValueError or TypeError that says what is wrong."""

import copy

import numpy as np
import pytest
import torch
from edgetam_hf.prompts_edgetam import Prompts
from edgetam_hf.vision_encoder_edgetam import EdgeTamVisionModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_models import make_model, random, small_config

PICTURE = random((1, 3, 64, 64))
POINTS = torch.tensor([[[[15.0, 20.0], [45, 10]]]])
LABELS = torch.ones(1, 1, 2, dtype=torch.long)
MASKS = 5 * random((1, 1, 16, 16))
LABEL_MASKS = torch.ones(1, 1, 64, 64)


@pytest.fixture(scope="module")
def model():
    return make_model(config=small_config(64))


@pytest.fixture(scope="module")
def embeddings(model):
    with torch.no_grad():
        return model.get_image_embeddings(PICTURE)


REJECTED = {
    "four_channels": ({"pixel_values": random((1, 4, 64, 64))}, r"must have 3 channels, got \(1, 4, 64, 64\)"),
    "no_picture": ({"pixel_values": PICTURE[:0]}, r"at least one picture, got \(0, 3, 64, 64\)"),
    "integers": (
        {"pixel_values": (255 * PICTURE).to(torch.uint8)},
        "must hold floating point numbers, got torch.uint8",
    ),
    "complex": ({"pixel_values": PICTURE.to(torch.complex64)}, "real numbers, got torch.complex64"),
    "meta_picture": ({"pixel_values": PICTURE.to("meta")}, r"device of the model, cpu, got meta; move it"),
    "numpy": ({"pixel_values": PICTURE.numpy()}, "must be a tensor .* got ndarray; use the processor"),
    "pil": ({"pixel_values": Image.new("RGB", (64, 64))}, "must be a tensor .* got Image; use the processor"),
    "list": ({"pixel_values": PICTURE.tolist()}, "must be a tensor .* got list; use the processor"),
    "sparse": ({"pixel_values": PICTURE.to_sparse()}, "dense tensor"),
    "label_4": ({"input_labels": 4 * LABELS}, "input_labels must be 0 to 3, -1 for .* got 4"),
    "label_minus_2": ({"input_labels": -2 * LABELS}, "-10 for padding, got -2"),
    "label_half": ({"input_labels": LABELS / 2}, "got 0.5"),
    "label_nan": ({"input_labels": LABELS * float("nan")}, "got nan"),
    "meta_labels": ({"input_labels": LABELS.to("meta")}, "input_labels must lie on the device"),
    "meta_points": ({"input_points": POINTS.to("meta")}, "input_points must lie on the device"),
    "no_object": ({"input_points": POINTS[:, :0]}, r"at least one object, got shape \(1, 0, 2, 2\)"),
    "no_box": (
        {"input_points": None, "input_boxes": torch.zeros(1, 0, 4)},
        "input_boxes must be of at least one object",
    ),
    "empty_mask": ({"input_masks": MASKS[..., :0]}, r"must have pixels, got shape \(1, 1, 16, 0\)"),
    "no_masks": ({"input_masks": MASKS[:, :0]}, "input_masks must be of at least one object"),
    "points_numpy": ({"input_points": POINTS.numpy()}, "input_points must be a tensor .* got ndarray"),
    "masks_list": ({"input_masks": MASKS.tolist()}, "input_masks must be a tensor .* got list"),
    "similarity": ({"attention_similarity": random((5, 1, 1, 7))}, r"broadcastable to shape \(1, 8, 9, 16\)"),
    "similarity_list": ({"attention_similarity": [1.0]}, "attention_similarity must be a tensor .* got list"),
    "concept": ({"target_embedding": random((1, 1, 1, 63))}, r"broadcastable to shape \(1, 1, 9, 64\)"),
    "concept_integers": ({"target_embedding": torch.ones(1).long()}, "floating point numbers, got torch.int64"),
    "true_masks_of_nothing": ({"mask_labels": LABEL_MASKS[:, :0]}, "mask_labels must .*at least one object"),
    "true_masks_numpy": ({"mask_labels": LABEL_MASKS.numpy()}, "mask_labels must .* got ndarray"),
    "meta_true_masks": ({"mask_labels": LABEL_MASKS.to("meta")}, "mask_labels must lie on the device"),
    "seeds": ({"mask_labels": LABEL_MASKS, "prompt_seeds": torch.tensor([-1])}, "prompt_seeds must be .* at least 0"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_forward_rejects(model, case):
    given, message = REJECTED[case]
    with pytest.raises(ValueError, match=message):
        model(**{"pixel_values": PICTURE, "input_points": POINTS, **given})


EMBEDDINGS_REJECTED = {
    "half": (lambda maps: [fm.half() for fm in maps], r"dtype of the model, torch.float32, got torch.float16"),
    "mixed": (lambda maps: [maps[0].double(), *maps[1:]], "got torch.float64; convert each map"),
    "integers": (lambda maps: [fm.long() for fm in maps], r"image_embeddings\[0\] must hold floating point"),
    "nested_lists": (lambda maps: [fm.tolist() for fm in maps], "got list in place of map 0"),
    "numpy": (lambda maps: [fm.numpy() for fm in maps], "got ndarray in place of map 0"),
    "rank": (lambda maps: [fm[0] for fm in maps], r"image_embeddings\[0\] must be a tensor of shape"),
    "channels": (lambda maps: [fm[:, 1:] for fm in maps], r"three maps .* got \[\(1, 7, 16, 16\)"),
    "batches": (lambda maps: [maps[0].repeat(2, 1, 1, 1), *maps[1:]], r"three maps .* got \[\(2, 8, 16, 16\)"),
    "no_picture": (lambda maps: [fm[:0] for fm in maps], "at least one picture"),
    "meta": (lambda maps: [fm.to("meta") for fm in maps], r"image_embeddings\[0\] must lie on the device of the model"),
    "none": (lambda maps: [*maps[:2], None], "got NoneType in place of map 2"),
    "dictionary": (dict, "three maps .* got dict"),
}


@pytest.mark.parametrize("case", EMBEDDINGS_REJECTED)
def test_forward_rejects_image_embeddings(model, embeddings, case):
    change, message = EMBEDDINGS_REJECTED[case]
    maps = {} if change is dict else change(embeddings)
    with pytest.raises(ValueError, match=message):
        model(image_embeddings=maps, input_points=POINTS)


def test_forward_takes_image_embeddings_of_autocast(model):
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        maps = model.get_image_embeddings(PICTURE)
        assert maps[0].dtype == torch.bfloat16
        assert model(image_embeddings=[fm.bfloat16() for fm in maps], input_points=POINTS).pred_masks.isfinite().all()


@pytest.mark.parametrize("name", ["get_image_embeddings", "get_image_features", "vision_encoder"])
@pytest.mark.parametrize("case", [name for name, (given, _) in REJECTED.items() if "pixel_values" in given])
def test_encoders_reject(model, name, case):
    given, message = REJECTED[case]
    with pytest.raises(ValueError, match=message):
        getattr(model, name)(given["pixel_values"])


def test_get_prompt_embeddings_rejects_labels_and_objects(model):
    with pytest.raises(ValueError, match="got 7"):
        model.get_prompt_embeddings(input_points=POINTS, input_labels=7 * LABELS)
    with pytest.raises(ValueError, match="got list"):
        model.get_prompt_embeddings(input_points=POINTS.tolist())


@pytest.mark.parametrize("points", [POINTS, torch.zeros(0, 2), [[1, 2]], torch.zeros(3, 2, device="meta")])
def test_confident_masks_rejects_other_points(model, embeddings, points):
    with pytest.raises(ValueError, match=r"points must (be a tensor of shape \(num_points, 2\)|lie on the device)"):
        model.confident_masks(embeddings, points)


def test_model_without_weights_takes_tensors_without_values(model):
    shapes = copy.deepcopy(model).to("meta")
    inputs = {"pixel_values": PICTURE.to("meta"), "input_points": POINTS.to("meta"), "input_labels": LABELS.to("meta")}
    assert shapes(**inputs).pred_masks.shape == (1, 1, 3, 16, 16)
    with pytest.raises(ValueError, match="device of the model, meta, got cpu"):
        shapes(pixel_values=PICTURE)


def test_unknown_labels_are_looked_up_safely_where_values_are_not_looked_at(model):
    """As on a GPU: looking up an embedding that is not there would end the process."""
    points, labels = POINTS.expand(1, 3, -1, -1), torch.tensor([[[9, -5]], [[3, 0]]]).expand(-1, 3, 2)
    with torch.no_grad():
        actual, expected = (model.prompt_encoder(Prompts(points, each[None])).sparse for each in labels)
    assert torch.equal(actual, expected)


def test_vision_model_knows_the_channels_of_a_replaced_stem():
    vision = EdgeTamVisionModel(small_config(64).vision_config).eval()
    vision.backbone.timm_model.stem.conv1.c = torch.nn.Conv2d(4, 8, 3, 2, 1, bias=False)
    assert len(vision(random((1, 4, 64, 64))).fpn_hidden_states) == 3
    with pytest.raises(ValueError, match="must have 4 channels"):
        vision(PICTURE)


DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
DTYPES += [torch.complex64, torch.int16]
NAMES = ["pixel_values", "input_points", "input_labels", "input_boxes", "input_masks", "image_embeddings"]
NAMES += ["attention_similarity", "target_embedding", "mask_labels", "prompt_seeds"]
SHAPES = [(1, 3, 64, 64), (1, 1, 2, 2), (1, 1, 2), (1, 1, 4), (1, 1, 16, 16), (1, 1, 64, 64), (1,), (1, 64, 4, 4)]


@st.composite
def values(draw):
    kind = draw(st.sampled_from(["tensor"] * 8 + ["none", "numpy", "list", "number", "maps", "text"]))
    if kind == "none":
        return None
    if kind in ("number", "text"):
        return {"number": 3, "text": "x"}[kind]
    if kind == "maps":
        count = draw(st.integers(0, 4))
        return [draw(values()) for _ in range(count)]
    shape = list(draw(st.sampled_from(SHAPES)))
    if draw(st.integers(0, 3)) == 0:
        shape[draw(st.integers(0, len(shape) - 1))] = draw(st.integers(0, 3))
    if draw(st.integers(0, 5)) == 0:
        shape = shape[1:]
    dtype, device = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(["cpu"] * 4 + ["meta"]))
    tensor = torch.full(shape, draw(st.sampled_from([0, 1, 5, -1, -10])) if dtype.is_signed else 1, device=device)
    tensor = tensor.to(dtype)
    if kind == "tensor":
        return tensor
    array = np.zeros(shape)
    return array if kind == "numpy" else array.tolist()


@given(st.dictionaries(st.sampled_from(NAMES), values(), max_size=4), st.booleans())
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_any_input_gives_a_result_or_says_what_is_wrong(model, given, has_picture):
    if has_picture and "image_embeddings" not in given:
        given = {"pixel_values": PICTURE, **given}
    try:
        with torch.no_grad():
            output = model(**given)
    except (ValueError, TypeError) as error:
        assert len(str(error)) > 20
    else:
        assert output.pred_masks.dim() == 5
