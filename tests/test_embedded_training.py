"""How the embedded checkpoint was made: the order of its configurations, and what its export changes."""

import copy
from pathlib import Path

import pytest
import small_models
import torch

from edgetam_hf import EdgeTamModel
from edgetam_hf.training.settings import read_settings


def test_configurations_of_the_embedded_checkpoint_follow_each_other():
    folder = Path(__file__).parents[1] / "recipes/nano/memory"
    names = [f"nano-video-{part}" for part in range(1, 13)]
    assert {path.stem for path in folder.iterdir()} == set(names)
    for name, before in zip(names, ("nano-images", *names)):
        assert read_settings(folder / f"{name}.yaml").model.name.split("/")[:2] == ["runs", before]


def test_blended_image_model_is_the_weighted_mean_but_for_the_object_score():
    pytest.importorskip("scipy", reason="exporting needs SciPy: pip install -e .[test,train]")
    from recipes.nano.export import blend_image_parts

    image_model, tracker = small_models.make_model(seed=1), small_models.make_video_model()
    own, before = ({n: v.clone() for n, v in model.state_dict().items()} for model in (tracker, image_model))
    blended = blend_image_parts(tracker, image_model, share=0.25)
    learnt = {name for name, _ in blended.named_parameters() if name in before and "pred_obj" not in name}
    assert {name.split(".")[0] for name in learnt} >= {"vision_encoder", "prompt_encoder", "mask_decoder"}
    for name, value in blended.state_dict().items():
        expected = 0.25 * own[name] + 0.75 * before[name] if name in learnt else own[name]
        torch.testing.assert_close(value, expected, msg=name)


def test_shifted_object_score_changes_nothing_else():
    pytest.importorskip("scipy", reason="exporting needs SciPy: pip install -e .[test,train]")
    from recipes.nano.export import shift_object_score

    model = small_models.make_video_model()
    size = model.config.image_size
    pixels, points = torch.zeros(1, 3, size, size), torch.full((1, 1, 1, 2), size / 2)
    before, after = (
        EdgeTamModel.forward(each, pixel_values=pixels, input_points=points)
        for each in (model, shift_object_score(copy.deepcopy(model), shift=-3.0))
    )
    torch.testing.assert_close(after.object_score_logits, before.object_score_logits - 3)
    torch.testing.assert_close(after.pred_masks, before.pred_masks, rtol=0, atol=0)
