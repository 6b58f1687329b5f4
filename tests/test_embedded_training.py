"""How the embedded checkpoint was made: the order of its configurations, and what its export changes."""

import copy
import re
from pathlib import Path

import pytest
import small_models
import torch
from edgetam_hf.prompts_edgetam import Prompts

import edgetam_hf
from edgetam_hf.training.settings import read_settings
from edgetam_hf.training.sources import KINDS, import_kinds, read_parameters

MEMORY = Path(__file__).parents[1] / "recipes/nano/memory"


def test_configurations_of_the_embedded_checkpoint_follow_each_other():
    names = [f"nano-video-{part}" for part in range(1, 13)]
    assert {path.stem for path in MEMORY.iterdir()} == set(names)
    for name, before in zip(names, ("nano-images", *names)):
        assert read_settings(MEMORY / f"{name}.yaml").model.name.split("/")[:2] == ["runs", before]


@pytest.mark.parametrize("part", range(1, 13))
def test_configurations_of_the_embedded_checkpoint_name_the_kinds_of_their_data(part):
    settings = read_settings(MEMORY / f"nano-video-{part}.yaml")
    import_kinds(settings.modules)
    for source in settings.data:
        parameters = read_parameters(KINDS[source["kind"]], source, "data")
        assert parameters["root"] == "data/composites" and parameters["weight"] > 0


def test_package_imports_no_recipe():
    root = Path(edgetam_hf.__file__).parent
    for path in (*root.rglob("*.py"), *root.parent.glob("*.py"), *(root.parent / "edgetam_cli").glob("*.py")):
        assert not re.search(r"^\s*(from|import) recipes\b", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_blended_image_model_is_the_weighted_mean_but_for_the_object_score():
    pytest.importorskip("scipy", reason="the recipe needs SciPy: pip install -e .[test]")
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
    pytest.importorskip("scipy", reason="the recipe needs SciPy: pip install -e .[test]")
    from recipes.nano.export import shift_object_score

    model = small_models.make_video_model()
    size = model.config.image_size
    pixels, points = torch.zeros(1, 3, size, size), torch.full((1, 1, 1, 2), size / 2)
    before, after = (
        each.decode_prompts(each.get_image_embeddings(pixels), Prompts(points))
        for each in (model, shift_object_score(copy.deepcopy(model), shift=-3.0))
    )
    torch.testing.assert_close(after.object_score_logits, before.object_score_logits - 3)
    torch.testing.assert_close(after.masks, before.masks, rtol=0, atol=0)
