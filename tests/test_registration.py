"""After `import edgetam_hf` the Auto classes and `pipeline` give this package's classes, without remote code."""

import json

import pytest
import transformers
from edgetam_hf.image_processing_edgetam import EdgeTamImageProcessor
from edgetam_hf.modeling_edgetam import EdgeTamModel
from edgetam_hf.pipeline_edgetam import EdgeTamMaskGenerationPipeline
from edgetam_hf.processing_edgetam import EdgeTamProcessor
from edgetam_hf.processing_edgetam_video import EdgeTamVideoProcessor
from edgetam_hf.video_processing_edgetam import EdgeTamVideoVideoProcessor
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, AutoVideoProcessor, MaskGenerationPipeline, pipeline

from edgetam_hf import nano_checkpoint

NO_MASKS = {"points_per_crop": 1, "pred_iou_thresh": 1.0}


@pytest.fixture(scope="module")
def image_folder(model, tmp_path_factory):
    """Folder of an image checkpoint that names a custom pipeline, as older versions saved it."""
    path = tmp_path_factory.mktemp("images")
    model.save_pretrained(path)
    EdgeTamProcessor(EdgeTamImageProcessor(size={"height": 128, "width": 128})).save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    implementation = {"impl": "pipeline_edgetam.EdgeTamMaskGenerationPipeline", "pt": ["AutoModelForMaskGeneration"]}
    config["custom_pipelines"] = {"mask-generation": implementation}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_auto_processors_give_ours_for_both_kinds_of_checkpoints(image_folder):
    video_folder = nano_checkpoint()
    assert json.loads((video_folder / "processor_config.json").read_text())["processor_class"] == "Sam2VideoProcessor"
    assert type(AutoProcessor.from_pretrained(video_folder)) is EdgeTamVideoProcessor
    assert type(AutoProcessor.from_pretrained(str(image_folder))) is EdgeTamProcessor
    assert type(AutoVideoProcessor.from_pretrained(video_folder)) is EdgeTamVideoVideoProcessor
    for folder in (image_folder, video_folder):
        assert type(AutoImageProcessor.from_pretrained(folder, use_fast=True)) is EdgeTamImageProcessor


def test_auto_processors_pass_settings_on(image_folder):
    loaded = AutoImageProcessor.from_pretrained(image_folder, size={"height": 64, "width": 96})
    assert dict(loaded.size) == {"height": 64, "width": 96}
    processor, unused = AutoImageProcessor.from_pretrained(image_folder, return_unused_kwargs=True, other=3)
    assert type(processor) is EdgeTamImageProcessor and unused == {"other": 3}


def test_auto_processors_of_other_models_are_theirs(tmp_path):
    transformers.SamConfig().save_pretrained(tmp_path)
    transformers.SamProcessor(transformers.SamImageProcessor()).save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is transformers.SamProcessor
    with pytest.raises((OSError, ValueError)):
        AutoProcessor.from_pretrained(tmp_path / "nothing")


@pytest.mark.parametrize("components", [(), ("image_processor",)])
def test_pipeline_gives_ours_without_remote_code(image_folder, components):
    for folder in (image_folder, nano_checkpoint()):
        names = dict.fromkeys(components, str(folder))
        generator = pipeline("mask-generation", model=str(folder), device="cpu", **names, **NO_MASKS)
        assert type(generator) is EdgeTamMaskGenerationPipeline and type(generator.model) is EdgeTamModel
        assert type(generator.image_processor) is EdgeTamImageProcessor
        assert generator(Image.new("RGB", (40, 30)))["masks"] == []


def test_pipeline_of_other_models_is_that_of_transformers(native):
    image_processor = EdgeTamImageProcessor(size={"height": 128, "width": 128})
    generator = pipeline("mask-generation", model=native, image_processor=image_processor, device="cpu")
    assert type(generator) is MaskGenerationPipeline
