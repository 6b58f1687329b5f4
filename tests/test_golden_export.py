"""Exported graphs = the original release, on each runtime, within the tolerances recorded with its outputs.

The cases are those of PyTorch in test_golden.py and test_golden_video.py. A model is exported once for all of them.
"""

from functools import cache, partial
from pathlib import Path

import golden_cases
import pytest
from conftest import make_folder
from edgetam_hf.configuration_edgetam import EdgeTamVideoConfig
from edgetam_hf.modeling_edgetam_video import EdgeTamVideoModel
from exported_models import export_model
from golden_cases import cases_of_kind
from reference_weights import load_reference_weights
from small_models import make_video_processor

from edgetam_hf.export.runtime import ExportedEdgeTam

RUNTIMES = ("onnxruntime", "openvino")


@cache
def exported(size):
    """Where the model of an image size is exported; its part for pictures has the weights of the image model."""
    model = load_reference_weights(EdgeTamVideoModel(EdgeTamVideoConfig(image_size=size))).eval()
    return export_model(model, make_video_processor(size), Path(make_folder()))


@cache
def make_model(runtime, size):
    return golden_cases.remember_frames(ExportedEdgeTam.from_pretrained(exported(size), runtime))


MAKERS = {runtime: partial(make_model, runtime) for runtime in RUNTIMES}
on_each_runtime = pytest.mark.parametrize("runtime", RUNTIMES)


@on_each_runtime
@pytest.mark.parametrize("name", cases_of_kind("image_encoder"))
def test_image_embeddings_of_graphs_equal_original(name, runtime):
    golden_cases.assert_image_embeddings(name, MAKERS[runtime])


@on_each_runtime
@pytest.mark.parametrize("name", cases_of_kind("image"))
def test_masks_of_graphs_equal_original(name, runtime):
    golden_cases.assert_masks(name, MAKERS[runtime])


@on_each_runtime
@pytest.mark.parametrize("name", golden_cases.VIDEOS)
def test_tracking_with_graphs_equals_original(name, runtime):
    golden_cases.VideoCase(name, MAKERS[runtime]).run()
